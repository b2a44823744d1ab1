use std::net::SocketAddrV4;

use smoltcp::wire::Ipv4Cidr;
use vpn_protocol::{Endpoint, Host};

use super::*;
use crate::frame::{Route, build_arp_request, build_datagram};

const MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 7]);
const NEXT: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1]);
const OWN: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 20);
const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 1);
const GATEWAY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 10), 51820);

fn frame(source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16), payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let route = Route {
        source_mac: MAC,
        destination_mac: if destination.0.is_broadcast() { EthernetAddress::BROADCAST } else { NEXT },
        source: SocketAddrV4::new(source.0, source.1),
        destination: SocketAddrV4::new(destination.0, destination.1),
    };
    assert!(build_datagram(&mut frame, &route, 1, payload));
    frame
}

fn check(frame: &[u8], with_lease: Option<Kind>, without_lease: Option<Kind>) {
    let lease =
        Lease { address: Ipv4Cidr::new(OWN, 24), router: Some(ROUTER), dns: vec![ROUTER], server: ROUTER };
    let mut tunnels = Tunnels::default();
    let host = Host::Address((*GATEWAY.ip()).into());
    tunnels.add(1, vec![Endpoint { host, port: GATEWAY.port() }], 0).unwrap();
    let names = Names::default();
    let mut gate = Gate { mac: MAC, lease: Some(&lease), names: &names, tunnels: &tunnels };
    assert_eq!(gate.judge(frame), with_lease, "{frame:02x?}");
    gate.lease = None;
    assert_eq!(gate.judge(frame), without_lease, "without a lease: {frame:02x?}");
}

#[test]
fn a_tunnels_datagram_goes_from_its_port_to_its_endpoint_only() {
    let gateway = (*GATEWAY.ip(), GATEWAY.port());
    check(&frame((OWN, 32768), gateway, b"x"), Some(Kind::Tunnel), None);
    check(&frame((OWN, 32769), gateway, b"x"), None, None);
    check(&frame((Ipv4Addr::new(192, 168, 77, 21), 32768), gateway, b"x"), None, None);
    check(&frame((OWN, 32768), (gateway.0, 53), b"x"), None, None);
    check(&frame((OWN, 32768), (Ipv4Addr::new(8, 8, 8, 8), 51820), b"x"), None, None);
    let mut foreign = frame((OWN, 32768), gateway, b"x");
    foreign[11] ^= 1;
    check(&foreign, None, None);
    let mut multicast = frame((OWN, 32768), gateway, b"x");
    multicast[..6].copy_from_slice(&[1, 0, 0x5e, 0, 0, 1]);
    check(&multicast, None, None);
}

#[test]
fn dhcp_carries_our_address_and_arp_speaks_of_the_lan() {
    let mut request = vec![0; 240];
    request[..3].copy_from_slice(&[1, 1, 6]);
    request[28..34].copy_from_slice(MAC.as_bytes());
    let all = (Ipv4Addr::BROADCAST, 67);
    check(&frame((Ipv4Addr::UNSPECIFIED, 68), all, &request), Some(Kind::Dhcp), Some(Kind::Dhcp));
    check(&frame((OWN, 68), (ROUTER, 67), &request), Some(Kind::Dhcp), None);
    check(&frame((OWN, 68), (Ipv4Addr::new(192, 168, 77, 2), 67), &request), None, None);
    request[28] ^= 2;
    check(&frame((Ipv4Addr::UNSPECIFIED, 68), all, &request), None, None);
    check(&build_arp_request(MAC, OWN, ROUTER), Some(Kind::Arp), None);
    check(&build_arp_request(MAC, ROUTER, ROUTER), None, None);
    check(&build_arp_request(MAC, OWN, Ipv4Addr::new(10, 0, 0, 1)), None, None);
}

#[test]
fn a_dns_question_is_one_name_and_nothing_more() {
    let ask = |flags: u8, questions: u8, end: &[u8]| {
        let mut message = vec![0, 9, flags, 0, 0, questions, 0, 0, 0, 0, 0, 0];
        message.extend(b"\x06Office\x07example\0");
        message.extend(end);
        question(&message)
    };
    assert_eq!(ask(1, 1, &[0, 1, 0, 1]).as_deref(), Some("office.example"));
    assert_eq!(ask(1, 1, &[0, 28, 0, 1]).as_deref(), Some("office.example"));
    assert_eq!(ask(1, 1, &[0, 16, 0, 1]), None);
    assert_eq!(ask(1, 1, &[0, 1, 0, 1, 0]), None);
    assert_eq!(ask(0x81, 1, &[0, 1, 0, 1]), None);
    assert_eq!(ask(1, 2, &[0, 1, 0, 1]), None);
    // A name that no tunnel has.
    let mut message = vec![0, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    message.extend(b"\x06secret\0\0\x01\0\x01");
    check(&frame((OWN, 5000), (ROUTER, 53), &message), None, None);
}
