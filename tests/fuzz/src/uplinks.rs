//! The owner of the NIC on a hostile LAN.
//!
//! What must hold: without a lease nothing but DHCP leaves; every frame has our address and the size of one; only
//! a tunnel's own endpoint reaches it; the state machine comes to rest.

use std::net::{IpAddr, Ipv4Addr};

use uplink::{Duration, Instant, Uplink};
use vpn_protocol::{Endpoint, Host};

use crate::cursor::Cursor;
use crate::packets::{arp, ethernet, ipv4, udp};
use crate::tunnels::dhcp;

const OURS: [u8; 6] = [0x52, 0x54, 0, 0xAB, 0xCD, 0xEF];
const ROUTER_MAC: [u8; 6] = [0x52, 0x54, 0, 1, 1, 1];
const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 1);
const HOST: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 20);
const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 9);
const OFFICE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
const NAME: &str = "office.gateway.example";

/// The most steps of one input.
const STEPS: usize = 64;

struct Lan {
    uplink: Uplink,
    now: Instant,
    /// Ports from which the tunnels sent.
    ports: Vec<u16>,
}

impl Lan {
    fn new() -> Self {
        let now = Instant::from_secs(1000);
        let mut uplink = Uplink::new(OURS, 7, now).expect("a unicast address");
        let office = Endpoint { host: Host::Name(NAME.to_owned()), port: 51820 };
        let neighbour = Endpoint { host: Host::Address(NEIGHBOUR.into()), port: 4500 };
        uplink.add_tunnel(1, vec![office], 4).expect("a tunnel");
        uplink.add_tunnel(2, vec![neighbour], 4).expect("a tunnel");
        Self { uplink, now, ports: Vec::new() }
    }

    /// Polls until nothing more leaves, with `answer` to every frame that leaves.
    fn settle(&mut self, mut answer: impl FnMut(&[u8]) -> Vec<Vec<u8>>) {
        for round in 0.. {
            assert!(round < 100, "the uplink never comes to rest");
            self.uplink.poll(self.now);
            let mut count = 0;
            while let Some(frame) = self.uplink.next_frame() {
                count += 1;
                self.check(&frame);
                for frame in answer(&frame) {
                    self.receive(&frame);
                }
            }
            assert!(count <= 256, "{count} frames at once");
            if count == 0 {
                return;
            }
        }
    }

    fn check(&mut self, frame: &[u8]) {
        assert!((14..=1514).contains(&frame.len()), "frame of {} bytes", frame.len());
        assert_eq!(frame[6..12], OURS, "a frame with another source address left");
        let kind = [frame[12], frame[13]];
        assert!(kind == [8, 0] || kind == [8, 6], "a frame of kind {kind:?} left");
        if self.uplink.lease().is_none() {
            let is_dhcp = kind == [8, 0] && frame.get(34..38) == Some(&[0, 68, 0, 67]);
            assert!(is_dhcp, "something else than DHCP left without a lease");
        }
        let ports = frame.get(34..38).unwrap_or_default();
        if kind == [8, 0]
            && (ports.ends_with(&4500_u16.to_be_bytes()) || ports.ends_with(&51820_u16.to_be_bytes()))
        {
            self.ports.push(u16::from_be_bytes([ports[0], ports[1]]));
            self.ports.dedup();
            self.ports.truncate(8);
        }
    }

    fn receive(&mut self, frame: &[u8]) {
        if let Some(delivery) = self.uplink.receive(self.now, frame) {
            assert!((1..=1472).contains(&delivery.payload.len()), "a payload of {}", delivery.payload.len());
            let source = frame.get(26..30);
            match delivery.tunnel {
                2 => assert_eq!(source, Some(&NEIGHBOUR.octets()[..]), "a stranger reached a tunnel"),
                number => assert_eq!(number, 1, "a tunnel that is not there"),
            }
        }
    }

    fn pass_time(&mut self, cursor: &mut Cursor<'_>) {
        let milliseconds = cursor.number(&[10, 250, 1000, 4000, 60_000, 300_000, 3_600_000]) & 0xFFF_FFFF;
        self.now += Duration::from_millis(milliseconds);
    }

    fn send(&mut self, cursor: &mut Cursor<'_>) {
        let (tunnel, packet) = (u32::from(cursor.u8() % 4), cursor.some_bytes(100));
        if let Some(frame) = self.uplink.send(self.now, tunnel, packet).map(<[u8]>::to_vec) {
            self.check(&frame);
        }
    }
}

fn honest(frame: &[u8]) -> Vec<Vec<u8>> {
    reply(frame, &mut Cursor::new(&[]))
}

/// What a LAN answers to a frame: the honest answer, changed by what the input says.
fn reply(frame: &[u8], cursor: &mut Cursor<'_>) -> Vec<Vec<u8>> {
    let at = |from: usize, to: usize| frame.get(from..to).unwrap_or_default();
    let address = |from: usize| <[u8; 4]>::try_from(at(from, from + 4)).map(Ipv4Addr::from);
    let mut answers = Vec::new();
    if at(12, 14) == [8, 6] {
        let (Ok(target), Ok(sender)) = (address(38), address(28)) else { return answers };
        let operation = if cursor.u8() < 230 { 2 } else { cursor.u16() };
        let mac = if cursor.u8() < 230 { ROUTER_MAC } else { cursor.array() };
        let packet = arp(operation, (mac, target), (OURS, sender));
        answers.push(ethernet(OURS, mac, 0x0806, &packet));
    } else if at(36, 38) == [0, 67] {
        answers.extend(reply_dhcp(at(42, frame.len()), cursor));
    } else if at(36, 38) == [0, 53] {
        let port = u16::from_be_bytes([at(34, 36)[0], at(34, 36)[1]]);
        let body = reply_dns(at(42, frame.len()), cursor);
        let packet = ipv4(ROUTER, HOST, 17, &udp(53, port, &body));
        answers.push(ethernet(OURS, ROUTER_MAC, 0x0800, &packet));
    }
    for answer in &mut answers {
        if cursor.u8() > 220 {
            let (position, value) = (usize::from(cursor.u8()), cursor.u8());
            if let Some(byte) = answer.get_mut(position) {
                *byte = value;
            }
        }
    }
    answers
}

fn reply_dhcp(request: &[u8], cursor: &mut Cursor<'_>) -> Option<Vec<u8>> {
    let id = <[u8; 4]>::try_from(request.get(4..8)?).ok()?;
    // The first option of smoltcp's messages is their type: DISCOVER is answered by OFFER, all else by ACK.
    let kind = if request.get(240..243) == Some(&[53, 1, 1]) { 2 } else { 5 };
    let kind = if cursor.u8() < 230 { kind } else { cursor.u8() };
    let offered = match cursor.u8() {
        0..=199 => HOST,
        200..=229 => {
            let strange = [Ipv4Addr::LOCALHOST, Ipv4Addr::new(0, 0, 0, 5), Ipv4Addr::new(224, 0, 0, 1)];
            strange[cursor.below(3)]
        }
        _ => cursor.array().into(),
    };
    let lease = cursor.number(&[3600, 0, 1, 60, 0xFFFF_FFFF]).to_be_bytes();
    let mask =
        cursor.number(&[0xFFFF_FF00, 0xFFFF_FFFF, 0, 0xFF00_0000, 0xFFFF_FFFE, 0xFF00_FF00]).to_be_bytes();
    let mut options = vec![53, 1, kind, 54, 4];
    options.extend(ROUTER.octets());
    options.extend([51, 4]);
    options.extend(&lease[4..]);
    options.extend([1, 4]);
    options.extend(&mask[4..]);
    options.extend([3, 4]);
    options.extend(if cursor.u8() < 230 { ROUTER.octets() } else { cursor.array() });
    options.extend([6, 4]);
    options.extend(if cursor.u8() < 230 { ROUTER.octets() } else { cursor.array() });
    options.extend(cursor.some_bytes(64));
    options.push(255);
    let message = dhcp(2, id, OURS, offered, &options);
    Some(ethernet(OURS, ROUTER_MAC, 0x0800, &ipv4(ROUTER, offered, 17, &udp(67, 68, &message))))
}

fn reply_dns(query: &[u8], cursor: &mut Cursor<'_>) -> Vec<u8> {
    let mut message = query.to_vec();
    if message.len() < 12 {
        return message;
    }
    let records = cursor.u8() % 5;
    message[2..4].copy_from_slice(&cursor.number(&[0x8180, 0x8183, 0x8580, 0x0180]).to_be_bytes()[6..]);
    message[7] = if records == 0 { 1 } else { records };
    if records == 0 {
        message.extend([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        message.extend(OFFICE.octets());
    }
    for _ in 0..records {
        match cursor.below(3) {
            0 => message.extend([0xC0, cursor.u8()]),
            1 => message.extend(cursor.some_bytes(40)),
            _ => message.extend([0]),
        }
        message.extend([0, [1, 28, 5, 41][cursor.below(4)], 0, 1, 0, 0, 0, 60, 0]);
        let data = cursor.some_bytes(40);
        message.push(u8::try_from(data.len()).expect("at most 40"));
        message.extend(data);
    }
    message.extend(cursor.some_bytes(20));
    message
}

/// Raw frames and packets of a `vpnd`, with and without a lease.
pub(crate) fn uplink_frames(bytes: &[u8]) {
    let mut cursor = Cursor::new(bytes);
    let mut lan = Lan::new();
    if cursor.flag() {
        lan.settle(honest);
        assert!(lan.uplink.lease().is_some(), "no lease from an honest server");
        for tunnel in [1, 2] {
            let frame = lan.uplink.send(lan.now, tunnel, &[0, 1]).map(<[u8]>::to_vec);
            frame.iter().for_each(|frame| lan.check(frame));
            lan.settle(honest);
        }
        assert!(!lan.ports.is_empty(), "no tunnel's datagram left");
    }
    for _ in 0..STEPS {
        if cursor.is_empty() {
            return;
        }
        match cursor.below(8) {
            0 => {
                let frame = cursor.some_bytes(300);
                lan.receive(frame);
            }
            1 => {
                let to = [OURS, [255; 6], [1, 0, 94, 0, 0, 1]][cursor.below(3)];
                let kind = [0x0800, 0x0806, 0x86DD][cursor.below(3)];
                lan.receive(&ethernet(to, ROUTER_MAC, kind, cursor.some_bytes(300)));
            }
            2 => lan.pass_time(&mut cursor),
            3 => lan.send(&mut cursor),
            4 => {
                let operation = cursor.number(&[1, 2]).to_le_bytes()[0].into();
                let sender = [ROUTER, NEIGHBOUR, HOST, OFFICE, cursor.array().into()][cursor.below(5)];
                let target = [HOST, ROUTER, Ipv4Addr::UNSPECIFIED][cursor.below(3)];
                let packet = arp(operation, (ROUTER_MAC, sender), (OURS, target));
                lan.receive(&ethernet(OURS, ROUTER_MAC, 0x0806, &packet));
            }
            5 => {
                lan.uplink.set_carrier(cursor.flag());
            }
            _ => {
                let source = [NEIGHBOUR, OFFICE, ROUTER, cursor.array().into()][cursor.below(4)];
                let from = cursor.number(&[4500, 51820, 53, 67]).to_le_bytes();
                let known = lan.ports.get(cursor.below(lan.ports.len())).copied();
                let to = if cursor.u8() < 200 { known.unwrap_or_default() } else { cursor.u16() };
                let datagram = udp(u16::from_le_bytes([from[0], from[1]]), to, cursor.some_bytes(100));
                let mut packet = ipv4(source, HOST, [17, 17, 17, 6][cursor.below(4)], &datagram);
                if cursor.u8() > 200 {
                    let position = cursor.below(28);
                    let value = cursor.u8();
                    if let Some(byte) = packet.get_mut(position) {
                        *byte = value;
                    }
                }
                lan.receive(&ethernet(OURS, ROUTER_MAC, 0x0800, &packet));
            }
        }
        lan.settle(|_| Vec::new());
    }
}

/// Servers that answer what was asked, with what they like.
pub(crate) fn uplink_answers(bytes: &[u8]) {
    let mut cursor = Cursor::new(bytes);
    let mut lan = Lan::new();
    for _ in 0..STEPS {
        if cursor.is_empty() {
            return;
        }
        lan.settle(|frame| if cursor.is_empty() { Vec::new() } else { reply(frame, &mut cursor) });
        for (_, places) in lan.uplink.state().tunnels {
            for place in places.into_iter().flatten() {
                let resolved = !place.ip().is_unspecified();
                assert!(resolved, "an endpoint at {place}");
            }
        }
        if cursor.u8() < 40 {
            lan.send(&mut cursor);
        }
        lan.pass_time(&mut cursor);
        let at: Option<IpAddr> = lan.uplink.state().address.map(|(address, _)| address);
        assert!(
            at.is_none_or(|at| !at.is_unspecified() && !at.is_multicast() && !at.is_loopback()),
            "the address {at:?}"
        );
    }
}
