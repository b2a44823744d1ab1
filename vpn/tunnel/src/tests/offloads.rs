use smoltcp::wire::{Ipv4Packet, Ipv6Packet, TcpPacket, UdpPacket};

use super::*;

const TCP_HEADER: usize = 32;

/// A TCP packet as a guest with offloads hands it over: one header, any payload, partial checksum.
fn super_packet(source: IpAddr, destination: IpAddr, payload: &[u8], flags: u8) -> Vec<u8> {
    let length = TCP_HEADER + payload.len();
    let mut packet = Vec::new();
    ip::push_header(&mut packet, source, destination, ip::TCP, length).unwrap();
    packet.extend_from_slice(&[0x9c, 0x40, 0, 80]);
    packet.extend_from_slice(&0xffff_ff00_u32.to_be_bytes());
    packet.extend_from_slice(&[0, 0, 0, 9, 0x80, flags, 1, 0]);
    packet.extend_from_slice(&partial(source, destination, ip::TCP, length));
    packet.extend_from_slice(&[0, 0, 1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8]);
    packet.extend_from_slice(payload);
    packet
}

fn offload(gso_type: u8, gso_size: u16, ip_header: u16) -> VnetHeader {
    VnetHeader { flags: 1, gso_type, gso_size, checksum_start: 14 + ip_header, checksum_offset: 16 }
}

fn payload(length: usize) -> Vec<u8> {
    (0..length).map(|i| u8::try_from(i % 251).unwrap()).collect()
}

#[test]
fn a_super_packet_becomes_valid_segments() {
    let whole = payload(64_000);
    for (source, destination, gso_type, header) in
        [(IpAddr::from(ZONE_V4), IpAddr::from(SERVER_V4), 1, 20), (zone_v6(), server_v6(), 4, 40)]
    {
        let (mut tunnel, mut remote, mut recorder) = established(&one_peer());
        // CWR, PSH, FIN and ACK.
        let packet = super_packet(source, destination, &whole, 0x99);
        tunnel.from_zone(&offload(gso_type, 1348, header), &frame(&packet), NOW, &mut recorder);
        settle(&mut tunnel, 0, &mut remote, NOW, &mut recorder);
        let count = remote.inner.len();
        assert_eq!(count, 64_000_usize.div_ceil(1348));
        let mut joined = Vec::new();
        let mut identifications = Vec::new();
        for (number, segment) in remote.inner.iter().enumerate() {
            let tcp = if gso_type == 1 {
                let ip = Ipv4Packet::new_checked(segment.as_slice()).unwrap();
                assert!(ip.verify_checksum());
                identifications.push(ip.ident());
                ip.payload().to_vec()
            } else {
                Ipv6Packet::new_checked(segment.as_slice()).unwrap().payload().to_vec()
            };
            let tcp = TcpPacket::new_checked(tcp.as_slice()).unwrap();
            assert!(tcp.verify_checksum(&source.into(), &destination.into()), "segment {number}");
            let sequence = tcp.seq_number() - smoltcp::wire::TcpSeqNumber(0xffff_ff00_u32.cast_signed());
            assert_eq!(sequence, joined.len());
            assert_eq!(
                (tcp.cwr(), tcp.psh(), tcp.fin()),
                (number == 0, number + 1 == count, number + 1 == count)
            );
            assert!(tcp.ack());
            joined.extend_from_slice(tcp.payload());
        }
        assert_eq!(joined, whole);
        assert!(identifications.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)));
    }
}

#[test]
fn segments_never_exceed_the_mtu() {
    let (mut tunnel, mut remote, mut recorder) = established(&one_peer());
    let packet = super_packet(ZONE_V4.into(), SERVER_V4.into(), &payload(20_000), 0x10);
    tunnel.from_zone(&offload(1, 1448, 20), &frame(&packet), NOW, &mut recorder);
    assert!(recorder.peer.iter().all(|(_, datagram)| datagram.len() <= 1420 + 32));
    settle(&mut tunnel, 0, &mut remote, NOW, &mut recorder);
    assert_eq!(remote.inner.iter().map(|segment| segment.len() - 52).sum::<usize>(), 20_000);
}

#[test]
fn partial_checksums_are_completed() {
    for (source, destination) in [(IpAddr::from(ZONE_V4), IpAddr::from(SERVER_V4)), (zone_v6(), server_v6())]
    {
        let (mut tunnel, mut remote, mut recorder) = established(&one_peer());
        let mut packet = udp(source, destination, (1, 2), b"odd length");
        packet.push(b'!');
        let mut packet = udp(source, destination, (1, 2), &packet);
        let header = if source.is_ipv4() { 20 } else { 40 };
        let length = packet.len() - header;
        put(&mut packet, header + 6, &partial(source, destination, ip::UDP, length)).unwrap();
        let offload = VnetHeader {
            flags: 1,
            checksum_start: u16::try_from(14 + header).unwrap(),
            checksum_offset: 6,
            ..VnetHeader::default()
        };
        tunnel.from_zone(&offload, &frame(&packet), NOW, &mut recorder);
        settle(&mut tunnel, 0, &mut remote, NOW, &mut recorder);
        let udp = UdpPacket::new_checked(&remote.inner[0][header..]).unwrap();
        assert!(udp.verify_checksum(&source.into(), &destination.into()));
    }
}

#[test]
fn contradictory_requests_are_dropped() {
    let (mut tunnel, _, mut recorder) = established(&one_peer());
    let tcp = super_packet(ZONE_V4.into(), SERVER_V4.into(), &payload(5000), 0x10);
    let small = packet_of(100);
    let mut cut = tcp.clone();
    cut[32] = 0x10;
    let mut fragment = tcp.clone();
    fragment[6] = 0x20;
    let cases: [(VnetHeader, &[u8]); 9] = [
        (offload(4, 1000, 20), &tcp),
        (offload(3, 1000, 20), &tcp),
        (offload(1, 0, 20), &tcp),
        (offload(1, 47, 20), &tcp),
        (offload(1, 1000, 20), &cut),
        (offload(1, 1000, 20), &fragment),
        (offload(1, 1000, 20), &small),
        // A checksum inside the IP header could rewrite an address that was checked already.
        (VnetHeader { flags: 1, checksum_start: 14, checksum_offset: 12, ..VnetHeader::default() }, &small),
        (
            VnetHeader { flags: 1, checksum_start: 34, checksum_offset: 65535, ..VnetHeader::default() },
            &small,
        ),
    ];
    for (number, (offload, packet)) in cases.iter().enumerate() {
        tunnel.from_zone(offload, &frame(packet), NOW, &mut recorder);
        assert!(recorder.peer.is_empty(), "case {number}");
        assert_eq!(tunnel.status(NOW).drops.malformed, u64::try_from(number).unwrap() + 1, "case {number}");
    }
}
