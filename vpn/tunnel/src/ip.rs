//! The few facts about an IP packet on which forwarding decides (RFC 791, RFC 8200).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::bytes::{array, be16, fold, sum};

/// TCP's protocol number.
pub(crate) const TCP: u8 = 6;
/// UDP's protocol number.
pub(crate) const UDP: u8 = 17;
/// `ICMPv4`'s protocol number.
pub(crate) const ICMP: u8 = 1;
/// `ICMPv6`'s protocol number.
pub(crate) const ICMPV6: u8 = 58;

/// Length of an IPv6 header without extensions.
pub(crate) const IPV6_HEADER: usize = 40;

/// A header whose lengths fit the bytes that it was read from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    /// Protocol, or the first next-header of IPv6.
    pub(crate) protocol: u8,
    /// Where the header ends; extension headers of IPv6 lie behind it.
    pub(crate) header_len: usize,
    /// Length of the whole packet as its header says.
    pub(crate) total_len: usize,
    /// Part of a fragmented IPv4 datagram.
    pub(crate) fragment: bool,
}

/// Reads the header at the start of `bytes`; bytes behind the packet are allowed.
pub(crate) fn parse(bytes: &[u8]) -> Option<Header> {
    let first = bytes.first()?;
    let header = match first >> 4 {
        4 => {
            let header_len = usize::from(first & 0xf).saturating_mul(4);
            if header_len < 20 {
                return None;
            }
            Header {
                source: Ipv4Addr::from(array::<4>(bytes, 12)?).into(),
                destination: Ipv4Addr::from(array::<4>(bytes, 16)?).into(),
                protocol: *bytes.get(9)?,
                header_len,
                total_len: usize::from(be16(bytes, 2)?),
                fragment: be16(bytes, 6)? & 0x3fff != 0,
            }
        }
        6 => Header {
            source: Ipv6Addr::from(array::<16>(bytes, 8)?).into(),
            destination: Ipv6Addr::from(array::<16>(bytes, 24)?).into(),
            protocol: *bytes.get(6)?,
            header_len: IPV6_HEADER,
            total_len: usize::from(be16(bytes, 4)?).saturating_add(IPV6_HEADER),
            fragment: false,
        },
        _ => return None,
    };
    (header.header_len <= header.total_len && header.total_len <= bytes.len()).then_some(header)
}

/// Whether a packet to this address belongs into a tunnel at all: global or private unicast.
pub(crate) fn is_routable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [first, ..] = v4.octets();
            first != 0
                && !v4.is_loopback()
                && !v4.is_link_local()
                && !v4.is_multicast()
                && !v4.is_broadcast()
                && first < 240
        }
        IpAddr::V6(v6) => {
            !v6.is_unspecified() && !v6.is_loopback() && !v6.is_multicast() && !v6.is_unicast_link_local()
        }
    }
}

/// The sum of the pseudo header of TCP, UDP and `ICMPv6`.
pub(crate) fn pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, length: usize) -> u64 {
    let addresses = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => sum(&destination.octets(), sum(&source.octets(), 0)),
        (IpAddr::V6(source), IpAddr::V6(destination)) => sum(&destination.octets(), sum(&source.octets(), 0)),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => 0,
    };
    addresses.wrapping_add(u64::from(protocol)).wrapping_add(u64::try_from(length).unwrap_or_default())
}

/// Appends a header for `payload` bytes. `None` when families differ or the length does not fit.
pub(crate) fn push_header(
    out: &mut Vec<u8>,
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    payload: usize,
) -> Option<()> {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let total = u16::try_from(payload.checked_add(20)?).ok()?;
            let start = out.len();
            out.extend_from_slice(&[0x45, 0]);
            out.extend_from_slice(&total.to_be_bytes());
            out.extend_from_slice(&[0, 0, 0x40, 0, 64, protocol, 0, 0]);
            out.extend_from_slice(&source.octets());
            out.extend_from_slice(&destination.octets());
            let checksum = fold(sum(out.get(start..)?, 0));
            crate::bytes::put(out, start.checked_add(10)?, &checksum.to_be_bytes())
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let length = u16::try_from(payload).ok()?;
            out.extend_from_slice(&[0x60, 0, 0, 0]);
            out.extend_from_slice(&length.to_be_bytes());
            // Neighbour discovery demands a hop limit of 255 (RFC 4861, section 6.1).
            out.extend_from_slice(&[protocol, 255]);
            out.extend_from_slice(&source.octets());
            out.extend_from_slice(&destination.octets());
            Some(())
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => None,
    }
}

/// Appends a whole IP packet with a transport header and payload given in one piece, whose checksum field lies at
/// `checksum_at` of `transport` and is zero there.
pub(crate) fn push_packet(
    out: &mut Vec<u8>,
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    transport: &[u8],
    checksum_at: usize,
) -> Option<()> {
    push_header(out, source, destination, protocol, transport.len())?;
    let start = out.len();
    out.extend_from_slice(transport);
    // ICMPv4 alone has no pseudo header.
    let pseudo =
        if protocol == ICMP { 0 } else { pseudo_header(source, destination, protocol, transport.len()) };
    let checksum = match fold(sum(transport, pseudo)) {
        // Zero means "no checksum" in UDP; its complement means the same number everywhere.
        0 if protocol == UDP => 0xffff,
        checksum => checksum,
    };
    crate::bytes::put(out, start.checked_add(checksum_at)?, &checksum.to_be_bytes())
}

/// Appends a UDP datagram in its IP packet.
pub(crate) fn push_udp(
    out: &mut Vec<u8>,
    (source, source_port): (IpAddr, u16),
    (destination, destination_port): (IpAddr, u16),
    payload: &[u8],
) -> Option<()> {
    let length = u16::try_from(payload.len().checked_add(8)?).ok()?;
    push_header(out, source, destination, UDP, usize::from(length))?;
    let start = out.len();
    out.extend_from_slice(&source_port.to_be_bytes());
    out.extend_from_slice(&destination_port.to_be_bytes());
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(payload);
    let pseudo = pseudo_header(source, destination, UDP, usize::from(length));
    let checksum = match fold(sum(out.get(start..)?, pseudo)) {
        0 => 0xffff,
        checksum => checksum,
    };
    crate::bytes::put(out, start.checked_add(6)?, &checksum.to_be_bytes())
}
