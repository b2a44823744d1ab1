//! The one interface of `zoned`: Varlink, `org.bulkhead.Zones`, on the Unix socket [`SOCKET`].
//!
//! Desktop, tests and tools use this and nothing else. The types here are what crosses the wire; the
//! interface text ([`DESCRIPTION`]) is in `org.bulkhead.Zones.varlink` beside this crate, and a test holds
//! the two together. [`wire`] has calls and replies as bytes, for both ends; [`client`] is a client for a
//! plain thread or a poll loop. It never starts a thread and never waits unless its caller asks for that.

pub mod client;
mod pin;
pub mod wire;

pub use pin::{FEWEST_DIGITS, MOST_DIGITS, Pin};

use serde::{Deserialize, Serialize};

/// Path of the socket on the host.
pub const SOCKET: &str = "/run/bulkhead/zones";

/// The interface's name.
pub const INTERFACE: &str = "org.bulkhead.Zones";

/// The interface's text.
pub const DESCRIPTION: &str = include_str!("../org.bulkhead.Zones.varlink");

/// All that a user can see of the host, sent whole whenever it changed (`Monitor`), or once (`Status`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(zlink::introspect::CustomType))]
pub struct Status {
    /// The policy's name.
    pub policy: String,
    /// The policy is a demonstration.
    pub demo: bool,
    /// The uplink's state.
    pub uplink: Uplink,
    /// Zones in the policy's order.
    pub zones: Vec<Zone>,
    /// Whether there is a recovery key.
    pub recovery: Recovery,
    /// The display's lock.
    pub screen: Screen,
    /// What went wrong lately, newest last, at most 16.
    pub notices: Vec<Notice>,
}

/// Whether there is a recovery key, which opens zones when the machine's TPM cannot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(zlink::introspect::CustomType))]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, zlink(rename_all = "snake_case"))]
#[expect(missing_docs, reason = "the interface's text takes no words on variants")]
pub enum Recovery {
    #[default]
    None,
    // One was shown; nobody has said that it was noted.
    Shown,
    Noted,
}

/// The display's lock. Zones run on behind it; nothing is opened, ended or shown before it is lifted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(zlink::introspect::CustomType))]
pub struct Screen {
    /// It is locked.
    pub locked: bool,
    /// What lifts the lock.
    pub login: Login,
}

/// The NIC.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(zlink::introspect::CustomType))]
pub struct Uplink {
    /// Cable or radio is connected.
    pub carrier: bool,
    /// The address from DHCP, as text.
    pub address: Option<String>,
}

/// One zone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(zlink::introspect::CustomType))]
pub struct Zone {
    /// Its name.
    pub name: String,
    /// What the user reads.
    pub label: String,
    /// `red`, `orange`, `yellow`, `green`, `blue`, `purple`, `brown` or `grey`.
    pub colour: String,
    /// Where it is in its life.
    pub state: State,
    /// What opens it.
    pub login: Login,
    /// Its tunnel; `None`: the policy gives it no network.
    pub tunnel: Option<Tunnel>,
}

/// A zone's life.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(zlink::introspect::CustomType))]
pub struct State {
    /// The phase.
    pub phase: Phase,
    /// `Failed`, a `Stopped` that the user did not ask for, or a `Running` zone whose agent hung up: the reason in
    /// words.
    pub reason: Option<String>,
    /// The agent's version, while `Running`, `Paused`, `Locking` or `Locked`.
    pub agent: Option<String>,
    /// The user whose session is open in it, as its agent says. A zone without sessions has none.
    pub session: Option<String>,
}

/// What a user does to open a zone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(zlink::introspect::CustomType))]
pub struct Login {
    /// What is asked for.
    pub factor: Factor,
    /// Its PIN was chosen; `false`: the first one that is given will be it.
    pub chosen: bool,
    /// The PIN pad's digits change places at each use.
    pub shuffle: bool,
    /// Wrong PINs until the zone is locked, if the machine's TPM said so; 0: it is.
    pub tries_left: Option<u32>,
}

/// What a zone asks for beside the touch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(zlink::introspect::CustomType))]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, zlink(rename_all = "snake_case"))]
#[expect(missing_docs, reason = "the interface's text takes no words on variants")]
pub enum Factor {
    // Nothing: `Start`.
    #[default]
    Touch,
    // A PIN: `Open`.
    Pin,
}

/// Why a zone was not opened: each has its own way forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(zlink::introspect::CustomType))]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, zlink(rename_all = "snake_case"))]
#[expect(missing_docs, reason = "the interface's text takes no words on variants")]
pub enum Cause {
    // It asks for a PIN, and none was given.
    PinNeeded,
    // The PIN cannot be one.
    BadPin,
    // The PIN is another one; the TPM has counted it.
    WrongPin,
    // Too many wrong PINs.
    LockedOut,
    // The machine's measured state is not approved.
    NotApproved,
    // The machine has no TPM.
    TpmMissing,
    // The machine's TPM lost what it kept for this system.
    TpmCleared,
    // It is another machine's.
    TpmForeign,
    // Another system owns it.
    TpmOwned,
    // It refuses everything for a while.
    TpmBusy,
    // What is kept on the data disk was altered.
    Damaged,
    // The digits cannot be a recovery key.
    BadRecoveryKey,
    // The recovery key is another one.
    WrongRecoveryKey,
    // There was no recovery key when the zone was opened last.
    NoRecovery,
    // Anything else: the reason says it.
    Other,
}

/// Phase of a zone's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(zlink::introspect::CustomType))]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, zlink(rename_all = "snake_case"))]
#[expect(missing_docs, reason = "the names say it")]
pub enum Phase {
    Stopped,
    Starting,
    Running,
    Paused,
    // On its way to `Locked`.
    Locking,
    // It stands still, and the key of its disk is nowhere: `Open` or `Start` gives it back.
    Locked,
    Stopping,
    Failed,
}

/// A tunnel's state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(zlink::introspect::CustomType))]
pub struct Tunnel {
    /// A session with the gateway is valid.
    pub up: bool,
    /// Seconds since the last handshake.
    pub handshake_age_s: Option<u64>,
    /// Payload bytes out.
    pub sent_bytes: u64,
    /// Payload bytes in.
    pub received_bytes: u64,
    /// Why it is not up, in words.
    pub reason: Option<String>,
    /// The public half of its key, for the gateway's administrator: base64. The machine makes the key when the zone is
    /// opened for the first time; a demonstration's is not shown.
    pub public_key: Option<String>,
}

/// Something that went wrong, in a sentence for the user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(zlink::introspect::CustomType))]
pub struct Notice {
    /// Rises by one with each notice since `zoned` started.
    pub number: u64,
    /// `uplink`, `desktop`, `zoned`, or `vmm office`.
    pub process: String,
    /// The sentence.
    pub text: String,
}

/// What a check in a zone said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(zlink::introspect::CustomType))]
pub struct CheckResult {
    /// The check held.
    pub passed: bool,
    /// What it printed.
    pub output: String,
}

/// The most records of a page.
pub const MAX_AUDIT_RECORDS: u64 = 256;

/// Records of the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(zlink::introspect::CustomType))]
pub struct AuditPage {
    /// One line of JSON each, oldest first, exactly as they are kept.
    pub records: Vec<String>,
    /// The position to ask for next.
    pub next: u64,
    /// The log's last record.
    pub head: AuditHead,
}

/// A record's place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(zlink::introspect::CustomType))]
pub struct AuditHead {
    /// From 1 on; 0: there is none.
    pub position: u64,
    /// Its hash.
    pub hash: String,
}

#[cfg(test)]
mod tests;
