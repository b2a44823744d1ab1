//! The LAN's DHCP server (RFC 2131): it offers and confirms one address, to whoever asks.

use std::net::{Ipv4Addr, SocketAddrV4};

use smoltcp::wire::{DhcpMessageType, DhcpOption, DhcpPacket, DhcpRepr};

use crate::addresses::{HOST, NETMASK, ROUTER, ROUTER_MAC};
use crate::packet::{Datagram, build_udp};

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
const OPTION_DNS_SERVERS: u8 = 6;
const LEASE_SECONDS: u32 = 3600;

/// The answer to a client's message, as a frame.
pub(super) fn answer(datagram: &Datagram<'_>) -> Option<Vec<u8>> {
    if datagram.destination.port() != SERVER_PORT || datagram.source.port() != CLIENT_PORT {
        return None;
    }
    let packet = DhcpPacket::new_checked(datagram.payload).ok()?;
    let request = DhcpRepr::parse(&packet).ok()?;
    let message_type = match request.message_type {
        DhcpMessageType::Discover => DhcpMessageType::Offer,
        DhcpMessageType::Request if wants(&request, HOST) => DhcpMessageType::Ack,
        DhcpMessageType::Request => DhcpMessageType::Nak,
        // These need no answer.
        DhcpMessageType::Decline | DhcpMessageType::Release | DhcpMessageType::Inform => return None,
        // These are a server's.
        DhcpMessageType::Offer | DhcpMessageType::Ack | DhcpMessageType::Nak => return None,
        DhcpMessageType::Unknown(_) => return None,
    };
    let granted = message_type != DhcpMessageType::Nak;
    let dns_servers = DhcpOption { kind: OPTION_DNS_SERVERS, data: &ROUTER.octets() };
    let options: &[DhcpOption<'_>] = if granted { std::slice::from_ref(&dns_servers) } else { &[] };
    let response = DhcpRepr {
        message_type,
        transaction_id: request.transaction_id,
        secs: 0,
        client_hardware_address: request.client_hardware_address,
        client_ip: Ipv4Addr::UNSPECIFIED,
        your_ip: if granted { HOST } else { Ipv4Addr::UNSPECIFIED },
        server_ip: ROUTER,
        router: granted.then_some(ROUTER),
        subnet_mask: granted.then_some(NETMASK),
        relay_agent_ip: Ipv4Addr::UNSPECIFIED,
        broadcast: request.broadcast,
        requested_ip: None,
        client_identifier: None,
        server_identifier: Some(ROUTER),
        parameter_request_list: None,
        dns_servers: None,
        max_size: None,
        lease_duration: granted.then_some(LEASE_SECONDS),
        renew_duration: None,
        rebind_duration: None,
        additional_options: options,
    };
    let mut payload = vec![0; response.buffer_len()];
    response.emit(&mut DhcpPacket::new_unchecked(&mut payload)).ok()?;
    // A client without an address may not hear unicast yet; broadcast reaches it in every state (RFC 2131,
    // section 4.1), and on this LAN nobody else listens.
    Some(build_udp(&Datagram {
        source_mac: ROUTER_MAC,
        destination_mac: [0xff; 6],
        source: SocketAddrV4::new(ROUTER, SERVER_PORT),
        destination: SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT),
        payload: &payload,
    }))
}

/// Whether the client asks for `address`, in any of the ways of RFC 2131, section 4.3.2.
fn wants(request: &DhcpRepr<'_>, address: Ipv4Addr) -> bool {
    request.requested_ip.unwrap_or(request.client_ip) == address
}
