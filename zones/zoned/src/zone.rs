//! One zone of the policy while `zoned` runs: its life, and what belongs to the present run of it.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use control_api::Phase;
use ipc::{Channel, ReceiveError};
use vpn_protocol::{Endpoint, VpndStatus};
use zone_protocol::agent::PORT;
use zone_protocol::keeper::{PinState, Start};
use zone_protocol::vmm::{Connected, Event};

use crate::agent_link::AgentLink;
use crate::console::{Console, Flow};
use crate::daemon::Kept;
use crate::launch::{Ends, TunnelEnds};
use crate::lifecycle::{Lifecycle, Role};
use crate::server::ClientId;
use crate::status::TUNNEL_PATIENCE;
use crate::steps::Steps;

/// How many connections of one run's agent are worth a line in the log: a guest can make any number.
const LOGGED_CONNECTIONS: u32 = 8;

/// A zone.
#[derive(Debug)]
pub(crate) struct Zone {
    /// Its life.
    pub(crate) life: Lifecycle,
    /// Its processes, from the start until the last of them is gone.
    pub(crate) run: Option<Run>,
    /// The private key of its tunnel, from when the zone was opened until it stopped.
    pub(crate) tunnel_key: Option<OwnedFd>,
    /// What `keeper` said of it.
    pub(crate) pin: Option<PinState>,
    /// The start that is under way.
    pub(crate) steps: Steps,
    /// What `init` keeps of it.
    pub(crate) kept: Option<Kept>,
    /// It runs without its tunnel: since when, and how long that was when it was looked at last.
    without_tunnel: Option<(Instant, Duration)>,
}

impl Zone {
    /// A stopped zone; `has_tunnel`: the policy gives it one.
    pub(crate) fn new(has_tunnel: bool, now: Instant) -> Self {
        let life = Lifecycle::new(has_tunnel, now);
        let steps = Steps::default();
        Self { life, run: None, tunnel_key: None, pin: None, steps, kept: None, without_tunnel: None }
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
    /// Rises when descriptors are replaced.
    pub(crate) generation: u32,
    /// The VMM's number.
    pub(crate) vmm: u32,
    /// The tunnel process's number.
    pub(crate) vpnd: Option<u32>,
    /// The virtual TPM's number, and what it begins with.
    pub(crate) tpm: (u32, Start),
    /// The private disk's file, until the VMM has the disk.
    pub(crate) private: Option<OwnedFd>,
    /// The TPM's channels, while they wait for that disk.
    pub(crate) ready: Option<[OwnedFd; 2]>,
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
    pub(crate) fn new(ends: Ends, vmm: u32, vpnd: Option<u32>, tpm: (u32, Start)) -> Self {
        let mut run = Self::of(vmm, vpnd, tpm, ends.console);
        (run.events, run.agents) = (Some(ends.events), Some(ends.agent));
        if let Some(tunnel) = ends.tunnel {
            run.connect_tunnel(tunnel);
        }
        run
    }

    fn of(vmm: u32, vpnd: Option<u32>, tpm: (u32, Start), console: OwnedFd) -> Self {
        Self {
            generation: 0,
            vmm,
            vpnd,
            tpm,
            private: None,
            ready: None,
            events: None,
            agents: None,
            console: Console::new(console),
            console_flow: Flow::Open,
            status: None,
            vpnd_status: VpndStatus::default(),
            uplink: None,
            link: None,
            checks: BTreeMap::new(),
            killed: Vec::new(),
            connections: 0,
        }
    }

    /// A run that an earlier `zoned` began, from what it stored; `endpoints`: where its tunnel's peers are.
    ///
    /// # Errors
    /// Descriptors are missing: a fragment.
    pub(crate) fn adopted(
        descriptors: Vec<(String, OwnedFd)>,
        vmm: u32,
        vpnd: Option<u32>,
        tpm: (u32, Start),
        endpoints: Option<Vec<Endpoint>>,
    ) -> Result<Self, String> {
        let mut by_name: BTreeMap<String, OwnedFd> = descriptors.into_iter().collect();
        let console = by_name.remove("console").ok_or("its console was not stored")?;
        let mut run = Self::of(vmm, vpnd, tpm, console);
        run.events = by_name.remove("events").map(Channel::from_descriptor);
        run.agents = by_name.remove("agent").map(Channel::from_descriptor);
        run.status = by_name.remove("status").map(Channel::from_descriptor);
        if let Some(endpoints) = endpoints {
            run.uplink = Some((by_name.remove("uplink").ok_or("its tunnel was not stored")?, endpoints));
        }
        Ok(run)
    }

    /// Takes the ends of a tunnel whose process was just asked for.
    pub(crate) fn connect_tunnel(&mut self, tunnel: TunnelEnds) {
        self.generation = self.generation.wrapping_add(1);
        self.status = Some(tunnel.status);
        self.uplink = Some((tunnel.datagrams, tunnel.endpoints));
        self.vpnd_status = VpndStatus::default();
    }

    /// What the next `zoned` needs of it, by the names that [`Run::adopted`] knows.
    pub(crate) fn descriptors(&self) -> Vec<(&'static str, BorrowedFd<'_>)> {
        let channels = [("events", &self.events), ("agent", &self.agents), ("status", &self.status)];
        let mut all = vec![("console", self.console.as_fd())];
        all.extend(channels.iter().filter_map(|(name, channel)| Some((*name, channel.as_ref()?.as_fd()))));
        all.extend(self.uplink.iter().map(|(datagrams, _)| ("uplink", datagrams.as_fd())));
        all
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
        if self.tpm.0 == process {
            return Some(Role::Tpm);
        }
        (self.vpnd == Some(process)).then_some(Role::Vpnd)
    }

    /// The number of a process.
    pub(crate) fn process(&self, role: Role) -> Option<u32> {
        match role {
            Role::Vmm => Some(self.vmm),
            Role::Vpnd => self.vpnd,
            Role::Tpm => Some(self.tpm.0),
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
