//! Finds any record that was altered, removed or reordered.

use crate::record::{Hash, Head, read};

/// What is wrong with a log. Lines are counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A line that is no record, or whose content and hash do not belong together.
    #[error("line {line} was altered: its hash is not the hash of its content")]
    Altered {
        /// The line.
        line: usize,
    },
    /// A position that does not follow the one before it.
    #[error("line {line} has position {found}, expected {expected}: records were removed or reordered")]
    OutOfOrder {
        /// The line.
        line: usize,
        /// The position that must come here.
        expected: u64,
        /// The position that stands here.
        found: u64,
    },
    /// A record that follows another one than the one before it.
    #[error("line {line} follows another record than the one before it")]
    Foreign {
        /// The line.
        line: usize,
    },
    /// The first records are missing, and no record says that they were dropped.
    #[error("records before position {first} were removed: no record says that they were dropped")]
    BeginningRemoved {
        /// The first position that is there.
        first: u64,
    },
    /// The log does not end with the record that it is known to end with.
    #[error(
        "the log ends with position {found}, but position {expected} is known to exist: records were removed"
    )]
    EndRemoved {
        /// The position that is known.
        expected: u64,
        /// The last position that is there.
        found: u64,
    },
    /// The log has another record at a position that is known.
    #[error("position {position} is another record than the one that is known")]
    EndReplaced {
        /// The position.
        position: u64,
    },
}

/// A log that verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Position of the first record; above 1 when older ones were dropped.
    pub first: u64,
    /// The last record.
    pub head: Head,
}

/// Verifies lines in their order. `after`: the record before the first line, when it is known from elsewhere;
/// otherwise the lines begin at position 1, or behind a drop that one of them records. `known`: a record that is
/// known from elsewhere to exist; without it nobody can say that the end was not cut off.
///
/// # Errors
/// The first [`Fault`].
pub fn verify<'a>(
    lines: impl IntoIterator<Item = &'a [u8]>,
    after: Option<&Head>,
    known: Option<&Head>,
) -> Result<Verified, Fault> {
    let mut previous = after.cloned();
    // Where the chain begins, until it is said why it begins there.
    let mut beginning: Option<Head> = None;
    let mut first = None;
    for (line, bytes) in (1..).zip(lines) {
        let (record, head) = read(bytes).ok_or(Fault::Altered { line })?;
        match &previous {
            Some(before) => {
                let expected = before.position.saturating_add(1);
                if record.position != expected {
                    return Err(Fault::OutOfOrder { line, expected, found: record.position });
                }
                if record.previous != before.hash {
                    return Err(Fault::Foreign { line });
                }
            }
            None => {
                let before = Head { position: record.position.saturating_sub(1), hash: record.previous };
                beginning = (before != Head::start()).then_some(before);
            }
        }
        if beginning.is_some() && beginning == dropped(&record.event) {
            beginning = None;
        }
        if let Some(known) = known.filter(|known| known.position == head.position && known.hash != head.hash)
        {
            return Err(Fault::EndReplaced { position: known.position });
        }
        first.get_or_insert(head.position);
        previous = Some(head);
    }
    let head = previous.unwrap_or_else(Head::start);
    if beginning.is_some() {
        return Err(Fault::BeginningRemoved { first: first.unwrap_or_default() });
    }
    if let Some(known) = known.filter(|known| known.position > head.position) {
        return Err(Fault::EndRemoved { expected: known.position, found: head.position });
    }
    Ok(Verified { first: first.unwrap_or_else(|| head.position.saturating_add(1)), head })
}

/// The last dropped record, when an event says that records were dropped.
pub(crate) fn dropped(event: &serde_json::Value) -> Option<Head> {
    if event.get("kind")?.as_str()? != "records_dropped" {
        return None;
    }
    let hash = Hash::from(event.get("hash")?.as_str()?);
    Some(Head { position: event.get("through")?.as_u64()?, hash })
}
