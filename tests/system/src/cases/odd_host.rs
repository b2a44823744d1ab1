//! A host that woke up in the year 2000 with a mistake in its policy: it comes up and says both.

use anyhow::{Context, ensure};
use harness::{Machine, MachineConfig};

use crate::artifacts::Artifacts;
use crate::cpio;
use crate::world::{BOOT, SOON, World, layout_of, rectangle, test_machine};

/// Where the policy is in the image.
const POLICY: &str = "etc/bulkhead/policy.toml";

/// The mistake: what stands in the demo policy, and what instead.
const RIGHT: &str = "colour = \"green\"";
const WRONG: &str = "colour = \"gren\"";

/// Pixels that a sentence in the notice bar has at least.
const SENTENCE: u64 = 500;

/// Boots the machine of this file's tests.
///
/// # Errors
/// It does not boot.
pub(super) fn boot(artifacts: &Artifacts) -> anyhow::Result<Machine> {
    let mut config: MachineConfig = test_machine(artifacts)?;
    let path = artifacts.demo.join("policy.toml");
    let policy = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    ensure!(policy.contains(RIGHT), "the demo policy says {RIGHT} nowhere");
    let segment = artifacts.logs().join("odd-policy.cpio");
    std::fs::write(&segment, cpio::single(POLICY, policy.replacen(RIGHT, WRONG, 1).as_bytes())?)
        .with_context(|| format!("write {}", segment.display()))?;
    config.initramfs.push(segment);
    config.more = ["-rtc", "base=2000-01-01"].map(Into::into).to_vec();
    // No zone will run.
    config.memory_mib = 1024;
    config.network = None;
    config.data_disk = None;
    config.name = "odd".to_owned();
    Machine::boot(config).context("boot the odd host")
}

pub(super) fn clock(world: &mut World) -> anyhow::Result<()> {
    let entries = cpio::read(&std::fs::read(world.artifacts.host_segment())?)?;
    let entry = entries.iter().find(|entry| entry.path == "etc/bulkhead/build-time");
    let built = String::from_utf8(entry.context("the image names its build time")?.content.clone())?;
    let built = built.trim();
    let machine = world.odd_machine(module_path!(), boot)?;
    let text = format!("before the image was built; set to {built}");
    machine.serial().wait_for(&text, machine.within(BOOT))?;
    let console = machine.serial().since(harness::serial::Place::default());
    let line = console.lines().find(|line| line.contains(&text)).context("the line is on the console")?;
    let was = line.split("clock was ").nth(1).and_then(|rest| rest.split(',').next());
    let was: u64 = was.context("the line names the old time")?.parse().context("the old time")?;
    ensure!(was < built.parse()?, "the clock was not behind: {line}");
    machine.zones().wait_until("a status", machine.within(BOOT), |_status| true)?;
    Ok(())
}

pub(super) fn policy(world: &mut World) -> anyhow::Result<()> {
    let path = world.artifacts.demo.join("policy.toml");
    let text = std::fs::read_to_string(path)?;
    let line =
        1 + text.lines().position(|line| line == RIGHT).context("the demo policy has the right line")?;
    let machine = world.odd_machine(module_path!(), boot)?;
    let status = machine.zones().wait_until("a notice", machine.within(BOOT), |status| {
        status.notices.iter().any(|notice| notice.process == "zoned")
    })?;
    ensure!(status.zones.is_empty(), "a policy with a mistake gave zones: {:?}", status.zones);
    let notices: Vec<&str> = status.notices.iter().map(|notice| notice.text.as_str()).collect();
    let wanted = [
        format!("/{POLICY}:{line}: "),
        "zone.office.colour: found \"gren\", allowed ".to_owned(),
        "green".to_owned(),
    ];
    ensure!(
        notices.iter().any(|notice| wanted.iter().all(|part| notice.contains(part))),
        "no notice says {wanted:?}: {notices:?}"
    );
    // The sentence stands on the screen: the bar has more than its ground.
    let bar = rectangle(layout_of(machine, 0)?.notice)?;
    machine.look_until("bad-policy", "a sentence in the notice bar", machine.within(SOON), |picture| {
        let ground = picture.at(bar.x + bar.width / 2, bar.y + 2);
        let written = |colour| ground.is_some_and(|ground| ground.distance(colour) > 60);
        picture.count(bar, written) >= SENTENCE
    })?;
    world.drop_odd_machine();
    Ok(())
}
