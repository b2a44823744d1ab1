//! The demo network on the far side of QEMU's NIC, and the observer of every frame on it.
//!
//! One unprivileged process (or one thread of a test) serves QEMU's `-netdev stream` socket. Behind it lie a
//! LAN with router, DHCP and DNS ([`lan`]), two WireGuard gateways ([`wireguard`]) and behind each gateway an
//! intranet with DNS and a web server ([`intranet`]). [`DemoNetwork`] joins them and is pure: frames and time
//! go in, frames come out. [`start`] puts it behind a socket, in a thread, and records every frame; the
//! [`observer`] judges what was recorded.
//!
//! The addresses and names are those of ARCHITECTURE.md ("Demo network") and stand in [`addresses`]. Nothing
//! here opens a network socket of the machine it runs on: a zone of the demo reaches this and nothing else.

pub mod addresses;
pub mod config;
pub mod dns;
pub mod frame_codec;
pub mod intranet;
pub mod lan;
pub mod network;
pub mod observer;
pub mod packet;
mod queue_device;
pub mod recorder;
pub mod server;
pub mod wireguard;

pub use addresses::Site;
pub use config::{Config, Keys, LoadKeysError};
pub use network::{Counters, DemoNetwork};
pub use recorder::{Direction, Frame, Mark};
pub use server::{Gateway, StartError, start};

#[cfg(test)]
mod fake_host;
#[cfg(test)]
mod tests;
