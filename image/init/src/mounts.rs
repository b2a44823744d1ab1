//! The host's file systems: virtual ones, the folders that jailed processes see as `/`, and the end of it.

use std::path::Path;

use anyhow::Context;
use rustix::fs::{Gid, Mode, Uid};
use rustix::mount::{MountFlags, UnmountFlags};

use crate::table;

/// Root of processes that reach no path.
pub(crate) const EMPTY_ROOT: &str = "/run/bulkhead/roots/empty";
/// Root of the desktop.
pub(crate) const DESKTOP_ROOT: &str = "/run/bulkhead/roots/desktop";
/// Root of `zoned`.
pub(crate) const ZONED_ROOT: &str = "/run/bulkhead/roots/zoned";
/// Root of virtual TPMs: the libraries of a program that is not static, and a place for its state.
pub(crate) const SWTPM_ROOT: &str = "/run/bulkhead/roots/swtpm";
/// Where a virtual TPM sees its state.
pub(crate) const SWTPM_STATE: &str = "/run/bulkhead/roots/swtpm/state";
/// Root of `keeper`: the same libraries, the machine's TPM, and a place for what it keeps.
pub(crate) const KEEPER_ROOT: &str = "/run/bulkhead/roots/keeper";
/// Where `keeper` sees the machine's TPM.
pub(crate) const KEEPER_DEVICES: &str = "/run/bulkhead/roots/keeper/dev";
/// What `keeper` keeps: sealed secrets.
pub(crate) const KEEPER_STATE: &str = "/data/keeper";
/// The machine's TPM.
const TPM: &str = "/dev/tpmrm0";
/// Those libraries, and their loader.
pub(crate) const LIBRARIES: &str = "/lib/debian";
/// The Varlink socket.
pub(crate) const VARLINK: &str = "/run/bulkhead/zones";
/// Settings of the image.
const SETTINGS: &str = "/etc/bulkhead";
/// The data disk.
pub(crate) const DATA: &str = "/data";

const NO_SPECIALS: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// Mounts what the kernel provides.
pub(crate) fn virtual_file_systems() -> anyhow::Result<()> {
    let rows = [
        ("proc", "/proc", NO_SPECIALS, None),
        ("sysfs", "/sys", NO_SPECIALS, None),
        ("devtmpfs", "/dev", MountFlags::NOSUID.union(MountFlags::NOEXEC), Some(c"mode=0755")),
        ("tmpfs", "/run", NO_SPECIALS, Some(c"mode=0755,size=16m")),
    ];
    for (kind, target, flags, options) in rows {
        make_folder(target, 0o755)?;
        match rustix::mount::mount(kind, target, kind, flags, options) {
            // The kernel may have mounted /dev itself.
            Ok(()) | Err(rustix::io::Errno::BUSY) => {}
            Err(error) => return Err(error).with_context(|| format!("mount {kind} at {target}")),
        }
    }
    Ok(())
}

/// Makes a folder unless it is there.
pub(crate) fn make_folder(path: &str, mode: u32) -> anyhow::Result<()> {
    match rustix::fs::mkdir(path, Mode::from_raw_mode(mode)) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("make folder {path}")),
    }
}

/// Builds the folders that jailed processes see as `/`. Needs the Varlink socket and /data in place.
pub(crate) fn jail_roots() -> anyhow::Result<()> {
    for folder in [
        "/run/bulkhead/roots",
        EMPTY_ROOT,
        DESKTOP_ROOT,
        "/run/bulkhead/roots/desktop/run",
        "/run/bulkhead/roots/desktop/run/bulkhead",
        ZONED_ROOT,
        "/run/bulkhead/roots/zoned/etc",
        "/run/bulkhead/roots/zoned/etc/bulkhead",
        "/run/bulkhead/roots/zoned/data",
        SWTPM_ROOT,
        SWTPM_STATE,
        "/run/bulkhead/roots/swtpm/lib",
        "/run/bulkhead/roots/swtpm/lib64",
        KEEPER_ROOT,
        KEEPER_DEVICES,
        "/run/bulkhead/roots/keeper/lib",
        "/run/bulkhead/roots/keeper/lib64",
        "/run/bulkhead/roots/keeper/state",
    ] {
        make_folder(folder, 0o755)?;
    }
    let socket = format!("{DESKTOP_ROOT}{VARLINK}");
    std::fs::write(&socket, []).with_context(|| format!("make {socket}"))?;
    bind(VARLINK, &socket, MountFlags::empty())?;
    bind(SETTINGS, &format!("{ZONED_ROOT}{SETTINGS}"), MountFlags::RDONLY)?;
    bind(DATA, &format!("{ZONED_ROOT}{DATA}"), MountFlags::empty())?;
    // The loader is where programs name it, and looks for libraries in the other one.
    for root in [SWTPM_ROOT, KEEPER_ROOT] {
        for folder in ["lib", "lib64"] {
            let target = format!("{root}/{folder}");
            bind_with(LIBRARIES, &target, MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV)?;
        }
    }
    keepers_own()
}

/// What `keeper` alone reaches. On a machine without a TPM an empty file is in its place: `keeper` says what is missing.
fn keepers_own() -> anyhow::Result<()> {
    make_folder(KEEPER_STATE, 0o700)?;
    give(KEEPER_STATE.as_ref(), table::KEEPER_USER, 0o700)?;
    bind(KEEPER_STATE, &format!("{KEEPER_ROOT}/state"), MountFlags::empty())?;
    let place = format!("{KEEPER_ROOT}{TPM}");
    std::fs::write(&place, []).with_context(|| format!("make {place}"))?;
    if Path::new(TPM).exists() {
        give(TPM.as_ref(), table::KEEPER_USER, 0o600)?;
        bind_with(TPM, &place, MountFlags::NOSUID | MountFlags::NOEXEC)?;
    }
    Ok(())
}

fn bind(source: &str, target: &str, more: MountFlags) -> anyhow::Result<()> {
    bind_with(source, target, NO_SPECIALS.union(more))
}

fn bind_with(source: &str, target: &str, flags: MountFlags) -> anyhow::Result<()> {
    rustix::mount::mount_bind(source, target).with_context(|| format!("bind {source} to {target}"))?;
    rustix::mount::mount_remount(target, MountFlags::BIND.union(flags), "")
        .with_context(|| format!("restrict {target}"))
}

/// The kernel's name of this boot, for `zoned`, which sees no /proc.
const BOOT_ID: &str = "/etc/bulkhead/boot-id";

/// Who may read and execute what in the image: programs cannot be read by those who run them (which also
/// makes them undumpable), secrets of the demonstration belong to `zoned`.
pub(crate) fn set_owners() -> anyhow::Result<()> {
    for program in std::fs::read_dir("/bin").context("list /bin")? {
        let path = program.context("list /bin")?.path();
        rustix::fs::chmod(&path, Mode::from_raw_mode(0o711))
            .with_context(|| format!("protect {}", path.display()))?;
    }
    let keys = Path::new("/etc/bulkhead/demo-keys.toml");
    if keys.exists() {
        give(keys, table::ZONED_USER, 0o400)?;
    }
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").context("read the boot's name")?;
    std::fs::write(BOOT_ID, boot.trim()).with_context(|| format!("write {BOOT_ID}"))
}

/// Makes `user` the owner.
pub(crate) fn give(path: &Path, user: u32, mode: u32) -> anyhow::Result<()> {
    rustix::fs::chown(path, Some(Uid::from_raw(user)), Some(Gid::from_raw(user)))
        .with_context(|| format!("give {} to user {user}", path.display()))?;
    rustix::fs::chmod(path, Mode::from_raw_mode(mode)).with_context(|| format!("protect {}", path.display()))
}

/// After set-up nobody changes the image in memory, nor settings of the kernel by path.
pub(crate) fn freeze() -> anyhow::Result<()> {
    let rows = [
        ("/", MountFlags::empty()),
        ("/proc", MountFlags::BIND.union(NO_SPECIALS)),
        ("/sys", MountFlags::BIND.union(NO_SPECIALS)),
    ];
    for (target, flags) in rows {
        rustix::mount::mount_remount(target, MountFlags::RDONLY.union(flags), "")
            .with_context(|| format!("make {target} read-only"))?;
    }
    Ok(())
}

/// Unmounts the data disk, or at least leaves it clean. Returns what went wrong.
pub(crate) fn release_data() -> Result<(), rustix::io::Errno> {
    let under_zoned = format!("{ZONED_ROOT}{DATA}");
    for bound in [under_zoned, format!("{KEEPER_ROOT}/state")] {
        let _not_mounted = rustix::mount::unmount(bound.as_str(), UnmountFlags::empty());
    }
    match rustix::mount::unmount(DATA, UnmountFlags::empty()) {
        // EINVAL: nothing was mounted there.
        Ok(()) | Err(rustix::io::Errno::INVAL) => Ok(()),
        Err(_busy) => rustix::mount::mount_remount(DATA, MountFlags::RDONLY, ""),
    }
}
