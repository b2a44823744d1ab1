//! The sandbox of every process of the host, in two halves.
//!
//! `init` uses the outer half: [`start()`] runs a program in its [`Profile`] (user, namespaces, Landlock,
//! system-call filter, descriptors). The process itself uses [`inherited`] to take what it was given, and
//! [`roles`] to narrow what each of its threads may do.
//! Whatever step fails, the process does not start: there is no weaker mode. [`host`] holds the few calls
//! of `init` that have no safe interface elsewhere, [`crypt`] the encrypted disks that it makes.
//!
//! What a started process has: only the descriptors named in its environment from 3 on, /dev/null as stdin,
//! a pipe as stdout and stderr; its own user with no other group; no capability in any set (unless its row
//! says so) and no way to gain one; fresh namespaces, a user namespace among them in which its own user is the
//! only one; the control group that bounds it; the system calls of its row, any other kills it; no path but
//! those of its row; no second execution, no child process, no further namespace, no executable memory.
#![expect(
    unsafe_code,
    reason = "descriptors by number, namespaces, fork and device ioctls have no safe interface"
)]

pub mod calls;
pub mod crypt;
mod filter;
pub mod host;
pub mod inherited;
mod plan;
pub mod profile;
pub mod roles;
mod rules;
mod start;

pub use filter::CompileFilterError;
pub use profile::{Folder, Instance, Isolation, Network, PathAccess, PathRule, Profile};
pub use rules::{MakeRulesetError, kernel_version as landlock_version, require as require_landlock};
pub use start::{StartError, start};
