//! What reached a disk, in order: the log of QEMU's `blklogwrites` (the format of the kernel's dm-log-writes), and disks
//! as a power cut at some place in it leaves them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, ensure};

use crate::plan::Dice;

/// Magic of the log's first sector.
const MAGIC: u64 = 0x006a_7366_7773_6872;

/// Sectors of the log, in bytes: QEMU's default, which we do not change.
pub const SECTOR: u64 = 512;

/// Flags of an entry.
const FLUSH: u64 = 1;
const DISCARD: u64 = 4;

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Place on the disk, in bytes.
    at: u64,
    /// Length in bytes.
    length: u64,
    flags: u64,
    /// Where its data is in the log.
    data: u64,
    /// Where the next entry begins in the log.
    pub end: u64,
}

/// A log.
#[derive(Debug)]
pub struct WriteLog {
    file: File,
    /// Its requests, in order.
    pub entries: Vec<Entry>,
}

impl WriteLog {
    /// Reads a log whose writer is gone.
    ///
    /// # Errors
    /// It is none.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let mut file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        let length = file.metadata()?.len();
        let first: [u64; 4] = words(&mut file, 0)?;
        ensure!(first[0] == MAGIC, "{} is no log of writes: it begins with {:#x}", path.display(), first[0]);
        let (mut entries, mut place) = (Vec::new(), SECTOR);
        while place + SECTOR <= length {
            let [sector, sectors, flags, _] = words(&mut file, place)?;
            // The writer died before it wrote this one.
            if sector == 0 && sectors == 0 && flags == 0 {
                break;
            }
            let data = place + SECTOR;
            let bytes = sectors.saturating_mul(SECTOR);
            let end = if flags & DISCARD == 0 { data.saturating_add(bytes) } else { data };
            if end > length {
                break;
            }
            entries.push(Entry { at: sector.saturating_mul(SECTOR), length: bytes, flags, data, end });
            place = end;
        }
        Ok(Self { file, entries })
    }

    /// Changes a disk to what a power cut after the first `count` requests may leave: everything before the last
    /// flush among them, and of each later request nothing, all, or its beginning, as the dice want. Returns how many
    /// requests were left to the dice.
    ///
    /// # Errors
    /// The disk cannot be written.
    pub fn cut(&self, disk: &Path, count: usize, dice: &mut Dice) -> anyhow::Result<usize> {
        let entries = self.entries.get(..count).context("the log is shorter")?;
        let flushed = entries.iter().rposition(|entry| entry.flags & FLUSH != 0).unwrap_or(0);
        let disk = fs::OpenOptions::new().write(true).open(disk).context("open the disk")?;
        let mut uncertain = 0;
        for (number, entry) in entries.iter().enumerate() {
            if entry.flags & DISCARD != 0 || entry.length == 0 {
                continue;
            }
            let mut kept = entry.length;
            if number > flushed {
                uncertain += 1;
                kept = match dice.pick(&[0, 1, 2]) {
                    0 => 0,
                    1 => entry.length,
                    _ => entry.length / SECTOR / 2 * SECTOR,
                };
            }
            let mut data = vec![0; usize::try_from(kept)?];
            self.file.read_exact_at(&mut data, entry.data).context("read the log")?;
            disk.write_all_at(&data, entry.at).context("write the disk")?;
        }
        Ok(uncertain)
    }

    /// Requests by what they are: flushes, writes.
    #[must_use]
    pub fn summary(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::from([("flushes", 0), ("writes", 0)]);
        for entry in &self.entries {
            let kind = if entry.flags & FLUSH == 0 { "writes" } else { "flushes" };
            *counts.entry(kind).or_default() += 1;
        }
        counts
    }
}

fn words(file: &mut File, at: u64) -> io::Result<[u64; 4]> {
    let mut bytes = [0; 32];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut bytes)?;
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_le_bytes(bytes.try_into().map_err(io::Error::other)?);
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;

    fn log(folder: &Path, entries: &[(u64, u64, &[u8])]) -> WriteLog {
        let mut bytes = MAGIC.to_le_bytes().to_vec();
        bytes.resize(512, 0);
        for (sector, flags, data) in entries {
            let sectors = u64::try_from(data.len()).unwrap() / SECTOR;
            let start = bytes.len();
            bytes.extend([*sector, sectors, *flags, 0].map(u64::to_le_bytes).concat());
            bytes.resize(start + 512, 0);
            bytes.extend_from_slice(data);
        }
        // A torn end.
        bytes.extend([9_u64, 9, 0, 0].map(u64::to_le_bytes).concat());
        bytes.resize(bytes.len() + 600, 0);
        let path = folder.join("log");
        fs::write(&path, bytes).unwrap();
        WriteLog::read(&path).unwrap()
    }

    #[test]
    fn what_was_flushed_is_kept_and_the_rest_is_left_to_the_dice() {
        let folder = tempfile::tempdir().unwrap();
        let one = [1; 1024];
        let log =
            log(folder.path(), &[(0, 0, &one), (0, 1, &[]), (4, 0, &[2; 1024]), (0, 1, &[]), (8, 4, &[])]);
        assert_eq!(log.entries.len(), 5);
        assert_eq!(log.summary(), BTreeMap::from([("flushes", 2), ("writes", 3)]));
        let disk = folder.path().join("disk");
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..50 {
            let mut dice = Plan { soak: false, seed, names: Vec::new() }.dice();
            let cut = |count: usize, dice: &mut Dice| {
                fs::write(&disk, [0; 8192]).unwrap();
                let uncertain = log.cut(&disk, count, dice).unwrap();
                (uncertain, fs::read(&disk).unwrap())
            };
            let (uncertain, content) = cut(3, &mut dice);
            assert_eq!((uncertain, &content[..1024]), (1, &one[..]));
            seen.insert(content[2048..3072].iter().filter(|byte| **byte == 2).count());
            let (uncertain, content) = cut(5, &mut dice);
            assert_eq!((uncertain, &content[2048..3072]), (0, &[2; 1024][..]));
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 512, 1024]);
    }

    #[test]
    fn what_is_no_log_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(&path, [7; 1024]).unwrap();
        assert!(WriteLog::read(&path).unwrap_err().to_string().contains("is no log"));
    }
}
