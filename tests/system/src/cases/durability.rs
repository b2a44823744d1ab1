//! What a zone has fsynced is there after its VMM was killed, and after the machine's power was cut.
//!
//! A guest appends numbered records and fsyncs each. A kill happens while it writes. A power cut is made afterwards from
//! the log of everything that reached the host's disk: the disk keeps what was flushed before the cut and a random part
//! of what was not. Then a host boots on it, with the TPM that has the disk's key: both file systems replay their journals, the
//! host's with the zone's disk in it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use control_api::Phase;
use harness::{Machine, TpmConfig};

use crate::artifacts::Artifacts;
use crate::disk::DataDisk;
use crate::plan::Dice;
use crate::report::say;
use crate::world::{BOOT, SOON, START, World, ZONES, ensure_running, process_of, test_machine};
use crate::write_log::{SECTOR, WriteLog};

/// It has no tunnel, so it starts fastest.
const ZONE: &str = "vault";

/// Kills and cuts: as a sample, and in full.
const SAMPLE: usize = 3;
const CUTS: usize = 4;
const SOAK: usize = 200;

/// Records that are confirmed together, and how many such batches a power-cut series has.
const BATCH: &str = "8";
const BATCHES: usize = 12;

/// Waits between the begin of a batch and the kill, in milliseconds.
const WAITS: [u64; 6] = [0, 50, 120, 250, 400, 700];

/// SIGKILL.
const KILL: i32 = 9;

fn records(machine: &Machine, arguments: &[&str]) -> anyhow::Result<u64> {
    let result = machine.zones().run_check(ZONE, "records", arguments, machine.within(START))?;
    ensure!(result.passed, "records {arguments:?}: {}", result.output);
    result.output.trim().parse().with_context(|| format!("records printed {:?}", result.output))
}

pub(super) fn kills(world: &mut World) -> anyhow::Result<()> {
    let (mut dice, seed) = (world.plan.dice(), world.plan.seed);
    let kills = if world.plan.soak { SOAK } else { SAMPLE };
    let machine = world.machine()?;
    let mut more = 0;
    for number in 1..=kills {
        more += kill_once(machine, &mut dice)
            .with_context(|| format!("kill {number} of {kills} (--seed {seed} repeats it)"))?;
        progress(number, kills, "kills");
    }
    world.remark(format!("{kills} kills, {more} records in flight survived, seed {seed}"));
    Ok(())
}

/// A long series says how far it came: who ends it early knows what it has seen.
fn progress(number: usize, all: usize, what: &str) {
    if number.is_multiple_of(20) {
        say(format!("                 {number} of {all} {what}"));
    }
}

/// Returns how many records survived that nobody had been promised.
fn kill_once(machine: &Machine, dice: &mut Dice) -> anyhow::Result<u64> {
    ensure_running(machine, ZONE)?;
    let promised = records(machine, &["write", BATCH])?;
    let running = machine.zones().begin_check(ZONE, "records", &["write", "100000"])?;
    machine.serial().pause(Duration::from_millis(dice.pick(&WAITS)));
    machine.zones().kill(process_of(machine, "vmm", ZONE)?, KILL, machine.within(SOON))?;
    machine.zones().wait_for_phase(ZONE, Phase::Failed, machine.within(SOON))?;
    // It died with its zone.
    drop(running);
    ensure_running(machine, ZONE)?;
    let there = records(machine, &["count"])?;
    ensure!(there >= promised, "{promised} records were confirmed, {there} survived the kill");
    Ok(there - promised)
}

/// A disk and what happened to it.
struct Session {
    /// The disk before.
    base: PathBuf,
    log: WriteLog,
    /// The machine's TPM.
    tpm: TpmConfig,
    /// How many records were confirmed when the log had this length.
    promises: Vec<(u64, u64)>,
}

pub(super) fn power_cuts(world: &mut World) -> anyhow::Result<()> {
    let (mut dice, seed) = (world.plan.dice(), world.plan.seed);
    let cuts = if world.plan.soak { SOAK } else { CUTS };
    let session = write_and_log(&world.artifacts).context("write records")?;
    let first = session.promises.first().context("nothing was confirmed")?.0;
    let begin =
        session.log.entries.iter().position(|entry| entry.end > first).context("the log is too short")?;
    let places: Vec<usize> = (begin..=session.log.entries.len()).collect();
    let (mut uncertain, mut last) = (0, PathBuf::new());
    for number in 1..=cuts {
        let place = dice.pick(&places);
        last = world.artifacts.logs().join("cut.img");
        uncertain += cut_once(&world.artifacts, &session, &last, place, &mut dice)
            .with_context(|| format!("power cut {number} of {cuts} (--seed {seed} repeats it)"))?;
        progress(number, cuts, "power cuts");
    }
    let log = session.log.summary();
    for path in [&session.base, &last] {
        std::fs::remove_file(path).with_context(|| format!("remove {}", path.display()))?;
    }
    world.remark(format!(
        "{cuts} cuts, {uncertain} unflushed writes left to the dice, log {log:?}, seed {seed}"
    ));
    Ok(())
}

/// Boots a host on a disk whose writes are logged, lets a zone write records, and kills QEMU.
fn write_and_log(artifacts: &Artifacts) -> anyhow::Result<Session> {
    let disk = DataDisk::new(artifacts, "cut-base")?;
    disk.copy_micro(artifacts, "micro")?;
    let base = disk.finish(artifacts)?;
    let written = artifacts.logs().join("cut-written.img");
    copy(&base, &written)?;
    let log_path = artifacts.logs().join("cut.writes");
    std::fs::write(&log_path, []).context("make the log")?;
    let mut config = test_machine(artifacts)?;
    config.name = "cut".to_owned();
    config.network = None;
    config.data_disk = None;
    config.memory_mib = 1536;
    let tpm = artifacts.kept_tpm("cut-tpm")?;
    config.tpm = Some(tpm.clone());
    let comma = |path: &Path| path.display().to_string().replace(',', ",,");
    let node = format!(
        "driver=blklogwrites,node-name=data,log.driver=file,log.filename={},log.cache.no-flush=on,file.driver=file,\
         file.filename={},file.cache.no-flush=on",
        comma(&log_path),
        comma(&written)
    );
    config.more =
        ["-blockdev", &node, "-device", "virtio-blk-pci,drive=data,serial=data"].map(Into::into).to_vec();
    let machine = Machine::boot(config).context("boot the host")?;
    machine
        .zones()
        .wait_until("the zones", machine.within(BOOT), |status| status.zones.len() == ZONES.len())?;
    ensure_running(&machine, ZONE)?;
    let mut promises = Vec::new();
    for _ in 0..BATCHES {
        let promised = records(&machine, &["write", BATCH])?;
        promises.push((std::fs::metadata(&log_path)?.len(), promised));
    }
    // Some that nobody is promised, then the end comes at once.
    drop(machine.zones().begin_check(ZONE, "records", &["write", "100000"])?);
    machine.serial().pause(Duration::from_millis(500));
    drop(machine);
    std::fs::remove_file(&written)?;
    Ok(Session { base, log: WriteLog::read(&log_path)?, tpm, promises })
}

/// Makes the disk of a power cut after so many requests: what was promised by then, and how much chance had a say in.
fn cut_disk(session: &Session, disk: &Path, place: usize, dice: &mut Dice) -> anyhow::Result<(u64, usize)> {
    copy(&session.base, disk)?;
    let end =
        place.checked_sub(1).and_then(|last| session.log.entries.get(last)).map_or(SECTOR, |entry| entry.end);
    let promised = session.promises.iter().take_while(|(length, _)| *length <= end).last();
    Ok((promised.map_or(0, |(_, number)| *number), session.log.cut(disk, place, dice)?))
}

fn cut_once(
    artifacts: &Artifacts,
    session: &Session,
    disk: &Path,
    place: usize,
    dice: &mut Dice,
) -> anyhow::Result<usize> {
    let (promised, uncertain) = cut_disk(session, disk, place, dice)?;
    boots_again(artifacts, disk, &session.tpm, promised)
        .with_context(|| format!("after request {place} of {}", session.log.entries.len()))?;
    Ok(uncertain)
}

/// A sparse copy.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let status =
        Command::new("cp").args(["--sparse=always", "--"]).arg(from).arg(to).status().context("start cp")?;
    if !status.success() {
        bail!("cp could not copy {} to {}", from.display(), to.display());
    }
    Ok(())
}

/// Boots a host on the disk, and has the zone count.
fn boots_again(artifacts: &Artifacts, disk: &Path, tpm: &TpmConfig, promised: u64) -> anyhow::Result<()> {
    let mut config = test_machine(artifacts)?;
    config.tpm = Some(tpm.clone());
    config.name = "after-cut".to_owned();
    config.network = None;
    config.memory_mib = 1536;
    config.data_disk = Some(disk.to_owned());
    let machine = Machine::boot(config).context("boot the host")?;
    machine
        .zones()
        .wait_until("the zones", machine.within(BOOT), |status| status.zones.len() == ZONES.len())?;
    ensure_running(&machine, ZONE)?;
    let there = records(&machine, &["count"])?;
    ensure!(there >= promised, "{promised} records were confirmed, {there} survived");
    let log = machine.zones().run_check(ZONE, "dmesg", &[], machine.within(SOON))?;
    ensure!(
        log.output.contains("was not unmounted in order"),
        "the zone did not check its disk: {}",
        log.output
    );
    Ok(())
}
