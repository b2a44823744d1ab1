//! The commands that `keeper` gives a virtual TPM, as bytes.
//!
//! Control commands are swtpm's (`tpm_ioctl.h`): a number and its arguments. TPM commands follow the TPM 2.0 Library
//! specification, part 3; where one needs the platform's authorization it is a password session with the empty password,
//! which is what a hierarchy has after each start.

use approval::{Approval, ApprovalKey, Digest};
use handover::place::RECORD_INDEX;

/// swtpm's control commands.
pub(crate) mod control {
    pub(crate) const GET_CAPABILITY: u32 = 1;
    pub(crate) const INIT: u32 = 2;
    pub(crate) const SET_LOCALITY: u32 = 5;
    pub(crate) const HASH_START: u32 = 6;
    pub(crate) const HASH_DATA: u32 = 7;
    pub(crate) const HASH_END: u32 = 8;
    pub(crate) const STOP: u32 = 14;
    pub(crate) const SET_DATAFD: u32 = 16;
    pub(crate) const SET_BUFFERSIZE: u32 = 17;

    /// The capabilities that this needs: INIT, SET_LOCALITY, HASHING, STOP, SET_DATAFD, SET_BUFFERSIZE.
    pub(crate) const NEEDED: u64 = 1 | 1 << 3 | 1 << 4 | 1 << 10 | 1 << 12 | 1 << 13;

    /// The most bytes that one HASH_DATA takes.
    pub(crate) const MOST_HASHED: usize = 4096;
}

/// `TPM_RH_PLATFORM`.
const PLATFORM: u32 = 0x4000_000C;
/// `TPM_ALG_SHA256`.
const SHA256: u16 = 0x000B;
/// The other banks, and their digests' lengths: SHA-1, SHA-384, SHA-512.
const OTHER_BANKS: [(u16, usize); 3] = [(0x0004, 20), (0x000C, 48), (0x000D, 64)];

/// `TPM_ST_NO_SESSIONS`, `TPM_ST_SESSIONS`.
const NO_SESSIONS: u16 = 0x8001;
const SESSIONS: u16 = 0x8002;

/// `TPM_RC_HANDLE` for the second handle: no such index.
pub(crate) const NO_INDEX: u32 = 0x28B;
/// The same for the first handle.
pub(crate) const NO_FIRST_INDEX: u32 = 0x18B;
/// `TPM_RC_POLICY_FAIL` for the first session.
pub(crate) const POLICY_FAILED: u32 = 0x99D;

/// An index that the platform owns: what a guest does to the other hierarchies, to the lockout and to the space that is
/// left does not reach it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Index {
    number: u32,
    attributes: u32,
    size: u16,
}

/// Of the record that a start's login record is compared with: PPWRITE, PPREAD, AUTHREAD, NO_DA, PLATFORMCREATE.
pub(crate) const RECORD: Index =
    Index { number: RECORD_INDEX, attributes: 1 | 1 << 16 | 1 << 18 | 1 << 25 | 1 << 30, size: 32 };
/// Bytes that a zone's TPM keeps: its disk's key, and what its logins come from.
pub(crate) const KEPT_BYTES: u16 = 96;
/// Of these: PPWRITE, POLICYREAD, NO_DA, PLATFORMCREATE.
pub(crate) const KEPT: Index =
    Index { number: RECORD_INDEX + 1, attributes: 1 | 1 << 19 | 1 << 25 | 1 << 30, size: KEPT_BYTES };

/// Of the endorsement key's certificate, where the EK Credential Profile has it: PPWRITE, PPREAD, OWNERREAD, AUTHREAD, NO_DA,
/// PLATFORMCREATE.
pub(crate) fn certificate_index(size: u16) -> Index {
    Index { number: 0x01C0_000A, attributes: 1 | 1 << 16 | 1 << 17 | 1 << 18 | 1 << 25 | 1 << 30, size }
}

/// A control command.
pub(crate) fn request(number: u32, arguments: &[u8]) -> Vec<u8> {
    [&number.to_be_bytes(), arguments].concat()
}

/// `TPM2_Startup(CLEAR)`.
pub(crate) fn startup() -> Vec<u8> {
    command(NO_SESSIONS, 0x144, &[&[0, 0]])
}

/// `TPM2_PCR_Extend` with a SHA-256 digest. The other banks get what fits of it, with zeros behind: a register that the
/// host measured into is at its start value in no bank, or a guest could measure there in the host's name.
pub(crate) fn extend(register: u32, digest: &Digest) -> Vec<u8> {
    let mut digests = [&4_u32.to_be_bytes()[..], &SHA256.to_be_bytes(), digest].concat();
    for (bank, length) in OTHER_BANKS {
        digests.extend(bank.to_be_bytes());
        digests.extend(digest.iter().copied().chain(std::iter::repeat(0)).take(length));
    }
    command(SESSIONS, 0x182, &[&register.to_be_bytes(), &password(&[]), &digests])
}

/// `TPM2_NV_UndefineSpace`.
pub(crate) fn undefine(index: Index) -> Vec<u8> {
    command(SESSIONS, 0x122, &[&PLATFORM.to_be_bytes(), &index.number.to_be_bytes(), &password(&[])])
}

/// `TPM2_NV_DefineSpace`: who reads it proves `auth`, or `policy`.
pub(crate) fn define(index: Index, auth: &[u8], policy: &[u8]) -> Vec<u8> {
    let public = [
        &index.number.to_be_bytes()[..],
        &SHA256.to_be_bytes(),
        &index.attributes.to_be_bytes(),
        &sized(policy),
        &index.size.to_be_bytes(),
    ]
    .concat();
    command(SESSIONS, 0x12A, &[&PLATFORM.to_be_bytes(), &password(&[]), &sized(auth), &sized(&public)])
}

/// `TPM2_NV_Write` of all of an index.
pub(crate) fn write(index: Index, content: &[u8]) -> Vec<u8> {
    let handles = [PLATFORM.to_be_bytes(), index.number.to_be_bytes()].concat();
    command(SESSIONS, 0x137, &[&handles, &password(&[]), &sized(content), &[0, 0]])
}

/// `TPM2_NV_Read` of all of an index, by a policy session that ends with it; `auth` is what TPM2_PolicyPassword asks for.
pub(crate) fn read(index: Index, session: u32, auth: &[u8]) -> Vec<u8> {
    let number = index.number.to_be_bytes();
    let handles = [number, number].concat();
    command(SESSIONS, 0x14E, &[&handles, &authorization(session, auth), &index.size.to_be_bytes(), &[0, 0]])
}

/// `TPM2_StartAuthSession` of a policy session: neither salted nor bound, the wire is a socket of ours.
pub(crate) fn policy_session() -> Vec<u8> {
    const NULL_HANDLE: u32 = 0x4000_0007;
    const NULL: u16 = 0x0010;
    const POLICY: u8 = 1;
    let null = NULL_HANDLE.to_be_bytes();
    let nonce = sized(&[0; 16]);
    command(
        NO_SESSIONS,
        0x176,
        &[&null, &null, &nonce, &[0, 0], &[POLICY], &NULL.to_be_bytes(), &SHA256.to_be_bytes()],
    )
}

/// `TPM2_PolicyPCR` over registers as they are.
pub(crate) fn policy_pcrs(session: u32, registers: &[u8]) -> Vec<u8> {
    command(NO_SESSIONS, 0x17F, &[&session.to_be_bytes(), &[0, 0], &approval::selection(registers)])
}

/// `TPM2_LoadExternal` of an approval key, in the platform's hierarchy.
pub(crate) fn load_key(key: &ApprovalKey) -> Vec<u8> {
    command(NO_SESSIONS, 0x167, &[&[0, 0], &sized(&key.public_area()), &PLATFORM.to_be_bytes()])
}

/// `TPM2_VerifySignature` of an approval.
pub(crate) fn verify(key: u32, approval: &Approval) -> Vec<u8> {
    const ECDSA: u16 = 0x0018;
    let (r, s) = &approval.signature;
    let scheme = [ECDSA.to_be_bytes(), SHA256.to_be_bytes()].concat();
    command(
        NO_SESSIONS,
        0x177,
        &[&key.to_be_bytes(), &sized(&approval.hash()), &scheme, &sized(r), &sized(s)],
    )
}

/// `TPM2_PolicyAuthorize`: `ticket` says that the signature of this approval was checked.
pub(crate) fn authorize(session: u32, key: &ApprovalKey, approval: &Approval, ticket: &[u8]) -> Vec<u8> {
    let reference = sized(&approval.reference());
    let parts =
        [&session.to_be_bytes()[..], &sized(&approval.policy), &reference, &sized(&key.name()), ticket];
    command(NO_SESSIONS, 0x16A, &parts)
}

/// `TPM2_PolicyPassword`.
pub(crate) fn policy_password(session: u32) -> Vec<u8> {
    command(NO_SESSIONS, 0x18C, &[&session.to_be_bytes()])
}

/// The public area of the endorsement key (EK Credential Profile, template L-2: P-256), up to its point.
pub(crate) fn endorsement_template() -> Vec<u8> {
    /// fixedTPM, fixedParent, sensitiveDataOrigin, adminWithPolicy, restricted, decrypt.
    const ATTRIBUTES: u32 = 0x0003_00B2;
    /// TPM2_PolicySecret of the endorsement hierarchy.
    const POLICY: Digest = [
        0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xB3, 0xF8, 0x1A, 0x90, 0xCC, 0x8D, 0x46, 0xA5, 0xD7, 0x24, 0xFD,
        0x52, 0xD7, 0x6E, 0x06, 0x52, 0x0B, 0x64, 0xF2, 0xA1, 0xDA, 0x1B, 0x33, 0x14, 0x69, 0xAA,
    ];
    /// `TPM_ALG_AES`, 128 bits, CFB; no scheme; P-256; no key derivation.
    const PARAMETERS: [u16; 6] = [0x0006, 128, 0x0043, 0x0010, 0x0003, 0x0010];
    let parameters = PARAMETERS.map(u16::to_be_bytes).concat();
    [&[0, 0x23][..], &SHA256.to_be_bytes(), &ATTRIBUTES.to_be_bytes(), &sized(&POLICY), &parameters].concat()
}

/// `TPM2_CreatePrimary` of the endorsement key.
pub(crate) fn create_endorsement_key() -> Vec<u8> {
    const ENDORSEMENT: u32 = 0x4000_000B;
    let nothing = sized(&[]);
    // The template's point is zeros, as many as a point has.
    let area = [endorsement_template(), sized(&[0; 32]), sized(&[0; 32])].concat();
    let sensitive = sized(&[nothing.clone(), nothing.clone()].concat());
    let parts =
        [&ENDORSEMENT.to_be_bytes()[..], &password(&[]), &sensitive, &sized(&area), &nothing, &[0; 4]];
    command(SESSIONS, 0x131, &parts)
}

/// `TPM2_FlushContext`.
pub(crate) fn flush(handle: u32) -> Vec<u8> {
    command(NO_SESSIONS, 0x165, &[&handle.to_be_bytes()])
}

/// A password session.
fn password(auth: &[u8]) -> Vec<u8> {
    authorization(0x4000_0009, auth)
}

/// One session with a plain authorization, and its size: no nonce, no attributes.
fn authorization(session: u32, auth: &[u8]) -> Vec<u8> {
    let session = [&session.to_be_bytes()[..], &[0, 0, 0], &sized(auth)].concat();
    let size = u32::try_from(session.len()).expect("authorizations are short");
    [&size.to_be_bytes()[..], &session].concat()
}

/// Bytes behind their number (TPM2B).
fn sized(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("parts of these commands are short");
    [&length.to_be_bytes()[..], bytes].concat()
}

fn command(tag: u16, code: u32, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let length = u32::try_from(body.len() + 10).expect("these commands are short");
    [&tag.to_be_bytes()[..], &length.to_be_bytes(), &code.to_be_bytes(), &body].concat()
}

#[cfg(test)]
mod tests;
