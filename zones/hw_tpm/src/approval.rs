//! Approvals: sets of PCR values under which secrets may be used, signed by the image's maker.

use serde::{Deserialize, Serialize};
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::ecc::EccCurve;
use tss_esapi::structures::{
    Digest, EccParameter, EccPoint, EccScheme, EccSignature, HashScheme, KeyDerivationFunctionScheme, Nonce,
    PcrSelectionList, PcrSelectionListBuilder, PcrSlot, Public, PublicBuilder, PublicEccParametersBuilder,
    Signature, SymmetricDefinitionObject,
};

use crate::error::UnsealError;
use crate::seal::sha256;

/// The PCRs that an approval is about: firmware and its settings (0 to 7) are attested, not approved, because the machine's maker
/// changes them; ours are 11 (image), 12 (its command line) and 13 (its extensions), as in the UAPI group's UKI specification.
pub const PCRS: [u8; 3] = [11, 12, 13];

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
    /// What it is for, for example a phase's name; part of what is signed and of every seal that asks for it.
    pub purpose: String,
    /// The policy digest of [`policy_of`].
    pub policy: [u8; 32],
    /// ECDSA with SHA-256 over policy and purpose, r and s big-endian.
    pub signature: (Vec<u8>, Vec<u8>),
}

impl Approval {
    /// The bytes that are signed (TPM 2.0 Library, Part 3, 23.16: aHash is their digest).
    #[must_use]
    pub fn signed_bytes(policy: &[u8; 32], purpose: &str) -> Vec<u8> {
        [policy.as_slice(), purpose.as_bytes()].concat()
    }

    pub(crate) fn digest(&self) -> Result<Digest, UnsealError> {
        digest(&self.policy)
    }

    pub(crate) fn reference(&self) -> Result<Nonce, UnsealError> {
        reference(&self.purpose)
    }

    pub(crate) fn signature(&self) -> Result<Signature, UnsealError> {
        let part = |bytes: &[u8]| EccParameter::try_from(bytes.to_vec());
        let (r, s) = (part(&self.signature.0), part(&self.signature.1));
        let (Ok(r), Ok(s)) = (r, s) else { return Err(UnsealError::BadApproval) };
        EccSignature::create(HashingAlgorithm::Sha256, r, s)
            .map(Signature::EcDsa)
            .map_err(|_unfit| UnsealError::BadApproval)
    }
}

impl ApprovalKey {
    /// The key as the TPM's library wants it.
    pub(crate) fn public(self) -> Result<Public, tss_esapi::Error> {
        let attributes = tss_esapi::attributes::ObjectAttributesBuilder::new()
            .with_sign_encrypt(true)
            .with_user_with_auth(true)
            .build()?;
        let parameters = PublicEccParametersBuilder::new()
            .with_ecc_scheme(EccScheme::EcDsa(HashScheme::new(HashingAlgorithm::Sha256)))
            .with_curve(EccCurve::NistP256)
            .with_is_signing_key(true)
            .with_is_decryption_key(false)
            .with_restricted(false)
            .with_symmetric(SymmetricDefinitionObject::Null)
            .with_key_derivation_function_scheme(KeyDerivationFunctionScheme::Null)
            .build()?;
        PublicBuilder::new()
            .with_public_algorithm(tss_esapi::interface_types::algorithm::PublicAlgorithm::Ecc)
            .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
            .with_object_attributes(attributes)
            .with_ecc_parameters(parameters)
            .with_ecc_unique_identifier(EccPoint::new(
                EccParameter::try_from(self.x.to_vec())?,
                EccParameter::try_from(self.y.to_vec())?,
            ))
            .build()
    }
}

/// The policy digest that an approval of these values has: PolicyPCR over [`PCRS`] of the SHA-256 bank (TPM 2.0 Library, Part 3, 23.7).
#[must_use]
pub fn policy_of(values: &[[u8; 32]; PCRS.len()]) -> [u8; 32] {
    const POLICY_PCR: u32 = 0x0000_017F;
    const SHA256: u16 = 0x000B;
    let mut bitmap = [0_u8; 3];
    for pcr in PCRS {
        if let Some(byte) = bitmap.get_mut(usize::from(pcr / 8)) {
            *byte |= 1 << (pcr % 8);
        }
    }
    let mut bytes = vec![0; 32];
    bytes.extend(POLICY_PCR.to_be_bytes());
    bytes.extend(1_u32.to_be_bytes());
    bytes.extend(SHA256.to_be_bytes());
    bytes.push(3);
    bytes.extend(bitmap);
    bytes.extend(sha256(&[&values.concat()]));
    sha256(&[&bytes])
}

/// [`PCRS`] as the TPM's library wants them.
pub(crate) fn selection() -> Result<PcrSelectionList, tss_esapi::Error> {
    let slots = [PcrSlot::Slot11, PcrSlot::Slot12, PcrSlot::Slot13];
    PcrSelectionListBuilder::new().with_selection(HashingAlgorithm::Sha256, &slots).build()
}

pub(crate) fn reference(purpose: &str) -> Result<Nonce, UnsealError> {
    Nonce::try_from(purpose.as_bytes().to_vec()).map_err(|_too_long| UnsealError::BadApproval)
}

fn digest(bytes: &[u8; 32]) -> Result<Digest, UnsealError> {
    Digest::try_from(bytes.to_vec()).map_err(|_unfit| UnsealError::BadApproval)
}
