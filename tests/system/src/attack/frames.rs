//! Every kind of frame that should never get out of a zone, made by hand. Pure: bytes out.
//!
//! Each carries the marker in clear wherever the kind has room for it, so that the observer of the wire finds it
//! whatever it is wrapped into.

use std::net::{Ipv4Addr, SocketAddrV4};

use gateway::addresses::{HOST, ROUTER, ROUTER_MAC, Site};
use gateway::dns;
use gateway::packet::{Datagram, build_udp};

const BROADCAST: [u8; 6] = [0xff; 6];
const ALL_NODES: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const ETHERTYPE_EXPERIMENT: u16 = 0x88b5;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;

/// Source port of the attack's datagrams: of those from the zone's own addresses, and of those from stolen
/// ones, which must not even come out of the zone's own tunnel.
pub const PORT: u16 = 40_666;
/// See [`PORT`].
pub const STOLEN_PORT: u16 = 40_667;

/// Who sends, and what it knows.
#[derive(Clone, Debug)]
pub struct Attacker {
    /// The zone's own MAC address.
    pub mac: [u8; 6],
    /// The zone's own address.
    pub address: Ipv4Addr,
    /// The MAC address of the zone's gateway, or broadcast while it is unknown.
    pub gateway_mac: [u8; 6],
    /// The MAC address of the host's NIC, which an attacker may have learned elsewhere.
    pub host_mac: [u8; 6],
    /// Other machines to reach: MAC and IP address.
    pub victims: Vec<([u8; 6], Ipv4Addr)>,
    /// What is planted.
    pub marker: String,
}

impl Attacker {
    /// One of each.
    #[must_use]
    pub fn frames(&self) -> Vec<Vec<u8>> {
        let mut frames = self.raw();
        frames.extend(self.arp());
        frames.extend(self.router_advertisements());
        frames.extend(self.datagrams());
        for (mac, address) in &self.victims {
            frames.push(ethernet(*mac, self.mac, ETHERTYPE_EXPERIMENT, self.marker.as_bytes()));
            frames.push(arp(self.mac, self.address, *address));
            frames.push(self.udp(self.mac, *mac, self.address, SocketAddrV4::new(*address, 9)));
            frames.push(self.udp(self.mac, self.gateway_mac, self.address, SocketAddrV4::new(*address, 9)));
        }
        frames
    }

    /// Protocols that nobody speaks, from the zone's own address and from stolen ones.
    fn raw(&self) -> Vec<Vec<u8>> {
        let marker = self.marker.as_bytes();
        let mut frames = Vec::new();
        for source in [self.mac, self.host_mac, ROUTER_MAC, [0x02, 0xde, 0xad, 0, 0, 1]] {
            for destination in [BROADCAST, self.gateway_mac, ROUTER_MAC, self.host_mac] {
                frames.push(ethernet(destination, source, ETHERTYPE_EXPERIMENT, marker));
            }
        }
        // A VLAN tag around it, spanning tree (802.3 with LLC), link-layer discovery.
        let tagged = [&[0x00, 0x01, 0x88, 0xb5], marker].concat();
        frames.push(ethernet(BROADCAST, self.mac, 0x8100, &tagged));
        let spanning_tree = [&[0x42, 0x42, 0x03, 0, 0, 0, 0], marker].concat();
        let length = u16::try_from(spanning_tree.len()).unwrap_or(60);
        frames.push(ethernet([0x01, 0x80, 0xc2, 0, 0, 0], self.mac, length, &spanning_tree));
        frames.push(ethernet([0x01, 0x80, 0xc2, 0, 0, 0x0e], self.mac, 0x88cc, marker));
        frames
    }

    /// The uplink's network, asked for by ARP and claimed.
    fn arp(&self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        for mac in [self.mac, self.host_mac] {
            for sender in [self.address, HOST, Ipv4Addr::new(192, 168, 77, 66), Ipv4Addr::UNSPECIFIED] {
                for target in [ROUTER, HOST, Ipv4Addr::new(192, 168, 77, 99)] {
                    frames.push(arp(mac, sender, target));
                }
            }
        }
        frames
    }

    /// A router that is none, and other neighbour discovery (RFC 4861).
    fn router_advertisements(&self) -> Vec<Vec<u8>> {
        // Type, code, checksum, hop limit, flags, lifetime, two timers, then a prefix option.
        let mut advertisement = vec![134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
        advertisement.extend_from_slice(&[3, 4, 64, 0xc0, 0, 0, 0x0e, 0x10, 0, 0, 0x0e, 0x10, 0, 0, 0, 0]);
        advertisement.extend_from_slice(&[0xfd, 0, 0, 0x66, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let solicitation = vec![133, 0, 0, 0, 0, 0, 0, 0];
        let mut neighbour = vec![135, 0, 0, 0, 0, 0, 0, 0];
        neighbour.extend_from_slice(&[0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        [advertisement, solicitation, neighbour]
            .into_iter()
            .map(|mut message| {
                // An option of an unknown type carries the marker; receivers skip those.
                let length = (self.marker.len() + 2).next_multiple_of(8);
                let mut option = vec![0; length];
                option[0] = 200;
                option[1] = u8::try_from(length / 8).unwrap_or(1);
                option[2..2 + self.marker.len()].copy_from_slice(self.marker.as_bytes());
                message.extend_from_slice(&option);
                ethernet(ALL_NODES, self.mac, ETHERTYPE_IPV6, &icmpv6(message))
            })
            .collect()
    }

    /// DNS, DHCP, broadcast, multicast and the gateways themselves, by every way that might be open.
    fn datagrams(&self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        let stolen = Ipv4Addr::from(u32::from(self.address).wrapping_add(1));
        let sources = [
            (self.mac, self.address),
            (self.host_mac, HOST),
            (self.host_mac, self.address),
            (self.mac, HOST),
            (self.mac, stolen),
        ];
        let office = Site::Office.endpoint();
        let targets = [
            SocketAddrV4::new(Ipv4Addr::new(8, 8, 8, 8), 53),
            SocketAddrV4::new(ROUTER, 53),
            SocketAddrV4::new(Ipv4Addr::BROADCAST, 5000),
            SocketAddrV4::new(Ipv4Addr::new(192, 168, 77, 255), 5000),
            SocketAddrV4::new(Ipv4Addr::new(224, 0, 0, 251), 5353),
            SocketAddrV4::new(Ipv4Addr::new(239, 255, 255, 250), 1900),
            office,
            Site::Research.endpoint(),
            SocketAddrV4::new(HOST, 9),
        ];
        for (mac, address) in sources {
            for target in targets {
                for destination in [self.gateway_mac, ROUTER_MAC, BROADCAST] {
                    frames.push(self.udp(mac, destination, address, target));
                }
            }
            frames.push(self.dhcp_discover(mac));
        }
        // A first fragment of a datagram to the LAN's server.
        let mut fragment = self.udp(self.mac, self.gateway_mac, self.address, SocketAddrV4::new(ROUTER, 53));
        if let Some(flags) = fragment.get_mut(20) {
            *flags |= 0x20;
        }
        frames.push(fragment);
        frames
    }

    fn udp(&self, mac: [u8; 6], destination_mac: [u8; 6], from: Ipv4Addr, to: SocketAddrV4) -> Vec<u8> {
        let own = mac == self.mac && from == self.address;
        let port = if own { PORT } else { STOLEN_PORT };
        let name = format!("{}.example", self.marker);
        let payload =
            if to.port() == 53 { dns::build_query(0x6666, &name, dns::TYPE_A) } else { name.into_bytes() };
        build_udp(&Datagram {
            source_mac: mac,
            destination_mac,
            source: SocketAddrV4::new(from, port),
            destination: to,
            payload: &payload,
        })
    }

    /// RFC 2131, with the marker as host name.
    fn dhcp_discover(&self, mac: [u8; 6]) -> Vec<u8> {
        let mut payload = vec![0; 240];
        payload[..4].copy_from_slice(&[1, 1, 6, 0]);
        payload[4..8].copy_from_slice(&[0x66; 4]);
        payload[28..34].copy_from_slice(&mac);
        payload[236..].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
        payload.extend_from_slice(&[53, 1, 1, 12]);
        payload.push(u8::try_from(self.marker.len()).unwrap_or(0));
        payload.extend_from_slice(self.marker.as_bytes());
        payload.push(255);
        build_udp(&Datagram {
            source_mac: mac,
            destination_mac: BROADCAST,
            source: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68),
            destination: SocketAddrV4::new(Ipv4Addr::BROADCAST, 67),
            payload: &payload,
        })
    }
}

/// A leak as it would look if one of the attacker's frames came out under the NIC's own address.
#[must_use]
pub fn planted_leak(host_mac: [u8; 6], marker: &str) -> Vec<u8> {
    ethernet(BROADCAST, host_mac, ETHERTYPE_EXPERIMENT, marker.as_bytes())
}

/// A frame, padded to Ethernet's least length.
fn ethernet(destination: [u8; 6], source: [u8; 6], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    const LEAST: usize = 60;
    let mut frame = destination.to_vec();
    frame.extend_from_slice(&source);
    frame.extend_from_slice(&ethertype.to_be_bytes());
    frame.extend_from_slice(payload);
    frame.resize(frame.len().max(LEAST), 0);
    frame
}

fn arp(mac: [u8; 6], sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4, 0, 1];
    packet.extend_from_slice(&mac);
    packet.extend_from_slice(&sender.octets());
    packet.extend_from_slice(&[0; 6]);
    packet.extend_from_slice(&target.octets());
    ethernet(BROADCAST, mac, ETHERTYPE_ARP, &packet)
}

/// An ICMPv6 message from fe80::66 to all nodes, with its checksum (RFC 4443, section 2.3).
fn icmpv6(mut message: Vec<u8>) -> Vec<u8> {
    const NEXT_HEADER: u8 = 58;
    let source = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x66];
    let destination = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let length = u16::try_from(message.len()).expect("our own messages are short");
    let mut summed: Vec<u8> = [&source[..], &destination[..]].concat();
    summed.extend_from_slice(&u32::from(length).to_be_bytes());
    summed.extend_from_slice(&[0, 0, 0, NEXT_HEADER]);
    summed.extend_from_slice(&message);
    let mut sum: u32 = summed
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let checksum = !u16::try_from(sum).expect("folded to 16 bits");
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend_from_slice(&length.to_be_bytes());
    packet.extend_from_slice(&[NEXT_HEADER, 255]);
    packet.extend_from_slice(&source);
    packet.extend_from_slice(&destination);
    packet.extend_from_slice(&message);
    packet
}

#[cfg(test)]
mod tests;
