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
        reason: "finds fontconfig for Slint's compiler, and the TSS",
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
    install_missing(PACKAGES.iter().chain(extra))
}

/// Installs what is missing for `bulkhead fuzz`.
///
/// # Errors
/// As [`install`].
pub(crate) fn install_for_fuzzing() -> Result<()> {
    install_missing(FUZZING.iter())
}

fn install_missing(wanted: impl Iterator<Item = &'static Package>) -> Result<()> {
    let missing = missing(wanted, |file| Path::new(file).exists());
    if missing.is_empty() {
        return Ok(());
    }
    let root = rustix::process::geteuid().is_root();
    install_packages(&missing, Path::new("/usr/bin/apt-get").exists(), |words| apt(root, words))
}

/// The packages whose proof is not there.
fn missing(
    wanted: impl Iterator<Item = &'static Package>,
    exists: impl Fn(&str) -> bool,
) -> Vec<&'static Package> {
    wanted.filter(|package| !exists(package.proof)).collect()
}

/// Installs `packages` by `apt`, which answers whether it did what its words say.
fn install_packages(
    packages: &[&Package],
    has_apt: bool,
    apt: impl Fn(&[&str]) -> Result<bool>,
) -> Result<()> {
    progress::say("==> installing Debian packages that this machine lacks");
    for package in packages {
        progress::say(&format!("    {}: {}", package.name, package.reason));
    }
    let names: Vec<&str> = packages.iter().map(|package| package.name).collect();
    let by_hand = format!("apt-get install {}", names.join(" "));
    if !has_apt {
        bail!("this machine has no apt-get: install the packages above by hand ({by_hand} on Debian)");
    }
    // Lists may be old or absent; a failure here shows in the installation.
    let _stale = apt(&["update", "-qq"]);
    // Nothing of the user's is removed to make room for ours.
    let mut words =
        vec!["install", "-y", "-qq", "-o", "Dpkg::Use-Pty=0", "--no-install-recommends", "--no-remove"];
    words.extend(&names);
    if !apt(&words)? {
        bail!("apt-get could not install the packages above: run `{by_hand}` by hand and start again");
    }
    Ok(())
}

/// Runs apt-get as root; `Ok(false)` when it ran and failed.
fn apt(root: bool, words: &[&str]) -> Result<bool> {
    let mut command = Command::new(if root { "env" } else { "sudo" });
    if !root {
        command.arg("env");
    }
    // By `env`: sudo drops the variables of whoever calls it.
    let status = command
        .args(["DEBIAN_FRONTEND=noninteractive", "apt-get"])
        .args(words)
        .status()
        .context("start apt-get as root by sudo: install sudo, or start ./bulkhead as root once")?;
    Ok(status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_is_installed() {
        assert!(missing(PACKAGES.iter(), |_| true).is_empty());
        let lacks_two = |file: &str| file != "/usr/bin/musl-gcc" && file != "/usr/bin/newuidmap";
        let names: Vec<&str> = missing(PACKAGES.iter().chain(UNPRIVILEGED), lacks_two)
            .iter()
            .map(|package| package.name)
            .collect();
        assert_eq!(names, ["musl-tools", "uidmap"]);
    }

    #[test]
    fn a_missing_tool_that_cannot_be_installed_is_a_sentence() {
        let packages = missing(PACKAGES.iter(), |file| file != "/usr/bin/musl-gcc");
        let check = |has_apt: bool, works: bool, part: &str| {
            let answer =
                install_packages(&packages, has_apt, |words| Ok(works || words.first() == Some(&"update")));
            let text = answer.map_or_else(|error| error.to_string(), |()| String::new());
            assert!(text.contains(part) && (part.is_empty() == text.is_empty()), "{text}");
        };
        check(true, true, "");
        check(true, false, "run `apt-get install musl-tools` by hand");
        check(false, true, "no apt-get: install the packages above by hand (apt-get install musl-tools");
    }
}
