//! The interface with an honest driver, a hostile one, and a TPM that is neither.

use proptest::prelude::*;

use super::*;

const BASE: u64 = 0xFED4_0000;

/// `TPM2_GetRandom` of eight bytes.
const GET_RANDOM: [u8; 12] = [0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x7B, 0, 8];

/// A response of `length` bytes.
fn response(length: usize) -> Vec<u8> {
    let mut bytes = vec![0xA5; length];
    bytes[..2].copy_from_slice(&[0x80, 1]);
    bytes[2..6].copy_from_slice(&u32::try_from(length).unwrap().to_be_bytes());
    bytes[6..10].fill(0);
    bytes
}

fn word(device: &TpmCrb, offset: u64) -> u32 {
    let mut bytes = [0; 4];
    device.read(offset, &mut bytes);
    u32::from_le_bytes(bytes)
}

fn put(device: &mut TpmCrb, offset: u64, value: u32) -> Option<Vec<u8>> {
    device.write(offset, &value.to_le_bytes())
}

fn bytes(device: &TpmCrb, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    device.read(BUFFER, &mut bytes);
    bytes
}

/// A device whose driver has locality 0 and may write a command.
fn ready() -> TpmCrb {
    let mut device = TpmCrb::new(BASE);
    assert_eq!(put(&mut device, LOC_CTRL, 1), None);
    assert_eq!(put(&mut device, CTRL_REQ, 1), None);
    device
}

/// A device that runs a command.
fn running() -> TpmCrb {
    let mut device = ready();
    assert_eq!(device.write(BUFFER, &GET_RANDOM), None);
    assert_eq!(put(&mut device, CTRL_START, 1), Some(GET_RANDOM.to_vec()));
    device
}

#[test]
fn the_registers_at_power_on() {
    let device = TpmCrb::new(BASE);
    let expected = [
        (LOC_STATE, 0x81),
        (LOC_CTRL, 0),
        (LOC_STS, 0),
        // Type CRB, version 1, locality 0 only, no idle bypass, 64 bytes, CRB without FIFO, selected and locked.
        (INTF_ID, 0x000A_5811),
        (0x34, 0x0001_1014),
        (0x38, 0),
        (0x3C, 0),
        (CTRL_REQ, 0),
        (CTRL_STS, 2),
        (CTRL_CANCEL, 0),
        (CTRL_START, 0),
        (0x50, 0),
        (0x54, 0),
        (CTRL_CMD_SIZE, 3968),
        (CTRL_CMD_LADDR, 0xFED4_0080),
        (CTRL_CMD_HADDR, 0),
        (CTRL_RSP_SIZE, 3968),
        (CTRL_RSP_ADDR, 0xFED4_0080),
        (0x6C, 0),
        (0x70, 0),
        (BUFFER, u32::MAX),
        (0xFFC, u32::MAX),
    ];
    for (offset, value) in expected {
        assert_eq!(word(&device, offset), value, "register {offset:#x}");
    }
}

#[test]
fn a_command_goes_out_and_its_answer_comes_back() {
    let mut device = running();
    assert_eq!((word(&device, CTRL_START), word(&device, CTRL_STS)), (1, 0));
    assert_eq!(device.answer(&response(20)), Ok(None));
    assert_eq!(word(&device, CTRL_START), 0);
    // Nothing of the command is left behind the answer.
    assert_eq!(bytes(&device, 24), [response(20), vec![0; 4]].concat());
    let mut device = running();
    device.answer(&response(10)).unwrap();
    assert_eq!(bytes(&device, 12), [response(10), vec![0; 2]].concat());
    put(&mut device, CTRL_REQ, 2);
    assert_eq!((word(&device, CTRL_STS), word(&device, BUFFER)), (2, u32::MAX));
    put(&mut device, LOC_CTRL, 2);
    assert_eq!((word(&device, LOC_STATE), word(&device, LOC_STS)), (0x81, 0));
}

#[test]
fn every_width_reads_and_writes_the_same() {
    for width in [1, 2, 4, 8] {
        let mut device = TpmCrb::new(BASE);
        let write = |device: &mut TpmCrb, offset: u64, value: &[u8]| {
            (offset..).step_by(width).zip(value.chunks(width)).find_map(|(at, part)| device.write(at, part))
        };
        write(&mut device, LOC_CTRL, &[1, 0, 0, 0, 0, 0, 0, 0]);
        write(&mut device, CTRL_REQ, &[1, 0, 0, 0, 0, 0, 0, 0]);
        write(&mut device, BUFFER, &GET_RANDOM);
        // Cancel and start lie in one quadword.
        let sent = write(&mut device, CTRL_CANCEL, &[0, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(sent, Some(GET_RANDOM.to_vec()), "width {width}");
        let read = |device: &TpmCrb| {
            let mut page = vec![0; 0x1000];
            (0..).step_by(width).zip(page.chunks_mut(width)).for_each(|(at, part)| device.read(at, part));
            page
        };
        device.answer(&response(3968)).unwrap();
        let page = read(&device);
        assert_eq!((page[0], page[0x0C], page[0x30], page[0x32]), (0x83, 1, 0x11, 0x0A));
        assert_eq!(page[0x80..], response(3968), "width {width}");
    }
}

#[test]
fn an_answer_may_come_in_any_pieces() {
    let answer = response(64);
    for size in [1, 3, 9, 10, 11, 63, 64] {
        let mut device = running();
        for piece in answer.chunks(size) {
            assert_eq!(word(&device, CTRL_START), 1);
            assert_eq!(device.answer(piece), Ok(None));
        }
        assert_eq!((word(&device, CTRL_START), bytes(&device, 64)), (0, answer.clone()), "pieces of {size}");
    }
}

#[test]
fn what_a_tpm_may_not_answer_breaks_it_for_good() {
    let long = [&[0x80, 1][..], &3969_u32.to_be_bytes(), &[0; 4]].concat();
    let short = [&[0x80, 1][..], &9_u32.to_be_bytes(), &[0; 4]].concat();
    let surplus = [response(12), vec![0]].concat();
    let check = |answer: &[u8], expected| {
        let mut device = running();
        assert_eq!(device.answer(answer), Err(expected));
        assert_eq!((word(&device, CTRL_START), word(&device, CTRL_STS)), (0, 1));
        assert_eq!(bytes(&device, 10), [0x80, 1, 0, 0, 0, 10, 0, 0, 1, 1], "TPM_RC_FAILURE");
        put(&mut device, CTRL_REQ, 1);
        assert_eq!(device.write(BUFFER, &GET_RANDOM), None);
        assert_eq!(put(&mut device, CTRL_START, 1), None);
        assert_eq!((word(&device, CTRL_START), bytes(&device, 10)[9]), (0, 1));
        device.reset();
        assert_eq!(word(&device, CTRL_STS), 2);
    };
    check(&long, BrokenTpm::Length(3969));
    check(&short, BrokenTpm::Length(9));
    check(&surplus, BrokenTpm::Surplus(1));
    let mut idle = ready();
    assert_eq!(idle.answer(&[]), Ok(None));
    assert_eq!(idle.answer(&[0]), Err(BrokenTpm::Surplus(1)));
}

#[test]
fn a_command_whose_length_cannot_be_never_leaves() {
    for length in [0, 9, 3969, u32::MAX] {
        let mut device = ready();
        assert_eq!(device.write(BUFFER + 2, &length.to_be_bytes()), None);
        assert_eq!(put(&mut device, CTRL_START, 1), None);
        assert_eq!(bytes(&device, 10), [0x80, 1, 0, 0, 0, 10, 0, 0, 1, 0x42], "TPM_RC_COMMAND_SIZE");
        assert!(!device.is_waiting());
    }
    let mut device = ready();
    assert_eq!(device.write(BUFFER + 2, &3968_u32.to_be_bytes()), None);
    assert_eq!(put(&mut device, CTRL_START, 1).map(|command| command.len()), Some(3968));
}

#[test]
fn while_a_command_runs_nothing_changes() {
    let mut device = running();
    assert_eq!(device.write(BUFFER, &[0xFF; 64]), None);
    assert_eq!(put(&mut device, CTRL_REQ, 1), None);
    assert_eq!(put(&mut device, CTRL_REQ, 2), None);
    assert_eq!(put(&mut device, CTRL_START, 1), None);
    assert_eq!(put(&mut device, CTRL_CANCEL, 1), None);
    assert_eq!((word(&device, CTRL_START), word(&device, CTRL_CANCEL)), (1, 1));
    assert_eq!(word(&device, BUFFER), u32::MAX);
    device.answer(&response(10)).unwrap();
    assert_eq!(bytes(&device, 10), response(10));
    assert_eq!(put(&mut device, CTRL_CANCEL, 0), None);
    assert_eq!(word(&device, CTRL_CANCEL), 0);
}

#[test]
fn without_the_locality_nothing_is_taken() {
    let mut device = TpmCrb::new(BASE);
    put(&mut device, CTRL_REQ, 1);
    put(&mut device, CTRL_CANCEL, 1);
    assert_eq!(device.write(BUFFER, &GET_RANDOM), None);
    assert_eq!(put(&mut device, CTRL_START, 1), None);
    assert_eq!((word(&device, CTRL_STS), word(&device, CTRL_CANCEL), word(&device, CTRL_START)), (2, 0, 0));
    // Seize and resetEstablishment are for other localities.
    put(&mut device, LOC_CTRL, 0b1100);
    assert_eq!(word(&device, LOC_STATE), 0x81);
}

#[test]
fn a_start_needs_a_command() {
    let mut device = ready();
    assert_eq!(put(&mut device, CTRL_START, 1), None);
    assert_eq!(word(&device, CTRL_START), 0);
    device = running();
    device.answer(&response(10)).unwrap();
    // Nor is a response one.
    assert_eq!(device.write(BUFFER, &GET_RANDOM), None);
    assert_eq!(put(&mut device, CTRL_START, 1), None);
    assert_eq!(bytes(&device, 10), response(10));
}

#[test]
fn an_answer_that_nobody_waits_for_reaches_nobody() {
    let mut device = running();
    device.answer(&response(40)[..20]).unwrap();
    put(&mut device, LOC_CTRL, 2);
    assert_eq!((word(&device, CTRL_STS), word(&device, LOC_STS), device.is_waiting()), (2, 0, true));
    put(&mut device, LOC_CTRL, 1);
    put(&mut device, CTRL_REQ, 1);
    assert_eq!(bytes(&device, 10), [0; 10]);
    let next = [0x80, 1, 0, 0, 0, 10, 0, 0, 0, 7];
    assert_eq!(device.write(BUFFER, &next), None);
    // One command at a time: it waits for the end of the other's answer.
    assert_eq!((put(&mut device, CTRL_START, 1), word(&device, CTRL_START)), (None, 1));
    assert_eq!(device.answer(&response(40)[20..]), Ok(Some(next.to_vec())));
    assert_eq!(word(&device, CTRL_START), 1);
    device.answer(&response(11)).unwrap();
    assert_eq!(bytes(&device, 11), response(11));
}

#[test]
fn a_reset_forgets_the_guest_and_its_command() {
    let mut device = running();
    device.reset();
    assert_eq!((word(&device, LOC_STATE), word(&device, CTRL_STS), device.is_waiting()), (0x81, 2, false));
    put(&mut device, LOC_CTRL, 1);
    put(&mut device, CTRL_REQ, 1);
    assert_eq!(bytes(&device, 12), [0; 12]);
}

proptest! {
    /// Any driver and any TPM: the device sends whole commands only, one at a time, as they were when the guest
    /// started them, and shows the guest whole answers only.
    #[test]
    fn property_any_driver_and_any_tpm_are_survived(
        steps in prop::collection::vec((0_u8..12, any::<u64>(), 1_usize..=8, any::<u64>()), 0..300)
    ) {
        let mut device = TpmCrb::new(BASE);
        let mut owed: Option<Vec<u8>> = None;
        let mut broken = false;
        for (kind, value, width, place) in steps {
            let near = [LOC_CTRL, CTRL_REQ, CTRL_CANCEL, CTRL_START, BUFFER, BUFFER + 2, BUFFER + 8, 0xFF8];
            let offset = near[usize::try_from(place % 8).unwrap()] + (place >> 8) % 4;
            let before = bytes(&device, BUFFER_SIZE);
            let sent = match kind {
                0 => device.write(offset, &value.to_le_bytes()[..width]),
                1 => put(&mut device, LOC_CTRL, if value % 8 == 0 { 2 } else { 1 }),
                2 => put(&mut device, CTRL_REQ, if value % 4 == 0 { 2 } else { 1 }),
                3 | 4 => device.write(BUFFER, &[&[0x80, 1, 0, 0, 0][..], &[10 + (value % 40) as u8], &[7; 8]].concat()),
                5 | 6 => put(&mut device, CTRL_START, 1),
                7..=9 if owed.is_some() => {
                    let answer = owed.as_mut().unwrap();
                    let now = usize::try_from(value % 30).unwrap().min(answer.len());
                    let piece: Vec<u8> = answer.drain(..now).collect();
                    if answer.is_empty() {
                        owed = None;
                    }
                    let next = device.answer(&piece);
                    prop_assert!(next.is_ok() || broken);
                    next.unwrap_or_default()
                }
                10 if value % 64 == 0 => {
                    broken = true;
                    let unasked = owed.is_none() && device.answer(&[1]).is_err();
                    prop_assert!(unasked || owed.is_some());
                    None
                }
                11 if value % 64 == 0 => {
                    device.reset();
                    (owed, broken) = (None, false);
                    None
                }
                _ => None,
            };
            if let Some(command) = sent {
                prop_assert!(owed.is_none(), "a second command before the first one's answer");
                prop_assert_eq!(u32::from_be_bytes(command[2..6].try_into().unwrap()) as usize, command.len());
                if matches!(kind, 5 | 6) {
                    prop_assert_eq!(&before[..command.len()], &command[..]);
                }
                owed = Some(response(10 + usize::from(command[5])));
            }
            prop_assert_eq!(device.is_waiting(), owed.is_some() && word(&device, CTRL_STS) & FATAL == 0);
            let mut page = [0; 16];
            device.read(0xFF8, &mut page);
            prop_assert_eq!(&page[8..], &[0; 8], "the page is not the device's only one");
        }
    }
}
