//! Reads initramfs segments: the "newc" cpio format (Documentation/driver-api/early-userspace/buffer-format.rst).

use anyhow::{Context, bail};

const MAGIC: &[u8] = b"070701";
const HEADER: usize = 110;
const TYPE: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Without a leading slash.
    pub path: String,
    /// Type and permissions.
    pub mode: u32,
    /// What a file holds.
    pub content: Vec<u8>,
}

impl Entry {
    /// It is a regular file that somebody may execute.
    #[must_use]
    pub fn is_executable(&self) -> bool {
        self.mode & TYPE == REGULAR && self.mode & 0o111 != 0
    }

    /// It begins as a program or a script does.
    #[must_use]
    pub fn looks_like_a_program(&self) -> bool {
        self.content.starts_with(b"\x7fELF") || self.content.starts_with(b"#!")
    }
}

/// Reads all entries of an uncompressed archive, of every segment in it.
///
/// # Errors
/// It is no such archive.
pub fn read(mut bytes: &[u8]) -> anyhow::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    loop {
        // Between segments lie zeros.
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        bytes = bytes.get(zeros..).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(entries);
        }
        if !bytes.starts_with(MAGIC) {
            bail!("no cpio header after {:?}", entries.last().map(|entry: &Entry| entry.path.clone()));
        }
        let field = |index: usize| -> anyhow::Result<u32> {
            let start = MAGIC.len() + 8 * index;
            let text = bytes.get(start..start + 8).context("truncated header")?;
            Ok(u32::from_str_radix(std::str::from_utf8(text)?, 16)?)
        };
        let (mode, size, name_size) = (field(1)?, usize::try_from(field(6)?)?, usize::try_from(field(11)?)?);
        let name = bytes.get(HEADER..HEADER + name_size).context("truncated name")?;
        let path = String::from_utf8_lossy(name).trim_end_matches('\0').trim_start_matches("./").to_owned();
        let start = (HEADER + name_size).next_multiple_of(4);
        let content = bytes.get(start..start + size).context("truncated content")?.to_vec();
        bytes = bytes.get((start + size).next_multiple_of(4)..).unwrap_or_default();
        if path != "TRAILER!!!" {
            entries.push(Entry { path, mode, content });
        }
    }
}

/// An archive with one file, to lay over another one. `path` has no leading slash; its folder must exist there.
///
/// # Errors
/// The file is larger than 4 GiB.
pub fn single(path: &str, content: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for (path, mode, content) in [(path, REGULAR | 0o644, content), ("TRAILER!!!", 0, &[][..])] {
        let (size, name) = (u32::try_from(content.len())?, u32::try_from(path.len() + 1)?);
        bytes.extend_from_slice(MAGIC);
        for value in [1, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name, 0] {
            bytes.extend_from_slice(format!("{value:08X}").as_bytes());
        }
        bytes.extend_from_slice(path.as_bytes());
        bytes.push(0);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
