//! Control groups (version 2): what the processes of a service, or of a zone, may use together.
//!
//! One group for each service that runs and for each zone with a process. A group is made before the process
//! that enters it as its first step, and removed when its last process was collected. A kernel without the
//! controllers `cpu`, `io`, `memory` and `pids` starts no process at all. The disk's time is shared out by its I/O scheduler
//! (BFQ), because only that shares in proportion without a model of the disk (docs/decisions/0014).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use anyhow::Context;
use rustix::mount::MountFlags;

/// Where the groups are.
const ROOT: &str = "/sys/fs/cgroup";
/// Controllers without which nothing starts.
const CONTROLLERS: [&str; 4] = ["cpu", "io", "memory", "pids"];
const MIB: u64 = 1024 * 1024;

/// What a group's processes may use together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Memory in MiB, the kernel's on their behalf among it. There is no swap.
    pub(crate) memory_mib: u64,
    /// Threads of all of them.
    pub(crate) tasks: u32,
    /// Their part of the processors and of the disk when these do not suffice, beside others' (1 to 1000).
    pub(crate) weight: u16,
}

/// The folder of all groups.
#[derive(Debug)]
pub(crate) struct Groups {
    root: PathBuf,
}

impl Groups {
    /// Mounts the file system of groups, with all that is needed switched on.
    pub(crate) fn mount() -> anyhow::Result<Self> {
        let flags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);
        rustix::mount::mount("cgroup2", ROOT, "cgroup2", flags, None)
            .with_context(|| format!("mount control groups at {ROOT}"))?;
        Self::within(Path::new(ROOT))
    }

    fn within(root: &Path) -> anyhow::Result<Self> {
        for controller in CONTROLLERS {
            put(root, "cgroup.subtree_control", &format!("+{controller}"))
                .with_context(|| format!("switch the controller {controller} on"))?;
        }
        Ok(Self { root: root.to_owned() })
    }

    /// Makes a group. One of this name that has no process is made anew.
    pub(crate) fn make(&self, name: &str, limits: Limits) -> anyhow::Result<Group> {
        let path = self.root.join(name);
        match std::fs::remove_dir(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("remove the old group {name}")),
        }
        std::fs::create_dir(&path).with_context(|| format!("make the group {name}"))?;
        let filled = fill(&path, limits);
        // Whatever fails from here on, the group goes with this value.
        let entry = OpenOptions::new().write(true).open(path.join("cgroup.procs"));
        let removed = || {
            let _other_error_counts = std::fs::remove_dir(&path);
        };
        if let Err(error) = filled {
            removed();
            return Err(error);
        }
        match entry {
            Ok(entry) => Ok(Group { path, entry }),
            Err(error) => {
                removed();
                Err(error).with_context(|| format!("open the group {name}"))
            }
        }
    }
}

/// Sets a group's limits.
fn fill(group: &Path, limits: Limits) -> anyhow::Result<()> {
    let rows = [
        ("memory.max", (limits.memory_mib * MIB).to_string()),
        // When memory is out, all of a zone goes: half of one serves nobody.
        ("memory.oom.group", "1".to_owned()),
        ("pids.max", limits.tasks.to_string()),
        ("cpu.weight", limits.weight.to_string()),
        ("io.bfq.weight", limits.weight.to_string()),
    ];
    for (file, value) in rows {
        put(group, file, &value).with_context(|| format!("set {file} of {}", group.display()))?;
    }
    Ok(())
}

/// Writes to a file that is there: one that is not is an error, never made.
fn put(folder: &Path, file: &str, value: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(folder.join(file))?;
    io::Write::write_all(&mut file, value.as_bytes())
}

/// One group. Dropping it removes it: its processes must have been collected.
#[derive(Debug)]
pub(crate) struct Group {
    path: PathBuf,
    entry: File,
}

impl AsFd for Group {
    /// The file through which a process enters.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.entry.as_fd()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // One that cannot be removed bounds nobody; `make` says so when its name is needed again.
        let _in_use = std::fs::remove_dir(&self.path);
    }
}

// By path, because `tests/escape` takes this file by path too.
#[cfg(test)]
#[path = "groups/tests.rs"]
mod tests;
