//! The network interface, shut away from the kernel's stack.
//!
//! It goes into a namespace of its own, where IPv6 is off before it arrives, it never gets an address, ARP is
//! off, and every frame is dropped at ingress before the stack sees it. Only `uplink` has a socket there. If any
//! of this fails, there is no uplink. The host's first namespace keeps an unconfigured loopback.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use anyhow::Context;
use jail::host::NetworkNamespace;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mount::{MountFlags, UnmountFlags};

use crate::console::Console;
use crate::mounts;
use crate::netlink::{Message, Socket};

/// Neither size nor content changes any more.
const SEALS: SealFlags =
    SealFlags::SEAL.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::WRITE);

/// The NIC in its namespace.
#[derive(Debug)]
pub(crate) struct Nic {
    namespace: NetworkNamespace,
    index: u32,
    mac: [u8; 6],
    carrier: OwnedFd,
}

impl Nic {
    /// Takes the first interface that is not loopback; `None` when there is none.
    pub(crate) fn seclude(console: &Console) -> anyhow::Result<Option<Self>> {
        let Some((name, index)) = first_interface()? else {
            console.say("no network interface: zones have no uplink");
            return Ok(None);
        };
        let text = std::fs::read_to_string(format!("/sys/class/net/{name}/address"))
            .with_context(|| format!("read the address of {name}"))?;
        let mac = parse_mac(&text).with_context(|| format!("{name} has no Ethernet address: {text:?}"))?;
        let namespace = NetworkNamespace::fresh().context("make a network namespace")?;
        namespace.within(|| switch_ipv6_off("default")).context("enter the network namespace")??;
        let number = u32::try_from(namespace.as_fd().as_raw_fd()).context("number of the namespace")?;
        Socket::open()
            .and_then(|socket| socket.request(Message::move_link(index, number)))
            .with_context(|| format!("move {name} to its namespace"))?;
        let index = namespace.within(|| prepare(&name)).context("enter the network namespace")??;
        let carrier = namespace.within(|| carrier_file(&name)).context("enter the network namespace")??;
        console.say(format_args!("{name} is secluded for the uplink"));
        Ok(Some(Self { namespace, index, mac, carrier }))
    }

    /// Its namespace, for `uplink` to live in.
    pub(crate) fn namespace(&self) -> &NetworkNamespace {
        &self.namespace
    }

    /// A fresh packet socket bound to it.
    pub(crate) fn packet_socket(&self) -> anyhow::Result<OwnedFd> {
        let socket = self.namespace.within(|| jail::host::packet_socket(self.index));
        socket.context("enter the network namespace")?.context("make the packet socket")
    }

    /// The file that says whether a cable is in.
    pub(crate) fn carrier_file(&self) -> anyhow::Result<OwnedFd> {
        self.carrier.try_clone().context("copy the carrier's descriptor")
    }

    /// A sealed memory file with the six bytes of its address.
    pub(crate) fn mac_file(&self) -> anyhow::Result<OwnedFd> {
        let file = rustix::fs::memfd_create("mac", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
            .context("make a memory file")?;
        rustix::io::pwrite(&file, &self.mac, 0).context("write the address")?;
        rustix::fs::fcntl_add_seals(&file, SEALS).context("seal the address")?;
        Ok(file)
    }
}

/// Name and index of the interface with the lowest index that is not loopback.
fn first_interface() -> anyhow::Result<Option<(String, u32)>> {
    let mut found: Vec<(u32, String)> = Vec::new();
    for entry in std::fs::read_dir("/sys/class/net").context("list network interfaces")? {
        let name = entry?.file_name().into_string().unwrap_or_default();
        let text = std::fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).unwrap_or_default();
        if let (false, Ok(index)) = (name == "lo", text.trim().parse()) {
            found.push((index, name));
        }
    }
    found.sort();
    Ok(found.into_iter().next().map(|(index, name)| (name, index)))
}

fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let bytes: Result<Vec<u8>, _> = text.trim().split(':').map(|part| u8::from_str_radix(part, 16)).collect();
    bytes.ok()?.try_into().ok()
}

/// Without IPv6 in the kernel there is nothing to switch off.
fn switch_ipv6_off(interface: &str) -> anyhow::Result<()> {
    let path = format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
    match std::fs::write(&path, "1") {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("set {path}"))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Inside the namespace: everything that must hold before the link comes up, then that.
fn prepare(name: &str) -> anyhow::Result<u32> {
    switch_ipv6_off("all")?;
    switch_ipv6_off(name)?;
    let path = format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6");
    if std::fs::read_to_string(&path).is_ok_and(|value| value.trim() != "1") {
        anyhow::bail!("IPv6 of {name} stays on");
    }
    let socket = Socket::open().context("open rtnetlink")?;
    let probe = rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::DGRAM, None)?;
    let index = rustix::net::netdevice::name_to_index(&probe, name)
        .with_context(|| format!("find {name} in its namespace"))?;
    socket.request(Message::add_hooks(index)).context("add the ingress hook (module sch_ingress)")?;
    socket
        .request(Message::drop_ingress(index))
        .context("drop frames at ingress (modules cls_matchall, act_gact)")?;
    socket.request(Message::set_up(index)).with_context(|| format!("set {name} up"))?;
    Ok(index)
}

/// Opens the link's `carrier` file. A sysfs shows the links of the namespace in which it was mounted, so this
/// takes one for a moment.
fn carrier_file(name: &str) -> anyhow::Result<OwnedFd> {
    let folder = "/run/sys";
    mounts::make_folder(folder, 0o700)?;
    let flags =
        MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC).union(MountFlags::RDONLY);
    rustix::mount::mount("sysfs", folder, "sysfs", flags, None).context("mount the namespace's sysfs")?;
    let file = std::fs::File::open(format!("{folder}/class/net/{name}/carrier"));
    rustix::mount::unmount(folder, UnmountFlags::DETACH).context("unmount the namespace's sysfs")?;
    std::fs::remove_dir(folder).with_context(|| format!("remove {folder}"))?;
    Ok(file.with_context(|| format!("open the carrier file of {name}"))?.into())
}

#[cfg(test)]
mod tests;
