//! What `zoned` hands to a VMM process, and what it hears from it.
//!
//! Descriptors that a VMM process is given, by name (see `jail::inherited`): `kvm` (/dev/kvm), `config` (a
//! sealed memfd with a postcard [`Config`]), `events` (an `ipc` channel on which the VMM sends [`Event`] and
//! receives [`Command`]), `firmware` (an ELF file with a PVH entry, which starts the kernel), `kernel`, `initrd`,
//! `disk0`... (regular files or block devices, but for those that come late; the order is that of [`Config::disks`]), `net` (vhost-user stream to this zone's `vpnd`, when [`Config::network`]), `agent`
//! (an `ipc` channel: for each connection of the guest to the agent's vsock port the VMM makes a stream
//! socket pair and sends [`Connected`] with one end), `console` (write end of a pipe: the guest's console).

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

/// Everything about a machine that is not a descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The zone's name, for log lines only.
    pub zone: String,
    /// Guest memory, in MiB.
    pub memory_mib: u32,
    /// Number of virtual processors, 1..=8.
    pub vcpus: u8,
    /// The kernel's command line, as in the template.
    pub command_line: String,
    /// One entry per `diskN` descriptor.
    pub disks: Vec<Disk>,
    /// The MAC address of the zone's NIC; `None`: the machine has no NIC at all.
    pub network: Option<[u8; 6]>,
    /// What the firmware of a machine without a TPM finds in its mailbox at each start, resets included. `None`: the
    /// machine has a TPM, and each of its starts waits for [`Command::Tpm`], which brings its own record.
    pub record: Option<LoginRecord>,
}

/// A login record, as `handover::record` defines it. It is wiped when it goes, and not printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginRecord(pub Vec<u8>);

impl fmt::Debug for LoginRecord {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("LoginRecord").finish_non_exhaustive()
    }
}

impl Drop for LoginRecord {
    fn drop(&mut self) {
        self.0.as_mut_slice().zeroize();
    }
}

/// One block device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Writes are refused by the device.
    pub read_only: bool,
    /// What the guest reads as the device's serial, at most 20 ASCII bytes: `template`, `private`.
    pub serial: String,
    /// It comes with the first [`Command::Tpm`], not as a descriptor at the start: what opens it is known only then.
    pub late: bool,
}

/// VMM to `zoned`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The first instruction is about to run. Comes again each time that the guest reset itself: the machine is
    /// as at power-on then, and the agent connects once more.
    Started,
    /// No virtual processor runs until [`Command::Resume`]; answers [`Command::Pause`].
    Paused,
    /// The virtual processors run again; answers [`Command::Resume`].
    Resumed,
    /// The network back end hung up; the device waits for [`Command::Network`].
    NetworkLost,
    /// The machine ended; the process exits after this.
    Ended(End),
    /// The host's file behind a disk failed, and a request of the guest with it. Not sent for every request: a guest
    /// may repeat what fails.
    DiskFailed {
        /// The disk's serial.
        disk: String,
        /// There was no room for it; otherwise it could not be read or written.
        full: bool,
    },
    /// A machine with a TPM is loaded, for the first time or because the guest reset itself: its first instruction waits
    /// for [`Command::Tpm`].
    TpmWanted,
}

/// How a machine ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// The guest powered itself off.
    ShutDown,
    /// The guest asked for a reset. The VMM carries it out itself and goes on with [`Event::Started`]: this
    /// reason does not leave its process.
    Reset,
    /// The guest's kernel panicked.
    Panic,
    /// The machine cannot go on: the reason in words (triple fault, KVM error, device failure).
    Failed(String),
}

/// `zoned` to VMM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Stop all virtual processors between two instructions.
    Pause,
    /// Let them go on.
    Resume,
    /// Connect the network device to a new back end; one descriptor comes with the message: a vhost-user stream.
    Network,
    /// End the machine at once, without asking the guest.
    Kill,
    /// Answers [`Event::TpmWanted`]; two descriptors come with the message: the data channel of a TPM that began anew (a
    /// stream of commands and responses), and a pipe with the login record of this start. At the first start the disks
    /// that are late follow, in order.
    Tpm,
}

/// Sent on the `agent` channel with one stream socket: the guest connected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connected {
    /// The vsock port that the guest named.
    pub port: u32,
}
