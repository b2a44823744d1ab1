//! Messages among `zoned`, a zone's `vpnd` and `uplink`. Wire types only.
//!
//! `zoned` holds the control channel of `uplink` (an `ipc` channel; [`ToUplink`], [`FromUplink`]). For each
//! tunnel it makes a `SOCK_SEQPACKET` pair: one end goes to `uplink` with [`ToUplink::AddTunnel`], the other
//! to the zone's `vpnd`. On that pair run raw packets, not `ipc` messages: see [`datagram`].
//!
//! A `vpnd` is given, by name: `config` (a sealed memfd with a postcard [`VpndConfig`]), `vhost` (connected
//! vhost-user stream; the VMM holds the other end), `uplink` (its end of the pair above) and `status` (an
//! `ipc` channel on which it sends [`VpndStatus`] at most once a second, and only when something changed).

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

pub mod datagram;

/// The most tunnels that an uplink carries.
pub const MAX_TUNNELS: usize = 32;

/// The most peers of one tunnel.
pub const MAX_PEERS: usize = 8;

/// `zoned` to `uplink`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToUplink {
    /// Carry a tunnel's datagrams; one descriptor comes with the message.
    AddTunnel {
        /// Chosen by `zoned`.
        tunnel: u32,
        /// The peers' endpoints, at most [`MAX_PEERS`]; their order is the index in [`datagram`].
        endpoints: Vec<Endpoint>,
    },
    /// Forget the tunnel and close its descriptor.
    RemoveTunnel {
        /// The number from [`ToUplink::AddTunnel`].
        tunnel: u32,
    },
}

/// Where a peer is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Address, or name that the uplink resolves.
    pub host: Host,
    /// UDP port.
    pub port: u16,
}

/// A host by address or name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Host {
    /// An address.
    Address(IpAddr),
    /// A DNS name, ASCII, no trailing dot.
    Name(String),
}

/// `uplink` to `zoned`: the whole state, whenever it changed.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FromUplink {
    /// The NIC has carrier.
    pub carrier: bool,
    /// Address and prefix length from DHCP.
    pub address: Option<(IpAddr, u8)>,
    /// Per tunnel: where each endpoint is, `None` while it cannot be resolved.
    pub tunnels: Vec<(u32, Vec<Option<SocketAddr>>)>,
}

/// Everything a `vpnd` needs to know. Secret: the private key.
#[derive(Clone, Serialize, Deserialize)]
pub struct VpndConfig {
    /// The zone's name, for log lines only.
    pub zone: String,
    /// The tunnel's X25519 private key; `None`: it comes in 32 bytes as a descriptor of its own, `key`.
    pub private_key: Option<[u8; 32]>,
    /// The zone's own addresses inside the tunnel, with prefix length.
    pub addresses: Vec<(IpAddr, u8)>,
    /// DNS servers inside the tunnel, to which the zone's queries are forwarded.
    pub dns: Vec<IpAddr>,
    /// MTU inside the tunnel, in bytes.
    pub mtu: u16,
    /// The peers; their order is that of the endpoints given to `uplink`.
    pub peers: Vec<Peer>,
    /// The MAC address of the zone's NIC.
    pub zone_mac: [u8; 6],
}

impl std::fmt::Debug for VpndConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VpndConfig").field("zone", &self.zone).finish_non_exhaustive()
    }
}

/// One peer of a tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// X25519 public key.
    pub public_key: [u8; 32],
    /// Networks behind the peer, with prefix length.
    pub allowed_ips: Vec<(IpAddr, u8)>,
    /// Seconds between keepalives; `None`: none.
    pub keepalive: Option<u16>,
}

/// `vpnd` to `zoned`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct VpndStatus {
    /// A session with at least one peer is valid now.
    pub up: bool,
    /// Seconds since the last completed handshake.
    pub handshake_age_s: Option<u64>,
    /// Payload bytes that entered the tunnel.
    pub sent_bytes: u64,
    /// Payload bytes that left the tunnel.
    pub received_bytes: u64,
    /// Packets dropped, for whatever reason.
    pub dropped: u64,
}
