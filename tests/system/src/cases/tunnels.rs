//! A tunnel that does not come up: the user reads why.

use anyhow::{Context, ensure};
use control_api::Phase;
use gateway::Site;
use gateway::network::Silence;
use harness::Machine;

use crate::world::{SOON, START, World, ensure_running, ensure_stopped, fetch_own_page, zone};

const ZONE: &str = "office";

pub(super) fn silent_gateway(world: &mut World) -> anyhow::Result<()> {
    let machine = world.machine()?;
    ensure_stopped(machine, ZONE)?;
    machine.gateway().set_silent(Site::Office, Silence::Silent);
    let outcome = reason(machine);
    machine.gateway().set_silent(Site::Office, Silence::Answering);
    outcome?;
    let zone = machine.zones().wait_for_tunnel(ZONE, machine.within(START))?;
    let reason = zone.tunnel.and_then(|tunnel| tunnel.reason);
    ensure!(reason.is_none(), "a tunnel that is up still has a reason: {reason:?}");
    fetch_own_page(machine, Site::Office)?;
    Ok(())
}

fn reason(machine: &Machine) -> anyhow::Result<()> {
    let ignored = || machine.gateway().counters().sites[Site::Office.index()].ignored_silent;
    let before = ignored();
    ensure_running(machine, ZONE)?;
    machine.zones().wait_until("a reason that names the silent gateway", machine.within(SOON), |status| {
        let zone = status.zones.iter().find(|zone| zone.name == ZONE);
        let reason = zone.and_then(|zone| zone.tunnel.as_ref()).and_then(|tunnel| tunnel.reason.as_deref());
        reason.is_some_and(|reason| reason.contains("gateway") && reason.contains("answer"))
    })?;
    let seen = zone(machine, ZONE)?;
    ensure!(seen.state.phase == Phase::Running, "the zone is {:?}, not running", seen.state.phase);
    ensure!(!seen.tunnel.context("the policy gives it a tunnel")?.up, "the tunnel is up by itself");
    ensure!(ignored() > before, "the gateway was never asked: its silence cannot be known");
    Ok(())
}
