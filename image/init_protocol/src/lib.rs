//! What `zoned` may ask of `init`, and what `init` tells it.
//!
//! `init` alone creates processes. `zoned` holds an `ipc` channel to it (descriptor `init`) and asks by
//! profile and zone; what the process may do is decided by `init`'s table, never by the request.

use serde::{Deserialize, Serialize};

/// The most zones that one host runs: each has its own users.
pub const MAX_ZONES: u8 = 32;

/// Per-zone profiles of `init`'s table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ZoneProfile {
    /// The virtual machine monitor of one zone.
    Vmm,
    /// The tunnel process of one zone.
    Vpnd,
}

/// `zoned` to `init`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Start a process; the message carries one descriptor for each of `descriptors`.
    Spawn {
        /// Chosen by `zoned`, comes back in [`Event::Spawned`] or [`Event::Refused`], and names the process
        /// from then on. Never used twice.
        process: u32,
        /// Which row of the table.
        profile: ZoneProfile,
        /// The zone's place in the policy, below [`MAX_ZONES`]: decides the user.
        slot: u8,
        /// The zone's name, for logs and messages: `[a-z0-9-]{1,32}`.
        zone: String,
        /// Names of the descriptors, in the order in which the message carries them.
        descriptors: Vec<String>,
    },
    /// Kill a process that was started by [`Request::Spawn`]; answered by its [`Event::Exited`].
    Kill {
        /// Its number.
        process: u32,
    },
    /// Power the machine off, in order.
    PowerOff,
}

/// `init` to `zoned`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The process runs in its jail.
    Spawned {
        /// The number from the request.
        process: u32,
        /// Its process id on the host.
        pid: u32,
    },
    /// The process was not started: the reason in words.
    Refused {
        /// The number from the request.
        process: u32,
        /// A lower-case fragment.
        reason: String,
    },
    /// The process is gone.
    Exited {
        /// The number from the request.
        process: u32,
        /// How it ended.
        cause: ExitCause,
    },
    /// A service of the host died.
    ServiceExited {
        /// `uplink`, `desktop`, `zoned` (a message to the next `zoned`).
        service: String,
        /// How it ended.
        cause: ExitCause,
        /// Whether `init` starts it again, or has given up for this boot.
        restarts: bool,
    },
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitCause {
    /// It returned this code.
    Code(i32),
    /// It was killed by this signal.
    Signal(i32),
    /// It made a system call that its profile does not allow.
    ForbiddenSystemCall,
}

impl std::fmt::Display for ExitCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(0) => write!(f, "ended by itself"),
            Self::Code(code) => write!(f, "ended with code {code}"),
            Self::Signal(signal) => write!(f, "killed by signal {signal}"),
            Self::ForbiddenSystemCall => write!(f, "made a forbidden system call"),
        }
    }
}
