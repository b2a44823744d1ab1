//! Folders beside /home that lie on the private disk: what the policy names, handed over as a credential of the login
//! record (`zone_protocol::keep`).
//!
//! Each is one folder below `/home/.kept`, named after its path, and mounted over that path before anything of the
//! zone runs. At first it is a copy of what the template has there. The private disk is what the zone's own root made
//! of it in an earlier run, so no link on it is followed, nor one in the template; a folder that cannot be kept is
//! logged and stays a fresh one.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use rustix::fs::{Mode, OFlags, mkdirat, openat, renameat, syncfs};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use zone_protocol::{keep, login};

use crate::kmsg::log;

/// Where the folders lie. Only root may look into it: the way to a folder is where it is mounted.
const STORE: &str = ".kept";

/// A copy that is not whole yet.
const NEW: &str = ".new";

/// Mounts every folder that is to be kept. The private disk is on /home.
pub(crate) fn mount_all() {
    let folders = wanted();
    if folders.is_empty() {
        return;
    }
    match open_store(Path::new("/home")) {
        Ok(store) => {
            for folder in &folders {
                if let Err(error) = mount_one(&store, folder) {
                    log(&format!("keep {folder}: {error:#}"));
                }
            }
        }
        Err(error) => log(&format!("folders to keep: {error:#}")),
    }
}

/// Takes them away again, so that the private disk can be unmounted in order.
pub(crate) fn unmount_all() {
    for folder in wanted() {
        match unmount(&folder, UnmountFlags::empty()) {
            // It was not mounted.
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
            Err(error) => log(&format!("unmount {folder}: {error}")),
        }
    }
}

/// The folders that the login record names.
fn wanted() -> Vec<String> {
    let folders = crate::smbios::credential(login::KEEP)
        .context("read the machine's tables")
        .and_then(|value| Ok(value.map(|value| keep::read(&value)).transpose()?.unwrap_or_default()));
    folders.unwrap_or_else(|error| {
        log(&format!("folders to keep: {error:#}"));
        Vec::new()
    })
}

/// The folder of folders on a private disk that is mounted at `home`.
fn open_store(home: &Path) -> anyhow::Result<File> {
    let home = File::open(home).context("open the private disk")?;
    let store = enter(home.as_fd(), STORE, Mode::RWXU).context(STORE)?;
    // Links were refused; what is opened now is what was looked at.
    openat(&store, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map(File::from)
        .context(STORE)
}

fn mount_one(store: &File, folder: &str) -> anyhow::Result<()> {
    let target = walk(folder)?;
    let source = kept_folder(store, folder, &target)?;
    mount_bind(in_proc(&source), in_proc(&target)).context("mount it")
}

/// The folder's own place on the disk; made from what the template has when there is none.
fn kept_folder(store: &File, folder: &str, target: &OwnedFd) -> anyhow::Result<OwnedFd> {
    let name = folder.trim_start_matches('/').replace('/', "=");
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(store, name.as_str(), flags, Mode::empty()) {
        Err(Errno::NOENT) => {}
        other => return other.with_context(|| format!("open {name} on the private disk")),
    }
    let new = Path::new(&in_proc(store)).join(NEW);
    match std::fs::remove_dir_all(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).context("an old half copy");
        }
        Ok(()) | Err(_) => {}
    }
    copy(&in_proc(target), &new)?;
    // The name says that the copy is whole, so the copy comes first.
    syncfs(store).context("write the copy")?;
    renameat(store, NEW, store, name.as_str()).context("name the copy")?;
    syncfs(store).context("write the copy")?;
    openat(store, name.as_str(), flags, Mode::empty()).with_context(|| format!("open {name}"))
}

/// Copies a folder with everything in it, owners and modes too.
fn copy(from: &str, to: &Path) -> anyhow::Result<()> {
    let mut command = match Path::new("/bin/busybox").exists() {
        true => {
            let mut command = Command::new("/bin/busybox");
            command.arg("cp");
            command
        }
        false => Command::new("/bin/cp"),
    };
    std::fs::create_dir(to).context("make the copy")?;
    // With the dot, it is what the folder holds and the folder's own owner and mode.
    let output =
        command.arg("-a").arg(format!("{from}/.")).arg(to).stdin(Stdio::null()).output().context("run cp")?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cp: {}: {}", output.status, text.trim().replace('\n', "; "));
    Ok(())
}

/// Opens a folder of the root, making what is missing on the way. No link is followed.
fn walk(path: &str) -> anyhow::Result<OwnedFd> {
    let mut folder = OwnedFd::from(File::open("/").context("open /")?);
    for part in path.split('/').filter(|part| !part.is_empty()) {
        folder = enter(folder.as_fd(), part, Mode::from_raw_mode(0o755)).with_context(|| part.to_owned())?;
    }
    Ok(folder)
}

/// Opens a folder in a folder; makes it when it is missing.
fn enter(folder: std::os::fd::BorrowedFd<'_>, name: &str, mode: Mode) -> Result<OwnedFd, Errno> {
    match mkdirat(folder, name, mode) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error),
    }
    openat(folder, name, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// A path that leads to an open folder, wherever that is, for a program that we start, too.
fn in_proc(folder: &impl AsFd) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), folder.as_fd().as_raw_fd())
}

#[cfg(test)]
mod tests;
