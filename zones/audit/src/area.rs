//! The segments of a log in one file of fixed size, which is as large from its first day as it will ever be: a full
//! disk takes nothing from the log.
//!
//! ```text
//! | slot 0 | slot 1 | ... | slot N |     N: the segments that are kept; one slot more is always free
//! ```
//!
//! Segment `n` stands in slot `n` modulo the number of slots, followed by zeros. Which slot is the oldest follows
//! from the positions of the records: nothing else is stored, so there is nothing else to forge.

use crate::log::{Action, Limits, Tail, lines, tail};
use crate::record::position;

impl Limits {
    /// Bytes of the file.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.segment_bytes.saturating_mul(self.slots())
    }

    fn slots(&self) -> u64 {
        u64::try_from(self.segments).unwrap_or(u64::MAX).saturating_add(1)
    }

    fn slot_bytes(&self) -> usize {
        usize::try_from(self.segment_bytes).unwrap_or(usize::MAX).max(1)
    }

    /// Where a segment stands.
    #[must_use]
    pub fn offset(&self, segment: u64) -> u64 {
        (segment % self.slots()).saturating_mul(self.segment_bytes)
    }
}

/// A slot's bytes without the zeros behind them.
fn content(slot: &[u8]) -> &[u8] {
    let end = slot.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    slot.get(..end).unwrap_or(slot)
}

/// The segments of a file, oldest first, as [`crate::Log::open`] takes them. Their numbers count from anywhere.
#[must_use]
pub fn segments(limits: Limits, file: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let mut slots: Vec<&[u8]> = file.chunks(limits.slot_bytes()).map(content).collect();
    let count = limits.slots();
    slots.truncate(usize::try_from(count).unwrap_or(usize::MAX));
    let first = |slot: &[u8]| lines(slot).find_map(position);
    let oldest = (0_usize..).zip(&slots).filter_map(|(place, slot)| Some((first(slot)?, place))).min();
    let oldest = oldest.map_or(0, |(_, place)| place);
    let (after, before) =
        slots.split_at_checked(oldest).map_or((&slots[..], &[][..]), |(before, after)| (after, before));
    let from = count.saturating_add(u64::try_from(oldest).unwrap_or(0));
    let all = after.iter().chain(before);
    let mut found: Vec<(u64, Vec<u8>)> =
        (from..).zip(all).map(|(number, slot)| (number, slot.to_vec())).collect();
    while found.pop_if(|(_, bytes)| bytes.is_empty()).is_some() {}
    found
}

/// What to write where for an action.
#[must_use]
pub fn write(limits: Limits, action: &Action) -> (u64, Vec<u8>) {
    let (segment, length, mut bytes) = match action {
        Action::Write { segment, length, bytes } => (*segment, *length, bytes.clone()),
        Action::Truncate { segment, length } => (*segment, *length, Vec::new()),
        Action::Remove { segment } => (*segment, 0, Vec::new()),
    };
    // Zeros behind it unless zeros are there.
    if length == 0 || bytes.is_empty() {
        let room = limits.segment_bytes.saturating_sub(length);
        bytes.resize(usize::try_from(room).unwrap_or(usize::MAX).max(bytes.len()), 0);
    }
    (limits.offset(segment).saturating_add(length), bytes)
}

/// The lines of a file, as [`crate::verify()`] takes them, and how many bytes a torn write left at its end.
#[must_use]
pub fn records(limits: Limits, file: &[u8]) -> (Vec<Vec<u8>>, usize) {
    let mut found = segments(limits, file);
    let mut torn = 0;
    if let Some((_, last)) = found.last_mut()
        && let Tail::Torn(whole) = tail(last)
    {
        torn = last.len().saturating_sub(whole);
        last.truncate(whole);
    }
    let all = found.iter().flat_map(|(_, bytes)| lines(bytes)).map(<[u8]>::to_vec).collect();
    (all, torn)
}
