//! An ELF image without what nobody loads from it.
//!
//! Debian's kernel keeps the zeros of its uninitialised data in the file, a fifth of it. A loader clears what a segment
//! has in memory and not in the file, so that they need not be read, hashed and copied at each start. Every other byte
//! of a segment stays as it is, where it is.

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
const FILE_SIZE: Field = (0x20, 8);

/// A segment that is loaded.
const LOAD: usize = 1;

/// What a segment's size in the file stays a multiple of.
const PAGE: usize = 4096;

type Field = (usize, usize);

/// Takes the zeros at the end of each segment, and all that is behind the last one (the table of sections), out of the
/// file.
///
/// # Errors
/// It is no ELF image for 64-bit machines, or ends inside itself.
pub(super) fn trim(mut image: Vec<u8>) -> Result<Vec<u8>> {
    if !image.starts_with(b"\x7fELF\x02\x01") {
        bail!("no little-endian 64-bit ELF file");
    }
    let table = get(&image, 0, PROGRAM_OFFSET)?;
    let entry = get(&image, 0, PROGRAM_ENTRY_SIZE)?;
    let mut end = table;
    for number in 0..get(&image, 0, PROGRAM_COUNT)? {
        let header = table + number * entry;
        end = end.max(header + entry);
        let start = get(&image, header, FILE_OFFSET)?;
        let mut size = get(&image, header, FILE_SIZE)?;
        let bytes = image.get(start..start + size).context("a segment ends outside the file")?;
        if get(&image, header, KIND)? == LOAD {
            let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            size = size.min(used.next_multiple_of(PAGE));
            put(&mut image, header, FILE_SIZE, size)?;
        }
        end = end.max(start + size);
    }
    for field in [SECTION_OFFSET, SECTION_COUNT, SECTION_NAMES] {
        put(&mut image, 0, field, 0)?;
    }
    image.truncate(end);
    Ok(image)
}

fn place(header: usize, (offset, width): Field) -> Range<usize> {
    header + offset..header + offset + width
}

fn get(image: &[u8], header: usize, field: Field) -> Result<usize> {
    let bytes = image.get(place(header, field)).context("a header ends outside the file")?;
    let value = bytes.iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
    // Sums of a few of these cannot overflow.
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

    /// One note and one segment of `content`, then two bytes of nobody.
    fn image(content: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 0x1000];
        image[..6].copy_from_slice(b"\x7fELF\x02\x01");
        put(&mut image, 0, PROGRAM_OFFSET, 0x40).unwrap();
        put(&mut image, 0, PROGRAM_ENTRY_SIZE, 0x38).unwrap();
        put(&mut image, 0, PROGRAM_COUNT, 2).unwrap();
        put(&mut image, 0, SECTION_OFFSET, 0x1000 + content.len()).unwrap();
        put(&mut image, 0, SECTION_COUNT, 9).unwrap();
        for (header, kind, start, size) in [(0x40, LOAD, 0x1000, content.len()), (0x78, 4, 0x200, 8)] {
            put(&mut image, header, KIND, kind).unwrap();
            put(&mut image, header, FILE_OFFSET, start).unwrap();
            put(&mut image, header, FILE_SIZE, size).unwrap();
        }
        image.extend_from_slice(content);
        image.extend_from_slice(&[7, 7]);
        image
    }

    #[test]
    fn zeros_at_the_end_go_and_everything_else_stays() {
        let mut content = vec![1; 5000];
        content[3000] = 0;
        content.extend_from_slice(&[0; 9000]);
        let whole = image(&content);
        let trimmed = trim(whole.clone()).unwrap();
        assert_eq!(trimmed.len(), 0x1000 + 2 * PAGE);
        assert_eq!(get(&trimmed, 0x40, FILE_SIZE).unwrap(), 2 * PAGE);
        assert_eq!(trimmed[0x1000..], content[..2 * PAGE]);
        assert_eq!(get(&trimmed, 0, SECTION_COUNT).unwrap(), 0);
        assert_eq!(trim(trimmed.clone()).unwrap(), trimmed, "a second time changes nothing");
    }

    #[test]
    fn a_segment_of_zeros_is_not_in_the_file_and_a_full_one_is_not_cut() {
        assert_eq!(get(&trim(image(&[0; 64])).unwrap(), 0x40, FILE_SIZE).unwrap(), 0);
        assert_eq!(get(&trim(image(&[1; 64])).unwrap(), 0x40, FILE_SIZE).unwrap(), 64);
    }

    #[test]
    fn what_is_no_image_is_refused() {
        trim(b"\x7fELF\x01\x01".to_vec()).unwrap_err();
        trim(b"\x7fELF\x02\x01".to_vec()).unwrap_err();
        let mut cut = image(&[1; 64]);
        cut.truncate(0x1010);
        trim(cut).unwrap_err();
    }
}
