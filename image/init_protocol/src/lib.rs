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
    /// How much memory the guest of the zone in `slot` has: bounds the zone's control group. Comes before the
    /// first [`Request::Spawn`] of a slot, which is refused without it.
    Limit {
        /// The zone's place in the policy.
        slot: u8,
        /// The guest's memory in MiB.
        memory_mib: u32,
    },
    /// Make the private disk of a disposable zone: empty, under a key that `init` draws, never stores and never
    /// hands out. Answered by [`Event::DiskOpened`] or [`Event::DiskRefused`]. A disk that the slot had is
    /// closed before.
    OpenDisposable {
        /// The zone's place in the policy.
        slot: u8,
        /// The zone's name, for messages.
        zone: String,
        /// Size of the disk in MiB.
        size_mib: u32,
    },
    /// Close the slot's disk, if it has one: mapping, key and space are gone when the last process that has it
    /// open is. `init` does the same by itself when the slot's VMM ends.
    CloseDisk {
        /// The zone's place in the policy.
        slot: u8,
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
    /// The slot's disk is there; the message carries one descriptor: a block device, for the VMM.
    DiskOpened {
        /// The slot from the request.
        slot: u8,
    },
    /// There is no disk: the reason in words.
    DiskRefused {
        /// The slot from the request.
        slot: u8,
        /// A lower-case fragment.
        reason: String,
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
