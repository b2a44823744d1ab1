//! An attacker who took a process over: what it can do from inside every jail (`tests/escape`).

use anyhow::{Context, ensure};
use harness::Machine;
use harness::serial::Place;

use crate::world::{BOOT, World, test_machine};

/// The attacks' last word on the console.
const END: &str = "escape end: ";

/// Attempts that must work outside any jail, or nothing was tried.
const POSSIBLE: [&str; 14] = [
    "open_zone_disk",
    "open_disk",
    "proc_victim_mem",
    "ptrace_seize",
    "pidfd_open",
    "kill",
    "socket_inet",
    "abstract_socket",
    "mount",
    "make_device",
    "user_namespace",
    "add_key",
    "many_threads",
    "much_memory",
];

/// What the jail refuses also without its system-call filter: by the empty root, Landlock, namespaces, the absence
/// of every capability, the kernel's switches and the control group.
const SECOND_WALL: [&str; 47] = [
    "open_settings",
    "open_program",
    "open_zone_disk",
    "open_disk",
    "open_kvm",
    "open_memory",
    "open_kernel_log",
    "open_parent",
    "open_by_handle",
    "make_device",
    "proc_self_mem",
    "proc_init_mem",
    "proc_victim_mem",
    "proc_victim_root",
    "proc_victim_environ",
    "read_memory",
    "write_memory",
    "ptrace_attach",
    "ptrace_seize",
    "pidfd_open",
    "pidfd_getfd",
    "kill",
    "tkill",
    "tgkill",
    "limit_of_victim",
    "abstract_socket",
    "mount",
    "unmount",
    "pivot_root",
    "open_tree",
    "fsopen",
    "load_module",
    "unload_module",
    "kexec",
    "io_uring",
    "bpf",
    "perf_event",
    "kernel_log",
    "reboot",
    "set_clock",
    "io_ports",
    "set_user",
    "set_groups",
    "user_namespace",
    "mount_namespace",
    "many_threads",
    "much_memory",
];

/// Rows of the table, roles of the VMM's threads, and the attempts of the attack program: at least those that are made
/// everywhere, and those that are made in roles alone.
const ROWS: [&str; 7] = ["vmm", "vpnd", "swtpm", "uplink", "keeper", "zoned", "desktop"];
const ROLES: [&str; 3] = ["vcpu", "disk", "deadline"];
const ATTEMPTS_OF_ROLES: usize = 10;
const ATTEMPTS: usize = 100;

pub(super) fn every_jail(world: &mut World) -> anyhow::Result<()> {
    let mut config = test_machine(&world.artifacts)?;
    config.kernel_arguments.push_str(" rdinit=/bin/escape");
    config.memory_mib = 2048;
    config.data_disk = None;
    config.network = None;
    config.bridge = false;
    config.name = "escape".to_owned();
    let machine = Machine::boot(config).context("boot the attack")?;
    machine.serial().wait_for(END, machine.within(3 * BOOT))?;
    let console = machine.serial().since(Place::default());
    let reports: Vec<Vec<&str>> = console
        .lines()
        .filter_map(|line| line.split_once("init: escape "))
        .map(|(_, report)| report.split_whitespace().collect())
        .collect();
    let of = |row: &str| reports.iter().filter(|words| words.first() == Some(&row)).collect::<Vec<_>>();

    let control = of("control");
    ensure!(control.len() >= ATTEMPTS, "only {} attempts", control.len());
    for attempt in POSSIBLE {
        let outcome = control.iter().find(|words| words.get(1) == Some(&attempt));
        ensure!(
            outcome.is_some_and(|words| words.last() == Some(&"done")),
            "root outside a jail could not do it: {outcome:?}"
        );
    }
    for row in ROWS.iter().chain(&ROLES) {
        let tried = of(row);
        let all = control.len() + if ROLES.contains(row) { ATTEMPTS_OF_ROLES } else { 0 };
        ensure!(tried.len() == all, "{row}: {} of {all} attempts", tried.len());
        let bad: Vec<String> =
            tried.iter().filter(|words| words.last() != Some(&"ok")).map(|words| words.join(" ")).collect();
        ensure!(bad.is_empty(), "not as it should be: {}", bad.join("; "));
    }
    // "unfiltered NAME errno 1: seen" or "... signal 9: seen", but not "... done: seen".
    let refused = |words: &&Vec<&str>| words.len() == 5;
    let unfiltered = of("unfiltered");
    for attempt in SECOND_WALL {
        let outcome = unfiltered.iter().find(|words| words.get(1) == Some(&attempt));
        ensure!(outcome.is_some_and(refused), "only the filter stands before it: {outcome:?}");
    }
    let possible = control.iter().filter(|words| words.last() == Some(&"done")).count();
    let tried = control.len();
    let without = unfiltered.iter().filter(|words| refused(words)).count();
    world.remark(format!(
        "{tried} attempts in each of {} jails and {} roles of threads; {possible} work outside, {} in a jail without filter",
        ROWS.len(),
        ROLES.len(),
        tried - without
    ));
    Ok(())
}
