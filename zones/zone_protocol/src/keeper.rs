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
    /// Of the record in the machine's mailbox, if there is one: what the firmware compares it with.
    pub record: Option<Digest>,
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
        /// What is measured.
        measured: Measured,
    },
}

/// `keeper` to `zoned`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromKeeper {
    /// The TPM holds what was measured; the message carries one descriptor: its data channel, for the VMM.
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
