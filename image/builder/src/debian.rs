//! Debian 13 without touching the user's system: a private root with the tools of the build, and the unpacked
//! packages that the images are made of.
//!
//! Tools run from the private root through its own dynamic loader, so that no chroot and no privilege is
//! needed.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::progress::Step;
use crate::workspace::{Workspace, cached};

/// Debian's name for the release of tools, kernels and templates.
const SUITE: &str = "trixie";

/// Programs that the build and the tests run.
const TOOLS: &[&str] =
    &["qemu-system-x86", "qemu-utils", "e2fsprogs", "erofs-utils", "xz-utils", "zstd", "ca-certificates"];

/// With a display: QEMU's window.
const WINDOW_TOOLS: &[&str] = &["qemu-system-gui"];

/// What the images are made of: unpacked only, nothing of it is run by the build.
const PACKAGES: &[&str] =
    &["linux-image-amd64", "linux-image-cloud-amd64", "busybox-static", "e2fsprogs", "logsave"];

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
    fetch(workspace, "tools", "apt", &names)
}

/// The packages that the images are made of.
pub(crate) fn packages(workspace: &Workspace) -> Result<Root> {
    fetch(workspace, "packages", "extract", PACKAGES)
}

fn fetch(workspace: &Workspace, folder: &str, variant: &str, names: &[&str]) -> Result<Root> {
    let path = workspace.built(folder);
    let inputs = format!("{SUITE} {variant} {}", names.join(","));
    cached(&path, &inputs, || {
        let step = Step::begin(format!("fetching Debian packages: {}", names.join(" ")));
        let archive = workspace.built(&format!("{folder}.tar"));
        let log = workspace.built(&format!("{folder}.log"));
        let status = Command::new("mmdebstrap")
            .arg(format!("--variant={variant}"))
            .arg("--keyring=/usr/share/keyrings/debian-archive-keyring.gpg")
            .arg(format!("--include={}", names.join(",")))
            .arg(SUITE)
            .arg(&archive)
            .stdout(fs::File::create(&log).with_context(|| format!("create {}", log.display()))?)
            .stderr(fs::File::options().append(true).open(&log)?)
            .status()
            .context("start mmdebstrap")?;
        if !status.success() {
            let text = fs::read_to_string(&log).unwrap_or_default();
            let tail: Vec<&str> = text.lines().rev().take(5).collect();
            bail!(
                "mmdebstrap could not fetch Debian packages (is the network there?); the end of {}: {}",
                log.display(),
                tail.into_iter().rev().collect::<Vec<_>>().join(" | ")
            );
        }
        if path.exists() {
            fs::remove_dir_all(&path).with_context(|| format!("remove {}", path.display()))?;
        }
        fs::create_dir_all(&path)?;
        // Device nodes need root and nobody here uses them.
        let status = Command::new("tar")
            .args(["--exclude=./dev/*", "-xf"])
            .arg(&archive)
            .arg("-C")
            .arg(&path)
            .status()
            .context("start tar")?;
        if !status.success() {
            bail!("tar could not unpack {}: is the disk full?", archive.display());
        }
        fs::remove_file(&archive)?;
        step.done();
        Ok(())
    })?;
    Ok(Root { path })
}
