//! One zone of the policy while `zoned` runs: its life, and what belongs to the present run of it.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use control_api::Phase;
use ipc::{Channel, ReceiveError};
use vpn_protocol::{Endpoint, VpndStatus};
use zone_protocol::agent::PORT;
use zone_protocol::vmm::{Connected, Event};

use crate::agent_link::AgentLink;
use crate::console::{Console, Flow};
use crate::launch::Ends;
use crate::lifecycle::{Lifecycle, Role};
use crate::server::ClientId;
use crate::status::TUNNEL_PATIENCE;

/// How many connections of one run's agent are worth a line in the log: a guest can make any number.
const LOGGED_CONNECTIONS: u32 = 8;

/// A zone.
#[derive(Debug)]
pub(crate) struct Zone {
    /// Its life.
    pub(crate) life: Lifecycle,
    /// Its processes, from the start until the last of them is gone.
    pub(crate) run: Option<Run>,
    /// Why its tunnel is dead for the rest of this run.
    pub(crate) tunnel_reason: Option<String>,
    /// It runs without its tunnel: since when, and how long that was when it was looked at last.
    without_tunnel: Option<(Instant, Duration)>,
}

impl Zone {
    /// A stopped zone; `has_tunnel`: the policy gives it one.
    pub(crate) fn new(has_tunnel: bool) -> Self {
        Self { life: Lifecycle::new(has_tunnel), run: None, tunnel_reason: None, without_tunnel: None }
    }

    /// Notes whether its tunnel is missing now.
    pub(crate) fn watch_tunnel(&mut self, now: Instant) {
        let missed = self.life.view().phase == Phase::Running
            && self.run.as_ref().is_some_and(|run| run.uplink.is_some() && !run.vpnd_status.up);
        self.without_tunnel = missed.then(|| {
            let since = self.without_tunnel.map_or(now, |(since, _)| since);
            (since, now.saturating_duration_since(since))
        });
    }

    /// For how long it had run without its tunnel at the last [`Zone::watch_tunnel`].
    pub(crate) fn waited(&self) -> Duration {
        self.without_tunnel.map(|(_, waited)| waited).unwrap_or_default()
    }

    /// When its user has to be told that the tunnel is missing; `None` once that was noticed.
    pub(crate) fn tunnel_deadline(&self) -> Option<Instant> {
        let (since, waited) = self.without_tunnel?;
        (waited < TUNNEL_PATIENCE).then(|| since + TUNNEL_PATIENCE)
    }
}

/// What belongs to one run.
#[derive(Debug)]
pub(crate) struct Run {
    /// The VMM's number.
    pub(crate) vmm: u32,
    /// The tunnel process's number.
    pub(crate) vpnd: Option<u32>,
    /// From and to the VMM.
    pub(crate) events: Option<Channel>,
    /// The agent's connections, from the VMM.
    pub(crate) agents: Option<Channel>,
    /// The guest's console.
    pub(crate) console: Console,
    /// Whether the console's other end is open.
    pub(crate) console_flow: Flow,
    /// From the tunnel process.
    pub(crate) status: Option<Channel>,
    /// What it said last.
    pub(crate) vpnd_status: VpndStatus,
    /// The uplink's end of the datagram pair, and where the peers are.
    pub(crate) uplink: Option<(OwnedFd, Vec<Endpoint>)>,
    /// The agent's connection.
    pub(crate) link: Option<AgentLink>,
    /// Checks that the agent runs, by number.
    pub(crate) checks: BTreeMap<u32, Check>,
    /// Processes whose death was ordered.
    pub(crate) killed: Vec<Role>,
    /// Connections that the guest made, for the log's limit.
    connections: u32,
}

/// A check that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Check {
    /// Who waits for it.
    pub(crate) client: ClientId,
    /// How long it waits.
    pub(crate) deadline: Instant,
}

impl Run {
    /// A run that was just asked for.
    pub(crate) fn new(ends: Ends, vmm: u32, vpnd: Option<u32>) -> Self {
        let (status, uplink) = match ends.tunnel {
            Some(tunnel) => (Some(tunnel.status), Some((tunnel.datagrams, tunnel.endpoints))),
            None => (None, None),
        };
        Self {
            vmm,
            vpnd,
            events: Some(ends.events),
            agents: Some(ends.agent),
            console: Console::new(ends.console),
            console_flow: Flow::Open,
            status,
            vpnd_status: VpndStatus::default(),
            uplink,
            link: None,
            checks: BTreeMap::new(),
            killed: Vec::new(),
            connections: 0,
        }
    }

    /// Whether what the agent's connection does now may still be logged.
    pub(crate) fn may_log(&self) -> bool {
        self.connections <= LOGGED_CONNECTIONS
    }

    /// Which of its processes has this number.
    pub(crate) fn role_of(&self, process: u32) -> Option<Role> {
        if self.vmm == process {
            return Some(Role::Vmm);
        }
        (self.vpnd == Some(process)).then_some(Role::Vpnd)
    }

    /// The number of a process.
    pub(crate) fn process(&self, role: Role) -> Option<u32> {
        match role {
            Role::Vmm => Some(self.vmm),
            Role::Vpnd => self.vpnd,
        }
    }

    /// What the VMM said, one message at a time.
    pub(crate) fn next_event(&mut self) -> Option<Event> {
        receive(&mut self.events)
    }

    /// What the tunnel process said last; `true` when there was something.
    pub(crate) fn read_status(&mut self) -> bool {
        let Some(status) = receive(&mut self.status) else { return false };
        self.vpnd_status = status;
        true
    }

    /// Takes one new connection of the guest: the last one counts, since the agent reconnects when it lost
    /// the one before. Anything but the agent's port is closed. Returns whether a connection was replaced.
    pub(crate) fn accept_agent(&mut self) -> bool {
        let Some(channel) = &self.agents else { return false };
        match channel.receive::<Connected>() {
            Ok((Connected { port: PORT }, mut streams)) => {
                let Some(stream) = streams.pop() else { return false };
                let Ok(link) = AgentLink::new(stream) else { return false };
                self.connections = self.connections.saturating_add(1);
                self.link.replace(link).is_some()
            }
            Ok((Connected { port }, _)) => {
                tracing::debug!(port, "guest named a port that nobody serves");
                false
            }
            Err(ReceiveError::WouldBlock | ReceiveError::Malformed) => false,
            Err(ReceiveError::Closed | ReceiveError::Io(_)) => {
                self.agents = None;
                false
            }
        }
    }
}

/// Reads one message, closing a channel whose other end is gone.
fn receive<T: serde::de::DeserializeOwned>(channel: &mut Option<Channel>) -> Option<T> {
    loop {
        match channel.as_ref()?.receive() {
            Ok((message, _)) => return Some(message),
            // Consumed; the sender is one of ours but serves a guest, so it is not believed to be well.
            Err(ReceiveError::Malformed) => tracing::debug!("malformed message from a zone's process"),
            Err(ReceiveError::WouldBlock) => return None,
            Err(ReceiveError::Closed | ReceiveError::Io(_)) => *channel = None,
        }
    }
}
