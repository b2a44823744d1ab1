//! Data disks with templates of a test's own.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use approval::Approver;
use template::{APPROVAL, MANIFEST, Manifest, SIGNATURE, SigningKey};

use crate::artifacts::Artifacts;

/// A folder that becomes a data disk.
#[derive(Debug)]
pub struct DataDisk {
    folder: PathBuf,
}

impl DataDisk {
    /// An empty one; `name` is that of its folder among the logs.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn new(artifacts: &Artifacts, name: &str) -> anyhow::Result<Self> {
        let folder = artifacts.logs().join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
        }
        fs::create_dir_all(folder.join("templates")).with_context(|| format!("make {}", folder.display()))?;
        Ok(Self { folder })
    }

    /// Puts an empty template's folder on it.
    ///
    /// # Errors
    /// It is there, or there is no room.
    pub fn template(&self, name: &str) -> anyhow::Result<PathBuf> {
        let folder = self.folder.join("templates").join(name);
        fs::create_dir(&folder).with_context(|| format!("make {}", folder.display()))?;
        Ok(folder)
    }

    /// Puts a copy of the build's `micro` on it under a name; returns its folder.
    ///
    /// # Errors
    /// The build has no such template, or there is no room.
    pub fn copy_micro(&self, artifacts: &Artifacts, name: &str) -> anyhow::Result<PathBuf> {
        self.copy(artifacts, "micro", name)
    }

    /// Puts a copy of one of the build's templates on it under a name; returns its folder.
    ///
    /// # Errors
    /// The build has no such template, or there is no room.
    pub fn copy(&self, artifacts: &Artifacts, template: &str, name: &str) -> anyhow::Result<PathBuf> {
        let source = artifacts.file("templates-test").join(template);
        let target = self.template(name)?;
        for entry in fs::read_dir(&source).with_context(|| format!("list {}", source.display()))? {
            let entry = entry?;
            fs::copy(entry.path(), target.join(entry.file_name())).context("copy the template")?;
        }
        Ok(target)
    }

    /// Makes the disk and removes the folder.
    ///
    /// # Errors
    /// `mke2fs` says why.
    pub fn finish(self, artifacts: &Artifacts) -> anyhow::Result<PathBuf> {
        self.finish_with(artifacts, 1024)
    }

    /// Makes the disk, of so many MiB, and removes the folder.
    ///
    /// # Errors
    /// `mke2fs` says why.
    pub fn finish_with(self, artifacts: &Artifacts, mib: u32) -> anyhow::Result<PathBuf> {
        let image = self.folder.with_extension("img");
        make_ext4(artifacts, &self.folder, &image, "bulkhead-data", mib)?;
        fs::remove_dir_all(&self.folder)?;
        Ok(image)
    }
}

/// A file on a data disk that nobody uses.
///
/// # Errors
/// It is not there, or empty.
pub fn read(artifacts: &Artifacts, disk: &Path, file: &str) -> anyhow::Result<Vec<u8>> {
    let output = debugfs(artifacts, disk, &format!("cat {file}"))?;
    ensure!(!output.is_empty(), "{file} is not on {}", disk.display());
    Ok(output)
}

fn debugfs(artifacts: &Artifacts, disk: &Path, request: &str) -> anyhow::Result<Vec<u8>> {
    let tools = artifacts.tools();
    let output = std::process::Command::new(tools.join("lib64/ld-linux-x86-64.so.2"))
        .arg("--library-path")
        .arg(tools.join("usr/lib/x86_64-linux-gnu"))
        .arg(tools.join("usr/sbin/debugfs"))
        .args(["-R", request])
        .arg(disk)
        .output()
        .context("start debugfs")?;
    Ok(output.stdout)
}

/// Changes one bit of the byte at `place` in a file on a data disk that nobody uses; a second time changes it back.
/// What lies behind the file's end, in its last block, is no part of it: `place` is well inside.
///
/// # Errors
/// The file is not there, or shorter.
pub fn alter(artifacts: &Artifacts, disk: &Path, file: &str, place: u64) -> anyhow::Result<()> {
    use std::os::unix::fs::FileExt;
    let image = fs::File::options().read(true).write(true).open(disk).context("open the disk")?;
    // The block size: 1024 shifted by a field of the superblock.
    let mut shift = [0; 4];
    image.read_exact_at(&mut shift, 1024 + 24)?;
    let size = 1024_u64 << u32::from_le_bytes(shift);
    let output = debugfs(artifacts, disk, &format!("blocks {file}"))?;
    let text = String::from_utf8_lossy(&output);
    let blocks: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let block = blocks.get(usize::try_from(place / size)?);
    let block =
        block.with_context(|| format!("{file} has {place} bytes or fewer, or is not there: {text}"))?;
    let at = block * size + place % size;
    let mut byte = [0];
    image.read_exact_at(&mut byte, at)?;
    image.write_all_at(&[byte[0] ^ 1], at)?;
    Ok(())
}

/// Makes an ext4 file system of a folder.
fn make_ext4(
    artifacts: &Artifacts,
    folder: &Path,
    image: &Path,
    label: &str,
    mib: u32,
) -> anyhow::Result<()> {
    drop(fs::remove_file(image));
    let tools = artifacts.tools();
    let output = std::process::Command::new(tools.join("lib64/ld-linux-x86-64.so.2"))
        .arg("--library-path")
        .arg(tools.join("usr/lib/x86_64-linux-gnu"))
        .arg(tools.join("usr/sbin/mke2fs"))
        .args(["-q", "-t", "ext4", "-L", label, "-E", "root_owner=0:0", "-d"])
        .arg(folder)
        .arg(image)
        .arg(format!("{mib}M"))
        .output()
        .context("start mke2fs")?;
    ensure!(output.status.success(), "mke2fs: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// What signs and approves templates.
#[derive(Debug)]
pub struct Keys {
    /// Signs manifests.
    pub sign: SigningKey,
    /// Approves what TPMs open.
    pub approve: Approver,
}

/// The development keys of this build.
///
/// # Errors
/// One is not there: the build was signed with another.
pub fn build_keys(artifacts: &Artifacts) -> anyhow::Result<Keys> {
    let path = artifacts.file("keys/template.key");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let sign = SigningKey::parse(&text).with_context(|| format!("read {}", path.display()))?;
    let path = artifacts.file("keys/approval.key");
    let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    let approve = Approver::from_pkcs8(&bytes).with_context(|| format!("read {}", path.display()))?;
    Ok(Keys { sign, approve })
}

/// Changes a template's manifest, signs it anew and approves it.
///
/// # Errors
/// The manifest does not hold `from`.
pub fn sign_anew(template: &Path, keys: &Keys, changes: &[(&str, &str)]) -> anyhow::Result<()> {
    let mut text = fs::read_to_string(template.join(MANIFEST)).context("read the manifest")?;
    for (from, to) in changes {
        ensure!(text.contains(from), "the manifest says {from} nowhere");
        text = text.replacen(from, to, 1);
    }
    let manifest = Manifest::decode(text.as_bytes()).context("read the changed manifest")?;
    fs::write(template.join(MANIFEST), &text).context("write the manifest")?;
    fs::write(template.join(APPROVAL), template::approve(&manifest, &keys.approve)?).context("approve it")?;
    fs::write(template.join(SIGNATURE), keys.sign.sign(text.as_bytes())).context("write the signature")
}

/// Turns one bit of a file.
///
/// # Errors
/// The file is shorter.
pub fn flip(path: &Path, at: usize) -> anyhow::Result<()> {
    let mut bytes = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    *bytes.get_mut(at).with_context(|| format!("{} ends before {at}", path.display()))? ^= 0x10;
    fs::write(path, bytes).with_context(|| format!("write {}", path.display()))
}
