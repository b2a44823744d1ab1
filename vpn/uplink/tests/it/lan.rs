//! A scripted LAN behind one router: DHCP and DNS server, ARP for everybody, and UDP services that answer.
//!
//! It reads and writes bytes by itself, so a fault in the code under test is not repeated here.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

pub(crate) const MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];
pub(crate) const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 1);
pub(crate) const HOST: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 20);

/// What the LAN does; tests change it as they go.
pub(crate) struct Lan {
    pub(crate) dhcp: bool,
    pub(crate) arp: bool,
    pub(crate) address: Ipv4Addr,
    pub(crate) mask: Ipv4Addr,
    pub(crate) router: Ipv4Addr,
    pub(crate) servers: Vec<Ipv4Addr>,
    /// Servers that answer.
    pub(crate) awake: Vec<Ipv4Addr>,
    pub(crate) lease_seconds: u32,
    pub(crate) names: BTreeMap<String, IpAddr>,
}

impl Default for Lan {
    fn default() -> Self {
        Self {
            dhcp: true,
            arp: true,
            address: HOST,
            mask: Ipv4Addr::new(255, 255, 255, 0),
            router: ROUTER,
            servers: vec![ROUTER],
            awake: vec![ROUTER],
            lease_seconds: 3600,
            names: BTreeMap::new(),
        }
    }
}

/// A UDP datagram as found by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Udp {
    pub(crate) from: SocketAddrV4,
    pub(crate) to: SocketAddrV4,
    pub(crate) payload: Vec<u8>,
}

pub(crate) fn udp(frame: &[u8]) -> Option<Udp> {
    if frame.get(12..14)? != [8, 0] || frame.get(14)? != &0x45 || frame.get(23)? != &17 {
        return None;
    }
    let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(frame.get(at..at + 4)?).ok()?));
    let length = usize::from(u16::from_be_bytes([frame[38], frame[39]]));
    Some(Udp {
        from: SocketAddrV4::new(address(26)?, u16::from_be_bytes([frame[34], frame[35]])),
        to: SocketAddrV4::new(address(30)?, u16::from_be_bytes([frame[36], frame[37]])),
        payload: frame.get(42..34 + length)?.to_vec(),
    })
}

pub(crate) fn ethernet(to: [u8; 6], from: [u8; 6], kind: u16, payload: &[u8]) -> Vec<u8> {
    [&to[..], &from[..], &kind.to_be_bytes()[..], payload].concat()
}

/// RFC 1071.
pub(crate) fn sum(parts: &[&[u8]]) -> u16 {
    let mut total = 0_u32;
    for pair in parts.concat().chunks(2) {
        total += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    }
    while total >> 16 != 0 {
        total = (total & 0xffff) + (total >> 16);
    }
    !u16::try_from(total).unwrap()
}

pub(crate) fn ip(protocol: u8, from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
    let mut header = vec![0x45, 0, length[0], length[1], 0, 0, 0, 0, 64, protocol, 0, 0];
    header.extend(from.octets());
    header.extend(to.octets());
    let checksum = sum(&[&header]).to_be_bytes();
    header[10..12].copy_from_slice(&checksum);
    [header.as_slice(), payload].concat()
}

pub(crate) fn udp_frame(to_mac: [u8; 6], from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).unwrap().to_be_bytes();
    let header = [from.port().to_be_bytes(), to.port().to_be_bytes(), length, [0, 0]].concat();
    let packet = ip(17, *from.ip(), *to.ip(), &[header.as_slice(), payload].concat());
    ethernet(to_mac, MAC, 0x0800, &packet)
}

pub(crate) fn arp_frame(
    operation: u8,
    from: ([u8; 6], Ipv4Addr),
    to: ([u8; 6], Ipv4Addr),
    destination: [u8; 6],
) -> Vec<u8> {
    let fixed = [0, 1, 8, 0, 6, 4, 0, operation];
    let body = [&fixed[..], &from.0, &from.1.octets(), &to.0, &to.1.octets()].concat();
    ethernet(destination, from.0, 0x0806, &body)
}

impl Lan {
    /// What comes back for a frame.
    pub(crate) fn answer(&self, frame: &[u8]) -> Vec<Vec<u8>> {
        let client: [u8; 6] = frame[6..12].try_into().unwrap();
        if frame[12..14] == [8, 6] {
            return self.answer_arp(frame, client);
        }
        let Some(udp) = udp(frame) else {
            return Vec::new();
        };
        match udp.to.port() {
            67 => self.answer_dhcp(client, &udp.payload).into_iter().collect(),
            53 if self.awake.contains(udp.to.ip()) => {
                vec![udp_frame(client, udp.to, udp.from, &self.answer_dns(&udp.payload))]
            }
            53 => Vec::new(),
            // Every other service answers with what it got, backwards.
            _ => {
                let reply: Vec<u8> = udp.payload.iter().rev().copied().collect();
                vec![udp_frame(client, udp.to, udp.from, &reply)]
            }
        }
    }

    fn answer_arp(&self, frame: &[u8], client: [u8; 6]) -> Vec<Vec<u8>> {
        let target = Ipv4Addr::from(<[u8; 4]>::try_from(&frame[38..42]).unwrap());
        let sender = Ipv4Addr::from(<[u8; 4]>::try_from(&frame[28..32]).unwrap());
        if !self.arp || frame[21] != 1 || target == self.address {
            return Vec::new();
        }
        vec![arp_frame(2, (MAC, target), (client, sender), client)]
    }

    fn answer_dhcp(&self, client: [u8; 6], request: &[u8]) -> Option<Vec<u8>> {
        if !self.dhcp {
            return None;
        }
        let mut options = request.get(240..)?;
        let mut kind = 0;
        while let [code, length, rest @ ..] = options {
            if *code == 53 {
                kind = *rest.first()?;
            }
            options = rest.get(usize::from(*length)..)?;
        }
        let reply_kind = match kind {
            1 => 2,
            3 => 5,
            _ => return None,
        };
        let mut reply = vec![0; 240];
        reply[..4].copy_from_slice(&[2, 1, 6, 0]);
        reply[4..8].copy_from_slice(&request[4..8]);
        reply[16..20].copy_from_slice(&self.address.octets());
        reply[28..34].copy_from_slice(&client);
        reply[236..240].copy_from_slice(&[99, 130, 83, 99]);
        reply.extend([53, 1, reply_kind, 54, 4]);
        reply.extend(ROUTER.octets());
        reply.extend([51, 4]);
        reply.extend(self.lease_seconds.to_be_bytes());
        reply.extend([1, 4]);
        reply.extend(self.mask.octets());
        reply.extend([3, 4]);
        reply.extend(self.router.octets());
        reply.extend([6, u8::try_from(4 * self.servers.len()).unwrap()]);
        reply.extend(self.servers.iter().flat_map(|server| server.octets()));
        reply.push(255);
        let from = SocketAddrV4::new(ROUTER, 67);
        Some(udp_frame(client, from, SocketAddrV4::new(self.address, 68), &reply))
    }

    fn answer_dns(&self, query: &[u8]) -> Vec<u8> {
        let (name, end) = question(query).unwrap();
        let address = self.names.get(&name);
        let wants_v6 = query[end - 3] == 28;
        let data: Option<Vec<u8>> = match address {
            Some(IpAddr::V4(v4)) if !wants_v6 => Some(v4.octets().to_vec()),
            Some(IpAddr::V6(v6)) if wants_v6 => Some(v6.octets().to_vec()),
            _ => None,
        };
        let rcode = if address.is_none() { 3 } else { 0 };
        let answers = u8::from(data.is_some());
        let mut reply = [&query[..2], &[0x81, 0x80 | rcode, 0, 1, 0, answers, 0, 0, 0, 0]].concat();
        reply.extend(&query[12..end]);
        if let Some(data) = data {
            reply.extend([
                0xc0,
                12,
                0,
                query[end - 3],
                0,
                1,
                0,
                0,
                0,
                60,
                0,
                u8::try_from(data.len()).unwrap(),
            ]);
            reply.extend(data);
        }
        reply
    }
}

/// The first question's name, and where the question ends.
pub(crate) fn question(message: &[u8]) -> Option<(String, usize)> {
    let mut at = 12;
    let mut labels = Vec::new();
    while *message.get(at)? != 0 {
        let length = usize::from(message[at]);
        labels.push(String::from_utf8(message.get(at + 1..at + 1 + length)?.to_vec()).ok()?);
        at += 1 + length;
    }
    Some((labels.join("."), at + 5))
}
