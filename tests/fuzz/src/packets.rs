//! Packets as their senders would make them, and messages with descriptors.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::net::Ipv4Addr;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// The most descriptors that a hostile message carries.
const DESCRIPTORS: usize = 32;

/// Sends bytes with descriptors, without waiting.
pub(crate) fn send_with(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(descriptors)), "too many descriptors");
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
}

/// The Internet checksum (RFC 1071) over parts of even length, but for the last.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u64;
    for pair in parts.iter().flat_map(|part| part.chunks(2)) {
        sum += u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while sum > 0xFFFF {
        sum = (sum >> 16) + (sum & 0xFFFF);
    }
    !u16::try_from(sum).expect("folded")
}

/// An Ethernet frame.
pub(crate) fn ethernet(destination: [u8; 6], source: [u8; 6], kind: u16, payload: &[u8]) -> Vec<u8> {
    [&destination[..], &source, &kind.to_be_bytes(), payload].concat()
}

fn length(bytes: usize) -> [u8; 2] {
    u16::try_from(bytes).expect("a packet is small").to_be_bytes()
}

/// An IPv4 packet with a right header.
pub(crate) fn ipv4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, body: &[u8]) -> Vec<u8> {
    let mut header = [0x45, 0, 0, 0, 0, 1, 0, 0, 64, protocol, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    header[2..4].copy_from_slice(&length(20 + body.len()));
    header[12..16].copy_from_slice(&source.octets());
    header[16..].copy_from_slice(&destination.octets());
    let sum = checksum(&[&header]);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    [&header[..], body].concat()
}

/// An IPv6 packet.
pub(crate) fn ipv6(source: [u8; 16], destination: [u8; 16], protocol: u8, body: &[u8]) -> Vec<u8> {
    let mut header = vec![0x60, 0, 0, 0];
    header.extend(length(body.len()));
    header.extend([protocol, 255]);
    header.extend(source);
    header.extend(destination);
    header.extend(body);
    header
}

/// An ICMPv6 message with a right checksum, for [`ipv6`].
pub(crate) fn icmpv6(source: [u8; 16], destination: [u8; 16], message: &[u8]) -> Vec<u8> {
    let mut body = message.to_vec();
    body.resize(body.len().max(4), 0);
    body[2..4].copy_from_slice(&[0, 0]);
    let sum = checksum(&[&source, &destination, &[0, 0], &length(body.len()), &[0, 58], &body]);
    body[2..4].copy_from_slice(&sum.to_be_bytes());
    body
}

/// An ICMP message with a right checksum, for [`ipv4`].
pub(crate) fn icmp(message: &[u8]) -> Vec<u8> {
    let mut body = message.to_vec();
    body.resize(body.len().max(8), 0);
    body[2..4].copy_from_slice(&[0, 0]);
    let sum = checksum(&[&body]);
    body[2..4].copy_from_slice(&sum.to_be_bytes());
    body
}

/// A UDP datagram without checksum.
pub(crate) fn udp(source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = [source, destination].map(u16::to_be_bytes).concat();
    bytes.extend(length(8 + payload.len()));
    bytes.extend([0, 0]);
    bytes.extend(payload);
    bytes
}

/// An ARP packet for Ethernet and IPv4.
pub(crate) fn arp(operation: u16, sender: ([u8; 6], Ipv4Addr), target: ([u8; 6], Ipv4Addr)) -> Vec<u8> {
    let mut bytes = vec![0, 1, 8, 0, 6, 4];
    bytes.extend(operation.to_be_bytes());
    bytes.extend(sender.0);
    bytes.extend(sender.1.octets());
    bytes.extend(target.0);
    bytes.extend(target.1.octets());
    bytes
}
