//! Encrypted disks of zones.
//!
//! A disposable one is a nameless file on the data disk, under a key that nobody ever has: it is drawn here, goes into the
//! kernel and is wiped. Without a name its space comes back when the last user of the disk closes it, also after a power
//! cut. A private one is a file of `zoned`'s, under the key that `keeper` released: that comes by a pipe and goes the same
//! way. The kernel forgets a key with its disk, and a disk goes at the latest when its zone's VMM is gone.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;

use anyhow::Context;
use init_protocol::MAX_ZONES;
use jail::crypt::{CryptDisk, Key};
use rustix::fs::{Mode, OFlags};

use crate::mounts;

/// The largest disk in MiB, as in a policy.
const LARGEST: u32 = 1_048_576;
/// What must be free on the data disk, or the zone's first writes fail.
const RESERVE: u64 = 8 * MIB;
const MIB: u64 = 1024 * 1024;
/// The agent takes a disk that begins with so many zero bytes for one that was never used; through a key, an empty file
/// reads as noise.
const BLANK: usize = 128 * 1024;
/// The disks are written past the page cache, from whole pages.
const ALIGNMENT: usize = 4096;

/// The disks by slot.
#[derive(Debug, Default)]
pub(crate) struct ZoneDisks {
    open: BTreeMap<u8, CryptDisk>,
}

impl ZoneDisks {
    /// Makes the slot's disposable disk and returns a descriptor of it for the zone.
    pub(crate) fn open_disposable(&mut self, slot: u8, size_mib: u32) -> anyhow::Result<OwnedFd> {
        anyhow::ensure!((1..=LARGEST).contains(&size_mib), "size of {size_mib} MiB");
        self.close(slot);
        let backing = nameless_file(u64::from(size_mib) * MIB)?;
        let key = Key::random().context("draw a key")?;
        self.open(slot, backing, &key)
    }

    /// Opens the slot's private disk in `file`, with the key in a pipe, and returns a descriptor of it for the zone.
    pub(crate) fn open_private(&mut self, slot: u8, file: OwnedFd, key: &OwnedFd) -> anyhow::Result<OwnedFd> {
        let file = File::from(file);
        anyhow::ensure!(file.metadata().context("look at the disk's file")?.is_file(), "the disk is no file");
        self.close(slot);
        let key = Key::from_pipe(key).context("take the disk's key")?;
        self.open(slot, file, &key)
    }

    fn open(&mut self, slot: u8, backing: File, key: &Key) -> anyhow::Result<OwnedFd> {
        anyhow::ensure!(slot < MAX_ZONES, "slot {slot} is not below {MAX_ZONES}");
        let unused = is_unused(&backing).context("read the disk's file")?;
        // The last disk of the slot may still have the name while somebody closes it.
        let disk =
            (0..8).find_map(|turn| match CryptDisk::open(&format!("slot-{slot}-{turn}"), &backing, key) {
                Err(jail::crypt::OpenCryptError::Step { cause, .. })
                    if cause.raw_os_error() == Some(rustix::io::Errno::BUSY.raw_os_error()) =>
                {
                    None
                }
                other => Some(other),
            });
        let made = disk.context("the slot's last disks are still in use")?;
        let (disk, device) = made.context("make the disk")?;
        let mut device = File::from(device);
        if unused {
            begin(&mut device).context("begin it with zeros")?;
        }
        self.open.insert(slot, disk);
        Ok(device.into())
    }

    /// Whether the slot has a disk.
    pub(crate) fn is_open(&self, slot: u8) -> bool {
        self.open.contains_key(&slot)
    }

    /// Holds the slot's disk without its key. That a disk is locked already is as good.
    pub(crate) fn lock(&mut self, slot: u8) -> anyhow::Result<()> {
        Ok(self.open.get_mut(&slot).context("there is no disk")?.lock()?)
    }

    /// Gives the slot's disk its key back, which is in a pipe.
    pub(crate) fn unlock(&mut self, slot: u8, key: Option<&OwnedFd>) -> anyhow::Result<()> {
        let disk = self.open.get_mut(&slot).context("there is no disk")?;
        if !disk.is_locked() {
            return Ok(());
        }
        let key = Key::from_pipe(key.context("keeper gave no key")?).context("take the disk's key")?;
        Ok(disk.unlock(&key)?)
    }

    /// The slot's VMM is to end: it must not wait for a locked disk.
    pub(crate) fn give_up(&mut self, slot: u8) {
        if let Some(disk) = self.open.get_mut(&slot) {
            disk.give_up();
        }
    }

    /// Forgets the slot's disk, if it has one; says whether it had.
    pub(crate) fn close(&mut self, slot: u8) -> bool {
        self.open.remove(&slot).is_some()
    }
}

/// Makes a disk a blank one.
fn begin(device: &mut File) -> std::io::Result<()> {
    let space = vec![0; BLANK + ALIGNMENT];
    let zeros = space.get(space.as_ptr().align_offset(ALIGNMENT)..).and_then(|space| space.get(..BLANK));
    device.write_all(zeros.unwrap_or_default())?;
    device.sync_data()?;
    device.rewind()
}

/// A file without a name on the data disk.
fn nameless_file(size: u64) -> anyhow::Result<File> {
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    let file = rustix::fs::open(mounts::DATA, flags, Mode::RUSR | Mode::WUSR)
        .with_context(|| format!("make a file on the data disk at {}", mounts::DATA))?;
    let space = rustix::fs::fstatvfs(&file).context("ask for free space")?;
    anyhow::ensure!(space.f_bavail.saturating_mul(space.f_frsize) >= RESERVE, "the data disk is full");
    let file = File::from(file);
    file.set_len(size).context("size it")?;
    Ok(file)
}

/// Whether nothing was ever written at the beginning: what is encrypted is not all zeros.
fn is_unused(backing: &File) -> std::io::Result<bool> {
    let mut start = Vec::with_capacity(BLANK);
    let mut reader = backing;
    reader.rewind()?;
    reader.take(u64::try_from(BLANK).unwrap_or(u64::MAX)).read_to_end(&mut start)?;
    Ok(start.iter().all(|byte| *byte == 0))
}
