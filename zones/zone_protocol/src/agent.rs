//! The stream between `zoned` and the agent in the guest.
//!
//! The agent connects to vsock port [`PORT`] of context [`HOST_CID`]. Each message is a little-endian `u32`
//! length (at most [`MAX_FRAME`]) and a postcard body. The agent speaks first ([`FromAgent::Hello`]), after
//! that every request gets one response with its number. The guest is hostile: the host decodes with
//! [`Decoder`], which never holds more than one frame.

use serde::{Deserialize, Serialize};

/// vsock port on which the host awaits the agent.
pub const PORT: u32 = 1024;

/// vsock context id of the host (virtio 1.3, section 5.10.4).
pub const HOST_CID: u32 = 2;

/// vsock context id of every guest: zones cannot name each other.
pub const GUEST_CID: u32 = 3;

/// Version of this protocol.
pub const VERSION: u32 = 3;

/// The largest body of one message, in bytes.
pub const MAX_FRAME: usize = 64 * 1024;

/// Host to agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the host; comes back in the response.
    pub number: u32,
    /// What to do.
    pub ask: Ask,
}

/// What the host can ask of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// Version and uptime.
    Status,
    /// Runs a named check: a built-in one, or a program of that name in the template's check folder.
    RunCheck {
        /// `resolve`, `fetch`, `interfaces`, or a program's file name.
        name: String,
        /// Its arguments.
        arguments: Vec<String>,
    },
    /// Shuts the zone down in order.
    ShutDown,
    /// Writes everything to the disks: the zone is about to be locked.
    Sync,
}

/// Agent to host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromAgent {
    /// First message after connecting.
    Hello(Status),
    /// The answer to a request.
    Response {
        /// The request's number.
        number: u32,
        /// The result.
        answer: Answer,
    },
    /// The session of the zone's user opened or ended. A new connection begins with none. Whose it is the host knows.
    Session {
        /// It is open.
        open: bool,
    },
}

/// The agent's own state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// [`VERSION`] of the agent.
    pub protocol: u32,
    /// Version of the agent's program.
    pub version: String,
    /// Time since the guest's kernel started, in milliseconds.
    pub uptime_ms: u64,
}

/// What an agent answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// To [`Ask::Status`].
    Status(Status),
    /// To [`Ask::RunCheck`]; output is cut at 32 KiB.
    Check {
        /// Whether the check held.
        passed: bool,
        /// What it printed.
        output: String,
    },
    /// To [`Ask::ShutDown`]: it began.
    ShuttingDown,
    /// The request cannot be carried out.
    Refused(String),
    /// To [`Ask::Sync`]: it is written.
    Synced,
}

/// The peer sent something that is no frame of this protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length is zero or above [`MAX_FRAME`].
    #[error("frame length {0} is not within 1..={MAX_FRAME}")]
    Length(u32),
    /// The body does not decode, or bytes are left over.
    #[error("frame body does not decode")]
    Body,
}

/// Encodes one message with its length.
///
/// # Errors
/// [`FrameError::Length`] when the body is larger than [`MAX_FRAME`].
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let body = postcard::to_stdvec(message).map_err(|_unencodable| FrameError::Body)?;
    let length = u32::try_from(body.len()).map_err(|_huge| FrameError::Length(u32::MAX))?;
    if body.is_empty() || body.len() > MAX_FRAME {
        return Err(FrameError::Length(length));
    }
    let mut frame = length.to_le_bytes().to_vec();
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// Cuts a byte stream into messages. It buffers at most one frame and its length.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
}

impl Decoder {
    /// Adds bytes that came from the peer. Call [`Decoder::next_message`] until it returns `None` before adding more.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Takes the next complete message.
    ///
    /// # Errors
    /// [`FrameError`]: the stream is broken, drop the connection.
    pub fn next_message<T: for<'a> Deserialize<'a>>(&mut self) -> Result<Option<T>, FrameError> {
        let Some((header, rest)) = self.buffer.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*header);
        let size = usize::try_from(length).map_err(|_huge| FrameError::Length(length))?;
        if size == 0 || size > MAX_FRAME {
            return Err(FrameError::Length(length));
        }
        let Some((body, _)) = rest.split_at_checked(size) else { return Ok(None) };
        let message = match postcard::take_from_bytes(body) {
            Ok((message, [])) => message,
            Ok(_) | Err(_) => return Err(FrameError::Body),
        };
        self.buffer.drain(..size.saturating_add(4));
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests;
