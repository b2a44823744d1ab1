use smoltcp::wire::{DhcpMessageType, DhcpPacket, DhcpRepr, EthernetAddress};
use tunnel::{GATEWAY_MAC, GATEWAY_V4};

use super::*;
use crate::backend::FEATURES;

/// All that a guest can accept.
const ALL: u64 = FEATURES & !(1 << 30);

/// VERSION_1 and nothing else.
const PLAIN: u64 = 1 << 32;

fn discover() -> Vec<u8> {
    let repr = DhcpRepr {
        message_type: DhcpMessageType::Discover,
        transaction_id: 77,
        secs: 0,
        client_hardware_address: EthernetAddress(ZONE_MAC),
        client_ip: Ipv4Addr::UNSPECIFIED,
        your_ip: Ipv4Addr::UNSPECIFIED,
        server_ip: Ipv4Addr::UNSPECIFIED,
        router: None,
        subnet_mask: None,
        relay_agent_ip: Ipv4Addr::UNSPECIFIED,
        broadcast: false,
        requested_ip: None,
        client_identifier: None,
        server_identifier: None,
        parameter_request_list: None,
        dns_servers: None,
        max_size: None,
        lease_duration: None,
        renew_duration: None,
        rebind_duration: None,
        additional_options: &[],
    };
    let mut message = vec![0; repr.buffer_len()];
    repr.emit(&mut DhcpPacket::new_unchecked(&mut message)).unwrap();
    frame([0xff; 6], 0x0800, &udp((Ipv4Addr::UNSPECIFIED, 68), (Ipv4Addr::BROADCAST, 67), &message))
}

#[test]
fn a_guest_gets_its_address_and_reaches_its_server() {
    for (features, valid) in [(ALL, 2), (PLAIN, 0)] {
        let mut world = World::new(features, 2048);
        world.driver().offer(64);
        world.driver().send([0; 12], &arp_request());
        let (header, answer) = world.driver().receive();
        assert_eq!(header, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
        assert_eq!((&answer[..14], &answer[20..28]), {
            let start = [&ZONE_MAC, &GATEWAY_MAC, [8, 6].as_slice()].concat();
            let middle = [&[0, 2], GATEWAY_MAC.as_slice()].concat();
            (&*start.leak(), &*middle.leak())
        });

        world.driver().send([0; 12], &discover());
        let (_, answer) = world.driver().receive();
        let packet = DhcpPacket::new_checked(&answer[42..]).unwrap();
        let offer = DhcpRepr::parse(&packet).unwrap();
        assert_eq!(
            (offer.message_type, offer.your_ip, offer.router),
            (DhcpMessageType::Offer, ZONE, Some(GATEWAY_V4))
        );

        world.establish();
        let there = udp((ZONE, 4000), (SERVER, 7), b"there");
        world.driver().send([0; 12], &frame(GATEWAY_MAC, 0x0800, &there));
        world.until_inner(1);
        assert_eq!(world.inner, [there]);
        let back = udp((SERVER, 7), (ZONE, 4000), b"and back");
        world.answer(&back);
        let (header, answer) = world.driver().receive();
        assert_eq!((header[0], &answer[14..]), (valid, back.as_slice()));
        world.driver().await_sent();
        loop {
            let status = world.status();
            if status.sent_bytes == 33 && status.received_bytes == 36 {
                assert!(status.up);
                assert_eq!((status.handshake_age_s.is_some(), status.dropped), (true, 0));
                break;
            }
        }
        assert_eq!(world.end(), Ended::MachineGone);
    }
}

#[test]
fn a_super_packet_arrives_in_segments() {
    let mut world = World::new(ALL, 2048);
    world.establish();
    let payload: Vec<u8> = (0..40_000_u32).map(|i| (i % 249).try_into().unwrap()).collect();
    let mut packet = vec![0x45, 0];
    packet.extend_from_slice(&u16::try_from(40 + payload.len()).unwrap().to_be_bytes());
    packet.extend_from_slice(&[0, 1, 0x40, 0, 64, 6, 0, 0]);
    packet.extend_from_slice(&ZONE.octets());
    packet.extend_from_slice(&SERVER.octets());
    packet.extend_from_slice(&[0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x18, 1, 0, 0, 0, 0, 0]);
    packet.extend_from_slice(&payload);
    // NEEDS_CSUM, TCPV4, hdr_len 54, gso_size 1380, csum_start 34, csum_offset 16.
    let header = [1, 1, 54, 0, 0x64, 5, 34, 0, 16, 0, 0, 0];
    world.driver().send(header, &frame(GATEWAY_MAC, 0x0800, &packet));
    world.until_inner(29);
    let joined: Vec<u8> = world.inner.iter().flat_map(|segment| segment[40..].to_vec()).collect();
    assert_eq!(joined, payload);
    world.driver().await_sent();
}

#[test]
fn a_closed_uplink_ends_the_process() {
    let mut world = World::new(ALL, 2048);
    world.exchange();
    let (other, _) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    drop(std::mem::replace(&mut world.uplink, other));
    let error = world.worker.join().unwrap().unwrap_err();
    assert!(error.contains("uplink closed"), "{error}");
}

#[test]
fn an_uplink_that_does_not_read_costs_packets_but_not_the_gateway() {
    let mut world = World::new(ALL, 2048);
    world.establish();
    world.driver().offer(64);
    let packet = frame(GATEWAY_MAC, 0x0800, &udp((ZONE, 1), (SERVER, 2), &[0; 1300]));
    for _ in 0..8 {
        for _ in 0..100 {
            world.driver().send([0; 12], &packet);
        }
        world.driver().await_sent();
    }
    world.driver().send([0; 12], &arp_request());
    assert_eq!(world.driver().receive().1[12..14], [8, 6]);
    let dropped = loop {
        let status = world.status();
        if status.dropped > 0 {
            break status.dropped;
        }
    };
    assert!(dropped < 800);
    // What was not dropped arrives, and so does what comes after.
    world.exchange();
    let before = world.inner.len();
    world.driver().send([0; 12], &packet);
    world.until_inner(before + 1);
}

#[test]
fn the_configuration_comes_whole_or_not_at_all() {
    let memfd = |bytes: &[u8]| {
        let memfd = rustix::fs::memfd_create("config", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        // The writer leaves the offset at the end.
        assert_eq!(rustix::io::write(&memfd, bytes).unwrap(), bytes.len());
        memfd
    };
    let mut bytes = postcard::to_stdvec(&vpnd_config()).unwrap();
    let read = config::read(memfd(&bytes)).unwrap();
    assert_eq!((read.zone.as_str(), read.peers, read.mtu), ("office", vpnd_config().peers, 1420));
    assert!(config::read(memfd(&bytes[..40])).is_err());
    bytes.push(0);
    assert!(config::read(memfd(&bytes)).is_err());
}
