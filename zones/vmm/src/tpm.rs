//! The guest's TPM: the interface on the board, and the thread that carries commands and answers between it and the
//! socket behind which the TPM itself is another process.
//!
//! ```text
//!   processor --- write to START ---> command, wake ---> thread ---> socket
//!                                                          |            |
//!   registers <---------------- answer, in pieces ---------+<-----------+
//! ```
//! For each run of the machine there is another socket: the TPM behind it has begun anew and knows what was measured.
//! A socket that ends, or an answer that cannot be one, ends the machine: a guest without its TPM, or with one that
//! nobody vouches for, does not run on.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use devices::tpm_crb::{self, BrokenTpm, TpmCrb};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use zone_protocol::vmm::End;

use crate::ending::Ending;
use crate::layout;
use crate::roles::Maker;

/// Bytes that are taken of an answer at once.
const PIECE: usize = tpm_crb::BUFFER_SIZE;

/// What the thread waits for.
const WAKE: u64 = 0;
const DATA: u64 = 1;

/// The interface, shared by processors and thread.
#[derive(Debug)]
pub(crate) struct Tpm {
    shared: Mutex<Shared>,
    /// Readable when there is something to do for the thread.
    wake: OwnedFd,
}

#[derive(Debug)]
struct Shared {
    device: TpmCrb,
    /// What the guest started and the thread has not taken yet.
    command: Option<Vec<u8>>,
    /// The thread is to end.
    over: bool,
}

/// Why the TPM is of no use any more: follows "the virtual TPM".
#[derive(Debug, thiserror::Error)]
enum LostTpm {
    #[error("is gone")]
    Gone,
    #[error("gave {0}")]
    Broken(#[from] BrokenTpm),
    #[error("takes no command: {0}")]
    Socket(Errno),
    #[error("cannot be waited for: {0}")]
    Wait(io::Error),
}

/// A thread that serves a TPM's socket. Dropping it is not enough: [`Connected::end`].
#[derive(Debug)]
pub(crate) struct Connected {
    thread: JoinHandle<()>,
}

impl Tpm {
    /// The interface as at power-on, without a TPM behind it.
    pub(crate) fn new() -> io::Result<Self> {
        let shared = Shared { device: TpmCrb::new(layout::TPM), command: None, over: false };
        let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self { shared: Mutex::new(shared), wake })
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The guest reads.
    pub(crate) fn read(&self, offset: u64, data: &mut [u8]) {
        self.shared().device.read(offset, data);
    }

    /// The guest writes.
    pub(crate) fn write(&self, offset: u64, data: &[u8]) {
        let mut shared = self.shared();
        if let Some(command) = shared.device.write(offset, data) {
            shared.command = Some(command);
            drop(shared);
            self.wake();
        }
    }

    fn wake(&self) {
        // A counter that is full is readable, too.
        let _woken = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    /// Starts the thread for the TPM behind `data`; the guest does not run yet.
    ///
    /// # Errors
    /// The socket is none, or there is no thread.
    pub(crate) fn connect(
        self: &Arc<Self>,
        data: OwnedFd,
        maker: &Maker,
        ending: &Arc<Ending>,
    ) -> io::Result<Connected> {
        // Whoever does not take a command at once does not keep to the rules: only one is ever on its way.
        rustix::io::ioctl_fionbio(&data, true)?;
        let waiter = Epoll::new()?;
        for (descriptor, token) in [(&self.wake, WAKE), (&data, DATA)] {
            let event = EpollEvent::new(EventSet::IN, token);
            waiter.ctl(ControlOperation::Add, descriptor.as_raw_fd(), event)?;
        }
        let (tpm, ending) = (Arc::clone(self), Arc::clone(ending));
        let serve = move || {
            if let Err(lost) = tpm.serve(&data, &waiter) {
                tpm.shared().device.fail();
                ending.end(End::Failed(format!("the virtual TPM {lost}")));
            }
        };
        let thread = maker.start(jail::roles::TPM, "tpm", Box::new(serve))?;
        Ok(Connected { thread })
    }

    /// The thread's work, until it is told to end.
    fn serve(&self, data: &OwnedFd, waiter: &Epoll) -> Result<(), LostTpm> {
        loop {
            let mut ready = [EpollEvent::default(); 2];
            let count = match waiter.wait(-1, &mut ready) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                Err(error) => return Err(LostTpm::Wait(error)),
            };
            let is_ready = |token| ready.iter().take(count).any(|event| event.data() == token);
            if is_ready(WAKE) {
                let mut count = [0; 8];
                // Empty is as good as emptied.
                let _count = rustix::io::read(&self.wake, &mut count);
                let mut shared = self.shared();
                if shared.over {
                    return Ok(());
                }
                let command = shared.command.take();
                drop(shared);
                command.map_or(Ok(()), |command| send(data, &command))?;
            }
            if is_ready(DATA) {
                self.receive(data)?;
            }
        }
    }

    fn receive(&self, data: &OwnedFd) -> Result<(), LostTpm> {
        let mut piece = [0; PIECE];
        let count = match rustix::io::read(data, &mut piece) {
            Ok(0) | Err(Errno::CONNRESET) => return Err(LostTpm::Gone),
            Ok(count) => count,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(error) => return Err(LostTpm::Socket(error)),
        };
        let next = self.shared().device.answer(piece.get(..count).unwrap_or_default())?;
        next.map_or(Ok(()), |command| send(data, &command))
    }
}

impl Connected {
    /// Ends the thread and returns the interface to power-on. No processor runs.
    pub(crate) fn end(self, tpm: &Tpm) {
        tpm.shared().over = true;
        tpm.wake();
        let _panicked = self.thread.join();
        let mut shared = tpm.shared();
        shared.device.reset();
        (shared.command, shared.over) = (None, false);
        let mut count = [0; 8];
        // What woke it last is not for the next one.
        let _count = rustix::io::read(&tpm.wake, &mut count);
    }
}

/// Sends a whole command. It fits any socket's buffer, and no other one is on its way.
fn send(data: &OwnedFd, command: &[u8]) -> Result<(), LostTpm> {
    match rustix::io::write(data, command) {
        Ok(count) if count == command.len() => Ok(()),
        Ok(_) => Err(LostTpm::Socket(Errno::AGAIN)),
        Err(Errno::PIPE | Errno::CONNRESET) => Err(LostTpm::Gone),
        Err(error) => Err(LostTpm::Socket(error)),
    }
}

#[cfg(test)]
mod tests;
