//! The template `debian`: systemd comes up in a zone, its agent answers, its network goes through its tunnel.

use anyhow::{Context, ensure};
use control_api::Phase;
use gateway::Site;
use harness::Machine;

use crate::artifacts::Artifacts;
use crate::cpio;
use crate::world::{BOOT, SOON, World, ZONES, fetch_own_page, test_machine};

/// Seconds of a fast machine in which systemd brings the agent up.
const START: u32 = 90;

/// Changes to the demo policy: office is a zone to work in.
const CHANGES: [(&str, &str); 3] = [
    ("template = \"micro\"", "template = \"debian\""),
    ("memory = \"256 MiB\"", "memory = \"1024 MiB\""),
    ("vcpus = 1", "vcpus = 2"),
];

fn boot(artifacts: &Artifacts) -> anyhow::Result<Machine> {
    let mut config = test_machine(artifacts)?;
    let path = artifacts.demo.join("policy.toml");
    let mut policy = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    for (from, to) in CHANGES {
        ensure!(policy.contains(from), "the demo policy says {from} nowhere");
        policy = policy.replacen(from, to, 1);
    }
    let segment = artifacts.logs().join("debian-policy.cpio");
    std::fs::write(&segment, cpio::single("etc/bulkhead/policy.toml", policy.as_bytes())?)
        .with_context(|| format!("write {}", segment.display()))?;
    config.initramfs.push(segment);
    config.name = "debian".to_owned();
    Machine::boot(config).context("boot the host with a debian zone")
}

pub(super) fn fetches(world: &mut World) -> anyhow::Result<()> {
    let machine = world.odd_machine(boot)?;
    let zones = machine.zones();
    zones.wait_until("the zones", machine.within(BOOT), |status| status.zones.len() == ZONES.len())?;
    let begun = std::time::Instant::now();
    zones.start("office", machine.within(SOON)).context("start the debian zone")?;
    zones.wait_for_phase("office", Phase::Running, machine.within(START))?;
    let running = begun.elapsed();
    zones.wait_for_tunnel("office", machine.within(START))?;
    fetch_own_page(machine, Site::Office)?;
    let fetched = begun.elapsed();
    // Ended by systemd, in order.
    zones.stop("office", machine.within(SOON)).context("stop the zone")?;
    let stopped = zones.wait_for_phase("office", Phase::Stopped, machine.within(START))?;
    ensure!(
        stopped.state.reason.is_none(),
        "the zone was not shut down in order: {:?}",
        stopped.state.reason
    );
    world.drop_odd_machine();
    world.remark(format!("agent after {} s, page after {} s", running.as_secs(), fetched.as_secs()));
    Ok(())
}
