//! The tunnel of a zone between a hostile guest and hostile gateways.
//!
//! What must hold: a datagram that leaves is one of WireGuard, and what it carries comes from the zone's own
//! address; a frame that arrives comes from the gateway; no input makes more output than promised.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};
use tunnel::{
    Config, GATEWAY_MAC, GATEWAY_V4, GATEWAY_V6, Limits, MAX_FRAME_TO_ZONE, MAX_ZONE_FRAME, PeerConfig, Sink,
    Trust, Tunnel, VnetHeader,
};

use crate::cursor::Cursor;
use crate::packets::{arp, ethernet, icmp, icmpv6, ipv4, ipv6, udp};

pub(crate) const ZONE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x42];
const ZONE: Ipv4Addr = Ipv4Addr::new(10, 11, 0, 2);
const ZONE6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x11, 0, 0, 0, 0, 0, 2);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 11, 0, 1);
const SERVER6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x11, 0, 0, 0, 0, 0, 1);
const MTU: u16 = 1420;
const ZONE_KEY: [u8; 32] = [7; 32];
const GATEWAY_KEY: [u8; 32] = [0x20; 32];
const OTHER_KEY: [u8; 32] = [0x21; 32];

/// The most steps of one input.
const STEPS: usize = 64;

/// The most datagrams that one step may send: a super-packet of 64 KiB in segments of 536 bytes, and what waited.
const MOST_DATAGRAMS: usize = 200;

fn public(private: [u8; 32]) -> [u8; 32] {
    PublicKey::from(&StaticSecret::from(private)).to_bytes()
}

/// Public keys of the gateway, of the other peer and of the zone: computed once, since they cost time.
fn public_keys() -> &'static [[u8; 32]; 3] {
    static KEYS: OnceLock<[[u8; 32]; 3]> = OnceLock::new();
    KEYS.get_or_init(|| [GATEWAY_KEY, OTHER_KEY, ZONE_KEY].map(public))
}

/// A zone's configuration: everything goes to peer 0, but for one network that is peer 1's.
pub(crate) fn config() -> Config {
    let everything = vec![(Ipv4Addr::UNSPECIFIED.into(), 0), (Ipv6Addr::UNSPECIFIED.into(), 0)];
    let [gateway, other, _] = *public_keys();
    let peer = |public_key, allowed_ips| PeerConfig { public_key, allowed_ips, keepalive: None };
    Config {
        private_key: ZONE_KEY,
        addresses: vec![ZONE.into(), ZONE6.into()],
        dns: vec![SERVER.into(), SERVER6.into()],
        mtu: MTU,
        peers: vec![peer(gateway, everything), peer(other, vec![(Ipv4Addr::new(10, 12, 0, 0).into(), 24)])],
        zone_mac: ZONE_MAC,
        seed: [3; 32],
        limits: Limits { rekey_after_messages: 40, reject_after_messages: 60, ..Limits::default() },
    }
}

/// Keeps what the tunnel makes in one step.
#[derive(Default)]
struct Recorder {
    peer: Vec<(usize, Vec<u8>)>,
    zone: Vec<(Trust, Vec<u8>)>,
}

impl Sink for Recorder {
    fn to_peer(&mut self, peer: usize, datagram: &[u8]) {
        self.peer.push((peer, datagram.to_vec()));
    }

    fn to_zone(&mut self, trust: Trust, frame: &[u8]) {
        self.zone.push((trust, frame.to_vec()));
    }
}

/// A tunnel and the gateway at its end.
struct Link {
    tunnel: Tunnel,
    gateway: Tunn,
    now: Duration,
    recorder: Recorder,
    /// The gateway answers.
    awake: bool,
    /// Inner packets that came out at the gateway.
    inner: Vec<Vec<u8>>,
}

impl Link {
    /// With a session, if the input wants one: half of the time of an input goes into the handshake.
    fn new(cursor: &mut Cursor<'_>) -> Self {
        let now = Duration::from_secs(1);
        let tunnel = Tunnel::new(&config(), now).expect("a valid configuration");
        let private = StaticSecret::from(GATEWAY_KEY);
        let [gateway, _, zone] = public_keys().map(PublicKey::from);
        let limiter = Arc::new(RateLimiter::new(&gateway, 1_000_000));
        let gateway = Tunn::new(private, zone, None, None, 1, Some(limiter));
        let mut link = Self {
            tunnel,
            gateway,
            now,
            recorder: Recorder::default(),
            awake: cursor.flag(),
            inner: Vec::new(),
        };
        if link.awake {
            let header = VnetHeader::parse(&[0; 12]);
            let first = ethernet(GATEWAY_MAC, ZONE_MAC, 0x0800, &ipv4(ZONE, SERVER, 17, &udp(1, 2, &[])));
            link.tunnel.from_zone(&header, &first, now, &mut link.recorder);
            link.settle();
            assert!(link.tunnel.status(now).up, "no session after the handshake");
        }
        link
    }

    /// Lets the gateway answer until both are quiet, and checks everything that was made.
    fn settle(&mut self) {
        for round in 0.. {
            assert!(round < 20, "tunnel and gateway never come to rest");
            assert!(self.recorder.peer.len() <= MOST_DATAGRAMS, "{} datagrams", self.recorder.peer.len());
            assert!(self.recorder.zone.len() <= 8, "{} frames for the zone", self.recorder.zone.len());
            self.recorder.zone.drain(..).for_each(|(trust, frame)| check_frame(trust, &frame));
            let datagrams = std::mem::take(&mut self.recorder.peer);
            if datagrams.is_empty() {
                return;
            }
            for (peer, datagram) in datagrams {
                check_datagram(&datagram);
                if peer == 0 && self.awake {
                    for answer in self.at_gateway(&datagram) {
                        self.tunnel.from_peer(0, &answer, self.now, &mut self.recorder);
                    }
                }
            }
        }
    }

    /// What the gateway answers to a datagram; what it carried is kept and checked.
    fn at_gateway(&mut self, datagram: &[u8]) -> Vec<Vec<u8>> {
        let mut answers = Vec::new();
        let mut buffer = [0; 2048];
        let mut input = datagram;
        loop {
            match self.gateway.decapsulate(Some(Ipv4Addr::LOCALHOST.into()), input, &mut buffer) {
                TunnResult::WriteToNetwork(message) => answers.push(message.to_vec()),
                TunnResult::WriteToTunnelV4(packet, source) => {
                    assert_eq!(source, ZONE, "another address of the zone in the tunnel");
                    self.inner.push(packet.to_vec());
                    break;
                }
                TunnResult::WriteToTunnelV6(packet, source) => {
                    assert_eq!(source, ZONE6, "another address of the zone in the tunnel");
                    self.inner.push(packet.to_vec());
                    break;
                }
                TunnResult::Done | TunnResult::Err(_) => break,
            }
            input = &[];
        }
        answers
    }

    /// An inner packet as the gateway sends it.
    fn gateway_sends(&mut self, packet: &[u8]) {
        if !self.awake {
            return;
        }
        let mut buffer = vec![0; packet.len() + 256];
        let TunnResult::WriteToNetwork(sealed) = self.gateway.encapsulate(packet, &mut buffer) else {
            return;
        };
        self.tunnel.from_peer(0, sealed, self.now, &mut self.recorder);
    }

    fn zone_sends(&mut self, header: &[u8; 12], frame: &[u8]) {
        let frame = frame.get(..MAX_ZONE_FRAME).unwrap_or(frame);
        self.tunnel.from_zone(&VnetHeader::parse(header), frame, self.now, &mut self.recorder);
    }

    fn pass_time(&mut self, cursor: &mut Cursor<'_>) {
        let milliseconds = cursor.number(&[10, 1000, 5000, 25_000, 120_000, 180_000]) & 0xFF_FFFF;
        self.now += Duration::from_millis(milliseconds);
        self.tunnel.on_timer(self.now, &mut self.recorder);
    }
}

fn check_datagram(datagram: &[u8]) {
    let kind = datagram.first().copied().unwrap_or_default();
    match (kind, datagram.len()) {
        (1, 148) | (2, 92) | (3, 64) => {}
        (4, length @ 32..) => {
            // Padded, but never beyond the MTU.
            let inner = length - 32;
            assert!(
                inner == usize::from(MTU) || (inner < usize::from(MTU) && inner % 16 == 0),
                "{inner} bytes"
            );
        }
        (kind, length) => panic!("message of kind {kind} with {length} bytes"),
    }
}

fn check_frame(trust: Trust, frame: &[u8]) {
    assert!((14..=MAX_FRAME_TO_ZONE).contains(&frame.len()), "frame of {} bytes", frame.len());
    assert_eq!(frame[6..12], GATEWAY_MAC, "a frame from somebody else reached the zone");
    assert!(frame[..6] == ZONE_MAC || frame[0] & 1 != 0, "a frame for somebody else reached the zone");
    if trust == Trust::Vouched {
        // It came through the tunnel from peer 0, which speaks for everybody but the other peer and the zone.
        let (source, destination, ours) = match frame[12..14] {
            [8, 0] => (&frame[26..30], &frame[30..34], ZONE.octets().to_vec()),
            _ => (&frame[22..38], &frame[38..54], ZONE6.octets().to_vec()),
        };
        assert_eq!(destination, ours, "a packet for somebody else reached the zone");
        assert_ne!(source, ours, "the zone's own address came from outside");
        assert!(!source.starts_with(&[10, 12, 0]), "a gateway spoke for another's network");
    }
}

/// Header of virtio-net that asks for offloads.
fn offload(cursor: &mut Cursor<'_>) -> [u8; 12] {
    if cursor.flag() {
        return [0; 12];
    }
    if cursor.u8() < 32 {
        return cursor.array();
    }
    let mut header = [0; 12];
    header[0] = cursor.u8() & 3;
    header[1] = [0, 1, 4, 0x81, 3, 5][cursor.below(6)];
    header[2..4].copy_from_slice(&cursor.number(&[54, 74, 66]).to_le_bytes()[..2]);
    header[4..6].copy_from_slice(&cursor.number(&[1380, 1, 0, 536, 1460, 65535]).to_le_bytes()[..2]);
    header[6..8].copy_from_slice(&cursor.number(&[34, 54, 14, 0]).to_le_bytes()[..2]);
    header[8..10].copy_from_slice(&cursor.number(&[16, 6, 2, 0]).to_le_bytes()[..2]);
    header
}

/// A packet of the zone for somewhere, with a body that is mostly the input's.
fn zone_packet(cursor: &mut Cursor<'_>) -> (u16, Vec<u8>) {
    let protocol = [6, 17, 1, 58, 0, 44, 50][cursor.below(7)];
    let mut body = cursor.some_bytes(120).to_vec();
    let fill = usize::from(cursor.u16());
    if cursor.u8() < 64 {
        body.resize(body.len() + fill % 65_000, 0x5A);
    }
    if cursor.flag() {
        let to =
            [SERVER, Ipv4Addr::new(10, 12, 0, 1), ZONE, GATEWAY_V4, Ipv4Addr::BROADCAST, Ipv4Addr::LOCALHOST];
        let from = if cursor.u8() < 230 { ZONE } else { cursor.array().into() };
        body.truncate(65_000);
        let mut packet = ipv4(from, to[cursor.below(6)], protocol, &body);
        damage(cursor, &mut packet);
        return (0x0800, packet);
    }
    let all_routers = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
    let to = [SERVER6, ZONE6, GATEWAY_V6, all_routers, Ipv6Addr::LOCALHOST];
    let from = if cursor.u8() < 230 { ZONE6 } else { cursor.array().into() };
    let mut packet = ipv6(from.octets(), to[cursor.below(5)].octets(), protocol, &body);
    damage(cursor, &mut packet);
    (0x86DD, packet)
}

/// Sometimes changes some bytes.
fn damage(cursor: &mut Cursor<'_>, packet: &mut [u8]) {
    if cursor.u8() < 200 {
        return;
    }
    for _ in 0..=cursor.below(4) {
        let at = usize::from(cursor.u8());
        let value = cursor.u8();
        if let Some(byte) = packet.get_mut(at) {
            *byte = value;
        }
    }
}

/// Frames of a zone with any offload, from raw bytes to whole packets.
pub(crate) fn tunnel_frames(bytes: &[u8]) {
    let mut cursor = Cursor::new(bytes);
    let mut link = Link::new(&mut cursor);
    for _ in 0..STEPS {
        if cursor.is_empty() {
            return;
        }
        let header = offload(&mut cursor);
        match cursor.below(8) {
            0 => {
                let frame = cursor.some_bytes(300);
                link.zone_sends(&header, frame);
            }
            1 => {
                let kind = [0x0800, 0x86DD, 0x0806, 0x8100][cursor.below(4)];
                let frame = ethernet(GATEWAY_MAC, ZONE_MAC, kind, cursor.some_bytes(300));
                link.zone_sends(&header, &frame);
            }
            2 => link.pass_time(&mut cursor),
            _ => {
                let (kind, packet) = zone_packet(&mut cursor);
                let to = if cursor.u8() < 230 { GATEWAY_MAC } else { cursor.array() };
                link.zone_sends(&header, &ethernet(to, ZONE_MAC, kind, &packet));
            }
        }
        link.settle();
    }
}

/// Datagrams of a gateway, in a session and outside, and of strangers.
pub(crate) fn tunnel_datagrams(bytes: &[u8]) {
    let mut cursor = Cursor::new(bytes);
    let mut link = Link::new(&mut cursor);
    for _ in 0..STEPS {
        if cursor.is_empty() {
            return;
        }
        match cursor.below(8) {
            0 => {
                let peer = cursor.below(3);
                let datagram = cursor.some_bytes(200);
                link.tunnel.from_peer(peer, datagram, link.now, &mut link.recorder);
            }
            1 => {
                // A message of the right kind and length with anything in it.
                let (kind, length) = [(1, 148), (2, 92), (3, 64), (4, 32), (4, 96)][cursor.below(5)];
                let mut datagram = vec![0; length];
                datagram[0] = kind;
                let rest = cursor.bytes(length - 4);
                datagram[4..4 + rest.len()].copy_from_slice(rest);
                let peer = cursor.below(2);
                link.tunnel.from_peer(peer, &datagram, link.now, &mut link.recorder);
            }
            2 => link.pass_time(&mut cursor),
            3 => link.gateway_sends(cursor.some_bytes(300)),
            _ => {
                let protocol = [6, 17, 1, 58][cursor.below(4)];
                let mut packet = if cursor.flag() {
                    let from =
                        [SERVER, Ipv4Addr::new(10, 12, 0, 1), ZONE, Ipv4Addr::LOCALHOST][cursor.below(4)];
                    let to = if cursor.u8() < 230 { ZONE } else { cursor.array().into() };
                    ipv4(from, to, protocol, cursor.some_bytes(200))
                } else {
                    let from = [SERVER6, ZONE6, GATEWAY_V6][cursor.below(3)];
                    let to = if cursor.u8() < 230 { ZONE6 } else { cursor.array().into() };
                    ipv6(from.octets(), to.octets(), protocol, cursor.some_bytes(200))
                };
                damage(&mut cursor, &mut packet);
                link.gateway_sends(&packet);
            }
        }
        link.settle();
    }
}

/// A DHCP message with the input's options (RFC 2131).
pub(crate) fn dhcp(
    operation: u8,
    id: [u8; 4],
    client: [u8; 6],
    offered: Ipv4Addr,
    options: &[u8],
) -> Vec<u8> {
    let mut message = vec![0; 240];
    message[..4].copy_from_slice(&[operation, 1, 6, 0]);
    message[4..8].copy_from_slice(&id);
    message[16..20].copy_from_slice(&offered.octets());
    message[28..34].copy_from_slice(&client);
    message[236..].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
    message.extend(options);
    message
}

/// Options of a DHCP client's message.
fn dhcp_options(kind: u8, cursor: &mut Cursor<'_>) -> Vec<u8> {
    let mut options = vec![53, 1, kind];
    for _ in 0..cursor.below(5) {
        let address = [ZONE, GATEWAY_V4, SERVER, cursor.array().into()][cursor.below(4)].octets();
        match cursor.below(5) {
            0 => options.extend([[50, 4].as_slice(), &address].concat()),
            1 => options.extend([[54, 4].as_slice(), &address].concat()),
            2 => options.extend([55, 4, 1, 3, 121, cursor.u8()]),
            3 => options.extend([61, 7, 1, 2, 0, 0, 0, 0, 0x42]),
            _ => options.extend(cursor.some_bytes(40)),
        }
    }
    if cursor.flag() {
        options.push(255);
    }
    options
}

/// A question for a DNS server, or anything.
fn dns_question(cursor: &mut Cursor<'_>) -> Vec<u8> {
    if cursor.u8() < 60 {
        return cursor.some_bytes(200).to_vec();
    }
    let mut message = cursor.array::<2>().to_vec();
    message.extend(&cursor.number(&[0x0100, 0x0120, 0x8180, 0]).to_be_bytes()[6..]);
    message.extend([0, 1, 0, 0, 0, 0, 0, cursor.u8() & 1]);
    message.extend(b"\x08intranet\x07example\0\0\x01\0\x01");
    message.extend(cursor.some_bytes(40));
    message
}

/// Whole packets for the gateway's services, and answers of the DNS server behind the tunnel.
pub(crate) fn gateway(bytes: &[u8]) {
    let mut cursor = Cursor::new(bytes);
    let mut link = Link::new(&mut cursor);
    let v4 = |to: Ipv4Addr, protocol, body: &[u8]| {
        let from = if to == Ipv4Addr::BROADCAST { Ipv4Addr::UNSPECIFIED } else { ZONE };
        ethernet(GATEWAY_MAC, ZONE_MAC, 0x0800, &ipv4(from, to, protocol, body))
    };
    let zone_link = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
    let v6 = |from: Ipv6Addr, to: Ipv6Addr, protocol, body: &[u8]| {
        ethernet(GATEWAY_MAC, ZONE_MAC, 0x86DD, &ipv6(from.octets(), to.octets(), protocol, body))
    };
    for _ in 0..STEPS {
        if cursor.is_empty() {
            return;
        }
        let mut frame = match cursor.below(10) {
            0 => {
                let operation = u16::from(cursor.u8() % 3);
                let target = [GATEWAY_V4, SERVER, ZONE, cursor.array().into()][cursor.below(4)];
                let mut packet = arp(operation, (ZONE_MAC, ZONE), ([0; 6], target));
                damage(&mut cursor, &mut packet);
                ethernet([255; 6], ZONE_MAC, 0x0806, &packet)
            }
            1 => {
                let kind = cursor.u8() % 9;
                let options = dhcp_options(kind, &mut cursor);
                let mut message = dhcp(1, cursor.array(), ZONE_MAC, Ipv4Addr::UNSPECIFIED, &options);
                damage(&mut cursor, &mut message);
                v4(Ipv4Addr::BROADCAST, 17, &udp(68, 67, &message))
            }
            2 => {
                let message = cursor.some_bytes(200);
                let servers = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
                v6(zone_link, servers, 17, &udp(546, 547, message))
            }
            3 => {
                let (port, message) = (cursor.u16(), dns_question(&mut cursor));
                v4(GATEWAY_V4, 17, &udp(port, 53, &message))
            }
            4 => {
                let (port, message) = (cursor.u16(), dns_question(&mut cursor));
                v6(ZONE6, GATEWAY_V6, 17, &udp(port, 53, &message))
            }
            5 => {
                let message = cursor.some_bytes(80);
                let from = [zone_link, ZONE6, Ipv6Addr::UNSPECIFIED][cursor.below(3)];
                let solicited = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 1);
                let routers = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
                let to = [GATEWAY_V6, solicited, routers][cursor.below(3)];
                let body = icmpv6(from.octets(), to.octets(), message);
                v6(from, to, 58, &body)
            }
            6 => {
                let body = icmp(cursor.some_bytes(80));
                v4(GATEWAY_V4, 1, &body)
            }
            7 => {
                // DNS over TCP: a segment with the input's flags and options.
                let mut segment = [cursor.array::<2>(), 53_u16.to_be_bytes()].concat();
                segment.extend(cursor.array::<8>());
                segment.extend([0x50, cursor.u8(), 0xFF, 0xFF, 0, 0, 0, 0]);
                segment.extend(cursor.some_bytes(80));
                damage(&mut cursor, &mut segment);
                if cursor.flag() { v4(GATEWAY_V4, 6, &segment) } else { v6(ZONE6, GATEWAY_V6, 6, &segment) }
            }
            8 => {
                answer(&mut link, &mut cursor);
                Vec::new()
            }
            _ => {
                link.pass_time(&mut cursor);
                Vec::new()
            }
        };
        if !frame.is_empty() {
            damage(&mut cursor, &mut frame);
            link.zone_sends(&[0; 12], &frame);
        }
        link.settle();
    }
}

/// Answers the newest packet that came through the tunnel: sides swapped, body as it was or the input's.
fn answer(link: &mut Link, cursor: &mut Cursor<'_>) {
    let Some(packet) = link.inner.pop() else { return };
    let (header, at, length) = match packet.first().map(|first| first >> 4) {
        Some(4) => (20, 12, 4),
        Some(6) => (40, 8, 16),
        _ => return,
    };
    let (Some(body), Some(mut swapped)) = (packet.get(header..), packet.get(..header).map(<[u8]>::to_vec))
    else {
        return;
    };
    swapped[at..at + length].copy_from_slice(&packet[at + length..at + 2 * length]);
    swapped[at + length..at + 2 * length].copy_from_slice(&packet[at..at + length]);
    let mut body = body.to_vec();
    if body.len() > 4 {
        let (source, rest) = body.split_at_mut(2);
        source.swap_with_slice(&mut rest[..2]);
    }
    damage(cursor, &mut body);
    let mut answer = [swapped, body].concat();
    damage(cursor, &mut answer);
    link.gateway_sends(&answer);
}
