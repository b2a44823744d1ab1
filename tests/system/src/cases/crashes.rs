//! One process of a zone dies: the other zone does not notice, the user is told what died, the desktop lives.

use anyhow::{Context, ensure};
use control_api::{Notice, Phase};
use gateway::Site;
use harness::{Machine, Picture};

use super::zones::drawn;
use crate::world::{
    SOON, START, World, ensure_connected, fetch_own_page, last_notice, layout, process_of, rectangle,
    service_of, slot, touch_tile, user_of,
};

/// SIGKILL.
const KILL: i32 = 9;

/// Pixels by which a picture of the same place differs when something else stands there.
const CHANGED: usize = 100;

/// Kills of a random series: as a sample, and in full.
const SAMPLE: u32 = 2;
const SOAK: u32 = 50;

/// A process that is to die, and the zone that must not notice.
#[derive(Clone, Copy, Debug)]
struct Victim {
    program: &'static str,
    zone: Site,
    other: Site,
}

impl Victim {
    /// Every process that a zone has.
    const ALL: [Self; 4] = [
        Self { program: "vmm", zone: Site::Office, other: Site::Research },
        Self { program: "vpnd", zone: Site::Office, other: Site::Research },
        Self { program: "vmm", zone: Site::Research, other: Site::Office },
        Self { program: "vpnd", zone: Site::Research, other: Site::Office },
    ];

    /// As `zoned` names it in a notice.
    fn name(self) -> String {
        format!("{} {}", self.program, self.zone.name())
    }
}

pub(super) fn vmm(world: &mut World) -> anyhow::Result<()> {
    let machine = world.machine()?;
    let victim = Victim::ALL[0];
    let before = kill(machine, victim)?;
    failed(machine, victim)?;
    survived(machine, victim, &before)?;
    notice_is_shown(machine, &before.picture)?;
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
    let victim = Victim::ALL[1];
    ensure_connected(machine, "office")?;
    let machine_before = process_of(machine, "vmm", "office")?;
    let before = kill(machine, victim)?;
    back_again(machine, victim)?;
    survived(machine, victim, &before)?;
    notice_is_shown(machine, &before.picture)?;
    let again = process_of(machine, "vmm", "office")?;
    ensure!(again == machine_before, "office was started anew for its tunnel");
    fetch_own_page(machine, Site::Office)?;
    Ok(())
}

pub(super) fn series(world: &mut World) -> anyhow::Result<()> {
    let (mut dice, seed, soak) = (world.plan.dice(), world.plan.seed, world.plan.soak);
    let kills = if soak { SOAK } else { SAMPLE };
    let machine = world.machine()?;
    for number in 1..=kills {
        let victim = dice.pick(&Victim::ALL);
        one_of_series(machine, victim).with_context(|| {
            format!("kill {number} of {kills}, {} (--seed {seed} repeats it)", victim.name())
        })?;
    }
    world.remark(format!("{kills} kills, seed {seed}"));
    Ok(())
}

fn one_of_series(machine: &Machine, victim: Victim) -> anyhow::Result<()> {
    let before = kill(machine, victim)?;
    match victim.program {
        "vmm" => failed(machine, victim)?,
        // A long series kills one tunnel process oftener than `zoned` starts it again: then a user restarts the zone.
        _ if before.notice.contains("again and again") => {
            let zone = victim.zone.name();
            machine.zones().restart(zone, machine.within(SOON))?;
            // The tunnel is up before the agent is there.
            machine.zones().wait_for_tunnel(zone, machine.within(START))?;
            machine.zones().wait_for_phase(zone, Phase::Running, machine.within(START))?;
            fetch_own_page(machine, victim.zone)?;
        }
        _ => back_again(machine, victim)?,
    }
    survived(machine, victim, &before)
}

/// What was so before the kill and must be so after it, and what `zoned` said about the kill.
struct Before {
    desktop: i32,
    other: [i32; 2],
    picture: Picture,
    notice: String,
}

/// Brings both zones up and kills a process of one; returns when `zoned` has a notice that names it.
fn kill(machine: &Machine, victim: Victim) -> anyhow::Result<Before> {
    for site in [victim.zone, victim.other] {
        ensure_connected(machine, site.name())?;
    }
    let last = last_notice(machine)?;
    let desktop = service_of(machine, "desktop")?;
    let other = processes(machine, victim.other)?;
    let picture = machine.look(&format!("before-{}", victim.program))?;
    let process = process_of(machine, victim.program, victim.zone.name())?;
    machine.zones().kill(process, KILL, machine.within(SOON))?;
    let name = victim.name();
    let names = |notice: &Notice| notice.number > last && notice.process == name && !notice.text.is_empty();
    let status =
        machine.zones().wait_until(&format!("a notice about {name}"), machine.within(SOON), |status| {
            status.notices.iter().any(names)
        })?;
    let notice = status.notices.into_iter().find(|notice| names(notice)).context("the notice just seen")?;
    Ok(Before { desktop, other, picture, notice: notice.text })
}

fn processes(machine: &Machine, site: Site) -> anyhow::Result<[i32; 2]> {
    Ok([process_of(machine, "vmm", site.name())?, process_of(machine, "vpnd", site.name())?])
}

/// Without its machine a zone has failed, says why, and has no process left.
fn failed(machine: &Machine, victim: Victim) -> anyhow::Result<()> {
    let name = victim.zone.name();
    let failed = machine.zones().wait_for_phase(name, Phase::Failed, machine.within(SOON))?;
    let reason = failed.state.reason.unwrap_or_default();
    ensure!(!reason.is_empty(), "a failed zone says why");
    let users = [user_of("vmm", name)?, user_of("vpnd", name)?];
    let left = machine.zones().processes(machine.within(SOON))?;
    let left: Vec<&str> = left
        .iter()
        .filter(|process| users.contains(&process.user))
        .map(|process| process.name.as_str())
        .collect();
    ensure!(left.is_empty(), "the failed zone {name} still has {left:?}");
    Ok(())
}

/// Without its tunnel process a zone runs on, gets another one, and has its network again.
fn back_again(machine: &Machine, victim: Victim) -> anyhow::Result<()> {
    let name = victim.zone.name();
    let seen = machine.zones().wait_for_tunnel(name, machine.within(START))?;
    ensure!(
        seen.state.phase == Phase::Running,
        "the zone is {:?} with another tunnel process",
        seen.state.phase
    );
    fetch_own_page(machine, victim.zone)?;
    Ok(())
}

/// The other zone and the desktop are the same as before, and both do their work.
fn survived(machine: &Machine, victim: Victim, before: &Before) -> anyhow::Result<()> {
    ensure!(service_of(machine, "desktop")? == before.desktop, "the desktop was started anew");
    let other = victim.other.name();
    ensure!(processes(machine, victim.other)? == before.other, "{other} was started anew");
    fetch_own_page(machine, victim.other)?;
    // The picker is whole, and its tile tells the zone's new state.
    let layout = layout(machine)?;
    let tile = rectangle(*layout.tiles.get(slot(victim.zone.name())?).context("the zone has a tile")?)?;
    machine.look_until("after-crash", "the dead zone's new state", machine.within(SOON), |picture| {
        // A tunnel that is back looks as before.
        let changed = picture.difference(&before.picture, tile) > CHANGED;
        drawn(machine, picture) && (changed || victim.program == "vpnd")
    })?;
    Ok(())
}

/// The notice bar says something that it did not say before.
fn notice_is_shown(machine: &Machine, before: &Picture) -> anyhow::Result<()> {
    let bar = rectangle(layout(machine)?.notice)?;
    machine.look_until("after-crash", "a notice in the bar", machine.within(SOON), |picture| {
        picture.difference(before, bar) > CHANGED
    })?;
    Ok(())
}
