//! What init sets in the kernel before anything else runs: time, modules, switches.

use std::fs::File;
use std::path::Path;

use anyhow::Context;
use rustix::io::Errno;
use rustix::time::{ClockId, Timespec};

use crate::console::Console;

/// Moves the clock forward to the image's build time if it is behind (an empty battery, a forged date).
pub(crate) fn raise_clock(console: &Console) -> anyhow::Result<()> {
    let path = "/etc/bulkhead/build-time";
    let text = std::fs::read_to_string(path).with_context(|| format!("read {path}"))?;
    let built: i64 = text.trim().parse().with_context(|| format!("{path} is no number of seconds"))?;
    let now = rustix::time::clock_gettime(ClockId::Realtime).tv_sec;
    if now < built {
        rustix::time::clock_settime(ClockId::Realtime, Timespec { tv_sec: built, tv_nsec: 0 })
            .context("set the clock")?;
        console.say(format_args!("clock was {now}, before the image was built; set to {built}"));
    }
    Ok(())
}

/// Loads the image's modules in their order. A missing device is not fatal, and what a missing module
/// breaks says so itself; each failure is named.
pub(crate) fn load_modules(console: &Console) -> anyhow::Result<()> {
    let path = "/etc/bulkhead/modules";
    let list = std::fs::read_to_string(path).with_context(|| format!("read {path}"))?;
    let (mut loaded, mut failed) = (0_u32, 0_u32);
    for path in list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match load_module(Path::new(path)) {
            Ok(()) => loaded += 1,
            Err(error) => {
                failed += 1;
                console.say(format_args!("module {path} not loaded: {error}"));
            }
        }
    }
    console.say(format_args!("{loaded} modules loaded, {failed} not"));
    Ok(())
}

fn load_module(path: &Path) -> std::io::Result<()> {
    /// Decompress the file in the kernel (`MODULE_INIT_COMPRESSED_FILE`).
    const COMPRESSED: i32 = 4;
    let file = File::open(path)?;
    let plain = path.extension().is_some_and(|extension| extension == "ko");
    match rustix::system::finit_module(&file, c"", if plain { 0 } else { COMPRESSED }) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Switches of research/trusted-boot.md, section 6, that are one way or are never needed otherwise.
const SWITCHES: &[(&str, &str)] = &[
    ("kernel/kexec_load_disabled", "1"),
    ("kernel/unprivileged_bpf_disabled", "1"),
    ("kernel/yama/ptrace_scope", "3"),
    ("kernel/kptr_restrict", "2"),
    ("kernel/dmesg_restrict", "1"),
    ("kernel/sysrq", "0"),
    ("kernel/perf_event_paranoid", "3"),
    ("kernel/io_uring_disabled", "2"),
    ("kernel/core_pattern", "core"),
    ("kernel/modprobe", "/nonexistent"),
    ("kernel/ctrl-alt-del", "0"),
    ("vm/unprivileged_userfaultfd", "0"),
    // One for each process in a jail: three services and two for each of 32 zones. A jail's filter lets nobody
    // ask for another, and without a capability of the host's own users the second switch refuses it too.
    ("user/max_user_namespaces", "96"),
    ("kernel/unprivileged_userns_clone", "0"),
    ("fs/protected_symlinks", "1"),
    ("fs/protected_hardlinks", "1"),
    ("fs/protected_fifos", "2"),
    ("fs/protected_regular", "2"),
    ("fs/suid_dumpable", "0"),
    ("net/core/bpf_jit_harden", "2"),
    // The last one: what comes later cannot load code into the kernel.
    ("kernel/modules_disabled", "1"),
];

/// Huge pages for shared memory that asks for them: guest memory is a memfd, and every page of 4 KiB costs a
/// fault of its own (measured on a zone's start: a third of the VM exits).
const SHARED_HUGE_PAGES: &str = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";

/// Lets guest memory use huge pages. A kernel without them only runs slower.
pub(crate) fn allow_huge_guest_memory(console: &Console) {
    if let Err(error) = std::fs::write(SHARED_HUGE_PAGES, "advise") {
        console.say(format_args!("no huge pages for guest memory: {error}"));
    }
}

/// Sets the switches. A kernel without one of them is named; one that refuses stops the boot.
pub(crate) fn set_switches(console: &Console) -> anyhow::Result<()> {
    for (name, value) in SWITCHES {
        let path = format!("/proc/sys/{name}");
        match std::fs::write(&path, value) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                console.say(format_args!("kernel has no switch {name}"));
            }
            Err(error) => return Err(error).with_context(|| format!("set {path} to {value}")),
        }
    }
    Ok(())
}
