//! Typed messages with descriptors between two of our own processes.
//!
//! A [`Channel`] is one end of a Unix `SOCK_SEQPACKET` pair: one packet is one message, encoded by
//! postcard, with at most [`MAX_DESCRIPTORS`] descriptors beside it. Who is at the other end is decided by
//! who was given the descriptor: no message carries an identity.
//!
//! It never allocates by a length that the peer chose, never blocks longer than its caller asked for
//! (a channel is blocking until [`Channel::set_nonblocking`]), and closes descriptors that came with a
//! message it rejects. What was in a message is wiped from its own buffers: some carry keys or PINs.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::{Zeroize, Zeroizing};

/// The largest encoded message, in bytes.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// Few messages are longer, and none with a secret.
const USUAL_MESSAGE: usize = 1024;

/// The most descriptors that one message carries.
pub const MAX_DESCRIPTORS: usize = 16;

/// Why a message was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The encoded message is larger than [`MAX_MESSAGE`].
    #[error("message does not fit {MAX_MESSAGE} bytes")]
    TooLarge,
    /// More than [`MAX_DESCRIPTORS`] descriptors.
    #[error("message carries {0} descriptors, at most {MAX_DESCRIPTORS} fit")]
    TooManyDescriptors(usize),
    /// The channel is non-blocking and the peer does not read.
    #[error("peer does not read its messages")]
    WouldBlock,
    /// The peer is gone.
    #[error("peer closed the channel")]
    Closed,
    /// Any other failure of the system call.
    #[error("send on channel")]
    Io(#[source] io::Error),
}

/// Why no message was received.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The packet is no message of the expected type, is longer than [`MAX_MESSAGE`], or carries more than
    /// [`MAX_DESCRIPTORS`] descriptors. It was consumed.
    #[error("malformed message")]
    Malformed,
    /// The channel is non-blocking and nothing is there.
    #[error("no message is there")]
    WouldBlock,
    /// The peer is gone and every message was read.
    #[error("peer closed the channel")]
    Closed,
    /// Any other failure of the system call.
    #[error("receive on channel")]
    Io(#[source] io::Error),
}

/// One end of a message channel.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
}

impl Channel {
    /// Makes a connected pair. Both ends are close-on-exec.
    ///
    /// # Errors
    /// What `socketpair(2)` reports.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self { socket: a }, Self { socket: b }))
    }

    /// Takes a descriptor that came from [`Channel::pair`] in another process.
    #[must_use]
    pub fn from_descriptor(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// Gives the descriptor up, to pass it on.
    #[must_use]
    pub fn into_descriptor(self) -> OwnedFd {
        self.socket
    }

    /// Makes [`Channel::send`] and [`Channel::receive`] return `WouldBlock` instead of waiting.
    ///
    /// # Errors
    /// What `ioctl(FIONBIO)` reports.
    pub fn set_nonblocking(&self) -> io::Result<()> {
        Ok(rustix::io::ioctl_fionbio(&self.socket, true)?)
    }

    /// Sends one message; the descriptors are duplicated into the receiver.
    ///
    /// # Errors
    /// [`SendError`]; nothing was sent then.
    pub fn send<T: Serialize>(&self, message: &T, descriptors: &[BorrowedFd<'_>]) -> Result<(), SendError> {
        if descriptors.len() > MAX_DESCRIPTORS {
            return Err(SendError::TooManyDescriptors(descriptors.len()));
        }
        // Large enough for every message with a secret: growing would leave a copy behind.
        let bytes = postcard::to_extend(message, Vec::with_capacity(USUAL_MESSAGE));
        let bytes = bytes.map(Zeroizing::new).map_err(|_too_large| SendError::TooLarge)?;
        if bytes.len() > MAX_MESSAGE {
            return Err(SendError::TooLarge);
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        loop {
            match sendmsg(&self.socket, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Err(SendError::WouldBlock),
                Err(Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN) => return Err(SendError::Closed),
                Err(error) => return Err(SendError::Io(error.into())),
            }
        }
    }

    /// Receives one message and its descriptors (all close-on-exec, in the order in which they were sent).
    ///
    /// # Errors
    /// [`ReceiveError`].
    pub fn receive<T: DeserializeOwned>(&self) -> Result<(T, Vec<OwnedFd>), ReceiveError> {
        let mut bytes = vec![0_u8; MAX_MESSAGE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            match recvmsg(
                &self.socket,
                &mut [IoSliceMut::new(&mut bytes)],
                &mut ancillary,
                RecvFlags::CMSG_CLOEXEC,
            ) {
                Ok(received) => break received,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Err(ReceiveError::WouldBlock),
                Err(Errno::CONNRESET) => return Err(ReceiveError::Closed),
                Err(error) => return Err(ReceiveError::Io(error.into())),
            }
        };
        let mut descriptors = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        if received.bytes == 0 {
            return Err(ReceiveError::Closed);
        }
        // The space is aligned: a few more than it was made for fit.
        if descriptors.len() > MAX_DESCRIPTORS {
            return Err(ReceiveError::Malformed);
        }
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(ReceiveError::Malformed);
        }
        let packet = bytes.get_mut(..received.bytes).ok_or(ReceiveError::Malformed)?;
        let decoded = match postcard::take_from_bytes(packet) {
            Ok((message, [])) => Ok((message, descriptors)),
            Ok(_) | Err(_) => Err(ReceiveError::Malformed),
        };
        packet.zeroize();
        decoded
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests;
