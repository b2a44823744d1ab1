//! Kernels out of Debian's packages: the uncompressed image, and the modules that an image loads, in order.

mod elf;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::debian::Root;
use crate::progress::Step;
use crate::workspace::{Workspace, cached, version};

/// One kernel: its uncompressed image and its modules by name.
pub(crate) struct Kernel {
    /// ELF image, with a PVH entry for QEMU.
    pub(crate) image: PathBuf,
    modules: PathBuf,
}

/// The kernels of the host and of zones.
pub(crate) struct Kernels {
    /// Debian's general kernel.
    pub(crate) host: Kernel,
    /// Debian's cloud kernel.
    pub(crate) zone: Kernel,
}

/// Part of what an image is made of: the form that [`elf::arrange`] gives it.
const ARRANGED: &str = "arranged\n";

/// Unpacks both kernels.
pub(crate) fn extract(workspace: &Workspace, tools: &Root, packages: &Root) -> Result<Kernels> {
    let mut host = None;
    let mut zone = None;
    for entry in fs::read_dir(packages.file("boot")).context("list the kernel packages")? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let Some(release) = name.strip_prefix("vmlinuz-") else { continue };
        let cloud = release.contains("-cloud-");
        let image = workspace.built(if cloud { "zone-vmlinux" } else { "host-vmlinux" });
        cached(&image, &(version(&path)? + ARRANGED), || unpack_image(tools, &path, &image))?;
        let modules = packages.file(&format!("usr/lib/modules/{release}/kernel"));
        let kernel = Kernel { image, modules };
        if cloud { zone = Some(kernel) } else { host = Some(kernel) }
    }
    Ok(Kernels {
        host: host.context("the packages hold no kernel for the host")?,
        zone: zone.context("the packages hold no kernel for zones")?,
    })
}

/// Takes the compressed ELF image out of a bzImage (x86 boot protocol: `setup_sects` at 0x1f1,
/// `payload_offset` at 0x248, `payload_length` at 0x24c, both after the set-up sectors).
fn unpack_image(tools: &Root, boot_image: &Path, output: &Path) -> Result<()> {
    let step = Step::begin(format!("unpacking {}", boot_image.display()));
    let bytes = fs::read(boot_image)?;
    let field = |offset: usize| -> Result<usize> {
        let word = bytes.get(offset..offset + 4).context("boot image is too short")?;
        Ok(usize::try_from(u32::from_le_bytes(word.try_into()?))?)
    };
    let sectors = usize::from(*bytes.get(0x1f1).context("boot image is too short")?);
    let start = (sectors + 1) * 512 + field(0x248)?;
    // The build appends the uncompressed size, four bytes, to the compressed stream.
    let end = start + field(0x24c)?.saturating_sub(4);
    let payload = bytes.get(start..end).context("boot image ends inside its payload")?;
    let program = match payload {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "usr/bin/zstd",
        [0xfd, b'7', b'z', b'X', b'Z', ..] => "usr/bin/xz",
        _ => bail!("{} is compressed by neither zstd nor xz", boot_image.display()),
    };
    let (packed, unpacked) = (output.with_extension("packed"), output.with_extension("unpacked"));
    fs::write(&packed, payload)?;
    let status = tools
        .command(program)
        .args(["-dc", "-q"])
        .stdin(fs::File::open(&packed)?)
        .stdout(fs::File::create(&unpacked)?)
        .stderr(Stdio::inherit())
        .status()
        .with_context(|| format!("start {program}"))?;
    fs::remove_file(&packed)?;
    if !status.success() {
        bail!("{program} could not unpack {}", boot_image.display());
    }
    let image = elf::arrange(&fs::read(&unpacked)?)
        .with_context(|| format!("{} did not unpack to an ELF image", boot_image.display()))?;
    fs::write(&unpacked, image)?;
    fs::rename(&unpacked, output)?;
    step.done();
    Ok(())
}

/// A module ready to load.
pub(crate) struct Module {
    /// File name with `.ko`.
    pub(crate) file: String,
    /// The uncompressed, signed module.
    pub(crate) content: Vec<u8>,
}

impl Kernel {
    /// Takes the named modules and what they depend on, in load order; names that are built into the kernel
    /// are left out.
    pub(crate) fn modules(&self, tools: &Root, names: &[&str]) -> Result<Vec<Module>> {
        let mut files = Vec::new();
        collect(&self.modules, &mut files)?;
        let builtin = self.builtin()?;
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        for name in names {
            self.add(tools, &files, &builtin, name, &mut seen, &mut order)?;
        }
        Ok(order)
    }

    fn builtin(&self) -> Result<BTreeSet<String>> {
        let list = self.modules.with_file_name("modules.builtin");
        let text = fs::read_to_string(&list).with_context(|| format!("read {}", list.display()))?;
        Ok(text.lines().map(|line| module_name(Path::new(line))).collect())
    }

    fn add(
        &self,
        tools: &Root,
        files: &[PathBuf],
        builtin: &BTreeSet<String>,
        name: &str,
        seen: &mut BTreeSet<String>,
        order: &mut Vec<Module>,
    ) -> Result<()> {
        let name = name.replace('-', "_");
        if builtin.contains(&name) || !seen.insert(name.clone()) {
            return Ok(());
        }
        let Some(path) = files.iter().find(|path| module_name(path) == name) else {
            bail!("the kernel package has no module {name:?}");
        };
        let content = tools.output("usr/bin/xz", &["-dc".as_ref(), path.as_os_str()])?;
        for dependency in information(&content, "depends=") {
            self.add(tools, files, builtin, &dependency, seen, order)?;
        }
        order.push(Module { file: format!("{name}.ko"), content });
        Ok(())
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

fn module_name(path: &Path) -> String {
    let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    file.split(".ko").next().unwrap_or_default().replace('-', "_")
}

/// The values of one key in a module's `.modinfo`: NUL-terminated `key=a,b` strings.
fn information(module: &[u8], key: &str) -> Vec<String> {
    module
        .split(|byte| *byte == 0)
        .filter_map(|string| string.strip_prefix(key.as_bytes()))
        .flat_map(|value| value.split(|byte| *byte == b','))
        .filter(|name| !name.is_empty())
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read_from_module_information() {
        let module = b"\x7fELF\0name=ext4\0depends=jbd2,mbcache,crc16\0vermagic=6.12\0";
        assert_eq!(information(module, "depends="), ["jbd2", "mbcache", "crc16"]);
        assert!(information(b"depends=\0", "depends=").is_empty());
    }

    #[test]
    fn names_are_compared_with_underscores() {
        assert_eq!(module_name(Path::new("kernel/arch/x86/kvm/kvm-amd.ko.xz")), "kvm_amd");
    }
}
