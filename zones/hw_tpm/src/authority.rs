//! The device's authority: a P-256 key that signs certificates. It is made once, lies below the storage key like a sealed
//! secret, and its private half never leaves the TPM.

use approval::{Approval, ApprovalKey};
use serde::{Deserialize, Serialize};
use tss_esapi::attributes::{ObjectAttributesBuilder, SessionAttributesBuilder};
use tss_esapi::constants::tss::{TPM2_RH_NULL, TPM2_ST_HASHCHECK};
use tss_esapi::handles::{KeyHandle, ObjectHandle};
use tss_esapi::interface_types::algorithm::{HashingAlgorithm, PublicAlgorithm};
use tss_esapi::interface_types::ecc::EccCurve;
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::{
    Digest, EccPoint, EccScheme, HashScheme, HashcheckTicket, KeyDerivationFunctionScheme, Public,
    PublicBuilder, PublicEccParametersBuilder, Signature, SignatureScheme,
};
use tss_esapi::traits::UnMarshall;
use tss_esapi::tss2_esys::TPMT_TK_HASHCHECK;
use tss_esapi::{Error, WrapperErrorKind};

use crate::error::UnsealError;
use crate::seal::{self, Sealed};
use crate::tpm::Tpm;

/// A point of P-256, its coordinates big-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// The first coordinate.
    pub x: [u8; 32],
    /// The second one.
    pub y: [u8; 32],
}

impl Point {
    /// The public half of an authority.
    #[must_use]
    pub fn of(authority: &Sealed) -> Option<Self> {
        let Ok(Public::Ecc { unique, .. }) = Public::unmarshall(&authority.public) else { return None };
        Some(Self { x: coordinate(unique.x().value())?, y: coordinate(unique.y().value())? })
    }
}

/// 32 bytes of a number that may come with fewer.
fn coordinate(bytes: &[u8]) -> Option<[u8; 32]> {
    let mut all = [0; 32];
    all.get_mut(32_usize.checked_sub(bytes.len())?..)?.copy_from_slice(bytes);
    Some(all)
}

/// Makes one; who uses it satisfies the same policy as whoever opens a seal.
pub(crate) fn create(tpm: &mut Tpm, key: ApprovalKey, purpose: &str) -> Result<Sealed, Error> {
    let attributes = ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_sensitive_data_origin(true)
        .with_no_da(true)
        .with_sign_encrypt(true)
        .build()?;
    let parameters = PublicEccParametersBuilder::new()
        .with_ecc_scheme(EccScheme::EcDsa(HashScheme::new(HashingAlgorithm::Sha256)))
        .with_curve(EccCurve::NistP256)
        .with_is_signing_key(true)
        .with_is_decryption_key(false)
        .with_restricted(false)
        .with_key_derivation_function_scheme(KeyDerivationFunctionScheme::Null)
        .build()?;
    let template = PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::Ecc)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_auth_policy(Digest::try_from(seal::policy(key, purpose, None).to_vec())?)
        .with_ecc_parameters(parameters)
        .with_ecc_unique_identifier(EccPoint::default())
        .build()?;
    seal::below_storage_key(tpm, template, None, purpose, None)
}

impl Tpm {
    /// Has the authority sign a SHA-256 digest; r and s, big-endian.
    ///
    /// # Errors
    /// [`UnsealError`].
    pub fn sign(
        &mut self,
        authority: &Sealed,
        approval_key: ApprovalKey,
        approvals: &[Approval],
        digest: &[u8; 32],
    ) -> Result<([u8; 32], [u8; 32]), UnsealError> {
        let refused = |error| UnsealError::Refused("sign a certificate", error);
        let object = seal::load(self, authority)?;
        let signed = self.policy_session().map_err(refused).and_then(|policy| {
            let signed = seal::satisfy(self, policy, authority, approval_key, approvals, None)
                .and_then(|()| with_key(self, policy, object, digest).map_err(refused));
            self.flush(policy);
            signed
        });
        let _gone = self.context.flush_context(object);
        signed
    }
}

fn with_key(
    tpm: &mut Tpm,
    policy: AuthSession,
    key: ObjectHandle,
    digest: &[u8; 32],
) -> Result<([u8; 32], [u8; 32]), Error> {
    // A signature is no secret, and no parameter that a TPM can encrypt.
    let (attributes, mask) =
        SessionAttributesBuilder::new().with_decrypt(true).with_continue_session(true).build();
    tpm.context.tr_sess_set_attributes(policy, attributes, mask)?;
    // The key is not restricted: nobody asks where the digest is from.
    let any =
        TPMT_TK_HASHCHECK { tag: TPM2_ST_HASHCHECK, hierarchy: TPM2_RH_NULL, digest: Default::default() };
    let (digest, any) = (Digest::try_from(digest.to_vec())?, HashcheckTicket::try_from(any)?);
    let signature = tpm.context.execute_with_session(Some(policy), |context| {
        context.sign(KeyHandle::from(key), digest, SignatureScheme::Null, any)
    })?;
    let Signature::EcDsa(halves) = &signature else {
        return Err(Error::WrapperError(WrapperErrorKind::InvalidParam));
    };
    coordinate(halves.signature_r().value())
        .zip(coordinate(halves.signature_s().value()))
        .ok_or(Error::WrapperError(WrapperErrorKind::WrongParamSize))
}
