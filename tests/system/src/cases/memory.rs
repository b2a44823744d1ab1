//! Memory that a guest took once and freed belongs to the host again.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use harness::Machine;

use crate::world::{BOOT, SOON, START, World, ensure_running, set_policy, test_machine};

const ZONE: &str = "greedy";

/// The zone is the policy's first, so this is its VMM's user (ARCHITECTURE.md, "Processes").
const VMM: u32 = 2000;

const POLICY: &str = r#"
schema = 1
version = 1
name = "Memory"

[zone.greedy]
colour = "red"
template = "micro"
memory = "512 MiB"
vcpus = 1
disk = "64 MiB"
network = "none"
"#;

/// What the guest takes and frees, in MiB.
const BURST: u64 = 256;

/// Seconds of a fast machine until it is back.
const BACK: u32 = 5;

pub(super) fn comes_back(world: &mut World) -> anyhow::Result<()> {
    let mut config = test_machine(&world.artifacts)?;
    config.network = None;
    config.name = "memory".to_owned();
    set_policy(&mut config, &world.artifacts, POLICY)?;
    let machine = Machine::boot(config).context("boot the host")?;
    machine.zones().wait_until("the zone", machine.within(BOOT), |status| status.zones.len() == 1)?;
    ensure_running(&machine, ZONE)?;
    // The first burst is not the one that counts: the guest's kernel keeps what it needs to manage that much.
    burst(&machine, &["take", &BURST.to_string()])?;
    burst(&machine, &["free"])?;
    let before = settled(&machine)?;

    burst(&machine, &["take", &BURST.to_string()])?;
    let with = used_kib(&machine)?;
    ensure!(
        with >= before + BURST * 1024 * 9 / 10,
        "{with} KiB with the burst, {before} before: nothing was taken"
    );
    burst(&machine, &["free"])?;
    let deadline = machine.within(BACK);
    let begun = Instant::now();
    loop {
        let now = used_kib(&machine)?;
        if now <= before * 11 / 10 {
            let after = begun.elapsed().as_secs_f32();
            world.remark(format!("{before} KiB before, {with} with the burst, {now} after {after:.1} s"));
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "{now} KiB after the burst was freed, {before} before it, {with} with it"
        );
        // The guest reports when it comes to it; nothing tells when.
        std::thread::park_timeout(Duration::from_millis(200));
    }
}

fn burst(machine: &Machine, arguments: &[&str]) -> anyhow::Result<()> {
    let result = machine.zones().run_check(ZONE, "burst", arguments, machine.within(START))?;
    ensure!(result.passed, "burst {arguments:?}: {}", result.output);
    Ok(())
}

/// What the host gives the guest, once that has not shrunk for as long as it would take to come back.
fn settled(machine: &Machine) -> anyhow::Result<u64> {
    let deadline = machine.within(START);
    let mut lowest = used_kib(machine)?;
    let mut since = Instant::now();
    while since.elapsed() < Duration::from_secs(BACK.into()) {
        ensure!(Instant::now() < deadline, "the guest's memory goes on shrinking, {lowest} KiB now");
        let now = used_kib(machine)?;
        if now < lowest {
            (lowest, since) = (now, Instant::now());
        }
        std::thread::park_timeout(Duration::from_millis(200));
    }
    Ok(lowest)
}

/// What the memory files of the zone's VMM take.
fn used_kib(machine: &Machine) -> anyhow::Result<u64> {
    let processes = machine.zones().processes(machine.within(SOON))?;
    let vmm = processes.iter().find(|process| process.user == VMM).context("the zone has no VMM")?;
    ensure!(vmm.memory_files_kib > 0, "the VMM holds no memory file: {:?}", vmm.descriptors);
    Ok(vmm.memory_files_kib)
}
