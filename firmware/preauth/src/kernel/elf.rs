//! An uncompressed kernel: ELF, 64-bit, little-endian (System V ABI, chapters 4 and 5).

use handover::failure::Failure;

use super::{File, Found, MOST_SEGMENTS, Move, Part, SetUp};
use crate::bytes::{u16_at, u32_at, u64_at};
use crate::memory::{Memory, Range};

pub(super) const MAGIC: [u8; 4] = *b"\x7fELF";

/// 64-bit, little-endian, version 1.
const CLASS: [u8; 3] = [2, 1, 1];
/// An executable file for x86-64.
const EXECUTABLE: u16 = 2;
const X86_64: u16 = 62;
/// Size of a program header.
const PROGRAM_HEADER: u64 = 56;
/// A segment that is loaded, and the flag that it may be executed.
const LOAD: u32 = 1;
const EXECUTE: u32 = 1;

pub(super) fn read(file: &File<'_, impl Memory>) -> Result<Found, Failure> {
    let header = file.read::<64>(0).ok_or(Failure::KernelHeaders)?;
    let half = |offset| u16_at(&header, offset).unwrap_or_default();
    let long = |offset| u64_at(&header, offset).unwrap_or_default();
    let is_ours = header.get(4..7) == Some(&CLASS[..]) && (half(16), half(18)) == (EXECUTABLE, X86_64);
    let count = usize::from(half(56));
    if !is_ours || u64::from(half(54)) != PROGRAM_HEADER || count > MOST_SEGMENTS {
        return Err(Failure::KernelHeaders);
    }
    let (entry, table) = (long(24), long(32));
    let mut parts = [None; MOST_SEGMENTS];
    let mut may_enter = false;
    for (number, place) in (0_u64..).zip(parts.iter_mut().take(count)) {
        let offset = number.checked_mul(PROGRAM_HEADER).and_then(|offset| offset.checked_add(table));
        let header = offset.and_then(|offset| file.read::<56>(offset)).ok_or(Failure::KernelHeaders)?;
        let Some(part) = segment(file, &header)? else { continue };
        let executable = u32_at(&header, 4).unwrap_or_default() & EXECUTE != 0;
        may_enter |= executable && (part.content.to..part.content.target().end).contains(&entry);
        *place = Some(part);
    }
    if !may_enter {
        return Err(Failure::KernelEntry);
    }
    Ok(Found { entry, parts, set_up: SetUp::NONE })
}

/// What a program header asks for; nothing, when it is not loaded.
fn segment(file: &File<'_, impl Memory>, header: &[u8; 56]) -> Result<Option<Part>, Failure> {
    let long = |offset| u64_at(header, offset).unwrap_or_default();
    let (offset, to, length, size) = (long(8), long(24), long(32), long(40));
    if u32_at(header, 0) != Some(LOAD) || size == 0 {
        return Ok(None);
    }
    let source = file.part(offset, length).ok_or(Failure::KernelHeaders)?;
    if length > size {
        return Err(Failure::KernelHeaders);
    }
    let occupies = Range::sized(to, size).ok_or(Failure::KernelOutside)?;
    let content = Move { from: source.start, to, length };
    let clears = Range { start: content.target().end, end: occupies.end };
    Ok(Some(Part { content, occupies, clears }))
}
