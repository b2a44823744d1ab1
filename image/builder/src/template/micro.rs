//! The zone template `micro`: Debian's cloud kernel, an initrd with the agent and its modules, and a small
//! read-only root of Debian pieces.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use template::{INITRD, KERNEL, ROOT, Recipe};

use super::{COMMAND_LINE, MODULES, Staging, initrd, seal};
use crate::progress::Step;
use crate::sources::Sources;
use crate::workspace::{cached, version};

/// What its manifest says. Raise the version with each release, the epoch when what was before must not run any more.
const RECIPE: Recipe =
    Recipe { name: "micro", epoch: 1, version: 1, memory_min_mib: 96, command_line: COMMAND_LINE };

/// Files of Debian packages in the template's root: (path in the package, path in the root).
const FILES: &[(&str, &str)] = &[
    ("usr/bin/busybox", "bin/busybox"),
    ("usr/sbin/e2fsck", "sbin/e2fsck"),
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

/// Small text files of the template's root.
const TEXTS: &[(&str, &str)] = &[
    ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
    ("etc/group", "root:x:0:\n"),
    ("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
];

/// Checks that only the test template has: our programs.
const TEST_PROGRAMS: &[&str] = &["flood", "raw_frames", "records"];

/// Checks that only the test template has: files of `recipes/micro-test`.
const TEST_SCRIPTS: &[&str] = &["burst", "end_guest", "file", "home", "uptime"];

/// A check's name, and where it is now.
pub(super) type Check = (&'static str, PathBuf);

/// Builds `build/templates/micro` and, with the attack programs in its check folder,
/// `build/templates-test/micro`.
pub(super) fn build(sources: &Sources<'_>) -> Result<()> {
    let checks = test_checks(sources)?;
    let scripts: Vec<String> = checks.iter().map(|(_, path)| version(path)).collect::<Result<_>>()?;
    let inputs = [
        sources.programs.version()?,
        version(&script(sources))?,
        scripts.concat(),
        version(&sources.kernels.zone.image)?,
        sources.key.public().to_owned(),
        format!("{MODULES:?}{FILES:?}{FOLDERS:?}{APPLETS:?}{TEXTS:?}{RECIPE:?}"),
    ]
    .concat();
    for (folder, checks) in [("templates", &[][..]), ("templates-test", &checks[..])] {
        let template = sources.workspace.built(folder).join(RECIPE.name);
        cached(&template, &inputs, || {
            let step = Step::begin(format!("making the template micro in {}", template.display()));
            make(sources, checks, &template)?;
            step.done();
            Ok(())
        })?;
    }
    Ok(())
}

/// The test template's checks: their names, and where they are now.
fn test_checks(sources: &Sources<'_>) -> Result<Vec<Check>> {
    let scripts = TEST_SCRIPTS
        .iter()
        .map(|name| Ok((*name, sources.workspace.source("image/builder/recipes/micro-test").join(name))));
    let built = TEST_PROGRAMS.iter().map(|name| Ok((*name, sources.programs.get(name)?.to_owned())));
    built.chain(scripts).collect()
}

/// The DHCP clients' script.
fn script(sources: &Sources<'_>) -> PathBuf {
    sources.workspace.source("image/builder/recipes/micro/udhcpc.script")
}

/// Builds it in a folder.
pub(super) fn make(sources: &Sources<'_>, checks: &[Check], template: &Path) -> Result<()> {
    fs::create_dir_all(template).with_context(|| format!("make {}", template.display()))?;
    fs::copy(&sources.kernels.zone.image, template.join(KERNEL)).context("copy the zone kernel")?;
    initrd(sources, &template.join(INITRD))?;
    let root = Staging::new(sources.workspace.built("staging-micro"))?;
    fill_root(&root, sources, checks)?;
    root_image(sources, &root.path, &template.join(ROOT))?;
    fs::remove_dir_all(&root.path)?;
    seal(template, &RECIPE, &sources.key, &sources.approver)
}

fn fill_root(root: &Staging, sources: &Sources<'_>, checks: &[Check]) -> Result<()> {
    for folder in FOLDERS {
        root.folder(folder)?;
    }
    for (source, target) in FILES {
        root.copy(&sources.packages.file(source), target, 0o755)?;
    }
    root.copy(sources.programs.get("agent")?, "usr/lib/bulkhead/agent", 0o755)?;
    root.copy(&script(sources), "usr/lib/bulkhead/udhcpc.script", 0o755)?;
    for (name, source) in checks {
        root.copy(source, &format!("usr/lib/bulkhead/checks/{name}"), 0o755)?;
    }
    for applet in APPLETS {
        std::os::unix::fs::symlink("busybox", root.path.join("bin").join(applet))?;
    }
    for (path, text) in TEXTS {
        root.file(path, 0o644, text.as_bytes())?;
    }
    Ok(())
}

/// Packs a folder as a reproducible erofs image, uncompressed: reading it costs a zone nothing but the reading.
fn root_image(sources: &Sources<'_>, source: &Path, output: &Path) -> Result<()> {
    let options = ["--all-root", "-T0", "-U00000000-0000-0000-0000-000000000000", "--quiet"];
    let mut words: Vec<&std::ffi::OsStr> = options.iter().map(std::ffi::OsStr::new).collect();
    words.extend([output.as_os_str(), source.as_os_str()]);
    sources.tools.output("usr/bin/mkfs.erofs", &words).map(drop)
}
