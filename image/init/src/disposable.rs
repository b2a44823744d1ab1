//! Private disks of disposable zones: a nameless file on the data disk, under a key that nobody ever has.
//!
//! The file has no name, so its space comes back when the last user of the disk closes it, also after a power
//! cut. The key is drawn here, goes into the kernel and is wiped; the kernel forgets it with the disk. A disk
//! goes at the latest when its zone's VMM is gone. `keeper` will bring keys for the disks that stay the same
//! way: `jail::crypt` asks for a file and a key, not for where they are from.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
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
/// The agent takes a disk that begins with so many zero bytes for one that was never used; through a fresh
/// key, an empty file reads as noise.
const BLANK: usize = 128 * 1024;

/// The disks by slot.
#[derive(Debug, Default)]
pub(crate) struct Disposable {
    open: BTreeMap<u8, CryptDisk>,
}

impl Disposable {
    /// Makes the slot's disk and returns a descriptor of it for the zone.
    pub(crate) fn open(&mut self, slot: u8, size_mib: u32) -> anyhow::Result<OwnedFd> {
        anyhow::ensure!(slot < MAX_ZONES, "slot {slot} is not below {MAX_ZONES}");
        anyhow::ensure!((1..=LARGEST).contains(&size_mib), "size of {size_mib} MiB");
        self.close(slot);
        let backing = nameless_file(u64::from(size_mib) * MIB)?;
        let key = Key::random().context("draw a key")?;
        // The last disk of the slot may still have the name while somebody closes it.
        let disk =
            (0..8).find_map(|turn| match CryptDisk::open(&format!("slot-{slot}-{turn}"), &backing, &key) {
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
        device.write_all(&vec![0; BLANK]).context("begin it with zeros")?;
        device.sync_data().context("begin it with zeros")?;
        std::io::Seek::rewind(&mut device).context("begin it with zeros")?;
        self.open.insert(slot, disk);
        Ok(device.into())
    }

    /// Forgets the slot's disk, if it has one; says whether it had.
    pub(crate) fn close(&mut self, slot: u8) -> bool {
        self.open.remove(&slot).is_some()
    }
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
