//! DHCPv4 (RFC 2131): one lease, the tunnel's address.
//!
//! The mask is /32: nothing but the gateway is on the link. Clients reach the router by an on-link route of their own
//! (systemd-networkd, dhclient, NetworkManager and busybox's script do so for /32), or take option 121.

use std::net::{IpAddr, Ipv4Addr};

use smoltcp::wire::{DhcpMessageType, DhcpOption, DhcpPacket, DhcpRepr};

use super::{ETHERTYPE_IPV4, Link};
use crate::config::GATEWAY_V4;
use crate::ip;

const LEASE_SECONDS: u32 = 24 * 3600;
const OPTION_DNS: u8 = 6;
const OPTION_MTU: u8 = 26;
const OPTION_CLASSLESS_ROUTES: u8 = 121;

/// 169.254.77.1/32 on the link, then the default route by it (RFC 3442).
const ROUTES: [u8; 14] = [32, 169, 254, 77, 1, 0, 0, 0, 0, 0, 169, 254, 77, 1];

pub(super) fn answer(payload: &[u8], link: &Link, out: &mut Vec<u8>) -> Option<()> {
    let address = link.v4?;
    let packet = DhcpPacket::new_checked(payload).ok()?;
    let request = DhcpRepr::parse(&packet).ok()?;
    // A relayed request is never ours to answer.
    if request.relay_agent_ip != Ipv4Addr::UNSPECIFIED
        || request.client_hardware_address.as_bytes() != link.zone_mac.as_slice()
        || request.server_identifier.is_some_and(|server| server != GATEWAY_V4)
    {
        return None;
    }
    let message_type = match request.message_type {
        DhcpMessageType::Discover => DhcpMessageType::Offer,
        DhcpMessageType::Inform => DhcpMessageType::Ack,
        DhcpMessageType::Request => {
            let wanted = request.requested_ip.unwrap_or(request.client_ip);
            if wanted == address { DhcpMessageType::Ack } else { DhcpMessageType::Nak }
        }
        DhcpMessageType::Offer
        | DhcpMessageType::Decline
        | DhcpMessageType::Ack
        | DhcpMessageType::Nak
        | DhcpMessageType::Release
        | DhcpMessageType::Unknown(_) => return None,
    };
    let grants = message_type != DhcpMessageType::Nak;
    let leases = grants && request.message_type != DhcpMessageType::Inform;
    let mtu = link.mtu.to_be_bytes();
    let wants_routes =
        request.parameter_request_list.is_some_and(|list| list.contains(&OPTION_CLASSLESS_ROUTES));
    let mut options = Vec::with_capacity(3);
    if grants {
        options.push(DhcpOption { kind: OPTION_MTU, data: &mtu });
    }
    if grants && wants_routes {
        options.push(DhcpOption { kind: OPTION_CLASSLESS_ROUTES, data: &ROUTES });
    }
    let gateway = GATEWAY_V4.octets();
    if grants && link.has_dns {
        options.push(DhcpOption { kind: OPTION_DNS, data: &gateway });
    }
    let reply = DhcpRepr {
        message_type,
        transaction_id: request.transaction_id,
        secs: 0,
        client_hardware_address: request.client_hardware_address,
        client_ip: if grants { request.client_ip } else { Ipv4Addr::UNSPECIFIED },
        your_ip: if leases { address } else { Ipv4Addr::UNSPECIFIED },
        server_ip: Ipv4Addr::UNSPECIFIED,
        router: grants.then_some(GATEWAY_V4),
        subnet_mask: grants.then_some(Ipv4Addr::BROADCAST),
        relay_agent_ip: Ipv4Addr::UNSPECIFIED,
        broadcast: request.broadcast,
        requested_ip: None,
        client_identifier: None,
        server_identifier: Some(GATEWAY_V4),
        parameter_request_list: None,
        dns_servers: None,
        max_size: None,
        lease_duration: leases.then_some(LEASE_SECONDS),
        renew_duration: None,
        rebind_duration: None,
        additional_options: &options,
    };
    let mut message = vec![0_u8; reply.buffer_len()];
    reply.emit(&mut DhcpPacket::new_unchecked(message.as_mut_slice())).ok()?;
    // The client has no address yet: the frame goes to its Ethernet address, the packet to everyone, which every
    // client's raw or UDP socket takes.
    let to = if request.client_ip == address { address } else { Ipv4Addr::BROADCAST };
    link.begin(out, ETHERTYPE_IPV4);
    ip::push_udp(out, (IpAddr::V4(GATEWAY_V4), 67), (IpAddr::V4(to), 68), &message)
}
