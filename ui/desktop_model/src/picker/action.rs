//! What a user can ask `zoned` for. PINs and recovery keys in it print as nothing, and are wiped when it is dropped.

use crate::pad::{Digits, RecoveryKey};

/// What the user asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start a zone.
    Start {
        /// Its name.
        zone: String,
    },
    /// Open a zone with its PIN, and start it.
    Open {
        /// Its name.
        zone: String,
        /// The PIN; the first one that a zone is given is its PIN from then on.
        pin: Digits,
    },
    /// Open a zone with the recovery key, and start it.
    Recover {
        /// Its name.
        zone: String,
        /// The key, whole.
        key: RecoveryKey,
        /// The zone's new PIN; empty where it asks for none.
        pin: Digits,
    },
    /// Give a zone another PIN.
    ChangePin {
        /// Its name.
        zone: String,
        /// Its PIN until now.
        pin: Digits,
        /// Its PIN from now on.
        new: Digits,
    },
    /// Lock a zone.
    Lock {
        /// Its name.
        zone: String,
    },
    /// Lock the display.
    LockScreen,
    /// Lift the display's lock.
    UnlockScreen {
        /// Its PIN; empty where none is asked for.
        pin: Digits,
    },
    /// Lift the display's lock with the recovery key.
    RecoverScreen {
        /// The key, whole.
        key: RecoveryKey,
        /// The new PIN.
        pin: Digits,
    },
    /// Give the display another PIN.
    ChangeScreenPin {
        /// Its PIN until now.
        pin: Digits,
        /// Its PIN from now on.
        new: Digits,
    },
    /// Make a recovery key.
    NewRecoveryKey,
    /// It was written down.
    NoteRecoveryKey {
        /// The key, whole.
        key: RecoveryKey,
    },
    /// Let a paused zone go on.
    Resume {
        /// Its name.
        zone: String,
    },
    /// Stop a zone.
    Stop {
        /// Its name.
        zone: String,
    },
}
