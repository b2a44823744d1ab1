//! The channel to `zoned`, and the events that wait for it.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use init_protocol::{Event, Request};
use ipc::{Channel, ReceiveError, SendError};

/// Events that may wait. A `zoned` that leaves so many unread is stuck.
const MOST_WAITING: usize = 512;

/// What came in.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// A request with its descriptors.
    Request(Request, Vec<OwnedFd>),
    /// Something that is no request; it was consumed.
    Malformed,
    /// Nothing more now.
    Nothing,
}

/// Init's end.
#[derive(Debug, Default)]
pub(crate) struct Link {
    channel: Option<Channel>,
    waiting: VecDeque<(Event, Vec<OwnedFd>)>,
}

impl Link {
    /// A fresh channel for a `zoned` that is about to start; returns its end. Events that wait stay.
    pub(crate) fn renew(&mut self) -> std::io::Result<OwnedFd> {
        let (ours, theirs) = Channel::pair()?;
        ours.set_nonblocking()?;
        self.channel = Some(ours);
        Ok(theirs.into_descriptor())
    }

    /// The peer died: the next one is told about processes anew.
    pub(crate) fn cut(&mut self) {
        self.channel = None;
        self.waiting.retain(|(event, _)| matches!(event, Event::ServiceExited { .. }));
    }

    /// The channel, while there is one.
    pub(crate) fn channel(&self) -> Option<&Channel> {
        self.channel.as_ref()
    }

    /// Whether events wait for the peer to read.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Sends an event, or lets it wait; the oldest is forgotten when too many wait.
    pub(crate) fn tell(&mut self, event: Event) {
        self.hand(event, Vec::new());
    }

    /// The same with descriptors, which live until they were sent.
    pub(crate) fn hand(&mut self, event: Event, descriptors: Vec<OwnedFd>) {
        if self.waiting.len() == MOST_WAITING {
            self.waiting.pop_front();
        }
        self.waiting.push_back((event, descriptors));
        self.flush();
    }

    /// Sends what waits as far as the peer takes it.
    pub(crate) fn flush(&mut self) {
        while let (Some(channel), Some((event, descriptors))) = (&self.channel, self.waiting.front()) {
            let carried: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
            match channel.send(event, &carried) {
                Err(SendError::WouldBlock | SendError::Closed) => return,
                // Events are small: nothing else is worth a second try.
                Ok(()) | Err(SendError::TooLarge | SendError::TooManyDescriptors(_) | SendError::Io(_)) => {
                    self.waiting.pop_front();
                }
            }
        }
    }

    /// The next request.
    pub(crate) fn next(&mut self) -> Incoming {
        let Some(channel) = &self.channel else { return Incoming::Nothing };
        match channel.receive() {
            Ok((request, descriptors)) => Incoming::Request(request, descriptors),
            Err(ReceiveError::Malformed) => Incoming::Malformed,
            Err(ReceiveError::WouldBlock) => Incoming::Nothing,
            // Its end is gone; its death comes as a signal.
            Err(ReceiveError::Closed | ReceiveError::Io(_)) => {
                self.channel = None;
                Incoming::Nothing
            }
        }
    }
}
