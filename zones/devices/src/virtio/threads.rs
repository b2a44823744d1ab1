//! Where devices get their threads from.
//!
//! A device does not make threads: whoever built the machine does, and may let each do no more than its [`Role`]
//! needs.

use std::io;
use std::thread::JoinHandle;

/// What a device's thread is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Serves a queue of a disk.
    Disk,
    /// Serves random numbers.
    Random,
    /// Serves the console.
    Console,
    /// Serves connections between guest and host.
    Vsock,
    /// Serves memory that comes back.
    Balloon,
    /// Waits for the end of the network's back end.
    NetWatch,
    /// Cuts a conversation with that back end when it takes too long.
    Deadline,
}

impl Role {
    /// The name that its threads have.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Disk => "block",
            Self::Random => "rng",
            Self::Console => "console",
            Self::Vsock => "vsock",
            Self::Balloon => "balloon",
            Self::NetWatch => "net",
            Self::Deadline => "deadline",
        }
    }
}

/// Makes threads.
pub trait Threads: Send + Sync {
    /// Runs `body` on a thread of its own, which may do what its role needs.
    ///
    /// # Errors
    /// There is no such thread, and `body` did not run.
    fn start(&self, role: Role, body: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>>;
}

/// Threads that may do whatever the process may: for tests of the devices themselves.
#[derive(Clone, Copy, Debug)]
pub struct Unconfined;

impl Threads for Unconfined {
    fn start(&self, role: Role, body: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name(role.name().to_owned()).spawn(body)
    }
}
