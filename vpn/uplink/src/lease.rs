//! What a DHCP server said, after doubt.

use std::net::Ipv4Addr;

use smoltcp::socket::dhcpv4;
use smoltcp::wire::Ipv4Cidr;

/// Prefix lengths of a LAN: shorter ones would make half of the Internet neighbours, longer ones have no room
/// for a router.
const PREFIXES: std::ops::RangeInclusive<u8> = 8..=31;

/// An address on the LAN and what came with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Our address and its network.
    pub address: Ipv4Cidr,
    /// The way out of the LAN.
    pub router: Option<Ipv4Addr>,
    /// DNS servers; may be empty.
    pub dns: Vec<Ipv4Addr>,
    /// The DHCP server.
    pub server: Ipv4Addr,
}

impl Lease {
    /// Takes what can be used of a server's answer; `None` when its address cannot be ours.
    pub(crate) fn from_dhcp(config: &dhcpv4::Config<'_>) -> Option<Self> {
        let bare =
            Self { address: config.address, router: None, dns: Vec::new(), server: config.server.address };
        let own = config.address.address();
        if !PREFIXES.contains(&config.address.prefix_len()) || !is_unicast(own) || bare.is_edge(own) {
            return None;
        }
        let router =
            config.router.filter(|&router| config.address.contains_addr(&router) && bare.is_host(router));
        let dns = config.dns_servers.iter().copied().filter(|&server| bare.is_host(server)).collect();
        Some(Self { router, dns, ..bare })
    }

    /// Whether a datagram may be sent there: some other host's own address.
    pub(crate) fn is_host(&self, address: Ipv4Addr) -> bool {
        is_unicast(address) && address != self.address.address() && !self.is_edge(address)
    }

    /// The neighbour to whom a packet for `address` is handed.
    pub(crate) fn next_hop(&self, address: Ipv4Addr) -> Option<Ipv4Addr> {
        match (self.is_host(address), self.address.contains_addr(&address)) {
            (false, _) => None,
            (true, true) => Some(address),
            (true, false) => self.router,
        }
    }

    /// The network's own address or its broadcast address.
    fn is_edge(&self, address: Ipv4Addr) -> bool {
        self.address.broadcast() == Some(address)
            || (self.address.prefix_len() < 31 && self.address.network().address() == address)
    }
}

fn is_unicast(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    !(first == 0 || first == 127 || first >= 224)
}
