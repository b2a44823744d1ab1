//! An ELF image as it lies in memory, without what nobody loads from it.
//!
//! Debian's kernel keeps the zeros of its uninitialised data in the file, a fifth of it. A loader clears what a segment
//! has in memory and not in the file, so that they need not be read, hashed and copied at each start. What is left is put
//! where it lies in memory, as seen from the lowest segment, which follows a page with the headers: a zone's firmware finds
//! every segment in place when the file is read to one page below the kernel's address. Every byte of a segment stays
//! as it is.

use std::ops::Range;

use anyhow::{Context as _, Result, bail};

/// Fields of the file header (ELF-64, little-endian): offset, and width in bytes.
const PROGRAM_OFFSET: Field = (0x20, 8);
const SECTION_OFFSET: Field = (0x28, 8);
const PROGRAM_ENTRY_SIZE: Field = (0x36, 2);
const PROGRAM_COUNT: Field = (0x38, 2);
const SECTION_COUNT: Field = (0x3C, 2);
const SECTION_NAMES: Field = (0x3E, 2);

/// Fields of a program header.
const KIND: Field = (0x00, 4);
const FILE_OFFSET: Field = (0x08, 8);
const ADDRESS: Field = (0x18, 8);
const FILE_SIZE: Field = (0x20, 8);
const ALIGNMENT: Field = (0x30, 8);

/// A segment that is loaded.
const LOAD: usize = 1;

/// What a segment's size in the file stays a multiple of, and the room of the headers.
const PAGE: usize = 4096;

/// Longest file: segments do not lie farther apart.
const LONGEST: usize = 256 << 20;

type Field = (usize, usize);

/// A segment's bytes in the old file, and where they begin in the new one.
struct Segment {
    old: Range<usize>,
    new: usize,
}

/// Makes an image of the form described above: without the zeros at the end of each segment, without the table of
/// sections, and with one distance between every segment's address and its place in the file.
///
/// # Errors
/// It is no ELF image for 64-bit machines, ends inside itself, or its segments overlap or lie far apart.
pub(super) fn arrange(image: &[u8]) -> Result<Vec<u8>> {
    if !image.starts_with(b"\x7fELF\x02\x01") {
        bail!("no little-endian 64-bit ELF file");
    }
    let table = get(image, 0, PROGRAM_OFFSET)?;
    let entry = get(image, 0, PROGRAM_ENTRY_SIZE)?;
    let headers: Vec<usize> =
        (0..get(image, 0, PROGRAM_COUNT)?).map(|number| table + number * entry).collect();
    let end = headers.last().map_or(table, |last| last + entry);
    let mut new =
        image.get(..end).filter(|_| end <= PAGE).context("the headers take more than a page")?.to_vec();
    new.resize(PAGE, 0);
    let loaded = |header: &&usize| get(image, **header, KIND).is_ok_and(|kind| kind == LOAD);
    let addresses = headers.iter().filter(loaded).map(|header| get(image, *header, ADDRESS));
    let lowest = addresses.collect::<Result<Vec<_>>>()?.into_iter().min().context("nothing is loaded")?;
    if !lowest.is_multiple_of(PAGE) {
        bail!("the lowest segment does not begin with a page");
    }
    let mut segments = Vec::new();
    for header in headers.iter().filter(loaded) {
        let segment = place_segment(image, &mut new, *header, lowest)?;
        segments.push(segment);
    }
    for header in headers.iter().filter(|header| !loaded(header)) {
        // A note, say, is a part of what is loaded.
        let start = get(image, *header, FILE_OFFSET)?;
        let range = start..start + get(image, *header, FILE_SIZE)?;
        let around =
            segments.iter().find(|segment| segment.old.start <= range.start && range.end <= segment.old.end);
        let offset = match around {
            Some(segment) => segment.new + (range.start - segment.old.start),
            None if range.is_empty() => 0,
            None => bail!("a part of the file is not loaded, but has a header"),
        };
        put(&mut new, *header, FILE_OFFSET, offset)?;
    }
    for field in [SECTION_OFFSET, SECTION_COUNT, SECTION_NAMES] {
        put(&mut new, 0, field, 0)?;
    }
    Ok(new)
}

/// Puts a segment that is loaded, less the zeros at its end, where it belongs.
fn place_segment(image: &[u8], new: &mut Vec<u8>, header: usize, lowest: usize) -> Result<Segment> {
    let start = get(image, header, FILE_OFFSET)?;
    let size = get(image, header, FILE_SIZE)?;
    let bytes = image.get(start..start + size).context("a segment ends outside the file")?;
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let kept = size.min(used.next_multiple_of(PAGE));
    let offset = get(image, header, ADDRESS)? - lowest + PAGE;
    if offset + kept > LONGEST {
        bail!("segments lie more than {LONGEST} bytes apart");
    }
    new.resize(new.len().max(offset + kept), 0);
    let place = new.get_mut(offset..offset + kept).context("there is room now")?;
    if place.iter().any(|byte| *byte != 0) {
        bail!("segments overlap");
    }
    place.copy_from_slice(bytes.get(..kept).context("no more than there is")?);
    put(new, header, FILE_OFFSET, offset)?;
    put(new, header, FILE_SIZE, kept)?;
    // The file has no larger alignment.
    put(new, header, ALIGNMENT, PAGE)?;
    Ok(Segment { old: start..start + size, new: offset })
}

fn place(header: usize, (offset, width): Field) -> Range<usize> {
    header + offset..header + offset + width
}

fn get(image: &[u8], header: usize, field: Field) -> Result<usize> {
    let bytes = image.get(place(header, field)).context("a header ends outside the file")?;
    let value = bytes.iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
    // Sums of a few of these cannot overflow.
    Ok(usize::try_from(u32::try_from(value).context("a field of more than 4 GiB")?)?)
}

fn put(image: &mut [u8], header: usize, field: Field, value: usize) -> Result<()> {
    let target = image.get_mut(place(header, field)).context("a header ends outside the file")?;
    for (byte, new) in target.iter_mut().zip(value.to_le_bytes()) {
        *byte = new;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two segments of `content` that lie in the file the other way round, a note in the first of them, then two bytes
    /// of nobody.
    fn image(content: [&[u8]; 2]) -> Vec<u8> {
        let [first, second] = content;
        let mut image = vec![0; 0x1000];
        image[..6].copy_from_slice(b"\x7fELF\x02\x01");
        put(&mut image, 0, PROGRAM_OFFSET, 0x40).unwrap();
        put(&mut image, 0, PROGRAM_ENTRY_SIZE, 0x38).unwrap();
        put(&mut image, 0, PROGRAM_COUNT, 3).unwrap();
        put(&mut image, 0, SECTION_OFFSET, 0x9000).unwrap();
        put(&mut image, 0, SECTION_COUNT, 9).unwrap();
        let place = 0x1000 + second.len();
        for (header, kind, start, size, address) in [
            (0x40, LOAD, place, first.len(), 0x100_0000),
            (0x78, LOAD, 0x1000, second.len(), 0x100_8000),
            (0xB0, 4, place + 16, 8, 0x100_0010),
        ] {
            put(&mut image, header, KIND, kind).unwrap();
            put(&mut image, header, FILE_OFFSET, start).unwrap();
            put(&mut image, header, FILE_SIZE, size).unwrap();
            put(&mut image, header, ADDRESS, address).unwrap();
            put(&mut image, header, ALIGNMENT, 1 << 21).unwrap();
        }
        [&image[..], second, first, &[7, 7]].concat()
    }

    #[test]
    fn every_segment_has_one_distance_and_zeros_at_the_end_go() {
        let first = [1; 5000];
        let mut second = vec![2; 5000];
        second[3000] = 0;
        second.extend_from_slice(&[0; 9000]);
        let new = arrange(&image([&first, &second])).unwrap();
        assert_eq!(new.len(), PAGE + 0x8000 + 2 * PAGE);
        assert_eq!(new[PAGE..][..5000], first);
        assert_eq!(new[PAGE + 0x8000..], second[..2 * PAGE]);
        assert!(new[PAGE + 5000..PAGE + 0x8000].iter().all(|byte| *byte == 0));
        let field = |header, field| get(&new, header, field).unwrap();
        for (header, address, size) in [(0x40, 0x100_0000, 5000), (0x78, 0x100_8000, 2 * PAGE)] {
            assert_eq!(field(header, FILE_OFFSET) + 0xFF_F000, address);
            assert_eq!((field(header, FILE_SIZE), field(header, ALIGNMENT)), (size, PAGE));
        }
        assert_eq!((field(0xB0, FILE_OFFSET), field(0, SECTION_COUNT)), (PAGE + 16, 0));
        assert_eq!(arrange(&new).unwrap(), new, "a second time changes nothing");
    }

    #[test]
    fn a_segment_of_zeros_is_not_in_the_file_and_a_full_one_is_not_cut() {
        let size =
            |content: &[u8]| get(&arrange(&image([&[1; 64], content])).unwrap(), 0x78, FILE_SIZE).unwrap();
        assert_eq!(size(&[0; 64]), 0);
        assert_eq!(size(&[1; 64]), 64);
    }

    #[test]
    fn what_is_no_image_or_cannot_be_arranged_is_refused() {
        arrange(b"\x7fELF\x01\x01").unwrap_err();
        arrange(b"\x7fELF\x02\x01").unwrap_err();
        let good = image([&[1; 64], &[1; 64]]);
        arrange(&good[..0x1010]).unwrap_err();
        let check = |header: usize, field: Field, value: usize| {
            let mut image = good.clone();
            put(&mut image, header, field, value).unwrap();
            arrange(&image).unwrap_err();
        };
        check(0x78, ADDRESS, 0x100_0010);
        check(0x78, ADDRESS, 0x4100_0000);
        check(0x40, ADDRESS, 0x100_0001);
        check(0xB0, FILE_OFFSET, 0x10);
        check(0, PROGRAM_COUNT, 100);
    }
}
