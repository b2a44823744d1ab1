//! What `keeper` keeps on the data disk: what the machine remembers of its TPM, and each zone's sealed secret. Nothing of
//! it opens without this machine's TPM.
//!
//! A file is replaced whole: after a power cut there is the old one or the new one.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use hw_tpm::{Machine, Sealed};
use rustix::fs::{AtFlags, Dir, Mode, OFlags, fsync, open, openat, renameat, unlinkat};
use rustix::io::Errno;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::epochs::Epochs;
use crate::pin::SALT;
use crate::recovery::{PublicKey, Wrapped};

/// The file of the machine; zones' names have no dot.
const MACHINE: &str = "machine.tpm";
/// The file of the recovery key's public half.
const RECOVERY: &str = "recovery.key";
/// The file of the authority's certificate: X.509, DER.
const AUTHORITY: &str = "authority.crt";
/// The file of the highest epochs that were used.
const EPOCHS: &str = "epochs.used";
/// The end of a zone's file, and of the one with its secret wrapped for the recovery key.
const ZONE: &str = ".zone";
const WRAPPED: &str = ".recovery";
/// No such file is longer.
const LONGEST: u64 = 64 * 1024;

/// A zone, as far as its TPM goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredZone {
    /// Its secret.
    pub(crate) secret: Sealed,
    /// What its PIN is stretched with.
    pub(crate) salt: [u8; SALT],
    /// The public half of its tunnel's key.
    pub(crate) public_key: [u8; 32],
    /// Wrong PINs in a row that lock it, where it has one.
    pub(crate) tries: u8,
    /// Its own TPM keeps something: from then on it is never made anew.
    pub(crate) made: bool,
}

/// For whom zones' secrets are wrapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecoveryKeys {
    /// Its user has noted it.
    pub(crate) noted: Option<PublicKey>,
    /// It was shown, and nobody has said that it was noted.
    pub(crate) shown: Option<PublicKey>,
}

/// A file of ours cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// It cannot be read or written.
    #[error("{0}: {1}")]
    File(String, #[source] io::Error),
    /// It is none of ours.
    #[error("{0} is damaged")]
    Damaged(String),
}

/// The folder.
#[derive(Debug)]
pub(crate) struct Store {
    folder: OwnedFd,
}

impl Store {
    /// Opens it.
    ///
    /// # Errors
    /// It is not there.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { folder: open(folder, flags, Mode::empty())? })
    }

    /// What the machine remembers of its TPM.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn machine(&self) -> Result<Option<Machine>, StoreError> {
        self.read(MACHINE)
    }

    /// Keeps that.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn keep_machine(&self, machine: &Machine) -> Result<(), StoreError> {
        self.write(MACHINE, machine)
    }

    /// A zone; `None`: it was never opened here.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn zone(&self, zone: &str) -> Result<Option<StoredZone>, StoreError> {
        self.read(&format!("{zone}{ZONE}"))
    }

    /// Keeps it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn keep_zone(&self, zone: &str, stored: &StoredZone) -> Result<(), StoreError> {
        self.write(&format!("{zone}{ZONE}"), stored)
    }

    /// For whom zones' secrets are wrapped.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn recovery_keys(&self) -> Result<RecoveryKeys, StoreError> {
        Ok(self.read(RECOVERY)?.unwrap_or_default())
    }

    /// Keeps that.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn keep_recovery_keys(&self, keys: &RecoveryKeys) -> Result<(), StoreError> {
        self.write(RECOVERY, keys)
    }

    /// A zone's secret, wrapped for each of them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn wrapped(&self, zone: &str) -> Result<Vec<Wrapped>, StoreError> {
        Ok(self.read(&format!("{zone}{WRAPPED}"))?.unwrap_or_default())
    }

    /// Keeps it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn keep_wrapped(&self, zone: &str, wrapped: &[Wrapped]) -> Result<(), StoreError> {
        self.write(&format!("{zone}{WRAPPED}"), &wrapped)
    }

    /// The highest epochs that were used.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn epochs(&self) -> Result<Epochs, StoreError> {
        Ok(self.read(EPOCHS)?.unwrap_or_default())
    }

    /// Keeps them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn keep_epochs(&self, epochs: &Epochs) -> Result<(), StoreError> {
        self.write(EPOCHS, epochs)
    }

    /// The certificate of the device's authority.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn authority(&self) -> Result<Option<Vec<u8>>, StoreError> {
        self.read_bytes(AUTHORITY)
    }

    /// Keeps it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn keep_authority(&self, certificate: &[u8]) -> Result<(), StoreError> {
        self.write_bytes(AUTHORITY, certificate)
    }

    /// Forgets it: its key is gone.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn forget_authority(&self) -> Result<(), StoreError> {
        match unlinkat(&self.folder, AUTHORITY, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(StoreError::File(AUTHORITY.to_owned(), error.into())),
        }
    }

    /// All zones that were ever opened here. One whose file is damaged is left out: it opens nothing any more.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub(crate) fn zones(&self) -> Result<Vec<StoredZone>, StoreError> {
        let failed = |error: Errno| StoreError::File("the folder".to_owned(), error.into());
        let mut zones = Vec::new();
        for entry in Dir::read_from(&self.folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_str().ok().and_then(|name| name.strip_suffix(ZONE));
            match name.map(|zone| self.zone(zone)) {
                Some(Ok(zone)) => zones.extend(zone),
                Some(Err(StoreError::Damaged(_))) | None => {}
                Some(Err(error)) => return Err(error),
            }
        }
        Ok(zones)
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StoreError> {
        let Some(bytes) = self.read_bytes(name)? else { return Ok(None) };
        match postcard::take_from_bytes(&bytes) {
            Ok((value, [])) => Ok(Some(value)),
            Ok(_) | Err(_) => Err(StoreError::Damaged(name.to_owned())),
        }
    }

    fn read_bytes(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let failed = |error| StoreError::File(name.to_owned(), error);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = match openat(&self.folder, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(failed(error.into())),
        };
        let mut bytes = Vec::new();
        File::from(file).take(LONGEST).read_to_end(&mut bytes).map_err(failed)?;
        Ok(Some(bytes))
    }

    fn write(&self, name: &str, value: &impl Serialize) -> Result<(), StoreError> {
        let bytes = postcard::to_stdvec(value).expect("what is kept holds nothing that postcard refuses");
        self.write_bytes(name, &bytes)
    }

    fn write_bytes(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let write = || -> io::Result<()> {
            let next = format!("{name}.next");
            // What a power cut left.
            match unlinkat(&self.folder, &next, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let mut file = File::from(openat(&self.folder, &next, flags, Mode::RUSR | Mode::WUSR)?);
            file.write_all(bytes)?;
            fsync(&file)?;
            renameat(&self.folder, &next, &self.folder, name)?;
            Ok(fsync(&self.folder)?)
        };
        write().map_err(|error| StoreError::File(name.to_owned(), error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(made: bool) -> StoredZone {
        let secret =
            Sealed { public: vec![1, 2], private: vec![3; 200], purpose: "for".to_owned(), pin: None };
        StoredZone { secret, salt: [9; SALT], public_key: [4; 32], tries: 5, made }
    }

    #[test]
    fn what_is_kept_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        assert!(store.machine().unwrap().is_none() && store.zone("office").unwrap().is_none());
        let machine = Machine {
            storage_key: vec![7; 34],
            owner: stored(true).secret,
            authority: stored(false).secret,
            owned: true,
        };
        store.keep_machine(&machine).unwrap();
        store.keep_zone("office", &stored(false)).unwrap();
        // A power cut left half a file.
        std::fs::write(folder.path().join("office.zone.next"), b"half").unwrap();
        store.keep_zone("office", &stored(true)).unwrap();
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(store.machine().unwrap(), Some(machine));
        assert_eq!(store.zone("office").unwrap(), Some(stored(true)));
        assert!(store.zone("vault").unwrap().is_none());
        assert_eq!(store.zones().unwrap(), [stored(true)]);
    }

    #[test]
    fn a_damaged_file_is_said_to_be() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        store.keep_zone("office", &stored(true)).unwrap();
        let path = folder.path().join("office.zone");
        let bytes = std::fs::read(&path).unwrap();
        for damaged in [&bytes[..10], &[&bytes[..], &[0]].concat()] {
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(store.zone("office").unwrap_err().to_string(), "office.zone is damaged");
        }
    }
}
