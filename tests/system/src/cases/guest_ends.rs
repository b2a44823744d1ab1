//! A guest ends by itself, by root's hand inside it: each way to end is told apart, and the zone starts again.

use std::time::Instant;

use anyhow::{Context, ensure};
use control_api::Phase;
use harness::Machine;

use crate::world::{SOON, START, World, ensure_running, process_of, uptime};

/// It has no tunnel, so it starts fastest.
const ZONE: &str = "vault";

pub(super) fn told_apart(world: &mut World) -> anyhow::Result<()> {
    let machine = world.machine()?;
    let panicked = panic(machine).context("a guest whose kernel panics")?;
    reboot(machine).context("a guest that reboots")?;
    let off = power_off(machine).context("a guest that powers off")?;
    ensure!(panicked != off, "a panic and a power-off have the same reason: {off}");
    ensure_running(machine, ZONE)?;
    Ok(())
}

fn panic(machine: &Machine) -> anyhow::Result<String> {
    ensure_running(machine, ZONE)?;
    end(machine, "panic")?;
    let zone = machine.zones().wait_for_phase(ZONE, Phase::Failed, machine.within(START))?;
    let reason = zone.state.reason.context("a failed zone says why")?;
    ensure!(reason.contains("panic"), "the reason does not tell of a panic: {reason}");
    Ok(reason)
}

/// The machine process carries a reset out itself: the same process, a guest that runs anew.
fn reboot(machine: &Machine) -> anyhow::Result<()> {
    ensure_running(machine, ZONE)?;
    let before = (process_of(machine, "vmm", ZONE)?, Instant::now(), uptime(machine, ZONE)?);
    end(machine, "reboot")?;
    machine.zones().wait_for_phase(ZONE, Phase::Starting, machine.within(START))?;
    machine.zones().wait_for_phase(ZONE, Phase::Running, machine.within(START))?;
    ensure!(process_of(machine, "vmm", ZONE)? == before.0, "a reset ended the machine process");
    let now = uptime(machine, ZONE)?;
    let without = before.2 + before.1.elapsed().as_secs_f64();
    ensure!(now < without - 1.0, "the guest runs for {now} s, without a reset {without} s");
    Ok(())
}

fn power_off(machine: &Machine) -> anyhow::Result<String> {
    ensure_running(machine, ZONE)?;
    end(machine, "power_off")?;
    let zone = machine.zones().wait_for_phase(ZONE, Phase::Stopped, machine.within(START))?;
    zone.state.reason.context("a zone that stopped by itself says why")
}

/// Ends the guest from inside. Its agent dies in the middle of the check, so there is no result to believe;
/// one that says no means that nothing was tried.
fn end(machine: &Machine, how: &str) -> anyhow::Result<()> {
    if let Ok(result) = machine.zones().run_check(ZONE, "end_guest", &[how], machine.within(SOON)) {
        ensure!(result.passed, "the guest was not ended: {}", result.output);
    }
    Ok(())
}
