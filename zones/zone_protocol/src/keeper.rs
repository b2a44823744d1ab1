//! What `zoned` asks of `keeper`, and what it hears from it: one `ipc` channel for all zones.

use serde::{Deserialize, Serialize};

/// SHA-256.
pub type Digest = [u8; 32];

/// What goes into a zone's TPM before its first instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// Of the kernel's file: PCR 4.
    pub kernel: Digest,
    /// Of the kernel's command line: PCR 8.
    pub command_line: Digest,
    /// Of the initrd's file: PCR 9.
    pub initrd: Digest,
}

/// What a zone begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// What is measured.
    pub measured: Measured,
    /// The name of its template: what the zone's TPM keeps opens for this one only.
    pub template: String,
    /// The template's `approval` file.
    pub approval: Vec<u8>,
    /// Whose session is opened.
    pub user: String,
    /// Folders that lie on the private disk.
    pub keep: Vec<String>,
}

/// `zoned` to `keeper`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToKeeper {
    /// Begin the TPM of a zone anew and measure: at the zone's start and at each reset of its guest. Its process was
    /// started before.
    Begin {
        /// The zone's place in the policy.
        slot: u8,
        /// Comes back in the answer.
        number: u32,
        /// What the zone begins with.
        start: Start,
        /// Give `init` the key of the zone's private disk.
        disk: bool,
    },
}

/// `keeper` to `zoned`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromKeeper {
    /// The TPM holds what was measured; the message carries two descriptors: its data channel and a pipe with the login
    /// record of this start, both for the VMM. If that was asked for, `init` has the key of
    /// the zone's private disk by now.
    Ready {
        /// The slot from the request.
        slot: u8,
        /// The number from the request.
        number: u32,
    },
    /// There is no such TPM for this start.
    Failed {
        /// The slot from the request.
        slot: u8,
        /// The number from the request.
        number: u32,
        /// Follows "the virtual TPM".
        reason: String,
    },
}
