//! What a zone's machine wants done, done.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use anyhow::Context;
use control_api::Phase;
use init_protocol::{Request, ZoneProfile};
use vpn_protocol::ToUplink;
use zone_protocol::agent::Ask;
use zone_protocol::vmm::Command;

use super::Daemon;
use crate::launch::{Descriptors, LaunchError, Plan, TunnelKey, check, prepare, prepare_tunnel, tunnel_of};
use crate::lifecycle::{Action, Event, Refusal, Role};
use crate::settings::Settings;
use crate::steps::Step;
use crate::zone::{Run, Zone};

impl Daemon {
    /// Hands an event that cannot be refused to a zone's machine.
    pub(super) fn event(&mut self, zone: usize, event: Event, now: Instant) -> anyhow::Result<()> {
        // Only a user's request is ever refused, and those come by `request`.
        self.request(zone, event, now).map(|_refusal| ())
    }

    /// Hands an event to a zone's machine and does what it wants.
    pub(super) fn request(
        &mut self,
        zone: usize,
        event: Event,
        now: Instant,
    ) -> anyhow::Result<Result<(), Refusal>> {
        let mut next = Some(event);
        while let Some(event) = next.take() {
            let Some(state) = self.zones.get_mut(zone) else { return Ok(Ok(())) };
            let before = state.life.view().phase;
            let actions = match state.life.handle(event, now) {
                Ok(actions) => actions,
                Err(refusal) => return Ok(Err(refusal)),
            };
            self.report(zone, before);
            self.audit_phase(zone, before);
            for action in actions {
                next = self.act(zone, action, now)?.or(next);
            }
        }
        Ok(Ok(()))
    }

    /// Logs a change of phase, and explains a failure.
    fn report(&mut self, zone: usize, before: Phase) {
        let name = self.zone_name(zone);
        let Some(state) = self.zones.get(zone) else { return };
        let view = state.life.view();
        if view.phase == before {
            return;
        }
        let reason = view.reason.unwrap_or_default();
        tracing::info!(zone = name, phase = ?view.phase, reason);
        if view.phase != Phase::Failed {
            return;
        }
        if let Some(line) = state.run.as_ref().and_then(|run| run.console.last_words()) {
            tracing::warn!(zone = name, console = line, "last words of the guest's console");
        }
        let process = format!("vmm {name}");
        self.notices.add(&process, format!("Zone {name} failed. {reason}"));
    }

    /// Carries one action out; returns what that led to.
    fn act(&mut self, zone: usize, action: Action, now: Instant) -> anyhow::Result<Option<Event>> {
        match action {
            Action::Launch => {
                self.step(zone, Step::Opened, now);
                let Err(error) = self.launch(zone)? else { return Ok(None) };
                self.audit_launch(zone, &error);
                return Ok(Some(Event::LaunchFailed(format!("Not started: {error}."))));
            }
            Action::LaunchVpnd => {
                let launched = self.launch_vpnd(zone)?;
                return Ok(launched.err().map(|error| Event::VpndFailed(error.to_string())));
            }
            Action::DropAgent => self.drop_link(zone, now),
            Action::Notice(role, text) => {
                let name = self.zone_name(zone);
                let program = match role {
                    Role::Vmm => "vmm",
                    Role::Vpnd => "vpnd",
                    Role::Tpm => "swtpm",
                };
                self.notices.add(&format!("{program} {name}"), format!("Zone {name}: {text}"));
            }
            Action::AskAgent => {
                let link = self.run_mut(zone).and_then(|run| run.link.as_mut());
                if let Some(link) = link.filter(|link| link.greeted())
                    && let Err(error) = link.ask(Ask::ShutDown)
                {
                    tracing::info!(zone = self.zone_name(zone), "{error}");
                }
            }
            Action::SyncAgent => {
                let link = self.run_mut(zone).and_then(|run| run.link.as_mut());
                let asked = link.filter(|link| link.greeted()).map(|link| link.ask(Ask::Sync));
                if !matches!(asked, Some(Ok(_))) {
                    return Ok(Some(Event::Synced));
                }
            }
            Action::LockDisk => return Ok(self.lock_disk(zone).err().map(|why| Event::Closed(Some(why)))),
            Action::UnlockDisk => {
                let slot = u8::try_from(zone).context("slot")?;
                self.init.send(&Request::UnlockDisk { slot }, &[]).context("ask init to unlock a disk")?;
            }
            Action::Tell(command) => self.tell_vmm(zone, &command, &[]),
            Action::Kill(role) => {
                let Some(run) = self.run_mut(zone) else { return Ok(None) };
                let Some(process) = run.process(role) else { return Ok(None) };
                run.killed.push(role);
                self.init.send(&Request::Kill { process }, &[]).context("ask init to kill a process")?;
            }
            Action::BeginTpm => {
                self.step(zone, Step::Loaded, now);
                return Ok(self.begin_tpm(zone).err().map(Event::TpmFailed));
            }
            Action::Release => self.release(zone, now),
        }
        Ok(None)
    }

    /// A step of a zone's start is over.
    pub(super) fn step(&mut self, zone: usize, step: Step, now: Instant) {
        if let Some(zone) = self.zones.get_mut(zone) {
            zone.steps.mark(step, now);
        }
    }

    pub(super) fn tell_vmm(&mut self, zone: usize, command: &Command, descriptors: &[BorrowedFd<'_>]) {
        let events = self.run_mut(zone).and_then(|run| run.events.as_ref());
        if let Some(Err(error)) = events.map(|events| events.send(command, descriptors)) {
            tracing::info!(zone = self.zone_name(zone), ?command, "tell the VMM: {error}");
        }
    }

    fn launch(&mut self, zone: usize) -> anyhow::Result<Result<(), LaunchError>> {
        let prepared = match self.bound_and_prepare(zone) {
            Ok(Some(prepared)) => prepared,
            Ok(None) => return Ok(Ok(())),
            Err(error) => {
                self.close_disk(zone);
                return Ok(Err(error));
            }
        };
        if let Some(remark) = &prepared.remark {
            self.about_disk(zone, remark);
        }
        // Before the VMM, so that keeper knows it when the VMM asks for it.
        let tpm = self.spawn(zone, ZoneProfile::Swtpm, &Vec::new())?;
        let vpnd = match &prepared.vpnd {
            Some(descriptors) => Some(self.spawn(zone, ZoneProfile::Vpnd, descriptors)?),
            None => None,
        };
        let vmm = self.spawn(zone, ZoneProfile::Vmm, &prepared.vmm)?;
        if let Some(state) = self.zones.get_mut(zone) {
            state.run = Some(Run::new(prepared.ends, vmm, vpnd, (tpm, prepared.start)));
            if let Some(run) = &mut state.run {
                run.private = prepared.private;
            }
        }
        self.add_tunnel(zone);
        Ok(Ok(()))
    }

    /// A new tunnel process for a zone that runs: its VMM gets the other end, and the uplink the datagrams.
    fn launch_vpnd(&mut self, zone: usize) -> anyhow::Result<Result<(), LaunchError>> {
        let prepared = match plan(&self.settings, &self.zones, &self.meminfo, zone, None)
            .and_then(|plan| plan.as_ref().map_or(Ok(None), prepare_tunnel))
        {
            Ok(Some(prepared)) => prepared,
            Ok(None) => return Ok(Ok(())),
            Err(error) => return Ok(Err(error)),
        };
        let vpnd = self.spawn(zone, ZoneProfile::Vpnd, &prepared.vpnd)?;
        if let Some(run) = self.run_mut(zone) {
            run.vpnd = Some(vpnd);
            run.connect_tunnel(prepared.ends);
        }
        self.tell_vmm(zone, &Command::Network, &[prepared.net.as_fd()]);
        self.add_tunnel(zone);
        Ok(Ok(()))
    }

    /// Lets `init` bound the zone and make its disposable disk, then makes the rest.
    fn bound_and_prepare(&mut self, index: usize) -> Result<Option<crate::launch::Prepared>, LaunchError> {
        let policy = self.settings.policy.as_deref();
        let Some(zone) = policy.and_then(|policy| policy.zones.get(index)) else { return Ok(None) };
        let slot = u8::try_from(index).expect("settings admit no more zones than slots");
        // A channel that takes no message is noticed when the processes are asked for.
        if let Err(error) = self.init.send(&Request::Limit { slot, memory_mib: zone.memory_mib }, &[]) {
            tracing::warn!(zone = zone.name, "tell init the zone's memory: {error}");
        }
        let disk = match zone.disposable {
            true => Some(crate::private_disk::open(&self.init, slot, zone, &mut self.earlier)?),
            false => None,
        };
        self.prepare(index, disk)
    }

    /// Tells `init` that a disposable zone does not need its disk any more.
    fn close_disk(&self, index: usize) {
        let zone = self.policy().and_then(|policy| policy.zones.get(index));
        if let (Some(zone), Ok(slot)) = (zone.filter(|zone| zone.disposable), u8::try_from(index))
            && let Err(error) = self.init.send(&Request::CloseDisk { slot }, &[])
        {
            tracing::warn!(zone = zone.name, "tell init to close a disk: {error}");
        }
    }

    fn prepare(
        &mut self,
        index: usize,
        disposable: Option<OwnedFd>,
    ) -> Result<Option<crate::launch::Prepared>, LaunchError> {
        let Self { settings, zones, meminfo, templates, paths, .. } = self;
        let plan = plan(settings, zones, meminfo, index, disposable)?;
        plan.map(|plan| prepare(templates, paths, &plan)).transpose()
    }

    /// Whether a start fails whatever is opened for it. It says so by itself then.
    pub(super) fn is_impossible(&mut self, index: usize) -> bool {
        let Self { settings, zones, meminfo, templates, .. } = self;
        let plan = settings.policy.as_deref().and_then(|policy| {
            let zone = policy.zones.get(index)?;
            base_plan(policy, zone, zones, meminfo, index).ok()
        });
        plan.is_some_and(|plan| check(templates, &plan).is_err())
    }

    fn spawn(&mut self, zone: usize, profile: ZoneProfile, descriptors: &Descriptors) -> anyhow::Result<u32> {
        let process = self.next_process;
        self.next_process = self.next_process.wrapping_add(1);
        let request = Request::Spawn {
            process,
            profile,
            slot: u8::try_from(zone).context("slot")?,
            zone: self.zone_name(zone),
            descriptors: descriptors.iter().map(|(name, _)| name.clone()).collect(),
        };
        let descriptors: Vec<_> = descriptors.iter().map(|(_, descriptor)| descriptor.as_fd()).collect();
        self.init.send(&request, &descriptors).context("ask init for a process")?;
        Ok(process)
    }

    /// Tells the uplink of a running zone's tunnel. An uplink that was started again may find an earlier
    /// message in its channel, so the tunnel is taken away first.
    pub(super) fn add_tunnel(&mut self, zone: usize) {
        let Ok(number) = u32::try_from(zone) else { return };
        let run = self.zones.get(zone).and_then(|state| state.run.as_ref());
        let Some((datagrams, endpoints)) = run.and_then(|run| run.uplink.as_ref()) else { return };
        let add = ToUplink::AddTunnel { tunnel: number, endpoints: endpoints.clone() };
        let sent = self
            .uplink
            .send(&ToUplink::RemoveTunnel { tunnel: number }, &[])
            .and_then(|()| self.uplink.send(&add, &[datagrams.as_fd()]));
        if let Err(error) = sent {
            let text = format!("The host's network service does not take orders: {error}.");
            self.notices.add("uplink", text);
        }
    }

    /// Closes everything of a run.
    fn release(&mut self, zone: usize, now: Instant) {
        self.drop_checks(zone, now);
        let Some(state) = self.zones.get_mut(zone) else { return };
        let Some(run) = state.run.take() else { return };
        self.close_disk(zone);
        if run.uplink.is_some()
            && let Ok(tunnel) = u32::try_from(zone)
            && let Err(error) = self.uplink.send(&ToUplink::RemoveTunnel { tunnel }, &[])
        {
            tracing::warn!("tell uplink to forget a tunnel: {error}");
        }
    }
}

/// The demonstration's key of a tunnel, or the one that came when its zone was opened.
pub(super) fn key_of(settings: &Settings, zone: &Zone, tunnel: &str) -> Option<TunnelKey> {
    let demo = settings.keys.get(tunnel).map(|key| TunnelKey::Demo(*key));
    // Without descriptors nothing starts anyway.
    demo.or_else(|| zone.tunnel_key.as_ref()?.try_clone().ok().map(TunnelKey::Kept))
}

/// What a start of the zone at `index` is made from; `None`: the policy has no such zone.
fn plan<'a>(
    settings: &'a Settings,
    zones: &[Zone],
    meminfo: &OwnedFd,
    index: usize,
    disposable: Option<OwnedFd>,
) -> Result<Option<Plan<'a>>, LaunchError> {
    let Some(policy) = settings.policy.as_deref() else { return Ok(None) };
    let Some(zone) = policy.zones.get(index) else { return Ok(None) };
    let tunnel = tunnel_of(policy, zone, |name| key_of(settings, zones.get(index)?, name))?;
    Ok(Some(Plan { tunnel, disposable, ..base_plan(policy, zone, zones, meminfo, index)? }))
}

/// The same without what is opened for it.
fn base_plan<'a>(
    policy: &policy::Policy,
    zone: &'a policy::Zone,
    zones: &[Zone],
    meminfo: &OwnedFd,
    index: usize,
) -> Result<Plan<'a>, LaunchError> {
    let running = policy.zones.iter().zip(zones).filter(|(_, state)| state.run.is_some());
    let available = crate::memory::available_mib(meminfo)
        .map_err(|source| LaunchError::Host { what: "memory", source })?;
    Ok(Plan {
        zone,
        slot: u8::try_from(index).expect("settings admit no more zones than slots"),
        tunnel: None,
        memory_taken_mib: running.map(|(zone, _)| crate::launch::memory_of(zone)).sum(),
        memory_available_mib: available,
        disposable: None,
    })
}
