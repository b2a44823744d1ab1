//! What the kernel's own network stack holds, in every network namespace that a process lives in.
//!
//! The files are passed on as text: which of their lines are allowed is the test's to say.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::processes::{link, numbers};

/// Files of `/proc/PID/net` that tell addresses, routes, devices, listeners and what the protocols received.
pub const FILES: &[&str] = &[
    "dev",
    "route",
    "ipv6_route",
    "if_inet6",
    "fib_trie",
    "tcp",
    "tcp6",
    "udp",
    "udp6",
    "udplite",
    "raw",
    "raw6",
    "icmp",
    "packet",
    "arp",
    "snmp",
    "unix",
];

/// The most bytes of one file.
const MAX_FILE: u64 = 128 * 1024;

/// One network namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// As in `net:[4026531840]`.
    pub name: String,
    /// The processes in it.
    pub processes: Vec<i32>,
    /// Contents of those of [`FILES`] that exist.
    pub files: BTreeMap<String, String>,
}

/// Reads every namespace that a process of the proc file system at `proc` lives in.
///
/// # Errors
/// `proc` cannot be listed.
pub fn snapshot(proc: &Path) -> io::Result<Vec<Namespace>> {
    let mut members: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for pid in numbers(proc)? {
        let name = link(&proc.join(pid.to_string()).join("ns/net"));
        if !name.is_empty() {
            members.entry(name).or_default().push(pid);
        }
    }
    Ok(members
        .into_iter()
        .map(|(name, processes)| {
            // Any member will do, but the first may have ended by now.
            let files = processes.iter().map(|pid| read(proc, *pid)).find(|files| !files.is_empty());
            Namespace { name, processes, files: files.unwrap_or_default() }
        })
        .collect())
}

fn read(proc: &Path, pid: i32) -> BTreeMap<String, String> {
    let folder = proc.join(pid.to_string()).join("net");
    FILES
        .iter()
        .filter_map(|name| {
            let mut text = Vec::new();
            File::open(folder.join(name)).ok()?.take(MAX_FILE).read_to_end(&mut text).ok()?;
            Some(((*name).to_owned(), String::from_utf8_lossy(&text).into_owned()))
        })
        .collect()
}
