//! What `zoned` asks of `keeper`, and what it hears from it: one `ipc` channel for all zones.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// What a zone begins with. Its digests are not in here: `keeper` takes them from the manifest, whose signature it checks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// The name of its template: what the zone's TPM keeps opens for this one only.
    pub template: String,
    /// The template's manifest.
    pub manifest: Vec<u8>,
    /// The manifest's signature.
    pub signature: Vec<u8>,
    /// The template's `approval` file.
    pub approval: Vec<u8>,
    /// Whose session is opened.
    pub user: String,
    /// Folders that lie on the private disk.
    pub keep: Vec<String>,
}

/// What a user typed: never printed, and wiped when dropped.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digits(pub Zeroizing<String>);

impl fmt::Debug for Digits {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Digits(..)")
    }
}

/// What the policy has a zone ask for beside the touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Factor {
    /// Nothing.
    Touch,
    /// A PIN.
    Pin {
        /// So many wrong ones in a row lock the zone.
        tries: u8,
    },
}

/// What is known of a zone that is not open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinState {
    /// It has one: whatever the policy says now, it is needed once more.
    pub chosen: bool,
    /// Wrong ones until the zone is locked, if the TPM said so.
    pub tries_left: Option<u32>,
    /// The public half of its tunnel's key, once it was opened for the first time.
    pub public_key: Option<[u8; 32]>,
}

/// Whether there is a recovery key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Recovery {
    /// None was made, or nothing is known yet.
    #[default]
    None,
    /// One was shown, and nobody has said that it was noted.
    Shown,
    /// Its user has noted it.
    Noted,
}

/// What came of a request about the recovery key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RecoveryAnswer {
    /// How things are.
    State,
    /// A new one, to be shown.
    Key(Digits),
    /// It was noted.
    Noted,
    /// A sentence.
    Refused(String),
}

/// What stands between a user and a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// It asks for a PIN, and none was given.
    PinNeeded,
    /// The PIN cannot be one.
    BadPin,
    /// The PIN is another one; the TPM has counted it.
    WrongPin,
    /// Too many wrong PINs.
    LockedOut,
    /// The machine's measured state is not approved.
    NotApproved,
    /// The machine has no TPM.
    TpmMissing,
    /// The machine's TPM lost what it kept for this system.
    TpmCleared,
    /// It is another machine's.
    TpmForeign,
    /// Another system owns it.
    TpmOwned,
    /// It refuses everything for a while.
    TpmBusy,
    /// What is kept on the data disk was altered.
    Damaged,
    /// The digits cannot be a recovery key.
    BadRecoveryKey,
    /// The recovery key is another one.
    WrongRecoveryKey,
    /// There was no recovery key when the zone was opened last.
    NoRecovery,
    /// Anything else.
    Other,
}

/// The display's lock, in place of a zone's name: it has a PIN of its own, and nothing behind it. No zone is called so.
pub const SCREEN: &str = "@screen";

/// What something is opened for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// A start follows, or it is forgotten after [`OPEN_FOR`]. With the answer comes the private key of the zone's tunnel,
    /// if that is wanted.
    Start {
        /// It is.
        tunnel: bool,
    },
    /// The zone was locked: `init` gets the key of its disk again.
    Unlock,
    /// To see that its user may: nothing follows.
    Proof,
    /// To give it another PIN.
    NewPin(Digits),
}

/// What was opened stays so for this long.
pub const OPEN_FOR: std::time::Duration = std::time::Duration::from_secs(30);

/// `zoned` to `keeper`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToKeeper {
    /// Have the machine's TPM give out what a zone needs.
    Open {
        /// The zone's place in the policy.
        slot: u8,
        /// Comes back in the answer.
        number: u32,
        /// Its name.
        zone: String,
        /// What the policy asks for.
        factor: Factor,
        /// What the user typed.
        pin: Option<Digits>,
        /// What it is opened for.
        purpose: Purpose,
        /// The recovery key, in place of what the machine's TPM keeps. The PIN is the zone's new one then.
        recovery: Option<Digits>,
    },
    /// Forget what opens the TPM of a zone that stands still. Its disk's key comes back by [`Purpose::Unlock`] alone.
    Lock {
        /// The zone's place in the policy.
        slot: u8,
        /// Comes back in the answer.
        number: u32,
    },
    /// Say whether there is a recovery key.
    AskRecovery,
    /// Make a recovery key.
    NewRecoveryKey {
        /// Comes back in the answer.
        number: u32,
    },
    /// The user has noted it, and typed it.
    NoteRecoveryKey {
        /// Comes back in the answer.
        number: u32,
        /// What was typed.
        key: Digits,
    },
    /// Say what is known of a zone's PIN.
    AskPin {
        /// The zone's place in the policy.
        slot: u8,
        /// Its name.
        zone: String,
    },
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
    /// What the zone needs is there. With it comes the private key of its tunnel, if that was asked for: 32 bytes in sealed
    /// memory.
    Opened {
        /// The slot from the request.
        slot: u8,
        /// The number from the request.
        number: u32,
        /// What is known of its PIN now.
        pin: PinState,
    },
    /// It is not.
    NotOpened {
        /// The slot from the request.
        slot: u8,
        /// The number from the request.
        number: u32,
        /// What stands in the way.
        cause: Cause,
        /// A sentence, and what to do.
        reason: String,
        /// What is known of its PIN now.
        pin: PinState,
    },
    /// The answer to [`ToKeeper::Lock`].
    Locked {
        /// The slot from the request.
        slot: u8,
        /// The number from the request.
        number: u32,
        /// It cannot be locked, for this reason: a fragment.
        refused: Option<String>,
    },
    /// The answer to the requests about the recovery key.
    Recovery {
        /// The number from the request; 0 for [`ToKeeper::AskRecovery`].
        number: u32,
        /// How things are now.
        state: Recovery,
        /// What came of it.
        answer: RecoveryAnswer,
    },
    /// The answer to [`ToKeeper::AskPin`].
    Pin {
        /// The slot from the request.
        slot: u8,
        /// What is known.
        pin: PinState,
    },
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
