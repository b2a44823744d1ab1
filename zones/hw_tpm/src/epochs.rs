//! The highest epochs that this machine has used: an NV index that the owner alone writes, so that nobody sets them back by
//! writing the disk.

use tss_esapi::attributes::NvIndexAttributesBuilder;
use tss_esapi::constants::response_code::Tss2ResponseCodeKind as Kind;
use tss_esapi::handles::{NvIndexHandle, NvIndexTpmHandle, TpmHandle};
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::resource_handles::{NvAuth, Provision};
use tss_esapi::structures::{MaxNvBuffer, NvPublicBuilder};
use tss_esapi::{Error, WrapperErrorKind};

use crate::error::{UnsealError, kind};
use crate::pin::as_owner;
use crate::seal::Secret;
use crate::tpm::Tpm;

/// The index: in the range that the TCG's registry leaves to owners, below those of PINs.
const INDEX: u32 = 0x0180_A000;
/// Bytes of what an epoch is of, and with the epoch behind it, big-endian.
const TAG: usize = 8;
const ENTRY: usize = TAG + 4;
/// How many the index holds; zeros where there is none.
const ENTRIES: usize = 32;

/// What an epoch is of: a part of a hash of its purpose.
pub type EpochTag = [u8; TAG];

impl Tpm {
    /// What was noted; nothing on a machine where no epoch was ever raised.
    ///
    /// # Errors
    /// [`UnsealError`].
    pub fn epochs(&mut self) -> Result<Vec<(EpochTag, u32)>, UnsealError> {
        let refused = |error| UnsealError::Refused("show the epochs that it knows", error);
        let Some(index) = find(self).map_err(refused)? else { return Ok(Vec::new()) };
        let content = read(self, index).map_err(refused)?;
        Ok(entries(&content).filter(|(tag, _)| *tag != EpochTag::default()).collect())
    }

    /// Notes a higher one.
    ///
    /// # Errors
    /// [`UnsealError`]; the index has room for so many purposes only.
    pub fn raise_epoch(&mut self, tag: EpochTag, epoch: u32, owner: &Secret) -> Result<(), UnsealError> {
        raise(self, tag, epoch, owner).map_err(|error| UnsealError::Refused("note an epoch", error))
    }
}

fn raise(tpm: &mut Tpm, tag: EpochTag, epoch: u32, owner: &Secret) -> Result<(), Error> {
    let index = match find(tpm)? {
        Some(index) => index,
        None => define(tpm, owner)?,
    };
    let content = read(tpm, index)?;
    let place = |wanted: EpochTag| entries(&content).position(|(tag, _)| tag == wanted);
    if entries(&content).any(|(of, noted)| of == tag && noted >= epoch) {
        return Ok(());
    }
    let place = place(tag).or_else(|| place(EpochTag::default()));
    let place = place.ok_or(Error::WrapperError(WrapperErrorKind::WrongParamSize))?;
    let entry = MaxNvBuffer::try_from([&tag[..], &epoch.to_be_bytes()].concat())?;
    let at = u16::try_from(place * ENTRY).unwrap_or(u16::MAX);
    as_owner(tpm, owner, |context| context.nv_write(NvAuth::Owner, index, entry, at))
}

fn entries(content: &[u8]) -> impl Iterator<Item = (EpochTag, u32)> {
    content.as_chunks::<ENTRY>().0.iter().map(|entry| {
        let (mut tag, mut epoch) = ([0; TAG], [0; ENTRY - TAG]);
        let (of, number) = entry.split_at(TAG);
        tag.copy_from_slice(of);
        epoch.copy_from_slice(number);
        (tag, u32::from_be_bytes(epoch))
    })
}

fn find(tpm: &mut Tpm) -> Result<Option<NvIndexHandle>, Error> {
    match tpm.context.tr_from_tpm_public(TpmHandle::NvIndex(NvIndexTpmHandle::new(INDEX)?)) {
        Ok(found) => Ok(Some(found.into())),
        Err(error) if kind(&error) == Some(Kind::Handle) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Everybody may read it; the session says that it is this TPM who answers.
fn read(tpm: &mut Tpm, index: NvIndexHandle) -> Result<Vec<u8>, Error> {
    let session = tpm.session()?;
    let size = u16::try_from(ENTRIES * ENTRY).unwrap_or(u16::MAX);
    let content = tpm.context.execute_with_session(Some(session), |context| {
        context.nv_read(NvAuth::NvIndex(index), index, size, 0)
    });
    tpm.flush(session);
    Ok(content?.to_vec())
}

fn define(tpm: &mut Tpm, owner: &Secret) -> Result<NvIndexHandle, Error> {
    let handle = NvIndexTpmHandle::new(INDEX)?;
    let attributes = NvIndexAttributesBuilder::new()
        .with_owner_write(true)
        .with_owner_read(true)
        .with_auth_read(true)
        .with_no_da(true)
        .build()?;
    let public = NvPublicBuilder::new()
        .with_nv_index(handle)
        .with_index_name_algorithm(HashingAlgorithm::Sha256)
        .with_index_attributes(attributes)
        .with_data_area_size(ENTRIES * ENTRY)
        .build()?;
    let index = as_owner(tpm, owner, |context| context.nv_define_space(Provision::Owner, None, public))?;
    let zeros = MaxNvBuffer::try_from(vec![0; ENTRIES * ENTRY])?;
    as_owner(tpm, owner, |context| context.nv_write(NvAuth::Owner, index, zeros, 0))?;
    // Writing changed its attributes, and so its name: the library's view is read anew.
    let mut stale = tss_esapi::handles::ObjectHandle::from(index);
    tpm.context.tr_close(&mut stale)?;
    find(tpm)?.ok_or(Error::WrapperError(WrapperErrorKind::InvalidHandleState))
}
