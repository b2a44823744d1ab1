//! The zone template `debian`: Debian 13 with systemd and the applications of an office day.
//!
//! mmdebstrap installs the packages into an archive once; each build appends what is ours (recipes/debian/root and the
//! agent) and packs that as a compressed erofs. Owners and modes come from the archives, never from this machine.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use template::{INITRD, KERNEL, ROOT, Recipe};

use super::{COMMAND_LINE, MODULES, Staging, initrd, seal};
use crate::debian;
use crate::progress::Step;
use crate::sources::Sources;
use crate::workspace::{cached, version};

/// What its manifest says. Raise the version with each release, the epoch when what was before must not run any more.
const RECIPE: Recipe =
    Recipe { name: "debian", epoch: 1, version: 1, memory_min_mib: 512, command_line: COMMAND_LINE };

/// What is installed, beside what every Debian has.
const PACKAGES: &[&str] = &[
    // The system.
    "systemd-sysv",
    "systemd-resolved",
    "udev",
    "dbus",
    "dbus-user-session",
    "libpam-systemd",
    "iproute2",
    "e2fsprogs",
    "logsave",
    "ca-certificates",
    "xdg-user-dirs",
    // The applications.
    "foot",
    "firefox-esr",
    "thunar",
    "mousepad",
    "evince",
    // What they look like and sound like.
    "adwaita-icon-theme",
    "fonts-dejavu-core",
    "fonts-liberation",
    "fonts-noto-color-emoji",
    "libpipewire-0.3-0t64",
    "libpipewire-0.3-modules",
    "libspa-0.2-modules",
];

/// More of mmdebstrap's options: no documentation and no translations, and away with what differs from one installation
/// to the next. There is no user's account: systemd-sysusers makes it at each start, of a credential.
const OPTIONS: &[&str] = &[
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-exclude=/usr/share/info/*",
    "--aptopt=Acquire::Languages \"none\"",
    "--customize-hook=rm -rf \"$1\"/var/log/* \"$1\"/var/cache/ldconfig \"$1\"/var/cache/debconf/*-old \
     \"$1\"/etc/*- \"$1\"/var/lib/systemd/random-seed \"$1\"/var/lib/dbus/machine-id",
];

/// Units that a zone has no use for, or that would wait for something that a zone has not.
const MASKED: &[&str] = &[
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "dev-hugepages.mount",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty.target",
    "getty@tty1.service",
    "ldconfig.service",
    "serial-getty@hvc0.service",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-boot-random-seed.service",
    "systemd-firstboot.service",
    "systemd-hwdb-update.service",
    "systemd-journal-catalog-update.service",
    "systemd-machine-id-commit.service",
    "systemd-modules-load.service",
    "systemd-networkd-wait-online.service",
    "systemd-pcrmachine.service",
    "systemd-random-seed.service",
    "systemd-udev-settle.service",
    "systemd-update-done.service",
    "systemd-update-utmp.service",
];

/// Links: (path in the root, where it points).
const LINKS: &[(&str, &str)] = &[
    ("etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf"),
    ("etc/systemd/system/default.target", "/usr/lib/systemd/system/multi-user.target"),
    ("etc/systemd/system/sysinit.target.wants/bulkhead-agent.service", "../bulkhead-agent.service"),
    ("etc/systemd/system/multi-user.target.wants/bulkhead-session.service", "../bulkhead-session.service"),
    (
        "etc/systemd/system/multi-user.target.wants/systemd-networkd.service",
        "/usr/lib/systemd/system/systemd-networkd.service",
    ),
    (
        "etc/systemd/system/sysinit.target.wants/systemd-resolved.service",
        "/usr/lib/systemd/system/systemd-resolved.service",
    ),
];

/// Small files: (path in the root, content). An empty machine-id is filled in at each start and is no first boot.
const TEXTS: &[(&str, &str)] = &[
    ("etc/machine-id", ""),
    ("etc/hostname", "zone\n"),
    ("etc/hosts", "127.0.0.1 localhost zone\n::1 localhost zone\n"),
    ("etc/fstab", "# The root and /home are mounted before systemd starts.\n"),
];

/// Builds `build/templates/debian`, and the same as `build/templates-test/debian`.
pub(super) fn build(sources: &Sources<'_>) -> Result<()> {
    let packages = debian::archive(sources.workspace, "debian", "essential", PACKAGES, OPTIONS)
        .context("fetch the packages of the template debian")?;
    let files = files(sources)?;
    let versions: Vec<String> = files.iter().map(|(_, path)| version(path)).collect::<Result<_>>()?;
    let inputs = [
        sources.programs.version()?,
        version(&packages)?,
        versions.concat(),
        version(&sources.kernels.zone.image)?,
        sources.key.public().to_owned(),
        format!("{MODULES:?}{MASKED:?}{LINKS:?}{TEXTS:?}{RECIPE:?}"),
    ]
    .concat();
    let template = sources.workspace.built("templates").join(RECIPE.name);
    cached(&template, &inputs, || {
        let step = Step::begin(format!("making the template debian in {}", template.display()));
        make(sources, &packages, &files, &template)?;
        step.done();
        Ok(())
    })?;
    let test = sources.workspace.built("templates-test").join(RECIPE.name);
    cached(&test, &inputs, || {
        if test.exists() {
            fs::remove_dir_all(&test)?;
        }
        fs::create_dir_all(&test)?;
        for entry in fs::read_dir(&template)? {
            let entry = entry?;
            fs::hard_link(entry.path(), test.join(entry.file_name())).context("link the template")?;
        }
        Ok(())
    })
}

/// The files of recipes/debian/root: their paths in the root, and where they are now.
fn files(sources: &Sources<'_>) -> Result<Vec<(String, PathBuf)>> {
    fn collect(folder: &Path, path: &str, files: &mut Vec<(String, PathBuf)>) -> Result<()> {
        for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
            let entry = entry?;
            let name = entry.file_name();
            let name = format!("{path}{}", name.to_str().context("names in the recipe are text")?);
            if entry.file_type()?.is_dir() {
                collect(&entry.path(), &format!("{name}/"), files)?;
            } else {
                files.push((name, entry.path()));
            }
        }
        Ok(())
    }
    let mut files = Vec::new();
    collect(&sources.workspace.source("image/builder/recipes/debian/root"), "", &mut files)?;
    files.sort();
    Ok(files)
}

fn make(sources: &Sources<'_>, packages: &Path, files: &[(String, PathBuf)], template: &Path) -> Result<()> {
    // Files of an earlier build may have a second name in templates-test.
    if template.exists() {
        fs::remove_dir_all(template).with_context(|| format!("remove {}", template.display()))?;
    }
    fs::create_dir_all(template).with_context(|| format!("make {}", template.display()))?;
    fs::copy(&sources.kernels.zone.image, template.join(KERNEL)).context("copy the zone kernel")?;
    initrd(sources, &template.join(INITRD))?;
    let archive = sources.workspace.built("debian-root.tar");
    fs::copy(packages, &archive).context("copy the packages")?;
    append(sources, files, &archive)?;
    let image = template.join(ROOT);
    let options = ["--tar=f", "-zlz4hc,6", "-U00000000-0000-0000-0000-000000000000", "--quiet"];
    let mut words: Vec<&OsStr> = options.iter().map(OsStr::new).collect();
    words.extend([image.as_os_str(), archive.as_os_str()]);
    sources.tools.output("usr/bin/mkfs.erofs", &words)?;
    fs::remove_file(&archive)?;
    seal(template, &RECIPE, &sources.key, &sources.approver)
}

/// Appends what is ours to the archive; what comes later in it replaces what was before.
fn append(sources: &Sources<'_>, files: &[(String, PathBuf)], archive: &Path) -> Result<()> {
    let root = Staging::new(sources.workspace.built("staging-debian"))?;
    for (path, source) in files {
        root.copy(source, path, 0o644)?;
    }
    for (path, text) in TEXTS {
        root.file(path, 0o644, text.as_bytes())?;
    }
    for unit in MASKED {
        root.link(&format!("etc/systemd/system/{unit}"), "/dev/null")?;
    }
    for (path, target) in LINKS {
        root.link(path, target)?;
    }
    root.copy(sources.programs.get("agent")?, "usr/lib/bulkhead/agent", 0o755)?;
    let status = Command::new("tar")
        .args(["--append", "--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--format=gnu"])
        .args(["--mtime=@0", "--no-recursion", "-C"])
        .arg(&root.path)
        .arg("-f")
        .arg(archive)
        .args(root.entries()?)
        .status()
        .context("start tar")?;
    if !status.success() {
        bail!("tar could not append to {}: is the disk full?", archive.display());
    }
    fs::remove_dir_all(&root.path)?;
    Ok(())
}
