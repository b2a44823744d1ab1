//! UDP over IPv4 over Ethernet, as this network's router sees and makes it.

use std::net::SocketAddrV4;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, IpAddress, IpProtocol, Ipv4Packet,
    Ipv4Repr, UdpPacket, UdpRepr,
};

/// A checked UDP datagram in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Source MAC address.
    pub source_mac: [u8; 6],
    /// Destination MAC address.
    pub destination_mac: [u8; 6],
    /// Source address and port.
    pub source: SocketAddrV4,
    /// Destination address and port.
    pub destination: SocketAddrV4,
    /// The UDP payload.
    pub payload: &'a [u8],
}

/// Reads a frame as UDP over IPv4; `None` when it is something else or any length or checksum is wrong.
#[must_use]
pub fn parse_udp(frame: &[u8]) -> Option<Datagram<'_>> {
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    if ethernet.ethertype() != EthernetProtocol::Ipv4 {
        return None;
    }
    let packet = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
    let ip = Ipv4Repr::parse(&packet, &ChecksumCapabilities::default()).ok()?;
    if ip.next_header != IpProtocol::Udp {
        return None;
    }
    let datagram = UdpPacket::new_checked(packet.payload()).ok()?;
    let (source, destination) = (IpAddress::Ipv4(ip.src_addr), IpAddress::Ipv4(ip.dst_addr));
    let udp = UdpRepr::parse(&datagram, &source, &destination, &ChecksumCapabilities::default()).ok()?;
    Some(Datagram {
        source_mac: ethernet.src_addr().0,
        destination_mac: ethernet.dst_addr().0,
        source: SocketAddrV4::new(ip.src_addr, udp.src_port),
        destination: SocketAddrV4::new(ip.dst_addr, udp.dst_port),
        payload: datagram.payload(),
    })
}

/// Makes the frame that carries a datagram.
#[must_use]
pub fn build_udp(datagram: &Datagram<'_>) -> Vec<u8> {
    let udp = UdpRepr { src_port: datagram.source.port(), dst_port: datagram.destination.port() };
    let ip = Ipv4Repr {
        src_addr: *datagram.source.ip(),
        dst_addr: *datagram.destination.ip(),
        next_header: IpProtocol::Udp,
        payload_len: udp.header_len() + datagram.payload.len(),
        hop_limit: 64,
    };
    let ethernet = EthernetRepr {
        src_addr: EthernetAddress(datagram.source_mac),
        dst_addr: EthernetAddress(datagram.destination_mac),
        ethertype: EthernetProtocol::Ipv4,
    };
    let mut frame = vec![0; ethernet.buffer_len() + ip.buffer_len() + ip.payload_len];
    let checksums = ChecksumCapabilities::default();
    let mut ethernet_frame = EthernetFrame::new_unchecked(&mut frame);
    ethernet.emit(&mut ethernet_frame);
    let mut packet = Ipv4Packet::new_unchecked(ethernet_frame.payload_mut());
    ip.emit(&mut packet, &checksums);
    udp.emit(
        &mut UdpPacket::new_unchecked(packet.payload_mut()),
        &IpAddress::Ipv4(ip.src_addr),
        &IpAddress::Ipv4(ip.dst_addr),
        datagram.payload.len(),
        |buffer| buffer.copy_from_slice(datagram.payload),
        &checksums,
    );
    frame
}
