use proptest::prelude::*;

use super::*;

/// Whatever leaves towards a peer is a WireGuard message.
fn is_wireguard(datagram: &[u8]) -> bool {
    match (datagram.get(..4), datagram.len()) {
        (Some([1, 0, 0, 0]), length) => length == 148,
        (Some([2, 0, 0, 0]), length) => length == 92,
        (Some([3, 0, 0, 0]), length) => length == 64,
        (Some([4, 0, 0, 0]), length) => (32..=1420 + 32).contains(&length),
        _ => false,
    }
}

/// Frames that a good guest sends, to be damaged.
fn seeds() -> Vec<Vec<u8>> {
    let dns = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x08intranet\x07example\x00\x00\x01\x00\x01";
    let mut tcp = vec![0; 60];
    tcp[12] = 0x50;
    let mut segment = Vec::new();
    ip::push_packet(&mut segment, ZONE_V4.into(), SERVER_V4.into(), ip::TCP, &tcp, 16).unwrap();
    vec![
        frame(&packet_of(200)),
        frame(&udp(zone_v6(), server_v6(), (1, 2), &[0; 100])),
        frame(&udp(ZONE_V4, GATEWAY_V4, (4000, 53), dns)),
        frame(&segment),
        services::arp_request(GATEWAY_V4),
        services::dhcp_discover(),
        services::router_solicitation(),
        services::neighbour_solicitation("fe80::1"),
        services::dhcp6_solicit(),
        services::echo_v4(),
        frame(&services::segment(ZONE_V4, GATEWAY_V4, (4000, 53), b"dns")),
    ]
}

fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let seeds = seeds();
    (
        0..seeds.len(),
        proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        any::<prop::sample::Index>(),
        any::<bool>(),
    )
        .prop_map(move |(seed, changes, cut, cuts)| {
            let mut frame = seeds[seed].clone();
            for (place, value) in changes {
                let place = place.index(frame.len());
                frame[place] = value;
            }
            if cuts {
                frame.truncate(cut.index(frame.len()));
            }
            frame
        })
}

fn offloads() -> impl Strategy<Value = VnetHeader> {
    (any::<u8>(), 0..6_u8, any::<u16>(), 0..200_u16, 0..200_u16).prop_map(
        |(flags, gso_type, gso_size, checksum_start, checksum_offset)| VnetHeader {
            flags,
            gso_type,
            gso_size,
            checksum_start,
            checksum_offset,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn property_no_frame_of_the_zone_panics_or_leaks(
        frames in proptest::collection::vec((offloads(), damaged()), 1..20),
        raw in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let (mut tunnel, mut remote, mut recorder) = established(&one_peer());
        for (offload, frame) in &frames {
            tunnel.from_zone(offload, frame, NOW, &mut recorder);
            tunnel.from_zone(&VnetHeader::default(), frame, NOW, &mut recorder);
        }
        tunnel.from_zone(&VnetHeader::default(), &raw, NOW, &mut recorder);
        tunnel.from_zone(&VnetHeader::default(), &[ZONE_MAC.as_slice(), &ZONE_MAC, &raw].concat(), NOW, &mut recorder);
        for (_, datagram) in &recorder.peer {
            prop_assert!(is_wireguard(datagram));
        }
        for (_, frame) in &recorder.zone {
            prop_assert!(frame[6..12] == GATEWAY_MAC);
        }
        settle(&mut tunnel, 0, &mut remote, NOW, &mut recorder);
        for packet in &remote.inner {
            let header = ip::parse(packet).expect("the peer sees IP only");
            prop_assert!(header.source == IpAddr::from(ZONE_V4) || header.source == zone_v6());
            prop_assert!(ip::is_routable(header.destination));
            prop_assert!(packet.len() <= 1420);
        }
    }

    #[test]
    fn property_no_datagram_of_a_peer_panics(
        raw in proptest::collection::vec(any::<u8>(), 0..1600),
        kind in 0..6_u8,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        inner in proptest::collection::vec(any::<u8>(), 0..1400),
    ) {
        let (mut tunnel, mut remote, mut recorder) = established(&one_peer());
        let mut typed = raw.clone();
        if let Some(first) = typed.get_mut(..4) {
            first.copy_from_slice(&[kind, 0, 0, 0]);
        }
        let mut message = remote.send(&udp(SERVER_V4, ZONE_V4, (53, 2), b"x"));
        for (place, value) in &changes {
            let place = place.index(message.len());
            message[place] ^= value;
        }
        for datagram in [&raw, &typed, &message] {
            tunnel.from_peer(0, datagram, NOW, &mut recorder);
        }
        // An authentic peer may send anything inside.
        let authentic = remote.send(&inner);
        tunnel.from_peer(0, &authentic, NOW, &mut recorder);
        let mut shaped = udp(SERVER_V4, ZONE_V4, (53, 0x4001), &inner);
        for (place, value) in &changes {
            let place = place.index(shaped.len().min(60));
            shaped[place] = *value;
        }
        let authentic = remote.send(&shaped);
        tunnel.from_peer(0, &authentic, NOW, &mut recorder);
        for (_, frame) in &recorder.zone {
            let header = ip::parse(&frame[14..]).expect("the zone sees IP only");
            prop_assert!(header.destination == IpAddr::from(ZONE_V4) || header.destination == zone_v6());
        }
    }
}
