//! The outer half of `bench zone-start`: boots the host that measures, reads its lines, reports.
//!
//! `--profile` prints, instead of rounds, one start of us and of the best peer (QEMU's `microvm` on virtio-mmio) with
//! every exit counted by the host's own tracing.
//!
//! # Where a start goes (profile of a loaded machine, emulated host: exits for timers and interrupts grow with its
//! slowness, the others are exact; ours / `microvm`)
//!
//! | cause of an exit | ours | peer | who decides |
//! |---|---|---|---|
//! | memory that is no memory, and first touches | 942 | 1673 | VMM: see below |
//! | host interrupts | 1346 | 1343 | the host's and the guest's timers, by the time a start takes |
//! | TSC deadline writes (of 902 and 1034 register accesses) | 802 | about as many | the guest's 250 ticks a second |
//! | CPUID | 446 | 704 | the guest: 255 leaves are read to look for Xen, twice when it is entered by PVH (a peer) |
//! | CR4 writes | 270 | 276 | the guest: global TLB flushes, for lack of INVPCID |
//! | interrupt windows | 145 | 116 | timers again |
//! | halts | 32 | 41 | |
//! | ports | 18 | 226 | VMM, the firmware's three among them |
//!
//! So about 2,600 of ours are the kernel's own: a third of the peer's count is out of reach with this kernel, whatever the
//! VMM does. Of our 942, 20 are the firmware's mailbox. When there were 918 and no firmware: 640 writes (252 common
//! configuration, 189 MSI-X tables, 165 configuration space, 34 notifications that end in the kernel), 227 reads (120
//! common configuration, 68 MSI-X
//! tables, 24 the places of absent devices, 15 device configuration), the rest first touches of memory in pages of 2 MiB
//! and the first look at each configuration page. Left to do: common configuration and MSI-X tables as pages that are
//! read without an exit (188), one shared vector for the queues of vsock and balloon (about 50).
//!
//! Before its first instruction the VMM reads what the kernel's segments hold. Debian's image kept 11.7 of 51 MB as
//! zeros; `image/builder` takes them out (`kernel/elf.rs`). What is left is 39 MB of copying and of clearing the same
//! pages first, also for peers, which copy twice.
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
`cpu-before-run` is the processor time of its threads, less those that run the guest, when the guest was first seen
to have run (looked at every millisecond).
`two-zones-together` is two of our zones from the first process to the last hello.
`zone-memory` is the same for all of the zone's processes, ours with a tunnel's, the peer's without a network.
`eighth-idle-zone` is the whole proportional set size of the last of eight idle zones, guest memory included.
`vm-exits` counts all exits, also those that only the guest's kernel decides about (CPUID, timer, control
registers) and the host's own interrupts; the rows below it are parts of it, `vm-exits-port` and
`vm-exits-mmio` those that reach the VMM. Where the host is emulated, seconds tell little and counts tell
more, but exits for timers and interrupts grow with the emulator's slowness.
Not measured here: the jail that init puts around our VMM, hardware exits of VMX
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
                | Line::Memory { .. }
                | Line::Profile { .. }
                | Line::Pair { .. }
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
                | Line::Memory { .. }
                | Line::Profile { .. }
                | Line::Pair { .. }
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
        Line::Memory { what, who, kib } => {
            remark(&format!("{}: {:<28} {kib:>9} KiB", what.name(), who.name()));
        }
        Line::Pair { round, serial_us, together_us } => remark(&format!(
            "round {round}: two zones: {} ms one after the other, {} ms together",
            serial_us / 1000,
            together_us / 1000
        )),
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
