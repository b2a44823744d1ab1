//! What can go wrong, in the words that a user needs.

use tss_esapi::Error;
use tss_esapi::constants::response_code::Tss2ResponseCodeKind as Kind;

/// Why there is no TPM to work with.
#[derive(Debug, thiserror::Error)]
pub enum OpenTpmError {
    /// Nothing answers.
    #[error("the machine has no TPM 2.0 that answers")]
    Missing(#[source] Error),
    /// The storage key is not there: the TPM was cleared, or it is not this machine's.
    #[error("the TPM does not hold this machine's storage key: it was cleared, or it is another machine's")]
    Cleared,
    /// A storage key is there, but another one.
    #[error("the TPM holds another storage key than the one that this machine made")]
    Foreign,
    /// It refused something.
    #[error("the TPM refused to {0}")]
    Refused(&'static str, #[source] Error),
}

/// Why a TPM cannot be taken into use.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// Nothing answers.
    #[error("the machine has no TPM 2.0 that answers: switch it on in the machine's setup")]
    Missing(#[source] Error),
    /// Its owner hierarchy has an authorization that is not ours.
    #[error(
        "the TPM is owned by another system: clear it in the machine's setup, which destroys what that system sealed"
    )]
    Owned,
    /// It refuses commands that need an authorization for a while.
    #[error(
        "the TPM is locked out after wrong authorizations of another system: wait, or clear it in the machine's setup"
    )]
    LockedOut,
    /// It refused something else.
    #[error("the TPM refused to {0}")]
    Refused(&'static str, #[source] Error),
}

/// Why nothing was sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// This state of the machine may not use the owner's authorization.
    #[error("owner's authorization")]
    Owner(#[source] Box<UnsealError>),
    /// The TPM refused.
    #[error("the TPM refused to {0}")]
    Refused(&'static str, #[source] Error),
}

/// Why a secret stays sealed.
#[derive(Debug, thiserror::Error)]
pub enum UnsealError {
    /// No approval fits what was measured on this machine since it was switched on.
    #[error("this state of the machine is not approved: firmware, kernel or image changed")]
    NotApproved,
    /// An approval is not signed by the key that the seal names.
    #[error("the approval is not signed by the key that the seal asks for")]
    BadApproval,
    /// The PIN is wrong; the TPM has counted it.
    #[error("wrong PIN")]
    WrongPin,
    /// Too many wrong PINs: the recovery key opens the zone.
    #[error("too many wrong PINs: only the recovery key opens this zone now")]
    LockedOut,
    /// The seal asks for a PIN and none was given.
    #[error("the zone asks for a PIN")]
    PinNeeded,
    /// The sealed bytes are not this TPM's, or were altered.
    #[error("the sealed record was made by another TPM, or was altered")]
    NotOurs,
    /// The zone's PIN index is not in the TPM.
    #[error("the TPM does not know the zone's PIN any more: it was cleared, or somebody removed it")]
    PinGone,
    /// The TPM refused something else.
    #[error("the TPM refused to {0}")]
    Refused(&'static str, #[source] Error),
}

/// The TPM's (or its library's) reason.
pub(crate) fn kind(error: &Error) -> Option<Kind> {
    match error {
        Error::Tss2Error(code) => code.kind(),
        Error::WrapperError(_) => None,
    }
}
