//! The outer half of `bench zone-start`: boots the host that measures, reads its lines, reports.
//!
//! Needs in the build folder: `host-vmlinux`, `bench.cpio`, `bench.img` and `tools/`. Console and samples
//! stay in `logs/bench-zone-start.log` there.

use std::io::{Write, stderr, stdout};
use std::path::Path;

use anyhow::{Context, bail, ensure};
use harness::accelerator::Accelerator;
use harness::serial::Place;
use harness::{Machine, MachineConfig, QemuProgram, within};

use crate::sample::{CROWD, Contestant, Line, MARK, PROFILE_PARAMETER, ROUNDS_PARAMETER, read};
use crate::{Form, Options, report};

/// Name of this benchmark.
const NAME: &str = "zone-start";

/// Seconds for the boot, and for each round, on a machine with KVM.
const BOOT_SECONDS: u64 = 60;
const ROUND_SECONDS: u64 = 60;

/// Seconds for each zone of the crowds.
const CROWD_SECONDS: u64 = 15;

/// What stands below a table.
const REMARKS: &str = "\
Medians of all rounds, contestants in turn in one boot; less is better. `vmm-memory` is the proportional set
size of the one VMM process less guest RAM, `vmm-cpu` its processor time outside the guest (counted in ticks
of 10 ms). Every contestant boots the same kernel, initrd, command line and disks, from memory.
`cpu-before-run` is its processor time when its guest was first seen to have run (looked at every millisecond).
`eighth-idle-zone` is the whole proportional set size of the last of eight idle zones, guest memory included.
`vm-exits` counts all exits, also those that only the guest's kernel decides about (CPUID, timer, control
registers) and the host's own interrupts; the rows below it are parts of it, `vm-exits-port` and
`vm-exits-mmio` those that reach the VMM. Where the host is emulated, seconds tell little and counts tell
more, but exits for timers and interrupts grow with the emulator's slowness.
Not measured here: the jail that init puts around our VMM, the zone's other processes, hardware exits of VMX
or SVM when the host is emulated.";

/// Measures and prints.
///
/// # Errors
/// A file is missing, the host did not boot, or a contestant that the result needs gave no sample.
pub fn zone_start(build_folder: &Path, options: &Options) -> anyhow::Result<()> {
    for name in ["host-vmlinux", "bench.cpio", "bench.img", "tools/usr/bin/qemu-system-x86_64"] {
        let path = build_folder.join(name);
        ensure!(path.exists(), "{} is missing: start this by ./bulkhead bench", path.display());
    }
    let accelerator = Accelerator::of_this_machine();
    remark(&format!("bench zone-start: {} rounds, host by {accelerator:?}", options.rounds));
    if usize::try_from(options.rounds).is_ok_and(|rounds| rounds < report::FEWEST_ROUNDS) {
        remark(&format!("fewer than {} rounds: a quick look, no target holds", report::FEWEST_ROUNDS));
    }
    let lines = measure(build_folder, accelerator, options)?;
    let rows = report::rows(NAME, &lines);
    if rows.is_empty() && !options.profile {
        let reasons: Vec<String> = lines
            .iter()
            .filter_map(|line| match line {
                Line::Failed { who, reason, .. } => Some(format!("{}: {reason}", who.name())),
                Line::Contestant { .. }
                | Line::Sample { .. }
                | Line::Idle { .. }
                | Line::Profile { .. }
                | Line::Broken { .. }
                | Line::Done => None,
            })
            .collect();
        bail!("no round has a result of both us and a peer: {}", reasons.join("; "));
    }
    let mut output = stdout().lock();
    match options.form {
        Form::Json => report::json(&rows, &mut output),
        Form::Table => {
            report::table(&rows, &lines, &mut output).and_then(|()| writeln!(output, "\n{REMARKS}"))
        }
    }
    .context("print the result")
}

/// Boots the host and takes its lines until it says that it is done.
fn measure(build_folder: &Path, accelerator: Accelerator, options: &Options) -> anyhow::Result<Vec<Line>> {
    let rounds = options.rounds;
    let mut config = MachineConfig::for_test(
        QemuProgram::in_root(&build_folder.join("tools")),
        build_folder.join("host-vmlinux"),
        vec![build_folder.join("bench.cpio")],
        build_folder.join("logs"),
    );
    config.accelerator = accelerator;
    config.kernel_arguments = format!(
        "console=ttyS0 panic=-1 no_timer_check quiet loglevel=3 {ROUNDS_PARAMETER}{rounds} {PROFILE_PARAMETER}{}",
        u8::from(options.profile)
    );
    config.data_disk = Some(build_folder.join("bench.img"));
    config.bridge = false;
    config.name = "bench-zone-start".to_owned();
    let mut machine = Machine::boot(config).context("boot the host")?;
    let seconds = BOOT_SECONDS + u64::from(rounds) * ROUND_SECONDS + 2 * u64::from(CROWD) * CROWD_SECONDS;
    let deadline = within(seconds * u64::from(accelerator.patience()));

    let mut place = Place::default();
    let mut lines = Vec::new();
    loop {
        let from = machine.serial().wait_for_since(place, MARK, deadline)?;
        place = machine.serial().wait_for_since(from, "\n", deadline)?;
        let rest = machine.serial().since(from);
        let text = rest.split('\n').next().unwrap_or_default();
        for line in read(&format!("{MARK}{text}")).with_context(|| format!("the host said {text:?}"))? {
            match line {
                Line::Done => {
                    // It powers off; a host that does not is ended when it is dropped.
                    let _status = machine.wait_for_end(within(30));
                    return Ok(lines);
                }
                Line::Broken { reason } => bail!("the host could not measure: {reason}"),
                Line::Contestant { .. }
                | Line::Sample { .. }
                | Line::Idle { .. }
                | Line::Profile { .. }
                | Line::Failed { .. } => {
                    progress(&line);
                    lines.push(line);
                }
            }
        }
    }
}

/// Says that a start is over.
fn progress(line: &Line) {
    match line {
        Line::Sample { round, who, measured } => remark(&format!(
            "round {round}: {:<28} {:>9} ms {:>8} exits {:>7} KiB",
            who.name(),
            measured.hello_us / 1000,
            measured.exits,
            measured.vmm_kib
        )),
        Line::Idle { who, kib } => remark(&format!("idle zone {CROWD}: {:<28} {kib:>9} KiB", who.name())),
        Line::Failed { round, who, reason } => {
            remark(&format!("round {round}: {}: no result: {reason}", who.name()));
        }
        Line::Contestant { who: Contestant::Q35, version, .. } => remark(&format!("peers: QEMU {version}")),
        Line::Contestant { .. } | Line::Profile { .. } | Line::Broken { .. } | Line::Done => {}
    }
}

/// Writes to standard error: standard output is for the result.
fn remark(text: &str) {
    // A closed terminal hears nothing; the result goes elsewhere.
    let _closed = writeln!(stderr(), "{text}");
}
