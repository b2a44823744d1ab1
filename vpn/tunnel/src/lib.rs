//! The tunnel of one zone: Ethernet frames in, WireGuard datagrams out, and back. No I/O.
//!
//! ```text
//!            from_zone                                     to_peer
//!   zone  ------------->  Tunnel                        ------------>  uplink
//!   (Ethernet,            anti-spoof, route by allowed IP,  (WireGuard
//!    virtio-net           segment, pad, encrypt              datagrams per
//!    offloads)            gateway services                   endpoint)
//!         <-------------                                <------------
//!            to_zone                                       from_peer
//! ```
//! Only unicast IP packets from the zone's own address enter the tunnel, each to the peer that owns its destination.
//! Only packets from an address that the sending peer owns, to the zone's own address, leave it. Everything that an
//! Ethernet link needs besides is answered by the gateway services, on the spot. Without a session
//! packets wait in a short queue; there is no other way out.
//!
//! Time is an argument, with one exception: boringtun's retransmission timers read the monotonic clock
//! themselves, and it draws its ephemeral keys from the operating system. The age and message count at which keys are
//! refused are enforced here, by the caller's clock.
//!
//! Nothing that a zone or a peer sends makes this crate panic, allocate without bound, or return an error: it is
//! dropped and counted ([`Drops`]).

#![forbid(unsafe_code)]
#![warn(clippy::indexing_slicing, clippy::panic_in_result_fn)]
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

mod bytes;
mod config;
mod counters;
mod gateway;
mod ip;
mod offload;
mod peer;
mod routes;

use std::time::Duration;

pub use config::{Config, ConfigError, GATEWAY_MAC, GATEWAY_V4, GATEWAY_V6, Limits, MAX_MTU, PeerConfig};
pub use counters::Drops;
pub use offload::{DATA_VALID, VNET_HEADER, VnetHeader};

use bytes::put;
use counters::count;
use gateway::{ETHERNET_HEADER, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Gateway, Outcome};
use offload::OffloadError;
use peer::{Call, Opened, Peer};
use routes::Routes;

/// Room for any inner packet, its padding and what WireGuard adds.
const BUFFER: usize = 2048;

/// Largest frame that a zone may send: a TCP super-packet.
pub const MAX_ZONE_FRAME: usize = ETHERNET_HEADER + 65535;

/// Largest frame that a zone is sent.
pub const MAX_FRAME_TO_ZONE: usize = BUFFER;

/// Time between calls of [`Tunnel::on_timer`] while anything can happen.
const TICK: Duration = Duration::from_secs(1);

/// The same when no peer will do anything until a packet comes.
const IDLE_TICK: Duration = Duration::from_secs(60);

/// Who takes what a tunnel makes. Both sides may drop.
pub trait Sink {
    /// A WireGuard datagram for a peer's endpoint.
    fn to_peer(&mut self, peer: usize, datagram: &[u8]);

    /// An Ethernet frame for the zone.
    fn to_zone(&mut self, trust: Trust, frame: &[u8]);
}

/// What is known of the transport checksum of a frame for the zone. Either way it is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Came through an authenticated tunnel, unchanged: the guest need not check it ([`DATA_VALID`]).
    Vouched,
    /// Made here.
    Unchecked,
}

/// A tunnel's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// A session with at least one peer is valid.
    pub up: bool,
    /// Age of the newest session.
    pub handshake_age: Option<Duration>,
    /// Bytes of inner packets that were handed to encryption.
    pub sent_bytes: u64,
    /// Bytes of inner packets that went on to the zone.
    pub received_bytes: u64,
    /// What was dropped.
    pub drops: Drops,
}

/// One zone's tunnel.
pub struct Tunnel {
    mtu: usize,
    zone_mac: [u8; 6],
    peers: Vec<Peer>,
    routes: Routes,
    gateway: Gateway,
    next_tick: Duration,
    sent_bytes: u64,
    received_bytes: u64,
    drops: Drops,
    /// A packet on its way into encryption.
    plain: Box<[u8; BUFFER]>,
    /// A datagram for a peer.
    sealed: Box<[u8; BUFFER]>,
    /// A frame from a peer: room for an Ethernet header, then the inner packet.
    opened: Box<[u8; BUFFER]>,
}

impl Tunnel {
    /// Makes a tunnel. Nothing is sent before the first [`Tunnel::on_timer`].
    ///
    /// # Errors
    /// [`ConfigError`] names what is wrong with the configuration.
    pub fn new(config: &Config, now: Duration) -> Result<Self, ConfigError> {
        check(config)?;
        let mut routes = Routes::default();
        let mut peers = Vec::with_capacity(config.peers.len());
        let [a, b, c, d, ..] = config.seed;
        let session = u32::from_le_bytes([a, b, c, d]);
        for (index, peer) in config.peers.iter().enumerate() {
            for (address, prefix) in &peer.allowed_ips {
                if !routes.add(*address, *prefix, index) {
                    return Err(ConfigError::AllowedIp { address: *address, prefix: *prefix, peer: index });
                }
            }
            let number = u8::try_from(index).map_err(|_many| ConfigError::Peers(config.peers.len()))?;
            let session = session.wrapping_add(u32::from(number));
            peers.push(Peer::new(config.private_key, peer, number, session, config.limits));
        }
        Ok(Self {
            mtu: usize::from(config.mtu),
            zone_mac: config.zone_mac,
            peers,
            routes,
            gateway: Gateway::new(config),
            next_tick: now,
            sent_bytes: 0,
            received_bytes: 0,
            drops: Drops::default(),
            plain: Box::new([0; BUFFER]),
            sealed: Box::new([0; BUFFER]),
            opened: Box::new([0; BUFFER]),
        })
    }

    /// Takes a frame that the zone sent, with the offloads that it asked for.
    pub fn from_zone(&mut self, offload: &VnetHeader, frame: &[u8], now: Duration, sink: &mut impl Sink) {
        self.catch_up(now, sink);
        let Some((destination, source, ethertype)) = gateway::ethernet(frame) else {
            return count(&mut self.drops.malformed);
        };
        if source != self.zone_mac {
            return count(&mut self.drops.spoofed);
        }
        let Some(packet) = frame.get(ETHERNET_HEADER..) else { return count(&mut self.drops.malformed) };
        match ethertype {
            ETHERTYPE_ARP => {
                let outcome = self.gateway.arp(packet);
                self.act(outcome, now, sink);
            }
            ETHERTYPE_IPV4 | ETHERTYPE_IPV6 => {
                let header = ip::parse(packet)
                    .filter(|header| header.source.is_ipv4() == (ethertype == ETHERTYPE_IPV4));
                let Some(header) = header else { return count(&mut self.drops.malformed) };
                if destination == GATEWAY_MAC && ip::is_routable(header.destination) {
                    self.send_inner(offload, packet, &header, now, sink);
                } else if offload.is_segmented() {
                    count(&mut self.drops.refused);
                } else {
                    let outcome = self.gateway.ip(packet, &header, now);
                    self.act(outcome, now, sink);
                }
            }
            _ => count(&mut self.drops.refused),
        }
    }

    /// Takes a datagram that came from a peer's endpoint.
    pub fn from_peer(&mut self, peer: usize, datagram: &[u8], now: Duration, sink: &mut impl Sink) {
        self.catch_up(now, sink);
        let Some(state) = self.peers.get_mut(peer) else { return count(&mut self.drops.unauthentic) };
        let Some((_, inner)) = self.opened.split_at_mut_checked(ETHERNET_HEADER) else { return };
        let call = Call { now, out: self.sealed.as_mut_slice(), drops: &mut self.drops };
        let opened = state.open(datagram, inner, call, |message| sink.to_peer(peer, message));
        let Opened::Packet(length) = opened else { return };
        let Some(packet) = inner.get(..length) else { return };
        let Some(header) = ip::parse(packet) else { return count(&mut self.drops.foreign) };
        let is_own = self.gateway.link.owns(header.destination) && !self.gateway.link.owns(header.source);
        // The most specific owner decides: a peer with a wide network does not speak for a narrower one of another.
        if !is_own || !ip::is_routable(header.source) || self.routes.owner(header.source) != Some(peer) {
            return count(&mut self.drops.foreign);
        }
        self.received_bytes = self.received_bytes.saturating_add(u64::try_from(length).unwrap_or_default());
        if self.gateway.intercept(packet, &header, now) {
            return sink.to_zone(Trust::Unchecked, &self.gateway.out);
        }
        let ethertype = if header.source.is_ipv4() { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 };
        let frame = self.opened.as_mut_slice();
        let written = put(frame, 0, &self.zone_mac)
            .and_then(|()| put(frame, 6, &GATEWAY_MAC))
            .and_then(|()| put(frame, 12, &ethertype.to_be_bytes()));
        let end = ETHERNET_HEADER.saturating_add(header.total_len);
        if let (Some(()), Some(frame)) = (written, frame.get(..end)) {
            sink.to_zone(Trust::Vouched, frame);
        }
    }

    /// Does what is due by time. Call it at [`Tunnel::next_timer`], or earlier.
    pub fn on_timer(&mut self, now: Duration, sink: &mut impl Sink) {
        for (index, peer) in self.peers.iter_mut().enumerate() {
            peer.tick(now, self.sealed.as_mut_slice(), |message| sink.to_peer(index, message));
        }
        if self.gateway.tick(now) == Outcome::Reply {
            sink.to_zone(Trust::Unchecked, &self.gateway.out);
        }
        let idle = self.peers.iter().all(Peer::is_idle);
        self.next_tick = now.saturating_add(if idle { IDLE_TICK } else { TICK });
    }

    /// When [`Tunnel::on_timer`] is due.
    #[must_use]
    pub fn next_timer(&self) -> Duration {
        self.next_tick
    }

    /// The tunnel's state.
    #[must_use]
    pub fn status(&self, now: Duration) -> Status {
        let newest = self.peers.iter().filter_map(|peer| peer.established(now)).max();
        Status {
            up: newest.is_some(),
            handshake_age: newest.map(|established| now.saturating_sub(established)),
            sent_bytes: self.sent_bytes,
            received_bytes: self.received_bytes,
            drops: self.drops,
        }
    }

    /// boringtun dates what it does by its last tick: after a pause it needs one before a packet.
    fn catch_up(&mut self, now: Duration, sink: &mut impl Sink) {
        let idle = self.next_tick.saturating_sub(now) > TICK;
        if now >= self.next_tick || idle {
            self.on_timer(now, sink);
            // The packet that follows may have work done within a second.
            self.next_tick = now.saturating_add(TICK);
        }
    }

    /// Sends what a gateway service made.
    fn act(&mut self, outcome: Outcome, now: Duration, sink: &mut impl Sink) {
        match outcome {
            Outcome::Reply => sink.to_zone(Trust::Unchecked, &self.gateway.out),
            Outcome::Refused => count(&mut self.drops.refused),
            Outcome::IntoTunnel => {
                let packet = std::mem::take(&mut self.gateway.out);
                if let Some(header) = ip::parse(&packet) {
                    self.send_inner(&VnetHeader::default(), &packet, &header, now, sink);
                }
                self.gateway.out = packet;
            }
        }
    }

    /// Encrypts a packet for the peer that owns its destination.
    fn send_inner(
        &mut self,
        offload: &VnetHeader,
        packet: &[u8],
        header: &ip::Header,
        now: Duration,
        sink: &mut impl Sink,
    ) {
        if !self.gateway.link.owns(header.source) {
            return count(&mut self.drops.spoofed);
        }
        // To itself the zone needs no tunnel.
        let owner =
            self.routes.owner(header.destination).filter(|_| !self.gateway.link.owns(header.destination));
        let Some((index, peer)) = owner.and_then(|index| Some((index, self.peers.get_mut(index)?))) else {
            return count(&mut self.drops.no_route);
        };
        let (mtu, sealed, drops, sent) = (self.mtu, &mut self.sealed, &mut self.drops, &mut self.sent_bytes);
        let plain = self.plain.as_mut_slice();
        let result =
            offload::packets(offload, ETHERNET_HEADER, packet, header, mtu, plain, |plain, length| {
                *sent = sent.saturating_add(u64::try_from(length).unwrap_or_default());
                let call = Call { now, out: sealed.as_mut_slice(), drops };
                peer.seal(plain, length, mtu, call, |message| sink.to_peer(index, message));
            });
        match result {
            Ok(()) => {}
            Err(OffloadError::Malformed) => count(&mut self.drops.malformed),
            Err(OffloadError::TooLarge) => {
                count(&mut self.drops.too_large);
                if self.gateway.too_big(packet, header) == Outcome::Reply {
                    sink.to_zone(Trust::Unchecked, &self.gateway.out);
                }
            }
        }
    }
}

/// Checks what does not concern a single peer.
fn check(config: &Config) -> Result<(), ConfigError> {
    let v4 = config.addresses.iter().filter(|address| address.is_ipv4()).count();
    let v6 = config.addresses.len().saturating_sub(v4);
    if config.addresses.is_empty() || v4 > 1 || v6 > 1 {
        return Err(ConfigError::Addresses);
    }
    if let Some(address) = config.addresses.iter().find(|address| !ip::is_routable(**address)) {
        return Err(ConfigError::ZoneAddress(*address));
    }
    let least = if v6 > 0 { 1280 } else { 576 };
    if config.mtu < least || config.mtu > MAX_MTU {
        return Err(ConfigError::Mtu { found: config.mtu, least });
    }
    if config.peers.is_empty() || config.peers.len() > usize::from(u8::MAX) {
        return Err(ConfigError::Peers(config.peers.len()));
    }
    let [first, ..] = config.zone_mac;
    if first & 1 != 0 || config.zone_mac == GATEWAY_MAC {
        return Err(ConfigError::ZoneMac);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
