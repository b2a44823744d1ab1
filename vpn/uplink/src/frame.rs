//! UDP datagrams in IPv4 in Ethernet: taken apart and put together.
//!
//! Nothing here panics on any bytes: smoltcp's checked views decide what may be read.

use std::net::{Ipv4Addr, SocketAddrV4};

use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, IpAddress,
    IpProtocol, Ipv4Packet, UdpPacket,
};

/// The largest Ethernet frame that is sent or accepted (without the frame check sequence).
pub const MAX_FRAME: usize = 1514;

const ETHERNET_HEADER: usize = 14;
const IPV4_HEADER: usize = 20;
const UDP_HEADER: usize = 8;

/// The largest UDP payload that fits a frame.
pub const MAX_PAYLOAD: usize = MAX_FRAME - ETHERNET_HEADER - IPV4_HEADER - UDP_HEADER;

/// A whole UDP datagram found in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Who sent it, as it says.
    pub source: SocketAddrV4,
    /// For whom it is.
    pub destination: SocketAddrV4,
    /// What it carries.
    pub payload: &'a [u8],
}

/// Finds the UDP datagram in an Ethernet frame; `None` for anything else, fragments and a wrong IPv4 header
/// checksum included.
///
/// The UDP checksum is not looked at: on virtual networks the sender leaves it to hardware that is not
/// there, and it protects from nobody (a tunnel's datagrams are authenticated, and who forges the rest can
/// compute a sum).
#[must_use]
pub fn parse_datagram(frame: &[u8]) -> Option<Datagram<'_>> {
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    if ethernet.ethertype() != EthernetProtocol::Ipv4 {
        return None;
    }
    let ip = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
    let whole = !ip.more_frags() && ip.frag_offset() == 0;
    if ip.version() != 4 || !whole || ip.next_header() != IpProtocol::Udp || !ip.verify_checksum() {
        return None;
    }
    let udp = UdpPacket::new_checked(ip.payload()).ok()?;
    Some(Datagram {
        source: SocketAddrV4::new(ip.src_addr(), udp.src_port()),
        destination: SocketAddrV4::new(ip.dst_addr(), udp.dst_port()),
        payload: udp.payload(),
    })
}

/// From where to where a datagram is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Our MAC address.
    pub source_mac: EthernetAddress,
    /// The next hop's MAC address.
    pub destination_mac: EthernetAddress,
    /// Our address and port.
    pub source: SocketAddrV4,
    /// The receiver's address and port.
    pub destination: SocketAddrV4,
}

/// Writes a frame with `payload` into `frame`; `false`, and an empty frame, when it is larger than
/// [`MAX_PAYLOAD`].
pub fn build_datagram(frame: &mut Vec<u8>, route: &Route, identification: u16, payload: &[u8]) -> bool {
    frame.clear();
    let udp_length = UDP_HEADER.saturating_add(payload.len());
    let ip_length = IPV4_HEADER.saturating_add(udp_length);
    let (Ok(udp_length), Ok(ip_length)) = (u16::try_from(udp_length), u16::try_from(ip_length)) else {
        return false;
    };
    if payload.len() > MAX_PAYLOAD {
        return false;
    }
    frame.resize(ETHERNET_HEADER.saturating_add(usize::from(ip_length)), 0);

    let mut ethernet = EthernetFrame::new_unchecked(frame.as_mut_slice());
    ethernet.set_dst_addr(route.destination_mac);
    ethernet.set_src_addr(route.source_mac);
    ethernet.set_ethertype(EthernetProtocol::Ipv4);

    let mut ip = Ipv4Packet::new_unchecked(ethernet.payload_mut());
    ip.set_version(4);
    ip.set_header_len(20);
    ip.set_total_len(ip_length);
    // May be fragmented on the way, as WireGuard's datagrams are elsewhere: a path with a smaller MTU would
    // otherwise swallow them, since the error that says so is dropped here. Hence the identification.
    ip.set_ident(identification);
    ip.clear_flags();
    ip.set_hop_limit(64);
    ip.set_next_header(IpProtocol::Udp);
    ip.set_src_addr(*route.source.ip());
    ip.set_dst_addr(*route.destination.ip());
    ip.fill_checksum();

    let mut udp = UdpPacket::new_unchecked(ip.payload_mut());
    udp.set_src_port(route.source.port());
    udp.set_dst_port(route.destination.port());
    udp.set_len(udp_length);
    udp.payload_mut().copy_from_slice(payload);
    udp.fill_checksum(&IpAddress::Ipv4(*route.source.ip()), &IpAddress::Ipv4(*route.destination.ip()));
    true
}

/// What an ARP packet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// Request, reply, or neither.
    pub operation: ArpOperation,
    /// MAC address of the sender.
    pub source_mac: EthernetAddress,
    /// IPv4 address of the sender.
    pub source: Ipv4Addr,
    /// MAC address of the target.
    pub target_mac: EthernetAddress,
    /// IPv4 address of the target.
    pub target: Ipv4Addr,
}

/// Finds the ARP packet in an Ethernet frame.
#[must_use]
pub fn parse_arp(frame: &[u8]) -> Option<Arp> {
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    if ethernet.ethertype() != EthernetProtocol::Arp {
        return None;
    }
    let ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr,
        source_protocol_addr,
        target_hardware_addr,
        target_protocol_addr,
    } = ArpRepr::parse(&ArpPacket::new_checked(ethernet.payload()).ok()?).ok()?
    else {
        return None;
    };
    Some(Arp {
        operation,
        source_mac: source_hardware_addr,
        source: source_protocol_addr,
        target_mac: target_hardware_addr,
        target: target_protocol_addr,
    })
}

/// A frame that asks everybody who has `target`.
#[must_use]
pub fn build_arp_request(source_mac: EthernetAddress, source: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let arp = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: source_mac,
        source_protocol_addr: source,
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: target,
    };
    let mut frame = vec![0; ETHERNET_HEADER.saturating_add(arp.buffer_len())];
    let mut ethernet = EthernetFrame::new_unchecked(frame.as_mut_slice());
    ethernet.set_dst_addr(EthernetAddress::BROADCAST);
    ethernet.set_src_addr(source_mac);
    ethernet.set_ethertype(EthernetProtocol::Arp);
    arp.emit(&mut ArpPacket::new_unchecked(ethernet.payload_mut()));
    frame
}
