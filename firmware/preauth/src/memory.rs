//! Ranges of physical addresses, and which of them are memory.

use handover::failure::Failure;

/// Addresses from `start` up to, not including, `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
}

impl Range {
    /// Nothing.
    pub const EMPTY: Self = Self { start: 0, end: 0 };

    /// `size` bytes from `start`, unless that is beyond all addresses.
    #[must_use]
    pub fn sized(start: u64, size: u64) -> Option<Self> {
        Some(Self { start, end: start.checked_add(size)? })
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.start >= self.end
    }

    /// How many bytes it has.
    #[must_use]
    pub fn size(self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Whether an address is in both.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        !self.is_empty() && !other.is_empty() && self.start < other.end && other.start < self.end
    }
}

/// Physical memory, to be read.
pub trait Memory {
    /// Fills `out` from `address` on; says no, and nothing is promised about `out`, where the firmware reaches nothing.
    #[must_use]
    fn read(&self, address: u64, out: &mut [u8]) -> bool;
}

/// Kind of a range that is memory (ACPI 6.5, table 15.4; the same in e820 and PVH).
pub const RAM: u32 = 1;

/// Most entries of a map: what fits into the boot parameters without an extension.
pub const MOST_ENTRIES: usize = 128;

/// One range and its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where.
    pub range: Range,
    /// What.
    pub kind: u32,
}

/// A memory map: sorted, without overlap.
#[derive(Clone, Debug)]
pub struct Map {
    entries: [Entry; MOST_ENTRIES],
    count: usize,
}

impl Default for Map {
    fn default() -> Self {
        Self { entries: [Entry { range: Range::EMPTY, kind: 0 }; MOST_ENTRIES], count: 0 }
    }
}

impl Map {
    /// Adds a range above all others; an empty one is left out.
    ///
    /// # Errors
    /// It is not above all others, or one too many.
    pub fn push(&mut self, entry: Entry) -> Result<(), Failure> {
        let above = self.entries().last().is_none_or(|last| last.range.end <= entry.range.start);
        if entry.range.is_empty() {
            return Ok(());
        }
        let place = self.entries.get_mut(self.count).filter(|_| above).ok_or(Failure::MemoryMap)?;
        *place = entry;
        self.count = self.count.saturating_add(1);
        Ok(())
    }

    /// All ranges in order.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        self.entries.get(..self.count).unwrap_or_default()
    }

    /// Whether all of a range is memory. Nothing always is.
    #[must_use]
    pub fn is_ram(&self, range: Range) -> bool {
        let mut reached = range.start;
        for entry in self.entries().iter().filter(|entry| entry.kind == RAM) {
            if entry.range.start <= reached {
                reached = reached.max(entry.range.end);
            }
        }
        reached >= range.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(start: u64, end: u64, kind: u32) -> Entry {
        Entry { range: Range { start, end }, kind }
    }

    #[test]
    fn neighbours_are_one_piece_of_memory_and_gaps_are_not() {
        let mut map = Map::default();
        for (start, end, kind) in [(0, 10, RAM), (10, 20, RAM), (20, 30, 2), (30, 40, RAM), (45, 50, RAM)] {
            map.push(entry(start, end, kind)).unwrap();
        }
        for (start, end, expected) in [
            (0, 20, true),
            (5, 15, true),
            (5, 21, false),
            (29, 31, false),
            (30, 40, true),
            (35, 46, false),
            (45, 50, true),
            (45, 51, false),
            (60, 60, true),
        ] {
            assert_eq!(map.is_ram(Range { start, end }), expected, "{start}..{end}");
        }
    }

    #[test]
    fn maps_are_sorted_and_bounded() {
        let mut map = Map::default();
        map.push(entry(10, 20, RAM)).unwrap();
        map.push(entry(5, 5, RAM)).unwrap();
        for (start, end) in [(19, 30), (0, 5), (10, 20)] {
            assert_eq!(map.push(entry(start, end, RAM)), Err(Failure::MemoryMap));
        }
        for number in 1..128 {
            map.push(entry(number * 100, number * 100 + 1, 2)).unwrap();
        }
        assert_eq!(map.entries().len(), MOST_ENTRIES);
        assert_eq!(map.push(entry(90_000, 90_001, RAM)), Err(Failure::MemoryMap));
    }

    #[test]
    fn ranges_overlap_where_both_have_an_address() {
        let range = |start, end| Range { start, end };
        assert!(range(0, 10).overlaps(range(9, 12)) && range(3, 4).overlaps(range(0, 10)));
        assert!(!range(0, 10).overlaps(range(10, 12)) && !range(5, 5).overlaps(range(0, 10)));
        assert_eq!(Range::sized(u64::MAX, 1), None);
    }
}
