//! The uplink as one state machine; see the crate's header for what it promises.
//!
//! Whoever drives it calls [`Uplink::poll`] after each batch of input and at [`Uplink::deadline`], then sends
//! what [`Uplink::next_frame`] gives. [`Uplink::receive`] and [`Uplink::send`] are the tunnels' paths in and
//! out.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddrV4};

use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{ArpOperation, EthernetAddress, EthernetFrame};
use vpn_protocol::{Endpoint, FromUplink, datagram};

use crate::egress::{Gate, Kind};
use crate::frame::{Datagram, Route, build_arp_request, build_datagram, parse_arp, parse_datagram};
use crate::lease::Lease;
use crate::names::Names;
use crate::neighbours::Neighbours;
use crate::stack::{LeaseEvent, Stack};
use crate::tunnels::{AddTunnelError, Tunnels};

/// The most frames that wait for [`Uplink::next_frame`]; more are dropped.
const OUT: usize = 256;

/// The pause before DHCP starts again when the server's answer could not be used.
const UNUSABLE_PAUSE: Duration = Duration::from_secs(10);

/// DHCP frames that may leave in a burst, and the pause for each further one: smoltcp answers a server that
/// grants leases of no length at once, for ever.
const DHCP_BURST: u8 = 4;
const DHCP_PAUSE: Duration = Duration::from_secs(2);

/// How often one [`Uplink::poll`] goes round: each round needs an answer of the one before.
const ROUNDS: usize = 4;

/// What happened to frames and datagrams that went nowhere, and to the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams handed to a tunnel.
    pub delivered: u64,
    /// Datagrams of tunnels that left.
    pub sent: u64,
    /// Frames that are of no concern to us.
    pub ignored: u64,
    /// Datagrams to a tunnel's port from elsewhere than its endpoints.
    pub foreign: u64,
    /// A tunnel's packets that are none, or name no endpoint of it.
    pub malformed: u64,
    /// A tunnel's datagrams with nowhere to go: no lease, name not resolved, no route, no neighbour.
    pub unsendable: u64,
    /// Frames for which a queue had no room.
    pub overflowed: u64,
    /// Frames of our own making that the gate kept.
    pub refused: u64,
}

/// A datagram for a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery<'a> {
    /// The tunnel's number.
    pub tunnel: u32,
    /// Index of the endpoint that it came from.
    pub endpoint: u8,
    /// What it carries; 1..=[`datagram::MAX_PAYLOAD`] bytes.
    pub payload: &'a [u8],
}

/// The owner of the NIC, without the NIC.
pub struct Uplink {
    mac: EthernetAddress,
    carrier: bool,
    stack: Stack,
    lease: Option<Lease>,
    restart_dhcp_at: Option<Instant>,
    names: Names,
    neighbours: Neighbours,
    tunnels: Tunnels,
    dhcp_budget: (u8, Instant),
    out: VecDeque<Vec<u8>>,
    scratch: Vec<u8>,
    identification: u16,
    counters: Counters,
}

impl Uplink {
    /// `seed` decides DHCP and DNS transaction numbers and DNS source ports: it must be unpredictable.
    /// `None` when `mac` is no unicast address.
    #[must_use]
    pub fn new(mac: [u8; 6], seed: u64, now: Instant) -> Option<Self> {
        let mac = EthernetAddress(mac);
        (mac.is_unicast() && mac != EthernetAddress([0; 6])).then(|| Self {
            mac,
            carrier: true,
            stack: Stack::new(mac, seed, now),
            lease: None,
            restart_dhcp_at: None,
            names: Names::default(),
            neighbours: Neighbours::default(),
            tunnels: Tunnels::default(),
            dhcp_budget: (DHCP_BURST, now),
            out: VecDeque::new(),
            scratch: Vec::new(),
            identification: u16::from_ne_bytes([seed.to_ne_bytes()[2], seed.to_ne_bytes()[5]]),
            counters: Counters::default(),
        })
    }

    /// Carries a tunnel from now on, in place of one with the same number; `random` decides its source port.
    ///
    /// # Errors
    /// [`AddTunnelError`]; a tunnel with the same number may be gone then.
    pub fn add_tunnel(
        &mut self,
        tunnel: u32,
        endpoints: Vec<Endpoint>,
        random: u16,
    ) -> Result<(), AddTunnelError> {
        self.tunnels.add(tunnel, endpoints, random)
    }

    /// Forgets a tunnel.
    pub fn remove_tunnel(&mut self, tunnel: u32) {
        self.tunnels.remove(tunnel);
    }

    /// The NIC got or lost its carrier. With a new carrier the network may be another one: the lease is given
    /// up and asked for again.
    pub fn set_carrier(&mut self, carrier: bool) {
        if carrier && !self.carrier {
            self.stack.restart_dhcp();
        }
        self.carrier = carrier;
    }

    /// What `zoned` is told.
    #[must_use]
    pub fn state(&self) -> FromUplink {
        FromUplink {
            carrier: self.carrier,
            address: self
                .lease
                .as_ref()
                .map(|lease| (IpAddr::V4(lease.address.address()), lease.address.prefix_len())),
            tunnels: self
                .tunnels
                .iter()
                .map(|(number, tunnel)| (number, tunnel.endpoints.iter().map(|place| place.at).collect()))
                .collect(),
        }
    }

    /// The present lease.
    #[must_use]
    pub fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }

    /// What was counted since the start.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// A frame arrived. Returns the datagram in it when it is for a tunnel.
    pub fn receive<'a>(&mut self, now: Instant, frame: &'a [u8]) -> Option<Delivery<'a>> {
        let ethernet = EthernetFrame::new_checked(frame).ok()?;
        let for_us = ethernet.dst_addr() == self.mac;
        // A packet socket also shows what we sent ourselves, unless it was told not to.
        if ethernet.src_addr() == self.mac || !(for_us || ethernet.dst_addr().is_broadcast()) {
            self.counters.ignored = self.counters.ignored.wrapping_add(1);
            return None;
        }
        if let Some(datagram) = parse_datagram(frame) {
            if for_us && let Some(delivery) = self.deliver(&datagram) {
                return delivery;
            }
            if self.concerns_stack(&datagram) {
                self.push(frame);
                return None;
            }
        } else if let (Some(arp), Some(lease)) = (parse_arp(frame), &self.lease)
            && arp.target == lease.address.address()
            && lease.address.contains_addr(&arp.source)
            && lease.is_host(arp.source)
        {
            if arp.operation == ArpOperation::Reply && for_us && arp.target_mac == self.mac {
                self.neighbours.answer(now, arp.source, arp.source_mac);
            }
            self.push(frame);
            return None;
        }
        self.counters.ignored = self.counters.ignored.wrapping_add(1);
        None
    }

    /// A tunnel's packet (see [`vpn_protocol::datagram`]) is to be sent. Returns the frame to send at once;
    /// `None` when the packet was dropped or, once per endpoint, waits for its way.
    pub fn send(&mut self, now: Instant, tunnel: u32, packet: &[u8]) -> Option<&[u8]> {
        let Some((index, payload)) = datagram::parse(packet) else {
            self.counters.malformed = self.counters.malformed.wrapping_add(1);
            return None;
        };
        let Some(place) = self.tunnels.get_mut(tunnel).and_then(|tunnel| tunnel.endpoints.get(index)) else {
            self.counters.malformed = self.counters.malformed.wrapping_add(1);
            return None;
        };
        let to = place.at_v4();
        if self.build(now, tunnel, to, payload) {
            self.counters.sent = self.counters.sent.wrapping_add(1);
            return Some(&self.scratch);
        }
        let place = self.tunnels.get_mut(tunnel).and_then(|tunnel| tunnel.endpoints.get_mut(index))?;
        if place.hold(now, payload) {
            self.counters.unsendable = self.counters.unsendable.wrapping_add(1);
        }
        None
    }

    /// Works through timers and received frames.
    pub fn poll(&mut self, now: Instant) {
        if self.restart_dhcp_at.is_some_and(|at| at <= now) {
            self.restart_dhcp_at = None;
            self.stack.restart_dhcp();
        }
        for _ in 0..ROUNDS {
            let event = self.stack.poll(now);
            let changed = event.is_some();
            match event {
                Some(LeaseEvent::Configured(config)) => self.take_lease(now, Lease::from_dhcp(&config)),
                Some(LeaseEvent::Lost) => self.set_lease(now, None),
                None => {}
            }
            let wanted = self
                .tunnels
                .iter()
                .flat_map(|(_, tunnel)| &tunnel.endpoints)
                .filter_map(|place| place.name.clone());
            let wanted: BTreeSet<String> = wanted.collect();
            self.names.want(now, &mut self.stack, &wanted);
            let asked = self.names.poll(now, &mut self.stack);
            if !changed && !asked {
                break;
            }
        }
        for place in self.tunnels.iter_mut().flat_map(|(_, tunnel)| &mut tunnel.endpoints) {
            place.resolve(|name| self.names.get(name));
        }
        self.keep_neighbours(now);
        self.release(now);
        while let Some(frame) = self.stack.pop() {
            self.emit(now, frame);
        }
    }

    /// The next frame to send.
    pub fn next_frame(&mut self) -> Option<Vec<u8>> {
        self.out.pop_front()
    }

    /// When [`Uplink::poll`] must be called next, if nothing arrives before.
    pub fn deadline(&mut self, now: Instant) -> Option<Instant> {
        let deadlines = [
            self.stack.deadline(now),
            self.names.deadline(),
            self.lease.as_ref().and_then(|_| self.neighbours.deadline()),
            self.restart_dhcp_at,
        ];
        deadlines.into_iter().flatten().min()
    }

    /// `Some` when the datagram is to a tunnel's port: with the delivery, or `None` when it is foreign.
    #[expect(clippy::option_option, reason = "outer: whose it is, inner: whether it may pass")]
    fn deliver<'a>(&mut self, datagram: &Datagram<'a>) -> Option<Option<Delivery<'a>>> {
        let lease = self.lease.as_ref()?;
        if *datagram.destination.ip() != lease.address.address() {
            return None;
        }
        let (tunnel, places) = self.tunnels.by_port(datagram.destination.port())?;
        let from = places.endpoints.iter().position(|place| place.at_v4() == Some(datagram.source));
        let fits = (1..=datagram::MAX_PAYLOAD).contains(&datagram.payload.len());
        match from.and_then(|index| u8::try_from(index).ok()) {
            Some(endpoint) if fits => {
                self.counters.delivered = self.counters.delivered.wrapping_add(1);
                Some(Some(Delivery { tunnel, endpoint, payload: datagram.payload }))
            }
            Some(_) | None => {
                self.counters.foreign = self.counters.foreign.wrapping_add(1);
                Some(None)
            }
        }
    }

    /// Whether a datagram looks like an answer to our DHCP or DNS.
    fn concerns_stack(&self, datagram: &Datagram<'_>) -> bool {
        let from = *datagram.source.ip();
        let unicast =
            !(from.is_unspecified() || from.is_broadcast() || from.is_multicast() || from.is_loopback());
        match (datagram.source.port(), datagram.destination.port()) {
            (67, 68) => unicast,
            (53, _) => self.lease.as_ref().is_some_and(|lease| {
                *datagram.destination.ip() == lease.address.address() && lease.dns.contains(&from)
            }),
            _ => false,
        }
    }

    fn push(&mut self, frame: &[u8]) {
        if !self.stack.push(frame) {
            self.counters.overflowed = self.counters.overflowed.wrapping_add(1);
        }
    }

    fn take_lease(&mut self, now: Instant, lease: Option<Lease>) {
        if lease.is_none() {
            self.restart_dhcp_at = Some(now + UNUSABLE_PAUSE);
        }
        self.set_lease(now, lease);
    }

    /// Everything that was learnt on the last network goes with its lease.
    fn set_lease(&mut self, now: Instant, lease: Option<Lease>) {
        self.stack.configure(lease.as_ref());
        self.names.use_servers(
            now,
            &mut self.stack,
            lease.as_ref().map_or(&[], |lease| lease.dns.as_slice()),
        );
        self.neighbours = Neighbours::default();
        self.lease = lease;
    }

    fn keep_neighbours(&mut self, now: Instant) {
        let Some(lease) = &self.lease else {
            return;
        };
        let places = self.tunnels.iter().flat_map(|(_, tunnel)| &tunnel.endpoints);
        let wanted: BTreeSet<_> =
            places.filter_map(|place| place.at_v4()).filter_map(|to| lease.next_hop(*to.ip())).collect();
        self.neighbours.want(now, &wanted);
        let own = lease.address.address();
        for target in self.neighbours.due(now) {
            self.emit(now, build_arp_request(self.mac, own, target));
        }
    }

    /// Sends what waited for its way and has one now, and drops what waited too long.
    fn release(&mut self, now: Instant) {
        let mut ready = Vec::new();
        for (number, tunnel) in self.tunnels.iter_mut() {
            for place in &mut tunnel.endpoints {
                if place.drop_stale(now) {
                    self.counters.unsendable = self.counters.unsendable.wrapping_add(1);
                }
                let to = place.at_v4();
                if to.is_some_and(|to| hop(now, self.lease.as_ref(), &self.neighbours, to).is_some())
                    && let Some(payload) = place.take_held()
                {
                    ready.push((number, to, payload));
                }
            }
        }
        for (number, to, payload) in ready {
            if self.build(now, number, to, &payload) {
                self.counters.sent = self.counters.sent.wrapping_add(1);
                let frame = std::mem::take(&mut self.scratch);
                self.enqueue(frame);
            }
        }
    }

    /// Makes the frame in `scratch`; `false` when there is no way yet, or the gate keeps it.
    fn build(&mut self, now: Instant, tunnel: u32, to: Option<SocketAddrV4>, payload: &[u8]) -> bool {
        let (Some(to), Some(lease)) = (to, &self.lease) else {
            return false;
        };
        let Some(destination_mac) = hop(now, Some(lease), &self.neighbours, to) else {
            return false;
        };
        let own = lease.address.address();
        let Some(port) = self.tunnels.get_mut(tunnel).map(|tunnel| tunnel.port) else {
            return false;
        };
        let route = Route {
            source_mac: self.mac,
            destination_mac,
            source: SocketAddrV4::new(own, port),
            destination: to,
        };
        self.identification = self.identification.wrapping_add(1);
        let mut frame = std::mem::take(&mut self.scratch);
        let built = build_datagram(&mut frame, &route, self.identification, payload)
            && self.judge(&frame) == Some(Kind::Tunnel);
        self.scratch = frame;
        built
    }

    fn emit(&mut self, now: Instant, frame: Vec<u8>) {
        match self.judge(&frame) {
            Some(Kind::Dhcp) if !self.spend_dhcp(now) => {
                self.counters.overflowed = self.counters.overflowed.wrapping_add(1);
            }
            Some(_) => self.enqueue(frame),
            None => {}
        }
    }

    fn spend_dhcp(&mut self, now: Instant) -> bool {
        let (mut budget, mut since) = self.dhcp_budget;
        while budget < DHCP_BURST && since + DHCP_PAUSE <= now {
            budget = budget.saturating_add(1);
            since += DHCP_PAUSE;
        }
        if budget == DHCP_BURST {
            since = now;
        }
        let rest = budget.checked_sub(1);
        self.dhcp_budget = (rest.unwrap_or(0), since);
        rest.is_some()
    }

    fn enqueue(&mut self, frame: Vec<u8>) {
        if self.out.len() < OUT {
            self.out.push_back(frame);
        } else {
            self.counters.overflowed = self.counters.overflowed.wrapping_add(1);
        }
    }

    fn judge(&mut self, frame: &[u8]) -> Option<Kind> {
        let gate =
            Gate { mac: self.mac, lease: self.lease.as_ref(), names: &self.names, tunnels: &self.tunnels };
        let kind = gate.judge(frame);
        if kind.is_none() {
            self.counters.refused = self.counters.refused.wrapping_add(1);
        }
        kind
    }
}

/// The MAC address to which a datagram for `to` is handed.
fn hop(
    now: Instant,
    lease: Option<&Lease>,
    neighbours: &Neighbours,
    to: SocketAddrV4,
) -> Option<EthernetAddress> {
    neighbours.get(now, lease?.next_hop(*to.ip())?)
}
