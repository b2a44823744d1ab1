//! What a tunnel is made from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// The gateway's Ethernet address on every zone's link.
pub const GATEWAY_MAC: [u8; 6] = [0x02, 0x62, 0x68, 0x00, 0x00, 0x01];

/// The gateway's IPv4 address on every zone's link: link-local, so it collides with nothing behind a tunnel.
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 77, 1);

/// The gateway's IPv6 address on every zone's link.
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// The largest inner MTU: a full datagram with WireGuard's 32 bytes around it fits 1472 bytes.
pub const MAX_MTU: u16 = 1440;

/// Everything that makes a tunnel. Secret: the private key and the seed.
pub struct Config {
    /// X25519 private key.
    pub private_key: [u8; 32],
    /// The zone's own addresses, at most one of each family.
    pub addresses: Vec<IpAddr>,
    /// DNS servers inside the tunnel.
    pub dns: Vec<IpAddr>,
    /// MTU inside the tunnel, 576..=[`MAX_MTU`]; at least 1280 with an IPv6 address.
    pub mtu: u16,
    /// Peers; their order is the endpoint index.
    pub peers: Vec<PeerConfig>,
    /// Ethernet address of the zone's NIC.
    pub zone_mac: [u8; 6],
    /// Fresh random bytes: keys DNS ids and ports and picks session indices.
    pub seed: [u8; 32],
    /// When keys wear out.
    pub limits: Limits,
}

/// One peer.
pub struct PeerConfig {
    /// X25519 public key.
    pub public_key: [u8; 32],
    /// Networks behind the peer.
    pub allowed_ips: Vec<(IpAddr, u8)>,
    /// Seconds between keepalives.
    pub keepalive: Option<u16>,
}

/// When keys wear out (WireGuard white paper, section 6.1). Tests lower them.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Messages under one key after which a new handshake begins.
    pub rekey_after_messages: u64,
    /// Messages under one key after which the key is refused, in both directions.
    pub reject_after_messages: u64,
    /// Age at which a key is refused, in both directions.
    pub reject_after_time: Duration,
    /// Handshake messages per second and peer that are answered without a cookie.
    pub handshakes_per_second: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            rekey_after_messages: 1 << 60,
            reject_after_messages: u64::MAX - (1 << 13),
            reject_after_time: Duration::from_secs(180),
            handshakes_per_second: 10,
        }
    }
}

/// Why a configuration makes no tunnel.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No address, or two of one family.
    #[error("a tunnel has one address, or one of each family")]
    Addresses,
    /// An address of the zone that no packet can carry.
    #[error("zone address {0} is not a routable unicast address")]
    ZoneAddress(IpAddr),
    /// The MTU is out of range.
    #[error("mtu {found} is not within {least}..={MAX_MTU}")]
    Mtu {
        /// What the configuration says.
        found: u16,
        /// The least that the families allow.
        least: u16,
    },
    /// A network with a bad prefix, or one that two peers claim.
    #[error("network {address}/{prefix} of peer {peer} is malformed or belongs to another peer")]
    AllowedIp {
        /// Address of the network.
        address: IpAddr,
        /// Its prefix length.
        prefix: u8,
        /// Index of the peer.
        peer: usize,
    },
    /// No peer, or more than an endpoint index can name.
    #[error("{0} peers, 1..=255 are possible")]
    Peers(usize),
    /// The NIC's address is a group address or the gateway's.
    #[error("zone MAC address is not a unicast address of its own")]
    ZoneMac,
}
