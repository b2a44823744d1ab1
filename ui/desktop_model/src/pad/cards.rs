//! Why a zone was not opened, and what its user can do about it.

use super::{Subject, Target};

/// Why a zone was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It asks for a PIN, and none was given.
    PinNeeded,
    /// The PIN cannot be one.
    BadPin,
    /// The PIN is another one; it was counted.
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
    /// Anything else: the reason says it.
    Other,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 15] = [
        Self::PinNeeded,
        Self::BadPin,
        Self::WrongPin,
        Self::LockedOut,
        Self::NotApproved,
        Self::TpmMissing,
        Self::TpmCleared,
        Self::TpmForeign,
        Self::TpmOwned,
        Self::TpmBusy,
        Self::Damaged,
        Self::BadRecoveryKey,
        Self::WrongRecoveryKey,
        Self::NoRecovery,
        Self::Other,
    ];
}

/// The sign of a card; each has its own shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CardSign {
    /// A padlock: a PIN is in question.
    Lock,
    /// An exclamation mark: something can be done here and now.
    Warning,
    /// A cross: this machine does not open the zone.
    Cross,
}

/// A card's own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) sign: CardSign,
    /// After the zone's label.
    pub(super) headline: &'static str,
    /// What happened, when `zoned` gave no sentence.
    pub(super) reason: &'static str,
    /// What to do.
    pub(super) advice: &'static str,
    /// What may help here and now.
    pub(super) onward: Option<Onward>,
}

/// A card's other button.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Onward {
    /// Trying again.
    Retry,
    /// The recovery key.
    Recover,
}

impl Onward {
    pub(super) fn target(self) -> Target {
        match self {
            Self::Retry => Target::Retry,
            Self::Recover => Target::Recover,
        }
    }

    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Retry => "Try again",
            Self::Recover => "Recovery key",
        }
    }
}

/// The words for a cause.
pub(super) fn words(cause: Cause, subject: &Subject) -> Words {
    match subject {
        Subject::Zone(_) => zone_words(cause),
        Subject::Screen => screen_words(cause),
    }
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn zone_words(cause: Cause) -> Words {
    let card = |sign, headline, reason, advice, onward| Words { sign, headline, reason, advice, onward };
    let (retry, recover) = (Some(Onward::Retry), Some(Onward::Recover));
    match cause {
        Cause::PinNeeded => card(
            CardSign::Lock,
            "asks for its PIN",
            "The zone opens only with its PIN, and none was given.",
            "Try again and type the PIN.",
            retry,
        ),
        Cause::BadPin => card(
            CardSign::Lock,
            "did not take this PIN",
            "What was typed cannot be a PIN.",
            "Try again with a PIN of 6 to 12 digits. This did not count as a wrong one.",
            retry,
        ),
        // The pad itself says it; a card comes only when the pad was closed meanwhile.
        Cause::WrongPin => card(
            CardSign::Lock,
            "was not opened",
            "The PIN was wrong.",
            "Try again with the right PIN.",
            retry,
        ),
        Cause::LockedOut => card(
            CardSign::Lock,
            "is locked out",
            "Too many wrong PINs were typed. The machine's TPM gives nothing out for this zone any more.",
            "Only the recovery key opens it now, and with it you choose a new PIN. If you do not have the key, ask \
             your administrator. Your other zones are not affected.",
            recover,
        ),
        Cause::NotApproved => card(
            CardSign::Cross,
            "does not open: this machine was changed",
            "Firmware, kernel or template are not what the maker of the image approved.",
            "If you have just updated, install the whole signed update. If you have not, somebody else may have \
             changed this machine: switch it off, type no PIN, and tell your administrator.",
            None,
        ),
        Cause::TpmMissing => card(
            CardSign::Cross,
            "does not open: no TPM",
            "The machine shows no TPM.",
            "Switch the TPM on in the machine's setup (it may be called security device, PTT or fTPM). Then \
             start the machine again. If there is none any more, the recovery key opens the zone.",
            recover,
        ),
        Cause::TpmCleared => card(
            CardSign::Cross,
            "does not open: the TPM was cleared",
            "The machine's TPM has lost what it kept for this zone.",
            "It cannot be brought back: only the recovery key opens the zone now. If you do not have it, or did not \
             clear the TPM yourself, ask your administrator.",
            recover,
        ),
        Cause::TpmForeign => card(
            CardSign::Cross,
            "belongs to another machine",
            "The data disk was set up with another machine's TPM.",
            "Put the disk back into the machine that it comes from, and start the zone there. On this one only the \
             recovery key opens it.",
            recover,
        ),
        Cause::TpmOwned => card(
            CardSign::Cross,
            "does not open: the TPM is taken",
            "Another system owns the machine's TPM and has set its passwords.",
            "Let that system give the TPM up, then start the machine again. Clearing the TPM in the machine's \
             setup would free it too, but destroys all that it keeps, for that system and for this one.",
            None,
        ),
        Cause::TpmBusy => card(
            CardSign::Warning,
            "has to wait for the TPM",
            "The machine's TPM refuses everything for a while.",
            "Leave the machine switched on and try again in ten minutes, and later if that is too soon: it may take \
             some hours. Your PIN's tries are not affected.",
            retry,
        ),
        Cause::Damaged => card(
            CardSign::Cross,
            "does not open: its data was altered",
            "What the data disk keeps for this zone is damaged, or somebody altered it.",
            "Put the data disk's own files back from a copy, then touch the zone again. Without a copy the recovery \
             key may open it.",
            recover,
        ),
        Cause::BadRecoveryKey => card(
            CardSign::Warning,
            "did not take this recovery key",
            "What was typed cannot be a recovery key.",
            "Type it again and compare each group with the paper. This cost nothing: nobody counts recovery keys.",
            recover,
        ),
        Cause::WrongRecoveryKey => card(
            CardSign::Warning,
            "has another recovery key",
            "The digits are those of a recovery key, but not of the one that this zone is kept for.",
            "Look for a paper with another date: a zone takes the key that was the newest one when it was opened last. \
             A wrong one costs nothing.",
            recover,
        ),
        Cause::NoRecovery => card(
            CardSign::Cross,
            "has no recovery key",
            "When this zone was opened last there was no recovery key yet.",
            "No key opens it. What keeps it closed otherwise has to be put right: touch the zone to read what that is, \
             and ask your administrator.",
            None,
        ),
        Cause::Other => card(
            CardSign::Warning,
            "was not opened",
            "The host gave no reason.",
            "Try again. If it happens again, start the machine again, and tell your administrator what stands \
             here.",
            retry,
        ),
    }
}

/// The words for the display's lock, whose zones run on behind it.
#[expect(clippy::too_many_lines, reason = "a table")]
fn screen_words(cause: Cause) -> Words {
    let card = |sign, headline, reason, advice, onward| Words { sign, headline, reason, advice, onward };
    let (retry, recover) = (Some(Onward::Retry), Some(Onward::Recover));
    match cause {
        Cause::PinNeeded => card(
            CardSign::Lock,
            "asks for its PIN",
            "The lock is lifted only with the PIN, and none was given.",
            "Try again and type the PIN.",
            retry,
        ),
        Cause::BadPin => card(
            CardSign::Lock,
            "did not take this PIN",
            "What was typed cannot be a PIN.",
            "Try again with a PIN of 6 to 12 digits. This did not count as a wrong one.",
            retry,
        ),
        Cause::WrongPin => {
            card(CardSign::Lock, "stays locked", "The PIN was wrong.", "Try again with the right PIN.", retry)
        }
        Cause::LockedOut => card(
            CardSign::Lock,
            "is locked out",
            "Too many wrong PINs were typed. The machine's TPM takes none for this display any more.",
            "Only the recovery key lifts the lock now, and with it you choose a new PIN. If you do not have the key, ask \
             your administrator. Your zones run on meanwhile.",
            recover,
        ),
        Cause::NotApproved => card(
            CardSign::Cross,
            "stays locked: this machine was changed",
            "What started on this machine is not what the maker of the image approved.",
            "If you have just updated, install the whole signed update. If you have not, somebody else may have \
             changed this machine: switch it off, type no PIN, and tell your administrator.",
            None,
        ),
        Cause::TpmMissing => card(
            CardSign::Cross,
            "stays locked: no TPM",
            "The machine shows no TPM, and the TPM checks the PIN.",
            "Switch the TPM on in the machine's setup (it may be called security device, PTT or fTPM). Then \
             start the machine again. If there is none any more, the recovery key lifts the lock.",
            recover,
        ),
        Cause::TpmCleared => card(
            CardSign::Cross,
            "stays locked: the TPM was cleared",
            "The machine's TPM has lost what it checked the PIN with.",
            "It cannot be brought back: only the recovery key lifts the lock now. If you do not have it, or did not \
             clear the TPM yourself, ask your administrator.",
            recover,
        ),
        Cause::TpmForeign => card(
            CardSign::Cross,
            "was locked by another machine",
            "The data disk was set up with another machine's TPM.",
            "Put the disk back into the machine that it comes from. On this one only the recovery key lifts the lock.",
            recover,
        ),
        Cause::TpmOwned => card(
            CardSign::Cross,
            "stays locked: the TPM is taken",
            "Another system owns the machine's TPM and has set its passwords.",
            "Let that system give the TPM up, then start the machine again. Clearing the TPM in the machine's \
             setup would free it too, but destroys all that it keeps, for that system and for this one.",
            None,
        ),
        Cause::TpmBusy => card(
            CardSign::Warning,
            "has to wait for the TPM",
            "The machine's TPM refuses everything for a while.",
            "Leave the machine switched on and try again in ten minutes, and later if that is too soon: it may take \
             some hours. Your PIN's tries are not affected.",
            retry,
        ),
        Cause::Damaged => card(
            CardSign::Cross,
            "stays locked: its data was altered",
            "What the data disk keeps for the display's PIN is damaged, or somebody altered it.",
            "Put the data disk's own files back from a copy, then touch the display again. Without a copy the recovery \
             key may lift the lock.",
            recover,
        ),
        Cause::BadRecoveryKey => card(
            CardSign::Warning,
            "did not take this recovery key",
            "What was typed cannot be a recovery key.",
            "Type it again and compare each group with the paper. This cost nothing: nobody counts recovery keys.",
            recover,
        ),
        Cause::WrongRecoveryKey => card(
            CardSign::Warning,
            "has another recovery key",
            "The digits are those of a recovery key, but not of the one that lifts this lock.",
            "Look for a paper with another date: the lock takes the key that was the newest one when its PIN was typed \
             last. A wrong one costs nothing.",
            recover,
        ),
        Cause::NoRecovery => card(
            CardSign::Cross,
            "has no recovery key",
            "When the display was unlocked last there was no recovery key yet.",
            "No key lifts the lock. What keeps it closed otherwise has to be put right: touch the display to read what \
             that is, and ask your administrator.",
            None,
        ),
        Cause::Other => card(
            CardSign::Warning,
            "stays as it was",
            "The host gave no reason.",
            "Try again. If it happens again, start the machine again, and tell your administrator what stands \
             here.",
            retry,
        ),
    }
}
