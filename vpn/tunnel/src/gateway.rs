//! The zone's gateway: what an Ethernet link needs so that a stock guest comes up on it.
//!
//! | service | towards the zone |
//! |---|---|
//! | ARP, neighbour discovery | the gateway's Ethernet address for every address but the zone's own: whatever prefix a guest believes in, its packets come here |
//! | DHCPv4 | the tunnel's IPv4 address as /32, router and DNS 169.254.77.1 (also as option 121), MTU |
//! | router advertisements, DHCPv6 | only with an IPv6 address: M flag and no prefix, so that a guest takes exactly the policy's address by DHCPv6 |
//! | DNS | queries (UDP and TCP) go into the tunnel, from the zone's address |
//! | echo | the gateway's own addresses answer |
//!
//! It never forwards anything but DNS queries, and those only as packets for the tunnel.

mod arp;
mod dhcp4;
mod dhcp6;
mod dns;
mod dns_tcp;
mod icmp;
mod ndp;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use crate::bytes::{array, be16};
use crate::config::{Config, GATEWAY_MAC, GATEWAY_V4, GATEWAY_V6};
use crate::ip::{self, Header};

pub(crate) const ETHERNET_HEADER: usize = 14;
pub(crate) const ETHERTYPE_IPV4: u16 = 0x0800;
pub(crate) const ETHERTYPE_ARP: u16 = 0x0806;
pub(crate) const ETHERTYPE_IPV6: u16 = 0x86dd;

/// Time between unsolicited router advertisements: a sixth of the lifetime that they promise.
const ADVERTISE_EVERY: Duration = Duration::from_secs(1500);

/// What the link is: addresses and names that every service needs.
pub(crate) struct Link {
    pub(crate) zone_mac: [u8; 6],
    pub(crate) v4: Option<Ipv4Addr>,
    pub(crate) v6: Option<Ipv6Addr>,
    pub(crate) mtu: u16,
    pub(crate) has_dns: bool,
}

impl Link {
    /// Whether `address` is the zone's own.
    pub(crate) fn owns(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => self.v4 == Some(v4),
            IpAddr::V6(v6) => self.v6 == Some(v6),
        }
    }

    /// Starts an Ethernet frame from the gateway to the zone.
    fn begin(&self, out: &mut Vec<u8>, ethertype: u16) {
        self.begin_to(out, self.zone_mac, ethertype);
    }

    /// Starts an Ethernet frame from the gateway to a group that the zone is in.
    #[expect(clippy::unused_self, reason = "frames begin at the link, whomever they are for")]
    fn begin_to(&self, out: &mut Vec<u8>, destination: [u8; 6], ethertype: u16) {
        out.extend_from_slice(&destination);
        out.extend_from_slice(&GATEWAY_MAC);
        out.extend_from_slice(&ethertype.to_be_bytes());
    }
}

/// What a service made of a frame; the bytes lie in its output buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// An Ethernet frame for the zone.
    Reply,
    /// An IP packet for the tunnel.
    IntoTunnel,
    /// No service's business.
    Refused,
}

/// A datagram to one of the services.
struct Datagram<'a> {
    source: (IpAddr, u16),
    destination: (IpAddr, u16),
    payload: &'a [u8],
}

/// All services of one link.
pub(crate) struct Gateway {
    pub(crate) link: Link,
    dns: dns::Forwarder,
    dns_tcp: dns_tcp::Flows,
    /// What the last call made.
    pub(crate) out: Vec<u8>,
    next_advertisement: Duration,
}

impl Gateway {
    pub(crate) fn new(config: &Config) -> Self {
        let v4 = config.addresses.iter().find_map(|address| match address {
            IpAddr::V4(v4) => Some(*v4),
            IpAddr::V6(_) => None,
        });
        let v6 = config.addresses.iter().find_map(|address| match address {
            IpAddr::V6(v6) => Some(*v6),
            IpAddr::V4(_) => None,
        });
        let dns = dns::Forwarder::new(&config.dns, v4, v6, &config.seed);
        let link =
            Link { zone_mac: config.zone_mac, v4, v6, mtu: config.mtu, has_dns: !config.dns.is_empty() };
        Self {
            link,
            dns,
            dns_tcp: dns_tcp::Flows::default(),
            out: Vec::with_capacity(2048),
            next_advertisement: ADVERTISE_EVERY,
        }
    }

    /// Serves an ARP packet of the zone.
    pub(crate) fn arp(&mut self, payload: &[u8]) -> Outcome {
        self.out.clear();
        reply_if(arp::answer(payload, &self.link, &mut self.out))
    }

    /// Serves an IP packet of the zone that is not for the tunnel. Checksums of UDP are not looked at: the guest may
    /// have left them to us, and the frame came through memory.
    pub(crate) fn ip(&mut self, packet: &[u8], header: &Header, now: Duration) -> Outcome {
        self.out.clear();
        let Some(packet) = packet.get(..header.total_len) else { return Outcome::Refused };
        if header.fragment {
            return Outcome::Refused;
        }
        let Some(body) = packet.get(header.header_len..) else { return Outcome::Refused };
        match header.protocol {
            ip::UDP => match datagram(header, body) {
                Some(datagram) => self.udp(&datagram, now),
                None => Outcome::Refused,
            },
            ip::TCP if is_gateway(header.destination) && self.link.owns(header.source) => {
                let server = self.dns.server_for(header.source);
                let forwarded =
                    server.and_then(|server| self.dns_tcp.forward(header, body, server, now, &mut self.out));
                forwarded.map_or(Outcome::Refused, |()| Outcome::IntoTunnel)
            }
            ip::ICMP => reply_if(icmp::echo(header, body, &self.link, &mut self.out)),
            ip::ICMPV6 if self.link.v6.is_some() => {
                let answer = ndp::answer(packet, header, body, &self.link, &mut self.out);
                reply_if(answer.or_else(|| icmp::echo(header, body, &self.link, &mut self.out)))
            }
            _ => Outcome::Refused,
        }
    }

    fn udp(&mut self, datagram: &Datagram<'_>, now: Duration) -> Outcome {
        match (datagram.destination.0, datagram.destination.1) {
            (IpAddr::V4(to), 67) if to == Ipv4Addr::BROADCAST || to == GATEWAY_V4 => {
                reply_if(dhcp4::answer(datagram.payload, &self.link, &mut self.out))
            }
            (IpAddr::V6(to), 547) if to == dhcp6::SERVERS || to == GATEWAY_V6 => {
                reply_if(dhcp6::answer(datagram, &self.link, &mut self.out))
            }
            (to, 53) if is_gateway(to) => {
                self.dns.forward(datagram, &self.link, now, &mut self.out).unwrap_or(Outcome::Refused)
            }
            _ => Outcome::Refused,
        }
    }

    /// Looks at a packet from the tunnel: `true` when it belongs to DNS that was forwarded, and the frame for the zone is
    /// in `out`.
    pub(crate) fn intercept(&mut self, packet: &[u8], header: &Header, now: Duration) -> bool {
        if header.fragment || (self.dns.is_empty() && self.dns_tcp.is_empty()) {
            return false;
        }
        let Some(body) = packet.get(header.header_len..header.total_len) else { return false };
        match header.protocol {
            ip::UDP => {
                let Some(datagram) = datagram(header, body) else { return false };
                self.out.clear();
                self.dns.answer(&datagram, &self.link, now, &mut self.out).is_some()
            }
            ip::TCP => {
                let Some(gateway) = self.dns_tcp.answer(header, body, now) else { return false };
                self.out.clear();
                let ethertype = if gateway.is_ipv4() { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 };
                self.link.begin(&mut self.out, ethertype);
                dns_tcp::rewrite(body, gateway, header.destination, &mut self.out).is_some()
            }
            _ => false,
        }
    }

    /// Tells the zone that its packet exceeds the MTU.
    pub(crate) fn too_big(&mut self, packet: &[u8], header: &Header) -> Outcome {
        self.out.clear();
        reply_if(icmp::too_big(packet, header, &self.link, &mut self.out))
    }

    /// An unsolicited router advertisement, when it is time for one.
    pub(crate) fn tick(&mut self, now: Duration) -> Outcome {
        if self.link.v6.is_none() || now < self.next_advertisement {
            return Outcome::Refused;
        }
        self.next_advertisement = now.saturating_add(ADVERTISE_EVERY);
        self.out.clear();
        reply_if(ndp::advertise_router(None, &self.link, &mut self.out))
    }
}

/// Whether this is one of the gateway's own addresses.
pub(crate) fn is_gateway(address: IpAddr) -> bool {
    address == IpAddr::V4(GATEWAY_V4) || address == IpAddr::V6(GATEWAY_V6)
}

fn reply_if(answer: Option<()>) -> Outcome {
    answer.map_or(Outcome::Refused, |()| Outcome::Reply)
}

/// Reads a UDP datagram whose length field fits.
fn datagram<'a>(header: &Header, body: &'a [u8]) -> Option<Datagram<'a>> {
    let [source, destination, length] = [0, 2, 4].map(|at| be16(body, at));
    Some(Datagram {
        source: (header.source, source?),
        destination: (header.destination, destination?),
        payload: body.get(8..usize::from(length?))?,
    })
}

/// Ethernet header: destination, source, ethertype.
pub(crate) fn ethernet(frame: &[u8]) -> Option<([u8; 6], [u8; 6], u16)> {
    Some((array(frame, 0)?, array(frame, 6)?, be16(frame, 12)?))
}
