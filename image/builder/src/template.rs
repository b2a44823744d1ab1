//! The zone template `micro`: Debian's cloud kernel, an initrd with the agent and its modules, and a small
//! read-only root of Debian pieces.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cpio::Archive;
use crate::debian::Root;
use crate::host_image::write;
use crate::kernel::Kernels;
use crate::programs::Programs;
use crate::progress::Step;
use crate::workspace::{Workspace, cached, version};

/// Modules that the agent loads in the zone, in order.
const MODULES: &[&str] = &[
    "pvpanic-pci",
    "virtio_blk",
    "erofs",
    "overlay",
    "vsock",
    "vmw_vsock_virtio_transport",
    "virtio_net",
    "virtio_rng",
];

/// Files of Debian packages in the template's root: (path in the package, path in the root).
const FILES: &[(&str, &str)] = &[
    ("usr/bin/busybox", "bin/busybox"),
    ("usr/sbin/mke2fs", "sbin/mke2fs"),
    ("usr/sbin/resize2fs", "sbin/resize2fs"),
    ("etc/mke2fs.conf", "etc/mke2fs.conf"),
    ("usr/lib64/ld-linux-x86-64.so.2", "lib64/ld-linux-x86-64.so.2"),
    ("usr/lib/x86_64-linux-gnu/libc.so.6", "lib/x86_64-linux-gnu/libc.so.6"),
    ("usr/lib/x86_64-linux-gnu/libext2fs.so.2", "lib/x86_64-linux-gnu/libext2fs.so.2"),
    ("usr/lib/x86_64-linux-gnu/libcom_err.so.2", "lib/x86_64-linux-gnu/libcom_err.so.2"),
    ("usr/lib/x86_64-linux-gnu/libblkid.so.1", "lib/x86_64-linux-gnu/libblkid.so.1"),
    ("usr/lib/x86_64-linux-gnu/libuuid.so.1", "lib/x86_64-linux-gnu/libuuid.so.1"),
    ("usr/lib/x86_64-linux-gnu/libe2p.so.2", "lib/x86_64-linux-gnu/libe2p.so.2"),
];

/// Empty folders of the template's root: places to mount on.
const FOLDERS: &[&str] =
    &["dev", "proc", "sys", "run", "tmp", "home", "root", "etc", "var", "usr/lib/bulkhead/checks"];

/// Programs that busybox stands for in the template.
const APPLETS: &[&str] = &["sh", "ip", "cat", "ls", "mount", "umount", "ifconfig", "route", "ping"];

/// Checks that only the test template has: our programs.
const TEST_PROGRAMS: &[&str] = &["raw_frames"];

/// Checks that only the test template has: files of `recipes/micro-test`.
const TEST_SCRIPTS: &[&str] = &["end_guest", "uptime"];

/// The kernel's command line, as in `template.toml`. Nothing specific to a zone stands on it.
const COMMAND_LINE: &str = "console=hvc0 pci=noearly quiet loglevel=4 panic=-1 no_timer_check nomodule_sig_check \
    i8042.noaux i8042.nokbd 8250.nr_uarts=0 cryptomgr.notests tsc=reliable net.ifnames=0";

/// Builds `build/templates/micro` and, with the attack programs in its check folder,
/// `build/templates-test/micro`.
pub(crate) fn micro(
    workspace: &Workspace,
    tools: &Root,
    packages: &Root,
    kernels: &Kernels,
    programs: &Programs,
) -> Result<()> {
    let recipe = workspace.source("image/builder/recipes/micro/udhcpc.script");
    let checks = test_checks(workspace, programs)?;
    let scripts: Vec<String> = checks.iter().map(|(_, path)| version(path)).collect::<Result<_>>()?;
    let inputs = [
        programs.version()?,
        version(&recipe)?,
        scripts.concat(),
        version(&kernels.zone.image)?,
        format!("{MODULES:?}{FILES:?}{FOLDERS:?}{APPLETS:?}{COMMAND_LINE}"),
    ]
    .concat();
    for (folder, checks) in [("templates", &[][..]), ("templates-test", &checks[..])] {
        let output = workspace.built(folder);
        cached(&output, &inputs, || {
            let step = Step::begin(format!("making the template micro in {}", output.display()));
            let template = output.join("micro");
            fs::create_dir_all(&template)?;
            fs::copy(&kernels.zone.image, template.join("vmlinux")).context("copy the zone kernel")?;
            initrd(tools, kernels, programs, &template.join("initrd"))?;
            let mut root = Staging::new(workspace.built("staging-micro"))?;
            fill_root(&mut root, packages, programs, &recipe, checks)?;
            root_image(tools, &root.path, &template.join("root.img"))?;
            fs::write(
                template.join("template.toml"),
                format!("command_line = \"{COMMAND_LINE}\"\nmemory_min_mib = 96\n"),
            )?;
            step.done();
            Ok(())
        })?;
    }
    Ok(())
}

/// The test template's checks: their names, and where they are now.
fn test_checks(workspace: &Workspace, programs: &Programs) -> Result<Vec<(&'static str, PathBuf)>> {
    let scripts = TEST_SCRIPTS
        .iter()
        .map(|name| Ok((*name, workspace.source("image/builder/recipes/micro-test").join(name))));
    let built = TEST_PROGRAMS.iter().map(|name| Ok((*name, programs.get(name)?.to_owned())));
    built.chain(scripts).collect()
}

fn initrd(tools: &Root, kernels: &Kernels, programs: &Programs, output: &Path) -> Result<()> {
    let mut archive = Archive::default();
    archive.device("dev/console", 0o600, 5, 1)?;
    // The agent's runtime wants three open descriptors even where the console does not work.
    archive.device("dev/null", 0o666, 1, 3)?;
    for folder in ["proc", "sys", "run", "mnt"] {
        archive.folder(folder)?;
    }
    archive.copy("init", 0o755, programs.get("agent")?)?;
    let mut list = String::new();
    for module in kernels.zone.modules(tools, MODULES)? {
        let path = format!("lib/modules/{}", module.file);
        archive.file(&path, 0o644, &module.content)?;
        list.push_str(&format!("/{path}\n"));
    }
    archive.file("etc/modules-load", 0o644, list.as_bytes())?;
    write(output, archive)
}

/// A folder that becomes a file system.
struct Staging {
    path: PathBuf,
}

impl Staging {
    fn new(path: PathBuf) -> Result<Self> {
        if path.exists() {
            fs::remove_dir_all(&path).with_context(|| format!("remove {}", path.display()))?;
        }
        fs::create_dir_all(&path)?;
        Ok(Self { path })
    }

    fn copy(&mut self, source: &Path, target: &str, permissions: u32) -> Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let target = self.path.join(target);
        fs::create_dir_all(target.parent().context("a file has a folder")?)?;
        fs::copy(source, &target).with_context(|| format!("copy {}", source.display()))?;
        fs::set_permissions(&target, fs::Permissions::from_mode(permissions))?;
        Ok(())
    }
}

fn fill_root(
    root: &mut Staging,
    packages: &Root,
    programs: &Programs,
    recipe: &Path,
    checks: &[(&str, PathBuf)],
) -> Result<()> {
    for folder in FOLDERS {
        fs::create_dir_all(root.path.join(folder))?;
    }
    for (source, target) in FILES {
        root.copy(&packages.file(source), target, 0o755)?;
    }
    root.copy(programs.get("agent")?, "usr/lib/bulkhead/agent", 0o755)?;
    root.copy(recipe, "usr/lib/bulkhead/udhcpc.script", 0o755)?;
    for (name, source) in checks {
        root.copy(source, &format!("usr/lib/bulkhead/checks/{name}"), 0o755)?;
    }
    for applet in APPLETS {
        std::os::unix::fs::symlink("busybox", root.path.join("bin").join(applet))?;
    }
    fs::write(root.path.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
    fs::write(root.path.join("etc/group"), "root:x:0:\n")?;
    fs::write(root.path.join("etc/hosts"), "127.0.0.1 localhost\n::1 localhost\n")?;
    Ok(())
}

/// Packs a folder as a reproducible erofs image.
fn root_image(tools: &Root, source: &Path, output: &Path) -> Result<()> {
    tools.output(
        "usr/bin/mkfs.erofs",
        &[
            "--all-root".as_ref(),
            "-T0".as_ref(),
            "-U00000000-0000-0000-0000-000000000000".as_ref(),
            "--quiet".as_ref(),
            output.as_os_str(),
            source.as_os_str(),
        ],
    )?;
    Ok(())
}
