//! The state of all connections, without sockets: packets of the guest and events of the host in, packets for
//! the guest out.
//!
//! ```text
//!  REQUEST          accept()            guest SHUTDOWN both, drained | RST | violation
//! --------> asked ----------> open --------------------------------------------------> gone
//!              \ refuse()      | host_closed()              RST of the guest
//!               +--> gone      +-------------> closing --------------------> gone
//! ```
//! Bounded whatever the guest sends: [`MAX_CONNECTIONS`] connections, [`BUFFER`] bytes each on their way to
//! the host, and [`MAX_RESETS`] resets, with one more for each connection, that wait for room in the guest's
//! receive queue. Bytes on their way to the
//! guest are never held here: they stay in the host's socket until the guest has credit and a buffer.
//!
//! There is no clock: a guest that never resets a connection whose host's end is closed keeps its place only
//! until the place is needed. Connections take turns: none waits for another's packets but one.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use super::header::{Header, SHUT_RECEIVE, SHUT_SEND, STREAM, op};

/// The most connections at a time.
pub(super) const MAX_CONNECTIONS: usize = 8;

/// Bytes of one connection on their way to the host.
pub(super) const BUFFER: usize = 64 * 1024;

/// [`BUFFER`] as packets carry it.
const CREDIT: u32 = 64 * 1024;

/// Resets that may wait for room in the guest's receive queue before its packets have to wait, too.
pub(super) const MAX_RESETS: usize = 64;

const SHUT_BOTH: u32 = SHUT_RECEIVE | SHUT_SEND;

/// The two ports that name a connection: the context ids are always the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) guest_port: u32,
    pub(super) host_port: u32,
}

/// What became of a packet of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It did what it should.
    Handled,
    /// It asks for a connection: answer with [`Connections::accept`] or [`Connections::refuse`].
    Asks(Key),
    /// It broke the protocol, or named what the guest may not reach.
    Refused,
}

/// What the shell has to do to a host stream, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Duty {
    /// Nothing more will be written to it.
    EndWrites,
    /// Nothing more will be read from it.
    EndReads,
}

/// All connections of one device.
#[derive(Debug)]
pub(super) struct Connections {
    guest_cid: u64,
    host_cid: u64,
    ports: Vec<u32>,
    open: BTreeMap<Key, Connection>,
    resets: VecDeque<(Key, u16)>,
    /// Whose packet other than bytes was sent last.
    last: Option<Key>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Asked,
    Open,
    /// The host's end is closed; the guest was told and has yet to reset.
    Closing,
}

#[derive(Debug)]
struct Connection {
    state: State,
    /// The guest's receive buffer, how much of it the guest emptied, and what was sent into it.
    guest_buffer: u32,
    guest_forwarded: u32,
    sent: u32,
    /// What came from the guest, what of it went on, and what the guest knows of that.
    received: u32,
    forwarded: u32,
    announced: u32,
    to_host: VecDeque<u8>,
    /// Directions that the guest ended, and which of them the host's stream has yet to learn of.
    guest_shut: u32,
    duties: u32,
    /// Directions that the host ended, and those that the guest knows of.
    host_shut: u32,
    told_shut: u32,
    owes_response: bool,
    owes_credit: bool,
    asks_credit: bool,
    asked_credit: bool,
}

impl Connections {
    /// No connections; the guest may connect to `ports` of the host.
    pub(super) fn new(guest_cid: u64, host_cid: u64, ports: Vec<u32>) -> Self {
        Self { guest_cid, host_cid, ports, open: BTreeMap::new(), resets: VecDeque::new(), last: None }
    }

    /// Whether a packet of the guest may be taken: it may cost one more reset.
    pub(super) fn can_take(&self) -> bool {
        self.resets.len() < MAX_RESETS
    }

    /// Whether the host's end of the connection is still of use.
    pub(super) fn needs_stream(&self, key: Key) -> bool {
        self.open.get(&key).is_some_and(|connection| connection.state != State::Closing)
    }

    /// Takes a packet of the guest. `payload` is what its chain held of the announced length.
    pub(super) fn guest_packet(&mut self, header: &Header, payload: &[u8]) -> Taken {
        if header.source_cid != self.guest_cid || header.destination_cid != self.host_cid {
            return Taken::Refused;
        }
        let key = Key { guest_port: header.source_port, host_port: header.destination_port };
        if header.kind != STREAM {
            return self.reset_unless_reset(key, header);
        }
        let Some(connection) = self.open.get_mut(&key) else {
            return match header.op {
                op::REQUEST => self.request(key, header),
                _ => self.reset_unless_reset(key, header),
            };
        };
        connection.learn_credit(header);
        let whole = usize::try_from(header.length) == Ok(payload.len());
        let kept = match header.op {
            op::RST => {
                self.open.remove(&key);
                return Taken::Handled;
            }
            op::RW => whole && connection.receive(payload),
            op::SHUTDOWN => {
                connection.guest_shuts(header.flags & SHUT_BOTH);
                true
            }
            op::CREDIT_UPDATE => true,
            op::CREDIT_REQUEST => {
                connection.owes_credit = true;
                true
            }
            _ => false,
        };
        if !kept {
            self.reset(key);
            return Taken::Refused;
        }
        self.settle(key);
        Taken::Handled
    }

    fn request(&mut self, key: Key, header: &Header) -> Taken {
        if !self.ports.contains(&key.host_port) || !self.make_room() {
            self.resets.push_back((key, STREAM));
            return Taken::Refused;
        }
        self.open.insert(key, Connection::asked(header));
        Taken::Asks(key)
    }

    /// Whether there is a place for one more connection. One whose host's end is closed gives its place up.
    fn make_room(&mut self) -> bool {
        if self.open.len() < MAX_CONNECTIONS {
            return true;
        }
        let closing = self.open.iter().find(|(_, connection)| connection.state == State::Closing);
        let closing = closing.map(|(key, _)| *key);
        closing.inspect(|key| self.reset(*key)).is_some()
    }

    /// A packet that belongs to no connection: answered by a reset unless it is one itself.
    fn reset_unless_reset(&mut self, key: Key, header: &Header) -> Taken {
        if header.op == op::RST {
            return Taken::Handled;
        }
        self.resets.push_back((key, header.kind));
        Taken::Refused
    }

    fn reset(&mut self, key: Key) {
        if self.open.remove(&key).is_some() {
            self.resets.push_back((key, STREAM));
        }
    }

    /// A connection that the guest ended both ways is over when its last byte went on.
    fn settle(&mut self, key: Key) {
        if let Some(connection) = self.open.get(&key)
            && connection.guest_shut == SHUT_BOTH
            && connection.to_host.is_empty()
        {
            self.reset(key);
        }
    }

    /// The host has a stream for this connection.
    pub(super) fn accept(&mut self, key: Key) {
        if let Some(connection) = self.open.get_mut(&key)
            && connection.state == State::Asked
        {
            connection.state = State::Open;
            connection.owes_response = true;
        }
    }

    /// The host does not want this connection.
    pub(super) fn refuse(&mut self, key: Key) {
        self.reset(key);
    }

    /// How many bytes the host's stream may send to the guest now.
    pub(super) fn room(&self, key: Key) -> usize {
        self.open.get(&key).map_or(0, Connection::room)
    }

    /// Whether nothing of the host's stream will reach the guest any more, whatever it reads or sends.
    pub(super) fn is_done_reading(&self, key: Key) -> bool {
        self.open.get(&key).is_none_or(Connection::is_done_reading)
    }

    /// `size` bytes of the host's stream, at most [`Connections::room`], go to the guest: their header.
    pub(super) fn host_sent(&mut self, key: Key, size: usize) -> Option<Header> {
        let size = u32::try_from(size.min(self.room(key))).ok()?;
        let connection = self.open.get_mut(&key)?;
        connection.sent = connection.sent.wrapping_add(size);
        if connection.credit() == 0 && !connection.asked_credit {
            connection.asks_credit = true;
        }
        let header = Header { op: op::RW, length: size, ..connection.stamp() };
        Some(self.address(key, header))
    }

    /// The host's stream sends nothing more.
    pub(super) fn host_ended(&mut self, key: Key) {
        if let Some(connection) = self.open.get_mut(&key) {
            connection.host_shut |= SHUT_SEND;
        }
    }

    /// The host's stream is closed: it neither sends nor receives.
    pub(super) fn host_closed(&mut self, key: Key) {
        if let Some(connection) = self.open.get_mut(&key) {
            connection.host_shut = SHUT_BOTH;
            connection.state = State::Closing;
            connection.forward(connection.to_host.len());
        }
        self.settle(key);
    }

    /// The next bytes for the host's stream.
    pub(super) fn pending(&self, key: Key) -> &[u8] {
        self.open.get(&key).map_or(&[], |connection| connection.to_host.as_slices().0)
    }

    /// The host's stream took `size` of [`Connections::pending`].
    pub(super) fn host_took(&mut self, key: Key, size: usize) {
        if let Some(connection) = self.open.get_mut(&key) {
            connection.forward(size);
        }
        self.settle(key);
    }

    /// What the host's stream has to learn now.
    pub(super) fn duty(&mut self, key: Key) -> Option<Duty> {
        let connection = self.open.get_mut(&key)?;
        if connection.duties & SHUT_RECEIVE != 0 {
            connection.duties &= !SHUT_RECEIVE;
            return Some(Duty::EndReads);
        }
        if connection.duties & SHUT_SEND != 0 && connection.to_host.is_empty() {
            connection.duties &= !SHUT_SEND;
            return Some(Duty::EndWrites);
        }
        None
    }

    /// Whether a packet other than bytes waits for the guest.
    pub(super) fn has_control(&self) -> bool {
        !self.resets.is_empty() || self.open.values().any(Connection::has_control)
    }

    /// The next packet for the guest other than bytes: resets first, then each connection in turn.
    pub(super) fn next_control(&mut self) -> Option<Header> {
        if let Some((key, kind)) = self.resets.pop_front() {
            let header = self.address(key, Header { op: op::RST, ..Header::default() });
            return Some(Header { kind, ..header });
        }
        let after = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let waits = |(key, connection): (&Key, &Connection)| connection.has_control().then_some(*key);
        let key = self.open.range((after, Bound::Unbounded)).find_map(waits);
        let key = key.or_else(|| self.open.iter().find_map(waits))?;
        self.last = Some(key);
        let header = self.open.get_mut(&key)?.next_control()?;
        Some(self.address(key, header))
    }

    fn address(&self, key: Key, header: Header) -> Header {
        Header {
            source_cid: self.host_cid,
            destination_cid: self.guest_cid,
            source_port: key.host_port,
            destination_port: key.guest_port,
            kind: STREAM,
            ..header
        }
    }

    /// Panics when a bound does not hold.
    #[cfg(test)]
    pub(super) fn assert_invariants(&self) {
        assert!(self.open.len() <= MAX_CONNECTIONS);
        assert!(self.resets.len() + self.open.len() <= MAX_RESETS + MAX_CONNECTIONS);
        for (key, connection) in &self.open {
            assert!(self.ports.contains(&key.host_port));
            assert!(connection.to_host.len() <= BUFFER);
            let held = connection.received.wrapping_sub(connection.forwarded);
            assert_eq!(held as usize, connection.to_host.len());
            // What the guest believes to be free is never more than what is.
            assert!(connection.received.wrapping_sub(connection.announced) >= held);
            assert_eq!(connection.told_shut & !connection.host_shut, 0);
        }
    }
}

impl Connection {
    fn asked(header: &Header) -> Self {
        Self {
            state: State::Asked,
            guest_buffer: header.buffer_size,
            guest_forwarded: header.forwarded,
            sent: 0,
            received: 0,
            forwarded: 0,
            announced: 0,
            to_host: VecDeque::new(),
            guest_shut: 0,
            duties: 0,
            host_shut: 0,
            told_shut: 0,
            owes_response: false,
            owes_credit: false,
            asks_credit: false,
            asked_credit: false,
        }
    }

    fn learn_credit(&mut self, header: &Header) {
        self.guest_buffer = header.buffer_size;
        self.guest_forwarded = header.forwarded;
        if self.credit() > 0 {
            self.asks_credit = false;
            self.asked_credit = false;
        }
    }

    /// Takes bytes of the guest. False: it sent more than it has credit for, or after it had ended that.
    fn receive(&mut self, payload: &[u8]) -> bool {
        let free = BUFFER.saturating_sub(self.to_host.len());
        let Ok(size) = u32::try_from(payload.len()) else { return false };
        if payload.len() > free || self.guest_shut & SHUT_SEND != 0 || self.state == State::Asked {
            return false;
        }
        self.received = self.received.wrapping_add(size);
        self.to_host.extend(payload);
        if self.state == State::Closing {
            // Nobody is there to take them any more; the guest will soon know.
            self.forward(payload.len());
        }
        true
    }

    fn guest_shuts(&mut self, directions: u32) {
        self.duties |= directions & !self.guest_shut;
        self.guest_shut |= directions;
    }

    /// Takes the first `size` bytes off the buffer and sees to it that the guest learns of the room.
    fn forward(&mut self, size: usize) {
        let size = size.min(self.to_host.len());
        self.to_host.drain(..size);
        self.forwarded = self.forwarded.wrapping_add(u32::try_from(size).unwrap_or(0));
        let believed_used = self.received.wrapping_sub(self.announced);
        if self.forwarded != self.announced && believed_used >= CREDIT / 2 {
            self.owes_credit = true;
        }
    }

    /// How much the guest can take.
    fn credit(&self) -> u32 {
        self.guest_buffer.saturating_sub(self.sent.wrapping_sub(self.guest_forwarded))
    }

    fn is_done_reading(&self) -> bool {
        self.guest_shut & SHUT_RECEIVE != 0 || self.host_shut & SHUT_SEND != 0
    }

    fn room(&self) -> usize {
        if self.state != State::Open || self.owes_response || self.is_done_reading() {
            return 0;
        }
        usize::try_from(self.credit()).unwrap_or(0)
    }

    fn has_control(&self) -> bool {
        self.owes_response || self.owes_credit || self.asks_credit || self.host_shut != self.told_shut
    }

    /// One packet that the guest is owed, the response first.
    fn next_control(&mut self) -> Option<Header> {
        let (op, flags) = if std::mem::take(&mut self.owes_response) {
            (op::RESPONSE, 0)
        } else if self.host_shut != self.told_shut {
            self.told_shut = self.host_shut;
            (op::SHUTDOWN, self.host_shut)
        } else if std::mem::take(&mut self.asks_credit) {
            self.asked_credit = true;
            (op::CREDIT_REQUEST, 0)
        } else if self.owes_credit {
            (op::CREDIT_UPDATE, 0)
        } else {
            return None;
        };
        Some(Header { op, flags, ..self.stamp() })
    }

    /// Every packet tells the guest how much room there is.
    fn stamp(&mut self) -> Header {
        self.announced = self.forwarded;
        self.owes_credit = false;
        Header { buffer_size: CREDIT, forwarded: self.forwarded, ..Header::default() }
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "tests choose numbers that fit")]
mod tests;
