//! A compressed kernel: bzImage with a 64-bit entry (Linux, Documentation/arch/x86/boot.rst).

use handover::failure::Failure;

use super::{File, Found, MOST_SEGMENTS, Move, Part, SetUp};
use crate::boot_params::{HEADER, HEADER_END};
use crate::bytes::{u16_at, u32_at, u64_at};
use crate::memory::{Memory, Range};

/// The first version that has a 64-bit entry, and the flag that says so.
const OLDEST: u16 = 0x020C;
const KERNEL_64: u16 = 1;
/// Where the 64-bit entry is.
const ENTRY: u64 = 0x200;
/// Unit of the set-up part.
const SECTOR: u64 = 512;

pub(super) fn read(file: &File<'_, impl Memory>) -> Result<Found, Failure> {
    let header = file.read::<HEADER_END>(0).ok_or(Failure::KernelKind)?;
    let half = |offset| u16_at(&header, offset).unwrap_or_default();
    let word = |offset| u32_at(&header, offset).unwrap_or_default();
    let byte = |offset: usize| header.get(offset).copied().unwrap_or_default();
    if half(0x1FE) != 0xAA55 || header.get(0x202..0x206) != Some(b"HdrS") {
        return Err(Failure::KernelKind);
    }
    if half(0x206) < OLDEST || half(0x236) & KERNEL_64 == 0 {
        return Err(Failure::KernelEntry);
    }
    // Zero means four, for the sake of very old kernels.
    let sectors = match byte(0x1F1) {
        0 => 4,
        count => u64::from(count),
    };
    let set_up_size = sectors.saturating_add(1).saturating_mul(SECTOR);
    let length = file.place.size().checked_sub(set_up_size).ok_or(Failure::KernelHeaders)?;
    let source = file.part(set_up_size, length).ok_or(Failure::KernelHeaders)?;
    let to = u64_at(&header, 0x258).unwrap_or_default();
    let needed = u64::from(word(0x260));
    if length <= ENTRY || needed < length {
        return Err(Failure::KernelHeaders);
    }
    let occupies = Range::sized(to, needed).ok_or(Failure::KernelOutside)?;
    let mut parts = [None; MOST_SEGMENTS];
    if let Some(place) = parts.first_mut() {
        // It clears what it needs itself.
        let content = Move { from: source.start, to, length };
        *place = Some(Part { content, occupies, clears: Range::EMPTY });
    }
    let mut set_up = SetUp::NONE;
    // The header's end is in the jump at its beginning.
    let end = usize::from(byte(0x201)).saturating_add(0x202).min(HEADER_END);
    let known = header.get(HEADER..end).unwrap_or_default();
    if let Some(place) = set_up.bytes.get_mut(..known.len()) {
        place.copy_from_slice(known);
        set_up.length = known.len();
    }
    Ok(Found { entry: to.saturating_add(ENTRY), parts, set_up })
}
