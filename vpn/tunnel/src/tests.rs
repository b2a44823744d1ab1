//! Tests of the whole tunnel, with a raw boringtun as the other end.

mod offloads;
mod properties;
mod services;
mod simulation;
mod wireguard;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};

use super::*;

pub(crate) const ZONE_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x42];
pub(crate) const ZONE_V4: Ipv4Addr = Ipv4Addr::new(10, 11, 0, 2);
pub(crate) const SERVER_V4: Ipv4Addr = Ipv4Addr::new(10, 11, 0, 1);
pub(crate) const ZONE_KEY: [u8; 32] = [7; 32];
pub(crate) const NOW: Duration = Duration::from_secs(1);

pub(crate) fn zone_v6() -> IpAddr {
    "fd00:11::2".parse().unwrap()
}

pub(crate) fn server_v6() -> IpAddr {
    "fd00:11::1".parse().unwrap()
}

/// Keeps what a tunnel makes.
#[derive(Default)]
pub(crate) struct Recorder {
    pub(crate) peer: Vec<(usize, Vec<u8>)>,
    pub(crate) zone: Vec<(Trust, Vec<u8>)>,
}

impl Sink for Recorder {
    fn to_peer(&mut self, peer: usize, datagram: &[u8]) {
        self.peer.push((peer, datagram.to_vec()));
    }

    fn to_zone(&mut self, trust: Trust, frame: &[u8]) {
        self.zone.push((trust, frame.to_vec()));
    }
}

impl Recorder {
    pub(crate) fn take_peer(&mut self) -> Vec<Vec<u8>> {
        self.peer.drain(..).map(|(_, datagram)| datagram).collect()
    }

    pub(crate) fn take_zone(&mut self) -> Vec<Vec<u8>> {
        self.zone.drain(..).map(|(_, frame)| frame).collect()
    }
}

pub(crate) fn public(private: [u8; 32]) -> [u8; 32] {
    PublicKey::from(&StaticSecret::from(private)).to_bytes()
}

pub(crate) fn gateway_key(index: u8) -> [u8; 32] {
    [0x20 + index; 32]
}

pub(crate) fn peer(index: u8, allowed: &[&str]) -> PeerConfig {
    let allowed_ips = allowed
        .iter()
        .map(|network| {
            let (address, prefix) = network.split_once('/').unwrap();
            (address.parse().unwrap(), prefix.parse().unwrap())
        })
        .collect();
    PeerConfig { public_key: public(gateway_key(index)), allowed_ips, keepalive: None }
}

pub(crate) fn config(peers: Vec<PeerConfig>) -> Config {
    Config {
        private_key: ZONE_KEY,
        addresses: vec![ZONE_V4.into(), zone_v6()],
        dns: vec![SERVER_V4.into()],
        mtu: 1420,
        peers,
        zone_mac: ZONE_MAC,
        seed: [3; 32],
        limits: Limits::default(),
    }
}

pub(crate) fn one_peer() -> Config {
    config(vec![peer(0, &["0.0.0.0/0", "::/0"])])
}

/// A gateway: boringtun as it is.
pub(crate) struct Remote {
    pub(crate) tunn: Tunn,
    /// Inner packets that arrived.
    pub(crate) inner: Vec<Vec<u8>>,
    pub(crate) errors: usize,
}

impl Remote {
    pub(crate) fn new(index: u8) -> Self {
        let private = StaticSecret::from(gateway_key(index));
        let limiter = Arc::new(RateLimiter::new(&PublicKey::from(&private), 1_000_000));
        let zone = PublicKey::from(public(ZONE_KEY));
        Self {
            tunn: Tunn::new(private, zone, None, None, u32::from(index) + 1, Some(limiter)),
            inner: Vec::new(),
            errors: 0,
        }
    }

    /// Takes a datagram and returns what it answers.
    pub(crate) fn receive(&mut self, datagram: &[u8]) -> Vec<Vec<u8>> {
        let mut answers = Vec::new();
        let mut buffer = [0; 2048];
        let mut input = datagram;
        loop {
            match self.tunn.decapsulate(Some(Ipv4Addr::LOCALHOST.into()), input, &mut buffer) {
                TunnResult::WriteToNetwork(message) => answers.push(message.to_vec()),
                TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => {
                    self.inner.push(packet.to_vec());
                    break;
                }
                TunnResult::Done => break,
                TunnResult::Err(_) => {
                    self.errors += 1;
                    break;
                }
            }
            input = &[];
        }
        answers
    }

    /// Encrypts an inner packet.
    pub(crate) fn send(&mut self, packet: &[u8]) -> Vec<u8> {
        let mut buffer = [0; 2048];
        let TunnResult::WriteToNetwork(message) = self.tunn.encapsulate(packet, &mut buffer) else {
            panic!("the gateway has no session and a handshake runs");
        };
        message.to_vec()
    }
}

/// Passes messages to and fro until both are quiet.
pub(crate) fn settle(
    tunnel: &mut Tunnel,
    index: usize,
    remote: &mut Remote,
    now: Duration,
    recorder: &mut Recorder,
) {
    loop {
        let (mine, others): (Vec<_>, Vec<_>) = recorder.peer.drain(..).partition(|(peer, _)| *peer == index);
        recorder.peer = others;
        if mine.is_empty() {
            return;
        }
        for (_, datagram) in mine {
            for answer in remote.receive(&datagram) {
                tunnel.from_peer(index, &answer, now, recorder);
            }
        }
    }
}

/// A tunnel with one peer, and a session with it.
pub(crate) fn established(config: &Config) -> (Tunnel, Remote, Recorder) {
    let mut tunnel = Tunnel::new(config, NOW).unwrap();
    let mut remote = Remote::new(0);
    let mut recorder = Recorder::default();
    tunnel.on_timer(NOW, &mut recorder);
    settle(&mut tunnel, 0, &mut remote, NOW, &mut recorder);
    assert!(tunnel.status(NOW).up, "no session after the handshake");
    (tunnel, remote, recorder)
}

pub(crate) fn frame_to(destination: [u8; 6], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&destination, &ZONE_MAC, ethertype.to_be_bytes().as_slice(), payload].concat()
}

/// An Ethernet frame of the zone with an IP packet for the gateway's Ethernet address.
pub(crate) fn frame(packet: &[u8]) -> Vec<u8> {
    let ethertype = if packet[0] >> 4 == 4 { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 };
    frame_to(GATEWAY_MAC, ethertype, packet)
}

pub(crate) fn udp(
    source: impl Into<IpAddr>,
    destination: impl Into<IpAddr>,
    ports: (u16, u16),
    payload: &[u8],
) -> Vec<u8> {
    let mut packet = Vec::new();
    ip::push_udp(&mut packet, (source.into(), ports.0), (destination.into(), ports.1), payload).unwrap();
    packet
}

/// A packet of exactly this length from the zone to its server.
pub(crate) fn packet_of(length: usize) -> Vec<u8> {
    udp(ZONE_V4, SERVER_V4, (1000, 2000), &vec![0x5a; length - 28])
}

pub(crate) fn send(tunnel: &mut Tunnel, frame: &[u8], now: Duration, recorder: &mut Recorder) {
    tunnel.from_zone(&VnetHeader::default(), frame, now, recorder);
}

/// The bytes that a guest with checksum offload leaves in the checksum field.
pub(crate) fn partial(source: IpAddr, destination: IpAddr, protocol: u8, length: usize) -> [u8; 2] {
    (!bytes::fold(ip::pseudo_header(source, destination, protocol, length))).to_be_bytes()
}
