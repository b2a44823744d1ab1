//! The TPM's own lockout: a backstop for whatever else uses it, because nothing of ours takes part (noDA).
//!
//! The TSS's Rust library lacks the one command, so its bytes go to the device here, before the library has it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::TcpStream;

/// Wrong authorizations until the TPM refuses them all, seconds until it forgets one, and seconds until it takes the
/// lockout's own authorization again after a wrong one: what Windows sets, too.
pub const LOCKOUT: [u32; 3] = [32, 600, 86_400];

/// The longest answer: a header.
const LONGEST: usize = 10;

/// Why the lockout stays as it was: follows "the TPM's lockout".
#[derive(Debug, thiserror::Error)]
pub enum LockoutError {
    /// The device cannot be spoken to.
    #[error("cannot be set: {0}")]
    Device(#[from] io::Error),
    /// The device is written in words that only the TSS knows.
    #[error("cannot be set: the device {0:?} is none of a file and swtpm")]
    Words(String),
    /// The TPM refused: its lockout has an authorization that is not ours, for example.
    #[error("is another system's: the TPM answered {0:#x}")]
    Refused(u32),
}

/// Sets the TPM's lockout to [`LOCKOUT`], by its empty authorization. Nobody else may hold the device at this moment.
///
/// # Errors
/// [`LockoutError`]; nothing else depends on it.
pub fn set_lockout(device: &str) -> Result<(), LockoutError> {
    let answer = exchange(device, &parameters())?;
    let code = answer.get(6..10).and_then(|code| code.try_into().ok()).map(u32::from_be_bytes);
    match code {
        Some(0) => Ok(()),
        Some(code) => Err(LockoutError::Refused(code)),
        None => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
    }
}

/// `TPM2_DictionaryAttackParameters` (TPM 2.0 Library, Part 3, 25.3), with a password session and the empty password.
fn parameters() -> Vec<u8> {
    const CODE: u32 = 0x13A;
    const LENGTH: u32 = 10 + 4 + 13 + 12;
    const OF_LOCKOUT: u32 = 0x4000_000A;
    let session = [0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0];
    let head = [LENGTH, CODE, OF_LOCKOUT].map(u32::to_be_bytes).concat();
    [&[0x80, 2][..], &head, &session, &LOCKOUT.map(u32::to_be_bytes).concat()].concat()
}

fn exchange(device: &str, command: &[u8]) -> Result<Vec<u8>, LockoutError> {
    let words = || LockoutError::Words(device.to_owned());
    if let Some(path) = device.strip_prefix("device:") {
        return Ok(ask(File::options().read(true).write(true).open(path)?, command)?);
    }
    let (host, port) =
        device.strip_prefix("swtpm:host=").and_then(|at| at.split_once(",port=")).ok_or_else(words)?;
    let port: u16 = port.parse().map_err(|_no_number| words())?;
    Ok(ask(TcpStream::connect((host, port))?, command)?)
}

fn ask(mut device: impl Read + Write, command: &[u8]) -> io::Result<Vec<u8>> {
    device.write_all(command)?;
    // A driver gives an answer in one piece, or loses what is not taken.
    let mut answer = vec![0; 4096];
    let count = device.read(&mut answer)?;
    answer.truncate(count.min(LONGEST));
    Ok(answer)
}
