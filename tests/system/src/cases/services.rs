//! One service of the host dies: it comes back by itself, the user is told, and what it did goes on.

use anyhow::{Context, ensure};
use control_api::Phase;
use gateway::Site;
use harness::{Machine, Picture};

use super::zones::drawn;
use crate::world::{
    SOON, START, World, ensure_connected, ensure_stopped, fetch_own_page, layout, rectangle, service_of,
    slot, touch_tile, zone,
};

/// SIGKILL.
const KILL: i32 = 9;

/// Processes of zones have users from here on (ARCHITECTURE.md, "Processes").
const FIRST_ZONE_USER: u32 = 2000;

/// Pixels by which a tile differs when it tells another state.
const CHANGED: usize = 100;

pub(super) fn uplink(world: &mut World) -> anyhow::Result<()> {
    let machine = world.machine()?;
    ensure_connected(machine, "office")?;
    fetch_own_page(machine, Site::Office)?;
    kill(machine, "uplink")?;
    machine.zones().wait_until("an address of the new uplink", machine.within(SOON), |status| {
        status.uplink.address.is_some()
    })?;
    fetch_own_page(machine, Site::Office)?;
    let office = zone(machine, "office")?;
    ensure!(office.state.phase == Phase::Running, "office is {:?} after the uplink died", office.state.phase);
    Ok(())
}

pub(super) fn desktop(world: &mut World) -> anyhow::Result<()> {
    let machine = world.machine()?;
    // The same place twice: the kernel reports only what changed, and the new desktop must know the rest.
    ensure_stopped(machine, "vault")?;
    touch_tile(machine, "vault")?;
    machine.zones().wait_for_phase("vault", Phase::Running, machine.within(START))?;
    ensure_stopped(machine, "vault")?;
    let before = machine.look("before-desktop")?;
    kill(machine, "desktop")?;
    // The old picture may stay until the new one comes, which has a new notice.
    let bar = rectangle(layout(machine)?.notice)?;
    machine.look_until("desktop-again", "picker and notice again", machine.within(SOON), |picture| {
        drawn(machine, picture) && picture.difference(&before, bar) > CHANGED
    })?;
    touch_tile(machine, "vault")?;
    machine.zones().wait_for_phase("vault", Phase::Running, machine.within(START))?;
    Ok(())
}

pub(super) fn zoned(world: &mut World) -> anyhow::Result<()> {
    let machine = world.machine()?;
    for zone in ["office", "research"] {
        ensure_connected(machine, zone)?;
    }
    let before = machine.look("before-zoned")?;
    kill(machine, "zoned")?;
    // It answers, and of the zones that it knew nothing is left.
    let status = machine.zones().status(machine.within(SOON))?;
    for zone in &status.zones {
        let phase = zone.state.phase;
        ensure!(phase == Phase::Stopped, "{} is {phase:?} although its processes died with zoned", zone.name);
    }
    let left = machine.zones().processes(machine.within(SOON))?;
    let left: Vec<&str> = left
        .iter()
        .filter(|process| process.user >= FIRST_ZONE_USER)
        .map(|process| process.name.as_str())
        .collect();
    ensure!(left.is_empty(), "processes of zones outlived zoned: {left:?}");
    // The desktop, which was connected to the old one, shows what the new one says, and starts a zone there.
    shows_another_state(machine, "office", &before)?;
    touch_tile(machine, "office")?;
    machine.zones().wait_until("office running by a touch", machine.within(START), |status| {
        status.zones.iter().any(|zone| zone.name == "office" && zone.state.phase == Phase::Running)
    })?;
    machine.zones().wait_for_tunnel("office", machine.within(START))?;
    fetch_own_page(machine, Site::Office)?;
    Ok(())
}

/// Kills a service and waits until a new process of it runs and a notice names it.
fn kill(machine: &Machine, service: &str) -> anyhow::Result<()> {
    let numbers = machine.zones().status(machine.within(SOON))?.notices;
    // A new zoned counts its notices anew.
    let last = if service == "zoned" { 0 } else { numbers.last().map_or(0, |notice| notice.number) };
    let process = service_of(machine, service)?;
    let place = machine.serial().end();
    machine.zones().kill(process, KILL, machine.within(SOON))?;
    machine
        .serial()
        .wait_for_since(place, &format!("init: {service} started"), machine.within(SOON))
        .with_context(|| format!("{service} was killed and should start again"))?;
    machine.zones().wait_until(&format!("a notice about {service}"), machine.within(SOON), |status| {
        let mut notices = status.notices.iter().filter(|notice| notice.number > last);
        notices.any(|notice| notice.process == service && notice.text.contains(service))
    })?;
    let again = service_of(machine, service)?;
    ensure!(again != process, "{service} (pid {process}) did not die");
    Ok(())
}

fn shows_another_state(machine: &Machine, zone: &str, before: &Picture) -> anyhow::Result<()> {
    let layout = layout(machine)?;
    let tile = rectangle(*layout.tiles.get(slot(zone)?).context("the zone has a tile")?)?;
    let wanted = format!("another state of {zone}");
    machine.look_until("after-zoned", &wanted, machine.within(SOON), |picture| {
        drawn(machine, picture) && picture.difference(before, tile) > CHANGED
    })?;
    Ok(())
}
