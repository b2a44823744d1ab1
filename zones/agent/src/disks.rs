//! A zone's disks: found by serial, and the private one made ready.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::mount::{MountFlags, mount};

use crate::netlink::Changes;

/// How long a disk may take to appear.
const PATIENCE: Duration = Duration::from_secs(20);

/// A disk whose first bytes are all zero was never written.
const BLANK: usize = 128 * 1024;

/// Bits of ext4's state: unmounted in order; errors were seen.
const VALID: u32 = 1;
const ERRORS: u32 = 2;

/// ext4's incompatible feature of a journal that must be replayed first.
const NEEDS_RECOVERY: u32 = 4;

/// What e2fsck ends with when the file system is as it should be: it was, or it was mended.
const MENDED: &[i32] = &[0, 1];

/// Finds the disk with this serial; waits for it.
///
/// # Errors
/// It did not appear.
pub(crate) fn find(serial: &str, now: impl Fn() -> Instant) -> anyhow::Result<PathBuf> {
    let changes = Changes::of_devices();
    let deadline = now() + PATIENCE;
    loop {
        if let Some(device) = look(serial).context("look through /sys/block")? {
            return Ok(device);
        }
        let left = deadline.saturating_duration_since(now());
        ensure!(!left.is_zero(), "no disk has the serial {serial:?}");
        changes.wait(left.min(Duration::from_millis(500)));
    }
}

fn look(serial: &str) -> io::Result<Option<PathBuf>> {
    for entry in std::fs::read_dir("/sys/block")? {
        let entry = entry?;
        let found = std::fs::read_to_string(entry.path().join("serial")).unwrap_or_default();
        let device = PathBuf::from("/dev").join(entry.file_name());
        if found.trim() == serial && device.exists() {
            return Ok(Some(device));
        }
    }
    Ok(None)
}

/// What is on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Blank,
    /// ext4 of this many bytes; `clean`: it was unmounted in order and knows of no error.
    Ext4 {
        bytes: u64,
        clean: bool,
    },
    Unknown,
}

/// Mounts the private disk on /home; makes its file system when it is blank, checks it when it was not unmounted in
/// order (the zone or the machine died), grows it when the disk grew.
///
/// The check replays the journal and mends what needs no decision. What it does not mend is left alone: a damaged
/// file system that is mounted anyway loses more.
///
/// # Errors
/// The disk holds something else, is damaged, or a tool or the mount did not work.
pub(crate) fn mount_private(now: impl Fn() -> Instant) -> anyhow::Result<()> {
    let device = find("private", now)?;
    let file = File::open(&device).context("open private disk")?;
    let mut head = vec![0_u8; BLANK];
    file.read_exact_at(&mut head, 0).context("read private disk")?;
    let size = io::Seek::seek(&mut &file, io::SeekFrom::End(0)).context("size of private disk")?;
    let content = recognise(&head);
    match content {
        Content::Blank => {
            let options = ["-q", "-F", "-t", "ext4", "-m", "0", "-E", "lazy_itable_init=1,nodiscard"];
            tool("/sbin/mke2fs", &options, &device, &[0])?;
        }
        Content::Ext4 { clean: true, .. } => {}
        Content::Ext4 { clean: false, .. } => {
            crate::kmsg::log("the private disk was not unmounted in order: it is checked");
            tool("/sbin/e2fsck", &["-p"], &device, MENDED)?;
        }
        Content::Unknown => bail!("the private disk holds no ext4 file system and is not blank: left alone"),
    }
    let flags = MountFlags::NODEV | MountFlags::NOSUID;
    mount(&device, "/home", "ext4", flags, None).context("mount private disk on /home")?;
    if let Content::Ext4 { bytes, .. } = content
        && bytes.saturating_add(4096 * 1024) < size
        && let Err(error) = tool("/sbin/resize2fs", &[], &device, &[0])
    {
        crate::kmsg::log(&format!("grow private disk: {error:#}"));
    }
    Ok(())
}

/// Runs a program on a device; its exit code must be one of `good`.
fn tool(program: &str, options: &[&str], device: &Path, good: &[i32]) -> anyhow::Result<()> {
    let output = Command::new(program)
        .args(options)
        .arg(device)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("run {program} (the template lacks it?)"))?;
    let text = [&output.stdout[..], &output.stderr].concat();
    let text = String::from_utf8_lossy(&text).trim().replace('\n', "; ");
    let ended_well = output.status.code().is_some_and(|code| good.contains(&code));
    ensure!(ended_well, "{program}: {}: {text}", output.status);
    Ok(())
}

/// Looks at a disk's first bytes (ext4's super block is at 1024: magic at 56 and state at 58, block count at 4 and
/// 336, block size at 24, incompatible features at 96).
fn recognise(head: &[u8]) -> Content {
    if head.iter().all(|byte| *byte == 0) {
        return Content::Blank;
    }
    let word =
        |at: usize| head.get(1024 + at..).and_then(|rest| rest.first_chunk()).map(|b| u32::from_le_bytes(*b));
    let words = (word(4), word(24), word(56), word(96), word(336));
    let (Some(low), Some(shift), Some(magic), Some(features), Some(high)) = words else {
        return Content::Unknown;
    };
    if magic & 0xffff != 0xef53 || shift > 6 {
        return Content::Unknown;
    }
    let blocks = u64::from(low) | (u64::from(high) << 32);
    let clean = (magic >> 16) & (VALID | ERRORS) == VALID && features & NEEDS_RECOVERY == 0;
    Content::Ext4 { bytes: blocks.saturating_mul(1024 << shift), clean }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_recognised() {
        let mut head = vec![0_u8; BLANK];
        assert_eq!(recognise(&head), Content::Blank);
        head[1024 + 56..1024 + 58].copy_from_slice(&[0x53, 0xef]);
        head[1024 + 24] = 2;
        head[1024 + 5] = 0x40;
        let ext4 = |clean| Content::Ext4 { bytes: 0x4000 * 4096, clean };
        assert_eq!(recognise(&head), ext4(false));
        head[1024 + 58] = 1;
        assert_eq!(recognise(&head), ext4(true));
        head[1024 + 58] = 3;
        assert_eq!(recognise(&head), ext4(false));
        head[1024 + 58] = 1;
        head[1024 + 96] = 4;
        assert_eq!(recognise(&head), ext4(false));
        head[1024 + 24] = 60;
        assert_eq!(recognise(&head), Content::Unknown);
        assert_eq!(recognise(&[1; 512]), Content::Unknown);
    }
}
