//! Starts the zone by our VMM, as `init` and `zoned` would, less the jail.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, ensure};
use ipc::Channel;
use jail::inherited::{FIRST, VARIABLE};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::pipe::{PipeFlags, pipe_with};
use zone_protocol::vmm::{Config, Disk};

use super::{MEMORY_MIB, Started, Zone, agent, open, process};

/// Descriptors wait above this number until those from [`FIRST`] on are free.
const PARKED: i32 = 100;

/// Version and command of our VMM.
pub(super) fn description() -> (String, String) {
    (
        env!("CARGO_PKG_VERSION").to_owned(),
        "vmm (1 processor, 2 disks, console, rng, vsock; no jail)".to_owned(),
    )
}

/// Starts it.
pub(super) fn start(zone: &Zone, private: &Path) -> anyhow::Result<Started> {
    let disk = |read_only, serial: &str| Disk { read_only, serial: serial.to_owned() };
    let config = Config {
        zone: "bench".to_owned(),
        memory_mib: MEMORY_MIB,
        vcpus: 1,
        command_line: zone.command_line.clone(),
        disks: vec![disk(true, "template"), disk(false, "private")],
        network: None,
    };
    let mut memory = File::from(memfd_create("config", MemfdFlags::CLOEXEC)?);
    memory.write_all(&postcard::to_stdvec(&config)?)?;
    let writable = |path: &Path| {
        OpenOptions::new().read(true).write(true).open(path).with_context(|| path.display().to_string())
    };
    let (events, of_vmm_events) = Channel::pair()?;
    let (agent, of_vmm_agent) = Channel::pair()?;
    let (console, of_vmm_console) = pipe_with(PipeFlags::CLOEXEC)?;
    let mut passed: Vec<(&str, OwnedFd)> = vec![
        ("kvm", writable(Path::new("/dev/kvm"))?.into()),
        ("kernel", open(&zone.kernel)?.into()),
        ("initrd", open(&zone.initrd)?.into()),
        ("disk0", open(&zone.root)?.into()),
        ("disk1", writable(private)?.into()),
        ("config", memory.into()),
        ("events", of_vmm_events.into_descriptor()),
        ("agent", of_vmm_agent.into_descriptor()),
        ("console", of_vmm_console),
    ];
    let mut kept = [events.into_descriptor(), agent.into_descriptor(), console];
    for descriptor in passed.iter_mut().map(|(_, descriptor)| descriptor).chain(&mut kept) {
        *descriptor = fcntl_dupfd_cloexec(&*descriptor, PARKED)?;
    }
    let [events, agent, console] = kept;
    let mut command = Command::new(&zone.vmm);
    let names: Vec<&str> = passed.iter().map(|(name, _)| *name).collect();
    command.env_clear().env(VARIABLE, names.join(","));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());

    let inherited = inheritable(&passed)?;
    let began = Instant::now();
    let mut child = command.spawn().context("start the VMM")?;
    drop((inherited, passed));

    let output = process::Output::default();
    output.follow(File::from(console));
    if let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) {
        output.follow(stdout);
        output.follow(stderr);
    }
    let agent = agent::Source::Channel(Channel::from_descriptor(agent));
    Ok(Started { child, began, agent: Some(agent), output, held: vec![events] })
}

/// Duplicates the descriptors to the numbers that the VMM expects, for it to inherit.
fn inheritable(passed: &[(&str, OwnedFd)]) -> anyhow::Result<Vec<OwnedFd>> {
    let mut inherited = Vec::new();
    for (number, (name, parked)) in (FIRST..).zip(passed) {
        let descriptor = fcntl_dupfd_cloexec(parked, number)?;
        ensure!(descriptor.as_raw_fd() == number, "descriptor {number} is not free for {name}");
        fcntl_setfd(&descriptor, FdFlags::empty())?;
        inherited.push(descriptor);
    }
    Ok(inherited)
}
