//! The Varlink socket: clients, their calls and their replies.
//!
//! Every connection is non-blocking and bounded: one call at a time, the next one is read when the reply was
//! written; a monitor that reads slowly misses states in between but never the last one; a client that does
//! not read at all is dropped. (This is why `zlink`'s own server loop is not used: it waits for each reply
//! to be written and each method to return, so one client could hold up all. The tests use `zlink` as the
//! other end.)

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use control_api::wire::{Call, CallError, Continues, Frames, MAX_CALL, Method, Reply};
use control_api::{DESCRIPTION, INTERFACE, Status};
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::SocketFlags;
use serde_json::json;
use zeroize::{Zeroize, Zeroizing};

/// The most clients at the same time.
const MAX_CLIENTS: usize = 16;

/// The least time between two states for one monitor.
const MONITOR_INTERVAL: Duration = Duration::from_millis(250);

/// How long a client may leave its replies unread.
const STUCK: Duration = Duration::from_secs(10);

/// Names a client for as long as it is connected; never used twice.
pub(crate) type ClientId = u64;

#[derive(Debug)]
enum Mode {
    /// Waits for its next call.
    Idle,
    /// Its call is being carried out.
    Called,
    /// It monitors; when it was last told.
    Monitors { told: Option<Instant>, stale: bool },
}

#[derive(Debug)]
struct Client {
    stream: OwnedFd,
    frames: Frames,
    unsent: Vec<u8>,
    /// Since when it takes nothing of what is unsent.
    blocked: Option<Instant>,
    mode: Mode,
    oneway: bool,
}

/// The client broke the protocol, went away or does not read.
#[derive(Debug)]
struct Gone(&'static str);

/// The socket and its clients.
#[derive(Debug)]
pub(crate) struct Server {
    listener: OwnedFd,
    clients: BTreeMap<ClientId, Client>,
    next_client: ClientId,
}

impl Server {
    /// Takes the listening socket.
    ///
    /// # Errors
    /// What `ioctl(FIONBIO)` reports.
    pub(crate) fn new(listener: OwnedFd) -> Result<Self, Errno> {
        rustix::io::ioctl_fionbio(&listener, true)?;
        Ok(Self { listener, clients: BTreeMap::new(), next_client: 1 })
    }

    /// The listening socket, for poll.
    pub(crate) fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Every client's socket and what to wait for.
    pub(crate) fn interests(&self) -> impl Iterator<Item = (ClientId, BorrowedFd<'_>, PollFlags)> {
        self.clients.iter().map(|(id, client)| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, !matches!(client.mode, Mode::Called) && client.unsent.is_empty());
            flags.set(PollFlags::OUT, !client.unsent.is_empty());
            (*id, client.stream.as_fd(), flags)
        })
    }

    /// Takes one new client.
    pub(crate) fn accept(&mut self) {
        let Ok(stream) =
            rustix::net::accept_with(&self.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)
        else {
            return;
        };
        if self.clients.len() >= MAX_CLIENTS {
            tracing::warn!("a client was turned away: {MAX_CLIENTS} are connected");
            return;
        }
        let client = Client {
            stream,
            frames: Frames::new(MAX_CALL),
            unsent: Vec::new(),
            blocked: None,
            mode: Mode::Idle,
            oneway: false,
        };
        self.clients.insert(self.next_client, client);
        self.next_client += 1;
    }

    /// Carries on with a client whose socket is ready. Returns its next call, if there is one; calls that
    /// concern no zone are answered here.
    pub(crate) fn ready(&mut self, id: ClientId, flags: PollFlags, now: Instant) -> Option<Method> {
        let client = self.clients.get_mut(&id)?;
        let call = match client.ready(flags, now) {
            Ok(call) => call,
            Err(Gone(reason)) => {
                tracing::debug!(client = id, reason, "client left");
                self.clients.remove(&id);
                return None;
            }
        };
        match call? {
            Ok(call) => self.begin(id, call, now),
            Err(error) => {
                self.reply(id, &Reply::Error(error), now);
                None
            }
        }
    }

    fn begin(&mut self, id: ClientId, call: Call, now: Instant) -> Option<Method> {
        let client = self.clients.get_mut(&id)?;
        client.oneway = call.oneway;
        let answer = match call.method {
            Method::GetInfo => Reply::Service(json!({
                "vendor": "Bulkhead",
                "product": "zoned",
                "version": env!("CARGO_PKG_VERSION"),
                "url": "",
                "interfaces": ["org.varlink.service", INTERFACE],
            })),
            Method::GetInterfaceDescription(name) if name == INTERFACE => {
                Reply::Service(json!({ "description": DESCRIPTION }))
            }
            Method::GetInterfaceDescription(name) => Reply::Error(CallError::InterfaceNotFound(name)),
            // Without "more" it is one state.
            Method::Monitor if !call.more => return Some(Method::Status),
            Method::Monitor => {
                client.mode = Mode::Monitors { told: None, stale: true };
                return Some(Method::Monitor);
            }
            method @ (Method::Status
            | Method::Start(_)
            | Method::Open { .. }
            | Method::Recover { .. }
            | Method::ChangePin { .. }
            | Method::Lock(_)
            | Method::LockScreen
            | Method::UnlockScreen(_)
            | Method::ChangeScreenPin { .. }
            | Method::RecoverScreen { .. }
            | Method::NewRecoveryKey
            | Method::NoteRecoveryKey(_)
            | Method::Stop(_)
            | Method::Kill(_)
            | Method::Restart(_)
            | Method::Pause(_)
            | Method::Resume(_)
            | Method::RunCheck { .. }
            | Method::Audit { .. }
            | Method::PowerOff) => return Some(method),
        };
        self.reply(id, &answer, now);
        None
    }

    /// Answers a client's call; nothing when it has left.
    pub(crate) fn reply(&mut self, id: ClientId, reply: &Reply, now: Instant) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        client.mode = Mode::Idle;
        if !std::mem::take(&mut client.oneway) {
            client.unsent.extend_from_slice(&reply.encode(Continues::No));
        }
        if let Err(Gone(reason)) = client.flush(now) {
            tracing::debug!(client = id, reason, "client left");
            self.clients.remove(&id);
        }
    }

    /// Whether a client has read a whole further call already, so that its socket may stay silent.
    pub(crate) fn backlog(&self) -> Vec<ClientId> {
        let waits = |client: &Client| {
            matches!(client.mode, Mode::Idle) && client.unsent.is_empty() && client.frames.has_frame()
        };
        self.clients.iter().filter(|(_, client)| waits(client)).map(|(id, _)| *id).collect()
    }

    /// Whether the client is still connected.
    pub(crate) fn is_connected(&self, id: ClientId) -> bool {
        self.clients.contains_key(&id)
    }

    /// The state changed: every monitor is to hear of it.
    pub(crate) fn changed(&mut self) {
        for client in self.clients.values_mut() {
            if let Mode::Monitors { stale, .. } = &mut client.mode {
                *stale = true;
            }
        }
    }

    /// Tells the monitors that are due, and drops clients that do not read.
    pub(crate) fn publish(&mut self, status: &Status, now: Instant) {
        let mut encoded = None;
        self.clients.retain(|id, client| {
            if client.is_due(now) {
                let bytes: &Vec<u8> =
                    encoded.get_or_insert_with(|| Reply::Status(status.clone()).encode(Continues::Yes));
                client.unsent.extend_from_slice(bytes);
                client.mode = Mode::Monitors { told: Some(now), stale: false };
            }
            let outcome = client.flush(now);
            if let Err(Gone(reason)) = &outcome {
                tracing::debug!(client = id, reason, "client left");
            }
            outcome.is_ok()
        });
    }

    /// When [`Server::publish`] is due, if nothing else happens before.
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        self.clients.values().filter_map(|client| client.deadline(now)).min()
    }
}

impl Client {
    fn ready(&mut self, flags: PollFlags, now: Instant) -> Result<Option<Result<Call, CallError>>, Gone> {
        if flags.intersects(PollFlags::OUT) {
            self.flush(now)?;
        }
        if flags.intersects(PollFlags::IN) {
            self.read()?;
        } else if flags.intersects(PollFlags::HUP | PollFlags::ERR) {
            return Err(Gone("closed"));
        }
        if !matches!(self.mode, Mode::Idle) || !self.unsent.is_empty() {
            return Ok(None);
        }
        let frame = self.frames.next_frame().map_err(|_endless| Gone("endless call"))?;
        let Some(frame) = frame else { return Ok(None) };
        self.mode = Mode::Called;
        Call::decode(&frame).map(Some).map_err(|_malformed| Gone("malformed call"))
    }

    fn read(&mut self) -> Result<(), Gone> {
        let mut bytes = Zeroizing::new([0_u8; 4096]);
        match rustix::io::read(&self.stream, &mut bytes[..]) {
            Ok(0) => Err(Gone("closed")),
            Ok(_) if matches!(self.mode, Mode::Monitors { .. }) => {
                Err(Gone("call on a monitoring connection"))
            }
            Ok(count) => {
                self.frames.push(bytes.get(..count).unwrap_or_default());
                Ok(())
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            Err(_) => Err(Gone("failed")),
        }
    }

    fn flush(&mut self, now: Instant) -> Result<(), Gone> {
        while !self.unsent.is_empty() {
            match rustix::net::send(&self.stream, &self.unsent, rustix::net::SendFlags::NOSIGNAL) {
                Ok(written) => {
                    self.blocked = None;
                    self.unsent.drain(..written);
                    if self.unsent.is_empty() {
                        // With what lies behind its end: it may have been a recovery key.
                        self.unsent.zeroize();
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    let since = *self.blocked.get_or_insert(now);
                    let stuck = now.saturating_duration_since(since) >= STUCK;
                    return if stuck { Err(Gone("does not read")) } else { Ok(()) };
                }
                Err(_) => return Err(Gone("failed")),
            }
        }
        Ok(())
    }

    fn is_due(&self, now: Instant) -> bool {
        let Mode::Monitors { told, stale: true } = self.mode else { return false };
        let rested = told.is_none_or(|told| now.saturating_duration_since(told) >= MONITOR_INTERVAL);
        rested && self.unsent.is_empty()
    }

    fn deadline(&self, now: Instant) -> Option<Instant> {
        if let Some(since) = self.blocked {
            return Some(since + STUCK);
        }
        let Mode::Monitors { told, stale: true } = self.mode else { return None };
        Some(told.map_or(now, |told| told + MONITOR_INTERVAL))
    }
}

#[cfg(test)]
mod tests;
