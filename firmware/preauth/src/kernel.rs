//! Where the kernel's parts go: a plan that was checked whole before a byte moves.
//!
//! Two kinds of file are known: ELF, whose segments go to their physical addresses, and bzImage, whose 64-bit part goes to
//! the address that it prefers. A part that is in place already (see `handover::place::KERNEL_FILE`) is not moved. Every
//! target is memory, apart from every other one and from all that is taken.

mod bz_image;
mod elf;

use handover::failure::Failure;
use handover::place::REACH;

use crate::boot_params::{HEADER, HEADER_END};
use crate::memory::{Memory, Range};
use crate::pvh::Start;

/// Most segments of a kernel.
pub const MOST_SEGMENTS: usize = 16;

/// Bytes from one place to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// First byte's place.
    pub from: u64,
    /// Where it goes.
    pub to: u64,
    /// How many there are.
    pub length: u64,
}

impl Move {
    const NONE: Self = Self { from: 0, to: 0, length: 0 };

    fn source(self) -> Range {
        Range { start: self.from, end: self.from.saturating_add(self.length) }
    }

    fn target(self) -> Range {
        Range { start: self.to, end: self.to.saturating_add(self.length) }
    }
}

/// The set-up header that a bzImage brings.
#[derive(Clone, Debug)]
pub struct SetUp {
    bytes: [u8; HEADER_END - HEADER],
    length: usize,
}

impl SetUp {
    const NONE: Self = Self { bytes: [0; HEADER_END - HEADER], length: 0 };

    /// The header, if there is one.
    pub(crate) fn header(&self) -> Option<&[u8]> {
        self.bytes.get(..self.length).filter(|header| !header.is_empty())
    }
}

/// What is to be done, in order: all moves, then all clears.
#[derive(Clone, Debug)]
pub struct Plan {
    /// First instruction.
    pub entry: u64,
    /// From the kernel's first to its last byte.
    pub whole: Range,
    moves: [Move; MOST_SEGMENTS],
    move_count: usize,
    clears: [Range; MOST_SEGMENTS],
    clear_count: usize,
    set_up: SetUp,
}

impl Plan {
    /// The moves in their order.
    #[must_use]
    pub fn moves(&self) -> &[Move] {
        self.moves.get(..self.move_count).unwrap_or_default()
    }

    /// What is filled with zeros.
    #[must_use]
    pub fn clears(&self) -> &[Range] {
        self.clears.get(..self.clear_count).unwrap_or_default()
    }

    pub(crate) fn set_up(&self) -> &SetUp {
        &self.set_up
    }
}

/// One part of a kernel: what the file holds of it, what it occupies, and what of that is cleared for it.
#[derive(Clone, Copy, Debug)]
struct Part {
    content: Move,
    occupies: Range,
    clears: Range,
}

/// What a file's reader found out.
struct Found {
    entry: u64,
    parts: [Option<Part>; MOST_SEGMENTS],
    set_up: SetUp,
}

/// Reads the file's headers and plans.
///
/// # Errors
/// A failure about the kernel.
pub fn plan(memory: &impl Memory, start: &Start, taken: &[Option<Range>]) -> Result<Plan, Failure> {
    let file = File { memory, place: start.kernel };
    let found = match file.read::<4>(0) {
        Some(elf::MAGIC) => elf::read(&file)?,
        _ => bz_image::read(&file)?,
    };
    let parts = || found.parts.iter().flatten();
    let mut whole: Option<Range> = None;
    for (number, part) in parts().enumerate() {
        if !start.map.is_ram(part.occupies) || part.occupies.end > REACH {
            return Err(Failure::KernelOutside);
        }
        let over = |range: &Range| range.overlaps(part.occupies);
        let over_part = parts().skip(number.saturating_add(1)).any(|other| over(&other.occupies));
        if over_part || taken.iter().flatten().any(over) {
            return Err(Failure::KernelOverlap);
        }
        let Range { start, end } = whole.unwrap_or(part.occupies);
        whole = Some(Range { start: start.min(part.occupies.start), end: end.max(part.occupies.end) });
    }
    let mut plan = Plan {
        entry: found.entry,
        whole: whole.ok_or(Failure::KernelHeaders)?,
        moves: [Move::NONE; MOST_SEGMENTS],
        move_count: 0,
        clears: [Range::EMPTY; MOST_SEGMENTS],
        clear_count: 0,
        set_up: found.set_up.clone(),
    };
    for part in parts() {
        plan.add(*part);
    }
    plan.order()?;
    Ok(plan)
}

impl Plan {
    /// Arrays of it have a place for each part.
    fn add(&mut self, part: Part) {
        let Part { content, occupies: _, clears } = part;
        if content.from != content.to
            && content.length > 0
            && let Some(place) = self.moves.get_mut(self.move_count)
        {
            *place = content;
            self.move_count = self.move_count.saturating_add(1);
        }
        if !clears.is_empty()
            && let Some(place) = self.clears.get_mut(self.clear_count)
        {
            *place = clears;
            self.clear_count = self.clear_count.saturating_add(1);
        }
    }

    /// Puts the moves into an order in which none overwrites what a later one reads.
    fn order(&mut self) -> Result<(), Failure> {
        let moves = self.moves.get_mut(..self.move_count).unwrap_or_default();
        moves.sort_unstable_by_key(|step| step.from);
        if !is_safe(moves) {
            moves.reverse();
        }
        if is_safe(moves) { Ok(()) } else { Err(Failure::KernelOverlap) }
    }
}

fn is_safe(moves: &[Move]) -> bool {
    moves.iter().enumerate().all(|(number, step)| {
        let mut later = moves.iter().skip(number.saturating_add(1));
        !later.any(|other| step.target().overlaps(other.source()))
    })
}

/// The kernel's file in memory.
struct File<'a, M> {
    memory: &'a M,
    place: Range,
}

impl<M: Memory> File<'_, M> {
    /// Bytes of it, if it has them.
    fn read<const N: usize>(&self, offset: u64) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.read_into(offset, &mut bytes).then_some(bytes)
    }

    fn read_into(&self, offset: u64, out: &mut [u8]) -> bool {
        let range = self.part(offset, u64::try_from(out.len()).unwrap_or(u64::MAX));
        range.is_some_and(|range| self.memory.read(range.start, out))
    }

    /// Where a part of it lies, if it has it.
    fn part(&self, offset: u64, length: u64) -> Option<Range> {
        let range = Range::sized(self.place.start.checked_add(offset)?, length)?;
        (range.end <= self.place.end).then_some(range)
    }
}

#[cfg(test)]
mod tests;
