//! The gate that every frame passes before it leaves: what is not on the list stays.
//!
//! It judges bytes alone and knows nothing of why a frame was made, so a fault in the code that makes frames
//! (smoltcp's or ours) does not become a leak. The list:
//!
//! - DHCP: client to server port, from 0.0.0.0 or the lease's address, with our MAC address in it;
//! - ARP: requests and replies that give our MAC address and the lease's address, about the lease's network;
//! - DNS: one question for A or AAAA of an endpoint's name, to a server that DHCP named;
//! - tunnels: UDP from a tunnel's port to one of that tunnel's endpoints.

use std::net::Ipv4Addr;

use smoltcp::wire::{ArpOperation, EthernetAddress, EthernetFrame};

use crate::frame::{Datagram, MAX_FRAME, parse_arp, parse_datagram};
use crate::lease::Lease;
use crate::names::Names;
use crate::tunnels::Tunnels;

const DHCP_CLIENT: u16 = 68;
const DHCP_SERVER: u16 = 67;
const DNS: u16 = 53;

/// What a permitted frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Our request for an address.
    Dhcp,
    /// Our question for, or answer with, a MAC address.
    Arp,
    /// Our question for an endpoint's address.
    Dns,
    /// A tunnel's datagram.
    Tunnel,
}

/// What the gate goes by.
pub(crate) struct Gate<'a> {
    pub(crate) mac: EthernetAddress,
    pub(crate) lease: Option<&'a Lease>,
    pub(crate) names: &'a Names,
    pub(crate) tunnels: &'a Tunnels,
}

impl Gate<'_> {
    /// Which permitted kind a frame is; `None`: it stays.
    pub(crate) fn judge(&self, frame: &[u8]) -> Option<Kind> {
        if frame.len() > MAX_FRAME {
            return None;
        }
        let ethernet = EthernetFrame::new_checked(frame).ok()?;
        if ethernet.src_addr() != self.mac {
            return None;
        }
        let unicast = ethernet.dst_addr().is_unicast();
        if !unicast && !ethernet.dst_addr().is_broadcast() {
            return None;
        }
        if let Some(datagram) = parse_datagram(frame) {
            return match (datagram.source.port(), datagram.destination.port()) {
                (DHCP_CLIENT, DHCP_SERVER) => self.dhcp(&datagram).then_some(Kind::Dhcp),
                (source, _) if unicast && self.tunnels.by_port(source).is_some() => {
                    self.tunnel(&datagram).then_some(Kind::Tunnel)
                }
                (_, DNS) if unicast => self.dns(&datagram).then_some(Kind::Dns),
                _ => None,
            };
        }
        self.arp(frame).then_some(Kind::Arp)
    }

    fn dhcp(&self, datagram: &Datagram<'_>) -> bool {
        let (source, destination) = (*datagram.source.ip(), *datagram.destination.ip());
        let ours = source == Ipv4Addr::UNSPECIFIED
            || self.lease.is_some_and(|lease| source == lease.address.address());
        let theirs =
            destination == Ipv4Addr::BROADCAST || self.lease.is_some_and(|lease| destination == lease.server);
        // RFC 2131, figure 1: op (1: request), htype, hlen and, at 28, chaddr.
        let request = datagram.payload.get(..3) == Some(&[1, 1, 6]);
        ours && theirs && request && datagram.payload.get(28..34) == Some(self.mac.as_bytes())
    }

    fn arp(&self, frame: &[u8]) -> bool {
        let (Some(arp), Some(lease)) = (parse_arp(frame), self.lease) else {
            return false;
        };
        matches!(arp.operation, ArpOperation::Request | ArpOperation::Reply)
            && arp.source_mac == self.mac
            && arp.source == lease.address.address()
            && lease.address.contains_addr(&arp.target)
    }

    fn dns(&self, datagram: &Datagram<'_>) -> bool {
        self.lease.is_some_and(|lease| {
            *datagram.source.ip() == lease.address.address()
                && lease.dns.contains(datagram.destination.ip())
                && question(datagram.payload).is_some_and(|name| self.names.contains(&name))
        })
    }

    fn tunnel(&self, datagram: &Datagram<'_>) -> bool {
        self.lease.is_some_and(|lease| {
            *datagram.source.ip() == lease.address.address()
                && lease.is_host(*datagram.destination.ip())
                && self.tunnels.has_route(datagram.source.port(), datagram.destination)
        })
    }
}

/// The name in a DNS message that is one plain question for A or AAAA and nothing more (RFC 1035, 4.1).
fn question(message: &[u8]) -> Option<String> {
    // Recursion desired and no other flag; one question, no other record.
    if message.get(2..12)? != [1, 0, 0, 1, 0, 0, 0, 0, 0, 0] {
        return None;
    }
    let mut rest = message.get(12..)?;
    let mut name = String::new();
    loop {
        let (&length, after) = rest.split_first()?;
        if length == 0 {
            rest = after;
            break;
        }
        let (label, after) = after.split_at_checked(usize::from(length))?;
        if length > 63 || !label.is_ascii() {
            return None;
        }
        if !name.is_empty() {
            name.push('.');
        }
        name.extend(label.iter().map(|&byte| char::from(byte.to_ascii_lowercase())));
        rest = after;
    }
    matches!(rest, [0, 1 | 28, 0, 1]).then_some(name)
}

#[cfg(test)]
mod tests;
