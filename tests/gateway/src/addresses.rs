//! Who has which address and name in the demo network (ARCHITECTURE.md, "Demo network").

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4};

/// The LAN's router, DHCP and DNS server.
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 1);

/// The address that the DHCP server gives to the host.
pub const HOST: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 20);

/// The LAN's network mask.
pub const NETMASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 0);

/// The router's MAC address (locally administered).
pub const ROUTER_MAC: [u8; 6] = [0x02, 0x00, 0x00, 0x77, 0x00, 0x01];

/// Port on which both WireGuard gateways listen.
pub const WIREGUARD_PORT: u16 = 51820;

/// The name of the web server in each intranet.
pub const INTRANET_NAME: &str = "intranet.example";

/// The largest inner packet of either tunnel, in bytes.
pub const TUNNEL_MTU: usize = 1420;

/// One of the two networks behind a WireGuard gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Site {
    /// Has IPv4 and IPv6.
    Office,
    /// Has IPv4 only.
    Research,
}

impl Site {
    /// Both sites.
    pub const ALL: [Self; 2] = [Self::Office, Self::Research];

    /// The site's place in [`Site::ALL`].
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::Office => 0,
            Self::Research => 1,
        }
    }

    /// The name of the site, of its tunnel in the demo policy and of the zone that uses it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Office => "office",
            Self::Research => "research",
        }
    }

    /// The DNS name of its WireGuard gateway.
    #[must_use]
    pub fn endpoint_name(self) -> &'static str {
        match self {
            Self::Office => "office.gateway.example",
            Self::Research => "research.gateway.example",
        }
    }

    /// Where its WireGuard gateway listens.
    #[must_use]
    pub fn endpoint(self) -> SocketAddrV4 {
        let address = match self {
            Self::Office => Ipv4Addr::new(198, 51, 100, 10),
            Self::Research => Ipv4Addr::new(198, 51, 100, 20),
        };
        SocketAddrV4::new(address, WIREGUARD_PORT)
    }

    /// The intranet server's own addresses, with prefix length.
    #[must_use]
    pub fn server(self) -> Vec<(IpAddr, u8)> {
        match self {
            Self::Office => vec![
                (IpAddr::V4(Ipv4Addr::new(10, 11, 0, 1)), 24),
                (IpAddr::V6(Ipv6Addr::new(0xfd00, 0x11, 0, 0, 0, 0, 0, 1)), 64),
            ],
            Self::Research => vec![(IpAddr::V4(Ipv4Addr::new(10, 12, 0, 1)), 24)],
        }
    }

    /// The addresses that the site's only client may use inside the tunnel.
    #[must_use]
    pub fn client(self) -> Vec<IpAddr> {
        match self {
            Self::Office => vec![
                IpAddr::V4(Ipv4Addr::new(10, 11, 0, 2)),
                IpAddr::V6(Ipv6Addr::new(0xfd00, 0x11, 0, 0, 0, 0, 0, 2)),
            ],
            Self::Research => vec![IpAddr::V4(Ipv4Addr::new(10, 12, 0, 2))],
        }
    }

    /// The site that the endpoint belongs to.
    #[must_use]
    pub fn of_endpoint(endpoint: SocketAddrV4) -> Option<Self> {
        Self::ALL.into_iter().find(|site| site.endpoint() == endpoint)
    }

    /// The site whose gateway has this DNS name (lower case, no trailing dot).
    #[must_use]
    pub fn of_endpoint_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|site| site.endpoint_name() == name)
    }
}
