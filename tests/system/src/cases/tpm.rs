//! A zone's TPM: what the host measured is in it before the guest runs, at each start and each reset; the guest uses it;
//! a zone does not outlive it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use control_api::Phase;
use harness::Machine;
use template::{INITRD, KERNEL, MANIFEST, Manifest, Summer};

use crate::artifacts::Artifacts;
use crate::cpio;
use crate::world::{
    SOON, START, World, ensure_running, ensure_stopped, last_notice, process_of, service_of, wait_for_notice,
    zone,
};

/// It keeps no folders, so its command line is its template's.
pub(super) const ZONE: &str = "vault";
/// Must not notice.
const OTHER: &str = "research";

/// What the firmware extends before it hands over (`handover::place::CAP`): spelled out, because a test that asks the code what
/// is right finds everything right.
pub(super) const CAP: &[u8] = b"bulkhead: the zone's firmware took the login record";
/// The register that the check extends, and with what.
const FREE: &str = "12";
const EXTENSION: [u8; 32] = [0xB5; 32];

/// SIGKILL.
const KILL: i32 = 9;

pub(super) fn holds_what_was_measured(world: &mut World) -> anyhow::Result<()> {
    let expected = expected(&world.artifacts)?;
    let machine = world.machine()?;
    ensure_running(machine, ZONE)?;
    let first = look(machine)?;
    let check = |held: &BTreeMap<String, String>| {
        for (register, value) in &expected {
            ensure!(held.get(*register) == Some(value), "PCR {register}: {held:?}, expected {value}");
        }
        Ok(())
    };
    check(&first).context("after the start")?;
    let extended = machine.zones().run_check(ZONE, "tpm", &["extend", FREE], machine.within(SOON))?;
    let value = hex(&extend([0; 32], EXTENSION));
    ensure!(extended.passed && extended.output.contains(&value), "extend: {}", extended.output);
    ensure!(look(machine)?.get(FREE) == Some(&value), "the guest's own measurement is gone");

    let (vmm, tpm) = (process_of(machine, "vmm", ZONE)?, process_of(machine, "swtpm", ZONE)?);
    reboot(machine)?;
    let again = look(machine)?;
    check(&again).context("after the guest's reset")?;
    ensure!(again.get("random") != first.get("random"), "the TPM repeats its random numbers");
    let same = (process_of(machine, "vmm", ZONE)?, process_of(machine, "swtpm", ZONE)?);
    ensure!(same == (vmm, tpm), "the zone was started anew for a reset");
    Ok(())
}

pub(super) fn killed(world: &mut World) -> anyhow::Result<()> {
    let machine = world.machine()?;
    ensure_running(machine, ZONE)?;
    ensure_running(machine, OTHER)?;
    let other = ["vmm", "swtpm"].map(|program| process_of(machine, program, OTHER));
    let last = last_notice(machine)?;
    let victim = process_of(machine, "swtpm", ZONE)?;
    machine.zones().kill(victim, KILL, machine.within(SOON))?;
    let failed = machine.zones().wait_for_phase(ZONE, Phase::Failed, machine.within(START))?;
    let reason = failed.state.reason.context("a failed zone says why")?;
    ensure!(reason.contains("virtual TPM"), "the reason does not name the TPM: {reason}");
    wait_for_notice(machine, last, &[ZONE, "virtual TPM"])?;
    ensure!(zone(machine, OTHER)?.state.phase == Phase::Running, "{OTHER} noticed");
    for (program, before) in ["vmm", "swtpm"].into_iter().zip(other) {
        ensure!(process_of(machine, program, OTHER)? == before?, "{OTHER} has another {program}");
    }
    for program in ["vmm", "swtpm"] {
        ensure!(process_of(machine, program, ZONE).is_err(), "a {program} of {ZONE} is left");
    }
    // It comes back, with a TPM that knows nothing of the earlier one.
    ensure_running(machine, ZONE)?;
    ensure!(look(machine)?.get(FREE) == Some(&"0".repeat(64)), "the TPM is not fresh");
    Ok(())
}

/// The owner of TPMs dies: zones run on, a guest's reset still gets its TPM from the next one, and so does a new zone.
pub(super) fn keeper_killed(world: &mut World) -> anyhow::Result<()> {
    let machine = world.machine()?;
    ensure_running(machine, ZONE)?;
    ensure_stopped(machine, OTHER)?;
    let last = last_notice(machine)?;
    let before = ["vmm", "swtpm"].map(|program| process_of(machine, program, ZONE));
    machine.zones().kill(service_of(machine, "keeper")?, KILL, machine.within(SOON))?;
    wait_for_notice(machine, last, &["keeper", "started again"])?;
    reboot(machine)?;
    let capped = hex(&extend([0; 32], sha256(CAP)));
    ensure!(look(machine)?.get("11") == Some(&capped), "no TPM after the guest's reset");
    for (program, before) in ["vmm", "swtpm"].into_iter().zip(before) {
        ensure!(process_of(machine, program, ZONE)? == before?, "{ZONE} has another {program}");
    }
    ensure_running(machine, OTHER)?;
    Ok(())
}

/// Lets the guest reset itself, and waits until another one is there.
pub(super) fn reboot(machine: &Machine) -> anyhow::Result<()> {
    let before = machine.zones().run_check(ZONE, "end_guest", &["boot_id"], machine.within(SOON))?;
    // The guest is gone in the middle of it.
    let _gone = machine.zones().run_check(ZONE, "end_guest", &["reboot"], machine.within(SOON));
    wait_for_another_boot(machine, &before.output)
}

/// What the registers must hold, computed from the template's files.
pub(super) fn expected(artifacts: &Artifacts) -> anyhow::Result<BTreeMap<&'static str, String>> {
    let file = |name: &str| {
        let path = artifacts.file("templates-test/micro").join(name);
        std::fs::read(&path).with_context(|| format!("read {}", path.display()))
    };
    let manifest = Manifest::decode(&file(MANIFEST)?).context("the template's manifest")?;
    let measured = |bytes: &[u8]| hex(&extend([0; 32], sha256(bytes)));
    Ok(BTreeMap::from([
        ("0", hex(&measured_firmware(artifacts)?)),
        ("4", measured(&file(KERNEL)?)),
        ("8", measured(manifest.command_line().as_bytes())),
        ("9", measured(&file(INITRD)?)),
        ("11", measured(CAP)),
        (FREE, "0".repeat(64)),
    ]))
}

/// What PCR 0 of every zone holds.
pub(super) fn measured_firmware(artifacts: &Artifacts) -> anyhow::Result<[u8; 32]> {
    // A start before TPM2_Startup: the register begins with the locality.
    let mut locality = [0; 32];
    locality[31] = 4;
    Ok(extend(locality, sha256(&firmware(artifacts)?)))
}

/// The zones' firmware, as the host image has it.
fn firmware(artifacts: &Artifacts) -> anyhow::Result<Vec<u8>> {
    let entries = cpio::read(&std::fs::read(artifacts.host_segment())?)?;
    let firmware = entries.into_iter().find(|entry| entry.path == "etc/bulkhead/zone_fw");
    Ok(firmware.context("the host image has no firmware")?.content)
}

/// What the guest sees: registers and random numbers, by name.
fn look(machine: &Machine) -> anyhow::Result<BTreeMap<String, String>> {
    let result = machine.zones().run_check(ZONE, "tpm", &[], machine.within(SOON))?;
    ensure!(result.passed, "the guest's TPM: {}", result.output);
    let lines = result.output.lines().map(|line| line.strip_prefix("pcr ").unwrap_or(line));
    Ok(lines
        .filter_map(|line| line.split_once(' '))
        .map(|(name, value)| (name.into(), value.into()))
        .collect())
}

fn wait_for_another_boot(machine: &Machine, before: &str) -> anyhow::Result<()> {
    let deadline = machine.within(START);
    loop {
        machine.zones().wait_for_phase(ZONE, Phase::Running, deadline)?;
        let boot = machine.zones().run_check(ZONE, "end_guest", &["boot_id"], machine.within(SOON));
        match boot {
            Ok(result) if result.passed && result.output != before => return Ok(()),
            Ok(_) | Err(_) => ensure!(Instant::now() < deadline, "the guest did not come back"),
        }
        // Nothing on the host tells that the old guest's agent is gone before the new one is there.
        std::thread::park_timeout(Duration::from_millis(200));
    }
}

fn extend(register: [u8; 32], digest: [u8; 32]) -> [u8; 32] {
    sha256(&[register, digest].concat())
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut sum = Summer::default();
    sum.add(bytes);
    sum.finish().sha256
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
