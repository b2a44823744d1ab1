//! What `bench zone-start` boots: an initramfs whose first process measures, and a disk with everything that
//! it starts, our VMM and QEMU alike.
//!
//! The zone on that disk is the template `micro` with one more initramfs segment: a driver for virtio-mmio,
//! which only a peer needs, but which every contestant loads, so that all boot the same bytes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use template::{INITRD, KERNEL, MANIFEST, Manifest, ROOT};

use crate::cpio::Archive;
use crate::debian::Root;
use crate::host_image::write;
use crate::kernel::Kernels;
use crate::programs::Programs;
use crate::progress::Step;
use crate::sources::Sources;
use crate::workspace::{cached, version};

/// Modules of the host that measures, in order, before their dependencies are added.
const HOST_MODULES: &[&str] =
    &["virtio_blk", "crc32c_generic", "ext4", "virtio_rng", "ccp", "kvm_amd", "kvm_intel", "vhost_vsock"];

/// What the zone's kernel needs more to run under each peer.
const ZONE_MODULES: &[&str] = &["virtio_mmio"];

/// The processes of a zone of ours, and its firmware.
const ZONE_PROGRAMS: &[&str] = &["vmm", "vpnd", "zone_fw"];

/// The list of modules in the template's initrd.
const ZONE_LIST: &str = "etc/modules-load";

/// QEMU, and the firmware that it loads for the machine types of the benchmark.
const QEMU: &str = "usr/bin/qemu-system-x86_64";
const LOADER: &str = "lib64/ld-linux-x86-64.so.2";
const FIRMWARE: &[&str] = &[
    "usr/share/seabios/bios-256k.bin",
    "usr/share/seabios/bios-microvm.bin",
    "usr/share/qemu/kvmvapic.bin",
    "usr/share/qemu/linuxboot_dma.bin",
    "usr/share/qemu/pvh.bin",
    "usr/share/qemu/qboot.rom",
];

/// Size of the disk (its file is sparse) and of a zone's private disk, which is copied before each start.
const SIZE: &str = "512M";
const PRIVATE_SIZE: &str = "16M";

/// Builds `build/bench.img` and `build/bench.cpio`.
pub(crate) fn build(sources: &Sources<'_>) -> Result<()> {
    let Sources { workspace, tools, kernels, programs, .. } = sources;
    let template = workspace.built("templates/micro");
    let mut inputs = format!("{HOST_MODULES:?}{ZONE_MODULES:?}{FIRMWARE:?}{SIZE}{PRIVATE_SIZE}\n");
    for program in ZONE_PROGRAMS {
        inputs += &version(programs.get(program)?)?;
    }
    for path in [programs.get("zone_start_launcher")?, &tools.file(QEMU)] {
        inputs += &version(path)?;
    }
    for name in [KERNEL, INITRD, ROOT, MANIFEST] {
        inputs += &version(&template.join(name))?;
    }
    let initramfs = workspace.built("bench.cpio");
    cached(&initramfs, &inputs, || launcher(tools, kernels, programs, &initramfs))?;
    cached(&workspace.built("bench.img"), &inputs, || {
        let step = Step::begin("making the disk of the benchmarks");
        let staging = workspace.built("staging-bench");
        if staging.exists() {
            fs::remove_dir_all(&staging)?;
        }
        fs::create_dir_all(&staging)?;
        zone(tools, kernels, &template, &staging)?;
        for program in ZONE_PROGRAMS {
            copy(programs.get(program)?, &staging.join(program))?;
        }
        peer(tools, &staging.join("qemu"))?;
        let image = workspace.built("bench.img");
        file_system(tools, &["-L", "bench", "-m", "0"], Some(&staging), &image, SIZE)?;
        fs::remove_dir_all(&staging)?;
        step.done();
        Ok(())
    })
}

/// The initramfs: the launcher as first process, and its modules.
fn launcher(tools: &Root, kernels: &Kernels, programs: &Programs, output: &Path) -> Result<()> {
    let mut archive = Archive::default();
    archive.device("dev/console", 0o600, 5, 1)?;
    for folder in ["proc", "sys", "run", "tmp", "bench"] {
        archive.folder(folder)?;
    }
    archive.copy("init", 0o755, programs.get("zone_start_launcher")?)?;
    let mut list = String::new();
    for module in kernels.host.modules(tools, HOST_MODULES)? {
        let path = format!("lib/modules/{}", module.file);
        archive.file(&path, 0o644, &module.content)?;
        list.push_str(&format!("/{path}\n"));
    }
    archive.file("etc/modules-load", 0o644, list.as_bytes())?;
    write(output, archive)
}

/// The zone that every contestant starts.
fn zone(tools: &Root, kernels: &Kernels, template: &Path, target: &Path) -> Result<()> {
    for name in [KERNEL, ROOT] {
        copy(&template.join(name), &target.join(name))?;
    }
    // The launcher wants to know one thing only, and the peers cannot add the root's hash themselves.
    let manifest = fs::read(template.join(MANIFEST)).context("read the template's manifest")?;
    let manifest = Manifest::decode(&manifest).context("the template's manifest")?;
    let line = format!("command_line = \"{}\"\n", manifest.command_line());
    fs::write(target.join(MANIFEST), line).context("write the command line")?;
    let mut initrd = fs::read(template.join(INITRD)).context("read the template's initrd")?;
    let loaded = entry(&initrd, ZONE_LIST)
        .with_context(|| format!("the template's initrd has no {ZONE_LIST}"))
        .and_then(|bytes| Ok(std::str::from_utf8(bytes)?.to_owned()))?;
    let mut archive = Archive::default();
    let mut list = String::new();
    for module in kernels.zone.modules(tools, ZONE_MODULES)? {
        let path = format!("lib/modules/{}", module.file);
        archive.file(&path, 0o644, &module.content)?;
        list.push_str(&format!("/{path}\n"));
    }
    archive.file(ZONE_LIST, 0o644, (list + &loaded).as_bytes())?;
    initrd.extend(archive.finish()?);
    fs::write(target.join(INITRD), initrd).context("write the initrd")?;
    file_system(tools, &["-m", "0"], None, &target.join("private.img"), PRIVATE_SIZE)
}

/// QEMU with its libraries and firmware.
fn peer(tools: &Root, target: &Path) -> Result<()> {
    fs::create_dir_all(target.join("lib"))?;
    fs::create_dir_all(target.join("firmware"))?;
    copy(&tools.file(LOADER), &target.join("ld-linux-x86-64.so.2"))?;
    copy(&tools.file(QEMU), &target.join("qemu-system-x86_64"))?;
    for library in libraries(tools)? {
        let name = library.file_name().context("a library has a name")?;
        copy(&library, &target.join("lib").join(name))?;
    }
    for file in FIRMWARE {
        let source = tools.file(file);
        let name = source.file_name().context("a firmware has a name")?;
        copy(&source, &target.join("firmware").join(name))?;
    }
    Ok(())
}

/// Every library that QEMU is loaded with, as its loader finds them.
fn libraries(tools: &Root) -> Result<Vec<PathBuf>> {
    let folder = tools.file("usr/lib/x86_64-linux-gnu");
    let mut folders = folder.clone().into_os_string();
    folders.push(":");
    folders.push(folder.join("pulseaudio"));
    let output = Command::new(tools.file(LOADER))
        .arg("--library-path")
        .arg(folders)
        .arg("--list")
        .arg(tools.file(QEMU))
        .output()
        .context("ask the loader for QEMU's libraries")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() || text.contains("not found") {
        bail!("QEMU lacks libraries: {text}{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(listed(&text))
}

/// The paths in a loader's list: `name => path (address)`.
fn listed(text: &str) -> Vec<PathBuf> {
    text.lines()
        .filter_map(|line| line.split_once(" => ")?.1.rsplit_once(" ("))
        .map(|(path, _)| PathBuf::from(path))
        .collect()
}

fn file_system(
    tools: &Root,
    options: &[&str],
    source: Option<&Path>,
    image: &Path,
    size: &str,
) -> Result<()> {
    if image.exists() {
        fs::remove_file(image)?;
    }
    let mut words: Vec<&std::ffi::OsStr> = vec!["-q".as_ref(), "-t".as_ref(), "ext4".as_ref()];
    words.extend(options.iter().map(std::ffi::OsStr::new));
    words.extend(["-E".as_ref(), "root_owner=0:0".as_ref()] as [&std::ffi::OsStr; 2]);
    if let Some(source) = source {
        words.extend(["-d".as_ref(), source.as_os_str()]);
    }
    words.extend([image.as_os_str(), size.as_ref()]);
    tools.output("usr/sbin/mke2fs", &words).with_context(|| format!("make {}", image.display()))?;
    Ok(())
}

fn copy(source: &Path, target: &Path) -> Result<()> {
    fs::copy(source, target).with_context(|| format!("copy {}", source.display()))?;
    Ok(())
}

/// The content of a file in a "newc" archive's first segment.
fn entry<'a>(archive: &'a [u8], wanted: &str) -> Option<&'a [u8]> {
    const HEADER: usize = 110;
    let mut at = 0;
    loop {
        let header = archive.get(at..at + HEADER)?;
        let field = |offset: usize| {
            usize::from_str_radix(std::str::from_utf8(header.get(offset..offset + 8)?).ok()?, 16).ok()
        };
        let (size, name_size) = (field(54)?, field(94)?);
        let name = archive.get(at + HEADER..at + HEADER + name_size.checked_sub(1)?)?;
        let content = (at + HEADER + name_size).next_multiple_of(4);
        if name == wanted.as_bytes() {
            return archive.get(content..content + size);
        }
        at = (content + size).next_multiple_of(4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_found_behind_others() {
        let mut archive = Archive::default();
        archive.file("lib/modules/a.ko", 0o644, b"abcde").unwrap();
        archive.file(ZONE_LIST, 0o644, b"/lib/modules/a.ko\n").unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(entry(&bytes, ZONE_LIST), Some(&b"/lib/modules/a.ko\n"[..]));
        assert_eq!(entry(&bytes, "etc/other"), None);
        assert_eq!(entry(b"no archive", ZONE_LIST), None);
    }

    #[test]
    fn libraries_are_taken_from_the_loaders_list() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibz.so.1 => /t/lib/libz.so.1 (0x00007f00)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007f01)\n";
        assert_eq!(listed(text), [PathBuf::from("/t/lib/libz.so.1")]);
    }
}
