//! What a user orders of a zone beside start and stop, and what is refused with a sentence.

use anyhow::{Context, ensure};
use control_api::Phase;
use gateway::Site;

use crate::world::{
    SOON, START, World, ensure_connected, ensure_running, fetch_own_page, process_of, touch_tile, uptime,
};

const ZONE: &str = "office";

pub(super) fn pause_and_resume(world: &mut World) -> anyhow::Result<()> {
    let machine = world.machine()?;
    ensure_connected(machine, ZONE)?;
    let (process, before) = (process_of(machine, "vmm", ZONE)?, uptime(machine, ZONE)?);
    machine.zones().pause(ZONE, machine.within(SOON))?;
    machine.zones().wait_for_phase(ZONE, Phase::Paused, machine.within(SOON))?;
    let refused = machine.zones().run_check(ZONE, "uptime", &[], machine.within(SOON));
    ensure!(refused.is_err(), "a paused guest ran a check: {refused:?}");
    let again = machine.zones().start(ZONE, machine.within(SOON));
    let said = format!("{:?}", again.err().context("a paused zone was started")?);
    ensure!(said.contains("is paused"), "a start of a paused zone is refused with: {said}");
    machine.zones().resume(ZONE, machine.within(SOON))?;
    machine.zones().wait_for_phase(ZONE, Phase::Running, machine.within(SOON))?;
    // The same by its user's finger.
    machine.zones().pause(ZONE, machine.within(SOON))?;
    machine.zones().wait_for_phase(ZONE, Phase::Paused, machine.within(SOON))?;
    machine.look("paused-tile")?;
    touch_tile(machine, ZONE)?;
    machine.zones().wait_for_phase(ZONE, Phase::Running, machine.within(SOON))?;
    ensure!(uptime(machine, ZONE)? > before, "the guest did not go on");
    ensure!(process_of(machine, "vmm", ZONE)? == process, "the zone was started anew");
    machine.zones().wait_for_tunnel(ZONE, machine.within(START))?;
    fetch_own_page(machine, Site::Office)?;
    Ok(())
}

pub(super) fn started_twice(world: &mut World) -> anyhow::Result<()> {
    let machine = world.machine()?;
    ensure_running(machine, ZONE)?;
    let process = process_of(machine, "vmm", ZONE)?;
    let again = machine.zones().start(ZONE, machine.within(SOON));
    let said = format!("{:?}", again.err().context("a running zone was started")?);
    ensure!(said.contains("Zone office is running already."), "a second start is refused with: {said}");
    ensure!(process_of(machine, "vmm", ZONE)? == process, "the second start changed the zone");
    Ok(())
}

pub(super) fn restart_and_kill(world: &mut World) -> anyhow::Result<()> {
    let machine = world.machine()?;
    ensure_running(machine, "vault")?;
    let process = process_of(machine, "vmm", "vault")?;
    machine.zones().restart("vault", machine.within(SOON))?;
    machine.zones().wait_until("vault running again", machine.within(START), |status| {
        let runs = status.zones.iter().any(|zone| zone.name == "vault" && zone.state.phase == Phase::Running);
        runs && process_of(machine, "vmm", "vault").is_ok_and(|now| now != process)
    })?;
    machine.zones().end_now("vault", machine.within(SOON))?;
    let ended = machine.zones().wait_for_phase("vault", Phase::Stopped, machine.within(SOON))?;
    ensure!(ended.state.reason.is_none(), "a kill that was ordered has a reason: {:?}", ended.state.reason);
    Ok(())
}
