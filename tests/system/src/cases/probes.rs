//! A guest that reaches for what is the firmware's and the host's, from its first instruction on: it reads an empty mailbox,
//! nobody hears its report, its TPM has one locality, and a reset in the middle of a command leaves no trace in the next start.

use anyhow::{Context, ensure};
use control_api::Phase;
use harness::Machine;

use super::tpm::measured_firmware;
use crate::artifacts::Artifacts;
use crate::disk::{DataDisk, build_keys};
use crate::hostile::{NAME, probe};
use crate::world::{BOOT, SOON, World, ensure_running, set_policy, test_machine, zone};

const OTHER: &str = "other";

const POLICY: &str = r#"
schema = 1
version = 1
name = "Probes"

[zone.hostile]
colour = "red"
template = "hostile"
memory = "64 MiB"
vcpus = 1
disk = "16 MiB"
network = "none"

[zone.other]
colour = "blue"
template = "micro"
memory = "128 MiB"
vcpus = 1
disk = "16 MiB"
network = "none"
"#;

/// What the zone's reason says when its guest saw everything as it has to be, each time.
const DONE: &str = "shut itself down";

fn boot(artifacts: &Artifacts) -> anyhow::Result<Machine> {
    let disk = DataDisk::new(artifacts, "probes")?;
    disk.copy_micro(artifacts, "micro")?;
    probe::make(&disk.template(NAME)?, &build_keys(artifacts)?, measured_firmware(artifacts)?)?;
    let mut config = test_machine(artifacts)?;
    config.name = "probes".to_owned();
    set_policy(&mut config, artifacts, POLICY)?;
    config.data_disk = Some(disk.finish_with(artifacts, 256).context("make the data disk")?);
    config.memory_mib = 1536;
    config.network = None;
    let machine = Machine::boot(config).context("boot the host")?;
    machine.zones().wait_until("two zones", machine.within(BOOT), |status| status.zones.len() == 2)?;
    Ok(machine)
}

pub(super) fn reach(world: &mut World) -> anyhow::Result<()> {
    let machine = boot(&world.artifacts)?;
    ensure_running(&machine, OTHER)?;
    let place = machine.serial().end();
    machine.zones().start(NAME, machine.within(SOON)).context("start the hostile zone")?;
    let rests = |phase| matches!(phase, Phase::Stopped | Phase::Failed);
    let ended = machine.zones().wait_until("the hostile zone at rest", machine.within(SOON), |status| {
        status.zones.iter().any(|zone| zone.name == NAME && rests(zone.state.phase))
    });
    ended.context("the guest read something that it must not, and stands still")?;
    let reason = zone(&machine, NAME)?.state.reason.unwrap_or_default();
    ensure!(reason.contains(DONE), "the hostile zone ended otherwise: {reason}");
    let (console, resets) = (machine.serial().since(place), format!(" resets={}", probe::STARTS));
    let ended = console.lines().find(|line| line.contains("machine ended end="));
    let saw_everything = ended.is_some_and(|line| line.trim_end().ends_with(&resets));
    ensure!(saw_everything, "the guest read something that it must not: {ended:?}");
    ensure!(zone(&machine, OTHER)?.state.phase == Phase::Running, "{OTHER} noticed");
    world.remark(format!("{} starts, each but the last ended in the middle of a command", probe::STARTS + 1));
    Ok(())
}
