//! Zones that outlive their `zoned`: what is stored with `init` for the next one, and how that one goes on.
//!
//! A zone that is not as it was stored is ended, with its reason as a notice: nothing is guessed. Agents are not
//! handed over: their streams break with the old `zoned` (half a message may be lost in it), and they connect
//! again through the VMM's channel, which is. It reads nothing that a guest wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use anyhow::Context;
use init_protocol::{Event as InitEvent, ExitCause, Request, ZoneProfile};
use ipc::SendError;
use serde::{Deserialize, Serialize};
use vpn_protocol::VpndStatus;
use zone_protocol::keeper::Start;

use super::Daemon;
use super::act::key_of;
use crate::launch::{endpoints, tunnel_of};
use crate::lifecycle::{Event, Lifecycle, Role, SavedLife};
use crate::zone::{Run, Zone};

/// Version of [`Saved`]: another one is not understood.
const VERSION: u8 = 3;

/// The name of the descriptor with the private key of a zone's tunnel.
const TUNNEL_KEY: &str = "tunnelkey";

/// A running zone, as the next `zoned` reads it.
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    version: u8,
    zone: String,
    vmm: u32,
    vpnd: Option<u32>,
    tpm: u32,
    start: Start,
    tunnel_up: bool,
    life: SavedLife,
}

/// State and named descriptors of one zone.
type Stored = (Vec<u8>, Vec<(String, OwnedFd)>);

/// What an earlier `zoned` left, as far as `init` told it.
#[derive(Debug, Default)]
pub(super) struct Past {
    stored: BTreeMap<u8, Stored>,
    /// Processes that live: profile, slot and zone by number.
    living: BTreeMap<u32, (ZoneProfile, u8, String)>,
    gone: BTreeMap<u32, ExitCause>,
}

/// What was stored last for a zone.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    state: Vec<u8>,
    generation: u32,
}

impl Past {
    /// Takes one event of the past.
    pub(super) fn tell(&mut self, event: InitEvent, descriptors: Vec<OwnedFd>) {
        match event {
            InitEvent::Stored { slot, state, names } => {
                self.stored.insert(slot, (state, names.into_iter().zip(descriptors).collect()));
            }
            InitEvent::Lives { process, profile, slot, zone, .. } => {
                self.living.insert(process, (profile, slot, zone));
            }
            InitEvent::Exited { process, cause } => {
                self.gone.insert(process, cause);
            }
            InitEvent::Spawned { .. }
            | InitEvent::Refused { .. }
            | InitEvent::DiskOpened { .. }
            | InitEvent::DiskRefused { .. }
            | InitEvent::DiskLocked { .. }
            | InitEvent::DiskUnlocked { .. }
            | InitEvent::HandedOver
            | InitEvent::ShuttingDown { .. }
            | InitEvent::ServiceExited { .. } => {}
        }
    }

    /// Whether a process is what the state says it is.
    fn is(&self, process: u32, profile: ZoneProfile, slot: u8, zone: &str) -> Result<(), String> {
        match self.living.get(&process) {
            None if self.gone.contains_key(&process) => Ok(()),
            None => Err(format!("process {process} is unknown to the host")),
            Some((lives_as, lives_in, name)) => {
                let same = *lives_as == profile && *lives_in == slot && name == zone;
                if same { Ok(()) } else { Err(format!("process {process} is another zone's")) }
            }
        }
    }
}

impl Daemon {
    /// Goes on with the zones of an earlier `zoned`.
    pub(super) fn adopt(&mut self, mut past: Past, now: Instant) -> anyhow::Result<()> {
        let mut spoilt = BTreeSet::new();
        for (slot, (state, descriptors)) in std::mem::take(&mut past.stored) {
            match self.restore(slot, &state, descriptors, &past, now) {
                Ok(()) => {
                    let name = self.zone_name(usize::from(slot));
                    tracing::info!(zone = name, "taken over");
                    self.audit.record(Some(&name), &audit::Event::ZoneTakenOver);
                }
                Err(reason) => {
                    spoilt.insert(slot);
                    self.init.send(&Request::Discard { slot }, &[]).context("discard a zone's state")?;
                    self.spoil(slot, &reason);
                }
            }
        }
        for (process, (_, slot, _)) in &past.living {
            if self.find_process(*process).is_some() {
                continue;
            }
            if spoilt.insert(*slot) {
                self.spoil(*slot, "it began while zoned ended");
            }
            self.init
                .send(&Request::Kill { process: *process }, &[])
                .context("ask init to kill a process")?;
        }
        for zone in 0..self.zones.len() {
            self.add_tunnel(zone);
            if self.zones.get(zone).is_some_and(|zone| zone.life.waits_for_tpm()) {
                // The answer to an earlier zoned's question went with it.
                self.event(zone, Event::TpmWanted, now)?;
            }
            for role in [Role::Vmm, Role::Vpnd, Role::Tpm] {
                let process = self.run_mut(zone).and_then(|run| run.process(role));
                if let Some(cause) = process.and_then(|process| past.gone.get(&process)) {
                    self.exited(zone, role, *cause, now)?;
                }
            }
        }
        Ok(())
    }

    /// Says why a zone was not taken over.
    fn spoil(&mut self, slot: u8, reason: &str) {
        let name = self.zone_name(usize::from(slot));
        let event = audit::Event::ZoneNotTakenOver { reason: audit::event::text(reason) };
        self.audit.record(Some(&name), &event);
        let text = format!("Zone {name} was ended when zoned started again: {reason}.");
        self.notices.add("zoned", text);
    }

    /// One zone as it was.
    fn restore(
        &mut self,
        slot: u8,
        state: &[u8],
        descriptors: Vec<(String, OwnedFd)>,
        past: &Past,
        now: Instant,
    ) -> Result<(), String> {
        let saved: Saved =
            postcard::from_bytes(state).map_err(|_unreadable| "its state does not decode".to_owned())?;
        if saved.version != VERSION {
            return Err(format!("its state has version {}, not {VERSION}", saved.version));
        }
        let index = usize::from(slot);
        let policy = self.settings.policy.as_deref().ok_or("there is no policy")?;
        let zone = policy.zones.get(index).filter(|zone| zone.name == saved.zone);
        let zone = zone.ok_or("the policy has another zone in its place")?;
        past.is(saved.vmm, ZoneProfile::Vmm, slot, &zone.name)?;
        if let Some(vpnd) = saved.vpnd {
            past.is(vpnd, ZoneProfile::Vpnd, slot, &zone.name)?;
        }
        past.is(saved.tpm, ZoneProfile::Swtpm, slot, &zone.name)?;
        let (mut descriptors, mut tunnel_key) = (descriptors, None);
        if let Some(place) = descriptors.iter().position(|(name, _)| name == TUNNEL_KEY) {
            tunnel_key = Some(descriptors.swap_remove(place).1);
        }
        let mut adopted = Zone::new(matches!(zone.network, policy::Network::Tunnel(_)), now);
        adopted.tunnel_key = tunnel_key;
        let key = |name: &str| key_of(&self.settings, &adopted, name);
        let tunnel = tunnel_of(policy, zone, key).map_err(|error| error.to_string())?;
        let has_tunnel = tunnel.is_some();
        let (peers, tpm) = (tunnel.map(|(tunnel, _)| endpoints(tunnel)), (saved.tpm, saved.start));
        let mut run = Run::adopted(descriptors, saved.vmm, saved.vpnd, tpm, peers)?;
        let place = self.zones.get_mut(index).ok_or("the policy has no such zone")?;
        adopted.life = Lifecycle::restore(saved.life, has_tunnel, now);
        adopted.kept = Some(Kept { state: state.to_owned(), generation: run.generation });
        // It tells its state only when that changes.
        run.vpnd_status = VpndStatus { up: saved.tunnel_up, ..VpndStatus::default() };
        adopted.run = Some(run);
        adopted.pin = place.pin;
        *place = adopted;
        Ok(())
    }

    /// Stores what changed since it was stored last.
    pub(super) fn keep(&mut self) -> anyhow::Result<()> {
        for index in 0..self.zones.len() {
            let name = self.zone_name(index);
            let Some(zone) = self.zones.get_mut(index) else { continue };
            let slot = u8::try_from(index).context("slot")?;
            let Some((run, life)) = zone.run.as_ref().zip(zone.life.save()) else {
                if zone.kept.take().is_some() {
                    self.init.send(&Request::Discard { slot }, &[]).context("discard a zone's state")?;
                }
                continue;
            };
            let (vmm, vpnd, tunnel_up) = (run.vmm, run.vpnd, run.vpnd_status.up);
            let (tpm, start) = run.tpm.clone();
            let saved = Saved { version: VERSION, zone: name, vmm, vpnd, tpm, start, tunnel_up, life };
            let state = postcard::to_stdvec(&saved).context("encode a zone's state")?;
            let kept = Kept { state: state.clone(), generation: run.generation };
            if zone.kept.as_ref() == Some(&kept) {
                continue;
            }
            let mut descriptors = run.descriptors();
            descriptors.extend(zone.tunnel_key.iter().map(|key| (TUNNEL_KEY, key.as_fd())));
            let names = descriptors.iter().map(|(name, _)| (*name).to_owned()).collect();
            let carried: Vec<BorrowedFd<'_>> = descriptors.iter().map(|(_, fd)| fd.as_fd()).collect();
            match self.init.send(&Request::Store { slot, state, names }, &carried) {
                Ok(()) => zone.kept = Some(kept),
                // `init` is busy: the next round tries again.
                Err(SendError::WouldBlock) => {}
                Err(error) => return Err(error).context("store a zone's state"),
            }
        }
        Ok(())
    }
}
