//! Tunnels: one that does not come up says why, and a zone's own key is made on the machine.

use std::path::Path;

use anyhow::{Context, ensure};
use control_api::Phase;
use gateway::network::Silence;
use gateway::{Keys, Site};
use harness::{Machine, TpmConfig};

use crate::artifacts::Artifacts;
use crate::disk::DataDisk;
use crate::world::{
    BOOT, SOON, START, World, ensure_running, ensure_stopped, fetch_own_page, process_of, set_policy,
    switch_off, test_machine, write_disk, zone,
};

const ZONE: &str = "office";

/// SIGKILL.
const KILL: i32 = 9;

/// A host whose policy is no demonstration, so that nobody knows its tunnels' keys.
fn boot(artifacts: &Artifacts, disk: &Path, tpm: &TpmConfig, keys: Keys) -> anyhow::Result<Machine> {
    let path = artifacts.demo.join("policy.toml");
    let policy = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let mut config = test_machine(artifacts)?;
    config.name = "own-keys".to_owned();
    set_policy(&mut config, artifacts, &policy.replace("demo = true", "demo = false"))?;
    write_disk(&mut config, disk);
    config.tpm = Some(tpm.clone());
    if let Some(network) = &mut config.network {
        network.keys = keys;
    }
    let machine = Machine::boot(config).context("boot the host")?;
    machine.zones().wait_until("three zones", machine.within(BOOT), |status| status.zones.len() == 3)?;
    Ok(machine)
}

/// The public half of the zone's own key, as the user would read it.
fn public_key(machine: &Machine) -> anyhow::Result<Option<String>> {
    Ok(zone(machine, ZONE)?.tunnel.context("the policy gives it a tunnel")?.public_key)
}

pub(super) fn own_key(world: &mut World) -> anyhow::Result<()> {
    let artifacts = &world.artifacts;
    let disk = DataDisk::new(artifacts, "own-keys")?;
    disk.copy_micro(artifacts, "micro")?;
    let disk = disk.finish_with(artifacts, 448).context("make the data disk")?;
    let (tpm, keys) = (artifacts.kept_tpm("own-keys-tpm")?, artifacts.keys()?);
    let demo = std::fs::read_to_string(artifacts.demo.join("demo-keys.toml"))?;

    let machine = boot(artifacts, &disk, &tpm, keys.clone())?;
    ensure!(public_key(&machine)?.is_none(), "a zone that was never opened has a key");
    ensure_running(&machine, ZONE)?;
    let key = public_key(&machine)?.context("no public key is shown")?;
    ensure!(!demo.contains(&key), "the key is the demonstration's");
    switch_off(machine)?;

    // The gateway's administrator has it now, and the key is the same after a boot.
    let keys = keys.with_client(Site::Office, &key).context("what is shown is no public key")?;
    let machine = boot(artifacts, &disk, &tpm, keys)?;
    machine.zones().wait_until("the public key", machine.within(SOON), |status| {
        let zone = status.zones.iter().find(|zone| zone.name == ZONE);
        zone.and_then(|zone| zone.tunnel.as_ref()?.public_key.as_ref()) == Some(&key)
    })?;
    ensure_running(&machine, ZONE)?;
    machine.zones().wait_for_tunnel(ZONE, machine.within(START))?;
    fetch_own_page(&machine, Site::Office)?;
    // A tunnel process that is started again has it, too.
    let vpnd = process_of(&machine, "vpnd", ZONE)?;
    machine.zones().kill(vpnd, KILL, machine.within(SOON))?;
    machine.zones().wait_until("another tunnel process", machine.within(START), |status| {
        let zone = status.zones.iter().find(|zone| zone.name == ZONE);
        let another = process_of(&machine, "vpnd", ZONE).is_ok_and(|process| process != vpnd);
        another && zone.and_then(|zone| zone.tunnel.as_ref()).is_some_and(|tunnel| tunnel.up)
    })?;
    fetch_own_page(&machine, Site::Office)?;
    switch_off(machine)?;
    std::fs::remove_file(&disk).context("remove the disk")
}

pub(super) fn silent_gateway(world: &mut World) -> anyhow::Result<()> {
    let machine = world.machine()?;
    ensure_stopped(machine, ZONE)?;
    machine.gateway().set_silent(Site::Office, Silence::Silent);
    let outcome = reason(machine);
    machine.gateway().set_silent(Site::Office, Silence::Answering);
    outcome?;
    let zone = machine.zones().wait_for_tunnel(ZONE, machine.within(START))?;
    let reason = zone.tunnel.and_then(|tunnel| tunnel.reason);
    ensure!(reason.is_none(), "a tunnel that is up still has a reason: {reason:?}");
    fetch_own_page(machine, Site::Office)?;
    Ok(())
}

fn reason(machine: &Machine) -> anyhow::Result<()> {
    let ignored = || machine.gateway().counters().sites[Site::Office.index()].ignored_silent;
    let before = ignored();
    ensure_running(machine, ZONE)?;
    machine.zones().wait_until("a reason that names the silent gateway", machine.within(SOON), |status| {
        let zone = status.zones.iter().find(|zone| zone.name == ZONE);
        let reason = zone.and_then(|zone| zone.tunnel.as_ref()).and_then(|tunnel| tunnel.reason.as_deref());
        reason.is_some_and(|reason| reason.contains("gateway") && reason.contains("answer"))
    })?;
    let seen = zone(machine, ZONE)?;
    ensure!(seen.state.phase == Phase::Running, "the zone is {:?}, not running", seen.state.phase);
    ensure!(!seen.tunnel.context("the policy gives it a tunnel")?.up, "the tunnel is up by itself");
    ensure!(ignored() > before, "the gateway was never asked: its silence cannot be known");
    Ok(())
}
