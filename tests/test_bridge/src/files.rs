//! What a folder holds, to show what an image does not contain.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The most entries of one listing; a longer one ends with an error, because half a list proves nothing.
pub const MAX_ENTRIES: usize = 20_000;

/// One file, folder or other thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its whole path.
    pub path: String,
    /// Type and permissions as in `stat(2)`.
    pub mode: u32,
    /// Its size in bytes.
    pub size: u64,
    /// Its owner.
    pub user: u32,
}

/// Bytes that a process without privileges could still write on the file system that holds `path`.
///
/// # Errors
/// There is no such path.
pub fn space(path: &Path) -> io::Result<u64> {
    let system = rustix::fs::statvfs(path)?;
    Ok(system.f_bavail.saturating_mul(system.f_frsize))
}

/// Lists everything below `top` on the same file system, sorted.
///
/// # Errors
/// `top` is no folder, or there are more than [`MAX_ENTRIES`].
pub fn list(top: &Path) -> io::Result<Vec<Entry>> {
    let device = fs::symlink_metadata(top)?.dev();
    let mut folders: Vec<PathBuf> = vec![top.to_owned()];
    let mut entries = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            // What vanishes while it is looked at was not part of an image.
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            if entries.len() == MAX_ENTRIES {
                return Err(io::Error::other(format!("more than {MAX_ENTRIES} entries")));
            }
            entries.push(Entry {
                path: path.to_string_lossy().into_owned(),
                mode: metadata.mode(),
                size: metadata.size(),
                user: metadata.uid(),
            });
            if metadata.is_dir() && metadata.dev() == device {
                folders.push(path);
            }
        }
    }
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(entries)
}
