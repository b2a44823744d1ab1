//! PINs on their way into the TPM: which digits can be one, and their stretching.

use argon2::{Algorithm, Argon2, Params, Version};
use hw_tpm::{Pin, SECRET};

/// Bytes of a salt.
pub(crate) const SALT: usize = 16;

/// How many digits a PIN has.
const DIGITS: std::ops::RangeInclusive<usize> = 6..=12;

/// Argon2id's memory in KiB, passes and lanes (RFC 9106; OWASP's first recommendation for it). What really bounds guessing is the
/// TPM's count: this is for somebody who reads the TPM's insides, and it has to pass on the slowest machine that tests use.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// Whether these characters can be a PIN.
pub(crate) fn is_pin(typed: &str) -> bool {
    DIGITS.contains(&typed.len()) && typed.bytes().all(|byte| byte.is_ascii_digit())
}

/// What the TPM compares.
pub(crate) fn stretch(typed: &str, salt: &[u8; SALT]) -> Pin {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, Some(SECRET)).expect("constants within RFC 9106");
    let mut pin = Pin([0; SECRET]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(typed.as_bytes(), salt, &mut pin.0)
        .expect("a salt of 16 bytes and an output of 32 are within RFC 9106");
    pin
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_alone_are_a_pin() {
        for (typed, good) in [
            ("123456", true),
            ("000000000000", true),
            ("12345", false),
            ("1234567890123", false),
            ("12345a", false),
            ("", false),
            ("\u{661}23456", false),
        ] {
            assert_eq!(is_pin(typed), good, "{typed:?}");
        }
    }

    #[test]
    fn the_same_pin_is_another_one_in_another_zone() {
        let stretched = |typed, salt| stretch(typed, &[salt; SALT]).0;
        assert_eq!(stretched("123456", 1), stretched("123456", 1));
        assert_ne!(stretched("123456", 1), stretched("123456", 2));
        assert_ne!(stretched("123456", 1), stretched("123457", 1));
        // From the reference implementation: `echo -n 123456 | argon2 saltsaltsaltsalt -id -t 2 -k 19456 -p 1 -r`.
        let known = stretch("123456", b"saltsaltsaltsalt").0;
        let hex: String = known.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "28a51ce2cb6be51b646e4fc668a4a62e251b2c37684e05bb97995c4ae8e62fe7");
    }
}
