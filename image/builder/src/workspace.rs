//! Where things are: the checkout and its `build/` folder.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Free space below which a build would stop half-way, in bytes.
const NEEDED_SPACE: u64 = 9 << 30;

/// The checkout.
pub(crate) struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// Takes the checkout that this program was built from.
    pub(crate) fn find() -> Result<Self> {
        let root = std::env::var_os("BULKHEAD_ROOT").map(PathBuf::from).context(
            "the variable BULKHEAD_ROOT is not set: start this program by ./bulkhead, not directly",
        )?;
        if !root.join("Cargo.toml").is_file() {
            bail!("{} is not a checkout of bulkhead: it has no Cargo.toml", root.display());
        }
        Ok(Self { root })
    }

    /// The checkout's top folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A file of the checkout.
    pub(crate) fn source(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// A file below `build/`.
    pub(crate) fn built(&self, path: &str) -> PathBuf {
        self.root.join("build").join(path)
    }

    /// Refuses to begin what the disk has no room for.
    pub(crate) fn check_free_space(&self) -> Result<()> {
        let build = self.built("");
        fs::create_dir_all(&build).with_context(|| format!("create {}", build.display()))?;
        if build.join("data.img").exists() {
            return Ok(());
        }
        let disk = rustix::fs::statvfs(&build).context("ask for free disk space")?;
        is_room(&build, disk.f_bavail.saturating_mul(disk.f_frsize))
    }
}

/// Whether `free` bytes at `folder` are enough for a build.
fn is_room(folder: &Path, free: u64) -> Result<()> {
    if free < NEEDED_SPACE {
        bail!(
            "the disk that holds {} has {} MiB free, a build needs {} MiB: make room and start again",
            folder.display(),
            free >> 20,
            NEEDED_SPACE >> 20
        );
    }
    Ok(())
}

/// Runs `make` unless `output` exists and was made from the same `inputs`; a run that fails leaves no stamp.
///
/// `inputs` is any text that names everything that `output` depends on.
pub(crate) fn cached(output: &Path, inputs: &str, make: impl FnOnce() -> Result<()>) -> Result<()> {
    let mut stamp = output.as_os_str().to_owned();
    stamp.push(".stamp");
    let stamp = PathBuf::from(stamp);
    if output.exists() && fs::read_to_string(&stamp).is_ok_and(|old| old == inputs) {
        return Ok(());
    }
    if stamp.exists() {
        fs::remove_file(&stamp).with_context(|| format!("remove {}", stamp.display()))?;
    }
    make()?;
    fs::write(&stamp, inputs).with_context(|| format!("write {}", stamp.display()))
}

/// Names a file's version: path, size and time of change.
pub(crate) fn version(path: &Path) -> Result<String> {
    let metadata = fs::metadata(path).with_context(|| format!("look at {}", path.display()))?;
    let changed = metadata.modified().context("time of change")?;
    Ok(format!("{} {} {:?}\n", path.display(), metadata.len(), changed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_said_before_a_build() {
        is_room(Path::new("/b"), NEEDED_SPACE).unwrap();
        let error = is_room(Path::new("/b"), 100 << 20).unwrap_err().to_string();
        assert!(error.contains("/b has 100 MiB free") && error.contains("make room"), "{error}");
    }
}
