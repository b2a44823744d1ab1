//! Templates as an attacker with the data disk in hand leaves them: one that is not signed, altered, older or
//! signed by somebody else never gets a process; one whose root image was altered ends its zone when it reads it.

use anyhow::{Context, ensure};
use control_api::Phase;
use harness::Machine;
use template::{INITRD, ROOT, SIGNATURE, SigningKey, verity};

use crate::artifacts::Artifacts;
use crate::cpio;
use crate::disk::{DataDisk, Keys, build_keys, flip, sign_anew};
use crate::world::{BOOT, SOON, START, World, test_machine};

/// Zones of this machine: their name and template, what the refusal says.
const REFUSED: &[(&str, &[&str])] = &[
    ("unsigned", &["template.toml.minisig is missing"]),
    ("stranger", &["template.toml: signature: found one by key ", ", allowed is one by "]),
    ("renamed", &["template.toml: name: found \"micro\", allowed is \"renamed\""]),
    ("old", &["template.toml: epoch: found 0, allowed is 1 or above"]),
    ("initrd", &["/initrd: found ", " bytes with SHA-256 ", ", allowed are "]),
    ("short", &["/root.img: found 4096 bytes, allowed are "]),
];

/// The zone whose root image was altered in a block that it reads, and one in which everything is right.
const FLIPPED: &str = "flipped";
const GOOD: &str = "good";

const COLOURS: [&str; 8] = ["red", "orange", "yellow", "green", "blue", "purple", "brown", "grey"];

/// A policy with a zone for each template.
fn policy() -> String {
    let mut text = "schema = 1\nversion = 1\nname = \"Templates\"\ndemo = true\n".to_owned();
    let names = REFUSED.iter().map(|(name, _)| *name).chain([FLIPPED, GOOD]);
    for (name, colour) in names.zip(COLOURS) {
        text += &format!(
            "\n[zone.{name}]\ncolour = \"{colour}\"\ntemplate = \"{name}\"\nmemory = \"192 MiB\"\nvcpus = 1\n\
             disk = \"16 MiB\"\nnetwork = \"none\"\n"
        );
    }
    text
}

fn boot(artifacts: &Artifacts) -> anyhow::Result<Machine> {
    let mut config = test_machine(artifacts)?;
    let segment = artifacts.logs().join("templates-policy.cpio");
    std::fs::write(&segment, cpio::single("etc/bulkhead/policy.toml", policy().as_bytes())?)
        .with_context(|| format!("write {}", segment.display()))?;
    config.initramfs.push(segment);
    config.memory_mib = 1536;
    config.network = None;
    config.data_disk = Some(data_disk(artifacts).context("make the data disk")?);
    config.name = "templates".to_owned();
    Machine::boot(config).context("boot the host with odd templates")
}

fn data_disk(artifacts: &Artifacts) -> anyhow::Result<std::path::PathBuf> {
    let key = build_keys(artifacts)?;
    let disk = DataDisk::new(artifacts, "odd-templates")?;
    let add = |name: &str| -> anyhow::Result<std::path::PathBuf> {
        let folder = disk.copy_micro(artifacts, name)?;
        let named = format!("name = \"{name}\"");
        sign_anew(&folder, &key, &[("name = \"micro\"", &named)])?;
        Ok(folder)
    };
    add(GOOD)?;
    std::fs::remove_file(add("unsigned")?.join(SIGNATURE))?;
    let stranger =
        Keys { sign: SigningKey::from_seed([0xaa; 8], [0xaa; 32]), approve: build_keys(artifacts)?.approve };
    sign_anew(&add("stranger")?, &stranger, &[])?;
    disk.copy_micro(artifacts, "renamed")?;
    sign_anew(&add("old")?, &key, &[("epoch = 1", "epoch = 0")])?;
    flip(&add("initrd")?.join(INITRD), 5000)?;
    std::fs::write(add("short")?.join(ROOT), [0; verity::BLOCK])?;
    let flipped = add(FLIPPED)?;
    flip(&flipped.join(ROOT), agent_in_root(&flipped)? + 100)?;
    disk.finish(artifacts)
}

/// Where the agent's first block is in the root image: every zone reads it.
fn agent_in_root(template: &std::path::Path) -> anyhow::Result<usize> {
    let initrd = cpio::read(&std::fs::read(template.join(INITRD))?)?;
    let agent = initrd.iter().find(|entry| entry.path == "init").context("the initrd has no agent")?;
    let first = agent.content.get(..verity::BLOCK).context("the agent has no whole block")?;
    let image = std::fs::read(template.join(ROOT))?;
    let block = image.chunks_exact(verity::BLOCK).position(|block| block == first);
    Ok(block.context("the root image does not hold the agent as whole blocks")? * verity::BLOCK)
}

pub(super) fn refused(world: &mut World) -> anyhow::Result<()> {
    let machine = world.odd_machine(module_path!(), boot)?;
    let zones = machine.zones();
    let expected = REFUSED.len() + 2;
    zones.wait_until("the zones", machine.within(BOOT), |status| status.zones.len() == expected)?;
    for (name, parts) in REFUSED {
        let started = zones.start(name, machine.within(SOON));
        ensure!(started.is_err(), "a template that must not run was not refused: {name}");
        let zone = zones.wait_for_phase(name, Phase::Failed, machine.within(SOON))?;
        let reason = zone.state.reason.context("a failed zone says why")?;
        ensure!(
            reason.starts_with("Not started: template ") && reason.ends_with('.'),
            "no sentence: {reason}"
        );
        let missing: Vec<_> = parts.iter().filter(|part| !reason.contains(**part)).collect();
        ensure!(missing.is_empty(), "{name}: the reason does not say {missing:?}: {reason}");
    }
    let processes = zones.processes(machine.within(SOON))?;
    let zone = processes.iter().find(|process| process.user >= 2000);
    ensure!(zone.is_none(), "a refused template got a process: {zone:?}");
    // The same machine runs what is right.
    zones.start(GOOD, machine.within(SOON))?;
    zones.wait_for_phase(GOOD, Phase::Running, machine.within(START))?;
    Ok(())
}

pub(super) fn flipped(world: &mut World) -> anyhow::Result<()> {
    let machine = world.odd_machine(module_path!(), boot)?;
    let zones = machine.zones();
    zones.wait_until("the zones", machine.within(BOOT), |status| !status.zones.is_empty())?;
    let place = machine.serial().end();
    zones.start(FLIPPED, machine.within(SOON)).context("its manifest and kernel are right")?;
    let zone = zones.wait_for_phase(FLIPPED, Phase::Failed, machine.within(START))?;
    let reason = zone.state.reason.context("a failed zone says why")?;
    ensure!(reason.contains("panicked"), "the reason does not tell of a panic: {reason}");
    machine.serial().wait_for_since(place, "dm-verity device corrupted", machine.within(SOON))?;
    world.drop_odd_machine();
    Ok(())
}
