//! DHCPv6 (RFC 8415), the part that gives one client one address.
//!
//! Solicit, Request, Renew, Rebind, Confirm and Information-request are answered; the rest is ignored. Only the first
//! IA_NA of a message gets the address.

use std::net::{IpAddr, Ipv6Addr};

use super::{Datagram, ETHERTYPE_IPV6, Link};
use crate::bytes::{array, be16, put};
use crate::config::{GATEWAY_MAC, GATEWAY_V6};
use crate::ip;

/// `All_DHCP_Relay_Agents_and_Servers`.
pub(super) const SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);

const SOLICIT: u8 = 1;
const ADVERTISE: u8 = 2;
const REQUEST: u8 = 3;
const CONFIRM: u8 = 4;
const RENEW: u8 = 5;
const REBIND: u8 = 6;
const REPLY: u8 = 7;
const INFORMATION_REQUEST: u8 = 11;

const CLIENT_ID: u16 = 1;
const SERVER_ID: u16 = 2;
const IA_NA: u16 = 3;
const IA_ADDRESS: u16 = 5;
const STATUS: u16 = 13;
const RAPID_COMMIT: u16 = 14;
const DNS_SERVERS: u16 = 23;

const LIFETIME_SECONDS: u32 = 24 * 3600;

/// A DUID of RFC 8415, section 11, is 130 bytes at most.
const MAX_DUID: usize = 130;

pub(super) fn answer(datagram: &Datagram<'_>, link: &Link, out: &mut Vec<u8>) -> Option<()> {
    let address = link.v6?;
    let (IpAddr::V6(client), port) = datagram.source else { return None };
    if !client.is_unicast_link_local() && client != address {
        return None;
    }
    let header = array::<4>(datagram.payload, 0)?;
    let [kind, transaction @ ..] = header;
    let options = datagram.payload.get(4..)?;
    let client_id = find(options, CLIENT_ID);
    if client_id.is_some_and(|id| id.len() > MAX_DUID) {
        return None;
    }
    let server_id = server_id();
    match (kind, find(options, SERVER_ID)) {
        (SOLICIT | CONFIRM | REBIND, None) => {}
        (INFORMATION_REQUEST, named) if named.is_none_or(|id| id == server_id) => {}
        (REQUEST | RENEW, Some(id)) if id == server_id => {}
        _ => return None,
    }
    if client_id.is_none() && kind != INFORMATION_REQUEST {
        return None;
    }
    let rapid = kind == SOLICIT && find(options, RAPID_COMMIT).is_some();
    let mut message = Vec::with_capacity(256);
    message.push(if kind == SOLICIT && !rapid { ADVERTISE } else { REPLY });
    message.extend_from_slice(&transaction);
    if let Some(id) = client_id {
        push(&mut message, CLIENT_ID, id)?;
    }
    push(&mut message, SERVER_ID, &server_id)?;
    if rapid {
        push(&mut message, RAPID_COMMIT, &[])?;
    }
    match kind {
        INFORMATION_REQUEST => {}
        CONFIRM => push(&mut message, STATUS, &[0, 0])?,
        _ => {
            let association = array::<4>(find(options, IA_NA)?, 0)?;
            push(&mut message, IA_NA, &identity(association, address)?)?;
        }
    }
    if link.has_dns {
        push(&mut message, DNS_SERVERS, &GATEWAY_V6.octets())?;
    }
    link.begin(out, ETHERTYPE_IPV6);
    ip::push_udp(out, (IpAddr::V6(GATEWAY_V6), 547), (IpAddr::V6(client), port), &message)
}

/// The body of an `IA_NA` that holds the address. T1 and T2 are the client's choice.
fn identity(association: [u8; 4], address: Ipv6Addr) -> Option<Vec<u8>> {
    let mut body = association.to_vec();
    body.extend_from_slice(&[0; 8]);
    let mut lease = address.octets().to_vec();
    lease.extend_from_slice(&LIFETIME_SECONDS.to_be_bytes());
    lease.extend_from_slice(&LIFETIME_SECONDS.to_be_bytes());
    push(&mut body, IA_ADDRESS, &lease)?;
    Some(body)
}

/// The gateway's DUID: its Ethernet address (DUID-LL).
fn server_id() -> [u8; 10] {
    let mut id = [0, 3, 0, 1, 0, 0, 0, 0, 0, 0];
    let written = put(&mut id, 4, &GATEWAY_MAC);
    debug_assert!(written.is_some(), "six bytes fit behind four");
    id
}

fn push(out: &mut Vec<u8>, code: u16, value: &[u8]) -> Option<()> {
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(&u16::try_from(value.len()).ok()?.to_be_bytes());
    out.extend_from_slice(value);
    Some(())
}

/// The first option with this code.
fn find(mut options: &[u8], code: u16) -> Option<&[u8]> {
    loop {
        let found = be16(options, 0)?;
        let length = usize::from(be16(options, 2)?);
        let (value, rest) = options.get(4..)?.split_at_checked(length)?;
        if found == code {
            return Some(value);
        }
        options = rest;
    }
}
