//! ARP: the gateway's Ethernet address for every address but the zone's own.

use std::net::Ipv4Addr;

use smoltcp::wire::{ArpOperation, ArpPacket, ArpRepr, EthernetAddress};

use super::{ETHERTYPE_ARP, Link};
use crate::config::{GATEWAY_MAC, GATEWAY_V4};

pub(super) fn answer(payload: &[u8], link: &Link, out: &mut Vec<u8>) -> Option<()> {
    let packet = ArpPacket::new_checked(payload).ok()?;
    let ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_protocol_addr: asker,
        target_protocol_addr: target,
        ..
    } = ArpRepr::parse(&packet).ok()?
    else {
        return None;
    };
    // A probe for an address that the zone is about to take must stay unanswered, or the zone gives it up.
    let is_probe = asker == Ipv4Addr::UNSPECIFIED || asker == target;
    if target != GATEWAY_V4 && (is_probe || Some(target) == link.v4) {
        return None;
    }
    let reply = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Reply,
        source_hardware_addr: EthernetAddress(GATEWAY_MAC),
        source_protocol_addr: target,
        target_hardware_addr: EthernetAddress(link.zone_mac),
        target_protocol_addr: asker,
    };
    link.begin(out, ETHERTYPE_ARP);
    let start = out.len();
    out.resize(start.checked_add(reply.buffer_len())?, 0);
    reply.emit(&mut ArpPacket::new_unchecked(out.get_mut(start..)?));
    Some(())
}
