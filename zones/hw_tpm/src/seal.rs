//! Sealing and unsealing of one secret.

use std::fmt;

use approval::{Approval, ApprovalKey, Policy, RUNNING};
use serde::{Deserialize, Serialize};
use tss_esapi::attributes::ObjectAttributesBuilder;
use tss_esapi::constants::response_code::Tss2ResponseCodeKind as Kind;
use tss_esapi::handles::ObjectHandle;
use tss_esapi::interface_types::algorithm::{HashingAlgorithm, PublicAlgorithm};
use tss_esapi::interface_types::resource_handles::Hierarchy;
use tss_esapi::interface_types::session_handles::{AuthSession, PolicySession};
use tss_esapi::structures::{
    Digest, KeyedHashScheme, Nonce, Private, Public, PublicBuilder, PublicKeyedHashParameters, SensitiveData,
};
use tss_esapi::traits::{Marshall, UnMarshall};
use tss_esapi::{Error, WrapperErrorKind};
use zeroize::{Zeroize, Zeroizing};

use crate::error::{SealError, UnsealError, kind};
use crate::pin::{self, PinIndex};
use crate::tpm::Tpm;
use crate::tss;

/// Bytes of a secret.
pub const SECRET: usize = 32;

/// What is sealed. It is wiped when dropped, and never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; SECRET]);

/// A PIN after stretching (Argon2id is the caller's part): what the TPM compares and counts.
#[derive(Clone, PartialEq, Eq)]
pub struct Pin(pub [u8; SECRET]);

/// A sealed secret, or a key that is held like one. Only the TPM that made it can open it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// Its public area (TPM2B_PUBLIC's content).
    pub public: Vec<u8>,
    /// Its private area, encrypted by the TPM.
    pub private: Vec<u8>,
    /// What approvals have to be for.
    pub purpose: String,
    /// The index that counts wrong PINs, when it asks for one.
    pub pin: Option<PinIndex>,
}

impl Secret {
    /// Takes the bytes of a secret; the caller wipes its own copy.
    #[must_use]
    pub fn new(bytes: [u8; SECRET]) -> Self {
        Self(bytes)
    }

    pub(crate) fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; SECRET] {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pin(..)")
    }
}

impl Tpm {
    /// Seals a zone's secret. With `pin` (and the owner's authorization) its index is made in the TPM, or made anew with no wrong
    /// tries: every seal that names it then asks for the new PIN, because an index' name does not tell its PIN. So a seal that
    /// is to stay good until the next one is kept has another place.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn seal(
        &mut self,
        secret: &Secret,
        approval_key: ApprovalKey,
        purpose: &str,
        pin: Option<(pin::NewPin<'_>, &Secret)>,
    ) -> Result<Sealed, SealError> {
        let index = match pin {
            Some((new, owner)) => Some(
                pin::define(self, &new, owner).map_err(|error| SealError::Refused("count PINs", error))?,
            ),
            None => None,
        };
        create(self, secret, approval_key, purpose, index)
            .map_err(|error| SealError::Refused("seal a secret", error))
    }

    /// Opens a seal.
    ///
    /// # Errors
    /// [`UnsealError`]; a wrong PIN has been counted when this returns.
    pub fn unseal(
        &mut self,
        sealed: &Sealed,
        approval_key: ApprovalKey,
        approvals: &[Approval],
        pin: Option<&Pin>,
    ) -> Result<Secret, UnsealError> {
        let object = load(self, sealed)?;
        let opened = self.policy_session().map_err(refused("begin a policy")).and_then(|policy| {
            let opened = satisfy(self, policy, sealed, approval_key, approvals, pin)
                .and_then(|()| open(self, policy, object));
            self.flush(policy);
            opened
        });
        let _gone = self.context.flush_context(object);
        opened
    }
}

fn refused(what: &'static str) -> impl Fn(Error) -> UnsealError {
    move |error| UnsealError::Refused(what, error)
}

/// Makes a sealed object below the storage key.
pub(crate) fn create(
    tpm: &mut Tpm,
    secret: &Secret,
    approval_key: ApprovalKey,
    purpose: &str,
    pin: Option<PinIndex>,
) -> Result<Sealed, Error> {
    let policy = policy(approval_key, purpose, pin.as_ref());
    let attributes = ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_no_da(true)
        .build()?;
    let template = PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::KeyedHash)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_auth_policy(Digest::try_from(policy.to_vec())?)
        .with_keyed_hash_parameters(PublicKeyedHashParameters::new(KeyedHashScheme::Null))
        .with_keyed_hash_unique_identifier(Digest::default())
        .build()?;
    let data = SensitiveData::try_from(secret.as_bytes().to_vec())?;
    below_storage_key(tpm, template, Some(data), purpose, pin)
}

/// Makes an object below the storage key.
pub(crate) fn below_storage_key(
    tpm: &mut Tpm,
    template: Public,
    data: Option<SensitiveData>,
    purpose: &str,
    pin: Option<PinIndex>,
) -> Result<Sealed, Error> {
    let session = tpm.session()?;
    let parent = tpm.storage_key;
    let made = tpm.context.execute_with_session(Some(session), |context| {
        context.create(parent, template, None, data, None, None)
    });
    tpm.flush(session);
    let made = made?;
    Ok(Sealed {
        public: made.out_public.marshall()?,
        private: made.out_private.value().to_vec(),
        purpose: purpose.to_owned(),
        pin,
    })
}

/// The policy of a sealed object: an approval, then the PIN's index.
pub(crate) fn policy(approval_key: ApprovalKey, purpose: &str, pin: Option<&PinIndex>) -> [u8; 32] {
    let authorized = Policy::authorize(&approval_key, purpose, RUNNING);
    pin.map_or(authorized, |pin| authorized.secret(&pin.name)).digest()
}

pub(crate) fn load(tpm: &mut Tpm, sealed: &Sealed) -> Result<ObjectHandle, UnsealError> {
    let public = Public::unmarshall(&sealed.public).map_err(|_unfit| UnsealError::NotOurs)?;
    let private = Private::try_from(sealed.private.clone()).map_err(|_unfit| UnsealError::NotOurs)?;
    let session = tpm.session().map_err(refused("begin a session"))?;
    let parent = tpm.storage_key;
    let loaded =
        tpm.context.execute_with_session(Some(session), |context| context.load(parent, private, public));
    tpm.flush(session);
    match loaded {
        Ok(handle) => Ok(handle.into()),
        // Whatever the TPM finds wrong with it: it did not make these bytes.
        Err(error @ Error::Tss2Error(_)) if kind(&error).is_some_and(is_unfit) => Err(UnsealError::NotOurs),
        Err(error) => Err(UnsealError::Refused("load a sealed record", error)),
    }
}

fn is_unfit(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Integrity
            | Kind::Size
            | Kind::Value
            | Kind::Binding
            | Kind::Type
            | Kind::Hash
            | Kind::Insufficient
    )
}

/// Satisfies the policy of a seal in a session.
pub(crate) fn satisfy(
    tpm: &mut Tpm,
    session: AuthSession,
    sealed: &Sealed,
    key: ApprovalKey,
    approvals: &[Approval],
    pin: Option<&Pin>,
) -> Result<(), UnsealError> {
    let policy = PolicySession::try_from(session).map_err(refused("begin a policy"))?;
    let selection = tss::selection().map_err(refused("choose PCRs"))?;
    tpm.context.policy_pcr(policy, Digest::default(), selection).map_err(refused("read its PCRs"))?;
    let found = tpm.context.policy_get_digest(policy).map_err(refused("say what it measured"))?;
    let approval = approvals
        .iter()
        .find(|approval| {
            approval.purpose == sealed.purpose
                && approval.phase == RUNNING
                && approval.policy[..] == found[..]
        })
        .ok_or(UnsealError::NotApproved)?;
    authorize(tpm, policy, approval, key)?;
    match (&sealed.pin, pin) {
        (None, _) => Ok(()),
        (Some(_), None) => Err(UnsealError::PinNeeded),
        (Some(index), Some(pin)) => pin::prove(tpm, policy, index, pin),
    }
}

/// Lets an approval stand for the measured state.
fn authorize(
    tpm: &mut Tpm,
    policy: PolicySession,
    approval: &Approval,
    key: ApprovalKey,
) -> Result<(), UnsealError> {
    let load = refused("load the approval key");
    let public = tss::public(key).map_err(&load)?;
    let handle = tpm.context.load_external_public(public, Hierarchy::Owner).map_err(&load)?;
    let ticket = Digest::try_from(approval.hash().to_vec())
        .and_then(|hash| Ok((hash, tss::signature(approval)?)))
        .map_err(|_unfit| UnsealError::BadApproval)
        .and_then(|(hash, signature)| {
            tpm.context.verify_signature(handle, hash, signature).map_err(|error| match kind(&error) {
                Some(Kind::Signature) => UnsealError::BadApproval,
                _ => UnsealError::Refused("check an approval", error),
            })
        });
    let _gone = tpm.context.flush_context(handle.into());
    let take = refused("take an approval");
    let policy_digest = Digest::try_from(approval.policy.to_vec()).map_err(&take)?;
    let reference = Nonce::try_from(approval.reference().to_vec()).map_err(&take)?;
    let name = tss::name(key).map_err(&take)?;
    tpm.context.policy_authorize(policy, policy_digest, reference, &name, ticket?).map_err(take)
}

fn open(tpm: &mut Tpm, policy: AuthSession, object: ObjectHandle) -> Result<Secret, UnsealError> {
    let data = tpm.context.execute_with_session(Some(policy), |context| context.unseal(object)).map_err(
        |error| match kind(&error) {
            // The seal names another key, another purpose or another index.
            Some(Kind::PolicyFail) => UnsealError::BadApproval,
            _ => UnsealError::Refused("open a seal", error),
        },
    )?;
    let bytes = Zeroizing::new(data.to_vec());
    Secret::from_slice(&bytes)
        .ok_or(UnsealError::Refused("give 32 bytes", Error::WrapperError(WrapperErrorKind::WrongParamSize)))
}
