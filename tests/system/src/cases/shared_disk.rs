//! A zone that writes as much as it can leaves the others their part of the disk.

use std::time::Duration;

use anyhow::{Context, ensure};
use harness::Machine;
use harness::zones::RunningCheck;

use crate::world::{BOOT, SOON, START, World, ensure_running, set_policy, test_machine};

const GREEDY: &str = "greedy";
const MODEST: &str = "modest";

const POLICY: &str = r#"
schema = 1
version = 1
name = "Shared disk"

[zone.greedy]
colour = "red"
template = "micro"
memory = "256 MiB"
vcpus = 2
disk = "64 MiB"
network = "none"

[zone.modest]
colour = "blue"
template = "micro"
memory = "256 MiB"
vcpus = 1
disk = "64 MiB"
network = "none"
"#;

/// What the machine's disk can do, in bytes a second: so little that the disk decides and not the processors.
const DISK: u64 = 24 * 1024 * 1024;

/// Writers, KiB a write, and seconds: of the greedy zone, which begins before the modest one and ends after it.
const FLOOD: [&str; 3] = ["8", "2048", "20"];
const FLOOD_SECONDS: u64 = 20;
const MODEST_WRITES: [&str; 3] = ["1", "16", "10"];

/// The disk became slow at once: its scheduler has to notice.
const LEARNING: Duration = Duration::from_secs(5);

/// The modest zone keeps at least this part of what it writes alone. Without shares it keeps a fiftieth; without encryption it
/// kept two thirds (docs/decisions/0014).
const KEPT: u64 = 6;

pub(super) fn fairly(world: &mut World) -> anyhow::Result<()> {
    let mut config = test_machine(&world.artifacts)?;
    config.network = None;
    config.name = "shared-disk".to_owned();
    set_policy(&mut config, &world.artifacts, POLICY)?;
    let machine = Machine::boot(config).context("boot the host")?;
    machine.zones().wait_until("the zones", machine.within(BOOT), |status| status.zones.len() == 2)?;
    for zone in [GREEDY, MODEST] {
        ensure_running(&machine, zone)?;
    }
    // Space is taken while the disk is fast: what is compared is writing.
    for (zone, [writers, kib, _]) in [(GREEDY, FLOOD), (MODEST, MODEST_WRITES)] {
        confirmed(&machine, begin(&machine, zone, [writers, kib, "1"])?)?;
    }
    machine.qmp().limit_data_disk(DISK, machine.within(SOON)).context("slow the disk down")?;

    let alone = confirmed(&machine, begin(&machine, MODEST, MODEST_WRITES)?)?;
    let flood = begin(&machine, GREEDY, FLOOD)?;
    machine.serial().pause(LEARNING);
    let beside = confirmed(&machine, begin(&machine, MODEST, MODEST_WRITES)?)?;
    let flooded = confirmed(&machine, flood)?;
    world.remark(format!(
        "{alone} KiB alone, {beside} KiB beside a zone that wrote {flooded} KiB in {FLOOD_SECONDS} s"
    ));
    ensure!(
        flooded > DISK / 1024 * FLOOD_SECONDS / 2,
        "the greedy zone wrote {flooded} KiB only: the disk was not short"
    );
    ensure!(beside * KEPT >= alone, "{beside} KiB beside a greedy zone, {alone} KiB alone");
    Ok(())
}

fn begin(machine: &Machine, zone: &str, arguments: [&str; 3]) -> anyhow::Result<RunningCheck> {
    machine.zones().begin_check(zone, "flood", &arguments).with_context(|| format!("flood in {zone}"))
}

fn confirmed(machine: &Machine, check: RunningCheck) -> anyhow::Result<u64> {
    let result = check.result(machine.within(START))?;
    ensure!(result.passed, "flood: {}", result.output);
    result.output.trim().parse().with_context(|| format!("flood printed {:?}", result.output))
}
