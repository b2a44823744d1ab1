//! PIN indices: NV indices of the PIN-FAIL kind (TPM 2.0 Library, Part 1, 37.2.8), in which the TPM counts wrong tries, and forgets
//! them at a right one.

use serde::{Deserialize, Serialize};
use tss_esapi::Error;
use tss_esapi::attributes::NvIndexAttributesBuilder;
use tss_esapi::constants::NvIndexType;
use tss_esapi::constants::response_code::Tss2ResponseCodeKind as Kind;
use tss_esapi::handles::{NvIndexHandle, NvIndexTpmHandle, ObjectHandle, TpmHandle};
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::resource_handles::{NvAuth, Provision};
use tss_esapi::interface_types::session_handles::PolicySession;
use tss_esapi::structures::{Auth, Digest, MaxNvBuffer, Nonce, NvPublicBuilder};

use crate::error::{UnsealError, kind};
use crate::seal::{Pin, Sealed, Secret};
use crate::tpm::Tpm;

/// The first index: in the range that the TCG's registry leaves to owners.
const FIRST: u32 = 0x0180_B000;
/// Its content: wrong tries and their limit, 32 bits each, big-endian.
const SIZE: usize = 8;

/// Where a zone's PIN is counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinIndex {
    /// The index.
    pub index: u32,
    /// Its name once it was written (a hash of its public area).
    pub name: Vec<u8>,
}

/// A PIN to be.
#[derive(Clone, Copy, Debug)]
pub struct NewPin<'a> {
    /// The PIN.
    pub pin: &'a Pin,
    /// Where it is counted: an index of its own for each seal that still counts.
    pub place: u16,
    /// Wrong tries until it is locked.
    pub limit: u32,
}

/// How often a PIN was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tries {
    /// Since it was right for the last time.
    pub wrong: u32,
    /// How many lock it.
    pub limit: u32,
}

impl PinIndex {
    /// The place of [`NewPin`] that it was made at.
    #[must_use]
    pub fn place(&self) -> Option<u16> {
        self.index.checked_sub(FIRST).and_then(|place| u16::try_from(place).ok())
    }
}

impl Tpm {
    /// How often the PIN of a seal was wrong; `None`: it asks for none.
    ///
    /// # Errors
    /// [`UnsealError`].
    pub fn tries(&mut self, sealed: &Sealed, owner: &Secret) -> Result<Option<Tries>, UnsealError> {
        let Some(pin) = &sealed.pin else { return Ok(None) };
        let index = find(self, pin)?;
        let bytes = as_owner(self, owner, |context| {
            context.nv_read(NvAuth::Owner, index, u16::try_from(SIZE).unwrap_or(u16::MAX), 0)
        });
        let bytes = bytes.map_err(|error| UnsealError::Refused("say how many tries are left", error))?;
        let (wrong, limit) = bytes.split_at_checked(4).unwrap_or_default();
        let number = |bytes: &[u8]| bytes.try_into().map(u32::from_be_bytes).unwrap_or_default();
        Ok(Some(Tries { wrong: number(wrong), limit: number(limit) }))
    }

    /// Forgets the PIN of a zone that is gone. Its seal never opens again.
    ///
    /// # Errors
    /// [`UnsealError`].
    pub fn forget(&mut self, sealed: &Sealed, owner: &Secret) -> Result<(), UnsealError> {
        let Some(pin) = &sealed.pin else { return Ok(()) };
        let index = match find(self, pin) {
            Err(UnsealError::PinGone) => return Ok(()),
            other => other?,
        };
        as_owner(self, owner, |context| context.nv_undefine_space(Provision::Owner, index))
            .map_err(|error| UnsealError::Refused("forget a PIN", error))
    }
}

/// Makes an index; one that is there is made anew.
pub(crate) fn define(tpm: &mut Tpm, new: &NewPin<'_>, owner: &Secret) -> Result<PinIndex, Error> {
    let number = FIRST + u32::from(new.place);
    let handle = NvIndexTpmHandle::new(number)?;
    let attributes = NvIndexAttributesBuilder::new()
        .with_nv_index_type(NvIndexType::PinFail)
        .with_owner_write(true)
        .with_owner_read(true)
        .with_auth_read(true)
        .with_no_da(true)
        .build()?;
    let public = NvPublicBuilder::new()
        .with_nv_index(handle)
        .with_index_name_algorithm(HashingAlgorithm::Sha256)
        .with_index_attributes(attributes)
        .with_data_area_size(SIZE)
        .build()?;
    match tpm.context.tr_from_tpm_public(TpmHandle::NvIndex(handle)) {
        Ok(old) => as_owner(tpm, owner, |context| context.nv_undefine_space(Provision::Owner, old.into()))?,
        Err(error) if kind(&error) == Some(Kind::Handle) => {}
        Err(error) => return Err(error),
    }
    let auth = Auth::try_from(new.pin.0.to_vec())?;
    let index =
        as_owner(tpm, owner, |context| context.nv_define_space(Provision::Owner, Some(auth), public))?;
    let content = [0_u32.to_be_bytes(), new.limit.to_be_bytes()].concat();
    let content = MaxNvBuffer::try_from(content)?;
    as_owner(tpm, owner, |context| context.nv_write(NvAuth::Owner, index, content, 0))?;
    // Writing changed its attributes, and so its name: the library's view is read anew.
    let mut stale = ObjectHandle::from(index);
    tpm.context.tr_close(&mut stale)?;
    let written = tpm.context.tr_from_tpm_public(TpmHandle::NvIndex(handle))?;
    Ok(PinIndex { index: number, name: tpm.context.tr_get_name(written)?.value().to_vec() })
}

/// The index of a seal; another one under its number is none.
fn find(tpm: &mut Tpm, pin: &PinIndex) -> Result<NvIndexHandle, UnsealError> {
    let refused = |error| UnsealError::Refused("show a PIN's index", error);
    let handle = NvIndexTpmHandle::new(pin.index).map_err(|_unfit| UnsealError::NotOurs)?;
    let found = match tpm.context.tr_from_tpm_public(TpmHandle::NvIndex(handle)) {
        Ok(found) => found,
        Err(error) if kind(&error) == Some(Kind::Handle) => return Err(UnsealError::PinGone),
        Err(error) => return Err(refused(error)),
    };
    let name = tpm.context.tr_get_name(found).map_err(refused)?;
    if name.value() == pin.name { Ok(found.into()) } else { Err(UnsealError::PinGone) }
}

/// Proves the PIN to a policy. The TPM counts a wrong one before it answers.
pub(crate) fn prove(
    tpm: &mut Tpm,
    policy: PolicySession,
    index: &PinIndex,
    pin: &Pin,
) -> Result<(), UnsealError> {
    let refused = |error| UnsealError::Refused("compare a PIN", error);
    let index = find(tpm, index)?;
    let auth = Auth::try_from(pin.0.to_vec()).map_err(refused)?;
    tpm.context.tr_set_auth(index.into(), auth).map_err(refused)?;
    let session = tpm.session().map_err(refused)?;
    let proved = tpm.context.execute_with_session(Some(session), |context| {
        context.policy_secret(
            policy,
            index.into(),
            Nonce::default(),
            Digest::default(),
            Nonce::default(),
            None,
        )
    });
    tpm.flush(session);
    let _forgotten = tpm.context.tr_set_auth(index.into(), Auth::default());
    match proved {
        Ok(_ticket) => Ok(()),
        Err(error) => Err(match kind(&error) {
            Some(Kind::BadAuth | Kind::AuthFail) => UnsealError::WrongPin,
            Some(Kind::AuthUnavailable) => UnsealError::LockedOut,
            _ => refused(error),
        }),
    }
}

/// Runs a command with the owner's authorization, which the library forgets again.
pub(crate) fn as_owner<T>(
    tpm: &mut Tpm,
    owner: &Secret,
    command: impl FnOnce(&mut tss_esapi::Context) -> Result<T, Error>,
) -> Result<T, Error> {
    let session = tpm.session()?;
    let auth = Auth::try_from(owner.as_bytes().to_vec())?;
    tpm.context.tr_set_auth(ObjectHandle::Owner, auth)?;
    let done = tpm.context.execute_with_session(Some(session), command);
    tpm.flush(session);
    tpm.context.tr_set_auth(ObjectHandle::Owner, Auth::default())?;
    done
}
