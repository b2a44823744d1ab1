//! The few TPM commands that the firmware sends, and the responses that it takes (TCG TPM 2.0 Library, Part 3; numbers are
//! from Part 2 and big-endian).
//!
//! No session needs more than a password, and all passwords are empty: the bus is the VMM.

use handover::failure::Failure;

/// Room for the longest command ([`extend`]) and the longest response (the register's new value in each bank).
pub(crate) const LONGEST_COMMAND: usize = 96;
pub(crate) const LONGEST_RESPONSE: usize = 512;

/// Tags (Part 2, 6.9).
const NO_SESSIONS: u16 = 0x8001;
const SESSIONS: u16 = 0x8002;

/// Handles (Part 2, 7.4).
const PASSWORD_SESSION: u32 = 0x4000_0009;
pub(crate) const PLATFORM: u32 = 0x4000_000C;

/// Response codes (Part 2, 6.6.3).
pub(crate) const SUCCESS: u32 = 0;
/// TPM2_Startup came before.
pub(crate) const ALREADY_STARTED: u32 = 0x100;
/// Try again: the TPM yielded, tests itself, or asks for it.
pub(crate) const AGAIN: [u32; 3] = [0x908, 0x90A, 0x922];

/// Size of a response's or command's header: tag, size, code.
const HEADER: usize = 10;

/// A command that grows.
struct Command<'a> {
    bytes: &'a mut [u8; LONGEST_COMMAND],
    length: usize,
}

impl<'a> Command<'a> {
    fn new(bytes: &'a mut [u8; LONGEST_COMMAND], tag: u16, code: u32) -> Self {
        bytes.fill(0);
        let mut command = Self { bytes, length: 0 };
        command.put(&tag.to_be_bytes());
        command.put(&[0; 4]);
        command.put(&code.to_be_bytes());
        command
    }

    /// A command with handles, the first of which is authorized by its empty password (Part 1, 19.4).
    fn authorized(bytes: &'a mut [u8; LONGEST_COMMAND], code: u32, handles: &[u32]) -> Self {
        let mut command = Self::new(bytes, SESSIONS, code);
        for handle in handles {
            command.put(&handle.to_be_bytes());
        }
        // Size of what follows: session, empty nonce, no attributes, empty password.
        command.put(&9_u32.to_be_bytes());
        command.put(&PASSWORD_SESSION.to_be_bytes());
        command.put(&[0; 5]);
        command
    }

    /// All commands of ours fit: a test makes each.
    fn put(&mut self, bytes: &[u8]) {
        let rest = self.bytes.get_mut(self.length..).unwrap_or_default();
        if let Some((place, _)) = rest.split_at_mut_checked(bytes.len()) {
            place.copy_from_slice(bytes);
            self.length = self.length.saturating_add(bytes.len());
        }
    }

    fn finish(self) -> usize {
        let size = u32::try_from(self.length).unwrap_or_default();
        crate::bytes::put(self.bytes, 2, &size.to_be_bytes());
        self.length
    }
}

/// TPM2_Startup(CLEAR) (Part 3, 9.3).
pub(crate) fn startup(bytes: &mut [u8; LONGEST_COMMAND]) -> usize {
    let mut command = Command::new(bytes, NO_SESSIONS, 0x144);
    command.put(&[0; 2]);
    command.finish()
}

/// TPM2_NV_Read of 32 bytes, authorized by the platform (Part 3, 31.13).
pub(crate) fn read_index(bytes: &mut [u8; LONGEST_COMMAND], index: u32) -> usize {
    let mut command = Command::authorized(bytes, 0x14E, &[PLATFORM, index]);
    command.put(&32_u16.to_be_bytes());
    command.put(&[0; 2]);
    command.finish()
}

/// TPM2_PCR_Event: extends the register in every bank by the bank's hash of `event` (Part 3, 22.3). A register's handle is
/// its number.
pub(crate) fn extend(bytes: &mut [u8; LONGEST_COMMAND], register: u32, event: &[u8]) -> usize {
    let mut command = Command::authorized(bytes, 0x13C, &[register]);
    command.put(&u16::try_from(event.len()).unwrap_or_default().to_be_bytes());
    command.put(event);
    command.finish()
}

/// TPM2_GetRandom (Part 3, 16.1).
pub(crate) fn random(bytes: &mut [u8; LONGEST_COMMAND], count: u16) -> usize {
    let mut command = Command::new(bytes, NO_SESSIONS, 0x17B);
    command.put(&count.to_be_bytes());
    command.finish()
}

/// TPM2_HierarchyChangeAuth of the platform (Part 3, 24.8).
pub(crate) fn change_platform_auth(bytes: &mut [u8; LONGEST_COMMAND], auth: &[u8; 32]) -> usize {
    let mut command = Command::authorized(bytes, 0x129, &[PLATFORM]);
    command.put(&32_u16.to_be_bytes());
    command.put(auth);
    command.finish()
}

/// TPM2_HierarchyControl: the platform hierarchy off (Part 3, 24.2), authorized by its new password.
pub(crate) fn platform_off(bytes: &mut [u8; LONGEST_COMMAND], auth: &[u8; 32]) -> usize {
    let mut command = Command::new(bytes, SESSIONS, 0x121);
    command.put(&PLATFORM.to_be_bytes());
    command.put(&41_u32.to_be_bytes());
    command.put(&PASSWORD_SESSION.to_be_bytes());
    command.put(&[0; 3]);
    command.put(&32_u16.to_be_bytes());
    command.put(auth);
    command.put(&PLATFORM.to_be_bytes());
    command.put(&[0]);
    command.finish()
}

/// A response, taken apart.
pub(crate) struct Response<'a> {
    pub(crate) code: u32,
    /// Parameters, without sessions.
    pub(crate) parameters: &'a [u8],
}

/// Takes a response apart (Part 1, 18.4 and 18.9): sizes are claims.
pub(crate) fn response(bytes: &[u8]) -> Result<Response<'_>, Failure> {
    take_apart(bytes).ok_or(Failure::TpmAnswer)
}

fn take_apart(bytes: &[u8]) -> Option<Response<'_>> {
    let (header, rest) = bytes.split_first_chunk::<HEADER>()?;
    let [t0, t1, s0, s1, s2, s3, c0, c1, c2, c3] = *header;
    let (tag, size) = (u16::from_be_bytes([t0, t1]), u32::from_be_bytes([s0, s1, s2, s3]));
    let code = u32::from_be_bytes([c0, c1, c2, c3]);
    if usize::try_from(size).ok()? != bytes.len() {
        return None;
    }
    let parameters = match (tag, code) {
        (NO_SESSIONS, SUCCESS) => rest,
        (NO_SESSIONS, _) => rest.is_empty().then_some(rest)?,
        (SESSIONS, SUCCESS) => {
            let (length, rest) = rest.split_first_chunk::<4>()?;
            rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)?
        }
        _ => return None,
    };
    Some(Response { code, parameters })
}

/// The one sized buffer that parameters consist of (Part 2, 10.4).
pub(crate) fn buffer(parameters: &[u8]) -> Result<&[u8], Failure> {
    let (length, rest) = parameters.split_first_chunk().ok_or(Failure::TpmAnswer)?;
    (usize::from(u16::from_be_bytes(*length)) == rest.len()).then_some(rest).ok_or(Failure::TpmAnswer)
}
