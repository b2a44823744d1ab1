//! The VMM's start information (Xen's `public/arch-x86/hvm/start_info.h`, version 1).

use handover::failure::Failure;
use handover::place::REACH;

use crate::bytes::{u32_at, u64_at};
use crate::memory::{Entry, Map, Memory, Range};

const MAGIC: u32 = 0x336E_C578;

/// Longest command line, its final zero included: what Linux takes on x86.
pub const LONGEST_COMMAND_LINE: usize = 2048;

/// What the VMM says, checked.
#[derive(Clone, Debug)]
pub struct Start {
    /// All of the machine's addresses that mean something.
    pub map: Map,
    /// The kernel's file.
    pub kernel: Range,
    /// The initrd.
    pub initrd: Option<Range>,
    /// The kernel's command line with its final zero.
    pub command_line: Range,
    /// Root of the ACPI tables.
    pub rsdp: u64,
}

/// Reads and checks all of it.
///
/// # Errors
/// [`Failure::StartInfo`], [`Failure::MemoryMap`], [`Failure::NoKernel`], [`Failure::Modules`].
pub fn read(memory: &impl Memory, address: u64) -> Result<Start, Failure> {
    let info = fetch::<56>(memory, address)?;
    let word = |offset| u32_at(&info, offset).unwrap_or_default();
    let long = |offset| u64_at(&info, offset).unwrap_or_default();
    let (magic, version, modules) = (word(0), word(4), word(12));
    if magic != MAGIC || version == 0 {
        return Err(Failure::StartInfo);
    }
    let map = read_map(memory, long(40), word(48))?;
    let module = |number: u32| -> Result<Option<Range>, Failure> {
        if number >= modules {
            return Ok(None);
        }
        let place = long(16).checked_add(u64::from(number).saturating_mul(32)).ok_or(Failure::StartInfo)?;
        let entry = fetch::<32>(memory, place)?;
        let (start, size) = (u64_at(&entry, 0), u64_at(&entry, 8));
        let range = Range::sized(start.unwrap_or_default(), size.unwrap_or_default());
        Ok(range.filter(|range| !range.is_empty()))
    };
    let kernel = module(0)?.ok_or(Failure::NoKernel)?;
    let initrd = module(1)?;
    let command_line = read_command_line(memory, long(24))?;
    let lies_well = |range: Range| map.is_ram(range) && range.end <= REACH;
    let all = [Some(kernel), initrd, Some(command_line)];
    let apart = !initrd.is_some_and(|initrd| initrd.overlaps(kernel) || initrd.overlaps(command_line))
        && !kernel.overlaps(command_line);
    if !apart || !all.into_iter().flatten().all(lies_well) {
        return Err(Failure::Modules);
    }
    Ok(Start { map, kernel, initrd, command_line, rsdp: long(32) })
}

fn fetch<const N: usize>(memory: &impl Memory, address: u64) -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    memory.read(address, &mut bytes).then_some(bytes).ok_or(Failure::StartInfo)
}

fn read_map(memory: &impl Memory, address: u64, count: u32) -> Result<Map, Failure> {
    let mut map = Map::default();
    if usize::try_from(count).is_ok_and(|count| count > crate::memory::MOST_ENTRIES) {
        return Err(Failure::MemoryMap);
    }
    for number in 0..u64::from(count) {
        let place = address.checked_add(number.saturating_mul(24)).ok_or(Failure::StartInfo)?;
        let entry = fetch::<24>(memory, place)?;
        let long = |offset| u64_at(&entry, offset).unwrap_or_default();
        let range = Range::sized(long(0), long(8)).ok_or(Failure::MemoryMap)?;
        map.push(Entry { range, kind: u32_at(&entry, 16).unwrap_or_default() })?;
    }
    Ok(map)
}

/// Finds the end of the command line.
fn read_command_line(memory: &impl Memory, start: u64) -> Result<Range, Failure> {
    let mut end = start;
    for _ in 0..LONGEST_COMMAND_LINE {
        let [byte] = fetch::<1>(memory, end)?;
        end = end.checked_add(1).ok_or(Failure::StartInfo)?;
        if byte == 0 {
            return Ok(Range { start, end });
        }
    }
    Err(Failure::Modules)
}
