//! What a zone's start can leave on the host: processes, descriptors, control groups, files, devices, mounts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::bail;
use harness::Machine;

use crate::world::SOON;

/// `S_IFMT` and `S_IFDIR`.
const KIND: u32 = 0o170_000;
const FOLDER: u32 = 0o040_000;

/// Where the host's devices that are no hardware are.
const DEVICES: &str = "/sys/devices/virtual/block/";

/// Everything that there is, by what it is: how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Things(BTreeMap<String, usize>);

impl Things {
    /// Looks at the host.
    ///
    /// # Errors
    /// The host does not answer.
    pub fn of(machine: &Machine) -> anyhow::Result<Self> {
        let zones = machine.zones();
        let mut things = BTreeMap::new();
        let mut add = |thing: String, count| *things.entry(thing).or_default() += count;
        // Threads of the kernel come and go as it likes.
        for process in zones.processes(machine.within(SOON))?.iter().filter(|it| !it.program.is_empty()) {
            add(format!("process {} of user {}", process.program, process.user), 1);
            // The bridge looks with descriptors of its own.
            if !process.program.ends_with("/test_bridge") {
                add(format!("descriptors of {}", process.program), process.descriptors.len());
            }
        }
        for view in zones.mounts(machine.within(SOON))? {
            for mount in view.mounts {
                add(format!("mount {mount} seen by {}", view.program), 1);
            }
        }
        for entry in zones.files("/sys/fs/cgroup", machine.within(SOON))? {
            if entry.mode & KIND == FOLDER {
                add(format!("group {}", entry.path), 1);
            }
        }
        for entry in zones.files("/data/zones", machine.within(SOON))? {
            add(format!("file {} of {} bytes", entry.path, entry.size), 1);
        }
        for entry in zones.files(DEVICES.trim_end_matches('/'), machine.within(SOON))? {
            let path = entry.path.strip_prefix(DEVICES).unwrap_or_default();
            if path.ends_with("/loop/backing_file") || (path.starts_with("dm-") && !path.contains('/')) {
                add(format!("device {path}"), 1);
            }
        }
        Ok(Self(things))
    }

    /// Waits until there is what there was before: what ends takes a moment.
    ///
    /// # Errors
    /// Something is more or less than before; the message names all of it.
    pub fn ensure_same(&self, machine: &Machine, deadline: Instant) -> anyhow::Result<()> {
        loop {
            let now = Self::of(machine)?;
            if now == *self {
                return Ok(());
            }
            if Instant::now() >= deadline {
                bail!("not as before: {}", self.difference(&now).join("; "));
            }
            // Nothing tells when the last of it is gone.
            std::thread::park_timeout(Duration::from_millis(500));
        }
    }

    fn difference(&self, now: &Self) -> Vec<String> {
        let names: std::collections::BTreeSet<&String> = self.0.keys().chain(now.0.keys()).collect();
        let count = |things: &Self, name: &String| things.0.get(name).copied().unwrap_or(0);
        let changed = names.into_iter().filter(|name| count(self, name) != count(now, name));
        changed
            .map(|name| format!("{name}: {} before, {} now", count(self, name), count(now, name)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_names_what_is_more_and_what_is_less() {
        let things = |list: &[(&str, usize)]| {
            Things(list.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect())
        };
        let before = things(&[("same", 2), ("gone", 1), ("more", 1)]);
        let now = things(&[("same", 2), ("more", 3), ("new", 1)]);
        let expected = ["gone: 1 before, 0 now", "more: 1 before, 3 now", "new: 0 before, 1 now"];
        assert_eq!(before.difference(&now), expected);
        assert_eq!(before.difference(&before), [""; 0]);
    }
}
