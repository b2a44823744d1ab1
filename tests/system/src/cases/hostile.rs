//! A zone that attacks its virtual machine monitor, its tunnel process and its disks from the first instruction on,
//! while another zone measures what it notices of it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use control_api::{Phase, Zone};
use gateway::Site;
use harness::{Machine, zones::RunningCheck};
use test_bridge::processes::Process;

use crate::artifacts::Artifacts;
use crate::cpio;
use crate::disk::{DataDisk, build_keys};
use crate::hostile::{self, NAME, PROCESSORS};
use crate::world::{BOOT, PAGE, SOON, START, World, ensure_connected, fetch_own_page, test_machine, zone};

/// Seeds: as a sample, and in full.
const SAMPLE: u32 = 20;
const SOAK: u32 = 500;

/// The zone that measures, and how often it fetches its page each time.
const OTHER: &str = "office";
const FETCHES: &str = "15";

/// By how much its latency may grow: the attack has four processors that never rest, and the machine has two.
const FACTOR: u64 = 12;

/// Lines that the host's console may grow by for each start of the hostile zone: those of its beginnings and end, and
/// of warnings whose distance doubles each time. Twice what was seen.
const LINES: usize = 120;

/// What a process of the host may grow by, in KiB, and what one of the hostile zone may have beside its guest.
const GROWTH_KIB: u64 = 8 * 1024;
const GUEST_MIB: u64 = 64;

/// Seconds of a fast machine that a start gets: the guest may have stopped its own processors.
const PATIENCE: u32 = 8;

/// What a zone's reason says when the guest powered off: no seed is left.
const DONE: &str = "shut itself down";

/// The demo policy with the hostile zone in the place of `research`.
fn policy(artifacts: &Artifacts) -> anyhow::Result<String> {
    let path = artifacts.demo.join("policy.toml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let (before, rest) = text.split_once("[zone.research]").context("the demo policy has a zone research")?;
    let (_, after) = rest.split_once("[zone.vault]").context("the demo policy has a zone vault")?;
    Ok(format!(
        "{before}[zone.{NAME}]\ncolour = \"red\"\ntemplate = \"{NAME}\"\nmemory = \"{GUEST_MIB} MiB\"\n\
         vcpus = {PROCESSORS}\ndisk = \"16 MiB\"\nnetwork = \"tunnel.research\"\n\n[zone.vault]{after}"
    ))
}

fn boot(artifacts: &Artifacts, first: u64, seeds: u32) -> anyhow::Result<Machine> {
    let mut config = test_machine(artifacts)?;
    let segment = artifacts.logs().join("hostile-policy.cpio");
    std::fs::write(&segment, cpio::single("etc/bulkhead/policy.toml", policy(artifacts)?.as_bytes())?)
        .with_context(|| format!("write {}", segment.display()))?;
    config.initramfs.push(segment);
    config.data_disk = Some(data_disk(artifacts, first, seeds).context("make the data disk")?);
    config.name = NAME.to_owned();
    let machine = Machine::boot(config).context("boot the host with a hostile zone")?;
    machine.zones().wait_until("the zones", machine.within(BOOT), |status| status.zones.len() == 3)?;
    Ok(machine)
}

fn data_disk(artifacts: &Artifacts, first: u64, seeds: u32) -> anyhow::Result<PathBuf> {
    let disk = DataDisk::new(artifacts, "hostile-zone")?;
    disk.copy_micro(artifacts, "micro")?;
    hostile::make(&disk.template(NAME)?, &build_keys(artifacts)?, first, seeds)?;
    disk.finish(artifacts)
}

pub(super) fn harms_nobody(world: &mut World) -> anyhow::Result<()> {
    let (first, seeds) = (world.plan.seed, if world.plan.soak { SOAK } else { SAMPLE });
    let machine = boot(&world.artifacts, first, seeds)?;
    let outcome = attack(&machine, seeds).with_context(|| format!("--seed {first} repeats it"));
    if outcome.is_err() {
        let _where = crate::world::evidence(&machine, "the hostile zone");
    }
    world.remark(format!("{seeds} seeds from {first}: {}", outcome?));
    Ok(())
}

/// Starts the hostile zone until it has no seed left. Says what was measured.
fn attack(machine: &Machine, seeds: u32) -> anyhow::Result<String> {
    ensure_connected(machine, OTHER)?;
    // A tunnel can be up before the guest has its address by DHCP.
    fetch_own_page(machine, Site::Office)?;
    let quiet = [measure(machine)?, measure(machine)?].map(|check| latency(machine, check));
    let [a, b] = quiet;
    let quiet = a?.min(b?);
    let before = others(machine)?;
    let place = machine.serial().end();
    let (mut reasons, mut busy) = (BTreeMap::new(), Vec::new());
    let mut starts: usize = 0;
    loop {
        machine.zones().start(NAME, machine.within(SOON)).context("start the hostile zone")?;
        starts += 1;
        let check = measure(machine)?;
        let reason = end_of_start(machine)?;
        busy.push(latency(machine, check)?);
        zone_is_bounded(machine)?;
        let done = reason.contains(DONE);
        *reasons.entry(reason).or_insert(0_u32) += 1;
        if done {
            break;
        }
        // At worst a start has one seed.
        ensure!(starts <= usize::try_from(seeds)? + 1, "{starts} starts for {seeds} seeds: {reasons:?}");
    }
    let console = machine.serial().since(place);
    let resets = console.matches("the guest reset itself").count();
    // A start begins with a seed, and so does a reset, of which not every one is told.
    ensure!(4 * (starts + resets) > usize::try_from(seeds)?, "{starts} starts, {resets} resets: few seeds");
    let lines = console.lines().count();
    ensure!(lines <= LINES * starts, "{lines} lines on the console for {starts} starts");
    unchanged(&before, &others(machine)?)?;
    busy.sort_unstable();
    let noticed = busy.get(busy.len() / 2).copied().unwrap_or_default();
    ensure!(
        noticed <= quiet * FACTOR,
        "{OTHER} needed {noticed} us for a page beside the attack, {quiet} us before"
    );
    Ok(format!(
        "{starts} starts, {resets} resets told, {lines} lines on the console, a page took {quiet} us before and {noticed} us meanwhile; \
         {reasons:?}"
    ))
}

/// Waits until the hostile zone is at rest, or ends it: it may have stopped its own processors. Says why it rests.
fn end_of_start(machine: &Machine) -> anyhow::Result<String> {
    let rests = |zone: &Zone| zone.name == NAME && matches!(zone.state.phase, Phase::Stopped | Phase::Failed);
    let wait = |patience| {
        machine.zones().wait_until("the hostile zone at rest", machine.within(patience), |status| {
            status.zones.iter().any(rests)
        })
    };
    if wait(PATIENCE).is_err() {
        machine.zones().end_now(NAME, machine.within(SOON)).context("end the hostile zone")?;
        wait(START)?;
        return Ok("it had to be ended".to_owned());
    }
    let reason = zone(machine, NAME)?.state.reason;
    reason.context("a zone that ended says why")
}

fn measure(machine: &Machine) -> anyhow::Result<RunningCheck> {
    Ok(machine.zones().begin_check(OTHER, "latency", &[PAGE, FETCHES])?)
}

/// The median that a check says, in microseconds.
fn latency(machine: &Machine, check: RunningCheck) -> anyhow::Result<u64> {
    let result = check.result(machine.within(2 * START))?;
    ensure!(result.passed, "{OTHER} does not get its page: {}", result.output);
    let number = result.output.strip_prefix("median ").and_then(|rest| rest.split(' ').next());
    number.and_then(|number| number.parse().ok()).with_context(|| format!("no median: {}", result.output))
}

/// Every process but those of the hostile zone and threads of the kernel.
fn others(machine: &Machine) -> anyhow::Result<Vec<Process>> {
    let mut all = machine.zones().processes(machine.within(SOON))?;
    let group = group_of_hostile();
    all.retain(|process| !process.program.is_empty() && process.control_group != group);
    Ok(all)
}

/// The hostile zone is the second of its policy.
fn group_of_hostile() -> String {
    "/zone-1".to_owned()
}

/// Whatever of the hostile zone still lives is no larger than its guest and a little.
fn zone_is_bounded(machine: &Machine) -> anyhow::Result<()> {
    let all = machine.zones().processes(machine.within(SOON))?;
    let large = all.iter().find(|process| {
        process.control_group == group_of_hostile()
            && process.resident_kib > GUEST_MIB * 1024 + 2 * GROWTH_KIB
    });
    ensure!(large.is_none(), "a process of the hostile zone grew: {large:?}");
    Ok(())
}

fn unchanged(before: &[Process], after: &[Process]) -> anyhow::Result<()> {
    let who = |list: &[Process]| -> Vec<(i32, String)> {
        list.iter().map(|process| (process.pid, process.program.clone())).collect()
    };
    ensure!(who(before) == who(after), "processes before: {:?}, after: {:?}", who(before), who(after));
    for (old, new) in before.iter().zip(after) {
        // The other zone's memory is its guest's.
        let grows = new.resident_kib.saturating_sub(old.resident_kib);
        let guest = new.program.ends_with("/vmm");
        ensure!(guest || grows <= GROWTH_KIB, "{} grew by {grows} KiB", new.program);
        ensure!(new.descriptors.len() <= old.descriptors.len() + 4, "{} keeps descriptors", new.program);
    }
    Ok(())
}
