//! Where the keys come from that virtual TPMs' states are encrypted with.

use std::io;

use rustix::rand::{GetRandomFlags, getrandom};

/// The key of one state, for AES-256.
pub(crate) type StateKey = [u8; 32];

/// A source of keys.
pub(crate) trait StateKeys {
    /// The key of a zone's state, for a TPM process that has just started.
    ///
    /// # Errors
    /// There is none.
    fn key(&mut self, zone: &str) -> io::Result<StateKey>;
}

/// The transitional source, until the hardware TPM releases keys: another key at each start, kept nowhere. So no key
/// rests on the disk, and no state outlives its process; `init` empties the state's folder before each start.
#[derive(Debug)]
pub(crate) struct UnkeptKeys;

impl StateKeys for UnkeptKeys {
    fn key(&mut self, _zone: &str) -> io::Result<StateKey> {
        let mut key = [0; 32];
        match getrandom(&mut key, GetRandomFlags::empty())? {
            32 => Ok(key),
            few => Err(io::Error::other(format!("{few} random bytes instead of 32"))),
        }
    }
}
