//! The recovery key: what opens zones when the machine's TPM cannot. Its user writes it down; here only its public half is kept, for
//! which each zone's secret is wrapped.
//!
//! 128 random bits are shown as eight groups of six digits, each a 16-bit number times 11: a digit that is wrong, or two that changed
//! places, are found in their group. The wrapping is HPKE (RFC 9180, base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256,
//! ChaCha20-Poly1305); the key pair comes from the bits by DeriveKeyPair (section 7.1.3).
//!
//! Pure, but for the kernel's random numbers.

use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable, single_shot_open, single_shot_seal};
use hw_tpm::Secret;
use rand_core::OsRng;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::keys::random;

/// Groups, and digits of one.
const GROUPS: usize = 8;
const DIGITS: usize = 6;
/// Each group is a multiple of this.
const CHECK: u32 = 11;
/// What a wrapping is for.
const INFO: &[u8] = b"bulkhead zone recovery";

/// The key that somebody wrote down.
pub(crate) struct RecoveryKey(Zeroizing<[u8; 2 * GROUPS]>);

/// Digits that are no recovery key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadKeyError {
    /// Too few or too many.
    #[error("a recovery key has 48 digits, not {0}")]
    Length(usize),
    /// A group that none can be.
    #[error("group {0} of the recovery key is mistyped")]
    Group(usize),
}

/// Its public half.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PublicKey([u8; 32]);

/// A zone's secret, wrapped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wrapped {
    /// For whom.
    pub(crate) key: PublicKey,
    encapsulated: [u8; 32],
    sealed: Vec<u8>,
}

/// Nothing was wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the recovery key's public half is none: {0}")]
pub(crate) struct WrapError(hpke::HpkeError);

impl RecoveryKey {
    /// A new one.
    ///
    /// # Errors
    /// There are no random numbers.
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self(random()?))
    }

    /// As it is shown: groups of digits with a hyphen between them.
    pub(crate) fn digits(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(GROUPS * (DIGITS + 1)));
        for pair in self.0.chunks_exact(2) {
            let number = pair.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)) * CHECK;
            if !text.is_empty() {
                text.push('-');
            }
            text.push_str(&Zeroizing::new(format!("{number:06}")));
        }
        text
    }

    /// Reads what somebody typed; anything between digits is left out.
    ///
    /// # Errors
    /// [`BadKeyError`].
    pub(crate) fn parse(typed: &str) -> Result<Self, BadKeyError> {
        let digits: Zeroizing<Vec<u32>> =
            Zeroizing::new(typed.chars().filter_map(|c| c.to_digit(10)).collect());
        if digits.len() != GROUPS * DIGITS {
            return Err(BadKeyError::Length(digits.len()));
        }
        let mut bytes = Zeroizing::new([0; 2 * GROUPS]);
        let places = digits.chunks_exact(DIGITS).zip(bytes.chunks_exact_mut(2));
        for (group, (digits, place)) in (1..).zip(places) {
            let number = digits.iter().fold(0, |number, digit| number * 10 + digit);
            let value = u16::try_from(number / CHECK).ok().filter(|_| number % CHECK == 0);
            place.copy_from_slice(&value.ok_or(BadKeyError::Group(group))?.to_be_bytes());
        }
        Ok(Self(bytes))
    }

    /// Its public half.
    pub(crate) fn public(&self) -> PublicKey {
        PublicKey(X25519HkdfSha256::derive_keypair(&self.0[..]).1.to_bytes().into())
    }

    /// A zone's secret; `None`: it was wrapped for another key or zone, or altered.
    pub(crate) fn unwrap(&self, zone: &str, wrapped: &Wrapped) -> Option<Secret> {
        let (private, _) = X25519HkdfSha256::derive_keypair(&self.0[..]);
        let encapsulated = <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(&wrapped.encapsulated).ok()?;
        let opened = single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            &private,
            &encapsulated,
            INFO,
            &wrapped.sealed,
            zone.as_bytes(),
        );
        let opened = Zeroizing::new(opened.ok()?);
        opened.as_slice().try_into().ok().map(Secret::new)
    }
}

impl PublicKey {
    /// Wraps a zone's secret.
    ///
    /// # Errors
    /// [`WrapError`].
    pub(crate) fn wrap(&self, zone: &str, secret: &Secret) -> Result<Wrapped, WrapError> {
        let public = <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(&self.0).map_err(WrapError)?;
        let (encapsulated, sealed) = single_shot_seal::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256, _>(
            &OpModeS::Base,
            &public,
            INFO,
            secret.as_bytes(),
            zone.as_bytes(),
            &mut OsRng,
        )
        .map_err(WrapError)?;
        Ok(Wrapped { key: *self, encapsulated: encapsulated.to_bytes().into(), sealed })
    }
}

impl std::fmt::Debug for RecoveryKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("RecoveryKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_go_there_and_back_and_a_mistake_is_found_in_its_group() {
        let known =
            RecoveryKey(Zeroizing::new([0, 0, 0, 1, 0xFF, 0xFF, 0x12, 0x34, 0, 9, 0, 10, 0, 11, 1, 0]));
        let digits = known.digits();
        assert_eq!(*digits, "000000-000011-720885-051260-000099-000110-000121-002816");
        assert_eq!(*RecoveryKey::parse(&digits).unwrap().0, *known.0);
        assert_eq!(*RecoveryKey::parse(&digits.replace('-', " ")).unwrap().0, *known.0);
        let bare: Vec<u8> = digits.bytes().filter(u8::is_ascii_digit).collect();
        let parse = |bytes: &[u8]| RecoveryKey::parse(std::str::from_utf8(bytes).unwrap()).err();
        for place in 0..bare.len() {
            let group = Some(BadKeyError::Group(place / 6 + 1));
            for digit in b'0'..=b'9' {
                let mut wrong = bare.clone();
                wrong[place] = digit;
                assert_eq!(parse(&wrong), group.filter(|_| digit != bare[place]));
            }
            let mut swapped = bare.clone();
            if place % 6 < 5 && bare[place] != bare[place + 1] {
                swapped.swap(place, place + 1);
                assert_eq!(parse(&swapped), group);
            }
        }
        assert_eq!(parse(&bare[1..]), Some(BadKeyError::Length(47)));
        // Beyond 16 bits.
        assert_eq!(
            RecoveryKey::parse(&digits.replace("000000", "720896")).err(),
            Some(BadKeyError::Group(1))
        );
    }

    #[test]
    fn only_its_key_opens_a_wrapping_and_only_for_its_zone() {
        let (key, other) = (RecoveryKey::new().unwrap(), RecoveryKey::new().unwrap());
        assert_ne!(key.public(), other.public());
        let secret = Secret::new([7; 32]);
        let wrapped = key.public().wrap("office", &secret).unwrap();
        assert_ne!(wrapped, key.public().wrap("office", &secret).unwrap());
        assert_eq!(key.unwrap("office", &wrapped), Some(secret.clone()));
        assert_eq!(other.unwrap("office", &wrapped), None);
        assert_eq!(key.unwrap("vault", &wrapped), None);
        let bytes = postcard::to_stdvec(&wrapped).unwrap();
        // The first 32 bytes name the key, and are not part of it.
        for place in 32..bytes.len() {
            let mut altered = bytes.clone();
            altered[place] ^= 1;
            let altered = postcard::from_bytes::<Wrapped>(&altered).ok();
            assert_eq!(altered.and_then(|altered| key.unwrap("office", &altered)), None, "byte {place}");
        }
    }
}
