//! The kernel's netlink, as far as needed: waiting for a change, setting a link up, listing addresses.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with,
};

/// rtnetlink(7) message types and flags.
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFF_UP: u32 = 1;

/// RTMGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE.
const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;

/// Waits for devices to appear or for the network to change.
#[derive(Debug)]
pub(crate) struct Changes {
    socket: Option<OwnedFd>,
}

impl Changes {
    /// Of links, addresses and routes.
    pub(crate) fn of_network() -> Self {
        Self { socket: open(None, GROUPS).ok() }
    }

    /// Of devices.
    pub(crate) fn of_devices() -> Self {
        Self { socket: open(Some(rustix::net::netlink::KOBJECT_UEVENT), 1).ok() }
    }

    /// Waits until something changed, at most `patience`.
    pub(crate) fn wait(&self, patience: Duration) {
        let timeout = Timespec::try_from(patience).ok();
        let Some(socket) = &self.socket else {
            // Without news the patience has to do.
            let _ = poll(&mut [], timeout.as_ref());
            return;
        };
        if poll(&mut [PollFd::new(socket, PollFlags::IN)], timeout.as_ref()).is_ok_and(|ready| ready > 0) {
            let mut bytes = [0_u8; 8192];
            while recv(socket, &mut bytes, RecvFlags::DONTWAIT).is_ok() {}
        }
    }
}

fn open(protocol: Option<Protocol>, groups: u32) -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
    bind(&socket, &SocketAddrNetlink::new(0, groups))?;
    Ok(socket)
}

/// One request: header (RFC 3549, section 2.3.2) and body.
fn request(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 16).expect("requests are a few bytes");
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    message.extend([0_u8; 8]);
    message.extend(body);
    message
}

/// Sets a link up.
///
/// # Errors
/// What the kernel reports.
pub(crate) fn set_up(index: u32) -> io::Result<()> {
    let socket = open(None, 0)?;
    let mut body = vec![0_u8; 4];
    body.extend(index.to_ne_bytes());
    body.extend(IFF_UP.to_ne_bytes());
    body.extend(IFF_UP.to_ne_bytes());
    send(&socket, &request(RTM_NEWLINK, NLM_F_ACK, &body), SendFlags::empty())?;
    let mut bytes = [0_u8; 4096];
    let (count, _) = recv(&socket, &mut bytes, RecvFlags::empty())?;
    let message = Message::split(bytes.get(..count).unwrap_or_default()).map(|(message, _)| message);
    match message.and_then(|message| message.error()) {
        None | Some(0) => Ok(()),
        Some(code) => Err(io::Errno::from_raw_os_error(code.saturating_neg())),
    }
}

/// Every address: the link's index, the address, its prefix length.
///
/// # Errors
/// What the kernel reports.
pub(crate) fn addresses() -> io::Result<Vec<(u32, IpAddr, u8)>> {
    let socket = open(None, 0)?;
    send(&socket, &request(RTM_GETADDR, NLM_F_DUMP, &[0; 8]), SendFlags::empty())?;
    let mut found = Vec::new();
    let mut bytes = [0_u8; 16 * 1024];
    loop {
        let (count, _) = recv(&socket, &mut bytes, RecvFlags::empty())?;
        let mut rest = bytes.get(..count).unwrap_or_default();
        if rest.is_empty() {
            return Ok(found);
        }
        while let Some((message, next)) = Message::split(rest) {
            match message.kind {
                NLMSG_DONE | NLMSG_ERROR => return Ok(found),
                RTM_NEWADDR => found.extend(message.address()),
                _ => {}
            }
            rest = next;
        }
    }
}

/// One netlink message.
#[derive(Clone, Copy, Debug)]
struct Message<'a> {
    kind: u16,
    body: &'a [u8],
}

impl<'a> Message<'a> {
    /// Takes the first message and what follows it.
    fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let length = usize::try_from(u32::from_ne_bytes(*bytes.first_chunk()?)).ok()?;
        let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
        let body = bytes.get(16..length)?;
        let next = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((Self { kind, body }, next))
    }

    fn error(&self) -> Option<i32> {
        (self.kind == NLMSG_ERROR).then_some(())?;
        Some(i32::from_ne_bytes(*self.body.first_chunk()?))
    }

    /// `struct ifaddrmsg` and its attributes. For a point-to-point link the local address counts.
    fn address(&self) -> Option<(u32, IpAddr, u8)> {
        let prefix = *self.body.get(1)?;
        let index = u32::from_ne_bytes(*self.body.get(4..)?.first_chunk()?);
        let mut attributes = self.body.get(8..)?;
        let mut found = None;
        while let Some(length) = attributes.first_chunk().map(|bytes| usize::from(u16::from_ne_bytes(*bytes)))
        {
            let Some(value) = attributes.get(4..length) else { break };
            let kind = u16::from_ne_bytes(*attributes.get(2..)?.first_chunk()?);
            let address = to_address(value);
            match kind {
                IFA_LOCAL => found = address.or(found),
                IFA_ADDRESS => found = found.or(address),
                _ => {}
            }
            attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        found.map(|address| (index, address, prefix))
    }
}

fn to_address(value: &[u8]) -> Option<IpAddr> {
    if let Ok(bytes) = <[u8; 4]>::try_from(value) {
        return Some(bytes.into());
    }
    <[u8; 16]>::try_from(value).ok().map(IpAddr::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_its_loopback_address() {
        let addresses = addresses().unwrap();
        let loopback: IpAddr = "127.0.0.1".parse().unwrap();
        assert!(
            addresses.iter().any(|(index, address, prefix)| (*index, *address, *prefix) == (1, loopback, 8))
        );
    }

    #[test]
    fn a_link_that_is_not_there_is_an_error() {
        assert!(set_up(0x7fff_0000).is_err());
    }

    proptest::proptest! {
        #[test]
        fn property_any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let mut rest = &bytes[..];
            while let Some((message, next)) = Message::split(rest) {
                let _ = (message.error(), message.address());
                assert!(next.len() < rest.len());
                rest = next;
            }
        }
    }
}
