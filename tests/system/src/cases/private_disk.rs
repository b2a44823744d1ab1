//! The private disk: /home and what the policy names outlive a start, everything else does not; it is checked after a
//! crash, grows with the policy and never shrinks.

use anyhow::{Context, bail, ensure};
use control_api::Phase;
use harness::Machine;

use crate::artifacts::Artifacts;
use crate::disk::DataDisk;
use crate::world::{
    BOOT, SOON, World, ensure_running, ensure_stopped, file, set_policy, switch_off, test_machine,
    wait_for_notice, write_disk,
};

const MIB: u64 = 1024 * 1024;

/// SIGKILL.
const KILL: i32 = 9;

/// The first zone's VMM (ARCHITECTURE.md, "Processes").
const KEEPER: u32 = 2000;

/// `keeper` keeps folders. The disks of the others were made before, with other sizes.
const POLICY: &str = r#"
schema = 1
version = 1
name = "Private disks"
demo = true

[zone.keeper]
colour = "red"
template = "micro"
memory = "128 MiB"
vcpus = 1
disk = "32 MiB"
keep = ["/var/lib/app", "/srv"]
network = "none"

[zone.grown]
colour = "green"
template = "micro"
memory = "128 MiB"
vcpus = 1
disk = "96 MiB"
network = "none"

[zone.shrunk]
colour = "blue"
template = "micro"
memory = "128 MiB"
vcpus = 1
disk = "16 MiB"
network = "none"
"#;

/// What stands on the disks that were made before.
const OLD: &str = "written long ago";

/// The disks' sizes in an earlier policy.
const EARLIER: [(&str, &str, &str); 2] = [
    ("grown", "disk = \"96 MiB\"", "disk = \"24 MiB\""),
    ("shrunk", "disk = \"16 MiB\"", "disk = \"48 MiB\""),
];

/// A host whose zones ran under an earlier policy.
fn boot(artifacts: &Artifacts) -> anyhow::Result<Machine> {
    let disk = DataDisk::new(artifacts, "private-disk")?;
    disk.copy_micro(artifacts, "micro")?;
    let disk = disk.finish_with(artifacts, 384).context("make the data disk")?;
    let tpm = artifacts.kept_tpm("private-tpm")?;
    let boot = |policy: &str| {
        let mut config = test_machine(artifacts)?;
        config.name = "private".to_owned();
        set_policy(&mut config, artifacts, policy)?;
        write_disk(&mut config, &disk);
        config.tpm = Some(tpm.clone());
        config.memory_mib = 1536;
        config.network = None;
        let machine = Machine::boot(config).context("boot a host with private disks")?;
        machine.zones().wait_until("the zones", machine.within(BOOT), |status| status.zones.len() == 3)?;
        anyhow::Ok(machine)
    };
    let earlier = EARLIER.iter().fold(POLICY.to_owned(), |policy, (_, now, then)| policy.replace(now, then));
    let machine = boot(&earlier).context("the earlier policy")?;
    for (zone, ..) in EARLIER {
        ensure_running(&machine, zone)?;
        file(&machine, zone, &["put", "/home/deep/old", OLD])?;
        ensure_stopped(&machine, zone)?;
    }
    switch_off(machine)?;
    boot(POLICY)
}

/// What the guest's log says.
fn log(machine: &Machine, zone: &str) -> anyhow::Result<String> {
    Ok(machine.zones().run_check(zone, "dmesg", &[], machine.within(SOON))?.output)
}

/// What the agent says of a disk that it checks.
const CHECKED: &str = "was not unmounted in order: it is checked";

pub(super) fn keeps(world: &mut World) -> anyhow::Result<()> {
    const KEPT: [&str; 3] = ["/home/mine", "/var/lib/app/deep/mine", "/srv/mine"];
    const FRESH: [&str; 3] = ["/etc/mine", "/var/lib/other", "/var/mine"];
    let machine = world.odd_machine(module_path!(), boot)?;
    ensure_running(machine, "keeper")?;
    for path in KEPT.iter().chain(&FRESH) {
        file(machine, "keeper", &["put", path, path])?;
    }
    ensure_stopped(machine, "keeper")?;
    ensure_running(machine, "keeper")?;
    let there = |path: &str| file(machine, "keeper", &["get", path]);
    for path in KEPT {
        ensure!(there(path)? == path, "{path} did not stay");
    }
    for path in FRESH {
        ensure!(there(path).is_err(), "{path} outlived the start: the root is not fresh");
    }
    let said = log(machine, "keeper")?;
    ensure!(!said.contains(CHECKED), "a stop in order left a disk in disorder:\n{said}");

    // It dies while the disk is in use: the next start checks it.
    file(machine, "keeper", &["put", "/srv/later", "later"])?;
    let processes = machine.zones().processes(machine.within(SOON))?;
    let Some(vmm) = processes.iter().find(|process| process.user == KEEPER) else {
        bail!("no process of keeper")
    };
    machine.zones().kill(vmm.pid, KILL, machine.within(SOON))?;
    machine.zones().wait_for_phase("keeper", Phase::Failed, machine.within(SOON))?;
    ensure_running(machine, "keeper")?;
    let said = log(machine, "keeper")?;
    ensure!(said.contains(CHECKED), "the disk was not checked:\n{said}");
    ensure!(there("/srv/later")? == "later" && there(KEPT[1])? == KEPT[1], "the check lost something");
    ensure_stopped(machine, "keeper")
}

pub(super) fn grows(world: &mut World) -> anyhow::Result<()> {
    let machine = world.odd_machine(module_path!(), boot)?;
    // The file system's own tables take some of it.
    for (zone, least, most) in [("grown", 80, 96), ("shrunk", 36, 48)] {
        ensure_running(machine, zone)?;
        let old = file(machine, zone, &["get", "/home/deep/old"])?;
        ensure!(old == OLD, "{zone}: what was on the disk is {old:?}");
        let room = file(machine, zone, &["room", "/home"])?;
        let numbers: Vec<u64> = room.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [blocks, size] = numbers.as_slice() else { bail!("the room is {room:?}") };
        let mib = blocks * size / MIB;
        ensure!((least..=most).contains(&mib), "{zone} has {mib} MiB, not {least} to {most}");
        if zone == "grown" {
            file(machine, zone, &["fill", "/home/much", "56"]).context("use the new space")?;
        }
        ensure_stopped(machine, zone)?;
    }
    let words = ["Zone shrunk: its private disk has 48 MiB, the policy gives 16 MiB", "never made smaller"];
    wait_for_notice(machine, 0, &words)?;
    ensure_running(machine, "grown")?;
    ensure!(file(machine, "grown", &["get", "/home/deep/old"])? == OLD, "growth lost something");
    world.drop_odd_machine();
    Ok(())
}
