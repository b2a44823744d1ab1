//! The shell around [`Connections`]: moves packets between the rings and the streams of the host.
//!
//! A stream is waited for only in the direction in which something can move: without credit or a receive
//! buffer of the guest nothing is read from it, without bytes nothing is written to it. Only its hang-up is
//! always waited for, once.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

use vmm_sys_util::epoll::EventSet;

use super::Connect;
use super::connections::{BUFFER, Connections, Duty, Key, MAX_CONNECTIONS, Taken};
use super::header::{self, Header};
use crate::virtio::Interrupt;
use crate::virtio::counters::Counters;
use crate::virtio::ring::{BrokenRing, Chain, Ring};
use crate::virtio::worker::{Stop, Waiter, WorkerError};

const RECEIVE_KICK: u64 = 0;
const TRANSMIT_KICK: u64 = 1;
const FIRST_STREAM: u64 = 2;

/// Rounds of packets before the streams are looked at again: a guest that never stops sending must not keep
/// them waiting.
const ROUNDS: u32 = 16;

/// The host's end of one connection.
struct Stream {
    key: Key,
    socket: UnixStream,
    /// Bytes, or the end, may be there to be read.
    readable: bool,
    /// Both directions were seen to be closed.
    hung_up: bool,
    /// The socket took less than it was given.
    full: bool,
    waited_for: EventSet,
}

/// Everything that the worker owns.
pub(super) struct Pump {
    receive: Ring,
    transmit: Ring,
    connections: Connections,
    streams: [Option<Stream>; MAX_CONNECTIONS],
    /// The stream after the one that was served last, so that all get their turn.
    turn: usize,
    /// Something is ready for the guest, but it has no receive buffer.
    starved: bool,
    /// Bytes come before the next packet of another kind, if there are some.
    bytes_first: bool,
    connect: Arc<Mutex<Connect>>,
    interrupt: Arc<dyn Interrupt>,
    counters: Arc<Counters>,
    stop: Stop,
    buffer: Box<[u8]>,
}

impl Pump {
    pub(super) fn new(
        receive: Ring,
        transmit: Ring,
        connections: Connections,
        connect: Arc<Mutex<Connect>>,
        interrupt: Arc<dyn Interrupt>,
        counters: Arc<Counters>,
        stop: Stop,
    ) -> Self {
        Self {
            receive,
            transmit,
            connections,
            streams: [const { None }; MAX_CONNECTIONS],
            turn: 0,
            starved: false,
            bytes_first: false,
            connect,
            interrupt,
            counters,
            stop,
            buffer: vec![0; BUFFER].into_boxed_slice(),
        }
    }

    /// Works until told to stop. All streams close with it.
    pub(super) fn run(mut self) -> Result<(), WorkerError> {
        let waiter = Waiter::new(&self.stop)?;
        self.receive.watch(&waiter, RECEIVE_KICK)?;
        self.transmit.watch(&waiter, TRANSMIT_KICK)?;
        loop {
            let more = self.move_packets(&waiter)?;
            self.update_waits(&waiter)?;
            let ready = if more { waiter.look()? } else { waiter.wait()? };
            let Some(ready) = ready else { return Ok(()) };
            for (token, events) in ready.iter() {
                match token {
                    RECEIVE_KICK => self.receive.clear_kick(),
                    TRANSMIT_KICK => self.transmit.clear_kick(),
                    _ => self.note_ready(token, events),
                }
            }
        }
    }

    fn note_ready(&mut self, token: u64, events: EventSet) {
        let index = usize::try_from(token.saturating_sub(FIRST_STREAM)).unwrap_or(usize::MAX);
        if let Some(Some(stream)) = self.streams.get_mut(index) {
            stream.readable |= events.intersects(EventSet::IN | EventSet::HANG_UP | EventSet::ERROR);
            stream.hung_up |= events.intersects(EventSet::HANG_UP | EventSet::ERROR);
            stream.full &= !events.intersects(EventSet::OUT | EventSet::HANG_UP | EventSet::ERROR);
        }
    }

    /// Moves until nothing moves any more, or for a while: true when there may be more.
    fn move_packets(&mut self, waiter: &Waiter) -> Result<bool, WorkerError> {
        self.transmit.refuse_kicks()?;
        self.receive.refuse_kicks()?;
        for _round in 0..ROUNDS {
            if self.stop.asked() {
                break;
            }
            let mut moved = self.take_guest_packet()?;
            moved |= self.write_streams();
            self.drop_closed(waiter)?;
            moved |= self.send_to_guest()?;
            self.drop_closed(waiter)?;
            if moved {
                continue;
            }
            self.transmit.signal(&*self.interrupt)?;
            self.receive.signal(&*self.interrupt)?;
            // Ask before the last look: what comes after the look comes with a notification.
            let more_packets = self.transmit.ask_kicks()? && self.connections.can_take();
            let more_buffers = self.starved && self.receive.ask_kicks()?;
            if !more_packets && !more_buffers {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes one packet of the guest. False when there is none or none may be taken.
    fn take_guest_packet(&mut self) -> Result<bool, BrokenRing> {
        if !self.connections.can_take() {
            return Ok(false);
        }
        let Some(mut chain) = self.transmit.pop()? else { return Ok(false) };
        self.handle(&mut chain);
        self.transmit.give_back(chain.head(), 0)?;
        self.transmit.signal(&*self.interrupt)?;
        Ok(true)
    }

    fn handle(&mut self, chain: &mut Chain) {
        let Some(bytes) = chain.readable.read_array() else {
            if self.counters.malformed.add(1) {
                tracing::warn!("guest sent a vsock packet without a whole header");
            }
            return;
        };
        let header = Header::from_bytes(bytes);
        let size = usize::try_from(header.length).unwrap_or(usize::MAX).min(self.buffer.len());
        let room = self.buffer.get_mut(..size).unwrap_or_default();
        let size = chain.readable.read(room);
        let payload = self.buffer.get(..size).unwrap_or_default();
        match self.connections.guest_packet(&header, payload) {
            Taken::Handled => {}
            Taken::Asks(key) => self.open(key),
            Taken::Refused => {
                if self.counters.refused.add(1) {
                    tracing::warn!(
                        op = header.op,
                        port = header.destination_port,
                        "refused a vsock packet of the guest"
                    );
                }
            }
        }
    }

    /// Makes the stream for a connection that the guest asks for.
    fn open(&mut self, key: Key) {
        if self.try_open(key) {
            self.connections.accept(key);
        } else {
            self.connections.refuse(key);
        }
    }

    fn try_open(&mut self, key: Key) -> bool {
        let Some(slot) = self.streams.iter_mut().find(|slot| slot.is_none()) else { return false };
        let pair = UnixStream::pair().and_then(|(ours, theirs)| {
            ours.set_nonblocking(true)?;
            Ok((ours, OwnedFd::from(theirs)))
        });
        let (socket, theirs) = match pair {
            Ok(pair) => pair,
            Err(error) => {
                if self.counters.host_failures.add(1) {
                    tracing::warn!(%error, "no socket pair for a vsock connection");
                }
                return false;
            }
        };
        let mut connect = self.connect.lock().unwrap_or_else(PoisonError::into_inner);
        if !connect(key.host_port, theirs) {
            return false;
        }
        let waited_for = EventSet::empty();
        *slot = Some(Stream { key, socket, readable: false, hung_up: false, full: false, waited_for });
        true
    }

    /// Passes the guest's bytes on, as far as the streams take them.
    fn write_streams(&mut self) -> bool {
        let mut moved = false;
        for stream in self.streams.iter_mut().flatten() {
            let pending = self.connections.pending(stream.key);
            if !pending.is_empty() && !stream.full {
                match (&stream.socket).write(pending) {
                    Ok(size) => {
                        self.connections.host_took(stream.key, size);
                        moved = true;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => stream.full = true,
                    Err(error) if error.kind() == ErrorKind::Interrupted => moved = true,
                    Err(_) => {
                        self.connections.host_closed(stream.key);
                        moved = true;
                    }
                }
            }
            if stream.hung_up && self.connections.is_done_reading(stream.key) {
                self.connections.host_closed(stream.key);
            }
            while let Some(duty) = self.connections.duty(stream.key) {
                let direction = match duty {
                    Duty::EndWrites => Shutdown::Write,
                    Duty::EndReads => Shutdown::Read,
                };
                // A stream that is already gone needs no more than that.
                let _already_gone = stream.socket.shutdown(direction);
            }
        }
        moved
    }

    /// Closes the streams that are of no more use.
    fn drop_closed(&mut self, waiter: &Waiter) -> Result<(), WorkerError> {
        for slot in &mut self.streams {
            if let Some(stream) = slot
                && !self.connections.needs_stream(stream.key)
            {
                if !stream.waited_for.is_empty() {
                    waiter.remove(stream.socket.as_raw_fd())?;
                }
                *slot = None;
            }
        }
        Ok(())
    }

    /// Sends one packet to the guest. False when nothing is ready or no buffer is there. Bytes and packets of
    /// other kinds alternate, so that a guest that asks for many of these does not starve its own streams.
    fn send_to_guest(&mut self) -> Result<bool, BrokenRing> {
        let stream = self.next_readable();
        self.starved = false;
        if !self.connections.has_control() && stream.is_none() {
            return Ok(false);
        }
        let Some(mut chain) = self.receive.pop()? else {
            self.starved = true;
            return Ok(false);
        };
        let room = usize::try_from(chain.writable.left()).unwrap_or(usize::MAX).checked_sub(header::SIZE);
        let for_bytes = room.filter(|room| *room > 0).and(stream);
        let control = self.connections.has_control() && !(self.bytes_first && for_bytes.is_some());
        let Some(room) = room.filter(|_| control || for_bytes.is_some()) else {
            if self.counters.malformed.add(1) {
                tracing::warn!("guest offers vsock buffers that are too small for a packet");
            }
            self.receive.give_back(chain.head(), 0)?;
            return Ok(true);
        };
        self.bytes_first = control;
        let packet = if control { self.connections.next_control() } else { None };
        let written = match (packet, for_bytes) {
            (Some(header), _) => chain.writable.write(&header.to_bytes()),
            (None, Some(index)) => self.send_bytes(index, room, &mut chain),
            (None, None) => 0,
        };
        if written == 0 {
            self.receive.unpop();
        } else {
            self.receive.give_back(chain.head(), u32::try_from(written).unwrap_or(0))?;
            self.receive.signal(&*self.interrupt)?;
        }
        Ok(true)
    }

    /// A stream that may have bytes which the guest may get, fairly chosen.
    fn next_readable(&self) -> Option<usize> {
        (0..MAX_CONNECTIONS).map(|step| self.turn.wrapping_add(step) % MAX_CONNECTIONS).find(|index| {
            let stream = self.streams.get(*index).and_then(Option::as_ref);
            stream.is_some_and(|stream| stream.readable && self.connections.room(stream.key) > 0)
        })
    }

    /// Reads a stream into a buffer of the guest. Nothing is written when there was nothing to read.
    fn send_bytes(&mut self, index: usize, room: usize, chain: &mut Chain) -> usize {
        self.turn = index.wrapping_add(1) % MAX_CONNECTIONS;
        let Some(Some(stream)) = self.streams.get_mut(index) else { return 0 };
        let size = room.min(self.connections.room(stream.key)).min(self.buffer.len());
        let part = self.buffer.get_mut(..size).unwrap_or_default();
        match (&stream.socket).read(part) {
            // Whether the other direction is over, too, the hang-up tells.
            Ok(0) => self.connections.host_ended(stream.key),
            Ok(size) => {
                let Some(header) = self.connections.host_sent(stream.key, size) else { return 0 };
                let bytes = self.buffer.get(..size).unwrap_or_default();
                let written = chain.writable.write(&header.to_bytes());
                return written.saturating_add(chain.writable.write(bytes));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => stream.readable = false,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => self.connections.host_closed(stream.key),
        }
        0
    }

    /// Waits for each stream only in the direction in which something can move.
    fn update_waits(&mut self, waiter: &Waiter) -> Result<(), WorkerError> {
        for (token, slot) in (FIRST_STREAM..).zip(&mut self.streams) {
            let Some(stream) = slot else { continue };
            // A hang-up is reported whether it is asked for or not: asking once keeps the stream watched.
            let mut wanted = if stream.hung_up { EventSet::empty() } else { EventSet::HANG_UP };
            if !stream.readable && self.connections.room(stream.key) > 0 {
                wanted |= EventSet::IN;
            }
            if stream.full && !self.connections.pending(stream.key).is_empty() {
                wanted |= EventSet::OUT;
            }
            if wanted == stream.waited_for {
                continue;
            }
            if !stream.waited_for.is_empty() {
                waiter.remove(stream.socket.as_raw_fd())?;
            }
            if !wanted.is_empty() {
                waiter.add(stream.socket.as_raw_fd(), token, wanted)?;
            }
            stream.waited_for = wanted;
        }
        Ok(())
    }
}
