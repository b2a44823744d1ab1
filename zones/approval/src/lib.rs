//! Approvals: sets of PCR values under which secrets may be used, signed by the image's maker.
//!
//! A seal never names a PCR value. It names a key, a purpose and a phase (TPM2_PolicyAuthorize), and whatever that key has
//! approved for them opens it: so an update loses no data, and nobody else's firmware, kernel or template gets any. An
//! approval's epoch is signed beside that, and no seal names it: `keeper` takes no epoch below the highest that it has used, so
//! what the maker has revoked does not come back. The machine's TPM holds the host to [`HOST`], a zone's TPM holds the zone to [`FIRMWARE`] and then to the purpose of its
//! template ([`template_purpose`]).
//!
//! Pure: policy digests are computed as a TPM does (TPM 2.0 Library, Part 3, section 23), signatures are made and checked in
//! memory. The build signs, `keeper` shows a TPM what was signed, and the TPM checks it.

#![forbid(unsafe_code)]

use ring::digest::{Context, SHA256};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use serde::{Deserialize, Serialize};

/// A SHA-256 digest: of a policy, or a PCR's value.
pub type Digest = [u8; 32];

/// Purpose of approvals for the host's own state.
pub const HOST: &str = "bulkhead host";
/// Purpose of approvals for the zones' firmware.
pub const FIRMWARE: &str = "bulkhead zone firmware";
/// Phase of a host that has measured all of its image.
pub const RUNNING: &str = "running";
/// Phase of a zone whose guest has not run an instruction yet.
pub const BEFORE_GUEST: &str = "before the guest";
/// What an approval's second signature is about begins so; as long as a digest, so that it is no policy that a TPM reaches.
const EPOCH_OF: &[u8; 32] = b"bulkhead: the epoch of approvals";
/// The PCRs of the host: 11 (image), 12 (its command line) and 13 (its extensions), as in the UAPI group's UKI
/// specification. Firmware and its settings (0 to 7) are attested, not approved, because the machine's maker changes them.
pub const HOST_PCRS: [u8; 3] = [11, 12, 13];

/// Most bytes of [`Approvals::encode`].
pub const MAX_SIZE: usize = 64 * 1024;

/// Purpose of approvals for a template.
#[must_use]
pub fn template_purpose(template: &str) -> String {
    format!("bulkhead template {template}")
}

/// A key that approves: P-256, the coordinates of its public point, big-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalKey {
    /// The first coordinate.
    pub x: [u8; 32],
    /// The second one.
    pub y: [u8; 32],
}

/// One approved set of values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// What it is for; part of what is signed and of every seal that asks for it.
    pub purpose: String,
    /// In which phase of its start the machine or the zone has these values; the same.
    pub phase: String,
    /// Raised when all older approvals for the purpose must not count any more. Signed, and part of no seal.
    pub epoch: u32,
    /// The policy digest that is approved.
    pub policy: Digest,
    /// ECDSA with SHA-256 over policy and reference, r and s big-endian: what a TPM checks.
    pub signature: ([u8; 32], [u8; 32]),
    /// The same over these and the epoch: what [`ApprovalKey::vouches`] checks.
    pub epoch_signature: ([u8; 32], [u8; 32]),
}

/// What a host image carries: the key that its seals name, and what that key approved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approvals {
    /// The key.
    pub key: ApprovalKey,
    /// Of the host and of the zones' firmware.
    pub approved: Vec<Approval>,
}

/// Bytes are no approvals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bytes that are no approvals")]
pub struct DecodeError;

impl Approvals {
    /// The file of a host image.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("approvals hold nothing that postcard refuses")
    }

    /// Reads what [`Approvals::encode`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode(bytes)
    }
}

impl Approval {
    /// The file beside a template's manifest.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("an approval holds nothing that postcard refuses")
    }

    /// Reads what [`Approval::encode`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode(bytes)
    }

    /// The digest that is signed (TPM 2.0 Library, Part 3, 23.16: aHash).
    #[must_use]
    pub fn hash(&self) -> Digest {
        sha256(&[&self.policy, &self.reference()])
    }

    /// What stands for purpose and phase in a policy.
    #[must_use]
    pub fn reference(&self) -> Digest {
        reference(&self.purpose, &self.phase)
    }

    /// What the second signature is about.
    fn with_epoch(&self) -> Vec<u8> {
        [&EPOCH_OF[..], &self.epoch.to_be_bytes(), &self.policy, &self.reference()].concat()
    }
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, DecodeError> {
    if bytes.len() > MAX_SIZE {
        return Err(DecodeError);
    }
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok(_) | Err(_) => Err(DecodeError),
    }
}

/// What stands for purpose and phase in a policy: a TPM takes few bytes there, and names may be long.
#[must_use]
pub fn reference(purpose: &str, phase: &str) -> Digest {
    sha256(&[purpose.as_bytes(), &[0], phase.as_bytes()])
}

impl ApprovalKey {
    /// Whether it has signed this approval with this epoch.
    #[must_use]
    pub fn vouches(&self, approval: &Approval) -> bool {
        let (r, s) = &approval.epoch_signature;
        let point = [&[4][..], &self.x, &self.y].concat();
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
        key.verify(&approval.with_epoch(), &[&r[..], s].concat()).is_ok()
    }

    /// Its public area as a TPM loads it (TPMT_PUBLIC, Part 2, 12.2.4): ECDSA with SHA-256, not restricted.
    #[must_use]
    pub fn public_area(&self) -> Vec<u8> {
        const ECC: u16 = 0x0023;
        const SHA256: u16 = 0x000B;
        const NULL: u16 = 0x0010;
        const ECDSA: u16 = 0x0018;
        const NIST_P256: u16 = 0x0003;
        /// sign, userWithAuth.
        const ATTRIBUTES: u32 = 1 << 18 | 1 << 6;
        let mut bytes = Vec::new();
        let word = |bytes: &mut Vec<u8>, word: u16| bytes.extend(word.to_be_bytes());
        word(&mut bytes, ECC);
        word(&mut bytes, SHA256);
        bytes.extend(ATTRIBUTES.to_be_bytes());
        // No policy of its own; no symmetric cipher; the scheme; the curve; no key derivation; the point.
        for field in [0, NULL, ECDSA, SHA256, NIST_P256, NULL] {
            word(&mut bytes, field);
        }
        for coordinate in [&self.x, &self.y] {
            word(&mut bytes, 32);
            bytes.extend(coordinate);
        }
        bytes
    }

    /// Its name (Part 1, 16): the hash of its public area, behind the hash's identifier.
    #[must_use]
    pub fn name(&self) -> Vec<u8> {
        [&[0, 0x0B][..], &sha256(&[&self.public_area()])].concat()
    }
}

/// A policy digest that grows as a policy session's does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy(Digest);

impl Policy {
    /// TPM2_PolicyPCR (23.7) over registers of the SHA-256 bank with these values; the numbers ascend.
    #[must_use]
    pub fn pcrs(self, values: &[(u8, Digest)]) -> Self {
        let numbers: Vec<u8> = values.iter().map(|(number, _)| *number).collect();
        let all: Vec<u8> = values.iter().flat_map(|(_, value)| *value).collect();
        self.extend(0x17F, &[&selection(&numbers), &sha256(&[&all])])
    }

    /// TPM2_PolicyAuthorize (23.16): from here on whatever came before is as good as what `key` approved for `purpose` in
    /// this phase.
    #[must_use]
    pub fn authorize(key: &ApprovalKey, purpose: &str, phase: &str) -> Self {
        let authorized = Self::default().extend(0x16A, &[&key.name()]);
        Self(sha256(&[&authorized.0, &reference(purpose, phase)]))
    }

    /// TPM2_PolicySecret (23.4) of an object, without a reference.
    #[must_use]
    pub fn secret(self, name: &[u8]) -> Self {
        Self(sha256(&[&self.extend(0x151, &[name]).0]))
    }

    /// TPM2_PolicyAuthValue or TPM2_PolicyPassword (23.17, 23.18).
    #[must_use]
    pub fn auth_value(self) -> Self {
        self.extend(0x16B, &[])
    }

    /// The digest.
    #[must_use]
    pub fn digest(self) -> Digest {
        self.0
    }

    fn extend(self, command: u32, parts: &[&[u8]]) -> Self {
        Self(sha256(&[&self.0, &command.to_be_bytes(), &parts.concat()]))
    }
}

/// A selection of registers of the SHA-256 bank (TPML_PCR_SELECTION, Part 2, 10.9.7).
#[must_use]
pub fn selection(numbers: &[u8]) -> Vec<u8> {
    let mut bitmap = [0_u8; 3];
    for number in numbers {
        if let Some(byte) = bitmap.get_mut(usize::from(number / 8)) {
            *byte |= 1 << (number % 8);
        }
    }
    [&1_u32.to_be_bytes()[..], &0x000B_u16.to_be_bytes(), &[3], &bitmap].concat()
}

/// A register's value after `digest` was measured into one that had `before`.
#[must_use]
pub fn extended(before: &Digest, digest: &Digest) -> Digest {
    sha256(&[before, digest])
}

/// What the firmware's approval is about: PCR 0 as H-CRTM leaves it (TPM 2.0 Library, Part 1, 34.3), and PCR 11 before
/// anything was measured there.
#[must_use]
pub fn firmware_policy(firmware: &Digest) -> Digest {
    let mut locality_four = [0; 32];
    if let Some(last) = locality_four.last_mut() {
        *last = 4;
    }
    Policy::default().pcrs(&[(0, extended(&locality_four, firmware)), (11, [0; 32])]).digest()
}

/// What a template's approval is about: behind an approved firmware, its kernel, its command line and its initrd, by
/// their digests.
#[must_use]
pub fn template_policy(key: &ApprovalKey, kernel: &Digest, command_line: &Digest, initrd: &Digest) -> Digest {
    let measured = |digest| extended(&[0; 32], digest);
    let values = [(4, measured(kernel)), (8, measured(command_line)), (9, measured(initrd))];
    Policy::authorize(key, FIRMWARE, BEFORE_GUEST).pcrs(&values).digest()
}

/// What the host's approval is about.
#[must_use]
pub fn host_policy(values: &[Digest; HOST_PCRS.len()]) -> Digest {
    let [eleven, twelve, thirteen] = *values;
    Policy::default().pcrs(&[(11, eleven), (12, twelve), (13, thirteen)]).digest()
}

/// SHA-256 of all parts, one behind the other.
#[must_use]
pub fn sha256(parts: &[&[u8]]) -> Digest {
    let mut hash = Context::new(&SHA256);
    parts.iter().for_each(|part| hash.update(part));
    let mut digest = [0; 32];
    digest.copy_from_slice(hash.finish().as_ref());
    digest
}

/// The private half of an approval key.
pub struct Approver {
    pair: EcdsaKeyPair,
}

impl std::fmt::Debug for Approver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Approver")
    }
}

/// There is no such key, or it signs nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no P-256 key in PKCS#8")]
pub struct KeyError;

impl Approver {
    /// A new key, in PKCS#8.
    ///
    /// # Errors
    /// There are no random numbers.
    pub fn generate() -> Result<Vec<u8>, KeyError> {
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .map(|document| document.as_ref().to_vec())
            .map_err(|_unspecified| KeyError)
    }

    /// Takes a key in PKCS#8.
    ///
    /// # Errors
    /// It is none.
    pub fn from_pkcs8(bytes: &[u8]) -> Result<Self, KeyError> {
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, bytes, &SystemRandom::new())
            .map(|pair| Self { pair })
            .map_err(|_rejected| KeyError)
    }

    /// The public half.
    ///
    /// # Errors
    /// The point is not written as two coordinates.
    pub fn key(&self) -> Result<ApprovalKey, KeyError> {
        let point = self.pair.public_key().as_ref();
        let coordinate =
            |range| point.get(range).and_then(|bytes: &[u8]| bytes.try_into().ok()).ok_or(KeyError);
        Ok(ApprovalKey { x: coordinate(1..33)?, y: coordinate(33..65)? })
    }

    /// Approves a policy digest for a purpose in a phase.
    ///
    /// # Errors
    /// There are no random numbers.
    pub fn approve(
        &self,
        purpose: &str,
        phase: &str,
        epoch: u32,
        policy: Digest,
    ) -> Result<Approval, KeyError> {
        let (purpose, phase) = (purpose.to_owned(), phase.to_owned());
        let none = ([0; 32], [0; 32]);
        let mut approval = Approval { purpose, phase, epoch, policy, signature: none, epoch_signature: none };
        approval.signature = self.sign(&[approval.policy, approval.reference()].concat())?;
        approval.epoch_signature = self.sign(&approval.with_epoch())?;
        Ok(approval)
    }

    /// r and s.
    fn sign(&self, bytes: &[u8]) -> Result<([u8; 32], [u8; 32]), KeyError> {
        let signature = self.pair.sign(&SystemRandom::new(), bytes).map_err(|_unspecified| KeyError)?;
        let half = |range| signature.as_ref().get(range).and_then(|bytes: &[u8]| bytes.try_into().ok());
        half(0..32).zip(half(32..64)).ok_or(KeyError)
    }
}

#[cfg(test)]
mod tests;
