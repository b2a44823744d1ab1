//! Who has a frame of the host's memory: processes with what they call it, or the kernel with what it uses it for.
//!
//! Nobody reads memory here: the host's Yama forbids that, also to root. Whoever sees the machine's memory from outside asks
//! what lies in a frame of it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::processes::{link, numbers};

/// Bytes of a page, and of an entry of a table of pages.
const PAGE: u64 = 4096;
const ENTRY: usize = 8;
/// An entry of `pagemap` (Documentation/admin-guide/mm/pagemap.rst): the page is there, and its frame's number.
const PRESENT: u64 = 1 << 63;
const FRAME: u64 = (1 << 55) - 1;
/// The most entries that are read at once.
const MOST_ENTRIES: u64 = 4096;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// Its number.
    pub number: u64,
    /// What the kernel says of it (`/proc/kpageflags`).
    pub flags: u64,
    /// Every mapping that it is seen through.
    pub mappings: Vec<Mapping>,
}

/// A part of a process's memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapping {
    /// The process.
    pub pid: i32,
    /// Its program.
    pub program: String,
    /// What the mapping is called, as in `[heap]` or `/memfd:guest-memory (deleted)`; perhaps nothing.
    pub name: String,
    /// Where it begins, and where in it the frame is.
    pub start: u64,
    /// The frame's own address.
    pub address: u64,
}

/// A line of `maps`.
struct Area {
    start: u64,
    end: u64,
    name: String,
}

/// Says of each frame who has it.
///
/// # Errors
/// The kernel does not say what it uses frames for.
pub fn look(proc: &Path, wanted: &[u64]) -> io::Result<Vec<Frame>> {
    let flags = File::open(proc.join("kpageflags"))?;
    let mut frames = BTreeMap::new();
    for number in wanted {
        let mut entry = [0; ENTRY];
        flags.read_exact_at(&mut entry, number * 8)?;
        let frame = Frame { number: *number, flags: u64::from_ne_bytes(entry), mappings: Vec::new() };
        frames.insert(*number, frame);
    }
    for pid in numbers(proc)? {
        // One that ends meanwhile has nothing any more.
        let _gone = look_at(proc, pid, &mut frames);
    }
    Ok(frames.into_values().collect())
}

fn look_at(proc: &Path, pid: i32, frames: &mut BTreeMap<u64, Frame>) -> io::Result<()> {
    let folder = proc.join(pid.to_string());
    let areas = areas(&fs::read_to_string(folder.join("maps"))?);
    if areas.is_empty() {
        return Ok(());
    }
    let (program, table) = (link(&folder.join("exe")), File::open(folder.join("pagemap"))?);
    for Area { start, end, name } in areas {
        let (mut page, last) = (start / PAGE, end / PAGE);
        while page < last {
            let count = (last - page).min(MOST_ENTRIES);
            let mut bytes = vec![0; usize::try_from(count).unwrap_or(0) * ENTRY];
            // The kernel's own areas have no table.
            if table.read_exact_at(&mut bytes, page * 8).is_err() {
                break;
            }
            for (number, entry) in (page..).zip(bytes.chunks_exact(ENTRY)) {
                let entry = entry.try_into().map_or(0, u64::from_ne_bytes);
                let frame = frames.get_mut(&(entry & FRAME)).filter(|_| entry & PRESENT != 0);
                if let Some(frame) = frame {
                    let (program, name) = (program.clone(), name.clone());
                    frame.mappings.push(Mapping { pid, program, name, start, address: number * PAGE });
                }
            }
            page += count;
        }
    }
    Ok(())
}

/// Reads `/proc/PID/maps` (proc_pid_maps(5)).
fn areas(maps: &str) -> Vec<Area> {
    let area = |line: &str| {
        let mut words = line.splitn(6, ' ');
        let (start, end) = words.next()?.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        let name = words.nth(4).unwrap_or_default().trim().to_owned();
        Some(Area { start: number(start)?, end: number(end)?, name })
    };
    maps.lines().filter_map(area).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_read() {
        let text = "7f0000001000-7f0000003000 rw-p 00000000 00:00 0 \n\
                    7f1000000000-7f1000001000 rw-s 00000000 00:01 1029                       /memfd:guest-memory (deleted)\n\
                    nothing\n";
        let areas = areas(text);
        let [first, second] = areas.as_slice() else { panic!("two areas") };
        assert_eq!((first.start, first.end, first.name.as_str()), (0x7f00_0000_1000, 0x7f00_0000_3000, ""));
        assert_eq!(second.name, "/memfd:guest-memory (deleted)");
    }
}
