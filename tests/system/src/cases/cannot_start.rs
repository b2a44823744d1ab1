//! Starts that cannot be: each is refused with a sentence, leaves nothing half-made, and works once its cause is gone.
//! A data disk that fills up while a zone runs is told and ends no zone.

use anyhow::{Context, ensure};
use control_api::Phase;
use harness::Machine;

use crate::artifacts::Artifacts;
use crate::disk::DataDisk;
use crate::things::Things;
use crate::world::{
    BOOT, SOON, START, World, ensure_running, ensure_stopped, file, last_notice, set_policy, test_machine,
    uptime, wait_for_notice, zone,
};

const MIB: u64 = 1024 * 1024;

/// Memory of the host in MiB: two of the vast zones do not fit.
const MEMORY: u32 = 1536;

/// The data disk in MiB: the template takes some 70 of them.
const DISK: u32 = 192;

/// Zones: name, colour, template, memory and disk in MiB.
const ZONES: [(&str, &str, &str, u32, u32); 6] = [
    ("filler", "red", "micro", 128, 512),
    ("fresh", "green", "micro", 128, 32),
    ("writer", "blue", "micro", 128, 256),
    ("absent", "grey", "no-such-template", 128, 32),
    ("vast", "orange", "micro", 700, 16),
    ("vaster", "purple", "micro", 600, 16),
];

fn policy() -> String {
    let mut text = "schema = 1\nversion = 1\nname = \"Starts\"\ndemo = true\n".to_owned();
    for (name, colour, template, memory, disk) in ZONES {
        text += &format!(
            "\n[zone.{name}]\ncolour = \"{colour}\"\ntemplate = \"{template}\"\nmemory = \"{memory} MiB\"\nvcpus = 1\n\
             disk = \"{disk} MiB\"\nnetwork = \"none\"\ndisposable = {}\n",
            name == "filler"
        );
    }
    text
}

fn boot(artifacts: &Artifacts) -> anyhow::Result<Machine> {
    let mut config = test_machine(artifacts)?;
    config.name = "starts".to_owned();
    set_policy(&mut config, artifacts, &policy())?;
    let disk = DataDisk::new(artifacts, "small-disk")?;
    disk.copy_micro(artifacts, "micro")?;
    config.data_disk = Some(disk.finish_with(artifacts, DISK).context("make the data disk")?);
    config.memory_mib = MEMORY;
    config.network = None;
    let machine = Machine::boot(config).context("boot a host with a small data disk")?;
    let deadline = machine.within(BOOT);
    machine.zones().wait_until("the zones", deadline, |status| status.zones.len() == ZONES.len())?;
    Ok(machine)
}

/// The machine with every zone at rest.
fn rested(world: &mut World) -> anyhow::Result<&Machine> {
    let machine = world.odd_machine(module_path!(), boot)?;
    for (name, ..) in ZONES {
        ensure_stopped(machine, name)?;
    }
    Ok(machine)
}

/// Starts a zone in vain: the reason. Nothing is on the host that was not there before.
fn refused(machine: &Machine, name: &str) -> anyhow::Result<String> {
    // Of an earlier run, descriptors may be on their way out.
    let before = Things::of(machine)?;
    before.ensure_same(machine, machine.within(SOON)).context("the host does not come to rest")?;
    let started = machine.zones().start(name, machine.within(SOON));
    ensure!(started.is_err(), "{name} was not refused");
    let zone = machine.zones().wait_for_phase(name, Phase::Failed, machine.within(SOON))?;
    let reason = zone.state.reason.context("a failed zone says why")?;
    before.ensure_same(machine, machine.within(SOON)).with_context(|| format!("{name}, {reason}"))?;
    ensure!(reason.starts_with("Not started: ") && reason.ends_with('.'), "no sentence: {reason}");
    Ok(reason)
}

pub(super) fn template(world: &mut World) -> anyhow::Result<()> {
    let machine = rested(world)?;
    for _ in 0..2 {
        let reason = refused(machine, "absent")?;
        let expected = "template \"no-such-template\" is not installed";
        ensure!(reason.contains(expected), "the reason does not say {expected:?}: {reason}");
    }
    Ok(())
}

/// Several zones whose sum is more than the host has: the second one gets no process, the first one goes on.
pub(super) fn memory(world: &mut World) -> anyhow::Result<()> {
    let machine = rested(world)?;
    ensure_running(machine, "vast")?;
    let reason = refused(machine, "vaster")?;
    for part in
        ["not enough memory: the zone takes 632 MiB, running zones take 732 MiB", "stop another zone first"]
    {
        ensure!(reason.contains(part), "the reason does not say {part:?}: {reason}");
    }
    uptime(machine, "vast").context("the other zone")?;
    let log = machine.zones().kernel_log(machine.within(SOON))?;
    ensure!(!log.contains("Out of memory"), "the kernel killed somebody:\n{log}");
    ensure_stopped(machine, "vast")?;
    ensure_running(machine, "vaster").context("start it once there is memory")?;
    ensure_stopped(machine, "vaster")
}

/// A data disk without room: the zone's private disk cannot be made.
pub(super) fn full(world: &mut World) -> anyhow::Result<()> {
    let machine = rested(world)?;
    // From the first zone on `keeper` holds the machine's TPM open.
    ensure_running(machine, "vast")?;
    ensure_stopped(machine, "vast")?;
    ensure_running(machine, "filler")?;
    fill(machine, 4)?;
    let reason = refused(machine, "fresh")?;
    let expected = "the data disk is full (/data/zones/fresh/private.img); remove files";
    ensure!(reason.contains(expected), "the reason does not say {expected:?}: {reason}");
    give_back(machine)?;
    ensure_running(machine, "fresh").context("start it once there is room")?;
    ensure_stopped(machine, "fresh")
}

/// The data disk fills up under a running zone: its guest gets an error, the zone lives, the user is told, and freed
/// space heals it.
pub(super) fn fills(world: &mut World) -> anyhow::Result<()> {
    let machine = rested(world)?;
    ensure_running(machine, "writer")?;
    file(machine, "writer", &["put", "/home/mine", "before"])?;
    ensure_running(machine, "filler")?;
    fill(machine, 6)?;
    let last = last_notice(machine)?;
    let arguments = ["fill", "/home/much", "48"];
    let written = machine.zones().run_check("writer", "file", &arguments, machine.within(2 * START))?;
    ensure!(!written.passed, "48 MiB fit on a disk that has 6");
    let said = ["error", "No space left"].iter().any(|word| written.output.contains(word));
    ensure!(said, "the guest was told something else: {}", written.output);
    wait_for_notice(machine, last, &["Zone writer: the host's data disk is full"])?;
    let phase = zone(machine, "writer")?.state.phase;
    ensure!(phase == Phase::Running, "the zone is {phase:?}");
    uptime(machine, "writer").context("its agent")?;
    give_back(machine)?;
    ensure_stopped(machine, "writer")?;
    ensure_running(machine, "writer").context("start it once there is room")?;
    let mine = file(machine, "writer", &["get", "/home/mine"])?;
    ensure!(mine == "before", "what was written before is {mine:?}");
    file(machine, "writer", &["fill", "/home/much", "16"]).context("write once there is room")?;
    world.drop_odd_machine();
    Ok(())
}

/// Fills the data disk until it has less than so many MiB left.
fn fill(machine: &Machine, left: u64) -> anyhow::Result<()> {
    for number in 0..6 {
        let room = machine.zones().space("/data", machine.within(SOON))? / MIB;
        let Some(more) = room.checked_sub(left).filter(|more| *more > 0) else { return Ok(()) };
        file(machine, "filler", &["fill", &format!("/home/fill-{number}"), &more.to_string()])?;
    }
    let room = machine.zones().space("/data", machine.within(SOON))? / MIB;
    ensure!(room <= left, "{room} MiB are still free");
    Ok(())
}

/// Ends the disposable zone, and waits for its space.
fn give_back(machine: &Machine) -> anyhow::Result<()> {
    ensure_stopped(machine, "filler")?;
    let deadline = machine.within(SOON);
    while machine.zones().space("/data", machine.within(SOON))? < 32 * MIB {
        ensure!(std::time::Instant::now() < deadline, "the disposable zone's space does not come back");
        // The kernel gives it back when it comes to it; nothing tells when.
        std::thread::park_timeout(std::time::Duration::from_millis(500));
    }
    Ok(())
}
