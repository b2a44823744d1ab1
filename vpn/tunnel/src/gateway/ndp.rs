//! Neighbour discovery (RFC 4861) and router advertisements with a DNS server (RFC 8106).
//!
//! No prefix is advertised: nothing is on the link, and an address made from a prefix would not be the policy's. The
//! M flag sends the guest to DHCPv6.

use std::net::{IpAddr, Ipv6Addr};

use super::{ETHERTYPE_IPV6, Link};
use crate::bytes::array;
use crate::config::{GATEWAY_MAC, GATEWAY_V6};
use crate::ip::{self, Header, ICMPV6};

const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

/// The longest that RFC 4861 allows.
const LIFETIME_SECONDS: u16 = 9000;

/// Answers a solicitation.
pub(super) fn answer(
    packet: &[u8],
    header: &Header,
    body: &[u8],
    link: &Link,
    out: &mut Vec<u8>,
) -> Option<()> {
    // A hop limit of 255 proves that it comes from the link itself.
    if packet.get(7) != Some(&255) || body.get(1) != Some(&0) {
        return None;
    }
    let IpAddr::V6(source) = header.source else { return None };
    match *body.first()? {
        ROUTER_SOLICITATION => advertise_router((!source.is_unspecified()).then_some(source), link, out),
        NEIGHBOUR_SOLICITATION => {
            let target = Ipv6Addr::from(array::<16>(body, 8)?);
            advertise_neighbour(source, target, link, out)
        }
        _ => None,
    }
}

/// Makes a router advertisement for one node, or for all.
pub(super) fn advertise_router(to: Option<Ipv6Addr>, link: &Link, out: &mut Vec<u8>) -> Option<()> {
    // Hop limit 64; managed addresses and other configuration by DHCPv6.
    let mut message = vec![ROUTER_ADVERTISEMENT, 0, 0, 0, 64, 0xc0];
    message.extend_from_slice(&LIFETIME_SECONDS.to_be_bytes());
    message.extend_from_slice(&[0; 8]);
    message.extend_from_slice(&[1, 1]);
    message.extend_from_slice(&GATEWAY_MAC);
    message.extend_from_slice(&[5, 1, 0, 0, 0, 0]);
    message.extend_from_slice(&link.mtu.to_be_bytes());
    if link.has_dns {
        message.extend_from_slice(&[25, 3, 0, 0]);
        message.extend_from_slice(&u32::from(LIFETIME_SECONDS).to_be_bytes());
        message.extend_from_slice(&GATEWAY_V6.octets());
    }
    send(to, link, out, &message)
}

fn advertise_neighbour(source: Ipv6Addr, target: Ipv6Addr, link: &Link, out: &mut Vec<u8>) -> Option<()> {
    // Addresses that the zone itself may be about to take stay unanswered, or it would find them taken.
    let is_zone = link.v6 == Some(target) || target.is_unicast_link_local();
    if target != GATEWAY_V6 && (source.is_unspecified() || is_zone || target.is_multicast()) {
        return None;
    }
    // Router, override, and solicited unless it goes to all.
    let flags = if source.is_unspecified() { 0xa0 } else { 0xe0 };
    let mut message = vec![NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, flags, 0, 0, 0];
    message.extend_from_slice(&target.octets());
    message.extend_from_slice(&[2, 1]);
    message.extend_from_slice(&GATEWAY_MAC);
    send((!source.is_unspecified()).then_some(source), link, out, &message)
}

fn send(to: Option<Ipv6Addr>, link: &Link, out: &mut Vec<u8>, message: &[u8]) -> Option<()> {
    let (mac, address) = to.map_or((ALL_NODES_MAC, ALL_NODES), |address| (link.zone_mac, address));
    link.begin_to(out, mac, ETHERTYPE_IPV6);
    ip::push_packet(out, IpAddr::V6(GATEWAY_V6), IpAddr::V6(address), ICMPV6, message, 2)
}
