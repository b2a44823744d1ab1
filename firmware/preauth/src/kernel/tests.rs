use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use crate::tests::fake::*;
use crate::*;

fn start(kernel: &[u8]) -> (Fake, Result<Jump, Failure>) {
    let mut fake = Fake::new(kernel, &record(true, &[]));
    let result = fake.run().0;
    (fake, result)
}

fn refused(kernel: &[u8], expected: Failure) {
    let (fake, result) = start(kernel);
    assert_eq!(result, Err(expected));
    assert!(fake.written.is_empty());
}

/// A bzImage with one sector of set-up, which prefers `to`.
fn bz_image(to: u64, needed: u32, code: &[u8]) -> Vec<u8> {
    let mut file = vec![0; 1024];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x1F1, &[1]);
    put(0x1FE, &[0x55, 0xAA, 0xEB, 0x66]);
    put(0x202, b"HdrS\x0f\x02");
    put(0x236, &[1, 0]);
    put(0x258, &to.to_le_bytes());
    put(0x260, &needed.to_le_bytes());
    file.extend(code);
    file
}

#[test]
fn a_bz_image_goes_to_where_it_prefers_over_its_own_file() {
    let code: Vec<u8> = (0..0x2000_u32).map(|number| number.to_le_bytes()[0]).collect();
    let (fake, result) = start(&bz_image(KERNEL, 0x8000, &code));
    let whole = Range { start: KERNEL, end: KERNEL + 0x8000 };
    assert_eq!(result, Ok(Jump { entry: KERNEL + 0x200, kernel: whole }));
    assert_eq!(fake.written, [Range { start: KERNEL, end: KERNEL + 0x2000 }]);
    assert_eq!(fake.bytes(fake.written[0]), code);
    let mut fake = Fake::new(&bz_image(KERNEL, 0x8000, &code), &record(true, &[]));
    let (_, desk) = fake.run();
    let page = desk.boot_params.bytes();
    assert_eq!((page[0x1F1], page[0x206], page[0x236], page[0x210]), (1, 0x0F, 1, 0xFF));
    // The header ends where its jump leads: nothing of the file behind it is taken.
    assert_eq!(page[0x268..0x290], [0; 40]);
}

#[test]
fn a_bz_image_that_cannot_be_is_refused() {
    let code = [0x90; 0x1000];
    let check = |at: usize, byte: u8, expected: Failure| {
        let mut file = bz_image(KERNEL, 0x8000, &code);
        file[at] = byte;
        refused(&file, expected);
    };
    check(0x1FE, 0, Failure::KernelKind);
    check(0x202, 0, Failure::KernelKind);
    check(0x206, 0x0B, Failure::KernelEntry);
    check(0x236, 0, Failure::KernelEntry);
    check(0x1F1, 200, Failure::KernelHeaders);
    refused(&bz_image(KERNEL, 0xFFF, &code), Failure::KernelHeaders);
    refused(&bz_image(KERNEL, 0x8000, &code[..0x200]), Failure::KernelHeaders);
    refused(&bz_image(HIGH_END - 0x4000, 0x8000, &code), Failure::KernelOutside);
    refused(&bz_image(u64::MAX - 5, 0x8000, &code), Failure::KernelOutside);
    refused(&bz_image(OWN.start, 0x8000, &code), Failure::KernelOverlap);
    refused(&bz_image(INITRD.start - 0x4000, 0x8000, &code), Failure::KernelOverlap);
    refused(&[0; 100], Failure::KernelKind);
}

#[test]
fn segments_are_moved_in_an_order_that_loses_nothing() {
    let body: Vec<u8> = (0..0x3000_u32).map(|number| (number / 0x1000 + 1).to_le_bytes()[0]).collect();
    for shift in [0x1000_i64, 0x800, -0x800, -0x1000, 0] {
        let at = |number: u64| (KERNEL + 0x1000 + number * 0x1000).checked_add_signed(shift).unwrap();
        let segment =
            |number| Segment { offset: 0x1000 * (number + 1), to: at(number), length: 0x1000, size: 0x1000 };
        let file = elf(at(0), &[segment(1), segment(0), segment(2)], &body);
        let (fake, result) = start(&file);
        result.unwrap();
        for number in 0..3 {
            let moved = fake.bytes(Range::sized(at(number), 0x1000).unwrap());
            assert!(moved.iter().all(|byte| u64::from(*byte) == number + 1), "{shift} {number}");
        }
        assert_eq!(fake.written.is_empty(), shift == 0);
    }
    // Two that change places cannot be moved without a third place.
    let swap = [
        Segment { offset: 0x1000, to: KERNEL + 0x2000, length: 0x1000, size: 0x1000 },
        Segment { offset: 0x2000, to: KERNEL + 0x1000, length: 0x1000, size: 0x1000 },
    ];
    refused(&elf(KERNEL + 0x2000, &swap, &body), Failure::KernelOverlap);
}

#[test]
fn an_elf_file_that_cannot_be_is_refused() {
    let good = Segment { offset: 0x1000, to: KERNEL + 0x1000, length: 0x800, size: 0x1000 };
    let file = |segment: Segment| elf(KERNEL + 0x1010, &[segment], &[0x90; 0x800]);
    assert!(start(&file(good)).1.is_ok());
    for (segment, expected) in [
        (Segment { offset: 0x1001, ..good }, Failure::KernelHeaders),
        (Segment { offset: u64::MAX, ..good }, Failure::KernelHeaders),
        (Segment { size: 0x7FF, ..good }, Failure::KernelHeaders),
        (Segment { size: u64::MAX, ..good }, Failure::KernelOutside),
        (Segment { size: 0, ..good }, Failure::KernelEntry),
        (Segment { to: HIGH_END - 0x800, ..good }, Failure::KernelEntry),
        (Segment { to: KERNEL + 0x1011, ..good }, Failure::KernelEntry),
        (Segment { size: HIGH_END, ..good }, Failure::KernelOutside),
        (Segment { size: INITRD.start - KERNEL, ..good }, Failure::KernelOverlap),
    ] {
        refused(&file(segment), expected);
    }
    let check = |at: usize, byte: u8, expected: Failure| {
        let mut file = file(good);
        file[at] = byte;
        refused(&file, expected);
    };
    check(4, 1, Failure::KernelHeaders);
    check(16, 3, Failure::KernelHeaders);
    check(18, 3, Failure::KernelHeaders);
    check(54, 55, Failure::KernelHeaders);
    check(56, 17, Failure::KernelHeaders);
    check(57, 1, Failure::KernelHeaders);
    check(33, 0xFF, Failure::KernelHeaders);
    // Not executable.
    check(68, 6, Failure::KernelEntry);
    let twice = elf(KERNEL + 0x1010, &[good, Segment { to: KERNEL + 0x1FFF, ..good }], &[0x90; 0x800]);
    refused(&twice, Failure::KernelOverlap);
    let own = Segment { to: OWN.end - 1, ..good };
    refused(&elf(KERNEL + 0x1010, &[good, own], &[0x90; 0x800]), Failure::KernelOverlap);
    let line = Segment { to: LINE, ..good };
    refused(&elf(KERNEL + 0x1010, &[good, line], &[0x90; 0x800]), Failure::KernelOverlap);
    let hole = Segment { to: LOW_END - 0x10, ..good };
    refused(&elf(KERNEL + 0x1010, &[good, hole], &[0x90; 0x800]), Failure::KernelOutside);
}

/// Addresses and sizes near what matters, or anything.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => prop::sample::select(vec![
            0, 1, 0x1000, 0x1800, 0x2000, LINE, LOW_END, HIGH, OWN.end, KERNEL, KERNEL + 0x1000, KERNEL + 0x2000,
            INITRD.start, INITRD.end, HIGH_END,
        ]).prop_flat_map(|near| near.saturating_sub(16)..near.saturating_add(16)),
        2 => 0..HIGH_END,
        1 => any::<u64>(),
    ]
}

fn segment() -> impl Strategy<Value = Segment> {
    (number(), number(), number(), number(), 0..8_u8).prop_map(|(offset, to, length, size, sane)| {
        // Most are sane in most things: only then the rest is looked at.
        let offset = if sane > 0 { 0x1000 + offset % 0x1000 } else { offset };
        let length = if sane > 1 { length % 0x800 } else { length };
        let size = if sane > 2 { length.saturating_add(size % 0x4000) } else { size };
        let to = if sane > 3 { 0x18_0000 + to % 0x15_0000 } else { to.min(u64::MAX >> 2) };
        Segment { offset, to, length, size }
    })
}

proptest! {
    #[test]
    fn property_nothing_is_written_but_usable_memory(
        segments in prop::collection::vec(segment(), 0..6),
        inside in 0..0x100_u64,
    ) {
        let entry = segments.first().map_or(0, |first| first.to.saturating_add(inside));
        let body: Vec<u8> = (0..0x1000_u32).map(|number| number.to_le_bytes()[0] | 1).collect();
        let image = elf(entry, &segments, &body);
        let (fake, result) = start(&image);
        // The fake machine refuses what is not memory; the rest is here.
        for range in &fake.written {
            prop_assert!(!range.overlaps(OWN) && !range.overlaps(INITRD), "{:x?}", range);
            let line = Range { start: LINE, end: LINE + 13 };
            prop_assert!(!range.overlaps(line));
        }
        if let Ok(jump) = result {
            prop_assert!(jump.kernel.start <= jump.entry && jump.entry < jump.kernel.end);
            for segment in segments.iter().filter(|segment| segment.size > 0) {
                // It may hold the file's own headers.
                let from = usize::try_from(segment.offset).unwrap();
                let length = usize::try_from(segment.length).unwrap();
                let mut expected = image[from..from + length].to_vec();
                expected.resize(usize::try_from(segment.size).unwrap(), 0);
                prop_assert_eq!(fake.bytes(Range::sized(segment.to, segment.size).unwrap()), expected);
            }
        } else {
            prop_assert!(fake.written.is_empty());
        }
    }

    #[test]
    fn property_any_bytes_as_a_kernel_are_refused_or_stay_in_memory(
        mut file in prop::collection::vec(any::<u8>(), 0..3000),
        bz: bool,
        to in number(),
        needed in prop_oneof![0x1000..0x8000_u32, any::<u32>()],
    ) {
        if bz {
            let image = bz_image(to, needed, &[]);
            for (place, byte) in file.iter_mut().zip(image) {
                *place = byte;
            }
        }
        let (fake, result) = start(&file);
        prop_assert!(result.is_ok() || fake.written.is_empty());
        for range in &fake.written {
            prop_assert!(!range.overlaps(OWN) && !range.overlaps(INITRD), "{:x?}", range);
        }
    }

    #[test]
    fn property_any_start_information_is_refused_or_used_within_its_map(
        changes in prop::collection::vec((0..0x300_u64, any::<u8>()), 1..6),
    ) {
        let good = Segment { offset: 0x1000, to: KERNEL + 0x1000, length: 0x800, size: 0x1000 };
        let mut fake = Fake::new(&elf(KERNEL + 0x1010, &[good], &[0x90; 0x800]), &record(true, &[]));
        for (at, byte) in changes {
            fake.put(START + at, &[byte]);
        }
        let (result, _) = fake.run();
        prop_assert!(result.is_ok() || fake.written.is_empty());
    }
}
