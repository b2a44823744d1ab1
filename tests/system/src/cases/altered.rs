//! One bit of whatever a zone begins with or is kept by, altered on the disk of a machine that is off: that zone does not open,
//! says why, and no other zone notices. Turned back, it opens, and nothing is lost.

use std::path::Path;

use anyhow::{Context, ensure};
use control_api::Phase;
use harness::bridge::CallError;
use harness::{Machine, TpmConfig};
use template::{APPROVAL, INITRD, KERNEL, MANIFEST};

use crate::artifacts::Artifacts;
use crate::cpio;
use crate::disk::{DataDisk, alter, build_keys, sign_anew};
use crate::opening::told;
use crate::world::{
    BOOT, SOON, START, World, ensure_running, ensure_stopped, file, set_policy, switch_off, test_machine,
    write_disk, zone,
};

/// How a zone does not open.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    /// It is not begun, for this reason.
    Refused(&'static [&'static str]),
    /// It is not opened, for this cause and reason.
    NotOpened(&'static str, &'static [&'static str]),
    /// It begins, and fails for this reason.
    Fails(&'static [&'static str]),
}

/// A zone, what of it is altered, and what is said. `None`: the zone beside which all this happens.
type Row = (&'static str, Option<(What, How)>);

/// What is altered: a file of its template at a place, its manifest behind a word, or a file that is kept for it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Template(&'static str, u64),
    Manifest(&'static str),
    Kept(&'static str, u64),
}

const ROWS: [Row; 8] = [
    ("intact", None),
    (
        "kernel",
        Some((What::Template(KERNEL, 9_000_000), How::Refused(&["/vmlinux: found ", " with SHA-256 "]))),
    ),
    ("initrd", Some((What::Template(INITRD, 5000), How::Refused(&["/initrd: found ", " with SHA-256 "])))),
    ("words", Some((What::Manifest("oops="), How::Refused(&["template.toml: signature"])))),
    ("roothash", Some((What::Manifest("verity = \""), How::Refused(&["template.toml: signature"])))),
    (
        "approval",
        Some((
            What::Template(APPROVAL, 100),
            How::Fails(&["virtual TPM", "approval is not signed by the key"]),
        )),
    ),
    ("state", Some((What::Kept("/vtpm/state/tpm2-00.permall", 700), How::Fails(&["virtual TPM"])))),
    (
        "sealed",
        Some((
            What::Kept("/keeper/sealed.zone", 200),
            How::NotOpened("damaged", &["another TPM, or was altered"]),
        )),
    ),
];

/// What an altered firmware is told by, in every zone.
const FIRMWARE: &[&str] = &["virtual TPM", "firmware for zones is not approved"];
const FIRMWARE_PATH: &str = "etc/bulkhead/zone_fw";

const COLOURS: [&str; ROWS.len()] = ["red", "orange", "yellow", "green", "blue", "purple", "brown", "grey"];

const MINE: &str = "/home/mine";

fn policy() -> String {
    let mut text = "schema = 1\nversion = 1\nname = \"Altered\"\n".to_owned();
    for ((name, _), colour) in ROWS.iter().zip(COLOURS) {
        text += &format!(
            "\n[zone.{name}]\ncolour = \"{colour}\"\ntemplate = \"{name}\"\nmemory = \"128 MiB\"\nvcpus = 1\n\
             disk = \"16 MiB\"\nnetwork = \"none\"\n"
        );
    }
    text
}

/// A machine with this disk and TPM, perhaps with one more segment of its image.
fn boot(artifacts: &Artifacts, disk: &Path, tpm: &TpmConfig, more: Option<&Path>) -> anyhow::Result<Machine> {
    let mut config = test_machine(artifacts)?;
    config.name = "altered".to_owned();
    set_policy(&mut config, artifacts, &policy())?;
    config.initramfs.extend(more.map(Path::to_owned));
    write_disk(&mut config, disk);
    config.tpm = Some(tpm.clone());
    config.memory_mib = 1536;
    config.network = None;
    let machine = Machine::boot(config).context("boot the host")?;
    let booted = |status: &control_api::Status| status.zones.len() == ROWS.len();
    machine.zones().wait_until("the zones", machine.within(BOOT), booted)?;
    Ok(machine)
}

/// Alters one bit of everything; a second time alters it back.
fn alter_all(artifacts: &Artifacts, disk: &Path) -> anyhow::Result<()> {
    for (name, what) in ROWS.iter().filter_map(|(name, row)| row.map(|(what, _)| (name, what))) {
        let (path, place) = match what {
            What::Template(file, place) => (format!("/templates/{name}/{file}"), place),
            What::Kept(path, place) => (path.to_owned(), place),
            What::Manifest(word) => {
                let path = format!("/templates/{name}/{MANIFEST}");
                let text = crate::disk::read(artifacts, disk, &path)?;
                let at = text.windows(word.len()).position(|bytes| bytes == word.as_bytes());
                let at = at.with_context(|| format!("{path} says {word} nowhere"))? + word.len();
                (path, u64::try_from(at)?)
            }
        };
        alter(artifacts, disk, &path, place).with_context(|| format!("alter {path}"))?;
    }
    Ok(())
}

/// The zone does not open, and says why.
fn does_not_open(machine: &Machine, name: &str, how: How) -> anyhow::Result<()> {
    let says = |reason: &str, words: &[&str]| {
        ensure!(
            words.iter().all(|word| reason.contains(word)),
            "{name}: expected {words:?}, found {reason:?}"
        );
        Ok(())
    };
    let started = machine.zones().start(name, machine.within(SOON));
    if let How::NotOpened(cause, words) = how {
        let told = told(started)?;
        ensure!(told.cause == cause, "{name}: expected {cause}, found {told:?}");
        ensure!(zone(machine, name)?.state.phase == Phase::Stopped, "{name} did not stay as it was");
        return says(&told.reason, words);
    }
    match (&started, how) {
        (Err(CallError::Method { .. }), How::Refused(_)) | (Ok(()), How::Fails(_)) => {}
        (other, _) => anyhow::bail!("{name}: it was answered with {other:?}"),
    }
    let failed = machine.zones().wait_for_phase(name, Phase::Failed, machine.within(START));
    let reason = failed.with_context(|| format!("{name} was begun"))?.state.reason.unwrap_or_default();
    match how {
        How::Refused(words) | How::Fails(words) | How::NotOpened(_, words) => says(&reason, words),
    }
}

/// The host's segment with one bit of the zones' firmware altered, as one more segment.
fn other_firmware(artifacts: &Artifacts) -> anyhow::Result<std::path::PathBuf> {
    let entries = cpio::read(&std::fs::read(artifacts.host_segment())?)?;
    let entry = entries.into_iter().find(|entry| entry.path == FIRMWARE_PATH);
    let mut firmware = entry.context("the host image has no firmware")?.content;
    *firmware.last_mut().context("the firmware is empty")? ^= 1;
    let path = artifacts.logs().join("altered-firmware.cpio");
    std::fs::write(&path, cpio::single(FIRMWARE_PATH, &firmware)?)?;
    Ok(path)
}

/// Every zone opens and has what it wrote.
fn all_open(machine: &Machine) -> anyhow::Result<()> {
    for (name, _) in ROWS {
        ensure_running(machine, name)?;
        ensure!(file(machine, name, &["get", MINE])? == name, "{name} lost what it wrote");
        ensure_stopped(machine, name)?;
    }
    Ok(())
}

pub(super) fn one_bit(world: &mut World) -> anyhow::Result<()> {
    let artifacts = &world.artifacts;
    let (disk, keys) = (DataDisk::new(artifacts, "altered")?, build_keys(artifacts)?);
    for (name, _) in ROWS {
        sign_anew(&disk.copy_micro(artifacts, name)?, &keys, &[("\"micro\"", &format!("\"{name}\""))])?;
    }
    let disk = disk.finish_with(artifacts, 768).context("make the data disk")?;
    let tpm = artifacts.kept_tpm("altered-tpm")?;

    let machine = boot(artifacts, &disk, &tpm, None)?;
    for (name, _) in ROWS {
        ensure_running(&machine, name)?;
        file(&machine, name, &["put", MINE, name])?;
        ensure_stopped(&machine, name)?;
    }
    switch_off(machine)?;

    alter_all(artifacts, &disk)?;
    let machine = boot(artifacts, &disk, &tpm, None).context("altered files")?;
    ensure_running(&machine, "intact")?;
    for (name, how) in ROWS.iter().filter_map(|(name, row)| row.map(|(_, how)| (name, how))) {
        does_not_open(&machine, name, how)?;
    }
    ensure!(file(&machine, "intact", &["get", MINE])? == "intact", "a zone beside altered ones noticed");
    switch_off(machine)?;

    alter_all(artifacts, &disk)?;
    let firmware = other_firmware(artifacts)?;
    let machine = boot(artifacts, &disk, &tpm, Some(&firmware)).context("another firmware")?;
    for name in ["intact", "kernel"] {
        does_not_open(&machine, name, How::Fails(FIRMWARE))?;
    }
    switch_off(machine)?;

    let machine = boot(artifacts, &disk, &tpm, None).context("everything as it was")?;
    all_open(&machine)?;
    switch_off(machine)?;
    std::fs::remove_file(&disk).context("remove the disk")
}
