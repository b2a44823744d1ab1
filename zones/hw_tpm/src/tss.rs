//! Approvals as the TPM's library wants them.

use approval::{Approval, ApprovalKey, HOST_PCRS};
use tss_esapi::Error;
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::structures::{
    EccParameter, EccSignature, Name, PcrSelectionList, PcrSelectionListBuilder, PcrSlot, Public, Signature,
};
use tss_esapi::traits::UnMarshall;

/// The key that the library loads.
pub(crate) fn public(key: ApprovalKey) -> Result<Public, Error> {
    Public::unmarshall(&key.public_area())
}

/// Its name.
pub(crate) fn name(key: ApprovalKey) -> Result<Name, Error> {
    Name::try_from(key.name())
}

/// An approval's signature.
pub(crate) fn signature(approval: &Approval) -> Result<Signature, Error> {
    let part = |bytes: &[u8; 32]| EccParameter::try_from(bytes.to_vec());
    let (r, s) = &approval.signature;
    Ok(Signature::EcDsa(EccSignature::create(HashingAlgorithm::Sha256, part(r)?, part(s)?)?))
}

/// The registers that the host is held to.
pub(crate) fn selection() -> Result<PcrSelectionList, Error> {
    const SLOTS: [PcrSlot; HOST_PCRS.len()] = [PcrSlot::Slot11, PcrSlot::Slot12, PcrSlot::Slot13];
    PcrSelectionListBuilder::new().with_selection(HashingAlgorithm::Sha256, &SLOTS).build()
}
