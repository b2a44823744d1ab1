//! What the production image does not contain, by looking into its archive.

use std::path::Path;

use anyhow::{Context, bail, ensure};

use crate::cpio::{Entry, read};
use crate::world::World;

/// Every program of the production image (ARCHITECTURE.md, "Files").
const PROGRAMS: [&str; 8] = [
    "init",
    "bin/uplink",
    "bin/keeper",
    "bin/zoned",
    "bin/vmm",
    "bin/vpnd",
    "bin/desktop",
    // Debian's.
    "bin/swtpm",
];

/// What the last of them and `keeper` need.
const LIBRARIES: [&str; 14] = [
    "lib/debian/ld-linux-x86-64.so.2",
    "lib/debian/libc.so.6",
    "lib/debian/libcrypto.so.3",
    "lib/debian/libgcc_s.so.1",
    "lib/debian/libseccomp.so.2",
    "lib/debian/libswtpm_libtpms.so.0",
    "lib/debian/libtpms.so.0",
    "lib/debian/libtss2-esys.so.0",
    "lib/debian/libtss2-mu.so.0",
    "lib/debian/libtss2-sys.so.1",
    "lib/debian/libtss2-tcti-device.so.0",
    "lib/debian/libtss2-tctildr.so.0",
    "lib/debian/libz.so.1",
    "lib/debian/libzstd.so.1",
];

/// What zones run and the host does not: nobody may execute it here.
const FIRMWARE: &str = "etc/bulkhead/zone_fw";

/// What the test image has more.
const TEST_PROGRAMS: [&str; 3] = ["bin/test_bridge", "bin/escape", "bin/probe"];

pub(super) fn production(world: &mut World) -> anyhow::Result<()> {
    let host = entries(&world.artifacts.host_segment())?;
    let bad = unexpected(&host);
    ensure!(bad.is_empty(), "the production image contains {bad:?}");
    for program in PROGRAMS.iter().chain(&LIBRARIES).chain([&FIRMWARE]) {
        ensure!(host.iter().any(|entry| entry.path == *program), "the production image lacks {program}");
    }
    // The same look finds what is there: the test image's additions.
    let test = entries(&world.artifacts.test_segment())?;
    let found = unexpected(&test);
    ensure!(found == TEST_PROGRAMS, "the test segment contains {found:?}");
    // The attacks on the jails have a first process of their own: the real one knows no way to them.
    for attack in ["/bin/escape", "/bin/probe"] {
        let knows = |entries: &[Entry], path: &str| {
            let content = entries.iter().find(|entry| entry.path == path).map(|entry| &entry.content);
            content.map(|bytes| bytes.windows(attack.len()).any(|window| window == attack.as_bytes()))
        };
        ensure!(knows(&host, "init") == Some(false), "init knows {attack}");
        ensure!(attack != "/bin/probe" || knows(&test, "bin/escape") == Some(true), "the look finds nothing");
    }
    Ok(())
}

fn entries(path: &Path) -> anyhow::Result<Vec<Entry>> {
    let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let entries = read(&bytes).with_context(|| format!("read the archive {}", path.display()))?;
    if entries.is_empty() {
        bail!("{} is empty", path.display());
    }
    Ok(entries)
}

/// Everything that can be run, or looks like it, but is no program of the production image or kernel module.
fn unexpected(entries: &[Entry]) -> Vec<&str> {
    entries
        .iter()
        .filter(|entry| entry.is_executable() || entry.looks_like_a_program() && entry.path != FIRMWARE)
        .map(|entry| entry.path.as_str())
        .filter(|path| !PROGRAMS.contains(path) && !LIBRARIES.contains(path))
        .filter(|path| {
            !(path.starts_with("lib/modules/") && Path::new(path).extension().is_some_and(|end| end == "ko"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, mode: u32, content: &[u8]) -> Entry {
        Entry { path: path.to_owned(), mode, content: content.to_vec() }
    }

    #[test]
    fn shells_scripts_and_stray_programs_are_found() {
        let entries = [
            entry("bin/zoned", 0o100_755, b"\x7fELF"),
            entry("lib/modules/kvm.ko", 0o100_644, b"\x7fELF"),
            entry("etc/bulkhead/policy.toml", 0o100_644, b"schema = 1"),
            entry("bin", 0o040_755, b""),
            entry("etc/bulkhead/zone_fw", 0o100_644, b"\x7fELF"),
            entry("bin/sh", 0o100_755, b"\x7fELF"),
            entry("etc/rc", 0o100_644, b"#!/bin/sh"),
            entry("lib/libc.so", 0o100_644, b"\x7fELF"),
            entry("lib/modules/not.really", 0o100_755, b""),
        ];
        assert_eq!(unexpected(&entries), ["bin/sh", "etc/rc", "lib/libc.so", "lib/modules/not.really"]);
        let executable = [entry("etc/bulkhead/zone_fw", 0o100_755, b"\x7fELF")];
        assert_eq!(unexpected(&executable), ["etc/bulkhead/zone_fw"]);
    }
}
