//! What is worth a record.

use serde::{Deserialize, Serialize};

/// The longest text in an event, in characters.
const MAX_TEXT: usize = 300;

/// Something that happened on the host. A zone that it concerns stands beside it in the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// `zoned` began to write: the host has booted, or `zoned` was started again.
    LogOpened,
    /// The log ended in the middle of a record: the machine lost power while it was written. What was there of it
    /// was cut off.
    RecordTorn {
        /// Bytes that were cut off.
        bytes: u64,
    },
    /// Records that are older than this one do not verify.
    ChainBroken {
        /// What [`crate::verify`] said.
        fault: String,
    },
    /// The log was full: its oldest records were dropped.
    RecordsDropped {
        /// Position of the last one that was dropped.
        through: u64,
        /// Its hash, which the first record that is left names as the one before it.
        hash: String,
    },
    /// Events came faster than they are written, or could not be written.
    EventsLost {
        /// How many, since the record before.
        count: u64,
    },
    /// A zone's agent answered: it runs.
    ZoneStarted,
    /// A zone is off.
    ZoneStopped {
        /// Why, when the user did not ask for it.
        cause: Option<String>,
    },
    /// A zone could not start or go on.
    ZoneFailed {
        /// Why.
        cause: String,
    },
    /// A process ended that nobody had told to end.
    ProcessDied {
        /// `vmm`, `vpnd`, or a service of the host.
        process: String,
        /// How it ended.
        cause: String,
    },
    /// A process was killed for a system call that its profile does not allow.
    ForbiddenSystemCall {
        /// `vmm`, `vpnd`, or a service of the host.
        process: String,
    },
    /// A process was not started, because a wall around it could not be built.
    ContainmentFailed {
        /// `vmm` or `vpnd`.
        process: String,
        /// What could not be done.
        reason: String,
    },
    /// A template was not used.
    TemplateRefused {
        /// What is wrong with it.
        reason: String,
    },
    /// A client asked for something that it did not get.
    RequestRefused {
        /// The method.
        request: String,
        /// The answer.
        reason: String,
    },
    /// Something is wrong with the policy or what belongs to it.
    PolicyFinding {
        /// The sentence.
        finding: String,
    },
    /// Somebody asked for the host to power off.
    PowerOff,
}

/// Who causes an event decides how many of its kind are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The host's own doing, and what ends there.
    Host,
    /// Whatever a client's calls alone can cause.
    Client,
}

impl Event {
    /// Who causes it.
    #[must_use]
    pub fn origin(&self) -> Origin {
        if matches!(self, Self::RequestRefused { .. }) { Origin::Client } else { Origin::Host }
    }
}

/// A text for an event: printable, on one line, of bounded length.
#[must_use]
pub fn text(words: &str) -> String {
    words.chars().take(MAX_TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
