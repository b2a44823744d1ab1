//! Kernels of other kinds than the builder makes: the zone's firmware starts them, or says why not in words that reach the
//! user.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use control_api::Phase;
use harness::Machine;
use template::{FileSum, KERNEL, MANIFEST, Summer};

use crate::artifacts::Artifacts;
use crate::disk::{DataDisk, build_keys, sign_anew};
use crate::world::{BOOT, SOON, START, World, set_policy, test_machine};

/// A zone whose kernel is Debian's as it is packaged: a bzImage.
const COMPRESSED: &str = "compressed";

/// Zones whose kernel is refused: what it is, and what the user reads.
const REFUSED: [(&str, &[u8], &str); 2] = [
    ("letter", b"Dear firmware, please start.", "the kernel is neither an ELF file nor a bzImage"),
    ("stump", b"\x7fELF\x02\x01\x01\0", "the kernel's headers contradict themselves"),
];

const COLOURS: [&str; 3] = ["red", "green", "blue"];

fn policy() -> String {
    let mut text = "schema = 1\nversion = 1\nname = \"Kernels\"\ndemo = true\n".to_owned();
    let names = REFUSED.iter().map(|(name, ..)| *name).chain([COMPRESSED]);
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
    config.name = "kernels".to_owned();
    set_policy(&mut config, artifacts, &policy())?;
    config.network = None;
    let disk = DataDisk::new(artifacts, "odd-kernels")?;
    let packaged = std::fs::read(packaged(artifacts)?).context("read Debian's kernel")?;
    let kernels = REFUSED.iter().map(|(name, kernel, _)| (*name, *kernel)).chain([(COMPRESSED, &*packaged)]);
    for (name, kernel) in kernels {
        replace_kernel(artifacts, &disk.copy_micro(artifacts, name)?, name, kernel)?;
    }
    config.data_disk = Some(disk.finish(artifacts)?);
    Machine::boot(config).context("boot the host with odd kernels")
}

/// The kernel that `micro` has, before the builder unpacked it.
fn packaged(artifacts: &Artifacts) -> anyhow::Result<PathBuf> {
    for entry in std::fs::read_dir(artifacts.file("packages/boot")).context("list the kernel packages")? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with("vmlinuz-") && name.contains("-cloud-") {
            return Ok(path);
        }
    }
    anyhow::bail!("the packages hold no kernel for zones")
}

/// Gives a template another kernel, and signs that.
fn replace_kernel(artifacts: &Artifacts, folder: &Path, name: &str, kernel: &[u8]) -> anyhow::Result<()> {
    let before = section(&std::fs::read(folder.join(KERNEL))?);
    std::fs::write(folder.join(KERNEL), kernel).context("write the kernel")?;
    let manifest = std::fs::read_to_string(folder.join(MANIFEST))?;
    ensure!(manifest.contains(&before), "the manifest does not say {before:?}");
    let named = format!("name = \"{name}\"");
    let changes = [("name = \"micro\"", named.as_str()), (&before, &section(kernel))];
    sign_anew(folder, &build_keys(artifacts)?, &changes)
}

/// What a manifest says of a kernel.
fn section(kernel: &[u8]) -> String {
    let mut summer = Summer::default();
    summer.add(kernel);
    let FileSum { size, sha256 } = summer.finish();
    let mut text = format!("[kernel]\nsize = {size}\nsha256 = \"");
    for byte in sha256 {
        write!(text, "{byte:02x}").expect("a string takes everything");
    }
    text + "\""
}

pub(super) fn started_or_named(world: &mut World) -> anyhow::Result<()> {
    let machine = world.odd_machine(module_path!(), boot)?;
    let zones = machine.zones();
    zones.wait_until("the zones", machine.within(BOOT), |status| status.zones.len() == COLOURS.len())?;
    for (name, _, sentence) in REFUSED {
        zones.start(name, machine.within(SOON)).context("its manifest is right")?;
        let zone = zones.wait_for_phase(name, Phase::Failed, machine.within(START))?;
        let reason = zone.state.reason.context("a failed zone says why")?;
        let expected = format!("The virtual machine failed: the zone's firmware: {sentence}.");
        ensure!(reason == expected, "{name}: found {reason:?}, expected {expected:?}");
    }
    zones.start(COMPRESSED, machine.within(SOON))?;
    zones.wait_for_phase(COMPRESSED, Phase::Running, machine.within(START))?;
    world.drop_odd_machine();
    Ok(())
}
