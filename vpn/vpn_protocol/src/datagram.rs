//! Packets between a `vpnd` and `uplink`, one `SOCK_SEQPACKET` packet each.
//!
//! One byte with the endpoint's index in the tunnel's list, then a UDP payload of 1..=[`MAX_PAYLOAD`] bytes.
//! From `uplink` the index says from which endpoint the payload came; datagrams from anywhere else never
//! reach a `vpnd`.

/// The largest UDP payload: what fits an Ethernet frame of MTU 1500 over IPv4.
pub const MAX_PAYLOAD: usize = 1472;

/// The largest packet on the pair.
pub const MAX_PACKET: usize = 1 + MAX_PAYLOAD;

/// Splits a packet into endpoint index and payload; `None` when it is not one.
#[must_use]
pub fn parse(packet: &[u8]) -> Option<(usize, &[u8])> {
    let (index, payload) = packet.split_first()?;
    (!payload.is_empty() && payload.len() <= MAX_PAYLOAD).then_some((usize::from(*index), payload))
}
