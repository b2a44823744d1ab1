//! What a process is allowed to be: fixed data.

use std::os::fd::{BorrowedFd, RawFd};

use crate::calls::Call;
use crate::host::Proc;

/// Number of the descriptor through which the program is executed. No row's limit of open files is above it,
/// so no descriptor of the running program can ever have this number: the filter allows `execveat` on it
/// only, which makes the start the last execution.
pub const PROGRAM_DESCRIPTOR: RawFd = 1000;

/// One row of the table of profiles.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// Name of the program in its argument list.
    pub name: &'static str,
    /// The program. Nothing but this file can be executed; one that is not static needs its libraries in `root` and
    /// a rule of [`PathAccess::Execute`] for them.
    pub program: &'static str,
    /// Its arguments. Ours take none: this is for programs that others wrote.
    pub arguments: &'static [&'static str],
    /// What the process sees as `/`. An empty folder unless it must reach paths; what lies in it was
    /// mounted there before.
    pub root: &'static str,
    /// What it shares with the host.
    pub isolation: Isolation,
    /// Paths (as `init` sees them) that Landlock leaves to it; meaningless without [`Isolation::Full`].
    pub paths: &'static [PathRule],
    /// Its system calls.
    pub calls: &'static [&'static [Call]],
    /// Capabilities that stay. Empty for everything but the tests' own bridge.
    pub capabilities: &'static [u8],
    /// How many threads it may have.
    pub threads: u32,
    /// How many descriptors it may have, at most [`PROGRAM_DESCRIPTOR`].
    pub files: u16,
}

/// Which namespaces of the host a process shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// None: its own users (its one user, and nobody else), mounts, processes, cgroups, System V objects and
    /// host name; signals go nowhere.
    Full,
    /// The tests' bridge: it sees the host's processes and mounts and may send signals (still no network).
    /// It enters neither a user namespace nor Landlock, which would hide every process but itself from it.
    SeesProcesses,
}

/// A path that a process may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathRule {
    /// File or folder with all below it.
    pub path: &'static str,
    /// What for.
    pub access: PathAccess,
}

/// What a path may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathAccess {
    /// Connect to a Unix socket.
    Connect,
    /// Read files, list folders.
    Read,
    /// The same, and map files as code: libraries.
    Execute,
    /// Also write, make, rename and remove files and folders.
    ReadWrite,
}

/// What differs between two processes of the same profile.
#[derive(Debug)]
pub struct Instance<'a> {
    /// User and group.
    pub user: u32,
    /// Its network.
    pub network: Network<'a>,
    /// Descriptors by name, in order; they become 3, 4, ...
    pub descriptors: &'a [(String, BorrowedFd<'a>)],
    /// A folder of its own, if it has one.
    pub folder: Option<Folder<'a>>,
    /// Becomes stdout and stderr.
    pub output: BorrowedFd<'a>,
    /// The `cgroup.procs` file, open for writing, of the group that bounds it. Without one it stays in the
    /// group of its parent.
    pub group: Option<BorrowedFd<'a>>,
    /// The proc file system through which its user is mapped.
    pub proc: &'a Proc,
    /// Variables beside [`crate::inherited::VARIABLE`].
    pub environment: &'a [(&'a str, &'a str)],
}

/// A folder that one process sees: bound into its root in its own mount namespace, and its to read and write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Folder<'a> {
    /// Where it is, as `init` sees it. It belongs to the process's user.
    pub source: &'a str,
    /// The empty folder that it covers, as `init` sees it, below the profile's root.
    pub place: &'a str,
}

/// A process's network namespace.
#[derive(Clone, Copy, Debug)]
pub enum Network<'a> {
    /// A fresh one with nothing in it.
    Empty,
    /// This one.
    Joined(BorrowedFd<'a>),
}
