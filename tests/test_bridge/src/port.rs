//! The virtio-serial port as a stream of bytes in both directions.
//!
//! The kernel's driver reads 0 bytes and reports a hang-up for as long as nothing is connected on the other
//! side (drivers/char/virtio_console.c): that is no end, only a pause.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// How often the port is looked at while nothing is connected: the driver has no event for it that poll sees.
const DISCONNECTED_PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// The port, shared by the reader and all that write.
#[derive(Clone, Debug)]
pub struct Port {
    descriptor: Arc<OwnedFd>,
    writing: Arc<Mutex<()>>,
}

impl Port {
    /// Takes the open port.
    #[must_use]
    pub fn new(descriptor: OwnedFd) -> Self {
        Self { descriptor: Arc::new(descriptor), writing: Arc::default() }
    }

    /// Waits for bytes.
    ///
    /// # Errors
    /// The port is gone.
    pub fn read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            match rustix::io::read(&self.descriptor, &mut *bytes) {
                Ok(0) => pause()?,
                Ok(length) => return Ok(length),
                Err(Errno::AGAIN) => self.wait(PollFlags::IN)?,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Writes a whole message; messages of several threads do not mix.
    ///
    /// # Errors
    /// The port is gone.
    pub fn write(&self, mut message: &[u8]) -> io::Result<()> {
        let _whole = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        while !message.is_empty() {
            match rustix::io::write(&self.descriptor, message) {
                Ok(length) => message = message.get(length..).unwrap_or_default(),
                Err(Errno::AGAIN) => self.wait(PollFlags::OUT)?,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    fn wait(&self, wanted: PollFlags) -> io::Result<()> {
        let mut descriptors = [PollFd::from_borrowed_fd(self.descriptor.as_fd(), wanted)];
        match poll(&mut descriptors, None) {
            Ok(_) if descriptors[0].revents().contains(PollFlags::HUP) => pause(),
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

fn pause() -> io::Result<()> {
    match poll(&mut [], Some(&DISCONNECTED_PAUSE)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
