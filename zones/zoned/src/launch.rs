//! Everything that a start of a zone needs as descriptors: the firmware, files of the template, the private disk, the
//! configurations in sealed memory, and the socket pairs between the zone's processes.
//!
//! [`prepare`] does all that can fail before any process is asked for, so a start that fails leaves nothing
//! behind.

mod stored_disk;

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use ipc::Channel;
use policy::{Network, Tunnel, Zone};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use serde::Serialize;
use vpn_protocol::{Endpoint, Host, Peer, VpndConfig};
use zone_protocol::keeper::Start;
use zone_protocol::vmm::{Config, Disk};

use crate::settings::Paths;
use crate::template::{TemplateError, Templates};

/// MiB that stay free for the host's own processes.
const HOST_RESERVE_MIB: u64 = 192;

/// MiB that a zone's own processes take beside its guest.
const ZONE_OVERHEAD_MIB: u64 = 32;

/// Why a zone cannot start: fragments that follow "Not started: ".
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    /// The template is not there, or not one that this host may run.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The policy gives less memory than the template needs.
    #[error(
        "template {template:?} needs {needed} MiB of memory, the policy gives {given} MiB; raise the zone's memory \
         in the policy"
    )]
    TemplateMemory { template: String, needed: u32, given: u32 },
    /// The host has not enough memory left.
    #[error(
        "not enough memory: the zone takes {needed} MiB, running zones take {taken} MiB, the host itself \
         {HOST_RESERVE_MIB} MiB, and there are {total} MiB; {}", more_memory(*taken)
    )]
    Memory { needed: u64, taken: u64, total: u64 },
    /// The host would have enough, but other processes use it now.
    #[error(
        "not enough free memory: the zone takes {needed} MiB, and {available} MiB are free now; {}",
        more_memory(*taken)
    )]
    FreeMemory { needed: u64, available: u64, taken: u64 },
    /// No place for the private disk.
    #[error("the data disk is full ({path}); remove files that no zone needs or use a larger disk")]
    DiskFull { path: String },
    /// The policy names a tunnel without a private key here.
    #[error("tunnel {0:?} has no private key on this host; stop the zone and open it again")]
    NoKey(String),
    /// `init` made no disposable disk.
    #[error("the host made no disposable disk: {0}")]
    Disposable(String),
    /// The host image has no firmware for zones.
    #[error("{path}: {source}; build the image again")]
    Firmware { path: String, source: io::Error },
    /// Any other failure with a file.
    #[error("{path}: {source}; check the data disk")]
    File { path: String, source: io::Error },
    /// Sockets, pipes or sealed memory could not be made.
    #[error("the host is out of {what}: {source}; stop another zone first")]
    Host { what: &'static str, source: io::Error },
}

/// What to do about too little memory.
fn more_memory(taken: u64) -> &'static str {
    if taken > 0 { "stop another zone first" } else { "lower the zone's memory in the policy" }
}

/// What a start is made of.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    /// The zone as the policy describes it.
    pub(crate) zone: &'a Zone,
    /// Its place in the policy.
    pub(crate) slot: u8,
    /// Its tunnel and that tunnel's private key, when it has a network.
    pub(crate) tunnel: Option<(&'a Tunnel, TunnelKey)>,
    /// MiB that zones with a VMM take now.
    pub(crate) memory_taken_mib: u64,
    /// MiB that the host can give now.
    pub(crate) memory_available_mib: u64,
    /// The disk of a disposable zone, in place of a private one.
    pub(crate) disposable: Option<OwnedFd>,
}

/// The private key of a tunnel.
#[derive(Debug)]
pub(crate) enum TunnelKey {
    /// The demonstration's, which everybody knows.
    Demo([u8; 32]),
    /// What `keeper` gave out: `zoned` passes it on and never reads it.
    Kept(OwnedFd),
}

/// Named descriptors of one process.
pub(crate) type Descriptors = Vec<(String, OwnedFd)>;

/// What goes to the processes, and what `zoned` keeps.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// The VMM's descriptors.
    pub(crate) vmm: Descriptors,
    /// The tunnel process's descriptors and what the uplink is told.
    pub(crate) vpnd: Option<Descriptors>,
    /// What `zoned` keeps.
    pub(crate) ends: Ends,
    /// What the zone's TPM begins with.
    pub(crate) start: Start,
    /// The private disk's file, unless the VMM has the disk already.
    pub(crate) private: Option<OwnedFd>,
    /// A sentence that the user should read: the zone starts all the same.
    pub(crate) remark: Option<String>,
}

/// `zoned`'s ends of a running zone.
#[derive(Debug)]
pub(crate) struct Ends {
    /// From the VMM: how the machine goes; to it: commands.
    pub(crate) events: Channel,
    /// From the VMM: connections of the agent.
    pub(crate) agent: Channel,
    /// The guest's console.
    pub(crate) console: OwnedFd,
    /// Of the tunnel.
    pub(crate) tunnel: Option<TunnelEnds>,
}

/// `zoned`'s ends of a tunnel.
#[derive(Debug)]
pub(crate) struct TunnelEnds {
    /// From the tunnel process.
    pub(crate) status: Channel,
    /// The uplink's end of the datagram pair, kept for an uplink that is started again.
    pub(crate) datagrams: OwnedFd,
    /// Where the peers are.
    pub(crate) endpoints: Vec<Endpoint>,
}

/// What can be known before anything is opened or made: the template and the memory.
///
/// # Errors
/// [`LaunchError`].
pub(crate) fn check(
    templates: &mut Templates,
    plan: &Plan<'_>,
) -> Result<crate::template::Opened, LaunchError> {
    check_memory(plan)?;
    let template = templates.open(&plan.zone.template)?;
    check_template_memory(plan.zone, template.manifest.memory_min_mib)?;
    Ok(template)
}

/// Makes everything for a start.
///
/// # Errors
/// [`LaunchError`]; nothing is left behind.
pub(crate) fn prepare(
    templates: &mut Templates,
    paths: &Paths,
    plan: &Plan<'_>,
) -> Result<Prepared, LaunchError> {
    let zone = plan.zone;
    let template = check(templates, plan)?;
    let (events, vmm_events) = channel()?;
    let (agent, vmm_agent) = channel()?;
    let (console, vmm_console) =
        pipe_with(PipeFlags::CLOEXEC).map_err(|source| host("descriptors", source))?;
    rustix::io::ioctl_fionbio(&console, true).map_err(|source| host("descriptors", source))?;
    let mac = mac_address(plan.slot);
    let command_line = template.manifest.command_line();
    let start = Start {
        template: zone.template.clone(),
        manifest: template.signed,
        signature: template.signature,
        approval: template.approval,
        user: zone.user.clone(),
        keep: zone.keep.clone(),
    };
    let config = Config {
        zone: zone.name.clone(),
        memory_mib: zone.memory_mib,
        vcpus: zone.vcpus,
        command_line,
        disks: vec![
            Disk { read_only: true, serial: "template".to_owned(), late: false },
            Disk { read_only: false, serial: "private".to_owned(), late: plan.disposable.is_none() },
        ],
        network: plan.tunnel.as_ref().map(|_| mac),
        record: None,
    };
    let firmware = File::open(&paths.firmware)
        .map_err(|source| LaunchError::Firmware { path: paths.firmware.display().to_string(), source })?;
    let private = private_disk(&paths.data, plan)?;
    let mut vmm = vec![
        ("config".to_owned(), sealed("vmm-config", &config)?),
        ("events".to_owned(), vmm_events.into_descriptor()),
        ("agent".to_owned(), vmm_agent.into_descriptor()),
        ("console".to_owned(), vmm_console),
        ("firmware".to_owned(), firmware.into()),
        ("kernel".to_owned(), template.kernel),
        ("initrd".to_owned(), template.initrd),
        ("disk0".to_owned(), template.root),
    ];
    let waits = match plan.disposable {
        Some(_) => {
            vmm.push(("disk1".to_owned(), private.file));
            None
        }
        None => Some(private.file),
    };
    let mut ends = Ends { events, agent, console, tunnel: None };
    let remark = private.remark;
    let mut vpnd = None;
    if let Some(tunnel) = prepare_tunnel(plan)? {
        vmm.push(("net".to_owned(), tunnel.net));
        vpnd = Some(tunnel.vpnd);
        ends.tunnel = Some(tunnel.ends);
    }
    Ok(Prepared { vmm, vpnd, ends, start, private: waits, remark })
}

/// What a tunnel process, its VMM and `zoned` get.
#[derive(Debug)]
pub(crate) struct PreparedTunnel {
    /// The VMM's vhost-user stream.
    pub(crate) net: OwnedFd,
    /// The tunnel process's descriptors.
    pub(crate) vpnd: Descriptors,
    /// What `zoned` keeps.
    pub(crate) ends: TunnelEnds,
}

/// Makes a tunnel's part of a start, or all of a tunnel process's restart; `None` when the zone has no network.
///
/// # Errors
/// [`LaunchError::Host`].
pub(crate) fn prepare_tunnel(plan: &Plan<'_>) -> Result<Option<PreparedTunnel>, LaunchError> {
    let Some((tunnel, key)) = &plan.tunnel else { return Ok(None) };
    let (net, vhost) = pair(SocketType::STREAM).map_err(|source| host("sockets", source))?;
    let (datagrams, uplink) = pair(SocketType::SEQPACKET).map_err(|source| host("sockets", source))?;
    let (status, vpnd_status) = channel()?;
    let (private_key, kept) = match key {
        TunnelKey::Demo(key) => (Some(*key), None),
        TunnelKey::Kept(key) => {
            (None, Some(key.try_clone().map_err(|source| LaunchError::Host { what: "descriptors", source })?))
        }
    };
    let config = vpnd_config(plan.zone, tunnel, private_key, mac_address(plan.slot));
    let mut vpnd = vec![
        ("config".to_owned(), sealed("vpnd-config", &config)?),
        ("vhost".to_owned(), vhost),
        ("uplink".to_owned(), uplink),
        ("status".to_owned(), vpnd_status.into_descriptor()),
    ];
    vpnd.extend(kept.map(|key| ("key".to_owned(), key)));
    let ends = TunnelEnds { status, datagrams, endpoints: endpoints(tunnel) };
    Ok(Some(PreparedTunnel { net, vpnd, ends }))
}

/// Where a tunnel's peers are.
pub(crate) fn endpoints(tunnel: &Tunnel) -> Vec<Endpoint> {
    tunnel.peers.iter().map(|peer| endpoint(&peer.endpoint)).collect()
}

/// A locally administered address; zones never meet on a network, so the slot is enough. The fifth byte sets
/// it apart from `tunnel::GATEWAY_MAC`, which ends in 0:1.
fn mac_address(slot: u8) -> [u8; 6] {
    [0x02, b'b', b'h', 0, 1, slot]
}

/// The private key of a zone's tunnel; `None` when the zone has no network.
///
/// # Errors
/// [`LaunchError::NoKey`].
pub(crate) fn tunnel_of<'a>(
    policy: &'a policy::Policy,
    zone: &Zone,
    key: impl FnOnce(&str) -> Option<TunnelKey>,
) -> Result<Option<(&'a Tunnel, TunnelKey)>, LaunchError> {
    let Network::Tunnel(name) = &zone.network else { return Ok(None) };
    let tunnel = policy.tunnels.iter().find(|tunnel| tunnel.name == *name);
    let found = tunnel.and_then(|tunnel| Some((tunnel, key(name)?)));
    found.map(Some).ok_or_else(|| LaunchError::NoKey(name.clone()))
}

fn vpnd_config(zone: &Zone, tunnel: &Tunnel, private_key: Option<[u8; 32]>, zone_mac: [u8; 6]) -> VpndConfig {
    let network = |network: &policy::IpNetwork| (network.address, network.prefix);
    VpndConfig {
        zone: zone.name.clone(),
        private_key,
        addresses: tunnel.addresses.iter().map(network).collect(),
        dns: tunnel.dns.clone(),
        mtu: tunnel.mtu,
        peers: tunnel
            .peers
            .iter()
            .map(|peer| Peer {
                public_key: peer.public_key,
                allowed_ips: peer.allowed_ips.iter().map(network).collect(),
                keepalive: peer.keepalive,
            })
            .collect(),
        zone_mac,
    }
}

fn endpoint(endpoint: &policy::Endpoint) -> Endpoint {
    let host = match &endpoint.host {
        policy::Host::Address(address) => Host::Address(*address),
        policy::Host::Name(name) => Host::Name(name.clone()),
    };
    Endpoint { host, port: endpoint.port }
}

fn check_template_memory(zone: &Zone, needed: u32) -> Result<(), LaunchError> {
    if needed > zone.memory_mib {
        let (template, given) = (zone.template.clone(), zone.memory_mib);
        return Err(LaunchError::TemplateMemory { template, needed, given });
    }
    Ok(())
}

/// MiB that a zone takes: its guest and its processes.
pub(crate) fn memory_of(zone: &Zone) -> u64 {
    u64::from(zone.memory_mib) + ZONE_OVERHEAD_MIB
}

fn check_memory(plan: &Plan<'_>) -> Result<(), LaunchError> {
    const MIB: u64 = 1024 * 1024;
    let information = rustix::system::sysinfo();
    let unit = u64::from(information.mem_unit.max(1));
    let total = information.totalram.saturating_mul(unit) / MIB;
    let needed = memory_of(plan.zone);
    let taken = plan.memory_taken_mib;
    if needed + taken + HOST_RESERVE_MIB > total {
        return Err(LaunchError::Memory { needed, taken, total });
    }
    let available = plan.memory_available_mib;
    if needed > available {
        return Err(LaunchError::FreeMemory { needed, available, taken });
    }
    Ok(())
}

/// The file of a zone's private disk.
///
/// # Errors
/// [`LaunchError`].
pub(crate) fn private_file(data: &Path, zone: &Zone) -> Result<OwnedFd, LaunchError> {
    stored_disk::open(data, zone).map(|opened| opened.file)
}

/// The zone's second disk: what `init` made for a disposable zone, the private disk of any other.
fn private_disk(data: &Path, plan: &Plan<'_>) -> Result<stored_disk::Opened, LaunchError> {
    match &plan.disposable {
        Some(disk) => {
            let file =
                disk.try_clone().map_err(|source| LaunchError::Host { what: "descriptors", source })?;
            Ok(stored_disk::Opened { file, remark: None })
        }
        None => stored_disk::open(data, plan.zone),
    }
}

/// A postcard message in memory that nobody can change any more.
fn sealed<T: Serialize>(name: &str, message: &T) -> Result<OwnedFd, LaunchError> {
    let bytes = postcard::to_stdvec(message).expect("configurations hold nothing that postcard refuses");
    let make = || -> io::Result<OwnedFd> {
        let memory = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let mut file = File::from(memory);
        file.write_all(&bytes)?;
        io::Seek::rewind(&mut file)?;
        fcntl_add_seals(&file, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
        Ok(file.into())
    };
    make().map_err(|source| LaunchError::Host { what: "memory", source })
}

/// A message channel whose first end, ours, never blocks.
fn channel() -> Result<(Channel, Channel), LaunchError> {
    let make = || -> io::Result<(Channel, Channel)> {
        let (ours, theirs) = Channel::pair()?;
        ours.set_nonblocking()?;
        Ok((ours, theirs))
    };
    make().map_err(|source| LaunchError::Host { what: "sockets", source })
}

fn pair(kind: SocketType) -> Result<(OwnedFd, OwnedFd), Errno> {
    socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)
}

fn host(what: &'static str, source: Errno) -> LaunchError {
    LaunchError::Host { what, source: source.into() }
}

#[cfg(test)]
pub(crate) mod tests;
