//! One service of the host dies: it comes back by itself, the user is told, and what it did goes on.

use anyhow::{Context, ensure};
use control_api::Phase;
use gateway::Site;
use harness::Machine;

use super::zones::drawn;
use crate::world::{
    SOON, START, World, ensure_connected, ensure_stopped, fetch_own_page, layout, process_of, rectangle,
    service_of, touch_tile, uptime, zone,
};

/// SIGKILL.
const KILL: i32 = 9;

/// Pixels by which a bar differs when it tells another state.
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
    for zone in ZONES_WITH_TUNNEL {
        ensure_connected(machine, zone.name())?;
    }
    let before = ZONES_WITH_TUNNEL.map(|zone| lived(machine, zone));
    kill(machine, "zoned")?;
    // The same processes, the same guests, the same tunnels: nobody in a zone noticed.
    for (zone, before) in ZONES_WITH_TUNNEL.into_iter().zip(before) {
        let name = zone.name();
        let (processes, uptime) = before?;
        machine.zones().wait_until(&format!("{name} taken over"), machine.within(SOON), |status| {
            let whole = |zone: &control_api::Zone| {
                zone.name == name && zone.state.phase == Phase::Running && zone.state.reason.is_none()
            };
            status.zones.iter().any(whole)
        })?;
        let (processes_now, uptime_now) = lived(machine, zone)?;
        ensure!(processes_now == processes, "{name} was started anew");
        ensure!(
            uptime_now > uptime,
            "the guest of {name} runs for {uptime_now} s, before it were {uptime} s"
        );
        fetch_own_page(machine, zone)?;
    }
    // It is whole: the new zoned ends one in order, and starts it by a touch.
    ensure_stopped(machine, "office")?;
    let office = zone(machine, "office")?;
    ensure!(office.state.phase == Phase::Stopped, "office is {:?}", office.state);
    touch_tile(machine, "office")?;
    machine.zones().wait_until("office running by a touch", machine.within(START), |status| {
        status.zones.iter().any(|zone| zone.name == "office" && zone.state.phase == Phase::Running)
    })?;
    machine.zones().wait_for_tunnel("office", machine.within(START))?;
    fetch_own_page(machine, Site::Office)?;
    Ok(())
}

/// Zones that `zoned` must not take with it.
const ZONES_WITH_TUNNEL: [Site; 2] = [Site::Office, Site::Research];

/// A zone's processes, and for how many seconds its guest has run.
fn lived(machine: &Machine, zone: Site) -> anyhow::Result<([i32; 2], f64)> {
    let name = zone.name();
    let processes = [process_of(machine, "vmm", name)?, process_of(machine, "vpnd", name)?];
    Ok((processes, uptime(machine, name)?))
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
