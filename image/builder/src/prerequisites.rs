//! Installs what a build needs and this machine lacks, as Debian packages, saying what and why.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::progress;

/// A Debian package, a file that shows that it is there, and why we want it.
struct Package {
    name: &'static str,
    proof: &'static str,
    reason: &'static str,
}

/// Everything that a build takes from the machine itself; the rest comes from a private Debian 13 root.
const PACKAGES: &[Package] = &[
    Package {
        name: "mmdebstrap",
        proof: "/usr/bin/mmdebstrap",
        reason: "fetches Debian 13 packages for the images",
    },
    Package {
        name: "debian-archive-keyring",
        proof: "/usr/share/keyrings/debian-archive-keyring.gpg",
        reason: "verifies them",
    },
    Package { name: "gcc", proof: "/usr/bin/gcc", reason: "links programs, builds the C parts of ring" },
    Package { name: "libc6-dev", proof: "/usr/include/stdio.h", reason: "headers for gcc" },
    Package {
        name: "musl-tools",
        proof: "/usr/bin/musl-gcc",
        reason: "builds the C parts of static programs",
    },
    Package {
        name: "pkg-config",
        proof: "/usr/bin/pkg-config",
        reason: "finds fontconfig for Slint's compiler",
    },
    Package {
        name: "libfontconfig-dev",
        proof: "/usr/include/fontconfig/fontconfig.h",
        reason: "Slint's compiler embeds the desktop's font with it",
    },
    Package {
        name: "fonts-dejavu-core",
        proof: "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",
        reason: "the desktop's font",
    },
];

/// What a build of the fuzz targets takes.
const FUZZING: &[Package] = &[
    Package { name: "gcc", proof: "/usr/bin/gcc", reason: "links programs, builds the C parts of ring" },
    Package { name: "libc6-dev", proof: "/usr/include/stdio.h", reason: "headers for gcc" },
    Package { name: "g++", proof: "/usr/bin/g++", reason: "builds the fuzzing engine" },
];

/// What mmdebstrap needs where the user is not root.
const UNPRIVILEGED: &[Package] =
    &[Package { name: "uidmap", proof: "/usr/bin/newuidmap", reason: "lets mmdebstrap work without root" }];

/// Installs what is missing.
///
/// # Errors
/// The packages and the command to install them by hand, when apt is missing or fails.
pub(crate) fn install() -> Result<()> {
    let extra = if rustix::process::geteuid().is_root() { &[][..] } else { UNPRIVILEGED };
    install_packages(PACKAGES.iter().chain(extra))
}

/// Installs what is missing for `bulkhead fuzz`.
///
/// # Errors
/// As [`install`].
pub(crate) fn install_for_fuzzing() -> Result<()> {
    install_packages(FUZZING.iter())
}

fn install_packages(wanted: impl Iterator<Item = &'static Package>) -> Result<()> {
    let root = rustix::process::geteuid().is_root();
    let missing: Vec<&Package> = wanted.filter(|package| !Path::new(package.proof).exists()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    progress::say("==> installing Debian packages that this machine lacks");
    for package in &missing {
        progress::say(&format!("    {}: {}", package.name, package.reason));
    }
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    let by_hand = format!("apt-get install {}", names.join(" "));
    if !Path::new("/usr/bin/apt-get").exists() {
        bail!("this machine has no apt-get: install the packages above by hand ({by_hand} on Debian)");
    }
    // Lists may be old or absent; a failure here shows in the installation.
    let _stale = apt(root, &["update", "-qq"]);
    let mut words = vec!["install", "-y", "-qq", "--no-install-recommends"];
    words.extend(&names);
    if !apt(root, &words)? {
        bail!("apt-get could not install the packages above: run `{by_hand}` by hand and start again");
    }
    Ok(())
}

/// Runs apt-get as root; `Ok(false)` when it ran and failed.
fn apt(root: bool, words: &[&str]) -> Result<bool> {
    let mut command = if root { Command::new("apt-get") } else { Command::new("sudo") };
    if !root {
        command.arg("apt-get");
    }
    let status = command
        .args(words)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .status()
        .context("start apt-get (as root, or by sudo)")?;
    Ok(status.success())
}
