use super::*;

fn counter(datagram: &[u8]) -> u64 {
    bytes::le64(datagram, 8).unwrap()
}

#[test]
fn packets_pass_both_ways_with_a_stock_peer() {
    let (mut tunnel, mut remote, mut recorder) = established(&one_peer());
    let out = packet_of(100);
    send(&mut tunnel, &frame(&out), NOW, &mut recorder);
    settle(&mut tunnel, 0, &mut remote, NOW, &mut recorder);
    assert_eq!(remote.inner, [out]);

    for (source, destination, ethertype) in [
        (IpAddr::from(SERVER_V4), IpAddr::from(ZONE_V4), ETHERTYPE_IPV4),
        (server_v6(), zone_v6(), ETHERTYPE_IPV6),
    ] {
        let back = udp(source, destination, (2000, 1000), b"answer");
        tunnel.from_peer(0, &remote.send(&back), NOW, &mut recorder);
        let (trust, got) = recorder.zone.pop().unwrap();
        assert_eq!(trust, Trust::Vouched);
        assert_eq!(got, [&ZONE_MAC, &GATEWAY_MAC, ethertype.to_be_bytes().as_slice(), &back].concat());
    }
    let status = tunnel.status(NOW);
    assert_eq!((status.up, status.sent_bytes, status.drops.total()), (true, 100, 0));
}

#[test]
fn payload_is_padded_to_sixteen_but_not_above_the_mtu() {
    let (mut tunnel, _, mut recorder) = established(&one_peer());
    for (length, sealed) in [(28, 32), (32, 32), (33, 48), (1400, 1408), (1409, 1420), (1420, 1420)] {
        send(&mut tunnel, &frame(&packet_of(length)), NOW, &mut recorder);
        assert_eq!(recorder.take_peer()[0].len(), sealed + 32, "packet of {length}");
    }
}

#[test]
fn packets_wait_for_the_session_and_the_queue_is_bounded() {
    let mut tunnel = Tunnel::new(&one_peer(), NOW).unwrap();
    let mut remote = Remote::new(0);
    let mut recorder = Recorder::default();
    for _ in 0..300 {
        send(&mut tunnel, &frame(&packet_of(64)), NOW, &mut recorder);
    }
    assert_eq!(recorder.peer.len(), 1, "one handshake initiation and nothing else");
    assert_eq!(recorder.peer[0].1.len(), 148);
    assert_eq!(tunnel.status(NOW).drops.no_session, 300 - 256);
    settle(&mut tunnel, 0, &mut remote, NOW, &mut recorder);
    assert_eq!(remote.inner.len(), 256);
}

#[test]
fn replayed_and_forged_messages_are_refused() {
    let (mut tunnel, mut remote, mut recorder) = established(&one_peer());
    let message = remote.send(&udp(SERVER_V4, ZONE_V4, (1, 2), b"once"));
    tunnel.from_peer(0, &message, NOW, &mut recorder);
    tunnel.from_peer(0, &message, NOW, &mut recorder);
    let mut forged = remote.send(&udp(SERVER_V4, ZONE_V4, (1, 2), b"twice"));
    *forged.last_mut().unwrap() ^= 1;
    tunnel.from_peer(0, &forged, NOW, &mut recorder);
    assert_eq!(recorder.zone.len(), 1);
    assert_eq!(tunnel.status(NOW).drops.unauthentic, 2);
}

#[test]
fn worn_keys_are_renewed_and_then_refused() {
    let mut config = one_peer();
    config.limits.rekey_after_messages = 8;
    config.limits.reject_after_messages = 16;
    let (mut tunnel, mut remote, mut recorder) = established(&config);
    // The keepalive after the handshake took counter 0.
    let mut data = Vec::new();
    let mut handshakes = 0;
    for _ in 0..30 {
        send(&mut tunnel, &frame(&packet_of(64)), NOW, &mut recorder);
        for datagram in recorder.take_peer() {
            if datagram[0] == 4 {
                data.push(counter(&datagram));
            } else {
                assert_eq!(datagram.len(), 148);
                handshakes += 1;
                if handshakes == 1 {
                    assert_eq!(data.last(), Some(&8), "a handshake begins with the message at the limit");
                }
            }
        }
    }
    assert_eq!(data, (1..16).collect::<Vec<u64>>(), "nothing leaves under a key that is used up");
    assert_eq!(handshakes, 1, "one handshake at a time");
    assert_eq!(tunnel.status(NOW).drops.no_session, 15);
    // Messages of the peer above the limit are refused as well.
    for number in 0..20 {
        let message = remote.send(&udp(SERVER_V4, ZONE_V4, (1, 2), b"x"));
        tunnel.from_peer(0, &message, NOW, &mut recorder);
        assert_eq!(recorder.take_zone().len(), usize::from(counter(&message) < 16), "message {number}");
    }
}

#[test]
fn traffic_resumes_under_the_next_key() {
    let mut config = one_peer();
    config.limits.rekey_after_messages = 8;
    config.limits.reject_after_messages = 16;
    config.limits.handshakes_per_second = 1000;
    let (mut tunnel, mut remote, mut recorder) = established(&config);
    for _ in 0..200 {
        send(&mut tunnel, &frame(&packet_of(64)), NOW, &mut recorder);
        settle(&mut tunnel, 0, &mut remote, NOW, &mut recorder);
    }
    assert_eq!(remote.inner.len(), 200);
    assert_eq!(tunnel.status(NOW).drops.total(), 0);
}

#[test]
fn old_keys_are_refused_in_both_directions() {
    let (mut tunnel, mut remote, mut recorder) = established(&one_peer());
    let early = remote.send(&udp(SERVER_V4, ZONE_V4, (1, 2), b"x"));
    let late = NOW + Duration::from_secs(180);
    assert!(tunnel.status(late - Duration::from_millis(1)).up);
    assert!(!tunnel.status(late).up);
    tunnel.from_peer(0, &early, late, &mut recorder);
    assert!(recorder.zone.is_empty());
    send(&mut tunnel, &frame(&packet_of(64)), late, &mut recorder);
    let kinds: Vec<u8> = recorder.peer.iter().map(|(_, datagram)| datagram[0]).collect();
    assert_eq!(kinds, [1], "a handshake, no data");
    settle(&mut tunnel, 0, &mut remote, late, &mut recorder);
    assert!(tunnel.status(late).up);
    send(&mut tunnel, &frame(&packet_of(64)), late, &mut recorder);
    settle(&mut tunnel, 0, &mut remote, late, &mut recorder);
    assert_eq!(remote.inner.len(), 1);
}

#[test]
fn the_most_specific_network_decides_in_both_directions() {
    let peers = vec![peer(0, &["10.11.0.0/24"]), peer(1, &["0.0.0.0/0", "10.11.0.9/32"])];
    let mut tunnel = Tunnel::new(&config(peers), NOW).unwrap();
    let mut recorder = Recorder::default();
    let mut remotes = [Remote::new(0), Remote::new(1)];
    tunnel.on_timer(NOW, &mut recorder);
    for (index, remote) in remotes.iter_mut().enumerate() {
        settle(&mut tunnel, index, remote, NOW, &mut recorder);
    }
    for (address, owner) in [([10, 11, 0, 1], 0), ([10, 11, 0, 9], 1), ([10, 11, 1, 1], 1), ([8, 8, 8, 8], 1)]
    {
        let address = Ipv4Addr::from(address);
        send(&mut tunnel, &frame(&udp(ZONE_V4, address, (1, 2), b"")), NOW, &mut recorder);
        let (to, _) = recorder.peer.pop().unwrap();
        assert_eq!(to, owner, "to {address}");
        for (index, remote) in remotes.iter_mut().enumerate() {
            let message = remote.send(&udp(address, ZONE_V4, (2, 1), b""));
            tunnel.from_peer(index, &message, NOW, &mut recorder);
            assert_eq!(recorder.take_zone().len(), usize::from(index == owner), "{address} from {index}");
        }
    }
    assert_eq!(tunnel.status(NOW).drops.foreign, 4);
    // A peer's datagram that claims another endpoint does not decrypt there.
    let message = remotes[0].send(&udp(SERVER_V4, ZONE_V4, (1, 2), b""));
    tunnel.from_peer(1, &message, NOW, &mut recorder);
    tunnel.from_peer(7, &message, NOW, &mut recorder);
    assert!(recorder.zone.is_empty());
    assert_eq!(tunnel.status(NOW).drops.unauthentic, 2);
}

#[test]
fn nothing_but_the_zones_own_address_comes_in() {
    let (mut tunnel, mut remote, mut recorder) = established(&one_peer());
    let group = Ipv4Addr::new(224, 0, 0, 251);
    for packet in [
        udp(SERVER_V4, Ipv4Addr::new(10, 11, 0, 3), (1, 2), b"another host"),
        udp(SERVER_V4, Ipv4Addr::BROADCAST, (1, 2), b"broadcast"),
        udp(SERVER_V4, group, (1, 2), b"multicast"),
        udp(ZONE_V4, ZONE_V4, (1, 2), b"itself"),
        udp(GATEWAY_V4, ZONE_V4, (53, 2), b"the gateway"),
        udp(group, ZONE_V4, (1, 2), b"from a group"),
        udp(GATEWAY_V6, zone_v6(), (1, 2), b"the gateway"),
        udp(server_v6(), "ff02::1".parse::<IpAddr>().unwrap(), (1, 2), b"all nodes"),
    ] {
        tunnel.from_peer(0, &remote.send(&packet), NOW, &mut recorder);
    }
    assert!(recorder.zone.is_empty());
    assert_eq!(tunnel.status(NOW).drops.foreign, 8);
}

#[test]
fn only_routable_unicast_of_the_zone_goes_out() {
    let (mut tunnel, _, mut recorder) = established(&one_peer());
    let other = Ipv4Addr::new(10, 11, 0, 3);
    let good = packet_of(64);
    let mut foreign_mac = frame(&good);
    foreign_mac[6] ^= 2;
    let mut tagged = frame(&good);
    tagged.splice(12..12, [0x81, 0x00, 0x00, 0x05]);
    let frames = [
        foreign_mac,
        tagged,
        frame(&udp(other, SERVER_V4, (1, 2), b"another's address")),
        frame(&udp("fd00:11::3".parse::<IpAddr>().unwrap(), server_v6(), (1, 2), b"another's address")),
        frame(&udp(ZONE_V4, Ipv4Addr::BROADCAST, (68, 67), b"not DHCP")),
        frame(&udp(ZONE_V4, Ipv4Addr::new(224, 0, 0, 251), (5353, 5353), b"mDNS")),
        frame(&udp(ZONE_V4, Ipv4Addr::new(169, 254, 1, 1), (1, 2), b"link-local")),
        frame(&udp(ZONE_V4, Ipv4Addr::LOCALHOST, (1, 2), b"loopback")),
        frame(&udp(ZONE_V4, ZONE_V4, (1, 2), b"itself")),
        frame(&udp(zone_v6(), "ff02::fb".parse::<IpAddr>().unwrap(), (1, 2), b"group")),
        frame(&udp(zone_v6(), "fe80::2".parse::<IpAddr>().unwrap(), (1, 2), b"neighbour")),
        frame_to([0xff; 6], ETHERTYPE_IPV4, &good),
        frame_to([0x33, 0x33, 0, 0, 0, 1], ETHERTYPE_IPV4, &good),
        frame_to([2, 9, 9, 9, 9, 9], ETHERTYPE_IPV4, &good),
        frame_to(GATEWAY_MAC, ETHERTYPE_IPV6, &good),
        frame_to(GATEWAY_MAC, 0x88cc, b"LLDP"),
        frame_to(GATEWAY_MAC, ETHERTYPE_IPV4, &good[..40]),
        frame_to(GATEWAY_MAC, ETHERTYPE_IPV4, &[]),
        vec![0; 5],
        Vec::new(),
    ];
    for (number, frame) in frames.iter().enumerate() {
        send(&mut tunnel, frame, NOW, &mut recorder);
        assert!(recorder.peer.is_empty(), "frame {number} left");
        assert_eq!(tunnel.status(NOW).drops.total(), u64::try_from(number).unwrap() + 1, "frame {number}");
    }
    assert!(recorder.zone.is_empty());
}

#[test]
fn what_no_peer_owns_goes_nowhere() {
    let (mut tunnel, _, mut recorder) = established(&config(vec![peer(0, &["10.11.0.0/24"])]));
    send(&mut tunnel, &frame(&udp(ZONE_V4, Ipv4Addr::new(8, 8, 8, 8), (1, 53), b"")), NOW, &mut recorder);
    send(&mut tunnel, &frame(&udp(zone_v6(), server_v6(), (1, 53), b"")), NOW, &mut recorder);
    assert!(recorder.peer.is_empty());
    assert_eq!(tunnel.status(NOW).drops.no_route, 2);
}

#[test]
fn a_peer_may_begin_the_handshake() {
    let mut tunnel = Tunnel::new(&one_peer(), NOW).unwrap();
    let mut remote = Remote::new(0);
    let mut recorder = Recorder::default();
    let initiation = remote.send(&udp(SERVER_V4, ZONE_V4, (1, 2), b"queued there"));
    tunnel.from_peer(0, &initiation, NOW, &mut recorder);
    recorder.peer.retain(|(_, datagram)| datagram[0] == 2);
    let response = recorder.take_peer().remove(0);
    assert!(!tunnel.status(NOW).up, "not before the peer showed its keys");
    for answer in remote.receive(&response) {
        tunnel.from_peer(0, &answer, NOW, &mut recorder);
    }
    assert!(tunnel.status(NOW).up);
    assert_eq!(recorder.zone.len(), 1);
}

#[test]
fn a_bad_configuration_says_what_is_wrong() {
    let check = |change: &dyn Fn(&mut Config), expected: ConfigError| {
        let mut config = config(vec![peer(0, &["10.0.0.0/8"]), peer(1, &["10.11.0.0/24"])]);
        change(&mut config);
        assert_eq!(Tunnel::new(&config, NOW).err(), Some(expected));
    };
    check(&|c| c.addresses.clear(), ConfigError::Addresses);
    check(&|c| c.addresses.push(SERVER_V4.into()), ConfigError::Addresses);
    check(&|c| c.mtu = 1279, ConfigError::Mtu { found: 1279, least: 1280 });
    check(&|c| c.mtu = 1441, ConfigError::Mtu { found: 1441, least: 1280 });
    check(&|c| c.peers.clear(), ConfigError::Peers(0));
    check(&|c| c.zone_mac = GATEWAY_MAC, ConfigError::ZoneMac);
    check(&|c| c.addresses[0] = GATEWAY_V4.into(), ConfigError::ZoneAddress(GATEWAY_V4.into()));
    let twice = (IpAddr::from([10, 0, 0, 1]), 8);
    check(
        &|c| c.peers[1].allowed_ips.push(twice),
        ConfigError::AllowedIp { address: twice.0, prefix: 8, peer: 1 },
    );
    let long = (IpAddr::from([10, 0, 0, 1]), 33);
    check(
        &|c| c.peers[1].allowed_ips.push(long),
        ConfigError::AllowedIp { address: long.0, prefix: 33, peer: 1 },
    );
}
