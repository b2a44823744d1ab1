//! The data disk: found by its label, mounted at /data.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use init_protocol::AUDIT_LOG_BYTES;
use rustix::fs::OFlags;
use rustix::mount::MountFlags;

use crate::console::Console;
use crate::{mounts, table};

/// Its ext4 label.
const LABEL: &str = "bulkhead-data";
/// Place and size of the ext4 superblock.
const SUPERBLOCK: u64 = 1024;
const SUPERBLOCK_SIZE: usize = 1024;

/// The label in an ext4 superblock; `None` when it is none.
fn label(superblock: &[u8; SUPERBLOCK_SIZE]) -> Option<&[u8]> {
    let magic = superblock.get(0x38..0x3a)?;
    let label = superblock.get(0x78..0x88)?;
    let end = label.iter().position(|byte| *byte == 0).unwrap_or(label.len());
    (magic == [0x53, 0xef]).then(|| label.get(..end)).flatten()
}

fn carries_label(device: &Path) -> std::io::Result<bool> {
    let mut superblock = [0; SUPERBLOCK_SIZE];
    File::open(device)?.read_exact_at(&mut superblock, SUPERBLOCK)?;
    Ok(label(&superblock) == Some(LABEL.as_bytes()))
}

/// The first virtio disk, by name, that carries the label.
fn find() -> anyhow::Result<Option<PathBuf>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir("/sys/block").context("list /sys/block")? {
        names.push(entry.context("list /sys/block")?.file_name());
    }
    names.sort();
    let disks = names.iter().filter(|name| name.as_encoded_bytes().starts_with(b"vd"));
    // A disk that cannot be read is not the one; it may be an empty drive.
    Ok(disks.map(|name| Path::new("/dev").join(name)).find(|path| carries_label(path).unwrap_or(false)))
}

/// The audit log: `zoned` gets it as a descriptor and has no path to it.
const AUDIT_LOG: &str = "/data/audit.log";

fn open_audit_log(options: &mut OpenOptions) -> std::io::Result<File> {
    let flags = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0);
    options.read(true).write(true).mode(0o600).custom_flags(flags).open(AUDIT_LOG)
}

/// Makes the audit log's file in its whole size, so that a full disk takes nothing from it later.
fn make_audit_log() -> std::io::Result<()> {
    let mut file = open_audit_log(OpenOptions::new().create(true))?;
    let missing = AUDIT_LOG_BYTES.saturating_sub(file.metadata()?.len());
    if missing > 0 {
        file.seek(SeekFrom::End(0))?;
        std::io::copy(&mut std::io::repeat(0).take(missing), &mut file)?;
        file.sync_all()?;
        File::open(mounts::DATA)?.sync_all()?;
    }
    Ok(())
}

/// The audit log's file; `None`: there is no data disk, or no room was left on it.
pub(crate) fn audit_log() -> Option<std::io::Result<OwnedFd>> {
    let there = Path::new(AUDIT_LOG).exists();
    there.then(|| open_audit_log(&mut OpenOptions::new()).map(OwnedFd::from))
}

/// The I/O scheduler that shares a disk between control groups by their weights.
const SCHEDULER: &str = "bfq";

/// Lets zones share a disk's time by their weights: without that, who asks most gets most.
fn share_fairly(device: &Path) -> anyhow::Result<()> {
    let name = device.file_name().with_context(|| format!("{} is no device", device.display()))?;
    let path = Path::new("/sys/block").join(name).join("queue/scheduler");
    std::fs::write(&path, SCHEDULER).with_context(|| format!("write {SCHEDULER} to {}", path.display()))
}

/// Mounts the data disk and gives `zoned` its part of it. Without a disk /data stays empty and read-only,
/// and `zoned` says that there is no template.
pub(crate) fn mount(console: &Console) -> anyhow::Result<()> {
    mounts::make_folder(mounts::DATA, 0o755)?;
    match find()? {
        Some(device) => {
            let flags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);
            rustix::mount::mount(&device, mounts::DATA, "ext4", flags, c"errors=remount-ro")
                .with_context(|| format!("mount {} at {}", device.display(), mounts::DATA))?;
            share_fairly(&device)?;
            console.say(format_args!("data disk is {}", device.display()));
            if let Err(error) = make_audit_log() {
                console.say(format_args!("the audit log {AUDIT_LOG} cannot be made: {error}"));
            }
        }
        None => {
            console.say(format_args!("no virtio disk carries the ext4 label {LABEL}: zones cannot start"));
        }
    }
    mounts::make_folder("/data/templates", 0o755)?;
    mounts::make_folder("/data/zones", 0o700)?;
    give_all(Path::new("/data/zones"), 2)
}

/// `zoned` owns its folder, one folder a zone in it, and the disks in those.
fn give_all(path: &Path, depth: u8) -> anyhow::Result<()> {
    let kind = std::fs::symlink_metadata(path).with_context(|| format!("look at {}", path.display()))?;
    if kind.is_dir() {
        mounts::give(path, table::ZONED_USER, 0o700)?;
        if depth > 0 {
            for entry in std::fs::read_dir(path).with_context(|| format!("list {}", path.display()))? {
                give_all(&entry?.path(), depth - 1)?;
            }
        }
    } else if kind.is_file() {
        mounts::give(path, table::ZONED_USER, 0o600)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
