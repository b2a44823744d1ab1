//! The TPM's interface, attacked by a guest's loads and stores and by what calls itself a TPM.

use devices::tpm_crb::{BUFFER_SIZE, TpmCrb};

use crate::cursor::Cursor;

/// The most accesses of one input.
const STEPS: usize = 400;

/// Where the page lies.
const BASE: u64 = 0xFED4_0000;

/// Whatever guest and TPM do: only whole commands leave, one at a time; only whole answers are shown; a load writes
/// nothing past its end; a reset brings the registers of power-on back.
pub(crate) fn tpm_crb(bytes: &[u8]) {
    let mut cursor = Cursor::new(bytes);
    let mut device = TpmCrb::new(BASE);
    // What is left of the answer to the command that left last.
    let mut owed: Option<Vec<u8>> = None;
    for _ in 0..STEPS {
        if cursor.is_empty() {
            break;
        }
        let choice = cursor.u8();
        let length = [1, 2, 4, 8, 3, 0][cursor.below(6)];
        let near = [0, 0x08, 0x30, 0x40, 0x44, 0x48, 0x4C, 0x58, 0x80, 0x82, 0x88, 0xFFC];
        let sent = match choice & 7 {
            0 | 1 => {
                let mut read = [0x5A; 9];
                device.read(cursor.number(&near), &mut read[..length]);
                assert_eq!(&read[length..], &[0x5A; 9][length..], "a load wrote past its end");
                None
            }
            2..=4 => {
                let offset = cursor.number(&near).wrapping_add(u64::from(choice >> 6));
                let value = cursor.array::<8>();
                device.write(offset, &value[..length])
            }
            // As a driver does it.
            5 => {
                let command = cursor.some_bytes(64);
                let mut sent = device.write(0x08, &[1]);
                sent = sent.or(device.write(0x40, &[1]));
                sent = sent.or(device.write(0x80, command));
                sent.or(device.write(0x4C, &[1]))
            }
            6 => match owed.take() {
                Some(mut answer) => {
                    let rest = answer.split_off(cursor.below(answer.len().saturating_add(1)));
                    let next = device.answer(&answer).expect("the answer keeps to the rules");
                    owed = (!rest.is_empty()).then_some(rest);
                    next
                }
                None => None,
            },
            // A TPM that says anything.
            _ => {
                let next = device.answer(cursor.some_bytes(BUFFER_SIZE + 16));
                let mut status = [0; 4];
                device.read(0x44, &mut status);
                assert_eq!(
                    next.is_err(),
                    status[0] & 1 != 0,
                    "an error and what its guest sees of it differ"
                );
                device.reset();
                owed = None;
                None
            }
        };
        if let Some(command) = sent {
            let said = u32::from_be_bytes(command[2..6].try_into().expect("four bytes"));
            assert_eq!(usize::try_from(said), Ok(command.len()), "a command of another length than it says");
            assert!((10..=BUFFER_SIZE).contains(&command.len()) && owed.is_none(), "one command at a time");
            owed = Some([&[0x80, 1, 0, 0, 0, 12][..], &command[6..10], &[1, 2]].concat());
        }
        assert_eq!(device.is_waiting(), owed.is_some(), "the device waits for what nobody owes");
    }
    device.reset();
    let mut registers = [0; 16];
    device.read(0, &mut registers);
    assert_eq!(registers, [0x81, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let mut status = [0; 4];
    device.read(0x44, &mut status);
    assert_eq!(status, [2, 0, 0, 0]);
}
