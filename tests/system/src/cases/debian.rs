//! The template `debian`: its user's PIN opens it, systemd comes up in the zone, its agent answers, its user's session opens,
//! its network goes through its tunnel.

use anyhow::{Context, ensure};
use control_api::Phase;
use gateway::Site;
use harness::Machine;

use super::session;
use crate::artifacts::Artifacts;
use crate::cpio;
use crate::world::{BOOT, SOON, World, ZONES, fetch_own_page, test_machine};

/// Seconds of a fast machine in which systemd brings the agent up.
const START: u32 = 90;

/// Changes to the demo policy: office is a zone to work in.
const CHANGES: [(&str, &str); 4] = [
    ("template = \"micro\"", "template = \"debian\""),
    ("memory = \"256 MiB\"", "memory = \"1024 MiB\""),
    ("vcpus = 1", "vcpus = 2"),
    (
        "disk = \"64 MiB\"",
        "disk = \"64 MiB\"\nkeep = [\"/var/lib/systemd\", \"/srv/kept\"]\nuser = \"anna-2\"\nlogin = \"pin\"",
    ),
];

const PIN: &str = "314159";

/// What lies on the private disk.
const KEPT: [&str; 3] = ["/home", "/var/lib/systemd", "/srv/kept"];

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
    let soak = world.plan.soak;
    let machine = world.odd_machine(module_path!(), boot)?;
    let zones = machine.zones();
    zones.wait_until("the zones", machine.within(BOOT), |status| status.zones.len() == ZONES.len())?;
    let begun = std::time::Instant::now();
    let before = machine.serial().end();
    zones.open("office", PIN, machine.within(SOON)).context("open the debian zone")?;
    zones.wait_for_phase("office", Phase::Running, machine.within(START))?;
    let running = begun.elapsed();
    let session = session::opens(machine, begun)?;
    zones.wait_for_tunnel("office", machine.within(START))?;
    fetch_own_page(machine, Site::Office)?;
    let fetched = begun.elapsed();
    kept(machine)?;
    let said = machine.serial().since(before);
    let steps = said.lines().find_map(|line| line.split_once("it has started zone=\"office\" "));
    let steps = steps.context("zoned does not say where the time went")?.1.trim().replace('=', " ");
    stop(machine)?;
    if soak {
        // The folder was a fresh one before; now it is found. Systemd let go of both before it ended the machine.
        zones.open("office", PIN, machine.within(SOON)).context("open the debian zone again")?;
        zones.wait_for_phase("office", Phase::Running, machine.within(START))?;
        kept(machine)?;
        let log = zones.run_check("office", "dmesg", &[], machine.within(SOON))?.output;
        ensure!(
            !log.contains("was not unmounted in order"),
            "a stop in order left the disk in disorder:\n{log}"
        );
        stop(machine)?;
    }
    world.drop_odd_machine();
    let (running, fetched) = (running.as_secs(), fetched.as_secs());
    world.remark(format!(
        "agent after {running} s, session after {session} s, page after {fetched} s; {steps}"
    ));
    Ok(())
}

/// The private disk is where the policy wants it.
fn kept(machine: &Machine) -> anyhow::Result<()> {
    let mounts = machine.zones().run_check("office", "mounts", &[], machine.within(SOON))?.output;
    let device = |path: &str| {
        let mut lines = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        lines.find_map(|words| match words.as_slice() {
            [device, at, "ext4", ..] if *at == path => Some((*device).to_owned()),
            _ => None,
        })
    };
    let devices = KEPT.map(device);
    ensure!(
        devices[0].is_some() && devices.iter().all(|device| *device == devices[0]),
        "{KEPT:?} lie on {devices:?}:\n{mounts}"
    );
    Ok(())
}

/// Systemd ends the zone, in order.
fn stop(machine: &Machine) -> anyhow::Result<()> {
    let zones = machine.zones();
    zones.stop("office", machine.within(SOON)).context("stop the zone")?;
    let stopped = zones.wait_for_phase("office", Phase::Stopped, machine.within(START))?;
    ensure!(
        stopped.state.reason.is_none(),
        "the zone was not shut down in order: {:?}",
        stopped.state.reason
    );
    Ok(())
}
