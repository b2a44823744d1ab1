//! The machine's TPM 2.0: it keeps one secret for each zone, and gives it out only in a state of the machine that the image's
//! maker has approved and, where a zone asks for it, against a PIN whose wrong tries the TPM itself counts.
//!
//! ```text
//!  storage key (ECC, persistent, made once, its name pinned)
//!    +- owner's authorization   PolicyAuthorize(approval key)                     sealed, a file
//!    +- authority's key         PolicyAuthorize(approval key)                     a file; signs certificates
//!    +- a zone's secret         PolicyAuthorize(approval key) [ PolicySecret(PIN index) ]   sealed, a file
//!  epochs index               NV: the highest epoch of each purpose that this machine has used; the owner writes it
//!  PIN index, one a zone        NV, PIN-FAIL: authorization = stretched PIN, count and limit in the TPM
//! ```
//!
//! No seal names a PCR value: it names the key that approves sets of values ([`approval`]), so an update whose values are approved
//! opens what its predecessor sealed. Objects and indices take no part in the TPM's own lockout (noDA): wrong PINs of one zone
//! lock that zone only, and the lockout, whose limits are set once, is a backstop. The owner's authorization is random,
//! because who has it could make a PIN index anew.
//!
//! Every command with a secret runs in a session salted to the pinned storage key, with encrypted parameters
//! (TPM 2.0 Library, Part 1, sections 19 and 21): who listens on the bus hears nothing, and who answers in the TPM's place is found out.
//!
//! This crate stores nothing: what has to be kept between two starts ([`Machine`], [`Sealed`]) is plain data for its caller.

#![forbid(unsafe_code)]

mod authority;
mod epochs;
mod error;
mod lockout;
mod pin;
mod seal;
mod tpm;
mod tss;

pub use authority::Point;
pub use epochs::EpochTag;
pub use error::{OpenTpmError, ProvisionError, SealError, UnsealError};
pub use lockout::{LOCKOUT, LockoutError, set_lockout};
pub use pin::{NewPin, PinIndex, Tries};
pub use seal::{Pin, SECRET, Sealed, Secret};
pub use tpm::{Machine, Tpm};
