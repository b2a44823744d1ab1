//! Debian 13 without touching the user's system: a private root with the tools of the build, and the unpacked
//! packages that the images are made of.
//!
//! Tools run from the private root through its own dynamic loader, so that no chroot and no privilege is
//! needed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::lock::Lock;
use crate::progress::Step;
use crate::workspace::Workspace;

/// Debian's name for the release of tools, kernels and templates.
const SUITE: &str = "trixie";

/// Programs that the build and the tests run.
const TOOLS: &[&str] = &[
    "qemu-system-x86",
    "qemu-utils",
    "e2fsprogs",
    "erofs-utils",
    "swtpm",
    "xz-utils",
    "zstd",
    "ca-certificates",
];

/// With a display: QEMU's window.
const WINDOW_TOOLS: &[&str] = &["qemu-system-gui"];

/// What the images are made of: unpacked only, nothing of it is run by the build.
const PACKAGES: &[&str] =
    &["linux-image-amd64", "linux-image-cloud-amd64", "busybox-static", "e2fsprogs", "logsave", "swtpm"];

/// What programs are linked with that use the TSS: its libraries exist for glibc only, and in versions that differ between Debians.
const LIBRARIES: &[&str] = &["libtss2-dev", "libc6-dev"];

/// A folder of unpacked Debian packages.
pub(crate) struct Root {
    path: PathBuf,
}

impl Root {
    /// A file in it.
    pub(crate) fn file(&self, path: &str) -> PathBuf {
        self.path.join(path)
    }

    /// A command that runs one of its programs on this machine.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.file("lib64/ld-linux-x86-64.so.2"));
        let libraries = self.file("usr/lib/x86_64-linux-gnu");
        command.arg("--library-path").arg(&libraries).arg(self.file(program));
        command
    }

    /// Runs one of its programs and takes what it prints.
    pub(crate) fn output(&self, program: &str, words: &[&std::ffi::OsStr]) -> Result<Vec<u8>> {
        let output =
            self.command(program).args(words).output().with_context(|| format!("start {program}"))?;
        if !output.status.success() {
            bail!("{program} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(output.stdout)
    }
}

/// A set of packages to fetch.
struct Request<'a> {
    /// Where it goes, below `build/`.
    folder: &'a str,
    /// mmdebstrap's variant: `extract` unpacks only, the others install.
    variant: &'a str,
    /// What is asked for; dependencies come with it.
    names: &'a [&'a str],
    /// More of mmdebstrap's options.
    options: &'a [&'a str],
}

/// Where apt's downloads are listed inside a root.
const SUMS: &str = "packages.sha256";

/// Lists apt's downloads, before mmdebstrap removes them.
const LIST_DOWNLOADS: &str = r#"cd "$1/var/cache/apt/archives" && sha256sum *.deb >"$1/packages.sha256""#;

/// The time that stands for "now" in maintainer scripts and archives (2025-01-01).
const SOURCE_DATE: &str = "1735689600";

/// The tools of the build. QEMU's window comes with them where there is a display.
pub(crate) fn tools(workspace: &Workspace) -> Result<Root> {
    let display = ["DISPLAY", "WAYLAND_DISPLAY"]
        .iter()
        .any(|name| std::env::var_os(name).is_some_and(|v| !v.is_empty()));
    let mut names = TOOLS.to_vec();
    // A root that has the window already serves a headless run as well.
    if display || workspace.built("tools/usr/lib/x86_64-linux-gnu/qemu/ui-gtk.so").exists() {
        names.extend(WINDOW_TOOLS);
    }
    unpacked(workspace, &Request { folder: "tools", variant: "apt", names: &names, options: &[] })
}

/// The packages that the images are made of.
pub(crate) fn packages(workspace: &Workspace) -> Result<Root> {
    unpacked(workspace, &Request { folder: "packages", variant: "extract", names: PACKAGES, options: &[] })
}

/// Debian 13's libraries for programs that use the TSS: a root for linkers, with descriptions for pkg-config that name this folder.
pub(crate) fn sysroot(workspace: &Workspace) -> Result<Root> {
    let request = Request { folder: "sysroot", variant: "extract", names: LIBRARIES, options: &[] };
    let root = unpacked(workspace, &request)?;
    // Debian's packages expect the merged /usr that their installation would make.
    for (link, target) in [("lib", "usr/lib"), ("lib64", "usr/lib64")] {
        let link = root.file(link);
        if !link.exists() {
            std::os::unix::fs::symlink(target, &link).with_context(|| format!("make {}", link.display()))?;
        }
    }
    let descriptions = root.file("pkgconfig");
    fs::create_dir_all(&descriptions).with_context(|| format!("make {}", descriptions.display()))?;
    let theirs = root.file("usr/lib/x86_64-linux-gnu/pkgconfig");
    for entry in fs::read_dir(&theirs).with_context(|| format!("list {}", theirs.display()))? {
        let path = entry?.path();
        let Some(name) = path.file_name().filter(|name| name.as_encoded_bytes().starts_with(b"tss2-")) else {
            continue;
        };
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        // What they need in turn is for static linking only.
        let here = text.replace("/usr", &root.file("usr").display().to_string());
        let kept: Vec<&str> = here.lines().filter(|line| !line.starts_with("Requires.private")).collect();
        fs::write(descriptions.join(name), kept.join("\n")).context("describe the TSS's libraries")?;
    }
    Ok(root)
}

/// An archive of installed packages, `build/FOLDER.tar`.
pub(crate) fn archive(
    workspace: &Workspace,
    folder: &str,
    variant: &str,
    names: &[&str],
    options: &[&str],
) -> Result<PathBuf> {
    let path = workspace.built(&format!("{folder}.tar"));
    locked(workspace, &Request { folder, variant, names, options }, &path, |_archive| Ok(()))?;
    Ok(path)
}

/// Forgets every lock: the next build takes what the mirror has then.
pub(crate) fn relock(workspace: &Workspace) -> Result<()> {
    for entry in fs::read_dir(workspace.built("")).into_iter().flatten() {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "lock") {
            fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// Fetches packages and unpacks them.
fn unpacked(workspace: &Workspace, request: &Request<'_>) -> Result<Root> {
    let path = workspace.built(request.folder);
    locked(workspace, request, &path, |archive| {
        if path.exists() {
            fs::remove_dir_all(&path).with_context(|| format!("remove {}", path.display()))?;
        }
        fs::create_dir_all(&path)?;
        // Device nodes need root and nobody here uses them.
        let status = Command::new("tar")
            .args(["--exclude=./dev/*", "-xf"])
            .arg(archive)
            .arg("-C")
            .arg(&path)
            .status()
            .context("start tar")?;
        if !status.success() {
            bail!("tar could not unpack {}: is the disk full?", archive.display());
        }
        fs::remove_file(archive)?;
        Ok(())
    })?;
    Ok(Root { path })
}

/// Fetches a set of packages as `build/FOLDER.tar` and hands that to `take`, unless `output` is there and was made
/// from the packages that `build/FOLDER.lock` names.
fn locked(
    workspace: &Workspace,
    request: &Request<'_>,
    output: &Path,
    take: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let Request { folder, variant, names, options } = request;
    let text = format!("{SUITE} {variant} {} {}", names.join(","), options.join(" "));
    let text = text.trim_end();
    let lock_path = workspace.built(&format!("{folder}.lock"));
    let stamp = workspace.built(&format!("{folder}.stamp"));
    let lock = Lock::read(&lock_path, text)?;
    if let Some(lock) = &lock
        && output.exists()
        && fs::read_to_string(&stamp).is_ok_and(|old| old == lock.text())
    {
        return Ok(());
    }
    if stamp.exists() {
        fs::remove_file(&stamp).with_context(|| format!("remove {}", stamp.display()))?;
    }
    let step = Step::begin(format!("fetching Debian packages: {}", names.join(" ")));
    // In a fresh clone this may be the first thing that is built.
    fs::create_dir_all(workspace.built("")).context("make the build folder")?;
    let archive = workspace.built(&format!("{folder}.tar"));
    let found = Lock::of_downloads(text, &fetch(workspace, request, lock.as_ref(), &archive)?)
        .context("list the downloads")?;
    if let Some(lock) = &lock {
        lock.compare(&found, &lock_path)?;
    }
    take(&archive)?;
    fs::write(&lock_path, found.text()).with_context(|| format!("write {}", lock_path.display()))?;
    fs::write(&stamp, found.text()).with_context(|| format!("write {}", stamp.display()))?;
    step.done();
    Ok(())
}

/// Lets mmdebstrap write an archive; returns the list of downloads.
fn fetch(
    workspace: &Workspace,
    request: &Request<'_>,
    lock: Option<&Lock>,
    archive: &Path,
) -> Result<String> {
    let log = workspace.built(&format!("{}.log", request.folder));
    let hook = if request.variant == "extract" { "extract" } else { "customize" };
    let mut command = Command::new("mmdebstrap");
    command
        .arg(format!("--variant={}", request.variant))
        .arg("--keyring=/usr/share/keyrings/debian-archive-keyring.gpg")
        .arg(format!("--include={}", request.names.join(",")))
        .arg("--skip=essential/unlink")
        .args(request.options)
        .arg(format!("--{hook}-hook={LIST_DOWNLOADS}"));
    if let Some(lock) = lock {
        let preferences = workspace.built("bulkhead-lock");
        fs::write(&preferences, lock.preferences())?;
        command.arg(format!("--setup-hook=copy-in '{}' /etc/apt/preferences.d/", preferences.display()));
        command.arg(format!("--{hook}-hook=rm \"$1/etc/apt/preferences.d/bulkhead-lock\""));
    }
    let status = command
        .arg(SUITE)
        .arg(archive)
        .env("SOURCE_DATE_EPOCH", SOURCE_DATE)
        .stdout(fs::File::create(&log).with_context(|| format!("create {}", log.display()))?)
        .stderr(fs::File::options().append(true).open(&log)?)
        .status()
        .context("start mmdebstrap")?;
    if !status.success() {
        let text = fs::read_to_string(&log).unwrap_or_default();
        let tail: Vec<&str> = text.lines().rev().take(5).collect();
        bail!(
            "mmdebstrap could not fetch Debian packages (is the network there? a lock of versions that need each other \
             and are gone can be the cause too: ./bulkhead image --relock); the end of {}: {}",
            log.display(),
            tail.into_iter().rev().collect::<Vec<_>>().join(" | ")
        );
    }
    let sums = Command::new("tar").args(["-xOf"]).arg(archive).arg(format!("./{SUMS}")).output();
    let sums = sums.context("start tar")?;
    if !sums.status.success() {
        bail!("{} has no list of downloads: {}", archive.display(), String::from_utf8_lossy(&sums.stderr));
    }
    String::from_utf8(sums.stdout).context("the list of downloads is no text")
}
