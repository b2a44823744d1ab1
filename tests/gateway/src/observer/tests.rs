use std::net::Ipv4Addr;
use std::time::Duration;

use super::*;
use crate::fake_host::{HOST_MAC, host_datagram, lan_dns};
use crate::packet::build_udp;

fn judge(frame: &[u8]) -> Result<Allowed, Reason> {
    let observer = Observer { host_mac: HOST_MAC, markers: vec!["PLANTED".to_owned()] };
    observer.judge(frame)
}

#[track_caller]
fn leaks(frame: &[u8], expected: &str) {
    let reason = judge(frame).unwrap_err().to_string();
    assert!(reason.contains(expected), "{reason:?} does not contain {expected:?}");
}

fn ethernet(source: [u8; 6], destination: [u8; 6], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = destination.to_vec();
    frame.extend_from_slice(&source);
    frame.extend_from_slice(&ethertype.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

fn arp(operation: u8, sender: [u8; 6], sender_ip: [u8; 4], target_ip: [u8; 4]) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4, 0, operation];
    packet.extend_from_slice(&sender);
    packet.extend_from_slice(&sender_ip);
    packet.extend_from_slice(&[0; 6]);
    packet.extend_from_slice(&target_ip);
    ethernet(HOST_MAC, BROADCAST, 0x0806, &packet)
}

fn wireguard(kind: u8, length: usize) -> Vec<u8> {
    let mut payload = vec![0xa5; length];
    payload[..4].copy_from_slice(&[kind, 0, 0, 0]);
    payload
}

fn udp(source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16), payload: &[u8]) -> Vec<u8> {
    build_udp(&Datagram {
        source_mac: HOST_MAC,
        destination_mac: ROUTER_MAC,
        source: SocketAddrV4::new(source.0, source.1),
        destination: SocketAddrV4::new(destination.0, destination.1),
        payload,
    })
}

#[test]
fn wireguard_messages_of_every_type_pass_to_their_gateway() {
    for (kind, length, message) in [
        (1, 148, Message::HandshakeInitiation),
        (2, 92, Message::HandshakeResponse),
        (3, 64, Message::CookieReply),
        (4, 32, Message::Data),
        (4, 32 + 1424, Message::Data),
    ] {
        for site in Site::ALL {
            let frame = host_datagram(site.endpoint(), &wireguard(kind, length));
            assert_eq!(judge(&frame), Ok(Allowed::WireGuard(site, message)));
        }
    }
}

#[test]
fn what_only_looks_like_wireguard_leaks() {
    let office = Site::Office.endpoint();
    for payload in
        [wireguard(1, 147), wireguard(5, 148), wireguard(4, 33), wireguard(4, 16), b"hello".to_vec()]
    {
        leaks(&host_datagram(office, &payload), "no WireGuard message");
    }
    let mut reserved = wireguard(4, 64);
    reserved[2] = 1;
    leaks(&host_datagram(office, &reserved), "no WireGuard message");
    let elsewhere = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 30), 51820);
    leaks(&host_datagram(elsewhere, &wireguard(1, 148)), "UDP 192.168.77.20");
    let other_port = SocketAddrV4::new(*office.ip(), 51821);
    leaks(&host_datagram(other_port, &wireguard(1, 148)), "to 198.51.100.10:51821");
    let mut marked = wireguard(4, 64);
    marked[20..27].copy_from_slice(b"PLANTED");
    leaks(&host_datagram(office, &marked), "planted marker");
}

#[test]
fn dns_is_only_for_the_endpoints_and_only_to_the_lan_server() {
    let query = |name| dns::build_query(3, name, dns::TYPE_A);
    let allowed = host_datagram(lan_dns(), &query("office.gateway.example"));
    assert_eq!(judge(&allowed), Ok(Allowed::EndpointDns(Site::Office)));
    leaks(&host_datagram(lan_dns(), &query("secret.example")), "secret.example");
    let google = SocketAddrV4::new(Ipv4Addr::new(8, 8, 8, 8), 53);
    leaks(&host_datagram(google, &query("office.gateway.example")), "to 8.8.8.8:53");
    let mut longer = query("office.gateway.example");
    longer.extend_from_slice(b"more");
    leaks(&host_datagram(lan_dns(), &longer), "more than its question");
    leaks(&host_datagram(lan_dns(), &dns::build_query(3, "office.gateway.example", 16)), "record type 16");
}

#[test]
fn arp_is_only_the_hosts_own() {
    let host = HOST.octets();
    assert_eq!(judge(&arp(1, HOST_MAC, host, ROUTER.octets())), Ok(Allowed::Arp));
    assert_eq!(judge(&arp(1, HOST_MAC, [0; 4], host)), Ok(Allowed::Arp));
    leaks(&arp(1, HOST_MAC, host, [192, 168, 77, 99]), "about 192.168.77.99");
    leaks(&arp(1, [2, 0, 0, 0, 0, 9], host, ROUTER.octets()), "speaks for 02-00-00-00-00-09");
    leaks(&arp(1, HOST_MAC, [192, 168, 77, 50], ROUTER.octets()), "speaks for 192.168.77.50");
    leaks(&arp(2, HOST_MAC, host, ROUTER.octets()), "Reply");
    let mut padded = arp(1, HOST_MAC, host, ROUTER.octets());
    padded.resize(60, 0);
    assert_eq!(judge(&padded), Ok(Allowed::Arp));
    padded[59] = 1;
    leaks(&padded, "behind the packet's end");
}

#[test]
fn frames_of_a_zone_are_leaks_whatever_they_carry() {
    let zone_mac = [0x02, 0xb1, 0, 0, 0, 1];
    let wireguard_frame = host_datagram(Site::Office.endpoint(), &wireguard(1, 148));
    let mut foreign = wireguard_frame.clone();
    foreign[6..12].copy_from_slice(&zone_mac);
    leaks(&foreign, "is not the NIC's");
    leaks(&ethernet(HOST_MAC, [0x33, 0x33, 0, 0, 0, 1], 0x86dd, &[0x60; 60]), "0x86dd");
    leaks(&ethernet(HOST_MAC, BROADCAST, 0x88b5, b"raw"), "0x88b5");
    leaks(&[0; 13], "no Ethernet");
    // TCP, ICMP and fragments.
    let mut tcp = wireguard_frame.clone();
    tcp[23] = 6;
    leaks(&tcp, "no whole, plain UDP");
    let mut fragment = wireguard_frame.clone();
    fragment[20] |= 0x20;
    leaks(&fragment, "no whole, plain UDP");
    let mut broken_checksum = wireguard_frame;
    broken_checksum[60] ^= 1;
    leaks(&broken_checksum, "no whole, plain UDP");
    // Broadcast and multicast.
    leaks(&udp((HOST, 5000), (Ipv4Addr::BROADCAST, 5000), b"x"), "255.255.255.255:5000");
    leaks(&udp((HOST, 5353), (Ipv4Addr::new(224, 0, 0, 251), 5353), b"x"), "224.0.0.251:5353");
    // The zone's own inner address.
    let inner = udp((Ipv4Addr::new(10, 11, 0, 2), 4000), (*Site::Office.endpoint().ip(), 51820), b"x");
    leaks(&inner, "UDP 10.11.0.2:4000");
}

#[test]
fn dhcp_of_anybody_else_leaks() {
    let mut discover = vec![0; 240];
    discover[..4].copy_from_slice(&[1, 1, 6, 0]);
    discover[28..34].copy_from_slice(&HOST_MAC);
    discover[236..240].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
    discover.extend_from_slice(&[53, 1, 1, 255]);
    let frame = |payload: &[u8]| {
        let mut frame = udp((Ipv4Addr::UNSPECIFIED, 68), (Ipv4Addr::BROADCAST, 67), payload);
        frame[..6].copy_from_slice(&BROADCAST);
        frame
    };
    assert_eq!(judge(&frame(&discover)), Ok(Allowed::Dhcp));
    let mut of_zone = discover.clone();
    of_zone[33] = 0x99;
    leaks(&frame(&of_zone), "for client");
    let mut offer = discover.clone();
    offer[0] = 2;
    offer[242] = 2;
    leaks(&frame(&offer), "DHCP");
    leaks(&udp((Ipv4Addr::new(10, 0, 0, 1), 68), (ROUTER, 67), &discover), "from 10.0.0.1");
}

#[test]
fn a_planted_leak_among_good_frames_is_found_and_shown() {
    let frame = |direction, bytes| Frame { time: Duration::from_millis(1500), direction, bytes };
    let good = host_datagram(Site::Office.endpoint(), &wireguard(4, 64));
    let bad = host_datagram(SocketAddrV4::new(Ipv4Addr::new(8, 8, 8, 8), 53), b"query");
    let record = [
        frame(Direction::FromHost, good),
        frame(Direction::FromHost, bad.clone()),
        frame(Direction::ToHost, bad.clone()),
        frame(Direction::Inner(Site::Office), bad),
    ];
    let found = Observer::new(HOST_MAC).leaks(&record);
    assert_eq!(found.len(), 1, "inner packets and frames for the host are not the host's");
    let shown = found[0].to_string();
    assert!(
        shown.starts_with("frame at 1.500 s, 47 bytes: UDP 192.168.77.20:40008 to 8.8.8.8:53"),
        "{shown}"
    );
}
