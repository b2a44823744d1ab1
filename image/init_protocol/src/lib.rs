//! What `zoned` may ask of `init`, and what `init` tells it.
//!
//! `init` alone creates processes. `zoned` holds an `ipc` channel to it (descriptor `init`) and asks by
//! profile and zone; what the process may do is decided by `init`'s table, never by the request.
//!
//! `zoned` may die while zones run. For each of them it stores what the next `zoned` needs ([`Request::Store`]);
//! that one is told first what was stored, which processes live and how the others ended, up to
//! [`Event::HandedOver`], and takes the zones over.

pub mod restarts;

use serde::{Deserialize, Serialize};

/// The most zones that one host runs: each has its own users.
pub const MAX_ZONES: u8 = 32;

/// The most descriptors that are stored for one zone.
pub const MAX_STORED_DESCRIPTORS: usize = 8;

/// The largest state that is stored for one zone, in bytes.
pub const MAX_STORED_STATE: usize = 8192;

/// Bytes of the audit log's file, which `init` makes once in full.
pub const AUDIT_LOG_BYTES: u64 = 1 << 20;

/// Per-zone profiles of `init`'s table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ZoneProfile {
    /// The virtual machine monitor of one zone.
    Vmm,
    /// The tunnel process of one zone.
    Vpnd,
    /// The virtual TPM of one zone: a foreign program. It takes no descriptor of `zoned`'s: `init` makes its control
    /// channel and the way of its key, and gives the other ends to `keeper`.
    Swtpm,
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
    /// Open the private disk of a zone, whose key `keeper` gave to `init` before it told `zoned` that the zone's TPM is
    /// ready. The message carries one descriptor: the disk's file, to read and write. Answered by [`Event::DiskOpened`]
    /// or [`Event::DiskRefused`].
    OpenPrivate {
        /// The zone's place in the policy.
        slot: u8,
        /// The zone's name, for messages.
        zone: String,
    },
    /// Close the slot's disk, if it has one: mapping, key and space are gone when the last process that has it
    /// open is. `init` does the same by itself when the slot's VMM ends.
    CloseDisk {
        /// The zone's place in the policy.
        slot: u8,
    },
    /// Hold the slot's disk and wipe its key; what its VMM asks of it waits. Answered by [`Event::DiskLocked`].
    LockDisk {
        /// The zone's place in the policy.
        slot: u8,
    },
    /// Give the slot's disk its key back, which `keeper` gave to `init` before. Answered by [`Event::DiskUnlocked`].
    UnlockDisk {
        /// The zone's place in the policy.
        slot: u8,
    },
    /// Keep descriptors and state of a running zone for the next `zoned`, in place of what was kept before. The
    /// message carries one descriptor for each of `names`.
    Store {
        /// The zone's place in the policy.
        slot: u8,
        /// What `zoned` knows of the zone; `init` does not read it. At most [`MAX_STORED_STATE`] bytes.
        state: Vec<u8>,
        /// Names of the descriptors, at most [`MAX_STORED_DESCRIPTORS`], each `[a-z0-9]{1,16}`.
        names: Vec<String>,
    },
    /// Forget what is stored for a zone: it has no process any more.
    Discard {
        /// The zone's place in the policy.
        slot: u8,
    },
    /// Power the machine off, in order. Also the answer to [`Event::ShuttingDown`]: every zone has ended.
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
        /// A wall of its jail could not be built.
        containment: bool,
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
    /// The answer to [`Request::LockDisk`].
    DiskLocked {
        /// The slot from the request.
        slot: u8,
        /// It is not, for this reason: a lower-case fragment.
        refused: Option<String>,
    },
    /// The answer to [`Request::UnlockDisk`].
    DiskUnlocked {
        /// The slot from the request.
        slot: u8,
        /// It is not, for this reason: a lower-case fragment.
        refused: Option<String>,
    },
    /// To a new `zoned`: what the one before stored for a zone. The message carries the descriptors.
    Stored {
        /// The zone's place in the policy.
        slot: u8,
        /// As in [`Request::Store`].
        state: Vec<u8>,
        /// Names of the descriptors, in order.
        names: Vec<String>,
    },
    /// To a new `zoned`: a process that was started for an earlier one lives.
    Lives {
        /// Its number.
        process: u32,
        /// Its row of the table.
        profile: ZoneProfile,
        /// Its zone's place in the policy.
        slot: u8,
        /// Its zone's name.
        zone: String,
        /// Its process id on the host.
        pid: u32,
    },
    /// To a new `zoned`: all of the past was told. Every [`Event::Stored`] and [`Event::Lives`], and the
    /// [`Event::Exited`] of each slot's and profile's last process that is gone, came before.
    HandedOver,
    /// The machine goes down (the power button): `zoned` ends its zones and then says [`Request::PowerOff`].
    /// `init` kills what is left after this time.
    ShuttingDown {
        /// In milliseconds.
        patience_ms: u32,
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

/// `keeper` to `init`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromKeeper {
    /// The key of a zone's private disk. The message carries one descriptor: a pipe with [`DISK_KEY_BYTES`] in it, which
    /// `init` reads when it opens the disk, and forgets with the zone's TPM.
    DiskKey {
        /// The zone's place in the policy.
        slot: u8,
    },
}

/// Bytes of a disk's key: two keys of AES-256, one for XTS's tweak.
pub const DISK_KEY_BYTES: usize = 64;

/// `init` to `keeper`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToKeeper {
    /// The virtual TPM of a zone was started, and waits for the key of its state. The message carries two descriptors:
    /// its control channel (a stream), and the pipe into which its key goes.
    TpmStarted {
        /// The zone's place in the policy.
        slot: u8,
        /// The zone's name.
        zone: String,
        /// Its state was emptied: nothing of the zone is kept.
        disposable: bool,
    },
    /// To a `keeper` that was started again: the virtual TPM of a zone was started for the one before, and lives. The
    /// message carries one descriptor: its control channel.
    TpmLives {
        /// The zone's place in the policy.
        slot: u8,
        /// The zone's name.
        zone: String,
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
