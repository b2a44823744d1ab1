//! The connection to `zoned`.
//!
//! Three Varlink connections: one that monitors, one that calls, and one for calls that are answered when the
//! machine's TPM has spoken, which may take [`OPENING`]. Nothing here waits: [`ZonedLink::service`] reads and writes
//! what is possible now and says what happened. A broken connection is made anew after [`RETRY`], and all three with it;
//! a `zoned` that is connected but leaves a call without an answer for [`PATIENCE`] is reported as silent. To notice
//! that without a user, a small call is sent every [`PROBE`].
//!
//! A PIN or a recovery key passes through here once and is never printed.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use control_api::Pin;
use control_api::client::{Client, ClientError};
use control_api::wire::{CallError, Method, Reply};
use desktop_model::pad::NotOpened;
use desktop_model::picker::{Action, Link, Millis, OPENING};

use crate::convert;

/// A broken connection is tried again after so long.
pub const RETRY: Millis = 500;
/// A call may take so long.
pub const PATIENCE: Millis = 3_000;
/// An idle connection is probed so often.
pub const PROBE: Millis = 10_000;

/// What happened on the connection.
#[derive(Clone, Debug, PartialEq)]
pub enum LinkEvent {
    /// The connection is in another state.
    State(Link),
    /// A status came.
    Status(control_api::Status),
    /// A zone was opened, and starts.
    Opened {
        /// The zone.
        zone: String,
    },
    /// A zone was not opened.
    NotOpened(NotOpened),
    /// A zone has another PIN.
    PinChanged {
        /// The zone.
        zone: String,
    },
    /// The display's lock was lifted.
    Unlocked,
    /// The display's lock was not lifted, or its PIN not changed.
    NotUnlocked(NotOpened),
    /// The same, for a reason of `zoned` itself.
    ScreenFailed {
        /// The reason, a sentence.
        why: String,
    },
    /// The display has another PIN.
    ScreenPinChanged,
    /// The display is not locked.
    LockRefused {
        /// The reason, a sentence.
        why: String,
    },
    /// A recovery key was made.
    KeyMade(Pin),
    /// The recovery key was noted.
    KeyNoted,
    /// It was not made, or not noted.
    KeyFailed {
        /// The reason, a sentence.
        why: String,
    },
    /// A request was refused, or could not be sent.
    Failed {
        /// The zone that it was about.
        zone: String,
        /// The reason, a sentence.
        why: String,
    },
}

/// What a call is about.
#[derive(Debug)]
enum About {
    /// Whether `zoned` answers.
    Probe,
    Zone(String),
    /// Another PIN for a zone.
    ZonePin(String),
    /// The lifting of the display's lock.
    Unlock,
    /// Another PIN for the display.
    ScreenPin,
    /// The locking of the display. The picker itself asks again when the connection is lost before the answer.
    Lock,
    /// The recovery key: made, or noted.
    Key,
}

impl About {
    /// What came of it, when that is nothing.
    fn failed(self, why: String) -> Option<LinkEvent> {
        match self {
            Self::Probe | Self::Lock => None,
            Self::Unlock | Self::ScreenPin => Some(LinkEvent::ScreenFailed { why }),
            Self::Zone(zone) | Self::ZonePin(zone) => Some(LinkEvent::Failed { zone, why }),
            Self::Key => Some(LinkEvent::KeyFailed { why }),
        }
    }
}

/// A call without an answer yet.
#[derive(Debug)]
struct Outstanding {
    about: About,
    since: Millis,
}

/// A connection that calls, and what waits for an answer on it, oldest first.
#[derive(Debug)]
struct Caller {
    client: Client,
    outstanding: VecDeque<Outstanding>,
}

#[derive(Debug)]
struct Connections {
    monitor: Client,
    calls: Caller,
    openings: Caller,
    probe_at: Millis,
}

/// The connection.
#[derive(Debug)]
pub struct ZonedLink {
    path: PathBuf,
    state: Link,
    connections: Option<Connections>,
    retry_at: Millis,
}

impl ZonedLink {
    /// To the socket at `path`; the first [`Self::service`] connects.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), state: Link::Connecting, connections: None, retry_at: 0 }
    }

    /// Descriptors to wait for, and whether for writing too.
    pub fn descriptors(&self) -> impl Iterator<Item = (BorrowedFd<'_>, bool)> {
        let clients = self.connections.iter().flat_map(|connections| {
            [&connections.monitor, &connections.calls.client, &connections.openings.client]
        });
        clients.map(|client| (client.as_fd(), client.wants_write()))
    }

    /// When [`Self::service`] has something to do without any descriptor being ready.
    #[must_use]
    pub fn deadline(&self) -> Millis {
        let Some(connections) = &self.connections else { return self.retry_at };
        let silent = connections.calls.overdue_at(PATIENCE).filter(|_| self.state == Link::Up);
        // An opening that takes too long is noticed with a probe.
        silent.map_or(connections.probe_at, |at| at.min(connections.probe_at))
    }

    /// Asks `zoned` for what the user wants.
    pub fn request(&mut self, now: Millis, action: Action) -> Option<LinkEvent> {
        let (method, about, opening) = match action {
            Action::Start { zone } => (Method::Start(zone.clone()), About::Zone(zone), true),
            Action::Open { zone, pin } => {
                (Method::Open { zone: zone.clone(), pin: convert::pin(&pin) }, About::Zone(zone), true)
            }
            Action::Recover { zone, key, pin } => {
                let (key, pin) = (convert::key(&key), convert::pin(&pin));
                (Method::Recover { zone: zone.clone(), key, pin }, About::Zone(zone), true)
            }
            Action::ChangePin { zone, pin, new } => {
                let (pin, new) = (convert::pin(&pin), convert::pin(&new));
                (Method::ChangePin { zone: zone.clone(), pin, new }, About::ZonePin(zone), true)
            }
            Action::UnlockScreen { pin } => (Method::UnlockScreen(convert::pin(&pin)), About::Unlock, true),
            Action::RecoverScreen { key, pin } => {
                let (key, pin) = (convert::key(&key), convert::pin(&pin));
                (Method::RecoverScreen { key, pin }, About::Unlock, true)
            }
            Action::ChangeScreenPin { pin, new } => {
                let (pin, new) = (convert::pin(&pin), convert::pin(&new));
                (Method::ChangeScreenPin { pin, new }, About::ScreenPin, true)
            }
            Action::LockScreen => (Method::LockScreen, About::Lock, false),
            Action::Lock { zone } => (Method::Lock(zone.clone()), About::Zone(zone), false),
            // keeper may be busy with an opening.
            Action::NewRecoveryKey => (Method::NewRecoveryKey, About::Key, true),
            Action::NoteRecoveryKey { key } => {
                (Method::NoteRecoveryKey(convert::key(&key)), About::Key, true)
            }
            Action::Resume { zone } => (Method::Resume(zone.clone()), About::Zone(zone), false),
            Action::Stop { zone } => (Method::Stop(zone.clone()), About::Zone(zone), false),
        };
        let Some(connections) = &mut self.connections else {
            return about.failed("zoned cannot be reached".to_owned());
        };
        let caller = if opening { &mut connections.openings } else { &mut connections.calls };
        match caller.client.begin(method) {
            Ok(()) => {
                caller.outstanding.push_back(Outstanding { about, since: now });
                None
            }
            Err(error) => about.failed(error.to_string()),
        }
    }

    /// Does what can be done now.
    pub fn service(&mut self, now: Millis) -> Vec<LinkEvent> {
        let mut events = Vec::new();
        if self.connections.is_none() && now >= self.retry_at {
            self.connect(now, &mut events);
        }
        let Some(connections) = &mut self.connections else { return events };
        if let Err(why) = connections.service(now, &mut events) {
            tracing::warn!(why, "connection to zoned is lost");
            let lost = self.connections.take().into_iter();
            let lost = lost.flat_map(|lost| [lost.calls, lost.openings]).flat_map(|lost| lost.outstanding);
            events.extend(lost.filter_map(|call| call.about.failed(format!("{why} before it answered."))));
            self.retry_at = now.saturating_add(RETRY);
            self.enter(Link::Lost, &mut events);
            return events;
        }
        let silent = connections.calls.overdue_at(PATIENCE).is_some_and(|at| now >= at);
        self.enter(if silent { Link::Silent } else { Link::Up }, &mut events);
        events
    }

    fn connect(&mut self, now: Millis, events: &mut Vec<LinkEvent>) {
        let connect = || -> Result<Connections, Box<dyn std::error::Error>> {
            let mut monitor = Client::connect(&self.path)?;
            let calls = Caller::connect(&self.path)?;
            let openings = Caller::connect(&self.path)?;
            monitor.begin(Method::Monitor)?;
            Ok(Connections { monitor, calls, openings, probe_at: now.saturating_add(PROBE) })
        };
        match connect() {
            Ok(connections) => {
                tracing::info!("connected to zoned");
                self.connections = Some(connections);
                self.enter(Link::Up, events);
            }
            Err(error) => {
                tracing::debug!(%error, "zoned cannot be reached");
                self.retry_at = now.saturating_add(RETRY);
            }
        }
    }

    fn enter(&mut self, state: Link, events: &mut Vec<LinkEvent>) {
        if self.state != state {
            self.state = state;
            events.push(LinkEvent::State(state));
        }
    }
}

impl Caller {
    fn connect(path: &Path) -> io::Result<Self> {
        Ok(Self { client: Client::connect(path)?, outstanding: VecDeque::new() })
    }

    /// When the oldest call has waited for so long.
    fn overdue_at(&self, patience: Millis) -> Option<Millis> {
        self.outstanding.front().map(|call| call.since.saturating_add(patience))
    }

    /// The answers that are there, each with what its call was about: they come in the order of the calls.
    fn answers(&mut self) -> Result<Vec<(About, Reply)>, String> {
        self.client.flush().map_err(gone)?;
        let mut answers = Vec::new();
        for reply in self.client.read_events().map_err(gone)? {
            let call = self.outstanding.pop_front().ok_or("zoned answered to nothing")?;
            answers.push((call.about, reply));
        }
        Ok(answers)
    }
}

impl Connections {
    /// Reads and writes what is possible; an error is the end of all connections.
    fn service(&mut self, now: Millis, events: &mut Vec<LinkEvent>) -> Result<(), String> {
        self.monitor.flush().map_err(gone)?;
        for reply in self.monitor.read_events().map_err(gone)? {
            match reply {
                Reply::Status(status) => events.push(LinkEvent::Status(status)),
                Reply::Error(error) => return Err(format!("zoned refused to be watched ({error})")),
                Reply::Check(_) | Reply::Audit(_) | Reply::Key(_) | Reply::Done | Reply::Service(_) => {}
            }
        }
        for (about, reply) in self.calls.answers()? {
            events.extend(match (about, reply) {
                (About::Zone(zone), reply) => failure(zone, reply),
                (About::Lock, Reply::Error(error)) => Some(LinkEvent::LockRefused { why: error.to_string() }),
                _ => None,
            });
        }
        for (about, reply) in self.openings.answers()? {
            events.extend(opening_event(about, reply));
        }
        if self.openings.overdue_at(OPENING).is_some_and(|at| now >= at) {
            // A late answer must not be taken for the answer to another try.
            return Err("zoned was given up".to_owned());
        }
        if now >= self.probe_at {
            self.probe_at = now.saturating_add(PROBE);
            // One unanswered call is enough to know; more would only fill the socket of a hung zoned.
            if self.calls.outstanding.is_empty() {
                self.calls.client.begin(Method::GetInfo).map_err(gone)?;
                self.calls.outstanding.push_back(Outstanding { about: About::Probe, since: now });
            }
        }
        Ok(())
    }
}

/// What a user hears of a connection that ended.
fn gone(error: ClientError) -> String {
    tracing::debug!(%error, "connection to zoned");
    "zoned went away".to_owned()
}

/// What went wrong with a zone's request, if anything did.
fn failure(zone: String, reply: Reply) -> Option<LinkEvent> {
    match reply {
        Reply::Error(CallError::NotOpened { zone: _, cause, reason, tries_left }) => {
            let cause = convert::cause(cause);
            Some(LinkEvent::NotOpened(NotOpened { zone, cause, reason, tries_left }))
        }
        Reply::Error(error) => Some(LinkEvent::Failed { zone, why: error.to_string() }),
        Reply::Status(_)
        | Reply::Check(_)
        | Reply::Audit(_)
        | Reply::Key(_)
        | Reply::Done
        | Reply::Service(_) => None,
    }
}

/// What came of a call that needs the machine's TPM.
fn opening_event(about: About, reply: Reply) -> Option<LinkEvent> {
    match about {
        About::Probe | About::Lock => None,
        About::Zone(zone) => {
            let opened = LinkEvent::Opened { zone: zone.clone() };
            Some(failure(zone, reply).unwrap_or(opened))
        }
        About::ZonePin(zone) => {
            let changed = LinkEvent::PinChanged { zone: zone.clone() };
            Some(failure(zone, reply).unwrap_or(changed))
        }
        About::Unlock => Some(screen_failure(reply).unwrap_or(LinkEvent::Unlocked)),
        About::ScreenPin => Some(screen_failure(reply).unwrap_or(LinkEvent::ScreenPinChanged)),
        About::Key => Some(key_event(reply)),
    }
}

/// What went wrong with a request about the display's lock. Only an answer that says so lifts it.
fn screen_failure(reply: Reply) -> Option<LinkEvent> {
    if reply == Reply::Done {
        return None;
    }
    Some(match failure(String::new(), reply) {
        Some(LinkEvent::NotOpened(why)) => LinkEvent::NotUnlocked(why),
        Some(LinkEvent::Failed { why, .. }) => LinkEvent::ScreenFailed { why },
        _ => LinkEvent::ScreenFailed { why: "zoned answered to something else.".to_owned() },
    })
}

/// What came of a call about the recovery key.
fn key_event(reply: Reply) -> LinkEvent {
    match reply {
        Reply::Key(key) => LinkEvent::KeyMade(key),
        Reply::Done => LinkEvent::KeyNoted,
        Reply::Error(error) => LinkEvent::KeyFailed { why: error.to_string() },
        Reply::Status(_) | Reply::Check(_) | Reply::Audit(_) | Reply::Service(_) => {
            LinkEvent::KeyFailed { why: "zoned answered to something else.".to_owned() }
        }
    }
}

#[cfg(test)]
mod tests;
