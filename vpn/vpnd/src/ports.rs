//! The two sides of the tunnel: the guest's receive ring and the pair to `uplink`, each with a bounded backlog.

use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use tunnel::{DATA_VALID, Sink, Trust};
use vpn_protocol::datagram::MAX_PAYLOAD;

use crate::backlog::Backlog;
use crate::vring::{Delivery, Memory, Vring};

/// Datagrams that wait while `uplink` does not read: two TCP super-packets.
const UPLINK_BACKLOG: usize = 96;

/// Frames that wait while the guest has no buffers.
const ZONE_BACKLOG: usize = 256;

/// How long the zone waits for `uplink` before its packets are dropped.
const PATIENCE: Duration = Duration::from_millis(200);

/// The pair to `uplink`.
pub(crate) struct Uplink {
    socket: OwnedFd,
    backlog: Backlog,
    /// Since when `uplink` has not read.
    stalled: Option<Duration>,
    /// `uplink` closed its end.
    pub(crate) closed: bool,
    pub(crate) dropped: u64,
}

impl Uplink {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket, backlog: Backlog::new(UPLINK_BACKLOG), stalled: None, closed: false, dropped: 0 }
    }

    pub(crate) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Whether datagrams wait for `uplink` to read.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Whether the zone must wait before it sends more.
    pub(crate) fn holds_back(&self, now: Duration) -> bool {
        self.is_waiting() && self.stalled.is_some_and(|since| now.saturating_sub(since) < PATIENCE)
    }

    /// When waiting ends.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.stalled.filter(|_| self.is_waiting()).map(|since| since.saturating_add(PATIENCE))
    }

    /// Sends what waits, or gives it up when `uplink` has not read for too long.
    pub(crate) fn flush(&mut self, now: Duration) {
        while let Some(packet) = self.backlog.front() {
            match send(&self.socket, &[IoSlice::new(packet)]) {
                Ok(()) => self.stalled = None,
                Err(Errno::AGAIN) => {
                    let since = *self.stalled.get_or_insert(now);
                    if now.saturating_sub(since) >= PATIENCE {
                        self.dropped = self.dropped.saturating_add(self.backlog.clear());
                    }
                    return;
                }
                Err(error) => {
                    self.fail(error);
                    return;
                }
            }
            self.backlog.pop();
        }
    }

    fn send(&mut self, peer: usize, datagram: &[u8], now: Duration) {
        let Ok(index) = u8::try_from(peer) else { return };
        if self.closed || datagram.is_empty() || datagram.len() > MAX_PAYLOAD {
            self.dropped = self.dropped.saturating_add(1);
            return;
        }
        let head = [index];
        if !self.is_waiting() {
            match send(&self.socket, &[IoSlice::new(&head), IoSlice::new(datagram)]) {
                Ok(()) => {
                    self.stalled = None;
                    return;
                }
                Err(Errno::AGAIN) => {}
                Err(error) => return self.fail(error),
            }
        }
        let since = *self.stalled.get_or_insert(now);
        let keeps = now.saturating_sub(since) < PATIENCE;
        if !(keeps && self.backlog.push(&head, datagram)) {
            self.dropped = self.dropped.saturating_add(1);
        }
    }

    fn fail(&mut self, error: Errno) {
        self.dropped = self.dropped.saturating_add(1).saturating_add(self.backlog.clear());
        // ENOBUFS and the like pass; a closed pair does not.
        self.closed |= matches!(error, Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN | Errno::CONNREFUSED);
    }
}

/// One packet, without waiting.
fn send(socket: &OwnedFd, parts: &[IoSlice<'_>]) -> Result<(), Errno> {
    loop {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match sendmsg(socket.as_fd(), parts, &mut SendAncillaryBuffer::default(), flags) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Frames for the guest.
pub(crate) struct ZoneQueue {
    backlog: Backlog,
    pub(crate) dropped: u64,
}

impl ZoneQueue {
    pub(crate) fn new() -> Self {
        Self { backlog: Backlog::new(ZONE_BACKLOG), dropped: 0 }
    }
}

/// Both sides, as the tunnel sees them during one call.
pub(crate) struct Ports<'a> {
    pub(crate) uplink: &'a mut Uplink,
    pub(crate) zone: &'a mut ZoneQueue,
    /// The receive ring and its memory, when it runs.
    pub(crate) ring: Option<(&'a mut Vring, &'a Memory)>,
    pub(crate) mergeable: bool,
    /// The driver accepts frames whose checksum was verified for it.
    pub(crate) guest_checksum: bool,
    pub(crate) now: Duration,
}

impl Ports<'_> {
    /// Gives the guest what waited.
    pub(crate) fn flush_zone(&mut self) {
        let Some((ring, memory)) = self.ring.as_mut() else {
            self.zone.dropped = self.zone.dropped.saturating_add(self.zone.backlog.clear());
            return;
        };
        while let Some(entry) = self.zone.backlog.front() {
            let Some((flags, frame)) = entry.split_first() else { break };
            match deliver(ring, memory, self.mergeable, *flags, frame) {
                Delivery::Done => {}
                Delivery::NoBuffers => return,
                Delivery::Unfit => self.zone.dropped = self.zone.dropped.saturating_add(1),
            }
            self.zone.backlog.pop();
        }
    }

    /// Interrupts the guest for what it was given.
    pub(crate) fn finish(&mut self) {
        if let Some((ring, memory)) = self.ring.as_mut() {
            ring.signal(memory);
        }
    }
}

impl Sink for Ports<'_> {
    fn to_peer(&mut self, peer: usize, datagram: &[u8]) {
        self.uplink.send(peer, datagram, self.now);
    }

    fn to_zone(&mut self, trust: Trust, frame: &[u8]) {
        let flags = if trust == Trust::Vouched && self.guest_checksum { DATA_VALID } else { 0 };
        // A guest whose driver does not run has no network yet.
        let Some((ring, memory)) = self.ring.as_mut() else {
            self.zone.dropped = self.zone.dropped.saturating_add(1);
            return;
        };
        let outcome = if self.zone.backlog.is_empty() {
            deliver(ring, memory, self.mergeable, flags, frame)
        } else {
            Delivery::NoBuffers
        };
        let kept = match outcome {
            Delivery::Done => true,
            Delivery::NoBuffers => self.zone.backlog.push(&[flags], frame),
            Delivery::Unfit => false,
        };
        if !kept {
            self.zone.dropped = self.zone.dropped.saturating_add(1);
        }
    }
}

/// Puts one frame into the ring.
fn deliver(ring: &mut Vring, memory: &Memory, mergeable: bool, flags: u8, frame: &[u8]) -> Delivery {
    ring.deliver(memory, mergeable, [flags, 0, 0, 0, 0, 0, 0, 0, 0, 0], frame)
}
