//! The private disk of a zone that is not disposable: a file on the data disk, made at the zone's first start and
//! grown by the policy. What is in it is encrypted; nobody here has its key.
//!
//! It is never removed once it is whole, and never made smaller: who shrinks a disk in the policy loses nothing and is
//! told. A start that fails here takes back what it made.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use policy::Zone;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, fstat, ftruncate, mkdir, open as open_file, statvfs, unlinkat};
use rustix::io::Errno;

use super::LaunchError;

const MIB: u64 = 1024 * 1024;

/// MiB that must be free on the data disk before a zone starts, or its first writes would fail.
const RESERVE_MIB: u64 = 8;

/// The disk in its zone's folder.
const FILE: &str = "private.img";

/// An open private disk.
#[derive(Debug)]
pub(super) struct Opened {
    /// To read and write.
    pub(super) file: OwnedFd,
    /// What the user should know.
    pub(super) remark: Option<String>,
}

/// What a start made, removed again unless the start goes on.
#[derive(Default)]
struct Made {
    paths: Vec<(PathBuf, AtFlags)>,
}

impl Drop for Made {
    fn drop(&mut self) {
        for (path, kind) in self.paths.iter().rev() {
            // What cannot be removed is empty, and the next start uses it.
            let _stays = unlinkat(CWD, path, *kind);
        }
    }
}

/// Opens the zone's private disk; makes it at the first start, grows it when the policy did.
pub(super) fn open(data: &Path, zone: &Zone) -> Result<Opened, LaunchError> {
    let zones = data.join("zones");
    let path = zones.join(&zone.name).join(FILE);
    make_or_open(&zones, &zone.name, zone.disk_mib.into()).map_err(|error| failed(&path, error))
}

pub(super) fn make_or_open(zones: &Path, name: &str, wanted_mib: u64) -> Result<Opened, Errno> {
    let (folder, mut made) = (zones.join(name), Made::default());
    let path = folder.join(FILE);
    make_folder(zones, &mut made)?;
    // Before anything is made for this zone: what would not hold the zone's first writes is not begun.
    let space = statvfs(zones)?;
    if space.f_bavail.saturating_mul(space.f_frsize) < RESERVE_MIB * MIB {
        return Err(Errno::NOSPC);
    }
    make_folder(&folder, &mut made)?;
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = match open_file(&path, flags | OFlags::CREATE | OFlags::EXCL, Mode::RUSR | Mode::WUSR) {
        Ok(file) => {
            made.paths.push((path, AtFlags::empty()));
            file
        }
        Err(Errno::EXIST) => open_file(&path, flags, Mode::empty())?,
        Err(error) => return Err(error),
    };
    let size = u64::try_from(fstat(&file)?.st_size).unwrap_or(0);
    let wanted = wanted_mib.saturating_mul(MIB);
    if size < wanted {
        ftruncate(&file, wanted)?;
    }
    made.paths.clear();
    let remark = (size > wanted).then(|| {
        format!(
            "its private disk has {} MiB, the policy gives {} MiB. A disk is never made smaller: the zone starts with \
             all of it. Set the size in the policy to {} MiB, or give the zone a new disk.",
            size / MIB,
            wanted_mib,
            size / MIB
        )
    });
    Ok(Opened { file, remark })
}

fn make_folder(path: &Path, made: &mut Made) -> Result<(), Errno> {
    match mkdir(path, Mode::RWXU) {
        Ok(()) => {
            made.paths.push((path.to_owned(), AtFlags::REMOVEDIR));
            Ok(())
        }
        Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error),
    }
}

pub(super) fn failed(path: &Path, error: Errno) -> LaunchError {
    let path = path.display().to_string();
    match error {
        Errno::NOSPC | Errno::DQUOT | Errno::FBIG => LaunchError::DiskFull { path },
        error => LaunchError::File { path, source: error.into() },
    }
}
