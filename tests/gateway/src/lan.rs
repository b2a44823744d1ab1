//! The demo network's LAN: a router that answers ARP, a DHCP server with one lease, a DNS server that knows
//! the two WireGuard gateways and nothing else.
//!
//! Pure: one frame in, one [`Outcome`] out. The router forwards UDP to the two gateways and drops everything
//! else that is not for itself.

mod dhcp;

use std::net::IpAddr;

use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr,
};

use crate::addresses::{ROUTER, ROUTER_MAC, Site};
use crate::dns;
use crate::packet::{Datagram, build_udp, parse_udp};

/// What a frame leads to.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// The LAN's own answer.
    Reply(Vec<u8>, Service),
    /// A datagram for a WireGuard gateway.
    WireGuard(Site, Datagram<'a>),
    /// Nobody here wants it.
    Ignored,
}

/// Which of the LAN's services answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Service {
    Arp,
    Dhcp,
    Dns,
}

/// Handles one frame from the host.
#[must_use]
pub fn handle(frame: &[u8]) -> Outcome<'_> {
    if let Some(reply) = answer_arp(frame) {
        return Outcome::Reply(reply, Service::Arp);
    }
    let Some(datagram) = parse_udp(frame) else { return Outcome::Ignored };
    if let Some(reply) = dhcp::answer(&datagram) {
        return Outcome::Reply(reply, Service::Dhcp);
    }
    if datagram.destination_mac != ROUTER_MAC {
        return Outcome::Ignored;
    }
    if let Some(site) = Site::of_endpoint(datagram.destination) {
        return Outcome::WireGuard(site, datagram);
    }
    if *datagram.destination.ip() == ROUTER
        && datagram.destination.port() == 53
        && let Some(response) = dns::answer(datagram.payload, lookup)
    {
        let reply = build_udp(&Datagram {
            source_mac: ROUTER_MAC,
            destination_mac: datagram.source_mac,
            source: datagram.destination,
            destination: datagram.source,
            payload: &response,
        });
        return Outcome::Reply(reply, Service::Dns);
    }
    Outcome::Ignored
}

fn lookup(name: &str) -> Option<Vec<IpAddr>> {
    Site::of_endpoint_name(name).map(|site| vec![IpAddr::V4(*site.endpoint().ip())])
}

fn answer_arp(frame: &[u8]) -> Option<Vec<u8>> {
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    if ethernet.ethertype() != EthernetProtocol::Arp {
        return None;
    }
    let packet = ArpPacket::new_checked(ethernet.payload()).ok()?;
    let ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr,
        source_protocol_addr,
        target_protocol_addr,
        ..
    } = ArpRepr::parse(&packet).ok()?
    else {
        return None;
    };
    if target_protocol_addr != ROUTER {
        return None;
    }
    let reply = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Reply,
        source_hardware_addr: EthernetAddress(ROUTER_MAC),
        source_protocol_addr: ROUTER,
        target_hardware_addr: source_hardware_addr,
        target_protocol_addr: source_protocol_addr,
    };
    let header = EthernetRepr {
        src_addr: EthernetAddress(ROUTER_MAC),
        dst_addr: source_hardware_addr,
        ethertype: EthernetProtocol::Arp,
    };
    let mut bytes = vec![0; header.buffer_len() + reply.buffer_len()];
    let mut ethernet = EthernetFrame::new_unchecked(&mut bytes);
    header.emit(&mut ethernet);
    reply.emit(&mut ArpPacket::new_unchecked(ethernet.payload_mut()));
    Some(bytes)
}
