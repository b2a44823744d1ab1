//! What every thread does at this moment, out of a proc file system: the evidence when a test waited in vain.
//!
//! Nothing here is judged; whoever reads the report compares two snapshots.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::processes::{link, numbers};

/// One process with its threads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activity {
    /// Its number.
    pub pid: i32,
    /// Its program; empty for threads of the kernel.
    pub program: String,
    /// Its threads.
    pub threads: Vec<Thread>,
    /// Its event descriptors with their counts: a count that stays is an event that nobody took.
    pub events: Vec<(i32, String)>,
}

/// One thread; a file that cannot be read is an empty text (proc_pid(5)).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thread {
    /// Its number.
    pub id: i32,
    /// Its name.
    pub name: String,
    /// `stat` from the state on: state, and 11 fields later the time in user and in kernel mode.
    pub stat: String,
    /// The function of the kernel that it sleeps in.
    pub sleeps_in: String,
    /// The system call it is in, with arguments, or `running`.
    pub system_call: String,
    /// Its stack in the kernel.
    pub stack: String,
}

impl Thread {
    /// The one letter that says whether it runs.
    #[must_use]
    pub fn state(&self) -> &str {
        self.stat.split(' ').next().unwrap_or_default()
    }

    /// Clock ticks that it ran, in user and in kernel mode.
    #[must_use]
    pub fn ticks(&self) -> (u64, u64) {
        let field = |number| self.stat.split(' ').nth(number).and_then(|text| text.parse().ok());
        (field(11).unwrap_or(0), field(12).unwrap_or(0))
    }
}

/// Every process of the proc file system at `proc`; threads of the kernel only while they do not rest.
///
/// # Errors
/// `proc` cannot be listed.
pub fn snapshot(proc: &Path) -> io::Result<Vec<Activity>> {
    let mut list: Vec<Activity> = numbers(proc)?.filter_map(|pid| read(proc, pid)).collect();
    list.sort_by_key(|process| process.pid);
    Ok(list)
}

fn read(proc: &Path, pid: i32) -> Option<Activity> {
    let folder = proc.join(pid.to_string());
    let program = link(&folder.join("exe"));
    let mut ids: Vec<i32> = numbers(&folder.join("task")).ok()?.collect();
    ids.sort_unstable();
    let mut threads: Vec<Thread> =
        ids.into_iter().filter_map(|id| thread(&folder.join("task").join(id.to_string()), id)).collect();
    if program.is_empty() {
        threads.retain(|thread| !matches!(thread.state(), "S" | "I"));
    }
    let events = events(&folder);
    (!threads.is_empty()).then_some(Activity { pid, program, threads, events })
}

fn thread(folder: &Path, id: i32) -> Option<Thread> {
    let text = |file| fs::read_to_string(folder.join(file)).unwrap_or_default().trim_end().to_owned();
    let stat = text("stat");
    // The name before it may itself contain brackets and spaces.
    let (_, stat) = stat.rsplit_once(") ")?;
    Some(Thread {
        id,
        name: text("comm"),
        stat: stat.to_owned(),
        sleeps_in: text("wchan"),
        system_call: text("syscall"),
        stack: text("stack"),
    })
}

fn events(folder: &Path) -> Vec<(i32, String)> {
    let Ok(numbers) = numbers(&folder.join("fd")) else { return Vec::new() };
    let mut list: Vec<(i32, String)> = numbers
        .filter(|number| link(&folder.join("fd").join(number.to_string())) == "anon_inode:[eventfd]")
        .filter_map(|number| {
            let text = fs::read_to_string(folder.join("fdinfo").join(number.to_string())).ok()?;
            let count = text.lines().find_map(|line| line.strip_prefix("eventfd-count:"))?;
            Some((number, count.trim().to_owned()))
        })
        .collect();
    list.sort();
    list
}

#[cfg(test)]
mod tests;
