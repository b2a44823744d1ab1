//! Starts the zone by our VMM, as `init` and `zoned` would, less the jail.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, ensure};
use handover::record::{Header, LONGEST, encode};
use ipc::Channel;
use jail::inherited::{FIRST, VARIABLE};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use serde::Serialize;
use vpn_protocol::{Peer, VpndConfig};
use zone_protocol::vmm::{Config, Disk, LoginRecord};

use super::{MEMORY_MIB, Started, Zone, agent, open, park, process};

/// The MAC address of the zone's NIC, when it has one.
const MAC: [u8; 6] = [0x02, b'b', b'h', 0, 1, 0];

/// X25519's base point.
const BASE_POINT: [u8; 32] = {
    let mut point = [0; 32];
    point[0] = 9;
    point
};

/// Version and command of our VMM.
pub(super) fn description() -> (String, String) {
    (
        env!("CARGO_PKG_VERSION").to_owned(),
        "vmm (1 processor, 2 disks, console, rng, vsock; no jail)".to_owned(),
    )
}

/// What the zone's NIC leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Network {
    /// There is none.
    None,
    /// The tunnel of a `vpnd`, to a peer that never answers.
    Tunnel,
}

/// Starts it.
pub(super) fn start(zone: &Zone, private: &Path, network: Network) -> anyhow::Result<Started> {
    let output = process::Output::default();
    let mut held = Vec::new();
    // Its descriptors have the numbers that the VMM's get: it is started before those are opened.
    let (helpers, net) = match network {
        Network::None => (Vec::new(), None),
        Network::Tunnel => {
            let (net, vhost) = UnixStream::pair()?;
            let net = park(net.into())?;
            (vec![tunnel(zone, vhost.into(), &mut held, &output)?], Some(("net", net)))
        }
    };
    let disk = |read_only, serial: &str| Disk { read_only, serial: serial.to_owned(), late: false };
    let config = Config {
        zone: "bench".to_owned(),
        memory_mib: MEMORY_MIB,
        vcpus: 1,
        command_line: zone.command_line.clone(),
        disks: vec![disk(true, "template"), disk(false, "private")],
        network: (network == Network::Tunnel).then_some(MAC),
        record: Some(record()?),
    };
    let writable = |path: &Path| {
        OpenOptions::new().read(true).write(true).open(path).with_context(|| path.display().to_string())
    };
    let (events, of_vmm_events) = Channel::pair()?;
    let (agent, of_vmm_agent) = Channel::pair()?;
    let (console, of_vmm_console) = pipe_with(PipeFlags::CLOEXEC)?;
    let mut passed: Vec<(&str, OwnedFd)> = vec![
        ("kvm", writable(Path::new("/dev/kvm"))?.into()),
        ("firmware", open(&zone.firmware)?.into()),
        ("kernel", open(&zone.kernel)?.into()),
        ("initrd", open(&zone.initrd)?.into()),
        ("disk0", open(&zone.root)?.into()),
        ("disk1", writable(private)?.into()),
        ("config", configuration(&config)?),
        ("events", of_vmm_events.into_descriptor()),
        ("agent", of_vmm_agent.into_descriptor()),
        ("console", of_vmm_console),
    ];
    passed.extend(net);
    let kept = [events.into_descriptor(), agent.into_descriptor(), console];
    let [events, agent, console] = kept.map(park);
    held.push(events?);
    let (child, began) = spawn(&zone.vmm, passed, &output)?;
    output.follow(File::from(console?));
    let agent = agent::Source::Channel(Channel::from_descriptor(agent?));
    Ok(Started { child, helpers, began, agent: Some(agent), output, held })
}

/// The login record of a zone without a vTPM, as `zoned` makes it.
fn record() -> anyhow::Result<LoginRecord> {
    let mut record = [0; LONGEST];
    let header = Header { no_vtpm_yet: true, nonce: [7; 32], identity: [0; 32] };
    let length = encode(&header, &[], &mut record)?;
    Ok(LoginRecord(record.get(..length).context("a record is not longer than the longest")?.to_vec()))
}

/// Starts the zone's `vpnd`.
fn tunnel(
    zone: &Zone,
    vhost: OwnedFd,
    held: &mut Vec<OwnedFd>,
    output: &process::Output,
) -> anyhow::Result<Child> {
    let address = |last| IpAddr::from([10, 11, 0, last]);
    let config = VpndConfig {
        zone: "bench".to_owned(),
        private_key: Some([0x42; 32]),
        addresses: vec![(address(2), 32)],
        dns: vec![address(1)],
        mtu: 1420,
        // The base point: a valid key of nobody.
        peers: vec![Peer {
            public_key: BASE_POINT,
            allowed_ips: vec![(address(0), 24)],
            keepalive: Some(25),
        }],
        zone_mac: MAC,
    };
    let (status, of_vpnd_status) = Channel::pair()?;
    let (datagrams, of_vpnd_datagrams) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    held.push(park(status.into_descriptor())?);
    held.push(park(datagrams)?);
    let passed = vec![
        ("config", configuration(&config)?),
        ("vhost", vhost),
        ("uplink", of_vpnd_datagrams),
        ("status", of_vpnd_status.into_descriptor()),
    ];
    Ok(spawn(&zone.vpnd, passed, output)?.0)
}

/// A memory file with a configuration.
fn configuration(config: &impl Serialize) -> anyhow::Result<OwnedFd> {
    let mut memory = File::from(memfd_create("config", MemfdFlags::CLOEXEC)?);
    memory.write_all(&postcard::to_stdvec(config)?)?;
    Ok(memory.into())
}

/// Starts a program with descriptors by name, as `init` does. Returns when it was about to be made.
fn spawn(
    program: &Path,
    passed: Vec<(&str, OwnedFd)>,
    output: &process::Output,
) -> anyhow::Result<(Child, Instant)> {
    let passed: Vec<(&str, OwnedFd)> = passed
        .into_iter()
        .map(|(name, descriptor)| Ok((name, park(descriptor)?)))
        .collect::<anyhow::Result<_>>()?;
    let mut command = Command::new(program);
    let names: Vec<&str> = passed.iter().map(|(name, _)| *name).collect();
    command.env_clear().env(VARIABLE, names.join(","));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let inherited = inheritable(&passed)?;
    let began = Instant::now();
    let mut child = command.spawn().with_context(|| format!("start {}", program.display()))?;
    drop((inherited, passed));
    if let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) {
        output.follow(File::from(park(stdout.into())?));
        output.follow(File::from(park(stderr.into())?));
    }
    Ok((child, began))
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
