//! The connection to `zoned`.
//!
//! Two Varlink connections: one that monitors, one that calls. Nothing here waits: [`ZonedLink::service`] reads
//! and writes what is possible now and says what happened. A broken connection is made anew after
//! [`RETRY`]; a `zoned` that is connected but leaves a call without an answer for [`PATIENCE`] is reported as
//! silent. To notice that without a user, a small call is sent every [`PROBE`].

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use control_api::client::Client;
use control_api::wire::{Method, Reply};
use desktop_model::picker::{Action, Link, Millis};

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
    /// A request was refused, or could not be sent.
    Failed {
        /// The zone that it was about.
        zone: String,
        /// The reason, a sentence.
        why: String,
    },
}

/// A call without an answer yet.
#[derive(Debug)]
struct Outstanding {
    /// The zone that it is about; `None`: a probe.
    zone: Option<String>,
    since: Millis,
}

#[derive(Debug)]
struct Connections {
    monitor: Client,
    calls: Client,
    outstanding: VecDeque<Outstanding>,
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
        let clients =
            self.connections.iter().flat_map(|connections| [&connections.monitor, &connections.calls]);
        clients.map(|client| (client.as_fd(), client.wants_write()))
    }

    /// When [`Self::service`] has something to do without any descriptor being ready.
    #[must_use]
    pub fn deadline(&self) -> Millis {
        let Some(connections) = &self.connections else { return self.retry_at };
        let oldest = connections.outstanding.front().filter(|_| self.state == Link::Up);
        oldest.map_or(connections.probe_at, |call| {
            call.since.saturating_add(PATIENCE).min(connections.probe_at)
        })
    }

    /// Asks `zoned` for what the user wants.
    pub fn request(&mut self, now: Millis, action: Action) -> Option<LinkEvent> {
        let (method, zone) = match action {
            Action::Start { zone } => (Method::Start(zone.clone()), zone),
            Action::Resume { zone } => (Method::Resume(zone.clone()), zone),
            Action::Stop { zone } => (Method::Stop(zone.clone()), zone),
        };
        let Some(connections) = &mut self.connections else {
            return Some(LinkEvent::Failed { zone, why: "zoned cannot be reached".to_owned() });
        };
        match connections.calls.begin(method) {
            Ok(()) => {
                connections.outstanding.push_back(Outstanding { zone: Some(zone), since: now });
                None
            }
            Err(error) => Some(LinkEvent::Failed { zone, why: error.to_string() }),
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
            let lost = self.connections.take().map(|connections| connections.outstanding).unwrap_or_default();
            events.extend(lost.into_iter().filter_map(|call| {
                Some(LinkEvent::Failed {
                    zone: call.zone?,
                    why: "zoned went away before it answered".to_owned(),
                })
            }));
            self.retry_at = now.saturating_add(RETRY);
            self.enter(Link::Lost, &mut events);
            return events;
        }
        let silent =
            connections.outstanding.front().is_some_and(|call| now >= call.since.saturating_add(PATIENCE));
        self.enter(if silent { Link::Silent } else { Link::Up }, &mut events);
        events
    }

    fn connect(&mut self, now: Millis, events: &mut Vec<LinkEvent>) {
        let connect = || -> Result<Connections, Box<dyn std::error::Error>> {
            let mut monitor = Client::connect(&self.path)?;
            let calls = Client::connect(&self.path)?;
            monitor.begin(Method::Monitor)?;
            Ok(Connections {
                monitor,
                calls,
                outstanding: VecDeque::new(),
                probe_at: now.saturating_add(PROBE),
            })
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

impl Connections {
    /// Reads and writes what is possible; an error is the end of both connections.
    fn service(&mut self, now: Millis, events: &mut Vec<LinkEvent>) -> Result<(), String> {
        let broken = |error: control_api::client::ClientError| error.to_string();
        self.monitor.flush().map_err(broken)?;
        self.calls.flush().map_err(broken)?;
        for reply in self.monitor.read_events().map_err(broken)? {
            match reply {
                Reply::Status(status) => events.push(LinkEvent::Status(status)),
                Reply::Error(error) => return Err(format!("Monitor: {error}")),
                Reply::Check(_) | Reply::Audit(_) | Reply::Done | Reply::Service(_) => {}
            }
        }
        for reply in self.calls.read_events().map_err(broken)? {
            // Answers come in the order of the calls.
            let call = self.outstanding.pop_front().ok_or("an answer to nothing")?;
            if let (Reply::Error(error), Some(zone)) = (reply, call.zone) {
                events.push(LinkEvent::Failed { zone, why: error.to_string() });
            }
        }
        if now >= self.probe_at {
            self.probe_at = now.saturating_add(PROBE);
            // One unanswered call is enough to know; more would only fill the socket of a hung zoned.
            if self.outstanding.is_empty() {
                self.calls.begin(Method::GetInfo).map_err(broken)?;
                self.outstanding.push_back(Outstanding { zone: None, since: now });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
