//! A Unix socket that QEMU connects to: we listen before it starts, so nothing has to be tried again.

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::left;

/// A listening socket with its path.
#[derive(Debug)]
pub(crate) struct Listener {
    listener: UnixListener,
    pub(crate) path: PathBuf,
}

impl Listener {
    pub(crate) fn new(path: &Path) -> io::Result<Self> {
        Ok(Self { listener: UnixListener::bind(path)?, path: path.to_owned() })
    }

    /// Waits for QEMU.
    pub(crate) fn accept(&self, deadline: Instant) -> io::Result<UnixStream> {
        loop {
            let timeout = Timespec::try_from(left(deadline))
                .map_err(|_too_far| io::Error::from(io::ErrorKind::InvalidInput))?;
            match poll(&mut [PollFd::new(&self.listener, PollFlags::IN)], Some(&timeout)) {
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) => return self.listener.accept().map(|(stream, _)| stream),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}
