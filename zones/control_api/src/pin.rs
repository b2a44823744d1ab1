//! A PIN, or a recovery key's digits, on their way between the trusted pad and `keeper`.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The fewest digits of a PIN. With the tries that the TPM allows, guessing one is hopeless.
pub const FEWEST_DIGITS: usize = 6;
/// The most digits of a PIN.
pub const MOST_DIGITS: usize = 12;

/// Digits, never printed and wiped when dropped.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pin(Zeroizing<String>);

impl Pin {
    /// Takes what was typed, whatever it is.
    #[must_use]
    pub fn new(digits: String) -> Self {
        Self(Zeroizing::new(digits))
    }

    /// What was typed.
    #[must_use]
    pub fn digits(&self) -> &str {
        &self.0
    }

    /// Whether it can be a PIN: [`FEWEST_DIGITS`] to [`MOST_DIGITS`] digits.
    #[must_use]
    pub fn is_well_formed(&self) -> bool {
        (FEWEST_DIGITS..=MOST_DIGITS).contains(&self.0.len())
            && self.0.bytes().all(|byte| byte.is_ascii_digit())
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Pin(..)")
    }
}
