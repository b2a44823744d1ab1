//! The host's initramfs, and the one segment that makes a test image of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use template::Rules;

use crate::cpio::Archive;
use crate::programs::Programs;
use crate::progress::Step;
use crate::sources::Sources;
use crate::workspace::{Workspace, cached, version};

/// Modules that `init` loads, in order, before their dependencies are added. There is no modprobe on the
/// host: what the kernel would load on demand is named here.
const MODULES: &[&str] = &[
    // Disk.
    "virtio_blk",
    "crc32c_generic",
    "ext4",
    // Its fair sharing between zones.
    "bfq",
    // Disposable disks: a file, encrypted. The kernel asks for a cipher by name, so its parts are here.
    "loop",
    "dm_mod",
    "dm_crypt",
    "xts",
    "aesni_intel",
    // NIC, and the hook that drops every frame before the kernel's own stack sees it.
    "virtio_net",
    "sch_ingress",
    "cls_matchall",
    "act_gact",
    // Display and input.
    "virtio_gpu",
    "bochs",
    "evdev",
    "virtio_input",
    "button",
    // Entropy and zones.
    "virtio_rng",
    "ccp",
    "kvm_amd",
    "kvm_intel",
];

/// Programs of the production image, below `/bin` but for `init`.
const PROGRAMS: &[&str] = &["uplink", "zoned", "vmm", "vpnd", "desktop"];

/// The least epoch of templates that this image runs: raised when older ones must not come back.
const MINIMUM_EPOCH: u32 = 1;

/// Builds `build/host.cpio` and `build/test.cpio`.
pub(crate) fn build(sources: &Sources<'_>) -> Result<()> {
    let Sources { workspace, tools, packages, kernels, programs, key } = sources;
    let policy = workspace.source("policy/policy/demo/policy.toml");
    let keys = workspace.source("policy/policy/demo/demo-keys.toml");
    let rules = Rules::text(MINIMUM_EPOCH, key.public());
    let output = workspace.built("host.cpio");
    let inputs = [
        programs.version()?,
        version(&policy)?,
        version(&keys)?,
        version(&packages.file("boot"))?,
        MODULES.join(","),
        rules.clone(),
    ]
    .concat();
    cached(&output, &inputs, || {
        let step = Step::begin("making the host image");
        let mut archive = Archive::default();
        // The kernel opens /dev/console before init has mounted anything.
        archive.device("dev/console", 0o600, 5, 1)?;
        for folder in ["proc", "sys", "run", "data", "tmp"] {
            archive.folder(folder)?;
        }
        archive.copy("init", 0o755, programs.get("init")?)?;
        for name in PROGRAMS {
            archive.copy(&format!("bin/{name}"), 0o755, programs.get(name)?)?;
        }
        archive.copy("etc/bulkhead/zone_fw", 0o644, programs.get("zone_fw")?)?;
        let mut list = String::new();
        for module in kernels.host.modules(tools, MODULES)? {
            let path = format!("lib/modules/{}", module.file);
            archive.file(&path, 0o644, &module.content)?;
            list.push_str(&format!("/{path}\n"));
        }
        archive.file("etc/bulkhead/modules", 0o644, list.as_bytes())?;
        archive.copy("etc/bulkhead/policy.toml", 0o644, &policy)?;
        archive.copy("etc/bulkhead/demo-keys.toml", 0o644, &keys)?;
        archive.file("etc/bulkhead/templates.toml", 0o644, rules.as_bytes())?;
        archive.file("etc/bulkhead/build-time", 0o644, build_time(workspace)?.as_bytes())?;
        write(&output, archive)?;
        step.done();
        Ok(())
    })?;
    test_segment(workspace, programs)
}

/// What test images have more: the tests' hand inside, another first process that attacks every jail, and the
/// attack.
const TEST_PROGRAMS: &[&str] = &["test_bridge", "escape", "probe"];

/// Builds the segment that makes a test image.
fn test_segment(workspace: &Workspace, programs: &Programs) -> Result<()> {
    let mut archive = Archive::default();
    for name in TEST_PROGRAMS {
        archive.copy(&format!("bin/{name}"), 0o755, programs.get(name)?)?;
    }
    write(&workspace.built("test.cpio"), archive)
}

/// The time below which the host's clock never runs: the newest source file's last change, so that the same
/// checkout gives the same image.
fn build_time(workspace: &Workspace) -> Result<String> {
    let output = std::process::Command::new("git")
        .args(["log", "-1", "--format=%ct"])
        .current_dir(workspace.root())
        .output();
    let text = output.ok().filter(|output| output.status.success()).map(|output| output.stdout);
    let committed = text.and_then(|text| String::from_utf8(text).ok()?.trim().parse::<u64>().ok());
    let seconds = match committed {
        Some(seconds) => seconds,
        // Not a git checkout: the lock file's time is the closest thing to a release date.
        None => fs::metadata(workspace.source("Cargo.lock"))
            .and_then(|metadata| metadata.modified())
            .unwrap_or(SystemTime::UNIX_EPOCH)
            .duration_since(UNIX_EPOCH)
            .context("time before 1970")?
            .as_secs(),
    };
    Ok(format!("{seconds}\n"))
}

/// Writes a finished segment.
pub(crate) fn write(output: &Path, archive: Archive) -> Result<()> {
    let partial: PathBuf = output.with_extension("partial");
    fs::write(&partial, archive.finish()?)
        .with_context(|| format!("write {} (is the disk full?)", partial.display()))?;
    fs::rename(&partial, output).with_context(|| format!("rename to {}", output.display()))
}
