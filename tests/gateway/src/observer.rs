//! Judges each frame that the host put on the wire: one of the few that it may send, or a leak.
//!
//! Allowed is exactly this, all of it from the NIC's own MAC address:
//!
//! - DHCP of the host itself;
//! - ARP of the host itself about itself and the router (it has no reason to look for anybody else);
//! - DNS queries to the LAN's server for the two endpoint names;
//! - WireGuard messages to the two gateways: known type, right length, data padded to 16 bytes.
//!
//! Everything else is a [`Leak`] with a reason, and so is any frame that contains one of the [`Observer`]'s
//! markers (what a test planted inside a zone), any byte behind the end of a packet that is not zero, and any
//! IPv6 at all: the LAN has none.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};

use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, DhcpMessageType, DhcpPacket, DhcpRepr, EthernetFrame, EthernetProtocol,
    Ipv4Packet,
};

use crate::addresses::{HOST, ROUTER, ROUTER_MAC, Site};
use crate::dns;
use crate::packet::{Datagram, parse_udp};
use crate::recorder::{Direction, Frame};

const BROADCAST: [u8; 6] = [0xff; 6];

/// Why a frame is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// The host's own DHCP.
    Dhcp,
    /// The host's own ARP.
    Arp,
    /// A query for an endpoint's name.
    EndpointDns(Site),
    /// A WireGuard message to this site's gateway.
    WireGuard(Site, Message),
}

/// WireGuard's message types (white paper, section 5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Message {
    HandshakeInitiation,
    HandshakeResponse,
    CookieReply,
    Data,
}

/// Why a frame is not allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// It contains bytes that a test planted in a zone.
    #[error("contains the planted marker {0:?}")]
    Marker(String),
    /// It is shorter than an Ethernet header.
    #[error("is no Ethernet frame")]
    NoEthernet,
    /// Its source is not the NIC's MAC address.
    #[error("source MAC {} is not the NIC's", mac(*.0))]
    ForeignMac([u8; 6]),
    /// It is neither ARP nor IPv4.
    #[error("EtherType {0:#06x} is neither ARP nor IPv4")]
    EtherType(u16),
    /// ARP that is not the host's about itself or the router.
    #[error("ARP {0}")]
    Arp(String),
    /// IPv4 that is not whole, plain UDP.
    #[error("IPv4 {0}")]
    Ip(String),
    /// Bytes behind the end of the packet.
    #[error("{0} bytes behind the packet's end are not all zero")]
    Trailer(usize),
    /// UDP with an address or port that it may not have.
    #[error("UDP {0} to {1}")]
    Udp(SocketAddrV4, SocketAddrV4),
    /// DHCP that is not the host's own.
    #[error("DHCP {0}")]
    Dhcp(String),
    /// DNS that is no query for an endpoint's name.
    #[error("DNS {0}")]
    Dns(String),
    /// Sent to a gateway, but no WireGuard message.
    #[error("{0} bytes to a gateway are no WireGuard message (first bytes {1:02x?})")]
    WireGuard(usize, Vec<u8>),
}

/// A frame that must not be on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leak {
    /// The frame.
    pub frame: Frame,
    /// Why it must not be there.
    pub reason: Reason,
}

impl fmt::Display for Leak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.frame.bytes.get(..64).unwrap_or(&self.frame.bytes);
        write!(
            f,
            "frame at {:.3} s, {} bytes: {}; it begins {shown:02x?}",
            self.frame.time.as_secs_f64(),
            self.frame.bytes.len(),
            self.reason
        )
    }
}

/// What the observer knows about the host.
#[derive(Clone, Debug)]
pub struct Observer {
    /// The NIC's MAC address.
    pub host_mac: [u8; 6],
    /// What a test planted in the zones: in no form may it appear in clear.
    pub markers: Vec<String>,
}

impl Observer {
    /// An observer of the host with this NIC that knows no markers.
    #[must_use]
    pub fn new(host_mac: [u8; 6]) -> Self {
        Self { host_mac, markers: Vec::new() }
    }

    /// Judges every frame from the host in a record.
    #[must_use]
    pub fn leaks(&self, frames: &[Frame]) -> Vec<Leak> {
        frames
            .iter()
            .filter(|frame| frame.direction == Direction::FromHost)
            .filter_map(|frame| {
                let reason = self.judge(&frame.bytes).err()?;
                Some(Leak { frame: frame.clone(), reason })
            })
            .collect()
    }

    /// Judges one frame from the host.
    ///
    /// # Errors
    /// The [`Reason`] why it is a leak.
    pub fn judge(&self, frame: &[u8]) -> Result<Allowed, Reason> {
        for marker in &self.markers {
            if !marker.is_empty() && frame.windows(marker.len()).any(|bytes| bytes == marker.as_bytes()) {
                return Err(Reason::Marker(marker.clone()));
            }
        }
        let ethernet = EthernetFrame::new_checked(frame).map_err(|_short| Reason::NoEthernet)?;
        if ethernet.src_addr().0 != self.host_mac {
            return Err(Reason::ForeignMac(ethernet.src_addr().0));
        }
        match ethernet.ethertype() {
            EthernetProtocol::Arp => self.judge_arp(&ethernet),
            EthernetProtocol::Ipv4 => self.judge_ip(frame, &ethernet),
            other @ (EthernetProtocol::Ipv6 | EthernetProtocol::Unknown(_)) => {
                Err(Reason::EtherType(other.into()))
            }
        }
    }

    fn judge_arp(&self, ethernet: &EthernetFrame<&[u8]>) -> Result<Allowed, Reason> {
        const LENGTH: usize = 28;
        let malformed = || Reason::Arp("is malformed".to_owned());
        let packet = ArpPacket::new_checked(ethernet.payload()).map_err(|_short| malformed())?;
        let ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr,
            source_protocol_addr,
            target_protocol_addr,
            ..
        } = ArpRepr::parse(&packet).map_err(|_malformed| malformed())?
        else {
            return Err(malformed());
        };
        trailer(ethernet.payload(), LENGTH)?;
        if source_hardware_addr.0 != self.host_mac {
            return Err(Reason::Arp(format!("speaks for {source_hardware_addr}")));
        }
        if ![HOST, Ipv4Addr::UNSPECIFIED].contains(&source_protocol_addr) {
            return Err(Reason::Arp(format!("speaks for {source_protocol_addr}")));
        }
        let wanted = match operation {
            ArpOperation::Request => [ROUTER, HOST].contains(&target_protocol_addr),
            ArpOperation::Reply => target_protocol_addr == ROUTER && ethernet.dst_addr().0 == ROUTER_MAC,
            ArpOperation::Unknown(_) => false,
        };
        if !wanted || ![ROUTER_MAC, BROADCAST].contains(&ethernet.dst_addr().0) {
            return Err(Reason::Arp(format!("{operation:?} about {target_protocol_addr}")));
        }
        Ok(Allowed::Arp)
    }

    fn judge_ip(&self, frame: &[u8], ethernet: &EthernetFrame<&[u8]>) -> Result<Allowed, Reason> {
        const HEADER: u8 = 20;
        const UDP_HEADER: usize = 8;
        let packet = Ipv4Packet::new_checked(ethernet.payload())
            .map_err(|_malformed| Reason::Ip("is malformed".to_owned()))?;
        let whole = packet.header_len() == HEADER && !packet.more_frags() && packet.frag_offset() == 0;
        let Some(datagram) = parse_udp(frame).filter(|_| whole) else {
            let (from, to, protocol) = (packet.src_addr(), packet.dst_addr(), packet.next_header());
            return Err(Reason::Ip(format!("from {from} to {to} is no whole, plain UDP ({protocol})")));
        };
        trailer(ethernet.payload(), usize::from(packet.total_len()))?;
        if usize::from(packet.total_len()) != usize::from(HEADER) + UDP_HEADER + datagram.payload.len() {
            return Err(Reason::Ip("has bytes behind its UDP datagram".to_owned()));
        }
        if datagram.source.port() == 68 && datagram.destination.port() == 67 {
            return self.judge_dhcp(&datagram);
        }
        let stranger = Reason::Udp(datagram.source, datagram.destination);
        if *datagram.source.ip() != HOST
            || datagram.destination_mac != ROUTER_MAC
            || datagram.source.port() < 1024
        {
            return Err(stranger);
        }
        if datagram.destination == SocketAddrV4::new(ROUTER, 53) {
            return judge_dns(datagram.payload);
        }
        match Site::of_endpoint(datagram.destination) {
            Some(site) => match judge_wireguard(datagram.payload) {
                Some(message) => Ok(Allowed::WireGuard(site, message)),
                None => Err(Reason::WireGuard(
                    datagram.payload.len(),
                    datagram.payload.iter().take(16).copied().collect(),
                )),
            },
            None => Err(stranger),
        }
    }

    fn judge_dhcp(&self, datagram: &Datagram<'_>) -> Result<Allowed, Reason> {
        let malformed = || Reason::Dhcp("is malformed".to_owned());
        let (from, to) = (*datagram.source.ip(), *datagram.destination.ip());
        if ![HOST, Ipv4Addr::UNSPECIFIED].contains(&from) || ![ROUTER, Ipv4Addr::BROADCAST].contains(&to) {
            return Err(Reason::Dhcp(format!("from {from} to {to}")));
        }
        if ![ROUTER_MAC, BROADCAST].contains(&datagram.destination_mac) {
            return Err(Reason::Dhcp(format!("to MAC {}", mac(datagram.destination_mac))));
        }
        let packet = DhcpPacket::new_checked(datagram.payload).map_err(|_malformed| malformed())?;
        let message = DhcpRepr::parse(&packet).map_err(|_malformed| malformed())?;
        if message.client_hardware_address.0 != self.host_mac {
            return Err(Reason::Dhcp(format!("for client {}", message.client_hardware_address)));
        }
        match message.message_type {
            DhcpMessageType::Discover
            | DhcpMessageType::Request
            | DhcpMessageType::Decline
            | DhcpMessageType::Release
            | DhcpMessageType::Inform => Ok(Allowed::Dhcp),
            other @ (DhcpMessageType::Offer
            | DhcpMessageType::Ack
            | DhcpMessageType::Nak
            | DhcpMessageType::Unknown(_)) => {
                Err(Reason::Dhcp(format!("{other:?}, which clients do not send")))
            }
        }
    }
}

fn judge_dns(payload: &[u8]) -> Result<Allowed, Reason> {
    let Some(question) = dns::parse_query(payload) else {
        return Err(Reason::Dns("is no single standard query".to_owned()));
    };
    let Some(site) = Site::of_endpoint_name(&question.name) else {
        return Err(Reason::Dns(format!("query for {:?}, which is no endpoint", question.name)));
    };
    if ![dns::TYPE_A, dns::TYPE_AAAA].contains(&question.kind) {
        return Err(Reason::Dns(format!("query for record type {}", question.kind)));
    }
    if question.length != payload.len() || question.other_records != 0 {
        return Err(Reason::Dns("query carries more than its question".to_owned()));
    }
    Ok(Allowed::EndpointDns(site))
}

/// The type of a WireGuard message with a length that this type can have (white paper, section 5.4; three
/// reserved zero bytes follow the type).
fn judge_wireguard(payload: &[u8]) -> Option<Message> {
    let (kind, _) = payload.split_first_chunk::<4>()?;
    match (u32::from_le_bytes(*kind), payload.len()) {
        (1, 148) => Some(Message::HandshakeInitiation),
        (2, 92) => Some(Message::HandshakeResponse),
        (3, 64) => Some(Message::CookieReply),
        (4, length) if length >= 32 && length.is_multiple_of(16) => Some(Message::Data),
        _ => None,
    }
}

fn trailer(packet: &[u8], length: usize) -> Result<(), Reason> {
    let trailer = packet.get(length..).unwrap_or_default();
    if trailer.iter().all(|byte| *byte == 0) && trailer.len() < 46 {
        return Ok(());
    }
    Err(Reason::Trailer(trailer.len()))
}

fn mac(bytes: [u8; 6]) -> String {
    smoltcp::wire::EthernetAddress(bytes).to_string()
}

#[cfg(test)]
mod tests;
