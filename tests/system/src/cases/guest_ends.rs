//! A guest ends by itself, by root's hand inside it: each way to end is told apart, and the zone starts again. A
//! guest that reboots is no end.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use control_api::Phase;
use harness::Machine;

use crate::report::say;
use crate::world::{SOON, START, World, ensure_running, process_of};

/// How often a guest reboots in a row.
const SAMPLE: u32 = 5;
const SOAK: u32 = 100;

/// It has no tunnel, so it starts fastest.
const ZONE: &str = "vault";

pub(super) fn told_apart(world: &mut World) -> anyhow::Result<()> {
    let reboots = if world.plan.soak { SOAK } else { SAMPLE };
    let machine = world.machine()?;
    let panicked = panic(machine).context("a guest whose kernel panics")?;
    reboot(machine, reboots).context("a guest that reboots")?;
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

/// The machine is reset inside its process: the guest is another one, the process the same.
fn reboot(machine: &Machine, times: u32) -> anyhow::Result<()> {
    ensure_running(machine, ZONE)?;
    let process = process_of(machine, "vmm", ZONE)?;
    let mut before = boot(machine).context("the guest's boot id")?;
    for number in 1..=times {
        end(machine, "reboot")?;
        let deadline = machine.within(START);
        before = loop {
            // A guest that is not back in time has no verdict; one that is back says which boot it is.
            let back = machine.zones().wait_for_phase(ZONE, Phase::Running, deadline);
            back.with_context(|| format!("reboot {number}"))?;
            match boot(machine) {
                Ok(after) if after != before => break after,
                Ok(_) | Err(_) if Instant::now() < deadline => {
                    // The agent is not back yet: nothing on the host tells of it before it is.
                    std::thread::park_timeout(Duration::from_millis(200));
                }
                Ok(_) => bail!("reboot {number}: the guest is still the same"),
                Err(error) => return Err(error).with_context(|| format!("reboot {number}")),
            }
        };
        ensure!(process_of(machine, "vmm", ZONE)? == process, "reboot {number}: another process");
        if number.is_multiple_of(20) {
            say(format!("                 {number} of {times} reboots"));
        }
    }
    machine.zones().wait_for_phase(ZONE, Phase::Running, machine.within(START))?;
    Ok(())
}

/// The random number that a guest's kernel gives each of its boots.
fn boot(machine: &Machine) -> anyhow::Result<String> {
    let result = machine.zones().run_check(ZONE, "end_guest", &["boot_id"], machine.within(SOON))?;
    ensure!(result.passed && !result.output.trim().is_empty(), "no boot id: {}", result.output);
    Ok(result.output)
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
