//! The one loop: waits for every descriptor and deadline, and hands what came to the zones' machines, the
//! clients and the other processes.
//!
//! [`Daemon::turn`] is one round. Each source gets one bounded step a round, so that none starves another.
//! An error out of it means that `init` is not there any more, or not as promised: the process ends.

mod act;
mod adopt;
mod calls;
mod disks;
mod openings;
mod screen;
mod shown;
mod tpms;

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::Context;
use control_api::{Phase, Status};
use init_protocol::{Event as InitEvent, Request};
use ipc::{Channel, ReceiveError};
use policy::Policy;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use vpn_protocol::FromUplink;
use zone_protocol::agent::Answer;
use zone_protocol::vmm::Event as VmmEvent;

pub(crate) use adopt::Kept;

use crate::agent_link::Said;
use crate::audit::Audit;
use crate::console::Flow;
use crate::lifecycle::{Event, Role, died};
use crate::server::{ClientId, Server};
use crate::settings::{Paths, Settings};
use crate::status::Notices;
use crate::steps::{Parts, Step};
use crate::template::Templates;
use crate::zone::Zone;

/// What `zoned` is given.
#[derive(Debug)]
pub(crate) struct Inherited {
    /// The channel to `init`.
    pub(crate) init: Channel,
    /// The channel to `uplink`.
    pub(crate) uplink: Channel,
    /// The channel to `keeper`.
    pub(crate) keeper: Channel,
    /// The listening socket of the interface.
    pub(crate) varlink: OwnedFd,
    /// The kernel's account of memory.
    pub(crate) meminfo: OwnedFd,
    /// The audit log's file, when there is a data disk.
    pub(crate) audit: Option<OwnedFd>,
}

/// The whole state.
#[derive(Debug)]
pub(crate) struct Daemon {
    paths: Paths,
    templates: Templates,
    settings: Settings,
    init: Channel,
    uplink: Channel,
    keeper: Channel,
    uplink_state: FromUplink,
    server: Server,
    /// In the policy's order: a zone's index is its slot and its tunnel's number.
    zones: Vec<Zone>,
    notices: Notices,
    shown: Option<Status>,
    next_process: u32,
    /// What users opened and `keeper` has not answered yet, by zone.
    openings: BTreeMap<usize, openings::Opening>,
    /// Who waits for an answer about the recovery key, by request.
    waiting: BTreeMap<u32, openings::Waiting>,
    recovery: zone_protocol::keeper::Recovery,
    screen: screen::Screen,
    next_opening: u32,
    power_off: PowerOff,
    meminfo: OwnedFd,
    /// What an earlier `zoned` left, until all of it was told: nobody is served before.
    past: Option<adopt::Past>,
    /// What `init` said while an answer of it was awaited.
    earlier: VecDeque<(InitEvent, Vec<OwnedFd>)>,
    /// What happened, for whoever asks later.
    pub(crate) audit: Audit,
}

/// Whether the host is to go off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PowerOff {
    No,
    /// As soon as every zone stopped.
    Wanted,
    Asked,
}

/// What a descriptor belongs to.
#[derive(Clone, Copy, Debug)]
enum Source {
    Init,
    Uplink,
    Keeper,
    Listener,
    Client(ClientId),
    VmmEvents(usize),
    Agents(usize),
    Agent(usize),
    Console(usize),
    VpndStatus(usize),
}

impl Daemon {
    /// Reads the settings and takes the descriptors. `first_process` is above every number that an earlier
    /// `zoned` gave out.
    ///
    /// # Errors
    /// A descriptor is not what it should be.
    pub(crate) fn new(paths: Paths, inherited: Inherited, first_process: u32) -> anyhow::Result<Self> {
        let settings = Settings::read(&paths);
        let mut notices = Notices::default();
        let mut audit = Audit::open(inherited.audit, paths.policy.parent());
        // What an earlier `zoned` had said is not lost with it.
        for (process, text) in audit.take_earlier() {
            notices.add(&process, text);
        }
        if let Some((policy, sha256)) = settings.loaded() {
            audit.record(None, &audit::Event::PolicyLoaded { policy, sha256 });
        }
        for problem in &settings.problems {
            let finding = audit::event::text(problem);
            audit.record(None, &audit::Event::PolicyFinding { finding });
            notices.add("zoned", problem.clone());
        }
        let screen = screen::Screen::new(settings.policy.as_deref());
        let zones = settings.policy.as_deref().map_or(&[][..], |policy| &policy.zones);
        let now = Instant::now();
        let has_tunnel = |zone: &policy::Zone| matches!(zone.network, policy::Network::Tunnel(_));
        let zones = zones.iter().map(|zone| Zone::new(has_tunnel(zone), now)).collect();
        inherited.init.set_nonblocking().context("descriptor init")?;
        inherited.uplink.set_nonblocking().context("descriptor uplink")?;
        inherited.keeper.set_nonblocking().context("descriptor keeper")?;
        let server = Server::new(inherited.varlink).context("descriptor varlink")?;
        let templates = Templates::new(&paths.data, &paths.template_rules);
        Ok(Self {
            paths,
            templates,
            settings,
            init: inherited.init,
            uplink: inherited.uplink,
            keeper: inherited.keeper,
            uplink_state: FromUplink::default(),
            server,
            zones,
            notices,
            shown: None,
            next_process: first_process,
            openings: BTreeMap::new(),
            waiting: BTreeMap::new(),
            recovery: zone_protocol::keeper::Recovery::None,
            screen,
            next_opening: first_process,
            power_off: PowerOff::No,
            meminfo: inherited.meminfo,
            past: Some(adopt::Past::default()),
            earlier: VecDeque::new(),
            audit,
        })
    }

    /// One round: waits, at most `patience`, and does what is to be done.
    ///
    /// # Errors
    /// `init` is not there any more.
    pub(crate) fn turn(&mut self, patience: Option<Duration>) -> anyhow::Result<()> {
        for (source, flags) in self.wait(patience)? {
            self.dispatch(source, flags, Instant::now())?;
        }
        let now = Instant::now();
        while let Some((event, descriptors)) = self.earlier.pop_front() {
            self.init_said(event, descriptors, now)?;
        }
        for client in self.server.backlog() {
            self.client(client, PollFlags::empty(), now)?;
        }
        for zone in 0..self.zones.len() {
            self.tick(zone, now)?;
        }
        self.expire_openings(now);
        self.forget_keys();
        self.finish_power_off()?;
        self.keep()?;
        for zone in &mut self.zones {
            zone.watch_tunnel(now);
        }
        if let Some(complaint) = self.audit.complaint() {
            self.notices.add("zoned", complaint);
        }
        let status = self.status();
        if self.shown.as_ref() != Some(&status) {
            self.server.changed();
        }
        self.server.publish(&status, now);
        self.shown = Some(status);
        Ok(())
    }

    fn wait(&self, patience: Option<Duration>) -> anyhow::Result<Vec<(Source, PollFlags)>> {
        let mut sources = Vec::new();
        let mut descriptors = Vec::new();
        let mut add = |source, descriptor, flags| {
            sources.push(source);
            descriptors.push(PollFd::from_borrowed_fd(descriptor, flags));
        };
        add(Source::Init, self.init.as_fd(), PollFlags::IN);
        add(Source::Uplink, self.uplink.as_fd(), PollFlags::IN);
        add(Source::Keeper, self.keeper.as_fd(), PollFlags::IN);
        if self.past.is_none() {
            add(Source::Listener, self.server.listener(), PollFlags::IN);
        }
        for (client, descriptor, flags) in self.server.interests() {
            add(Source::Client(client), descriptor, flags);
        }
        for (index, zone) in self.zones.iter().enumerate() {
            let Some(run) = &zone.run else { continue };
            if let Some(events) = &run.events {
                add(Source::VmmEvents(index), events.as_fd(), PollFlags::IN);
            }
            if let Some(agents) = &run.agents {
                add(Source::Agents(index), agents.as_fd(), PollFlags::IN);
            }
            if let Some(link) = &run.link {
                let mut flags = PollFlags::IN;
                flags.set(PollFlags::OUT, link.wants_write());
                add(Source::Agent(index), link.as_fd(), flags);
            }
            if run.console_flow == Flow::Open {
                add(Source::Console(index), run.console.as_fd(), PollFlags::IN);
            }
            if let Some(status) = &run.status {
                add(Source::VpndStatus(index), status.as_fd(), PollFlags::IN);
            }
        }
        let timeout = self.timeout(patience, Instant::now());
        match poll(&mut descriptors, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("poll"),
        }
        let ready = sources.into_iter().zip(&descriptors).map(|(source, entry)| (source, entry.revents()));
        Ok(ready.filter(|(_, flags)| !flags.is_empty()).collect())
    }

    /// Until the next deadline of anybody.
    fn timeout(&self, patience: Option<Duration>, now: Instant) -> Option<Timespec> {
        let zones = self.zones.iter().filter_map(|zone| zone.life.deadline());
        let runs = self.zones.iter().filter_map(|zone| zone.run.as_ref());
        let checks = runs.flat_map(|run| run.checks.values()).map(|check| check.deadline);
        let tunnels = self.zones.iter().filter_map(Zone::tunnel_deadline);
        let backlog = (!self.server.backlog().is_empty()).then_some(now);
        let own = patience.map(|patience| now + patience);
        let zones = zones.chain(tunnels);
        let next = zones.chain(checks).chain(self.server.deadline(now)).chain(backlog).chain(own);
        let next = next.chain(self.opening_deadline()).min()?;
        let left = next.saturating_duration_since(now);
        // Rounded up to a millisecond: a wait that ends just before the deadline would only run again.
        let left = if left.is_zero() { left } else { left + Duration::from_millis(1) };
        Some(Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 60, tv_nsec: 0 }))
    }

    fn dispatch(&mut self, source: Source, flags: PollFlags, now: Instant) -> anyhow::Result<()> {
        match source {
            Source::Init => self.init_ready(now),
            Source::Uplink => self.uplink_ready(),
            Source::Keeper => self.keeper_ready(now),
            Source::Listener => {
                self.server.accept();
                Ok(())
            }
            Source::Client(client) => self.client(client, flags, now),
            Source::VmmEvents(zone) => self.vmm_ready(zone, now),
            Source::Agents(zone) => {
                let replaced = self.run_mut(zone).is_some_and(crate::zone::Run::accept_agent);
                if replaced {
                    self.drop_checks(zone, now);
                }
                Ok(())
            }
            Source::Agent(zone) => self.agent_ready(zone, flags, now),
            Source::Console(zone) => {
                if let Some(run) = self.run_mut(zone) {
                    run.console_flow = run.console.read();
                }
                Ok(())
            }
            Source::VpndStatus(zone) => {
                let news = self.run_mut(zone).is_some_and(crate::zone::Run::read_status);
                let up = news && self.run_mut(zone).is_some_and(|run| run.vpnd_status.up);
                if up { self.event(zone, Event::TunnelUp, now) } else { Ok(()) }
            }
        }
    }

    fn run_mut(&mut self, zone: usize) -> Option<&mut crate::zone::Run> {
        self.zones.get_mut(zone)?.run.as_mut()
    }

    /// Where a zone is in its life.
    pub(crate) fn life(&self, zone: usize) -> Option<control_api::State> {
        self.zones.get(zone).map(|zone| zone.life.view())
    }

    fn policy(&self) -> Option<&Policy> {
        self.settings.policy.as_deref()
    }

    pub(crate) fn zone_name(&self, zone: usize) -> String {
        let name = self.policy().and_then(|policy| policy.zones.get(zone)).map(|zone| zone.name.clone());
        name.unwrap_or_default()
    }

    fn init_ready(&mut self, now: Instant) -> anyhow::Result<()> {
        let (event, descriptors) = match self.init.receive::<InitEvent>() {
            Ok(message) => message,
            Err(ReceiveError::WouldBlock) => return Ok(()),
            Err(error) => return Err(error).context("receive from init"),
        };
        match (self.past.take(), event) {
            (Some(past), InitEvent::HandedOver) => {
                self.ask_for_pins();
                self.adopt(past, now)
            }
            (
                Some(mut past),
                event @ (InitEvent::Stored { .. } | InitEvent::Lives { .. } | InitEvent::Exited { .. }),
            ) => {
                past.tell(event, descriptors);
                self.past = Some(past);
                Ok(())
            }
            (past, event) => {
                self.past = past;
                self.init_said(event, descriptors, now)
            }
        }
    }

    fn init_said(&mut self, event: InitEvent, descriptors: Vec<OwnedFd>, now: Instant) -> anyhow::Result<()> {
        self.audit_init(&event);
        match event {
            InitEvent::Spawned { process, pid } => tracing::info!(process, pid, "process runs"),
            InitEvent::Refused { process, reason, .. } => {
                if let Some((zone, role)) = self.find_process(process) {
                    self.event(zone, Event::Refused(role, reason), now)?;
                }
            }
            InitEvent::Exited { process, cause } => {
                if let Some((zone, role)) = self.find_process(process) {
                    self.exited(zone, role, cause, now)?;
                }
            }
            InitEvent::DiskOpened { slot } => {
                let disk = descriptors.into_iter().next().ok_or_else(|| "init sent no descriptor".to_owned());
                self.disk_answered(slot, disk, now)?;
            }
            InitEvent::DiskRefused { slot, reason } => self.disk_answered(slot, Err(reason), now)?,
            InitEvent::DiskLocked { slot, refused } => {
                self.event(usize::from(slot), Event::Closed(refused), now)?;
            }
            InitEvent::DiskUnlocked { slot, refused } => {
                self.event(usize::from(slot), Event::Unlocked(refused), now)?;
            }
            InitEvent::ShuttingDown { patience_ms } => {
                tracing::info!(patience_ms, "the machine goes down");
                self.power_off("power button", now)?;
            }
            InitEvent::Stored { .. } | InitEvent::Lives { .. } | InitEvent::HandedOver => {
                tracing::warn!("init tells of the past a second time");
            }
            InitEvent::ServiceExited { service, cause, restarts } => {
                let then =
                    if restarts { "It is started again." } else { "It stays off until the next boot." };
                let died = died(cause);
                self.notices.add(&service, format!("The host's service {service} {died}. {then}"));
                if service == "keeper" {
                    // What waited for its answer asks the next one.
                    for zone in 0..self.zones.len() {
                        if self.zones.get(zone).is_some_and(|zone| zone.life.waits_for_tpm()) {
                            self.event(zone, Event::TpmWanted, now)?;
                        }
                    }
                }
                if service == "uplink" {
                    self.uplink_state = FromUplink::default();
                    for zone in 0..self.zones.len() {
                        self.add_tunnel(zone);
                    }
                }
            }
        }
        Ok(())
    }

    pub(crate) fn find_process(&self, process: u32) -> Option<(usize, Role)> {
        let mut zones = self.zones.iter().enumerate();
        zones.find_map(|(index, zone)| Some((index, zone.run.as_ref()?.role_of(process)?)))
    }

    fn exited(
        &mut self,
        zone: usize,
        role: Role,
        cause: init_protocol::ExitCause,
        now: Instant,
    ) -> anyhow::Result<()> {
        // The VMM's last words, or its word about the tunnel process, may still be in the channel.
        self.vmm_ready(zone, now)?;
        let name = self.zone_name(zone);
        let Some(run) = self.run_mut(zone) else { return Ok(()) };
        run.console_flow = run.console.read();
        // A VMM ends so after its last word.
        let orderly = cause == init_protocol::ExitCause::Code(0) || run.killed.contains(&role);
        if !orderly {
            self.audit_death(zone, role, cause);
        }
        let Some(run) = self.run_mut(zone) else { return Ok(()) };
        if role == Role::Vpnd {
            run.status = None;
            run.vpnd = None;
            run.killed.retain(|killed| *killed != Role::Vpnd);
            run.vpnd_status = vpn_protocol::VpndStatus::default();
        } else if !orderly {
            let text = format!("The virtual machine process of zone {name} {}.", died(cause));
            self.notices.add(&format!("vmm {name}"), text);
        }
        self.event(zone, Event::Exited(role, cause), now)
    }

    fn uplink_ready(&mut self) -> anyhow::Result<()> {
        match self.uplink.receive::<FromUplink>() {
            Ok((state, _)) => self.uplink_state = state,
            Err(ReceiveError::WouldBlock) => {}
            Err(ReceiveError::Malformed) => tracing::warn!("malformed message from uplink"),
            Err(error) => return Err(error).context("receive from uplink (init keeps both ends open)"),
        }
        Ok(())
    }

    fn vmm_ready(&mut self, zone: usize, now: Instant) -> anyhow::Result<()> {
        // A VMM says little; whatever it says more waits for the next round.
        for _ in 0..4 {
            let Some(event) = self.run_mut(zone).and_then(crate::zone::Run::next_event) else { break };
            match event {
                VmmEvent::Started => {
                    tracing::info!(zone = self.zone_name(zone), "machine started");
                    self.step(zone, Step::Started, now);
                    self.event(zone, Event::Booted, now)?;
                }
                VmmEvent::Paused => self.event(zone, Event::Paused, now)?,
                VmmEvent::Resumed => self.event(zone, Event::Resumed, now)?,
                VmmEvent::NetworkLost => self.event(zone, Event::NetworkLost, now)?,
                VmmEvent::DiskFailed { disk, full } => self.disk_failed(zone, &disk, full),
                VmmEvent::TpmWanted => self.event(zone, Event::TpmWanted, now)?,
                VmmEvent::Ended(end) => {
                    tracing::info!(zone = self.zone_name(zone), ?end, "machine ended");
                    self.event(zone, Event::Ended(clean(end)), now)?;
                }
            }
        }
        Ok(())
    }

    fn agent_ready(&mut self, zone: usize, flags: PollFlags, now: Instant) -> anyhow::Result<()> {
        let Some(link) = self.run_mut(zone).and_then(|run| run.link.as_mut()) else { return Ok(()) };
        let mut outcome = if flags.intersects(PollFlags::OUT) { link.flush() } else { Ok(()) };
        let mut said = Vec::new();
        if outcome.is_ok() && flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            match link.read() {
                Ok(messages) => said = messages,
                Err(error) => outcome = Err(error),
            }
        }
        let may_log = self.run_mut(zone).is_some_and(|run| run.may_log());
        if let Err(error) = outcome {
            if may_log {
                self.agent_lost(zone, &error);
            }
            self.drop_link(zone, now);
            self.event(zone, Event::AgentLost, now)?;
        }
        for message in said {
            match message {
                Said::Hello(version) => {
                    if may_log {
                        tracing::info!(zone = self.zone_name(zone), version, "agent is there");
                    }
                    self.tell_steps(zone, now);
                    self.event(zone, Event::Hello(version), now)?;
                }
                Said::Answer(_, Answer::Synced) => self.event(zone, Event::Synced, now)?,
                Said::Answer(number, answer) => self.answered(zone, number, answer, now),
            }
        }
        Ok(())
    }

    /// Says where the time of a start went.
    fn tell_steps(&mut self, zone: usize, now: Instant) {
        let name = self.zone_name(zone);
        let Some(state) = self.zones.get_mut(zone) else { return };
        let link = state.run.as_ref().and_then(|run| run.link.as_ref());
        let uptime = link.map(crate::agent_link::AgentLink::uptime).unwrap_or_default();
        let Some(parts) = state.steps.hello(uptime, now) else { return };
        let Parts { opening, loading, tpm, disk, firmware, guest } = parts;
        tracing::info!(
            zone = name,
            opening_ms = opening.as_millis(),
            loading_ms = loading.as_millis(),
            tpm_ms = tpm.as_millis(),
            disk_ms = disk.as_millis(),
            firmware_ms = firmware.as_millis(),
            guest_ms = guest.as_millis(),
            "it has started"
        );
    }

    /// An agent that is gone while its zone runs is worth a notice.
    fn agent_lost(&mut self, zone: usize, error: &crate::agent_link::LinkError) {
        let name = self.zone_name(zone);
        tracing::info!(zone = name, "{error}");
        let greeted = self.run_mut(zone).and_then(|run| run.link.as_ref()).is_some_and(|link| link.greeted());
        let running = self.zones.get(zone).is_some_and(|zone| zone.life.view().phase == Phase::Running);
        if greeted && running {
            let text = format!("Zone {name}: the agent is lost ({error}). The zone goes on without it.");
            self.notices.add(&format!("agent {name}"), text);
        }
    }

    /// Closes the agent's connection.
    fn drop_link(&mut self, zone: usize, now: Instant) {
        if let Some(run) = self.run_mut(zone) {
            run.link = None;
        }
        self.drop_checks(zone, now);
    }

    fn tick(&mut self, zone: usize, now: Instant) -> anyhow::Result<()> {
        self.expire_checks(zone, now);
        let due = self.zones.get(zone).and_then(|zone| zone.life.deadline());
        if due.is_some_and(|due| due <= now) { self.event(zone, Event::Tick, now) } else { Ok(()) }
    }

    fn finish_power_off(&mut self) -> anyhow::Result<()> {
        let over = |zone: &Zone| matches!(zone.life.view().phase, Phase::Stopped | Phase::Failed);
        if self.power_off == PowerOff::Wanted && self.zones.iter().all(over) {
            self.power_off = PowerOff::Asked;
            self.init.send(&Request::PowerOff, &[]).context("ask init to power off")?;
        }
        Ok(())
    }
}

/// The VMM's reason may quote its guest: it reaches a screen only as printable text.
fn clean(end: zone_protocol::vmm::End) -> zone_protocol::vmm::End {
    use zone_protocol::vmm::End;
    match end {
        End::Failed(reason) => End::Failed(crate::console::printable(&reason, 300)),
        End::ShutDown | End::Reset | End::Panic => end,
    }
}

#[cfg(test)]
mod tests;
