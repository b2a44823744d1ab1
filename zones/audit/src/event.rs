//! What is worth a record.

use serde::{Deserialize, Serialize};

/// The longest text in an event, in characters.
const MAX_TEXT: usize = 300;

/// Something that happened on the host. A zone that it concerns stands beside it in the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// `zoned` began to write.
    ZonedStarted {
        /// The host has been running since an earlier `zoned`; otherwise it has just booted.
        again: bool,
    },
    /// The log ended in the middle of a record: the machine lost power while it was written. What was there of it
    /// was cut off.
    RecordTorn {
        /// Bytes that were cut off.
        bytes: u64,
    },
    /// Records that are older than this one do not verify.
    ChainBroken {
        /// What [`crate::verify()`] said.
        fault: String,
    },
    /// The log was full: its oldest records were dropped.
    RecordsDropped {
        /// Position of the last one that was dropped.
        through: u64,
        /// Its hash, which the first record that is left names as the one before it.
        hash: String,
    },
    /// Events came faster than the host itself causes them, or could not be written.
    EventsLost {
        /// How many, since the record before.
        count: u64,
    },
    /// The zone had used up its budget for events of a kind: these were counted, not written.
    MoreOfTheSame {
        /// The kind.
        of: String,
        /// How many since the last record of that kind.
        count: u64,
    },
    /// The policy that decides from now on.
    PolicyLoaded {
        /// Its name.
        policy: String,
        /// SHA-256 of its file.
        sha256: String,
    },
    /// Something is wrong with the policy or what belongs to it.
    PolicyFinding {
        /// The sentence.
        finding: String,
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
    /// A zone stands still, and the key of its disk is nowhere.
    ZoneLocked,
    /// Its user has opened it again.
    ZoneUnlocked,
    /// The display was locked.
    ScreenLocked,
    /// Its user lifted the lock.
    ScreenUnlocked,
    /// A zone ran on while `zoned` did not.
    ZoneTakenOver,
    /// A zone that ran was ended because a new `zoned` did not find it as it was left.
    ZoneNotTakenOver {
        /// What was not as it should be.
        reason: String,
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
    /// A process was not started, for another reason.
    ProcessRefused {
        /// `vmm` or `vpnd`.
        process: String,
        /// Why.
        reason: String,
    },
    /// A zone was not started: its template is unsigned, altered, too old or not there.
    TemplateRefused {
        /// What is wrong with it.
        reason: String,
    },
    /// A zone was not started: the host lacks something.
    StartRefused {
        /// What, and what to do.
        reason: String,
    },
    /// A client asked for something that it did not get.
    RequestRefused {
        /// The method.
        request: String,
        /// The answer.
        reason: String,
    },
    /// The host goes down in order.
    PowerOff {
        /// `client` or `power button`.
        by: String,
    },
}

/// Who causes an event decides how many of its kind are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The host's own doing.
    Host,
    /// What a zone's guest, or a client's calls alone, can cause as often as they like.
    Stranger,
}

impl Event {
    /// Who causes it.
    #[must_use]
    pub fn origin(&self) -> Origin {
        match self {
            Self::ZoneStarted
            | Self::ZoneStopped { .. }
            | Self::ZoneFailed { .. }
            | Self::ZoneLocked
            | Self::ZoneUnlocked
            | Self::ScreenLocked
            | Self::ScreenUnlocked
            | Self::ProcessDied { .. }
            | Self::ForbiddenSystemCall { .. }
            | Self::ContainmentFailed { .. }
            | Self::ProcessRefused { .. }
            | Self::TemplateRefused { .. }
            | Self::StartRefused { .. }
            | Self::RequestRefused { .. } => Origin::Stranger,
            Self::ZonedStarted { .. }
            | Self::RecordTorn { .. }
            | Self::ChainBroken { .. }
            | Self::RecordsDropped { .. }
            | Self::EventsLost { .. }
            | Self::MoreOfTheSame { .. }
            | Self::PolicyLoaded { .. }
            | Self::PolicyFinding { .. }
            | Self::ZoneTakenOver
            | Self::ZoneNotTakenOver { .. }
            | Self::PowerOff { .. } => Origin::Host,
        }
    }

    /// Its name in a record.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ZonedStarted { .. } => "zoned_started",
            Self::RecordTorn { .. } => "record_torn",
            Self::ChainBroken { .. } => "chain_broken",
            Self::RecordsDropped { .. } => "records_dropped",
            Self::EventsLost { .. } => "events_lost",
            Self::MoreOfTheSame { .. } => "more_of_the_same",
            Self::PolicyLoaded { .. } => "policy_loaded",
            Self::PolicyFinding { .. } => "policy_finding",
            Self::ZoneStarted => "zone_started",
            Self::ZoneStopped { .. } => "zone_stopped",
            Self::ZoneFailed { .. } => "zone_failed",
            Self::ZoneLocked => "zone_locked",
            Self::ZoneUnlocked => "zone_unlocked",
            Self::ScreenLocked => "screen_locked",
            Self::ScreenUnlocked => "screen_unlocked",
            Self::ZoneTakenOver => "zone_taken_over",
            Self::ZoneNotTakenOver { .. } => "zone_not_taken_over",
            Self::ProcessDied { .. } => "process_died",
            Self::ForbiddenSystemCall { .. } => "forbidden_system_call",
            Self::ContainmentFailed { .. } => "containment_failed",
            Self::ProcessRefused { .. } => "process_refused",
            Self::TemplateRefused { .. } => "template_refused",
            Self::StartRefused { .. } => "start_refused",
            Self::RequestRefused { .. } => "request_refused",
            Self::PowerOff { .. } => "power_off",
        }
    }

    /// What its user should still know of it when `zoned` has started again: a sentence. `None`: nothing went
    /// wrong, or the new `zoned` says it by itself.
    #[must_use]
    pub fn notice(&self, zone: Option<&str>) -> Option<(String, String)> {
        let name = zone.unwrap_or("host");
        match self {
            Self::ZoneFailed { cause } => {
                Some((format!("vmm {name}"), format!("Zone {name} failed. {cause}")))
            }
            Self::ProcessDied { process, cause } if zone.is_some() => Some((
                format!("{process} {name}"),
                format!("The process {process} of zone {name} was lost: {cause}."),
            )),
            Self::ForbiddenSystemCall { process } => Some((
                format!("{process} {name}"),
                format!("The process {process} of {name} made a forbidden system call."),
            )),
            Self::ZoneNotTakenOver { reason } => Some((
                "zoned".to_owned(),
                format!("Zone {name} was ended when zoned started again: {reason}."),
            )),
            Self::ChainBroken { fault } => {
                Some(("zoned".to_owned(), format!("The audit log was altered: {fault}.")))
            }
            Self::ZonedStarted { .. }
            | Self::RecordTorn { .. }
            | Self::RecordsDropped { .. }
            | Self::EventsLost { .. }
            | Self::MoreOfTheSame { .. }
            | Self::PolicyLoaded { .. }
            | Self::PolicyFinding { .. }
            | Self::ZoneStarted
            | Self::ZoneStopped { .. }
            | Self::ZoneLocked
            | Self::ZoneUnlocked
            | Self::ScreenLocked
            | Self::ScreenUnlocked
            | Self::ZoneTakenOver
            | Self::ProcessDied { .. }
            | Self::ContainmentFailed { .. }
            | Self::ProcessRefused { .. }
            | Self::TemplateRefused { .. }
            | Self::StartRefused { .. }
            | Self::RequestRefused { .. }
            | Self::PowerOff { .. } => None,
        }
    }
}

/// A text for an event: printable, on one line, of bounded length.
#[must_use]
pub fn text(words: &str) -> String {
    words.chars().take(MAX_TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
