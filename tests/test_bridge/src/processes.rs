//! A snapshot of every process, out of a proc file system.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Namespaces beside the network's, in the order of [`Process::namespaces`].
pub const NAMESPACES: [&str; 6] = ["user", "mnt", "pid", "ipc", "uts", "cgroup"];

/// One process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// Its parent's number.
    pub parent: i32,
    /// Its name, cut at 15 bytes by the kernel.
    pub name: String,
    /// Its program; empty for threads of the kernel.
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Real user.
    pub user: u32,
    /// Real group.
    pub group: u32,
    /// It can gain no privileges.
    pub no_new_privileges: bool,
    /// 0: none, 1: strict, 2: filter.
    pub seccomp: u32,
    /// Effective capabilities, one bit each.
    pub effective: u64,
    /// Permitted capabilities.
    pub permitted: u64,
    /// Capabilities that it could still gain.
    pub bounding: u64,
    /// Capabilities that a program could inherit.
    pub inheritable: u64,
    /// Capabilities that a program would keep.
    pub ambient: u64,
    /// Inode of its network namespace, as in `net:[4026531840]`.
    pub network: String,
    /// Inodes of its other namespaces: users, mounts, processes, System V objects, host name, control groups.
    pub namespaces: Vec<String>,
    /// Its users and groups, as its user namespace maps them.
    pub maps: [String; 2],
    /// Its control group, as in `/zone-0`.
    pub control_group: String,
    /// Its root folder.
    pub root: String,
    /// Its number of threads.
    pub threads: u32,
    /// What its descriptors refer to, by number.
    pub descriptors: Vec<(i32, String)>,
    /// Resident memory in KiB.
    pub resident_kib: u64,
    /// What the memory files take that it holds, in KiB, mapped or not.
    pub memory_files_kib: u64,
}

/// Reads all processes of the proc file system at `proc`. One that ends meanwhile is left out.
///
/// # Errors
/// `proc` cannot be listed.
pub fn snapshot(proc: &Path) -> io::Result<Vec<Process>> {
    let mut list: Vec<Process> = numbers(proc)?.filter_map(|pid| read(proc, pid)).collect();
    list.sort_by_key(|process| process.pid);
    Ok(list)
}

/// The numbers of all processes.
pub(crate) fn numbers(proc: &Path) -> io::Result<impl Iterator<Item = i32> + use<>> {
    Ok(fs::read_dir(proc)?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()))
}

/// What a symbolic link says; empty when it cannot be read.
pub(crate) fn link(path: &Path) -> String {
    fs::read_link(path).map(|target| target.to_string_lossy().into_owned()).unwrap_or_default()
}

fn read(proc: &Path, pid: i32) -> Option<Process> {
    let folder = proc.join(pid.to_string());
    let status = fs::read_to_string(folder.join("status")).ok()?;
    let arguments = fs::read(folder.join("cmdline")).unwrap_or_default();
    Some(Process {
        pid,
        program: link(&folder.join("exe")),
        arguments: arguments
            .split(|byte| *byte == 0)
            .filter(|argument| !argument.is_empty())
            .map(|argument| String::from_utf8_lossy(argument).into_owned())
            .collect(),
        network: link(&folder.join("ns/net")),
        namespaces: NAMESPACES.iter().map(|name| link(&folder.join("ns").join(name))).collect(),
        maps: ["uid_map", "gid_map"].map(|name| words(&folder.join(name))),
        control_group: words(&folder.join("cgroup")).trim_start_matches("0::").to_owned(),
        root: link(&folder.join("root")),
        descriptors: descriptors(&folder),
        memory_files_kib: memory_files_kib(&folder),
        ..parse_status(&status)?
    })
}

/// A file's words, with one space between each.
fn words(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn descriptors(folder: &Path) -> Vec<(i32, String)> {
    let Ok(entries) = fs::read_dir(folder.join("fd")) else { return Vec::new() };
    let mut list: Vec<(i32, String)> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.file_name().to_str()?.parse().ok()?, link(&entry.path())))
        })
        .collect();
    list.sort();
    list
}

/// What the process's memory files (`memfd_create(2)`) take, each counted once.
fn memory_files_kib(folder: &Path) -> u64 {
    let files: BTreeMap<u64, u64> = descriptors(folder)
        .into_iter()
        .filter(|(_, target)| target.starts_with("/memfd:"))
        // The link leads to the file itself, whatever it is called. A block has 512 bytes (stat(2)).
        .filter_map(|(number, _)| fs::metadata(folder.join("fd").join(number.to_string())).ok())
        .map(|file| (file.ino(), file.blocks() / 2))
        .collect();
    files.values().sum()
}

/// Reads the text of `/proc/PID/status` (proc_pid_status(5)).
fn parse_status(status: &str) -> Option<Process> {
    let field = |name: &str| {
        status.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key == name).then(|| value.trim())
        })
    };
    let first = |name: &str| field(name)?.split_whitespace().next();
    let capabilities = |name: &str| u64::from_str_radix(field(name)?, 16).ok();
    Some(Process {
        pid: first("Pid")?.parse().ok()?,
        parent: first("PPid")?.parse().ok()?,
        name: field("Name")?.to_owned(),
        program: String::new(),
        arguments: Vec::new(),
        user: first("Uid")?.parse().ok()?,
        group: first("Gid")?.parse().ok()?,
        no_new_privileges: field("NoNewPrivs")? == "1",
        seccomp: field("Seccomp")?.parse().ok()?,
        effective: capabilities("CapEff")?,
        permitted: capabilities("CapPrm")?,
        bounding: capabilities("CapBnd")?,
        inheritable: capabilities("CapInh")?,
        ambient: capabilities("CapAmb")?,
        network: String::new(),
        namespaces: Vec::new(),
        maps: [String::new(), String::new()],
        control_group: String::new(),
        root: String::new(),
        threads: first("Threads")?.parse().ok()?,
        descriptors: Vec::new(),
        // Threads of the kernel have no memory of their own.
        resident_kib: first("VmRSS").and_then(|kib| kib.parse().ok()).unwrap_or(0),
        memory_files_kib: 0,
    })
}

#[cfg(test)]
mod tests;
