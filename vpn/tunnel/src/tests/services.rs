use std::net::Ipv6Addr;

use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, DhcpMessageType, DhcpPacket, DhcpRepr, EthernetAddress, Ipv4Packet,
    UdpPacket,
};

use super::*;

const ZONE_LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 0x42);
const QUESTION: &[u8] = b"\x08intranet\x07example\x00\x00\x01\x00\x01";

fn quiet() -> (Tunnel, Recorder) {
    let mut tunnel = Tunnel::new(&one_peer(), NOW).unwrap();
    let mut recorder = Recorder::default();
    tunnel.on_timer(NOW, &mut recorder);
    recorder.peer.clear();
    (tunnel, recorder)
}

/// What the gateway answers to a frame, with nothing for a peer.
fn ask(frame: &[u8]) -> Option<Vec<u8>> {
    let (mut tunnel, mut recorder) = quiet();
    send(&mut tunnel, frame, NOW, &mut recorder);
    assert!(recorder.peer.is_empty());
    let mut frames = recorder.take_zone();
    assert!(frames.len() <= 1);
    frames.pop()
}

fn arp(sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let repr = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: EthernetAddress(ZONE_MAC),
        source_protocol_addr: sender,
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: target,
    };
    let mut payload = vec![0; repr.buffer_len()];
    repr.emit(&mut ArpPacket::new_unchecked(&mut payload));
    frame_to([0xff; 6], ETHERTYPE_ARP, &payload)
}

pub(super) fn arp_request(target: Ipv4Addr) -> Vec<u8> {
    arp(ZONE_V4, target)
}

fn dhcp(message_type: DhcpMessageType, requested: Option<Ipv4Addr>, wants: &[u8]) -> Vec<u8> {
    let repr = DhcpRepr {
        message_type,
        transaction_id: 0x1234,
        secs: 0,
        client_hardware_address: EthernetAddress(ZONE_MAC),
        client_ip: Ipv4Addr::UNSPECIFIED,
        your_ip: Ipv4Addr::UNSPECIFIED,
        server_ip: Ipv4Addr::UNSPECIFIED,
        router: None,
        subnet_mask: None,
        relay_agent_ip: Ipv4Addr::UNSPECIFIED,
        broadcast: false,
        requested_ip: requested,
        client_identifier: None,
        server_identifier: requested.map(|_| GATEWAY_V4),
        parameter_request_list: Some(wants),
        dns_servers: None,
        max_size: None,
        lease_duration: None,
        renew_duration: None,
        rebind_duration: None,
        additional_options: &[],
    };
    let mut message = vec![0; repr.buffer_len()];
    repr.emit(&mut DhcpPacket::new_unchecked(&mut message)).unwrap();
    frame_to([0xff; 6], ETHERTYPE_IPV4, &udp(Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, (68, 67), &message))
}

pub(super) fn dhcp_discover() -> Vec<u8> {
    dhcp(DhcpMessageType::Discover, None, &[1, 3, 6, 26])
}

fn icmpv6(source: Ipv6Addr, destination: &str, message: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    let destination: IpAddr = destination.parse().unwrap();
    ip::push_packet(&mut packet, source.into(), destination, ip::ICMPV6, message, 2).unwrap();
    frame_to([0x33, 0x33, 0, 0, 0, 2], ETHERTYPE_IPV6, &packet)
}

pub(super) fn router_solicitation() -> Vec<u8> {
    icmpv6(ZONE_LINK_LOCAL, "ff02::2", &[133, 0, 0, 0, 0, 0, 0, 0])
}

pub(super) fn neighbour_solicitation(target: &str) -> Vec<u8> {
    solicit(ZONE_LINK_LOCAL, target)
}

fn solicit(source: Ipv6Addr, target: &str) -> Vec<u8> {
    let target: Ipv6Addr = target.parse().unwrap();
    icmpv6(source, "ff02::1:ff00:1", &[&[135, 0, 0, 0, 0, 0, 0, 0], target.octets().as_slice()].concat())
}

fn dhcp6(message: &[u8]) -> Vec<u8> {
    let servers: IpAddr = "ff02::1:2".parse().unwrap();
    frame_to([0x33, 0x33, 0, 1, 0, 2], ETHERTYPE_IPV6, &udp(ZONE_LINK_LOCAL, servers, (546, 547), message))
}

const CLIENT_ID: &[u8] = &[0, 1, 0, 4, 9, 9, 9, 9];
const ASSOCIATION: &[u8] = &[0, 3, 0, 12, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0];

pub(super) fn dhcp6_solicit() -> Vec<u8> {
    dhcp6(&[&[1, 7, 7, 7], CLIENT_ID, ASSOCIATION].concat())
}

pub(super) fn echo_v4() -> Vec<u8> {
    let mut packet = Vec::new();
    let message = [8, 0, 0, 0, 1, 2, 0, 1, b'p', b'i', b'n', b'g', b'!'];
    ip::push_packet(&mut packet, ZONE_V4.into(), GATEWAY_V4.into(), ip::ICMP, &message, 2).unwrap();
    frame(&packet)
}

#[test]
fn arp_finds_the_gateway_behind_every_address_but_the_zones_own() {
    for target in [GATEWAY_V4, SERVER_V4, Ipv4Addr::new(8, 8, 8, 8)] {
        let answer = ask(&arp_request(target)).unwrap();
        let Ok(ArpRepr::EthernetIpv4 { operation, source_hardware_addr, source_protocol_addr, .. }) =
            ArpRepr::parse(&ArpPacket::new_checked(&answer[14..]).unwrap())
        else {
            panic!("no ARP");
        };
        assert_eq!(
            (operation, source_hardware_addr.0, source_protocol_addr),
            (ArpOperation::Reply, GATEWAY_MAC, target)
        );
        assert_eq!(&answer[..6], &ZONE_MAC);
    }
    assert_eq!(ask(&arp_request(ZONE_V4)), None);
    assert_eq!(ask(&arp(Ipv4Addr::UNSPECIFIED, ZONE_V4)), None);
    assert_eq!(ask(&arp(Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(169, 254, 3, 4))), None);
}

#[test]
fn dhcp_leases_exactly_the_tunnels_address() {
    let check = |frame: &[u8], expected: DhcpMessageType, with_routes: bool| {
        let answer = ask(frame).unwrap();
        let ip = Ipv4Packet::new_checked(&answer[14..]).unwrap();
        assert!(ip.verify_checksum());
        let udp = UdpPacket::new_checked(ip.payload()).unwrap();
        assert!(udp.verify_checksum(&ip.src_addr().into(), &ip.dst_addr().into()));
        assert_eq!((udp.src_port(), udp.dst_port()), (67, 68));
        let packet = DhcpPacket::new_checked(udp.payload()).unwrap();
        let reply = DhcpRepr::parse(&packet).unwrap();
        assert_eq!(reply.message_type, expected);
        assert_eq!((reply.transaction_id, reply.server_identifier), (0x1234, Some(GATEWAY_V4)));
        let option = |kind| packet.options().find(|option| option.kind == kind).map(|o| o.data.to_vec());
        if expected == DhcpMessageType::Nak {
            assert_eq!((reply.your_ip, option(26)), (Ipv4Addr::UNSPECIFIED, None));
            return;
        }
        assert_eq!(reply.your_ip, ZONE_V4);
        assert_eq!(reply.subnet_mask, Some(Ipv4Addr::BROADCAST));
        assert_eq!(reply.router, Some(GATEWAY_V4));
        assert_eq!(option(6), Some(GATEWAY_V4.octets().to_vec()));
        assert_eq!(option(26), Some(1420_u16.to_be_bytes().to_vec()));
        let routes = [32, 169, 254, 77, 1, 0, 0, 0, 0, 0, 169, 254, 77, 1].to_vec();
        assert_eq!(option(121), with_routes.then_some(routes));
    };
    check(&dhcp_discover(), DhcpMessageType::Offer, false);
    check(&dhcp(DhcpMessageType::Request, Some(ZONE_V4), &[1, 3, 121]), DhcpMessageType::Ack, true);
    check(&dhcp(DhcpMessageType::Request, Some(SERVER_V4), &[1]), DhcpMessageType::Nak, false);
    assert_eq!(ask(&dhcp(DhcpMessageType::Release, Some(ZONE_V4), &[])), None);
}

#[test]
fn routers_are_advertised_only_with_an_ipv6_address() {
    let answer = ask(&router_solicitation()).unwrap();
    let message = &answer[14 + 40..];
    assert_eq!(message[..2], [134, 0]);
    assert_eq!(message[5], 0xc0, "managed");
    assert!(!message.windows(2).any(|pair| pair == [3, 4]), "no prefix");
    assert!(message.windows(8).any(|option| option == [5, 1, 0, 0, 0, 0, 0x05, 0x8c]), "MTU 1420");
    assert!(message.ends_with(&GATEWAY_V6.octets()), "DNS server");
    let header = ip::parse(&answer[14..]).unwrap();
    let pseudo = ip::pseudo_header(header.source, header.destination, ip::ICMPV6, message.len());
    assert_eq!(bytes::fold(bytes::sum(message, pseudo)), 0);

    let mut config = one_peer();
    config.addresses.pop();
    let mut tunnel = Tunnel::new(&config, NOW).unwrap();
    let mut recorder = Recorder::default();
    for frame in [router_solicitation(), neighbour_solicitation("fe80::1"), dhcp6_solicit()] {
        send(&mut tunnel, &frame, NOW, &mut recorder);
    }
    tunnel.on_timer(NOW + Duration::from_secs(100_000), &mut recorder);
    assert!(recorder.zone.is_empty());
}

#[test]
fn router_advertisements_are_repeated() {
    let (mut tunnel, mut recorder) = quiet();
    tunnel.on_timer(Duration::from_secs(1499), &mut recorder);
    assert!(recorder.zone.is_empty());
    tunnel.on_timer(Duration::from_secs(1500), &mut recorder);
    assert_eq!(recorder.zone.len(), 1);
}

#[test]
fn neighbours_are_the_gateway_and_the_zones_own_addresses_stay_free() {
    for target in ["fe80::1", "fd00:11::1", "2001:db8::1"] {
        let answer = ask(&neighbour_solicitation(target)).unwrap();
        let message = &answer[14 + 40..];
        assert_eq!((message[0], message[4]), (136, 0xe0));
        assert_eq!(message[8..24], target.parse::<Ipv6Addr>().unwrap().octets());
        assert_eq!(message[26..32], GATEWAY_MAC);
    }
    for target in ["fd00:11::2", "fe80::ff:fe00:42"] {
        assert_eq!(ask(&neighbour_solicitation(target)), None, "{target}");
        assert_eq!(ask(&solicit(Ipv6Addr::UNSPECIFIED, target)), None, "{target}");
    }
    let defended = ask(&solicit(Ipv6Addr::UNSPECIFIED, "fe80::1")).unwrap();
    assert_eq!(defended[..6], [0x33, 0x33, 0, 0, 0, 1]);
}

#[test]
fn dhcpv6_leases_exactly_the_tunnels_address() {
    let server_id: &[u8] = &[0, 2, 0, 10, 0, 3, 0, 1, 0x02, 0x62, 0x68, 0, 0, 1];
    let address = match zone_v6() {
        IpAddr::V6(v6) => v6.octets(),
        IpAddr::V4(_) => unreachable!(),
    };
    let check = |frame: &[u8], kind: u8| {
        let answer = ask(frame).unwrap();
        let message = &answer[14 + 40 + 8..];
        assert_eq!(message[..4], [kind, 7, 7, 7]);
        let contains = |part: &[u8]| message.windows(part.len()).any(|window| window == part);
        assert!(contains(CLIENT_ID) && contains(server_id));
        assert!(contains(&[&[0, 5, 0, 24], address.as_slice()].concat()), "address");
        assert!(contains(&[&[0, 23, 0, 16], GATEWAY_V6.octets().as_slice()].concat()), "DNS");
    };
    check(&dhcp6_solicit(), 2);
    check(&dhcp6(&[&[1, 7, 7, 7], CLIENT_ID, ASSOCIATION, &[0, 14, 0, 0]].concat()), 7);
    check(&dhcp6(&[&[3, 7, 7, 7], CLIENT_ID, server_id, ASSOCIATION].concat()), 7);
    check(&dhcp6(&[&[5, 7, 7, 7], CLIENT_ID, server_id, ASSOCIATION].concat()), 7);
    let other: &[u8] = &[0, 2, 0, 4, 1, 2, 3, 4];
    assert_eq!(ask(&dhcp6(&[&[3, 7, 7, 7], CLIENT_ID, other, ASSOCIATION].concat())), None);
    assert_eq!(ask(&dhcp6(&[&[3, 7, 7, 7], CLIENT_ID, ASSOCIATION].concat())), None);
}

#[test]
fn the_gateway_answers_echo() {
    let answer = ask(&echo_v4()).unwrap();
    let ip = Ipv4Packet::new_checked(&answer[14..]).unwrap();
    assert_eq!((ip.src_addr(), ip.dst_addr()), (GATEWAY_V4, ZONE_V4));
    assert_eq!(bytes::fold(bytes::sum(ip.payload(), 0)), 0);
    assert_eq!((ip.payload()[0], &ip.payload()[4..]), (0, b"\x01\x02\x00\x01ping!".as_slice()));
    let answer = ask(&icmpv6(ZONE_LINK_LOCAL, "fe80::1", &[128, 0, 0, 0, 1, 2, 0, 1])).unwrap();
    assert_eq!(answer[14 + 40], 129);
}

#[test]
fn a_packet_above_the_mtu_is_answered_with_the_mtu() {
    let (mut tunnel, _, mut recorder) = established(&one_peer());
    send(&mut tunnel, &frame(&packet_of(1421)), NOW, &mut recorder);
    assert!(recorder.peer.is_empty());
    let answer = recorder.take_zone().remove(0);
    let ip = Ipv4Packet::new_checked(&answer[14..]).unwrap();
    assert_eq!(ip.payload()[..2], [3, 4]);
    assert_eq!(ip.payload()[6..8], 1420_u16.to_be_bytes());
    assert_eq!(bytes::fold(bytes::sum(ip.payload(), 0)), 0);
    assert_eq!(tunnel.status(NOW).drops.too_large, 1);
}

fn query(id: u16) -> Vec<u8> {
    [&id.to_be_bytes(), [1, 0, 0, 1, 0, 0, 0, 0, 0, 0].as_slice(), QUESTION].concat()
}

/// What the tunnel's server gets for a query: source port and message.
fn forwarded(remote: &mut Remote) -> (u16, Vec<u8>) {
    let packet = remote.inner.pop().unwrap();
    let ip = Ipv4Packet::new_checked(packet.as_slice()).unwrap();
    assert_eq!((ip.src_addr(), ip.dst_addr()), (ZONE_V4, SERVER_V4));
    let udp = UdpPacket::new_checked(ip.payload()).unwrap();
    assert!(udp.verify_checksum(&ip.src_addr().into(), &ip.dst_addr().into()));
    assert_eq!(udp.dst_port(), 53);
    (udp.src_port(), udp.payload().to_vec())
}

fn dns_answer(query: &[u8]) -> Vec<u8> {
    let mut answer = query.to_vec();
    answer[2] |= 0x80;
    answer.extend_from_slice(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x0a\x0b\x00\x01");
    answer
}

#[test]
fn dns_goes_into_the_tunnel_and_only_its_answer_comes_back() {
    let (mut tunnel, mut remote, mut recorder) = established(&one_peer());
    let asks = frame(&udp(ZONE_V4, GATEWAY_V4, (4000, 53), &query(0x1234)));
    send(&mut tunnel, &asks, NOW, &mut recorder);
    settle(&mut tunnel, 0, &mut remote, NOW, &mut recorder);
    let (port, message) = forwarded(&mut remote);
    assert_eq!(message[2..], query(0)[2..]);
    assert_ne!((port, &message[..2]), (4000, [0x12, 0x34].as_slice()));

    let good = dns_answer(&message);
    let mut wrong_id = good.clone();
    wrong_id[0] ^= 1;
    let mut wrong_question = good.clone();
    wrong_question[14] = b'X';
    let other = Ipv4Addr::new(10, 11, 0, 7);
    for (source, source_port, to_port, message) in [
        (other, 53, port, &good),
        (SERVER_V4, 54, port, &good),
        (SERVER_V4, 53, port ^ 1, &good),
        (SERVER_V4, 53, port, &wrong_id),
        (SERVER_V4, 53, port, &wrong_question),
        (SERVER_V4, 53, port, &message),
    ] {
        let packet = udp(source, ZONE_V4, (source_port, to_port), message);
        tunnel.from_peer(0, &remote.send(&packet), NOW, &mut recorder);
        // It is the zone's own traffic, whatever it is: passed on, not taken for the answer.
        assert_eq!(recorder.take_zone().pop().unwrap()[14..], packet);
    }
    let packet = udp(SERVER_V4, ZONE_V4, (53, port), &good);
    tunnel.from_peer(0, &remote.send(&packet), NOW, &mut recorder);
    let answer = recorder.take_zone().pop().unwrap();
    let mut expected = good.clone();
    expected[..2].copy_from_slice(&[0x12, 0x34]);
    assert_eq!(answer[14..], udp(GATEWAY_V4, ZONE_V4, (53, 4000), &expected));
    // The entry is gone.
    tunnel.from_peer(0, &remote.send(&packet), NOW, &mut recorder);
    assert_eq!(recorder.take_zone().pop().unwrap()[14..], packet);
}

#[test]
fn late_dns_answers_are_not_taken() {
    let (mut tunnel, mut remote, mut recorder) = established(&one_peer());
    send(&mut tunnel, &frame(&udp(ZONE_V4, GATEWAY_V4, (4000, 53), &query(1))), NOW, &mut recorder);
    settle(&mut tunnel, 0, &mut remote, NOW, &mut recorder);
    let (port, message) = forwarded(&mut remote);
    let packet = udp(SERVER_V4, ZONE_V4, (53, port), &dns_answer(&message));
    let late = NOW + Duration::from_secs(10);
    tunnel.from_peer(0, &remote.send(&packet), late, &mut recorder);
    assert_eq!(recorder.take_zone().pop().unwrap()[14..], packet);
}

#[test]
fn many_dns_queries_stay_bounded_and_repeats_try_the_next_server() {
    let mut config = one_peer();
    let second = Ipv4Addr::new(10, 11, 0, 5);
    config.dns.push(second.into());
    let (mut tunnel, mut remote, mut recorder) = established(&config);
    for _ in 0..3 {
        send(&mut tunnel, &frame(&udp(ZONE_V4, GATEWAY_V4, (9, 53), &query(9))), NOW, &mut recorder);
    }
    settle(&mut tunnel, 0, &mut remote, NOW, &mut recorder);
    let servers: Vec<IpAddr> = remote.inner.iter().map(|p| ip::parse(p).unwrap().destination).collect();
    assert_eq!(servers, [IpAddr::from(SERVER_V4), second.into(), SERVER_V4.into()]);
    for id in 0..1000 {
        send(&mut tunnel, &frame(&udp(ZONE_V4, GATEWAY_V4, (9, 53), &query(id))), NOW, &mut recorder);
        settle(&mut tunnel, 0, &mut remote, NOW, &mut recorder);
    }
    let sent: std::collections::BTreeSet<Vec<u8>> =
        remote.inner.iter().map(|packet| [&packet[20..22], &packet[28..30]].concat()).collect();
    assert!(sent.len() > 995, "ports and ids differ");
}

#[test]
fn without_dns_servers_queries_are_refused_at_once() {
    let mut config = one_peer();
    config.dns.clear();
    let (mut tunnel, _, mut recorder) = established(&config);
    send(&mut tunnel, &frame(&udp(ZONE_V4, GATEWAY_V4, (4000, 53), &query(5))), NOW, &mut recorder);
    assert!(recorder.peer.is_empty());
    let answer = recorder.take_zone().pop().unwrap();
    let message = &answer[14 + 28..];
    assert_eq!((message[..2].to_vec(), message[2] & 0x80, message[3]), (vec![0, 5], 0x80, 5));
}

pub(super) fn segment(source: Ipv4Addr, destination: Ipv4Addr, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut tcp = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
    tcp.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x18, 1, 0, 0, 0, 0, 0]);
    tcp.extend_from_slice(payload);
    let mut packet = Vec::new();
    ip::push_packet(&mut packet, source.into(), destination.into(), ip::TCP, &tcp, 16).unwrap();
    packet
}

#[test]
fn dns_over_tcp_is_led_to_the_server_and_back() {
    let (mut tunnel, mut remote, mut recorder) = established(&one_peer());
    let mut asks = segment(ZONE_V4, GATEWAY_V4, (4000, 53), b"question");
    // The guest leaves the checksum to the device.
    let left = partial(ZONE_V4.into(), GATEWAY_V4.into(), ip::TCP, asks.len() - 20);
    put(&mut asks, 36, &left).unwrap();
    let offload = VnetHeader { flags: 1, checksum_start: 34, checksum_offset: 16, ..VnetHeader::default() };
    tunnel.from_zone(&offload, &frame(&asks), NOW, &mut recorder);
    settle(&mut tunnel, 0, &mut remote, NOW, &mut recorder);
    assert_eq!(remote.inner, [segment(ZONE_V4, SERVER_V4, (4000, 53), b"question")]);

    let answer = segment(SERVER_V4, ZONE_V4, (53, 4000), b"answer");
    tunnel.from_peer(0, &remote.send(&answer), NOW, &mut recorder);
    let led = segment(GATEWAY_V4, ZONE_V4, (53, 4000), b"answer");
    assert_eq!(recorder.take_zone().pop().unwrap()[14..], led);
    // Other connections of the zone stay what they are.
    for packet in [
        segment(SERVER_V4, ZONE_V4, (53, 4001), b""),
        segment(SERVER_V4, ZONE_V4, (80, 4000), b""),
        segment(Ipv4Addr::new(10, 11, 0, 7), ZONE_V4, (53, 4000), b""),
    ] {
        tunnel.from_peer(0, &remote.send(&packet), NOW, &mut recorder);
        assert_eq!(recorder.take_zone().pop().unwrap()[14..], packet);
    }
    let late = NOW + Duration::from_secs(60);
    tunnel.from_peer(0, &remote.send(&answer), late, &mut recorder);
    assert_eq!(recorder.take_zone().pop().unwrap()[14..], answer);
    // No other port of the gateway is open.
    send(&mut tunnel, &frame(&segment(ZONE_V4, GATEWAY_V4, (4000, 80), b"")), late, &mut recorder);
    assert!(recorder.peer.is_empty() && recorder.zone.is_empty());
}
