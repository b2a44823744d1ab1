//! What the machine's TPM is for: a zone's disk opens with it, and without it nothing of the zone does.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, ensure};
use control_api::Phase;
use harness::{Machine, TpmConfig, tpm_commands};

use crate::artifacts::Artifacts;
use crate::disk::DataDisk;
use crate::opening::told;
use crate::world::{
    BOOT, SOON, START, World, ensure_running, ensure_stopped, file, set_policy, switch_off, test_machine,
    write_disk, zone,
};

const POLICY: &str = r#"
schema = 1
version = 1
name = "Trusted"

[zone.kept]
colour = "green"
template = "micro"
memory = "128 MiB"
vcpus = 1
disk = "32 MiB"
network = "none"

[zone.other]
colour = "blue"
template = "micro"
memory = "128 MiB"
vcpus = 1
disk = "32 MiB"
network = "none"

[zone.once]
colour = "red"
template = "micro"
memory = "128 MiB"
vcpus = 1
disk = "32 MiB"
disposable = true
network = "none"
"#;

/// `TPM2_Unseal`.
const UNSEAL: u32 = 0x15E;
/// Commands that a start may give to the machine's TPM (TPM 2.0 Library, Part 2, table 11). The resource manager of the
/// kernel saves and loads contexts.
const COMMANDS: [(u32, &str); 15] = [
    (UNSEAL, "Unseal"),
    (0x157, "Load"),
    (0x161, "ContextLoad"),
    (0x162, "ContextSave"),
    (0x165, "FlushContext"),
    (0x167, "LoadExternal"),
    (0x169, "NV_ReadPublic"),
    (0x16A, "PolicyAuthorize"),
    (0x173, "ReadPublic"),
    (0x176, "StartAuthSession"),
    (0x177, "VerifySignature"),
    (0x17A, "GetCapability"),
    (0x17B, "GetRandom"),
    (0x17F, "PolicyPCR"),
    (0x189, "PolicyGetDigest"),
];

/// What the zone writes, and where.
const MINE: &str = "/home/mine";
const TEXT: &str = "what only this machine reads";

fn boot(artifacts: &Artifacts, disk: &Path, tpm: Option<TpmConfig>) -> anyhow::Result<Machine> {
    let mut config = test_machine(artifacts)?;
    config.name = "trusted".to_owned();
    set_policy(&mut config, artifacts, POLICY)?;
    write_disk(&mut config, disk);
    config.tpm = tpm;
    config.memory_mib = 1536;
    config.network = None;
    let machine = Machine::boot(config).context("boot the host")?;
    machine.zones().wait_until("three zones", machine.within(BOOT), |status| status.zones.len() == 3)?;
    Ok(machine)
}

/// The zone is not opened, for this cause and with these words in the reason; it stays as it was.
fn not_opened(machine: &Machine, name: &str, cause: &str, words: &[&str]) -> anyhow::Result<()> {
    let told = told(machine.zones().start(name, machine.within(SOON)))?;
    ensure!(told.cause == cause, "{name} was not opened for another cause: {told:?}");
    ensure!(words.iter().all(|word| told.reason.contains(word)), "{name}: {told:?}");
    ensure!(zone(machine, name)?.state.phase == Phase::Stopped, "{name} did not stay as it was");
    Ok(())
}

/// The zone fails, and says why.
fn fails(machine: &Machine, name: &str, words: &[&str]) -> anyhow::Result<()> {
    machine.zones().start(name, machine.within(SOON)).with_context(|| format!("start {name}"))?;
    machine.zones().wait_for_phase(name, Phase::Failed, machine.within(SOON))?;
    let reason = zone_reason(machine, name)?;
    ensure!(words.iter().all(|word| reason.contains(word)), "{name} failed otherwise: {reason}");
    Ok(())
}

fn zone_reason(machine: &Machine, name: &str) -> anyhow::Result<String> {
    Ok(zone(machine, name)?.state.reason.unwrap_or_default())
}

/// What a touch asks of the machine's TPM: no key is made, and nothing of RSA.
fn starts_with_little(machine: &Machine, log: &Path) -> anyhow::Result<String> {
    let told = || anyhow::Ok(tpm_commands(&std::fs::read_to_string(log).context("read the TPM's log")?));
    let before = told()?.len();
    ensure_running(machine, "kept")?;
    let mut counts = BTreeMap::new();
    for code in told()?.into_iter().skip(before) {
        *counts.entry(code).or_insert(0_u32) += 1;
    }
    let names: Vec<String> = counts
        .iter()
        .map(|(code, count)| {
            let name = COMMANDS.iter().find(|(known, _)| known == code).map(|(_, name)| *name);
            let name = name.with_context(|| format!("a start has no business with command {code:#x}"))?;
            Ok(format!("{count} {name}"))
        })
        .collect::<anyhow::Result<_>>()?;
    ensure!(counts.contains_key(&UNSEAL), "nothing was unsealed: {names:?}");
    Ok(format!("a touch: {}", names.join(", ")))
}

/// The recovery key opens a zone on a machine that never saw it. The power is cut then.
fn recovered(machine: &Machine, key: &str) -> anyhow::Result<()> {
    let zones = machine.zones();
    ensure!(zones.status(machine.within(SOON))?.zones.len() == 3, "three zones");
    // The wrong key differs in one group, and is well-formed.
    let wrong: String =
        format!("{}{}", if key.starts_with("000011") { "000022" } else { "000011" }, &key[6..]);
    for (typed, cause) in [(wrong.as_str(), "wrong_recovery_key"), ("1234", "bad_recovery_key")] {
        let told = told(zones.recover("kept", typed, "", machine.within(SOON)))?;
        ensure!(told.cause == cause, "with {cause}: {told:?}");
    }
    zones.recover("kept", key, "", machine.within(SOON)).context("recover")?;
    machine.zones().wait_for_phase("kept", Phase::Running, machine.within(START))?;
    ensure!(file(machine, "kept", &["get", MINE])? == TEXT, "what was recovered lost what it wrote");
    ensure!(!machine.serial().tail(usize::MAX).contains(key), "the recovery key is on the console");
    Ok(())
}

pub(super) fn own_tpm_only(world: &mut World) -> anyhow::Result<()> {
    let artifacts = &world.artifacts;
    let disk = DataDisk::new(artifacts, "trusted")?;
    disk.copy_micro(artifacts, "micro")?;
    let disk = disk.finish_with(artifacts, 320).context("make the data disk")?;
    let tpm = artifacts.kept_tpm("trusted-tpm")?;

    let machine = boot(artifacts, &disk, Some(tpm.clone()))?;
    let zones = machine.zones();
    let key = zones.new_recovery_key(machine.within(SOON))?;
    zones.note_recovery_key(&key, machine.within(SOON))?;
    for name in ["kept", "other"] {
        ensure_running(&machine, name)?;
        file(&machine, name, &["put", MINE, TEXT])?;
    }
    ensure_stopped(&machine, "kept")?;
    ensure_stopped(&machine, "other")?;
    switch_off(machine)?;

    // The same disk in another machine.
    let machine = boot(artifacts, &disk, Some(artifacts.tpm())).context("another TPM")?;
    let words = ["storage key", "another machine's", "Zones open only on the machine"];
    not_opened(&machine, "kept", "tpm_cleared", &words)?;
    ensure_running(&machine, "once").context("a disposable zone needs no TPM")?;
    switch_off(machine)?;

    let machine = boot(artifacts, &disk, None).context("no TPM")?;
    not_opened(&machine, "kept", "tpm_missing", &["no TPM 2.0 that answers", "machine's setup"])?;
    switch_off(machine)?;

    // One byte of what is sealed, and of what a zone's own TPM keeps: each costs its own zone.
    crate::disk::alter(artifacts, &disk, "/keeper/kept.zone", 200)?;
    crate::disk::alter(artifacts, &disk, "/vtpm/other/tpm2-00.permall", 700)?;
    let machine = boot(artifacts, &disk, Some(tpm.clone())).context("altered files")?;
    not_opened(&machine, "kept", "damaged", &["sealed record was made by another TPM, or was altered"])?;
    fails(&machine, "other", &["virtual TPM"])?;
    switch_off(machine)?;
    crate::disk::alter(artifacts, &disk, "/keeper/kept.zone", 200)?;
    crate::disk::alter(artifacts, &disk, "/vtpm/other/tpm2-00.permall", 700)?;

    // And nothing of all this cost the machine that it belongs to anything.
    let log = artifacts.logs().join("trusted-tpm.log");
    let tpm = TpmConfig { log: Some(log.clone()), ..tpm };
    let machine = boot(artifacts, &disk, Some(tpm)).context("the machine's own TPM again")?;
    let remark = starts_with_little(&machine, &log)?;
    for name in ["kept", "other"] {
        ensure_running(&machine, name)?;
        ensure!(file(&machine, name, &["get", MINE])? == TEXT, "{name} lost what it wrote");
    }
    switch_off(machine)?;

    let other = artifacts.kept_tpm("trusted-tpm-2")?;
    recovered(&boot(artifacts, &disk, Some(other.clone())).context("another TPM")?, &key)?;
    // From now on that machine's TPM opens what was recovered in it, and nothing else.
    let machine = boot(artifacts, &disk, Some(other)).context("the other TPM again")?;
    ensure_running(&machine, "kept")?;
    not_opened(&machine, "other", "damaged", &["another TPM", "recovery key"])?;
    switch_off(machine)?;
    std::fs::remove_file(&disk).context("remove the disk")?;
    world.remark(remark);
    Ok(())
}
