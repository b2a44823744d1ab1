//! Finds any record that was altered, removed or reordered.

use crate::record::{Hash, Head, Unread, read};

/// What is wrong with a log. `record` is the position that the faulty line should have; lines are counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A line that is no record, or whose content and hash do not belong together.
    #[error("record {record} (line {line}) was altered: expected {expected}, found {found}")]
    Altered {
        /// The line.
        line: usize,
        /// The record.
        record: u64,
        /// What its content hashes to.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// A position that does not follow the one before it.
    #[error(
        "record {expected} (line {line}) is missing: expected record {expected}, found record {found}: records were \
         removed or reordered"
    )]
    OutOfOrder {
        /// The line.
        line: usize,
        /// The position that must come here.
        expected: u64,
        /// The position that stands here.
        found: u64,
    },
    /// A record that follows another one than the one before it.
    #[error(
        "record {record} (line {line}) follows another record than the one before it: expected {expected}, found {found}"
    )]
    Foreign {
        /// The line.
        line: usize,
        /// The record.
        record: u64,
        /// The hash of the record before it.
        expected: String,
        /// The hash that it names.
        found: String,
    },
    /// The first records are missing, and no record says that they were dropped.
    #[error(
        "records before record {first} were removed: expected a record that says that they were dropped, found none"
    )]
    BeginningRemoved {
        /// The first position that is there.
        first: u64,
    },
    /// The log does not end with the record that it is known to end with.
    #[error(
        "the end was removed: expected record {expected}, which is known to exist, found {found} as the last one"
    )]
    EndRemoved {
        /// The position that is known.
        expected: u64,
        /// The last position that is there.
        found: u64,
    },
    /// The log has another record at a position that is known.
    #[error(
        "record {position} is another one than the one that is known: expected {expected}, found {found}"
    )]
    EndReplaced {
        /// The position.
        position: u64,
        /// The hash that is known.
        expected: String,
        /// Its hash here.
        found: String,
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
        let next = previous.as_ref().map_or(1, |before: &Head| before.position.saturating_add(1));
        let (record, head) = read(bytes).map_err(|Unread { expected, found }| Fault::Altered {
            line,
            record: next,
            expected,
            found,
        })?;
        match &previous {
            Some(before) => {
                if record.position != next {
                    return Err(Fault::OutOfOrder { line, expected: next, found: record.position });
                }
                if record.previous != before.hash {
                    return Err(Fault::Foreign {
                        line,
                        record: next,
                        expected: before.hash.as_str().to_owned(),
                        found: record.previous.as_str().to_owned(),
                    });
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
            return Err(Fault::EndReplaced {
                position: known.position,
                expected: known.hash.as_str().to_owned(),
                found: head.hash.as_str().to_owned(),
            });
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
