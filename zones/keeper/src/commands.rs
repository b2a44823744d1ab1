//! The commands that `keeper` gives a virtual TPM, as bytes.
//!
//! Control commands are swtpm's (`tpm_ioctl.h`): a number and its arguments. TPM commands follow the TPM 2.0 Library
//! specification, part 3; where one needs an authorization it is a password session with the empty password, which is
//! what a hierarchy has after each start.

use handover::place::RECORD_INDEX;
use zone_protocol::keeper::Digest;

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

/// PPWRITE, PPREAD, AUTHREAD, NO_DA, PLATFORMCREATE: what a guest does to the other hierarchies and to the lockout does
/// not reach it.
const RECORD_ATTRIBUTES: u32 = 1 | 1 << 16 | 1 << 18 | 1 << 25 | 1 << 30;

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
    command(SESSIONS, 0x182, &[&register.to_be_bytes(), &password(), &digests])
}

/// `TPM2_NV_UndefineSpace` of the record's index.
pub(crate) fn forget_record() -> Vec<u8> {
    command(SESSIONS, 0x122, &[&PLATFORM.to_be_bytes(), &RECORD_INDEX.to_be_bytes(), &password()])
}

/// `TPM2_NV_DefineSpace` of it.
pub(crate) fn define_record() -> Vec<u8> {
    let public = [
        &RECORD_INDEX.to_be_bytes()[..],
        &SHA256.to_be_bytes(),
        &RECORD_ATTRIBUTES.to_be_bytes(),
        &[0, 0],
        &32_u16.to_be_bytes(),
    ]
    .concat();
    let size = sixteen(public.len());
    command(SESSIONS, 0x12A, &[&PLATFORM.to_be_bytes(), &password(), &[0, 0], &size, &public])
}

/// `TPM2_NV_Write` to it.
pub(crate) fn write_record(digest: &Digest) -> Vec<u8> {
    let handles = [PLATFORM.to_be_bytes(), RECORD_INDEX.to_be_bytes()].concat();
    command(SESSIONS, 0x137, &[&handles, &password(), &sixteen(digest.len()), digest, &[0, 0]])
}

/// One password session with the empty password, and its size.
fn password() -> Vec<u8> {
    [&9_u32.to_be_bytes()[..], &0x4000_0009_u32.to_be_bytes(), &[0, 0, 0, 0, 0]].concat()
}

fn sixteen(length: usize) -> [u8; 2] {
    u16::try_from(length).expect("parts of these commands are short").to_be_bytes()
}

fn command(tag: u16, code: u32, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let length = u32::try_from(body.len() + 10).expect("these commands are short");
    [&tag.to_be_bytes()[..], &length.to_be_bytes(), &code.to_be_bytes(), &body].concat()
}

#[cfg(test)]
mod tests;
