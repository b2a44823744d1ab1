//! Echo replies from the gateway's own addresses, and "packet too big" where a guest overlooked the MTU.

use std::net::IpAddr;

use super::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Link, is_gateway};
use crate::bytes::put;
use crate::config::{GATEWAY_V4, GATEWAY_V6};
use crate::ip::{self, Header, ICMP, ICMPV6};

const V4_ECHO_REPLY: u8 = 0;
const V4_UNREACHABLE: u8 = 3;
const V4_FRAGMENTATION_NEEDED: u8 = 4;
const V4_ECHO_REQUEST: u8 = 8;
const V6_TOO_BIG: u8 = 2;
const V6_ECHO_REQUEST: u8 = 128;
const V6_ECHO_REPLY: u8 = 129;

/// What of the offending packet is quoted: enough for any header, below every MTU.
const QUOTE: usize = 512;

fn ethertype(address: IpAddr) -> u16 {
    if address.is_ipv4() { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 }
}

/// Answers an echo request to the gateway.
pub(super) fn echo(header: &Header, body: &[u8], link: &Link, out: &mut Vec<u8>) -> Option<()> {
    let from_link_local = matches!(header.source, IpAddr::V6(v6) if v6.is_unicast_link_local());
    if !is_gateway(header.destination) || !(link.owns(header.source) || from_link_local) {
        return None;
    }
    let reply = match (header.protocol, body.first()?, header.source.is_ipv4()) {
        (ICMP, &V4_ECHO_REQUEST, true) => V4_ECHO_REPLY,
        (ICMPV6, &V6_ECHO_REQUEST, false) => V6_ECHO_REPLY,
        _ => return None,
    };
    let mut message = body.to_vec();
    put(&mut message, 0, &[reply])?;
    put(&mut message, 2, &[0, 0])?;
    link.begin(out, ethertype(header.source));
    ip::push_packet(out, header.destination, header.source, header.protocol, &message, 2)
}

/// Tells the zone the MTU. Nothing is said about an ICMP message, which may be an error itself.
pub(super) fn too_big(packet: &[u8], header: &Header, link: &Link, out: &mut Vec<u8>) -> Option<()> {
    if header.protocol == ICMP || header.protocol == ICMPV6 || header.fragment {
        return None;
    }
    let quote = packet.get(..header.total_len.min(QUOTE))?;
    let (gateway, protocol, mut message) = match header.source {
        IpAddr::V4(_) => {
            (IpAddr::V4(GATEWAY_V4), ICMP, vec![V4_UNREACHABLE, V4_FRAGMENTATION_NEEDED, 0, 0, 0, 0])
        }
        IpAddr::V6(_) => (IpAddr::V6(GATEWAY_V6), ICMPV6, vec![V6_TOO_BIG, 0, 0, 0, 0, 0]),
    };
    message.extend_from_slice(&link.mtu.to_be_bytes());
    message.extend_from_slice(quote);
    link.begin(out, ethertype(header.source));
    ip::push_packet(out, gateway, header.source, protocol, &message, 2)
}
