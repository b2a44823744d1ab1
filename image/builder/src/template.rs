//! Zone templates: what both have in common, from a folder of files to a signed manifest.
//!
//! Same programs, packages and key, same bytes: owners, times, modes and order do not come from this machine.

mod debian;
mod micro;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use approval::Approver;
use template::{
    APPROVAL, FileSum, INITRD, KERNEL, MANIFEST, Manifest, ROOT, Recipe, SIGNATURE, Summer, verity,
};

use crate::cpio::Archive;
use crate::host_image::write;
use crate::keys::Key;
use crate::sources::Sources;

/// Builds every template below `build/templates`, and below `build/templates-test` with what only tests want.
pub(crate) fn all(sources: &Sources<'_>) -> Result<()> {
    micro::build(sources).context("make the template micro")?;
    debian::build(sources).context("make the template debian")
}

/// Builds a template by name into a folder, whether or not it was built before.
pub(crate) fn one(sources: &Sources<'_>, name: &OsStr, folder: &Path) -> Result<()> {
    match name.to_str() {
        Some("micro") => micro::make(sources, &[], folder),
        _ => bail!("there is no template {name:?}: allowed is micro"),
    }
}

/// Modules that the agent loads in the zone, in order: the panic device, the disks and what guards and holds the
/// template, the way to the host, the NIC.
const MODULES: &[&str] = &[
    "pvpanic-pci",
    "virtio_blk",
    "sha256-ssse3",
    "dm-verity",
    "erofs",
    "overlay",
    "vsock",
    "vmw_vsock_virtio_transport",
    "virtio_net",
    "virtio_rng",
    "virtio_balloon",
];

/// The kernel's command line in every template, but for the root's hash. Nothing specific to a zone stands on it.
/// Without the watchdog an idle zone sleeps longer, and a paused one is not taken for a stuck one.
const COMMAND_LINE: &str = "console=hvc0 pci=noearly quiet loglevel=4 oops=panic panic=-1 no_timer_check nowatchdog \
    i8042.noaux i8042.nokbd 8250.nr_uarts=0 cryptomgr.notests tsc=reliable net.ifnames=0";

/// The initrd of every template: the agent as first process, and its modules.
fn initrd(sources: &Sources<'_>, output: &Path) -> Result<()> {
    let mut archive = Archive::default();
    archive.device("dev/console", 0o600, 5, 1)?;
    // The agent's runtime wants three open descriptors even where the console does not work.
    archive.device("dev/null", 0o666, 1, 3)?;
    for folder in ["proc", "sys", "run", "mnt"] {
        archive.folder(folder)?;
    }
    archive.copy("init", 0o755, sources.programs.get("agent")?)?;
    let mut list = String::new();
    for module in sources.kernels.zone.modules(&sources.tools, MODULES)? {
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
        set_mode(&path, 0o755)?;
        Ok(Self { path })
    }

    /// Makes a folder and those above it.
    fn folder(&self, path: &str) -> Result<()> {
        let mut folder = self.path.clone();
        for part in Path::new(path) {
            folder.push(part);
            if !folder.exists() {
                fs::create_dir(&folder).with_context(|| format!("make {}", folder.display()))?;
                set_mode(&folder, 0o755)?;
            }
        }
        Ok(())
    }

    fn file(&self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        if let Some((above, _)) = path.rsplit_once('/') {
            self.folder(above)?;
        }
        let target = self.path.join(path);
        fs::write(&target, content).with_context(|| format!("write {}", target.display()))?;
        set_mode(&target, mode)
    }

    fn link(&self, path: &str, target: &str) -> Result<()> {
        if let Some((above, _)) = path.rsplit_once('/') {
            self.folder(above)?;
        }
        let link = self.path.join(path);
        std::os::unix::fs::symlink(target, &link).with_context(|| format!("link {}", link.display()))
    }

    /// Every file, link and folder but the top, below `./`, in the order of their names.
    fn entries(&self) -> Result<Vec<PathBuf>> {
        let (mut entries, mut folders) = (Vec::new(), vec![PathBuf::from(".")]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(self.path.join(&folder))? {
                let entry = entry?;
                let path = folder.join(entry.file_name());
                if entry.file_type()?.is_dir() {
                    folders.push(path.clone());
                }
                entries.push(path);
            }
        }
        entries.sort();
        Ok(entries)
    }

    fn copy(&self, source: &Path, path: &str, mode: u32) -> Result<()> {
        let content = fs::read(source).with_context(|| format!("read {}", source.display()))?;
        self.file(path, mode, &content)
    }
}

/// The mode that we want, whatever the user's umask is.
fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("set the mode of {}", path.display()))
}

/// Makes a template of a folder that holds kernel, initrd and root file system: puts the hash tree behind the file
/// system, writes and signs the manifest, and approves what a zone's TPM will have measured of it.
fn seal(folder: &Path, recipe: &Recipe, key: &Key, approver: &Approver) -> Result<()> {
    let path = folder.join(ROOT);
    let mut image = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    let tree = verity::tree(&image).with_context(|| format!("{} has half a block", path.display()))?;
    image.extend_from_slice(&tree.bytes);
    fs::write(&path, &image).with_context(|| format!("write {}", path.display()))?;
    let FileSum { size, sha256 } = sum(&image);
    let root = template::Root { size, sha256, data_blocks: tree.data_blocks, verity: tree.root };
    let file = |name: &str| -> Result<FileSum> {
        let path = folder.join(name);
        Ok(sum(&fs::read(&path).with_context(|| format!("read {}", path.display()))?))
    };
    let manifest =
        Manifest::new(recipe, file(KERNEL)?, file(INITRD)?, root).context("describe the template")?;
    let text = manifest.encode();
    fs::write(folder.join(MANIFEST), &text).context("write the manifest")?;
    fs::write(folder.join(SIGNATURE), key.sign(text.as_bytes())).context("write the signature")?;
    let approved = template::approve(&manifest, approver)?;
    fs::write(folder.join(APPROVAL), approved).context("write the approval")
}

fn sum(bytes: &[u8]) -> FileSum {
    let mut summer = Summer::default();
    summer.add(bytes);
    summer.finish()
}
