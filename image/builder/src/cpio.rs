//! Writes initramfs segments: the "newc" cpio format of the kernel's
//! Documentation/driver-api/early-userspace/buffer-format.rst.
//!
//! Same entries, same bytes: owners and times are zero, inode numbers count up, order is the caller's.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const CHARACTER: u32 = 0o020_000;

/// One segment in memory.
#[derive(Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
    folders: std::collections::BTreeSet<String>,
}

impl Archive {
    /// Adds a file and the folders above it; `path` has no leading slash.
    pub(crate) fn file(&mut self, path: &str, permissions: u32, content: &[u8]) -> Result<()> {
        self.folders_above(path)?;
        self.entry(path, REGULAR | permissions, (0, 0), content)
    }

    /// Adds a copy of a file of this machine.
    pub(crate) fn copy(&mut self, path: &str, permissions: u32, source: &Path) -> Result<()> {
        let content = fs::read(source).with_context(|| format!("read {}", source.display()))?;
        self.file(path, permissions, &content)
    }

    /// Adds a folder and those above it.
    pub(crate) fn folder(&mut self, path: &str) -> Result<()> {
        self.folders_above(&format!("{path}/x"))
    }

    /// Adds a character device.
    pub(crate) fn device(&mut self, path: &str, permissions: u32, major: u32, minor: u32) -> Result<()> {
        self.folders_above(path)?;
        self.entry(path, CHARACTER | permissions, (major, minor), &[])
    }

    /// The finished segment, padded so that another one can follow.
    pub(crate) fn finish(mut self) -> Result<Vec<u8>> {
        self.entry("TRAILER!!!", 0, (0, 0), &[])?;
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        Ok(self.bytes)
    }

    fn folders_above(&mut self, path: &str) -> Result<()> {
        let ends: Vec<usize> = path.match_indices('/').map(|(index, _)| index).collect();
        for end in ends {
            let folder = path.get(..end).unwrap_or_default().to_owned();
            if self.folders.insert(folder.clone()) {
                self.entry(&folder, DIRECTORY | 0o755, (0, 0), &[])?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) -> Result<()> {
        self.entries += 1;
        let size = u32::try_from(content.len()).with_context(|| format!("{path} is larger than 4 GiB"))?;
        let name_size = u32::try_from(path.len() + 1).context("path too long")?;
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self.bytes.extend_from_slice(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_come_once_and_before_their_files() {
        let mut archive = Archive::default();
        archive.file("bin/a", 0o755, b"one").unwrap();
        archive.file("bin/b", 0o755, b"two").unwrap();
        let text = String::from_utf8_lossy(&archive.finish().unwrap()).into_owned();
        let places: Vec<usize> =
            ["bin\0", "bin/a\0", "bin/b\0", "TRAILER"].iter().map(|name| text.find(name).unwrap()).collect();
        assert!(places.is_sorted(), "{places:?}");
        assert_eq!(text.matches("bin\0").count(), 1);
        assert_eq!(text.len() % 512, 0);
    }
}
