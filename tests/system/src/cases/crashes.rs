//! One process of a zone dies: the other zone does not notice, the user is told what died, the desktop lives.

use anyhow::{Context, ensure};
use control_api::{Notice, Phase};
use gateway::Site;
use harness::{Machine, Picture};

use crate::world::{
    SOON, START, World, ensure_connected, ensure_stopped, fetch_own_page, layout, process_of, rectangle,
    touch_tile, zone,
};

/// SIGKILL.
const KILL: i32 = 9;

/// User of the desktop.
const DESKTOP: u32 = 102;

pub(super) fn vmm(world: &mut World) -> anyhow::Result<()> {
    let machine = world.machine()?;
    let before = kill(machine, "vmm")?;
    let failed = machine.zones().wait_for_phase("office", Phase::Failed, machine.within(SOON))?;
    let reason = failed.state.reason.unwrap_or_default();
    ensure!(!reason.is_empty(), "a failed zone says why");
    survived(machine, before)?;
    // The desktop still takes a touch, and the zone comes back by it.
    touch_tile(machine, "office")?;
    machine.zones().wait_until("office running again by a touch", machine.within(START), |status| {
        status.zones.iter().any(|zone| zone.name == "office" && zone.state.phase == Phase::Running)
    })?;
    machine.zones().wait_for_tunnel("office", machine.within(START))?;
    fetch_own_page(machine, Site::Office)?;
    Ok(())
}

pub(super) fn vpnd(world: &mut World) -> anyhow::Result<()> {
    let machine = world.machine()?;
    let before = kill(machine, "vpnd")?;
    survived(machine, before)?;
    let office = zone(machine, "office")?;
    ensure!(office.tunnel.is_some_and(|tunnel| !tunnel.up), "zoned shows a tunnel without its process");
    ensure_stopped(machine, "office")?;
    ensure_connected(machine, "office")?;
    fetch_own_page(machine, Site::Office)?;
    Ok(())
}

/// What was so before the kill and must be so after it.
struct Before {
    desktop: i32,
    research: i32,
    picture: Picture,
}

/// Brings both zones up and kills a process of office; returns when `zoned` has a notice that names it.
fn kill(machine: &Machine, program: &str) -> anyhow::Result<Before> {
    ensure_connected(machine, "office")?;
    ensure_connected(machine, "research")?;
    let last = machine.zones().status(machine.within(SOON))?.notices.last().map_or(0, |notice| notice.number);
    let before = Before {
        desktop: desktop(machine)?,
        research: process_of(machine, "vmm", "research")?,
        picture: machine.look(&format!("before-{program}"))?,
    };
    let victim = process_of(machine, program, "office")?;
    machine.zones().kill(victim, KILL, machine.within(SOON))?;
    let process = format!("{program} office");
    let names =
        |notice: &Notice| notice.number > last && notice.process == process && !notice.text.is_empty();
    machine.zones().wait_until(&format!("a notice about {process}"), machine.within(SOON), |status| {
        status.notices.iter().any(names)
    })?;
    Ok(before)
}

fn survived(machine: &Machine, before: Before) -> anyhow::Result<()> {
    ensure!(desktop(machine)? == before.desktop, "the desktop was started anew");
    ensure!(process_of(machine, "vmm", "research")? == before.research, "research was started anew");
    fetch_own_page(machine, Site::Research)?;
    // The notice bar says something that it did not say before.
    let bar = rectangle(layout(machine)?.notice)?;
    machine.look_until("after-crash", "a notice in the bar", machine.within(SOON), |picture| {
        let changed = (bar.y..bar.y + bar.height)
            .flat_map(|y| (bar.x..bar.x + bar.width).map(move |x| (x, y)))
            .filter(|(x, y)| picture.at(*x, *y) != before.picture.at(*x, *y))
            .count();
        changed > 100
    })?;
    Ok(())
}

fn desktop(machine: &Machine) -> anyhow::Result<i32> {
    let processes = machine.zones().processes(machine.within(SOON))?;
    processes
        .iter()
        .find(|process| process.user == DESKTOP)
        .map(|process| process.pid)
        .context("no desktop runs")
}
