//! The state machine against the scripted LAN, in simulated time; every emitted frame is judged.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

use proptest::prelude::*;
use uplink::{Duration, Instant, Uplink};
use vpn_protocol::{Endpoint, Host};

use crate::lan::{HOST, Lan, MAC, ROUTER, arp_frame, ethernet, ip, udp, udp_frame};
use crate::observer::{Observer, Seen};

const OURS: [u8; 6] = [0x52, 0x54, 0, 0xab, 0xcd, 0xef];
const OFFICE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 10), 51820);
const NEIGHBOUR: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 168, 77, 9), 4500);
const EVERYBODY: [u8; 6] = [255; 6];

struct Simulation {
    uplink: Uplink,
    lan: Lan,
    observer: Observer,
    now: Instant,
    seen: Vec<(Instant, Seen, Vec<u8>)>,
    delivered: Vec<(u32, u8, Vec<u8>)>,
}

impl Simulation {
    /// Tunnel 1 goes to `OFFICE` by name, tunnel 2 to `NEIGHBOUR` by address.
    fn new() -> Self {
        let now = Instant::from_secs(1000);
        let mut lan = Lan::default();
        lan.names.insert("office.gateway.example".to_owned(), (*OFFICE.ip()).into());
        let mut uplink = Uplink::new(OURS, 7, now).unwrap();
        uplink.add_tunnel(1, vec![by_name("Office.Gateway.example", 51820)], 4).unwrap();
        uplink.add_tunnel(2, vec![by_address(NEIGHBOUR)], 4).unwrap();
        let observer = Observer {
            mac: OURS,
            address: HOST,
            servers: vec![ROUTER],
            names: vec!["office.gateway.example".to_owned()],
            endpoints: vec![OFFICE, NEIGHBOUR],
        };
        Self { uplink, lan, observer, now, seen: Vec::new(), delivered: Vec::new() }
    }

    fn running() -> Self {
        let mut simulation = Self::new();
        simulation.run(2);
        assert_eq!(simulation.uplink.state().tunnels[0].1, [Some(SocketAddr::V4(OFFICE))]);
        simulation.seen.clear();
        simulation
    }

    fn receive(&mut self, frame: &[u8]) {
        if let Some(delivery) = self.uplink.receive(self.now, frame) {
            self.delivered.push((delivery.tunnel, delivery.endpoint, delivery.payload.to_vec()));
        }
    }

    fn emit(&mut self, frame: Vec<u8>) {
        let seen = match self.observer.judge(&frame) {
            Ok(seen) => seen,
            Err(reason) => panic!("leak at {}: {reason}: {frame:02x?}", self.now),
        };
        for answer in self.lan.answer(&frame) {
            self.receive(&answer);
        }
        self.seen.push((self.now, seen, frame));
    }

    /// Polls until nothing more leaves.
    fn settle(&mut self) {
        for _ in 0..100 {
            self.uplink.poll(self.now);
            let mut frames = Vec::new();
            while let Some(frame) = self.uplink.next_frame() {
                frames.push(frame);
            }
            if frames.is_empty() {
                return;
            }
            for frame in frames {
                self.emit(frame);
            }
        }
        panic!("the uplink never comes to rest");
    }

    fn run(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        let mut steps = 0;
        loop {
            self.settle();
            let next = self.uplink.deadline(self.now).unwrap_or(end);
            if next >= end {
                break;
            }
            self.now = next.max(self.now + Duration::from_micros(1));
            steps += 1;
            assert!(steps < 100 + 20 * seconds, "the uplink wakes up without end");
        }
        self.now = end;
        self.settle();
    }

    fn send(&mut self, tunnel: u32, payload: &[u8]) -> bool {
        let packet = [&[0], payload].concat();
        let frame = self.uplink.send(self.now, tunnel, &packet).map(<[u8]>::to_vec);
        let sent = frame.is_some();
        if let Some(frame) = frame {
            self.emit(frame);
        }
        sent
    }

    fn kinds(&self) -> Vec<Seen> {
        self.seen.iter().map(|(_, seen, _)| *seen).collect()
    }

    /// Sends a datagram and tells from which address it left.
    fn port(&mut self, tunnel: u32) -> SocketAddrV4 {
        assert!(self.send(tunnel, b"which port"));
        self.delivered.clear();
        udp(&self.seen.last().unwrap().2).unwrap().from
    }
}

fn by_name(name: &str, port: u16) -> Endpoint {
    Endpoint { host: Host::Name(name.to_owned()), port }
}

fn by_address(at: SocketAddrV4) -> Endpoint {
    Endpoint { host: Host::Address(IpAddr::V4(*at.ip())), port: at.port() }
}

#[test]
fn lease_names_and_datagrams_both_ways() {
    let mut simulation = Simulation::new();
    simulation.run(2);
    let state = simulation.uplink.state();
    assert_eq!(state.address, Some((IpAddr::V4(HOST), 24)));
    assert_eq!(
        state.tunnels,
        [(1, vec![Some(SocketAddr::V4(OFFICE))]), (2, vec![Some(SocketAddr::V4(NEIGHBOUR))])]
    );
    assert!(simulation.send(1, b"hello"));
    assert!(simulation.send(2, b"abc"));
    assert_eq!(simulation.delivered, [(1, 0, b"olleh".to_vec()), (2, 0, b"cba".to_vec())]);
    let largest = vec![7; 1472];
    assert!(simulation.send(1, &largest));
    assert_eq!(simulation.seen.last().unwrap().2.len(), 1514);
    assert_eq!(simulation.delivered.last().unwrap().2, largest);
    let counters = simulation.uplink.counters();
    assert_eq!((counters.refused, counters.sent, counters.delivered), (0, 3, 3));
    for kind in [Seen::Dhcp, Seen::ArpRequest, Seen::Dns, Seen::Tunnel] {
        assert!(simulation.kinds().contains(&kind), "{kind:?} was never seen");
    }
}

#[test]
fn tunnels_leave_from_ports_of_their_own() {
    let mut simulation = Simulation::running();
    let (one, two) = (simulation.port(1), simulation.port(2));
    assert_ne!(one, two);
    assert!(one.port() >= 32768 && two.port() >= 32768);
}

#[test]
fn datagrams_from_elsewhere_are_not_delivered() {
    let mut simulation = Simulation::running();
    let one = simulation.port(1);
    let other_address = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 11), OFFICE.port());
    let other_port = SocketAddrV4::new(*OFFICE.ip(), OFFICE.port() + 1);
    let other_host = SocketAddrV4::new(Ipv4Addr::new(192, 168, 77, 21), one.port());
    let other_service = SocketAddrV4::new(*one.ip(), one.port() + 100);
    let mut fragment = udp_frame(OURS, OFFICE, one, b"fragment");
    fragment[20] = 0x20;
    let mut wrong_sum = udp_frame(OURS, OFFICE, one, b"sum");
    wrong_sum[24] ^= 1;
    for frame in [
        udp_frame(OURS, other_address, one, b"x"),
        udp_frame(OURS, other_port, one, b"x"),
        udp_frame(OURS, NEIGHBOUR, one, b"the other tunnel's endpoint"),
        udp_frame(OURS, OFFICE, other_host, b"x"),
        udp_frame(OURS, OFFICE, other_service, b"x"),
        udp_frame(EVERYBODY, OFFICE, one, b"x"),
        udp_frame([2; 6], OFFICE, one, b"x"),
        udp_frame(OURS, OFFICE, one, b""),
        fragment,
        wrong_sum,
    ] {
        simulation.receive(&frame);
    }
    assert_eq!(simulation.delivered, []);
    assert_eq!(simulation.uplink.counters().foreign, 4);
    simulation.receive(&udp_frame(OURS, OFFICE, one, b"right"));
    assert_eq!(simulation.delivered, [(1, 0, b"right".to_vec())]);
}

#[test]
fn a_removed_tunnel_is_deaf_and_mute() {
    let mut simulation = Simulation::running();
    let one = simulation.port(1);
    simulation.uplink.remove_tunnel(1);
    simulation.receive(&udp_frame(OURS, OFFICE, one, b"late"));
    assert!(!simulation.send(1, b"late"));
    simulation.run(700);
    assert_eq!(simulation.delivered, []);
    assert!(!simulation.kinds()[1..].iter().any(|kind| matches!(kind, Seen::Dns | Seen::Tunnel)));
}

#[test]
fn nothing_on_the_lan_makes_the_uplink_speak() {
    let mut simulation = Simulation::running();
    let stranger = SocketAddrV4::new(Ipv4Addr::new(192, 168, 77, 66), 1234);
    let echo = [8, 0, 0xf7, 0xff, 0, 0, 0, 0];
    let syn = [0x30, 0x39, 0, 22, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 4, 0, 0, 0, 0, 0];
    let igmp = [0x11, 0, 0xee, 0xff, 0, 0, 0, 0];
    let all = Ipv4Addr::new(224, 0, 0, 1);
    let mut frames = vec![
        ethernet(OURS, MAC, 0x0800, &ip(1, ROUTER, HOST, &echo)),
        ethernet(EVERYBODY, MAC, 0x0800, &ip(1, ROUTER, Ipv4Addr::BROADCAST, &echo)),
        ethernet(OURS, MAC, 0x0800, &ip(6, ROUTER, HOST, &syn)),
        ethernet([1, 0, 0x5e, 0, 0, 1], MAC, 0x0800, &ip(2, ROUTER, all, &igmp)),
        ethernet([0x33, 0x33, 0, 0, 0, 1], MAC, 0x86dd, &[0x60; 80]),
        ethernet(OURS, MAC, 0x86dd, &[0x60; 80]),
        ethernet(OURS, MAC, 0x888e, &[1; 40]),
        arp_frame(1, (MAC, ROUTER), ([0; 6], Ipv4Addr::new(192, 168, 77, 21)), EVERYBODY),
        arp_frame(2, (MAC, ROUTER), (EVERYBODY, ROUTER), EVERYBODY),
        arp_frame(1, (MAC, Ipv4Addr::new(10, 0, 0, 1)), ([0; 6], HOST), EVERYBODY),
    ];
    for port in [7, 53, 67, 68, 123, 137, 1900, 5353, 33434, 51820] {
        frames.push(udp_frame(OURS, stranger, SocketAddrV4::new(HOST, port), b"anybody there?"));
        frames.push(udp_frame(EVERYBODY, stranger, SocketAddrV4::new(Ipv4Addr::BROADCAST, port), b"?"));
        frames.push(udp_frame(OURS, SocketAddrV4::new(ROUTER, 67), SocketAddrV4::new(HOST, port), b"?"));
    }
    for frame in &frames {
        simulation.receive(frame);
        simulation.settle();
    }
    assert_eq!(simulation.kinds(), []);
    assert_eq!((simulation.uplink.counters().refused, &simulation.delivered[..]), (0, &[][..]));

    simulation.receive(&arp_frame(1, (MAC, ROUTER), ([0; 6], HOST), EVERYBODY));
    simulation.settle();
    assert_eq!(simulation.kinds(), [Seen::ArpReply]);
}

#[test]
fn a_dns_answer_to_a_closed_port_draws_no_error() {
    let mut simulation = Simulation::running();
    simulation.receive(&udp_frame(
        OURS,
        SocketAddrV4::new(ROUTER, 53),
        SocketAddrV4::new(HOST, 2000),
        &[0; 40],
    ));
    simulation.settle();
    assert_eq!(simulation.kinds(), []);
}

#[test]
fn the_lease_is_renewed_without_a_gap() {
    let mut simulation = Simulation::new();
    simulation.lan.lease_seconds = 120;
    simulation.run(2);
    simulation.seen.clear();
    for _ in 0..60 {
        simulation.run(30);
        assert!(simulation.send(1, b"still here"));
        assert_eq!(simulation.delivered.pop().unwrap().2, b"ereh llits");
    }
    let requests = simulation.kinds().into_iter().filter(|&kind| kind == Seen::Dhcp).count();
    assert!((15..=60).contains(&requests), "{requests} renewals in 1800 s of 120 s leases");
    assert_eq!(simulation.uplink.counters().refused, 0);
}

#[test]
fn without_a_lease_nothing_but_dhcp_leaves() {
    let mut simulation = Simulation::new();
    simulation.lan.lease_seconds = 120;
    simulation.run(2);
    simulation.lan.dhcp = false;
    let expiry = simulation.now + Duration::from_secs(120);
    simulation.run(119);
    assert!(simulation.uplink.lease().is_none(), "the lease outlived its time");
    simulation.seen.clear();
    for _ in 0..30 {
        assert!(!simulation.send(1, b"into the void"));
        assert!(!simulation.send(2, b"into the void"));
        simulation.receive(&arp_frame(1, (MAC, ROUTER), ([0; 6], HOST), EVERYBODY));
        simulation.run(20);
    }
    assert!(simulation.now > expiry);
    assert!(simulation.seen.len() > 10, "DHCP goes on asking");
    assert!(simulation.kinds().into_iter().all(|kind| kind == Seen::Dhcp));
    let state = simulation.uplink.state();
    assert_eq!((state.address, &state.tunnels[0].1[..]), (None, &[None][..]));
    assert!(simulation.uplink.counters().unsendable >= 58);

    simulation.lan.dhcp = true;
    simulation.run(10);
    assert!(simulation.send(1, b"back"));
}

#[test]
fn a_new_carrier_asks_for_a_new_lease() {
    let mut simulation = Simulation::running();
    simulation.uplink.set_carrier(false);
    assert!(!simulation.uplink.state().carrier);
    simulation.lan.address = Ipv4Addr::new(192, 168, 77, 40);
    simulation.observer.address = Ipv4Addr::new(192, 168, 77, 40);
    simulation.uplink.set_carrier(true);
    simulation.run(2);
    assert_eq!(simulation.uplink.state().address, Some((IpAddr::V4(simulation.lan.address), 24)));
    assert!(simulation.send(1, b"from the new address"));
}

#[test]
fn a_datagram_that_comes_too_early_waits_for_its_way_alone() {
    let mut simulation = Simulation::new();
    for text in ["first", "second", "third"] {
        assert!(!simulation.send(1, text.as_bytes()));
    }
    simulation.run(2);
    assert_eq!(simulation.delivered, [(1, 0, b"driht".to_vec())]);
    assert_eq!(simulation.uplink.counters().unsendable, 2);

    let mut simulation = Simulation::new();
    simulation.lan.dhcp = false;
    assert!(!simulation.send(1, b"stale"));
    simulation.run(6);
    simulation.lan.dhcp = true;
    simulation.run(10);
    assert_eq!(simulation.delivered, []);
}

#[test]
fn without_a_neighbour_datagrams_are_dropped() {
    let mut simulation = Simulation::new();
    simulation.lan.arp = false;
    simulation.run(60);
    for _ in 0..1000 {
        assert!(!simulation.send(2, b"nobody home"));
    }
    assert_eq!(simulation.uplink.counters().unsendable, 999);
    let requests = simulation.kinds().into_iter().filter(|&kind| kind == Seen::ArpRequest).count();
    assert!((10..200).contains(&requests), "{requests} ARP requests in a minute");
}

#[test]
fn an_arp_reply_that_was_not_asked_for_changes_nothing() {
    let mut simulation = Simulation::running();
    let thief = [0x66; 6];
    simulation.receive(&arp_frame(2, (thief, ROUTER), (OURS, HOST), OURS));
    simulation.settle();
    assert!(simulation.send(1, b"x"));
    assert_eq!(simulation.seen.last().unwrap().2[..6], MAC);
}

#[test]
fn a_name_is_asked_again_until_it_is_there_and_now_and_then_after() {
    let mut simulation = Simulation::new();
    let address = simulation.lan.names.remove("office.gateway.example").unwrap();
    simulation.run(30);
    assert_eq!(simulation.uplink.state().tunnels[0].1, [None]);
    simulation.lan.names.insert("office.gateway.example".to_owned(), address);
    simulation.run(61);
    assert_eq!(simulation.uplink.state().tunnels[0].1, [Some(SocketAddr::V4(OFFICE))]);

    let moved = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 99), 51820);
    simulation.lan.names.insert("office.gateway.example".to_owned(), (*moved.ip()).into());
    simulation.observer.endpoints.push(moved);
    simulation.run(301);
    assert_eq!(simulation.uplink.state().tunnels[0].1, [Some(SocketAddr::V4(moved))]);
    let one = simulation.port(1);
    simulation.receive(&udp_frame(OURS, OFFICE, one, b"the old address"));
    assert_eq!(simulation.delivered, []);

    // While nobody answers, the last address is kept.
    simulation.lan.awake.clear();
    simulation.run(700);
    assert_eq!(simulation.uplink.state().tunnels[0].1, [Some(SocketAddr::V4(moved))]);
}

#[test]
fn the_next_server_is_asked_when_one_is_silent() {
    let mut simulation = Simulation::new();
    let second = Ipv4Addr::new(192, 168, 77, 2);
    simulation.lan.servers = vec![ROUTER, second];
    simulation.lan.awake = vec![second];
    simulation.observer.servers = vec![ROUTER, second];
    simulation.run(25);
    assert_eq!(simulation.uplink.state().tunnels[0].1, [Some(SocketAddr::V4(OFFICE))]);
}

#[test]
fn a_name_with_only_an_ipv6_address_is_told_and_not_used() {
    let mut simulation = Simulation::new();
    simulation.lan.names.insert("office.gateway.example".to_owned(), "2001:db8::1".parse().unwrap());
    simulation.run(5);
    let at = simulation.uplink.state().tunnels[0].1[0].unwrap();
    assert_eq!(at, "[2001:db8::1]:51820".parse().unwrap());
    assert!(!simulation.send(1, b"no IPv6 here"));
}

#[test]
fn a_lease_that_cannot_be_is_not_taken() {
    let check = |change: fn(&mut Lan), usable: bool| {
        let mut simulation = Simulation::new();
        change(&mut simulation.lan);
        simulation.observer.address = simulation.lan.address;
        simulation.run(100);
        assert_eq!(simulation.uplink.lease().is_some(), usable, "lease of {}", simulation.lan.address);
        let dhcp_only = simulation.kinds().into_iter().all(|kind| kind == Seen::Dhcp);
        assert!(usable || dhcp_only);
        assert!(simulation.seen.len() < 300);
    };
    check(|lan| lan.address = Ipv4Addr::LOCALHOST, false);
    check(|lan| lan.address = Ipv4Addr::new(192, 168, 77, 255), false);
    check(|lan| lan.address = Ipv4Addr::new(192, 168, 77, 0), false);
    check(|lan| lan.address = Ipv4Addr::new(240, 0, 0, 1), false);
    check(|lan| lan.mask = Ipv4Addr::UNSPECIFIED, false);
    check(|lan| lan.mask = Ipv4Addr::BROADCAST, false);
    check(|lan| lan.router = Ipv4Addr::new(10, 0, 0, 1), true);
    check(|lan| lan.router = HOST, true);
    check(|lan| lan.servers = vec![Ipv4Addr::LOCALHOST, HOST, Ipv4Addr::new(192, 168, 77, 255)], true);
    check(|lan| lan.lease_seconds = 0, false);
}

#[test]
fn tunnels_are_limited() {
    let mut uplink = Uplink::new(OURS, 1, Instant::from_secs(1)).unwrap();
    for tunnel in 0..32 {
        uplink.add_tunnel(tunnel, vec![by_address(NEIGHBOUR)], u16::MAX).unwrap();
    }
    assert!(uplink.add_tunnel(32, vec![by_address(NEIGHBOUR)], 0).is_err());
    uplink.add_tunnel(31, vec![by_address(NEIGHBOUR)], 0).unwrap();
    assert!(uplink.add_tunnel(31, Vec::new(), 0).is_err());
    assert!(uplink.add_tunnel(31, vec![by_address(NEIGHBOUR); 9], 0).is_err());
    assert!(Uplink::new([1, 0, 0, 0, 0, 0], 1, Instant::from_secs(1)).is_none());
    assert!(Uplink::new([0; 6], 1, Instant::from_secs(1)).is_none());
}

/// A frame that gets some way in: a good one with a few bytes changed and the end cut or stretched.
fn bent_frame() -> impl Strategy<Value = Vec<u8>> {
    let mut dns = vec![0, 0, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0, 6];
    dns.extend(
        b"office\x07gateway\x07example\0\0\x01\0\x01\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x01\x02\x03\x04",
    );
    let lan = Lan::default();
    let mut discover = vec![0; 240];
    discover.extend([53, 1, 1, 255]);
    let from = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
    let mut request = udp_frame(EVERYBODY, from, SocketAddrV4::new(Ipv4Addr::BROADCAST, 67), &discover);
    request[6..12].copy_from_slice(&OURS);
    let offer = lan.answer(&request).pop().unwrap();
    let good = vec![
        offer,
        udp_frame(OURS, SocketAddrV4::new(ROUTER, 53), SocketAddrV4::new(HOST, 5000), &dns),
        udp_frame(OURS, OFFICE, SocketAddrV4::new(HOST, 32772), b"payload"),
        arp_frame(1, (MAC, ROUTER), ([0; 6], HOST), EVERYBODY),
        arp_frame(2, (MAC, ROUTER), (OURS, HOST), OURS),
        ethernet(OURS, MAC, 0x86dd, &[0x60; 60]),
    ];
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    (prop::sample::select(good), changes, any::<bool>(), 0..200_usize).prop_map(
        |(mut frame, changes, resize, length)| {
            for (at, value) in changes {
                let at = at.index(frame.len());
                frame[at] = value;
            }
            if frame.len() > 34 && frame[12..14] == [8, 0] {
                // So that a changed header is looked at any further.
                frame[24..26].copy_from_slice(&[0, 0]);
                let checksum = crate::lan::sum(&[&frame[14..34]]).to_be_bytes();
                frame[24..26].copy_from_slice(&checksum);
            }
            if resize {
                frame.resize(length, 0);
            }
            frame
        },
    )
}

#[derive(Clone, Debug)]
enum Step {
    Frame(Vec<u8>),
    Packet(u32, Vec<u8>),
    Wait(u64),
    Add(u32),
    Remove(u32),
    Dhcp(bool),
    Carrier(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => bent_frame().prop_map(Step::Frame),
        2 => prop::collection::vec(any::<u8>(), 0..1600).prop_map(Step::Frame),
        4 => (0..4_u32, prop::collection::vec(any::<u8>(), 0..1500)).prop_map(|(t, p)| Step::Packet(t, p)),
        2 => (0..3_u32).prop_map(|t| Step::Packet(t, vec![0, 1, 2, 3])),
        3 => (0..200_u64).prop_map(Step::Wait),
        1 => (0..4_u32).prop_map(Step::Add),
        1 => (0..4_u32).prop_map(Step::Remove),
        1 => any::<bool>().prop_map(Step::Dhcp),
        1 => any::<bool>().prop_map(Step::Carrier),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever arrives from wherever in whatever order: no panic, no endless wake-up, no leak.
    #[test]
    fn property_hostile_input_neither_panics_nor_leaks(steps in prop::collection::vec(step(), 1..60)) {
        let mut simulation = Simulation::new();
        simulation.lan.lease_seconds = 300;
        simulation.run(2);
        for step in steps {
            match step {
                Step::Frame(frame) => simulation.receive(&frame),
                Step::Packet(tunnel, packet) => {
                    let frame = simulation.uplink.send(simulation.now, tunnel, &packet).map(<[u8]>::to_vec);
                    if let Some(frame) = frame {
                        simulation.emit(frame);
                    }
                }
                Step::Wait(seconds) => simulation.run(seconds),
                Step::Add(tunnel) => {
                    simulation.uplink.add_tunnel(tunnel, vec![by_address(OFFICE)], 9).unwrap();
                }
                Step::Remove(tunnel) => simulation.uplink.remove_tunnel(tunnel),
                Step::Dhcp(answers) => simulation.lan.dhcp = answers,
                Step::Carrier(carrier) => simulation.uplink.set_carrier(carrier),
            }
            simulation.settle();
        }
    }
}
