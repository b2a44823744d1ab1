//! The host's initramfs, and the one segment that makes a test image of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use approval::{Approvals, Approver, BEFORE_GUEST, FIRMWARE, HOST, RUNNING};
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
const PROGRAMS: &[&str] = &["uplink", "keeper", "zoned", "vmm", "vpnd", "desktop"];

/// Debian's one program, and the libraries that its loader and `keeper`'s look for, below `/lib/debian`: paths in the
/// packages.
const SWTPM: (&str, &str) = ("usr/bin/swtpm", "bin/swtpm");
const LIBRARIES: &[&str] = &[
    "usr/lib64/ld-linux-x86-64.so.2",
    "usr/lib/x86_64-linux-gnu/libc.so.6",
    "usr/lib/x86_64-linux-gnu/libcrypto.so.3",
    "usr/lib/x86_64-linux-gnu/libgcc_s.so.1",
    "usr/lib/x86_64-linux-gnu/libseccomp.so.2",
    "usr/lib/x86_64-linux-gnu/libtpms.so.0",
    "usr/lib/x86_64-linux-gnu/libz.so.1",
    "usr/lib/x86_64-linux-gnu/libzstd.so.1",
    "usr/lib/x86_64-linux-gnu/swtpm/libswtpm_libtpms.so.0",
];
/// The TSS's, of which only `keeper` has any use.
const TSS_LIBRARIES: &[&str] = &[
    "usr/lib/x86_64-linux-gnu/libtss2-esys.so.0",
    "usr/lib/x86_64-linux-gnu/libtss2-mu.so.0",
    "usr/lib/x86_64-linux-gnu/libtss2-sys.so.1",
    "usr/lib/x86_64-linux-gnu/libtss2-tcti-device.so.0",
    "usr/lib/x86_64-linux-gnu/libtss2-tctildr.so.0",
];

/// The least epoch of templates that this image runs: raised when older ones must not come back.
const MINIMUM_EPOCH: u32 = 1;

/// The epoch of what this image approves, of the host and of the zones' firmware: raised when older images must not open
/// anything any more.
const EPOCH: u32 = 1;

/// Builds `build/host.cpio` and `build/test.cpio`.
pub(crate) fn build(sources: &Sources<'_>) -> Result<()> {
    let Sources { workspace, tools, packages, kernels, programs, sysroot, key, approver } = sources;
    let policy = workspace.source("policy/policy/demo/policy.toml");
    let keys = workspace.source("policy/policy/demo/demo-keys.toml");
    let rules = Rules::text(MINIMUM_EPOCH, key.public());
    let output = workspace.built("host.cpio");
    let inputs = [
        programs.version()?,
        version(&policy)?,
        version(&keys)?,
        version(&packages.file("boot"))?,
        version(&packages.file("usr/bin/swtpm"))?,
        version(&sysroot.file("usr/lib/x86_64-linux-gnu/libtss2-esys.so.0"))?,
        format!("{SWTPM:?} {LIBRARIES:?} {TSS_LIBRARIES:?} {EPOCH} {:?}", approver.key()?),
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
        archive.copy(SWTPM.1, 0o755, &packages.file(SWTPM.0))?;
        let of_packages = LIBRARIES.iter().map(|path| packages.file(path));
        for path in of_packages.chain(TSS_LIBRARIES.iter().map(|path| sysroot.file(path))) {
            let name = path.file_name().and_then(|name| name.to_str()).context("a library has a name")?;
            archive.copy(&format!("lib/debian/{name}"), 0o755, &path)?;
        }
        archive.file("etc/bulkhead/approvals", 0o644, &approvals(approver, programs.get("zone_fw")?)?)?;
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

/// What this image's TPMs open secrets for: the host as it is measured, which is not at all yet, and zones that begin with
/// its firmware.
fn approvals(approver: &Approver, firmware: &Path) -> Result<Vec<u8>> {
    let mut sum = template::Summer::default();
    sum.add(&fs::read(firmware).with_context(|| format!("read {}", firmware.display()))?);
    let unmeasured = [[0; 32]; approval::HOST_PCRS.len()];
    let approved = vec![
        approver.approve(HOST, RUNNING, EPOCH, approval::host_policy(&unmeasured))?,
        approver.approve(FIRMWARE, BEFORE_GUEST, EPOCH, approval::firmware_policy(&sum.finish().sha256))?,
    ];
    Ok(Approvals { key: approver.key()?, approved }.encode())
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
