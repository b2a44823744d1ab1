//! From the start information to the jump, and every way off it.

use std::string::{String, ToString as _};
use std::vec::Vec;

use handover::place::{CAP, SMBIOS};
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::fake::*;
use super::vtpm::refusal;
use crate::*;

const CREDENTIALS: &[(&str, &[u8])] =
    &[("agetty.autologin", b"user"), ("login.noauth", b"yes"), ("empty", b""), ("odd", b"\xff\0")];

/// A kernel of one segment that is in place already, with something to clear behind it.
fn kernel() -> Vec<u8> {
    let segment = Segment { offset: 0x1000, to: KERNEL + 0x1000, length: 0x800, size: 0x2000 };
    elf(KERNEL + 0x1010, &[segment], &[0x90; 0x800])
}

fn with_record(record: &[u8]) -> Fake {
    Fake::new(&kernel(), record)
}

fn failure(mut fake: Fake) -> Failure {
    let (result, _) = fake.run();
    result.unwrap_err()
}

#[test]
fn the_right_record_is_taken_the_vtpm_closed_and_the_kernel_prepared() {
    let mut fake = with_record(&record(false, CREDENTIALS));
    let (result, desk) = fake.run();
    let jump = result.unwrap();
    let whole = Range { start: KERNEL + 0x1000, end: KERNEL + 0x3000 };
    assert_eq!(jump, Jump { entry: KERNEL + 0x1010, kernel: whole });
    assert_eq!(fake.vtpm.seen, [0x144, 0x14E, 0x13C, 0x17B, 0x129, 0x121]);
    assert!(fake.vtpm.released && fake.vtpm.platform.is_none());
    assert!(fake.mailbox.iter().all(|byte| *byte == 0));
    let cap: [u8; 32] = Sha256::digest([&[0; 32][..], &Sha256::digest(CAP)[..]].concat()).into();
    assert_eq!(fake.vtpm.cap, cap);
    // Nothing was moved; what is behind the segment was cleared.
    assert_eq!(fake.written, [Range { start: KERNEL + 0x1800, end: KERNEL + 0x3000 }]);
    assert!(fake.bytes(fake.written[0]).iter().all(|byte| *byte == 0));
    let page = desk.boot_params.bytes();
    let word = |at: usize| u32::from_le_bytes(*page[at..].first_chunk().unwrap());
    assert_eq!(&page[0x202..0x206], b"HdrS");
    assert_eq!((page[0x210], page[0x211], page[0x1E8], page[0x1EF]), (0xFF, 1, 3, 0));
    assert_eq!([0x218, 0x21C, 0x228, 0x070, 0x074].map(word), [0x2F_0000, 0x8000, 0x2000, 0xE_0000, 0]);
    let map = [longs(&[0, LOW_END]), words(&[1]), longs(&[0xF_0000, 0x1_0000]), words(&[2])].concat();
    assert_eq!(page[0x2D0..][..40], map);
}

/// Strings of the type 11 structures, found as systemd and Linux find them.
fn strings(area: &[u8]) -> Vec<String> {
    assert_eq!(&area[..5], b"_SM3_");
    assert_eq!(area[..24].iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)), 0);
    let size = usize::try_from(u32::from_le_bytes(*area[12..].first_chunk().unwrap())).unwrap();
    let at = usize::try_from(u64::from_le_bytes(*area[16..].first_chunk().unwrap()) - SMBIOS).unwrap();
    let mut table = &area[at..at + size];
    let mut kinds = Vec::new();
    let mut found = Vec::new();
    while let [kind, length, ..] = *table {
        kinds.push(kind);
        let body = &table[usize::from(length)..];
        let end = body.windows(2).position(|pair| pair == [0, 0]).unwrap();
        let text = &body[..end];
        if kind == 11 {
            found.extend(
                text.split(|byte| *byte == 0).map(|string| String::from_utf8(string.to_vec()).unwrap()),
            );
            assert_eq!(usize::from(table[4]), found.len());
        }
        table = &body[end + 2..];
    }
    let expected: &[u8] = if found.is_empty() { &[0, 1, 3, 127] } else { &[0, 1, 3, 11, 127] };
    assert_eq!(kinds, expected);
    found
}

#[test]
fn credentials_are_smbios_strings() {
    let mut fake = with_record(&record(false, CREDENTIALS));
    fake.run().0.unwrap();
    let expected = ["agetty.autologin=dXNlcg==", "login.noauth=eWVz", "empty=", "odd=/wA="];
    let expected: Vec<String> =
        expected.iter().map(|text| "io.systemd.credential.binary:".to_string() + text).collect();
    assert_eq!(strings(&fake.smbios), expected);
    let mut fake = with_record(&record(false, &[]));
    fake.run().0.unwrap();
    assert!(strings(&fake.smbios).is_empty());
}

#[test]
fn a_zone_without_a_vtpm_goes_the_same_way_less_its_commands() {
    let mut fake = with_record(&record(true, &[]));
    fake.run().0.unwrap();
    assert!(fake.vtpm.seen.is_empty());
    assert!(fake.mailbox.iter().all(|byte| *byte == 0));
}

#[test]
fn a_mailbox_that_is_empty_wrong_or_keeps_is_told_apart() {
    let good = record(false, CREDENTIALS);
    let mut empty = with_record(&good);
    empty.mailbox.fill(0);
    assert_eq!(failure(empty), Failure::NoRecord);
    let mut wrong = with_record(&good);
    wrong.mailbox[4] = 9;
    assert_eq!(failure(wrong), Failure::Record);
    let mut keeps = with_record(&good);
    keeps.mailbox_keeps = true;
    assert_eq!(failure(keeps), Failure::MailboxKept);
}

#[test]
fn every_answer_but_the_right_one_has_its_own_failure() {
    let check = |code: u32, answer: &[u8], expected: Failure| {
        let mut fake = with_record(&record(false, CREDENTIALS));
        fake.vtpm.instead = Some((code, answer.to_vec()));
        let (result, _) = fake.run();
        assert_eq!(result.unwrap_err(), expected, "{code:#x}");
        assert!(fake.written.is_empty(), "nothing is prepared after a failure");
        assert!(fake.smbios.iter().all(|byte| *byte == 0), "no credential is given after a failure");
    };
    let refused = refusal(0x101);
    for (code, expected) in [
        (0x144, Failure::TpmStart),
        (0x14E, Failure::TpmIndex),
        (0x13C, Failure::TpmCap),
        (0x17B, Failure::TpmRandom),
        (0x129, Failure::TpmPlatformAuth),
        (0x121, Failure::TpmPlatformOff),
    ] {
        check(code, &refused, expected);
        check(code, &[], Failure::TpmSilent);
        check(code, &refusal(0x922), expected);
        check(code, &refused[..9], Failure::TpmAnswer);
        check(code, &[0; 513], Failure::TpmAnswer);
    }
    let good_but_more = |parameters: &[u8]| {
        let size = u32::try_from(parameters.len() + 14).unwrap();
        let length = u32::try_from(parameters.len()).unwrap();
        [&[0x80, 2][..], &size.to_be_bytes(), &[0; 4], &length.to_be_bytes(), parameters].concat()
    };
    let mut longer = refused.clone();
    longer[5] += 1;
    check(0x144, &longer, Failure::TpmAnswer);
    check(0x14E, &good_but_more(&[0, 31, 0]), Failure::TpmAnswer);
    check(0x14E, &good_but_more(&[0, 1, 0]), Failure::RecordChanged);
    check(0x14E, &good_but_more(&[0, 0]), Failure::RecordChanged);
    check(0x17B, &good_but_more(&[&[0, 33][..], &[1; 33]].concat()), Failure::TpmAnswer);
    check(0x17B, &good_but_more(&[0, 0]), Failure::TpmRandom);
}

#[test]
fn a_vtpm_that_started_before_is_slow_or_gives_little_is_fine() {
    let mut fake = with_record(&record(false, CREDENTIALS));
    fake.vtpm.execute(&[&[0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x44][..], &[0, 0]].concat()).unwrap();
    fake.vtpm.busy = 5;
    fake.vtpm.random_at_once = 5;
    fake.run().0.unwrap();
    assert_eq!(fake.vtpm.seen.iter().filter(|code| **code == 0x17B).count(), 7);
}

#[test]
fn start_information_that_is_none_is_refused() {
    let check = |at: u64, bytes: &[u8], expected: Failure| {
        let mut fake = with_record(&record(true, &[]));
        fake.put(at, bytes);
        assert_eq!(failure(fake), expected, "{at:#x}");
    };
    check(START, &[0], Failure::StartInfo);
    check(START + 4, &[0], Failure::StartInfo);
    check(START + 12, &[0], Failure::NoKernel);
    check(START + 16, &longs(&[u64::MAX]), Failure::StartInfo);
    check(START + 24, &longs(&[0x8_0000]), Failure::StartInfo);
    check(START + 48, &words(&[129]), Failure::MemoryMap);
    check(START + 48, &words(&[0]), Failure::Modules);
    check(MAP + 8, &longs(&[0x10_0000]), Failure::MemoryMap);
    check(MODULES, &longs(&[HIGH_END]), Failure::Modules);
    check(MODULES + 8, &longs(&[0]), Failure::NoKernel);
    check(MODULES + 32, &longs(&[KERNEL + 0x1000]), Failure::Modules);
    check(MODULES + 40, &longs(&[1 << 40]), Failure::Modules);
    check(LINE, &[b'x'; 2048], Failure::Modules);
    let mut alone = with_record(&record(true, &[]));
    alone.put(START + 12, &[1]);
    let (result, desk) = alone.run();
    assert!(result.is_ok() && desk.boot_params.bytes()[0x218..0x220] == [0; 8]);
}

proptest! {
    #[test]
    fn property_a_record_with_any_bit_flipped_is_refused(at in 0..200_usize, bit in 0..8_u32) {
        let good = record(false, CREDENTIALS);
        let mut fake = with_record(&good);
        let at = at % good.len();
        fake.mailbox[at] ^= 1 << bit;
        // The flag for zones without a vTPM is what its name says: nothing vouches for the record then.
        prop_assume!((at, bit) != (12, 0));
        let (result, _) = fake.run();
        let expected = [Failure::Record, Failure::RecordChanged];
        prop_assert!(expected.contains(&result.unwrap_err()));
        prop_assert!(fake.vtpm.cap == [0; 32] && fake.smbios.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn property_no_answer_of_a_vtpm_breaks_anything(
        code in prop::sample::select(&[0x144_u32, 0x14E, 0x13C, 0x17B, 0x129, 0x121][..]),
        mut answer in prop::collection::vec(any::<u8>(), 1..140),
        sound: bool,
        tag in 0x8001_u16..0x8003,
        length: u8,
    ) {
        if sound && answer.len() >= 14 {
            // A header that is right, so that what follows is looked at.
            let size = u32::try_from(answer.len()).unwrap();
            let header = [&tag.to_be_bytes()[..], &size.to_be_bytes(), &[0; 4], &[0, 0, 0, length]].concat();
            answer[..14].copy_from_slice(&header);
        }
        let mut fake = with_record(&record(false, CREDENTIALS));
        fake.vtpm.instead = Some((code, answer));
        let (result, _) = fake.run();
        // Commands without parameters in their response may have been answered well.
        prop_assert!(result.is_err() || ![0x14E, 0x17B].contains(&code) || fake.vtpm.platform.is_none());
    }
}
