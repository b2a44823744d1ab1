//! The pure part of `uplink`, the only owner of the NIC: bytes and time come in, frames and datagrams go out.
//!
//! [`Uplink`] gets an address by DHCP, resolves the names of the tunnels' endpoints at the servers that DHCP
//! named, and wraps each tunnel's UDP payloads into frames (smoltcp does DHCP, DNS and the ARP of both; the
//! tunnels' path has its own small neighbour table and never passes smoltcp). Only IPv4 is spoken on the LAN.
//!
//! What it never does: emit a frame that is not our DHCP, our ARP, a DNS question for one of our names or a
//! tunnel's datagram to one of that tunnel's endpoints (the gate in [`egress`] judges every frame, also
//! those that this crate made itself); deliver a datagram that did not come from one of the tunnel's
//! endpoints; follow a peer that roams; queue without a bound; trust a length or address from the LAN. Without a
//! lease nothing but DHCP leaves.

#![forbid(unsafe_code)]
#![warn(clippy::indexing_slicing)]

pub mod egress;
mod engine;
pub mod frame;
mod lease;
mod names;
mod neighbours;
mod stack;
mod tunnels;

pub use engine::{Counters, Delivery, Uplink};
pub use lease::Lease;
pub use smoltcp::time::{Duration, Instant};
pub use tunnels::AddTunnelError;
