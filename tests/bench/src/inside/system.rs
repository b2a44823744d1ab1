//! What the first process owes to the machine: file systems, modules, the end.

use std::fs::File;
use std::io;
use std::path::Path;

use anyhow::Context;
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use rustix::system::{RebootCommand, finit_module, reboot};

use super::{DISK, open};

/// Modules, one path a line, in the order in which they are loaded.
const MODULES: &str = "/etc/modules-load";

/// The disk: the machine has one.
const DEVICE: &str = "/dev/vda";

/// What `init` sets on a Bulkhead host as well: a VMM may ask for 2 MiB pages of shared memory. Private
/// memory, which the peers use, has such pages without it.
const SHARED_HUGE_PAGES: &str = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";

/// Mounts everything and loads the modules.
pub(super) fn prepare() -> anyhow::Result<()> {
    for (kind, target) in
        [("devtmpfs", "/dev"), ("proc", "/proc"), ("sysfs", "/sys"), ("tmpfs", "/run"), ("tmpfs", "/tmp")]
    {
        attach(kind, target, kind, MountFlags::empty())?;
    }
    attach("debugfs", "/sys/kernel/debug", "debugfs", MountFlags::empty())?;
    std::fs::write(SHARED_HUGE_PAGES, "advise").context(SHARED_HUGE_PAGES)?;
    let list = std::fs::read_to_string(MODULES).context(MODULES)?;
    let mut refused = Vec::new();
    for path in list.lines() {
        match finit_module(&open(Path::new(path))?, c"", 0) {
            Ok(()) | Err(Errno::EXIST) => {}
            // The list has the modules of both makers of processors.
            Err(error) => refused.push(format!("{path}: {error}")),
        }
    }
    let needed = |device: &str| {
        std::fs::metadata(device)
            .map(drop)
            .with_context(|| format!("{device} is missing; modules that did not load: {refused:?}"))
    };
    for device in [DEVICE, "/dev/kvm", "/dev/vhost-vsock"] {
        needed(device)?;
    }
    attach(DEVICE, DISK, "ext4", MountFlags::RDONLY)
}

pub(super) fn attach(source: &str, target: &str, kind: &str, flags: MountFlags) -> anyhow::Result<()> {
    if !Path::new(target).is_dir() {
        std::fs::create_dir(target).context(target.to_owned())?;
    }
    match mount(source, target, kind, flags, None) {
        // The kernel has mounted it already.
        Ok(()) | Err(Errno::BUSY) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("mount {source} on {target}")),
    }
}

/// A number on the kernel's command line.
pub(super) fn parameter(name: &str) -> anyhow::Result<u32> {
    let words = std::fs::read_to_string("/proc/cmdline").context("/proc/cmdline")?;
    let value = words.split_whitespace().find_map(|word| word.strip_prefix(name));
    value
        .with_context(|| format!("the kernel's command line has no {name}"))?
        .parse()
        .context(name.to_owned())
}

/// Reads every file below a folder, so that the first start finds them in memory like the last one.
pub(super) fn read_all(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            read_all(&entry.path())?;
        } else if kind.is_file() {
            io::copy(&mut File::open(entry.path())?, &mut io::sink())?;
        }
    }
    Ok(())
}

/// Ends the machine.
pub(super) fn power_off() {
    // When it fails, process 1 returns, the kernel panics, and the machine ends by that.
    let _panics = reboot(RebootCommand::PowerOff);
}
