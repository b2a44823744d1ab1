//! Signing, in minisign's formats: a secret key without a password (`minisign -G -W`), a signature of the BLAKE2b-512
//! of the file. Only a build signs.

use approval::Approver;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use blake2::digest::consts::U32;
use blake2::{Blake2b, Blake2b512, Digest as _};
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use crate::Manifest;

/// Signature algorithm Ed25519, no key derivation, BLAKE2b checksum: how a secret key without a password begins.
const SECRET_BEGIN: &[u8; 6] = b"Ed\0\0B2";

/// What a zone's TPM is shown for a template: its approval, as the file [`crate::APPROVAL`]. Command line, files and epoch
/// are the manifest's.
///
/// # Errors
/// There are no random numbers.
pub fn approve(manifest: &Manifest, approver: &Approver) -> Result<Vec<u8>, approval::KeyError> {
    let command_line = approval::sha256(&[manifest.command_line().as_bytes()]);
    let (kernel, initrd) = (&manifest.kernel.sha256, &manifest.initrd.sha256);
    let purpose = approval::template_purpose(&manifest.name);
    let policy = approval::template_policy(&approver.key()?, kernel, &command_line, initrd);
    Ok(approver.approve(&purpose, approval::BEFORE_GUEST, manifest.epoch, policy)?.encode())
}

/// Algorithm, salt and limits of the key derivation.
const SECRET_HEAD: usize = 6 + 32 + 8 + 8;

/// A signature of a file's BLAKE2b-512.
const PREHASHED: &[u8; 2] = b"ED";

/// A key that signs.
pub struct SigningKey {
    number: [u8; 8],
    pair: Ed25519KeyPair,
    seed: [u8; 32],
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "SigningKey {:?}", self.public_key())
    }
}

/// Why a text is no key to sign with: a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not the form of minisign's secret keys.
    #[error("found no minisign secret key; minisign -G makes one")]
    Form,
    /// It has a password.
    #[error("found a secret key with a password, allowed is one without (minisign -G -W)")]
    Password,
    /// Its parts do not belong together.
    #[error("found a damaged secret key")]
    Damaged,
}

impl SigningKey {
    /// A key of random bytes; `number` is only its name.
    ///
    /// # Panics
    /// Never: any 32 bytes are a seed.
    #[must_use]
    pub fn from_seed(number: [u8; 8], seed: [u8; 32]) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("any 32 bytes are a seed");
        Self { number, pair, seed }
    }

    /// Reads minisign's secret key file.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let line = text.lines().nth(1).ok_or(KeyError::Form)?;
        let bytes = STANDARD.decode(line.trim()).map_err(|_wrong| KeyError::Form)?;
        let part = |at: usize, length: usize| bytes.get(at..at + length).ok_or(KeyError::Form);
        match part(0, 6)? {
            begin if begin == SECRET_BEGIN => {}
            b"EdScB2" => return Err(KeyError::Password),
            _ => return Err(KeyError::Form),
        }
        let number: [u8; 8] = part(SECRET_HEAD, 8)?.try_into().map_err(|_length| KeyError::Form)?;
        let seed: [u8; 32] = part(SECRET_HEAD + 8, 32)?.try_into().map_err(|_length| KeyError::Form)?;
        let key = Self::from_seed(number, seed);
        let whole = STANDARD.encode(&bytes);
        if whole != key.secret() { Err(KeyError::Damaged) } else { Ok(key) }
    }

    /// The text that [`SigningKey::parse`] and minisign read: keep it secret.
    #[must_use]
    pub fn secret_key_file(&self) -> String {
        format!(
            "untrusted comment: minisign unencrypted secret key of Bulkhead templates\n{}\n",
            self.secret()
        )
    }

    fn secret(&self) -> String {
        let keys = [&self.number[..], &self.seed, self.pair.public_key().as_ref()].concat();
        let checksum = Blake2b::<U32>::new_with_prefix(b"Ed").chain_update(&keys).finalize();
        STANDARD.encode([&SECRET_BEGIN[..], &[0; SECRET_HEAD - 6], &keys, &checksum].concat())
    }

    /// The public half, as minisign writes it.
    #[must_use]
    pub fn public_key(&self) -> String {
        STANDARD.encode([b"Ed", &self.number[..], self.pair.public_key().as_ref()].concat())
    }

    /// The signature file of some bytes. The same key and bytes give the same file.
    #[must_use]
    pub fn sign(&self, bytes: &[u8]) -> String {
        let comment = "Bulkhead zone template";
        let signature = self.pair.sign(&Blake2b512::digest(bytes));
        let global = self.pair.sign(&[signature.as_ref(), comment.as_bytes()].concat());
        let line = STANDARD.encode([&PREHASHED[..], &self.number, signature.as_ref()].concat());
        format!(
            "untrusted comment: verify with minisign\n{line}\ntrusted comment: {comment}\n{}\n",
            STANDARD.encode(global.as_ref())
        )
    }
}
