//! Builds our own programs: static ones, but for `keeper`, whose TSS is a library of Debian's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::progress::Step;
use crate::workspace::Workspace;

/// Target of everything that runs on the host or in a zone.
const TARGET: &str = "x86_64-unknown-linux-musl";

/// Programs that go into an image; the last six only into test images.
const PROGRAMS: &[&str] = &[
    "init",
    "uplink",
    "zoned",
    "vmm",
    "vpnd",
    "desktop",
    "agent",
    "test_bridge",
    "raw_frames",
    "escape",
    "probe",
    "records",
    "flood",
];

/// The zone's firmware: its target, and the most bytes that its file may have.
const FIRMWARE: &str = "zone_fw";
const FIRMWARE_TARGET: &str = "x86_64-unknown-none";
const MOST_FIRMWARE: u64 = 96 * 1024;

/// The one program with libraries of Debian 13's. Its build script finds them, and leaves out what only tests need.
const KEEPER: &str = "keeper";
const KEEPER_TARGET: &str = "x86_64-unknown-linux-gnu";
const FOR_THE_IMAGE: &str = "BULKHEAD_IMAGE";

/// Programs that only benchmarks boot.
const BENCH_PROGRAMS: &[&str] = &["zone_start_launcher"];

/// Programs by name.
pub(crate) struct Programs {
    paths: BTreeMap<&'static str, PathBuf>,
}

impl Programs {
    /// The file of a program.
    pub(crate) fn get(&self, name: &str) -> Result<&Path> {
        self.paths.get(name).map(PathBuf::as_path).with_context(|| format!("no program {name:?} was built"))
    }

    /// Names and times of all programs, for the stamps of what is made from them.
    pub(crate) fn version(&self) -> Result<String> {
        self.paths.values().map(|path| crate::workspace::version(path)).collect()
    }
}

/// Builds the programs of the images, with the progress of cargo on the terminal.
pub(crate) fn build(workspace: &Workspace) -> Result<Programs> {
    compile(workspace, "building the programs of the images", PROGRAMS)
}

/// Builds the programs of the benchmarks. The images' programs are there already.
pub(crate) fn build_for_bench(workspace: &Workspace) -> Result<Programs> {
    compile(workspace, "building the programs of the benchmarks", &[PROGRAMS, BENCH_PROGRAMS].concat())
}

fn compile(workspace: &Workspace, name: &str, programs: &[&'static str]) -> Result<Programs> {
    let step = Step::begin(name);
    let mut command = cargo(workspace);
    command.args(["build", "--release", "--locked", "--target", TARGET]);
    for program in programs {
        command.args(["--bin", program]);
    }
    run(command, "the programs do not compile")?;
    let folder = target(workspace).join(TARGET).join("release");
    let mut paths: BTreeMap<&'static str, PathBuf> =
        programs.iter().map(|name| (*name, folder.join(name))).collect();
    paths.insert(FIRMWARE, compile_firmware(workspace)?);
    paths.insert(KEEPER, compile_keeper(workspace)?);
    step.done();
    Ok(Programs { paths })
}

/// Builds the firmware that every zone is started by.
fn compile_firmware(workspace: &Workspace) -> Result<PathBuf> {
    let mut command = cargo(workspace);
    command.args(["build", "--release", "--locked", "--target", FIRMWARE_TARGET, "--package", FIRMWARE]);
    run(command, "the firmware does not compile")?;
    let path = target(workspace).join(FIRMWARE_TARGET).join("release").join(FIRMWARE);
    let size = std::fs::metadata(&path).with_context(|| format!("look at {}", path.display()))?.len();
    if size > MOST_FIRMWARE {
        bail!("the firmware has {size} bytes, at most {MOST_FIRMWARE} are allowed");
    }
    Ok(path)
}

/// Builds `keeper`.
fn compile_keeper(workspace: &Workspace) -> Result<PathBuf> {
    let mut command = cargo(workspace);
    command.args(["build", "--release", "--locked", "--target", KEEPER_TARGET, "--package", KEEPER]);
    command.env(FOR_THE_IMAGE, "1");
    run(command, "keeper does not compile")?;
    Ok(target(workspace).join(KEEPER_TARGET).join("release").join(KEEPER))
}

/// Cargo in the checkout.
pub(crate) fn cargo(workspace: &Workspace) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(workspace.root());
    command
}

/// Runs a command to its end.
pub(crate) fn run(mut command: Command, failure: &str) -> Result<()> {
    let status = command.status().with_context(|| format!("start {:?}", command.get_program()))?;
    if !status.success() {
        bail!("{failure} (the messages above say where)");
    }
    Ok(())
}

/// Where cargo puts what it builds.
pub(crate) fn target(workspace: &Workspace) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.source("target"), PathBuf::from)
}
