//! Where QEMU's own loader of kernel and initramfs fails: on a machine with a TPM it puts the initramfs at the end of low
//! memory, over the ACPI tables that the TPM's event log has pushed down there (seen with QEMU 10.0.13, q35: "Invalid table
//! length 0x0 in RSDT/XSDT", and a host without ACPI).
//!
//! So QEMU is given a kernel of a few instructions instead, made here, and loads the real one and the initramfs as plain
//! data to places of our own. The stub is entered by PVH, adds the initramfs to the start information as its one module
//! (Xen's `hvm_start_info`, version 1), and jumps to the kernel's own PVH entry.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// Where the stub lies: below every kernel, above what firmware uses.
const STUB: u32 = 0x10_0000;
/// Where the initramfs lies: below the end of the smallest machine's memory, far above the kernel.
pub(crate) const INITRAMFS: u32 = 0x1000_0000;

/// `XEN_ELFNOTE_PHYS32_ENTRY`.
const PHYS32_ENTRY: u32 = 18;
/// `PT_LOAD`, `PT_NOTE`.
const LOAD: u32 = 1;
const NOTE: u32 = 4;
/// Bytes of an ELF-64 file header, and of a program header.
const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
/// Longest table of notes.
const MOST_NOTES: u64 = 4096;

/// The stub for a kernel and an initramfs of so many bytes.
///
/// # Errors
/// The kernel is no ELF file with a PVH entry.
pub(crate) fn make(kernel: &Path, initramfs: u64) -> io::Result<Vec<u8>> {
    Ok(build(entry(&mut File::open(kernel)?)?, initramfs))
}

/// The kernel's PVH entry.
fn entry(kernel: &mut (impl Read + Seek)) -> io::Result<u32> {
    let none = || io::Error::new(io::ErrorKind::InvalidData, "the kernel is no ELF file with a PVH entry");
    let mut header = [0; HEADER];
    kernel.read_exact(&mut header)?;
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return Err(none());
    }
    let table = number(&header, 32, 8).ok_or_else(none)?;
    let count = number(&header, 56, 2).ok_or_else(none)?;
    for place in 0..count {
        let mut program = [0; PROGRAM_HEADER];
        kernel.seek(SeekFrom::Start(table + place * 56))?;
        kernel.read_exact(&mut program)?;
        if number(&program, 0, 4) != Some(NOTE.into()) {
            continue;
        }
        kernel.seek(SeekFrom::Start(number(&program, 8, 8).ok_or_else(none)?))?;
        let mut notes = Vec::new();
        kernel.take(number(&program, 32, 8).ok_or_else(none)?.min(MOST_NOTES)).read_to_end(&mut notes)?;
        if let Some(entry) = entry_in(&notes) {
            return Ok(entry);
        }
    }
    Err(none())
}

/// The entry in a table of notes: name size, content size, kind, then both, each padded to four bytes.
fn entry_in(notes: &[u8]) -> Option<u32> {
    let mut at = 0;
    loop {
        let name = usize::try_from(number(notes, at, 4)?).ok()?;
        let content = usize::try_from(number(notes, at + 4, 4)?).ok()?;
        let kind = number(notes, at + 8, 4)?;
        let start = at + 12 + name.next_multiple_of(4);
        if kind == u64::from(PHYS32_ENTRY) && notes.get(at + 12..)?.starts_with(b"Xen") {
            return u32::try_from(number(notes, start, content.min(8))?).ok();
        }
        at = start + content.next_multiple_of(4);
    }
}

/// A little-endian number.
fn number(bytes: &[u8], at: usize, width: usize) -> Option<u64> {
    let bytes = bytes.get(at..at + width)?;
    Some(bytes.iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte)))
}

/// The ELF file: one segment with code, the module's entry and the note.
fn build(entry: u32, initramfs: u64) -> Vec<u8> {
    const CODE: usize = 32;
    const MODULE: usize = 32;
    let module = STUB + 32;
    let mut segment = [
        // mov dword [ebx + 12], 1: the number of modules.
        &[0xC7, 0x43, 0x0C, 1, 0, 0, 0][..],
        // mov dword [ebx + 16], MODULE; mov dword [ebx + 20], 0: where they are.
        &[0xC7, 0x43, 0x10],
        &module.to_le_bytes(),
        &[0xC7, 0x43, 0x14, 0, 0, 0, 0],
        // mov eax, ENTRY; jmp eax.
        &[0xB8],
        &entry.to_le_bytes(),
        &[0xFF, 0xE0],
    ]
    .concat();
    segment.resize(CODE, 0x90);
    // The module: address, size, no command line, nothing.
    for field in [u64::from(INITRAMFS), initramfs, 0, 0] {
        segment.extend(field.to_le_bytes());
    }
    let note_at = segment.len();
    // QEMU reads the entry as eight bytes.
    for field in [4, 8, PHYS32_ENTRY] {
        segment.extend(field.to_le_bytes());
    }
    segment.extend(b"Xen\0");
    segment.extend(u64::from(STUB).to_le_bytes());
    debug_assert_eq!(note_at, CODE + MODULE);
    let start = u64::try_from(HEADER + 2 * PROGRAM_HEADER).unwrap_or_default();
    let mut file = Vec::new();
    file.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    // An executable for x86-64, version 1; the entry; where program and section headers are.
    file.extend([2_u16, 62].iter().flat_map(|field| field.to_le_bytes()));
    file.extend(1_u32.to_le_bytes());
    for field in [u64::from(STUB), 64, 0] {
        file.extend(field.to_le_bytes());
    }
    file.extend(0_u32.to_le_bytes());
    file.extend([64_u16, 56, 2, 64, 0, 0].iter().flat_map(|field| field.to_le_bytes()));
    let size = |bytes: usize| u64::try_from(bytes).unwrap_or_default();
    let note_size = segment.len() - note_at;
    for (kind, offset, length) in [(LOAD, 0, segment.len()), (NOTE, note_at, note_size)] {
        file.extend(kind.to_le_bytes());
        // Read and execute.
        file.extend(5_u32.to_le_bytes());
        let address = u64::from(STUB) + size(offset);
        for field in [start + size(offset), address, address, size(length), size(length), 4] {
            file.extend(field.to_le_bytes());
        }
    }
    file.extend(segment);
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stub_is_a_kernel_with_an_entry_of_its_own() {
        let stub = build(0x0123_4567, 5);
        assert_eq!(entry(&mut io::Cursor::new(&stub)).unwrap(), STUB);
        let segment = &stub[HEADER + 2 * PROGRAM_HEADER..];
        assert_eq!(segment[21..28], [0xB8, 0x67, 0x45, 0x23, 0x01, 0xFF, 0xE0]);
        assert_eq!(number(segment, 10, 4), Some(u64::from(STUB + 32)));
        assert_eq!((number(segment, 32, 8), number(segment, 40, 8)), (Some(INITRAMFS.into()), Some(5)));
    }

    #[test]
    fn what_is_no_kernel_is_none() {
        let good = build(1, 2);
        for bad in [&b"MZ"[..], &good[..100], &[0; 400]] {
            assert!(entry(&mut io::Cursor::new(bad)).is_err());
        }
        assert_eq!(entry_in(&[0; 40]), None);
    }
}
