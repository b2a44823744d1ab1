//! What `zoned` keeps with `init` while zones run, and what the next `zoned` is told. Pure but for copying
//! descriptors.
//!
//! Bounded: one entry a slot, [`MAX_STORED_DESCRIPTORS`] and [`MAX_STORED_STATE`] an entry, one death a user.
//! It never reads the state.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

use init_protocol::{Event, ExitCause, MAX_STORED_DESCRIPTORS, MAX_STORED_STATE, MAX_ZONES};

/// The longest name of a descriptor.
const LONGEST_NAME: usize = 16;

/// Why nothing was stored. What was stored before is gone then, too: it would be of an earlier time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StoreError {
    /// The slot is not within the table.
    #[error("slot {0} is not below {MAX_ZONES}")]
    Slot(u8),
    /// Too much state.
    #[error("state of {0} bytes, at most {MAX_STORED_STATE} are stored")]
    State(usize),
    /// Too many descriptors, or not one for each name.
    #[error("{names} names came with {descriptors} descriptors, at most {MAX_STORED_DESCRIPTORS} are stored")]
    Count {
        /// Names in the request.
        names: usize,
        /// Descriptors beside it.
        descriptors: usize,
    },
    /// A name could be mistaken, or comes twice.
    #[error("name {0} of the list is not [a-z0-9]{{1,16}}, or comes twice")]
    Name(usize),
}

#[derive(Debug)]
struct Entry {
    state: Vec<u8>,
    names: Vec<String>,
    descriptors: Vec<OwnedFd>,
}

/// Everything that is kept.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    by_slot: BTreeMap<u8, Entry>,
    /// How the last process of a user that is gone ended.
    gone: BTreeMap<u32, (u32, ExitCause)>,
}

impl Stored {
    /// Keeps this for a slot.
    ///
    /// # Errors
    /// [`StoreError`]; the slot has nothing stored then.
    pub(crate) fn store(
        &mut self,
        slot: u8,
        state: Vec<u8>,
        names: Vec<String>,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), StoreError> {
        self.by_slot.remove(&slot);
        if slot >= MAX_ZONES {
            return Err(StoreError::Slot(slot));
        }
        if state.len() > MAX_STORED_STATE {
            return Err(StoreError::State(state.len()));
        }
        if names.len() != descriptors.len() || names.len() > MAX_STORED_DESCRIPTORS {
            return Err(StoreError::Count { names: names.len(), descriptors: descriptors.len() });
        }
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        for (place, name) in (1..).zip(&names) {
            let twice = names.iter().filter(|other| *other == name).count() > 1;
            if twice || name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(plain) {
                return Err(StoreError::Name(place));
            }
        }
        self.by_slot.insert(slot, Entry { state, names, descriptors });
        Ok(())
    }

    /// Forgets what a slot has.
    pub(crate) fn discard(&mut self, slot: u8) {
        self.by_slot.remove(&slot);
    }

    /// A process of a zone is gone: the next `zoned` hears of it, in case the present one did not.
    pub(crate) fn note_exit(&mut self, user: u32, process: u32, cause: ExitCause) {
        self.gone.insert(user, (process, cause));
    }

    /// What a new `zoned` is told about the past, beside the processes that live ([`Event::Lives`]).
    ///
    /// # Errors
    /// A descriptor cannot be copied.
    pub(crate) fn tell(&self) -> io::Result<Vec<(Event, Vec<OwnedFd>)>> {
        let mut events = Vec::new();
        for (slot, entry) in &self.by_slot {
            let copies = entry.descriptors.iter().map(OwnedFd::try_clone).collect::<io::Result<Vec<_>>>()?;
            let (state, names) = (entry.state.clone(), entry.names.clone());
            events.push((Event::Stored { slot: *slot, state, names }, copies));
        }
        let gone = self.gone.values();
        events.extend(
            gone.map(|(process, cause)| (Event::Exited { process: *process, cause: *cause }, Vec::new())),
        );
        Ok(events)
    }
}

#[cfg(test)]
mod tests;
