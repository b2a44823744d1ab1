//! A client for a plain thread ([`Client::call`], [`Client::monitor`]) or for a poll loop
//! ([`Client::begin`], [`AsFd`], [`Client::read_events`], [`Client::flush`]).
//!
//! One connection answers in order, and a connection that monitors answers nothing else: use one for
//! `Monitor` and another one for calls. It never reconnects: that is the caller's decision.

use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use zeroize::{Zeroize, Zeroizing};

use crate::Status;
use crate::wire::{Call, CallError, Frames, MAX_REPLY, Method, Reply, WireError};

/// Why a connection is of no use any more, or a call got no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server closed the connection.
    #[error("zoned closed the connection")]
    Closed,
    /// No answer within the caller's time.
    #[error("zoned did not answer within {0:?}")]
    Timeout(Duration),
    /// The answer is none.
    #[error("zoned sent something that is no answer")]
    Wire(#[source] WireError),
    /// The call itself was refused; the connection stays usable.
    #[error(transparent)]
    Call(#[from] CallError),
    /// Any other failure of a system call.
    #[error("connection to zoned")]
    Io(#[source] io::Error),
}

/// One connection to `zoned`.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    frames: Frames,
    unsent: Vec<u8>,
}

impl Client {
    /// Connects to the socket at `path` (on the host: [`crate::SOCKET`]).
    ///
    /// # Errors
    /// What `connect(2)` reports; `WouldBlock`: the server's queue is full.
    pub fn connect(path: impl AsRef<Path>) -> io::Result<Self> {
        // Not UnixStream::connect: that waits for a server that is hung with a full queue.
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&socket, &SocketAddrUnix::new(path.as_ref())?)?;
        let stream = UnixStream::from(socket);
        Ok(Self { stream, frames: Frames::new(MAX_REPLY), unsent: Vec::new() })
    }

    /// Sends a call and returns at once; its reply comes out of [`Client::read_events`].
    ///
    /// # Errors
    /// [`ClientError`]: the connection is broken.
    pub fn begin(&mut self, method: Method) -> Result<(), ClientError> {
        let call = Call::new(method).encode();
        // Growing would leave a copy behind.
        if self.unsent.is_empty() {
            self.unsent.reserve_exact(call.len());
        }
        self.unsent.extend_from_slice(&call);
        self.flush()
    }

    /// Whether bytes wait for the socket to become writable; then poll for that and call [`Client::flush`].
    #[must_use]
    pub fn wants_write(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Writes what the socket takes now.
    ///
    /// # Errors
    /// [`ClientError`]: the connection is broken.
    pub fn flush(&mut self) -> Result<(), ClientError> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(0) => return Err(ClientError::Closed),
                Ok(written) => {
                    self.unsent.drain(..written);
                    if self.unsent.is_empty() {
                        // With what lies behind its end.
                        self.unsent.zeroize();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Err(ClientError::Closed),
                Err(error) => return Err(ClientError::Io(error)),
            }
        }
        Ok(())
    }

    /// Reads the replies that are there now, oldest first; none is no error.
    ///
    /// # Errors
    /// [`ClientError`]: the connection is broken. Replies that came before the break are returned first.
    pub fn read_events(&mut self) -> Result<Vec<Reply>, ClientError> {
        let mut replies = Vec::new();
        let mut bytes = Zeroizing::new([0_u8; 16 * 1024]);
        loop {
            while let Some(frame) = self.frames.next_frame().map_err(ClientError::Wire)? {
                replies.push(Reply::decode(&frame).map_err(ClientError::Wire)?.0);
            }
            match self.stream.read(&mut bytes[..]) {
                Ok(0) if replies.is_empty() => return Err(ClientError::Closed),
                Ok(0) => return Ok(replies),
                Ok(count) => self.frames.push(bytes.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(replies),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return if replies.is_empty() { Err(ClientError::Closed) } else { Ok(replies) };
                }
                Err(error) => return Err(ClientError::Io(error)),
            }
        }
    }

    /// Makes a call and waits for its reply. Not on a connection that monitors.
    ///
    /// # Errors
    /// [`ClientError::Call`] when the host refused; anything else: the connection is of no use any more.
    pub fn call(&mut self, method: Method, patience: Duration) -> Result<Reply, ClientError> {
        let deadline = Instant::now() + patience;
        self.begin(method)?;
        loop {
            if let Some(reply) = self.read_events()?.into_iter().next() {
                return match reply {
                    Reply::Error(error) => Err(ClientError::Call(error)),
                    Reply::Status(_)
                    | Reply::Check(_)
                    | Reply::Audit(_)
                    | Reply::Key(_)
                    | Reply::Done
                    | Reply::Service(_) => Ok(reply),
                };
            }
            let left = deadline.checked_duration_since(Instant::now());
            self.wait(Some(left.ok_or(ClientError::Timeout(patience))?))?;
        }
    }

    /// Calls `callback` with the state now and whenever it changed, until it breaks or the connection does.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn monitor(mut self, mut callback: impl FnMut(Status) -> ControlFlow<()>) -> Result<(), ClientError> {
        self.begin(Method::Monitor)?;
        loop {
            for reply in self.read_events()? {
                match reply {
                    Reply::Status(status) => {
                        if callback(status).is_break() {
                            return Ok(());
                        }
                    }
                    Reply::Error(error) => return Err(ClientError::Call(error)),
                    Reply::Check(_) | Reply::Audit(_) | Reply::Key(_) | Reply::Done | Reply::Service(_) => {}
                }
            }
            self.wait(None)?;
        }
    }

    /// Waits until there is something to read or `patience` is over, and writes what is unsent.
    fn wait(&mut self, patience: Option<Duration>) -> Result<(), ClientError> {
        let mut interest = PollFlags::IN;
        interest.set(PollFlags::OUT, self.wants_write());
        let timeout = patience.map(|patience| {
            Timespec::try_from(patience).unwrap_or(Timespec { tv_sec: i64::from(i32::MAX), tv_nsec: 0 })
        });
        match poll(&mut [PollFd::new(&self.stream, interest)], timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(ClientError::Io(error.into())),
        }
        self.flush()
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
