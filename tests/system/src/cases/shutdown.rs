//! The host powers off in order, with zones running.

use anyhow::{Context, ensure};

use crate::world::{SOON, START, World, ensure_running};

pub(super) fn power_button(world: &mut World) -> anyhow::Result<()> {
    const ZONES: [&str; 2] = ["office", "vault"];
    let machine = world.machine()?;
    for zone in ZONES {
        ensure_running(machine, zone)?;
    }
    machine.qmp().press_power_button(machine.within(SOON))?;
    let deadline = machine.within(START + SOON);
    let status = machine.wait_for_end(deadline).context("the host did not power off in time")?;
    ensure!(status.success(), "QEMU ended with {status}");
    let console = machine.serial().tail(400);
    // What earlier tests did to this machine does not count.
    let (_, console) = console
        .split_once("going down, asked by the power button")
        .with_context(|| format!("no button was seen:\n{console}"))?;
    // Each guest shut itself down; nobody killed a machine.
    for zone in ZONES {
        let ended = format!("machine ended zone=\"{zone}\" end=ShutDown");
        ensure!(console.contains(&ended), "{zone} did not shut itself down:\n{console}");
    }
    // The services of the host may be killed: they have nothing to lose.
    let of_a_zone = |line: &&str| line.starts_with("init: vmm ") || line.starts_with("init: vpnd ");
    let killed = console.lines().filter(of_a_zone).find(|line| line.contains("killed by signal"));
    ensure!(killed.is_none(), "{killed:?}:\n{console}");
    for bad in ["did not end in time", "Kernel panic", "EXT4-fs error"] {
        ensure!(!console.contains(bad), "the console says {bad:?}:\n{console}");
    }
    world.drop_machines();
    Ok(())
}

pub(super) fn power_off(world: &mut World) -> anyhow::Result<()> {
    let machine = world.machine()?;
    ensure_running(machine, "office")?;
    machine.zones().power_off(machine.within(SOON))?;
    let deadline = machine.within(START);
    let status = machine.wait_for_end(deadline).context("the host did not power off in time")?;
    ensure!(status.success(), "QEMU ended with {status}");
    let console = machine.serial().tail(400);
    for bad in ["Kernel panic", "BUG:", "Oops", "EXT4-fs error", "forbidden system call"] {
        ensure!(!console.contains(bad), "the console says {bad:?}:\n{console}");
    }
    ensure!(console.contains("reboot: Power down"), "the kernel did not power down:\n{console}");
    world.drop_machines();
    Ok(())
}
