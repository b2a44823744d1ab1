//! The audit log: what happened is read back by the control interface, also by the next `zoned` and after the power
//! was cut, and one altered byte on the raw disk is named.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use audit::{Event, Head, Record};
use control_api::Phase;
use harness::{Machine, TpmConfig};
use template::SIGNATURE;

use crate::artifacts::Artifacts;
use crate::cpio;
use crate::disk::DataDisk;
use crate::world::{BOOT, SOON, World, ensure_running, service_of, test_machine, write_disk};

/// SIGKILL.
const KILL: i32 = 9;

/// User of the first zone's VMM.
const VMM: u32 = 2000;

/// A zone that runs, and one whose template lost its signature.
const ZONE: &str = "good";
const UNSIGNED: &str = "unsigned";

/// Records of one page: few, so that there are several pages.
const PAGE: u64 = 3;

fn policy() -> String {
    let mut text = "schema = 1\nversion = 1\nname = \"Audit\"\ndemo = true\n".to_owned();
    for (name, colour, template) in [(ZONE, "green", "micro"), (UNSIGNED, "red", UNSIGNED)] {
        text += &format!(
            "\n[zone.{name}]\ncolour = \"{colour}\"\ntemplate = \"{template}\"\nmemory = \"192 MiB\"\nvcpus = 1\n\
             disk = \"16 MiB\"\nnetwork = \"none\"\n"
        );
    }
    text
}

/// What outlives a boot of the machine.
struct Disk {
    file: PathBuf,
    tpm: TpmConfig,
}

/// A host whose data disk keeps what is written: the machine is started again on it.
fn boot(artifacts: &Artifacts, disk: &Disk, name: &str) -> anyhow::Result<Machine> {
    let mut config = test_machine(artifacts)?;
    let segment = artifacts.logs().join("audit-policy.cpio");
    std::fs::write(&segment, cpio::single("etc/bulkhead/policy.toml", policy().as_bytes())?)
        .with_context(|| format!("write {}", segment.display()))?;
    config.initramfs.push(segment);
    config.memory_mib = 1536;
    config.network = None;
    config.name = name.to_owned();
    write_disk(&mut config, &disk.file);
    config.tpm = Some(disk.tpm.clone());
    let machine = Machine::boot(config).context("boot the host")?;
    machine.zones().wait_until("the zones", machine.within(BOOT), |status| status.zones.len() == 2)?;
    Ok(machine)
}

/// The whole log, page by page, and its head.
fn read(machine: &Machine) -> anyhow::Result<(Vec<String>, Head)> {
    let (mut position, mut all) = (1, Vec::new());
    loop {
        let page = machine.zones().audit(position, PAGE, machine.within(SOON))?;
        ensure!(page.records.len() <= 3, "a page of {PAGE} has {} records", page.records.len());
        if page.records.is_empty() {
            let head = Head { position: page.head.position, hash: page.head.hash.as_str().into() };
            return Ok((all, head));
        }
        ensure!(page.next > position, "pages do not go on: {} after {position}", page.next);
        position = page.next;
        all.extend(page.records);
    }
}

/// The same, verified, as zone and kind of each event.
fn verified(machine: &Machine) -> anyhow::Result<(Vec<String>, Vec<Record>)> {
    let (lines, head) = read(machine)?;
    audit::verify(lines.iter().map(String::as_bytes), None, Some(&head)).context("verify the log")?;
    let records = lines.iter().map(|line| Record::parse(line.as_bytes()).context("a record"));
    let records = records.collect::<anyhow::Result<_>>()?;
    Ok((lines, records))
}

fn tells(
    records: &[Record],
    zone: Option<&str>,
    what: &str,
    is: impl Fn(&Event) -> bool,
) -> anyhow::Result<()> {
    let of_zone = |record: &&Record| record.zone.as_deref() == zone;
    let told = records.iter().filter(of_zone).any(|record| record.event.as_ref().is_some_and(&is));
    ensure!(told, "no record of {zone:?} tells of {what}: {records:#?}");
    Ok(())
}

pub(super) fn outlives(world: &mut World) -> anyhow::Result<()> {
    let artifacts = &world.artifacts;
    let data = DataDisk::new(artifacts, "audit-data")?;
    data.copy_micro(artifacts, "micro")?;
    std::fs::remove_file(data.copy_micro(artifacts, UNSIGNED)?.join(SIGNATURE))?;
    let disk = Disk { file: data.finish(artifacts)?, tpm: artifacts.kept_tpm("audit-tpm")? };

    let before = first_boot(artifacts, &disk)?;
    let altered = second_boot(artifacts, &disk, &before)?;
    let position = alter(&disk.file, &altered)?;
    third_boot(artifacts, &disk, position)?;
    std::fs::remove_file(&disk.file)?;
    Ok(())
}

/// Things happen; `zoned` is killed; the power goes.
fn first_boot(artifacts: &Artifacts, disk: &Disk) -> anyhow::Result<Vec<String>> {
    let machine = boot(artifacts, disk, "audit-1")?;
    let zones = machine.zones();
    ensure_running(&machine, ZONE)?;
    let processes = zones.processes(machine.within(SOON))?;
    let vmm = processes.iter().find(|process| process.user == VMM).context("no VMM runs")?;
    zones.kill(vmm.pid, KILL, machine.within(SOON))?;
    zones.wait_for_phase(ZONE, Phase::Failed, machine.within(SOON))?;
    ensure!(zones.start(UNSIGNED, machine.within(SOON)).is_err(), "an unsigned template was started");
    let (lines, records) = verified(&machine)?;
    tells(&records, None, "a first zoned", |event| matches!(event, Event::ZonedStarted { again: false }))?;
    tells(
        &records,
        None,
        "the policy",
        |event| matches!(event, Event::PolicyLoaded { sha256, .. } if sha256.len() == 64),
    )?;
    tells(&records, Some(ZONE), "its start", |event| matches!(event, Event::ZoneStarted))?;
    tells(
        &records,
        Some(ZONE),
        "its machine's death",
        |event| matches!(event, Event::ProcessDied { process, cause } if process == "vmm" && cause.contains("signal 9")),
    )?;
    tells(&records, Some(ZONE), "its failure", |event| matches!(event, Event::ZoneFailed { .. }))?;
    tells(
        &records,
        Some(UNSIGNED),
        "its template",
        |event| matches!(event, Event::TemplateRefused { reason } if reason.contains("minisig is missing")),
    )?;
    tells(&records, None, "the refusal", |event| matches!(event, Event::RequestRefused { .. }))?;

    let process = service_of(&machine, "zoned")?;
    let place = machine.serial().end();
    zones.kill(process, KILL, machine.within(SOON))?;
    machine.serial().wait_for_since(place, "init: zoned started", machine.within(SOON))?;
    // Its notices begin with what the one before had said.
    zones.wait_until("the old notices", machine.within(SOON), |status| {
        status.notices.iter().any(|notice| notice.text.contains("process vmm of zone good was lost"))
    })?;
    let (again, records) = verified(&machine)?;
    ensure!(again.starts_with(&lines), "the new zoned does not tell what the one before had written");
    tells(&records, None, "a second zoned", |event| matches!(event, Event::ZonedStarted { again: true }))?;
    tells(
        &records,
        None,
        "zoned's death",
        |event| matches!(event, Event::ProcessDied { process, .. } if process == "zoned"),
    )?;
    // Power cut: QEMU is killed.
    drop(machine);
    Ok(again)
}

/// The log goes on after the cut, and is exported.
fn second_boot(artifacts: &Artifacts, disk: &Disk, before: &[String]) -> anyhow::Result<Record> {
    let machine = boot(artifacts, disk, "audit-2")?;
    ensure_running(&machine, ZONE)?;
    let (lines, records) = verified(&machine)?;
    ensure!(lines.starts_with(before), "the log after the cut does not begin with the log before it");
    let boots: std::collections::BTreeSet<_> = records.iter().map(|record| record.boot.as_str()).collect();
    ensure!(boots.len() == 2, "two boots, but the records name {boots:?}");
    let export = export(artifacts, &lines)?;
    let (whole, said) = check(&export)?;
    ensure!(whole && said.contains(&format!("Records 1 to {} verify.", lines.len())), "the export: {said}");
    ensure!(said.contains("template_refused") && said.contains("killed by signal 9"), "the table: {said}");
    let died = records.into_iter().find(|record| matches!(record.event, Some(Event::ProcessDied { .. })));
    died.context("the death is in the log")
}

/// One byte in a record that stands on the raw disk.
fn alter(disk: &Path, record: &Record) -> anyhow::Result<u64> {
    const WORDS: &[u8] = b"killed by signal 9";
    const BLOCK: usize = 1 << 20;
    let needle = record.head.hash.as_str().as_bytes();
    let mut file = File::open(disk)?;
    let (mut bytes, mut at, mut places) = (vec![0; BLOCK], 0_u64, Vec::new());
    loop {
        let mut filled = 0;
        while filled < BLOCK {
            match file.read(bytes.get_mut(filled..).unwrap_or_default())? {
                0 => break,
                count => filled += count,
            }
        }
        let block = bytes.get(..filled).unwrap_or_default();
        // The log lies in blocks of the file system, so hardly any record crosses these.
        let found = block.windows(needle.len()).position(|window| window == needle);
        let words = found.and_then(|end| {
            let before = block.get(..end)?;
            before.windows(WORDS.len()).rposition(|window| window == WORDS)
        });
        if let Some(words) = words {
            places.push(at + u64::try_from(words)?);
        }
        at += u64::try_from(filled)?;
        if filled < BLOCK {
            break;
        }
    }
    let [place] = places.as_slice() else { anyhow::bail!("the record stands at {places:?} of the disk") };
    let last = u64::try_from(WORDS.len())? - 1;
    OpenOptions::new().write(true).open(disk)?.write_all_at(b"8", place + last)?;
    Ok(record.head.position)
}

/// Everybody who looks names the altered record.
fn third_boot(artifacts: &Artifacts, disk: &Disk, position: u64) -> anyhow::Result<()> {
    let machine = boot(artifacts, disk, "audit-3")?;
    let named = format!("record {position} (line {position}) was altered: expected hash ");
    machine.zones().wait_until("a notice about the alteration", machine.within(SOON), |status| {
        status
            .notices
            .iter()
            .any(|notice| notice.text.contains(&named) && notice.text.contains("found hash "))
    })?;
    let (lines, head) = read(&machine)?;
    let fault = audit::verify(lines.iter().map(String::as_bytes), None, Some(&head));
    let fault = fault.err().context("the altered log verifies")?.to_string();
    ensure!(fault.contains(&named), "the altered record is not named: {fault}");
    let (whole, said) = check(&export(artifacts, &lines)?)?;
    ensure!(!whole && said.contains(&named), "the command does not name it: {said}");
    // The log goes on, and zones run.
    ensure_running(&machine, ZONE)?;
    let written = lines.iter().filter_map(|line| Record::parse(line.as_bytes())?.event);
    ensure!(
        written.into_iter().any(|event| matches!(event, Event::ChainBroken { .. })),
        "no record says that the chain is broken"
    );
    Ok(())
}

fn export(artifacts: &Artifacts, lines: &[String]) -> anyhow::Result<PathBuf> {
    let path = artifacts.logs().join("audit.jsonl");
    std::fs::write(&path, lines.join("\n") + "\n").with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

/// `bulkhead audit verify`: whether it found nothing wrong, and what it said.
fn check(export: &Path) -> anyhow::Result<(bool, String)> {
    let program = std::env::current_exe()?.with_file_name("bulkhead");
    let output = Command::new(&program).args(["audit", "verify"]).arg(export).output();
    let output = output.with_context(|| format!("start {}", program.display()))?;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}
