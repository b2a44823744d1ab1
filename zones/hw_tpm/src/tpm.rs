//! The TPM itself: opened, taken into use once, and spoken to in encrypted sessions.

use std::str::FromStr;

use approval::ApprovalKey;
use serde::{Deserialize, Serialize};
use tss_esapi::attributes::{ObjectAttributesBuilder, SessionAttributesBuilder};
use tss_esapi::constants::response_code::Tss2ResponseCodeKind as Kind;
use tss_esapi::constants::{SessionType, StartupType};
use tss_esapi::handles::{KeyHandle, ObjectHandle, PersistentTpmHandle, TpmHandle};
use tss_esapi::interface_types::algorithm::{HashingAlgorithm, PublicAlgorithm};
use tss_esapi::interface_types::dynamic_handles::Persistent;
use tss_esapi::interface_types::ecc::EccCurve;
use tss_esapi::interface_types::resource_handles::{Hierarchy, Provision};
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::{
    Auth, EccPoint, EccScheme, KeyDerivationFunctionScheme, Public, PublicBuilder,
    PublicEccParametersBuilder, SymmetricDefinition, SymmetricDefinitionObject,
};
use tss_esapi::{Context, Error, TctiNameConf};
use zeroize::Zeroizing;

use crate::authority;
use crate::error::{OpenTpmError, ProvisionError, kind};
use crate::seal::{self, Sealed, Secret};

/// Where the storage key is kept: in the range that the TCG's registry leaves to owners.
const STORAGE_KEY: u32 = 0x8101_B001;

/// What the machine remembers of its TPM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The storage key's name (a hash of its public area): another key under the same handle is not ours.
    pub storage_key: Vec<u8>,
    /// The owner's authorization, sealed.
    pub owner: Sealed,
    /// The key that signs certificates on this machine: its private half never leaves the TPM.
    pub authority: Sealed,
    /// The TPM has it; `false`: a power cut may have come between ([`Tpm::own`]).
    pub owned: bool,
}

/// A TPM that holds this machine's storage key.
#[derive(Debug)]
pub struct Tpm {
    pub(crate) context: Context,
    pub(crate) storage_key: KeyHandle,
}

impl Tpm {
    /// Opens the TPM that `machine` knows. `device` is in the words of the TSS, for example `device:/dev/tpmrm0`.
    ///
    /// # Errors
    /// [`OpenTpmError`].
    pub fn open(device: &str, machine: &Machine) -> Result<Self, OpenTpmError> {
        let mut context = connect(device)?;
        let Some((handle, name)) = persistent(&mut context)? else { return Err(OpenTpmError::Cleared) };
        if name != machine.storage_key {
            return Err(OpenTpmError::Foreign);
        }
        Ok(Self { context, storage_key: handle })
    }

    /// Takes a TPM into use: makes the storage key, a random authorization of the owner that is sealed like a zone's secret, and
    /// the key of the device's authority.
    /// A storage key that an interrupted try left behind is used. The caller keeps what comes back, then calls [`Tpm::own`]: with an
    /// authorization that nobody remembers nobody could change anything any more.
    ///
    /// # Errors
    /// [`ProvisionError`].
    pub fn provision(
        device: &str,
        approval_key: ApprovalKey,
        purpose: &str,
    ) -> Result<(Self, Machine, Secret), ProvisionError> {
        let mut context = connect(device).map_err(|error| match error {
            OpenTpmError::Missing(error) => ProvisionError::Missing(error),
            OpenTpmError::Refused(what, error) => ProvisionError::Refused(what, error),
            OpenTpmError::Cleared | OpenTpmError::Foreign => unreachable!("connecting looks at no key"),
        })?;
        let handle = make_storage_key(&mut context)?;
        let mut tpm = Self { context, storage_key: handle };
        let refused = |what| move |error| ProvisionError::Refused(what, error);
        let storage_key =
            tpm.context.tr_get_name(handle.into()).map_err(refused("name its storage key"))?.value().to_vec();
        let owner = tpm.random()?;
        let sealed = seal::create(&mut tpm, &owner, approval_key, purpose, None)
            .map_err(refused("seal the owner's authorization"))?;
        let authority = authority::create(&mut tpm, approval_key, purpose)
            .map_err(refused("make a key for certificates"))?;
        Ok((tpm, Machine { storage_key, owner: sealed, authority, owned: false }, owner))
    }

    /// Gives the owner this authorization, where there is none yet; one that has it already keeps it.
    ///
    /// # Errors
    /// [`ProvisionError`]; it is another system's, for example.
    pub fn own(&mut self, owner: &Secret) -> Result<(), ProvisionError> {
        let changed = self.change_owner(None, owner);
        let foreign = |error: &Error| matches!(kind(error), Some(Kind::BadAuth | Kind::AuthFail));
        let changed = match changed {
            Err(error) if foreign(&error) => self.change_owner(Some(owner), owner),
            other => other,
        };
        changed.map_err(owned("take an owner's authorization"))
    }

    fn change_owner(&mut self, now: Option<&Secret>, next: &Secret) -> Result<(), Error> {
        let auth = |secret: &Secret| Auth::try_from(secret.as_bytes().to_vec());
        let next = auth(next)?;
        self.context.tr_set_auth(ObjectHandle::Owner, now.map(auth).transpose()?.unwrap_or_default())?;
        let session = self.session()?;
        let changed = self.context.execute_with_session(Some(session), |context| {
            context.hierarchy_change_auth(tss_esapi::handles::AuthHandle::Owner, next)
        });
        self.flush(session);
        self.context.tr_set_auth(ObjectHandle::Owner, Auth::default())?;
        changed
    }

    /// The last command before the machine goes off or starts anew: without it the TPM counts a power cut.
    ///
    /// # Errors
    /// The TPM's reason.
    pub fn shut_down(mut self) -> Result<(), Error> {
        self.context.shutdown(StartupType::Clear)
    }

    /// 32 bytes of the TPM's random numbers, mixed with the kernel's by nobody: callers that need both mix themselves.
    fn random(&mut self) -> Result<Secret, ProvisionError> {
        let refused = |error| ProvisionError::Refused("give random numbers", error);
        let session = self.session().map_err(refused)?;
        let bytes = self
            .context
            .execute_with_session(Some(session), |context| context.get_random(seal::SECRET))
            .map_err(refused);
        self.flush(session);
        let bytes = Zeroizing::new(bytes?.to_vec());
        Secret::from_slice(&bytes)
            .ok_or_else(|| refused(Error::WrapperError(tss_esapi::WrapperErrorKind::WrongParamSize)))
    }

    /// A session for authorizations, salted to the storage key, with encrypted parameters both ways.
    pub(crate) fn session(&mut self) -> Result<AuthSession, Error> {
        self.begin(SessionType::Hmac)
    }

    /// The same for a policy.
    pub(crate) fn policy_session(&mut self) -> Result<AuthSession, Error> {
        self.begin(SessionType::Policy)
    }

    fn begin(&mut self, kind: SessionType) -> Result<AuthSession, Error> {
        let session = self.context.start_auth_session(
            Some(self.storage_key),
            None,
            None,
            kind,
            SymmetricDefinition::AES_128_CFB,
            HashingAlgorithm::Sha256,
        )?;
        let session = session.ok_or(Error::WrapperError(tss_esapi::WrapperErrorKind::InvalidHandleState))?;
        let (attributes, mask) = SessionAttributesBuilder::new()
            .with_decrypt(true)
            .with_encrypt(true)
            .with_continue_session(true)
            .build();
        self.context.tr_sess_set_attributes(session, attributes, mask)?;
        Ok(session)
    }

    /// Ends a session. A TPM that refuses that has lost it already.
    pub(crate) fn flush(&mut self, session: AuthSession) {
        let _gone = self.context.flush_context(tss_esapi::handles::SessionHandle::from(session).into());
    }
}

fn connect(device: &str) -> Result<Context, OpenTpmError> {
    let device = TctiNameConf::from_str(device).map_err(OpenTpmError::Missing)?;
    Context::new(device).map_err(OpenTpmError::Missing)
}

/// The key under the handle of the storage key, and its name.
fn persistent(context: &mut Context) -> Result<Option<(KeyHandle, Vec<u8>)>, OpenTpmError> {
    let refused = |error| OpenTpmError::Refused("show its storage key", error);
    let handle = TpmHandle::Persistent(PersistentTpmHandle::new(STORAGE_KEY).map_err(refused)?);
    match context.tr_from_tpm_public(handle) {
        Ok(handle) => {
            let name = context.tr_get_name(handle).map_err(refused)?;
            Ok(Some((handle.into(), name.value().to_vec())))
        }
        Err(error) if kind(&error) == Some(Kind::Handle) => Ok(None),
        Err(error) => Err(refused(error)),
    }
}

fn make_storage_key(context: &mut Context) -> Result<KeyHandle, ProvisionError> {
    let there = persistent(context).map_err(|error| match error {
        OpenTpmError::Refused(what, error) => ProvisionError::Refused(what, error),
        OpenTpmError::Missing(error) => ProvisionError::Missing(error),
        OpenTpmError::Cleared | OpenTpmError::Foreign => unreachable!("no key is judged here"),
    })?;
    if let Some((handle, _)) = there {
        return Ok(handle);
    }
    let make = "make a storage key";
    let template = storage_template().map_err(|error| ProvisionError::Refused(make, error))?;
    let (primary, kept) = context
        .execute_with_session(Some(AuthSession::Password), |context| {
            let primary =
                context.create_primary(Hierarchy::Owner, template, None, None, None, None)?.key_handle;
            let place = Persistent::Persistent(PersistentTpmHandle::new(STORAGE_KEY)?);
            Ok::<_, Error>((primary, context.evict_control(Provision::Owner, primary.into(), place)))
        })
        .map_err(owned(make))?;
    let _gone = context.flush_context(ObjectHandle::from(primary));
    kept.map(KeyHandle::from).map_err(owned("keep its storage key"))
}

/// What an authorization that is not ours means.
fn owned(what: &'static str) -> impl Fn(Error) -> ProvisionError {
    move |error| match kind(&error) {
        Some(Kind::BadAuth | Kind::AuthFail) => ProvisionError::Owned,
        Some(Kind::Lockout) => ProvisionError::LockedOut,
        _ => ProvisionError::Refused(what, error),
    }
}

/// The storage key: P-256, restricted decryption, AES-128-CFB below it, no part in the TPM's lockout
/// (TCG EK Credential Profile's template for storage roots, with noDA).
fn storage_template() -> Result<Public, Error> {
    let attributes = ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_sensitive_data_origin(true)
        .with_user_with_auth(true)
        .with_no_da(true)
        .with_restricted(true)
        .with_decrypt(true)
        .build()?;
    let parameters = PublicEccParametersBuilder::new()
        .with_ecc_scheme(EccScheme::Null)
        .with_curve(EccCurve::NistP256)
        .with_is_signing_key(false)
        .with_is_decryption_key(true)
        .with_restricted(true)
        .with_symmetric(SymmetricDefinitionObject::AES_128_CFB)
        .with_key_derivation_function_scheme(KeyDerivationFunctionScheme::Null)
        .build()?;
    PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::Ecc)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_ecc_parameters(parameters)
        .with_ecc_unique_identifier(EccPoint::default())
        .build()
}
