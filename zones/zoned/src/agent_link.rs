//! One connection of a zone's agent. The guest is hostile: what is no message of the protocol ends the
//! connection, and neither direction is held in memory without bound.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use zone_protocol::agent::{Answer, Ask, Decoder, FrameError, FromAgent, Request, VERSION, encode};

use crate::console::printable;

/// The most bytes that wait for a guest that does not read.
const MAX_UNSENT: usize = 256 * 1024;

/// The longest version that is shown, in characters.
const MAX_VERSION: usize = 32;

/// The longest output of a check, in bytes.
const MAX_OUTPUT: usize = 32 * 1024;

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// The guest closed it, or it failed.
    #[error("agent closed its connection")]
    Closed,
    /// What came is no message.
    #[error("agent sent no message of the protocol")]
    Frame(#[from] FrameError),
    /// Something else than one Hello at the beginning.
    #[error("agent did not begin with one hello")]
    Order,
    /// Another version of the protocol.
    #[error("agent speaks version {0} of the protocol, the host {VERSION}")]
    Version(u32),
    /// The guest does not read.
    #[error("agent does not read its requests")]
    Stuck,
}

/// What an agent said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// It is there, in this version.
    Hello(String),
    /// An answer to the request of this number.
    Answer(u32, Answer),
}

/// The connection.
#[derive(Debug)]
pub(crate) struct AgentLink {
    stream: OwnedFd,
    decoder: Decoder,
    unsent: Vec<u8>,
    next_number: u32,
    greeted: bool,
    uptime_ms: u64,
    session: bool,
}

impl AgentLink {
    /// Takes a stream from the VMM.
    ///
    /// # Errors
    /// [`LinkError::Closed`] when it is no stream that works.
    pub(crate) fn new(stream: OwnedFd) -> Result<Self, LinkError> {
        rustix::io::ioctl_fionbio(&stream, true).map_err(|_unusable| LinkError::Closed)?;
        Ok(Self {
            stream,
            decoder: Decoder::default(),
            unsent: Vec::new(),
            next_number: 1,
            greeted: false,
            uptime_ms: 0,
            session: false,
        })
    }

    /// Whether the agent said Hello.
    pub(crate) fn greeted(&self) -> bool {
        self.greeted
    }

    /// How long its kernel had run when it said so, as it says.
    pub(crate) fn uptime(&self) -> Duration {
        Duration::from_millis(self.uptime_ms)
    }

    /// Whether it says that the user's session is open.
    pub(crate) fn session(&self) -> bool {
        self.session
    }

    /// Whether bytes wait for the guest to read.
    pub(crate) fn wants_write(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Reads once and returns what the agent said.
    ///
    /// # Errors
    /// [`LinkError`]: drop the connection.
    pub(crate) fn read(&mut self) -> Result<Vec<Said>, LinkError> {
        let mut bytes = [0_u8; 16 * 1024];
        let count = match rustix::io::read(&self.stream, &mut bytes) {
            Ok(0) => return Err(LinkError::Closed),
            Ok(count) => count,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(Vec::new()),
            Err(_) => return Err(LinkError::Closed),
        };
        self.decoder.push(bytes.get(..count).unwrap_or_default());
        let mut said = Vec::new();
        while let Some(message) = self.decoder.next_message::<FromAgent>()? {
            said.extend(self.take(message)?);
        }
        Ok(said)
    }

    /// What of a message is news; a session is only remembered, so that no guest fills a log with it.
    fn take(&mut self, message: FromAgent) -> Result<Option<Said>, LinkError> {
        match message {
            FromAgent::Hello(status) if !self.greeted => {
                if status.protocol != VERSION {
                    return Err(LinkError::Version(status.protocol));
                }
                self.greeted = true;
                self.uptime_ms = status.uptime_ms;
                Ok(Some(Said::Hello(printable(&status.version, MAX_VERSION))))
            }
            FromAgent::Response { number, mut answer } if self.greeted => {
                if let Answer::Check { output, .. } | Answer::Refused(output) = &mut answer {
                    output.truncate(output.floor_char_boundary(MAX_OUTPUT));
                }
                Ok(Some(Said::Answer(number, answer)))
            }
            FromAgent::Session { open } if self.greeted => {
                self.session = open;
                Ok(None)
            }
            FromAgent::Hello(_) | FromAgent::Response { .. } | FromAgent::Session { .. } => {
                Err(LinkError::Order)
            }
        }
    }

    /// Sends a request and returns its number.
    ///
    /// # Errors
    /// [`LinkError`]: drop the connection. [`LinkError::Frame`]: the request is too large, the connection
    /// stays usable.
    pub(crate) fn ask(&mut self, ask: Ask) -> Result<u32, LinkError> {
        let number = self.next_number;
        let frame = encode(&Request { number, ask })?;
        if self.unsent.len().saturating_add(frame.len()) > MAX_UNSENT {
            return Err(LinkError::Stuck);
        }
        self.next_number = number.wrapping_add(1);
        self.unsent.extend_from_slice(&frame);
        self.flush()?;
        Ok(number)
    }

    /// Writes what the guest takes now.
    ///
    /// # Errors
    /// [`LinkError::Closed`].
    pub(crate) fn flush(&mut self) -> Result<(), LinkError> {
        while !self.unsent.is_empty() {
            let flags = rustix::net::SendFlags::NOSIGNAL;
            match rustix::net::send(&self.stream, &self.unsent, flags) {
                Ok(written) => {
                    self.unsent.drain(..written);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(_) => return Err(LinkError::Closed),
            }
        }
        Ok(())
    }
}

impl AsFd for AgentLink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[cfg(test)]
mod tests;
