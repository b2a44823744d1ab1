//! A host on the demo network, for tests: smoltcp's own DHCP, ARP and DNS on the LAN, boringtun as the zone's
//! tunnel, and smoltcp again inside it. None of it shares code with the servers under test except the packet
//! builder.

use std::net::{IpAddr, SocketAddrV4};
use std::time::Duration;

use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::Medium;
use smoltcp::socket::{dhcpv4, dns, tcp};
use smoltcp::time::Instant;
use smoltcp::wire::{DnsQueryType, EthernetAddress, HardwareAddress, IpAddress, IpCidr, Ipv4Cidr};

use crate::addresses::{HOST, ROUTER, ROUTER_MAC, Site, TUNNEL_MTU};
use crate::config::{Keys, SiteKeys};
use crate::packet::{Datagram, build_udp, parse_udp};
use crate::queue_device::QueueDevice;

pub(crate) const HOST_MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];

/// Keys made from fixed bytes, and the clients' private halves.
pub(crate) fn keys() -> (Keys, [StaticSecret; 2]) {
    let clients = [StaticSecret::from([0x11; 32]), StaticSecret::from([0x22; 32])];
    let site = |gateway: u8, client: &StaticSecret| SiteKeys {
        gateway: StaticSecret::from([gateway; 32]),
        client: PublicKey::from(client),
    };
    (Keys { sites: [site(0x33, &clients[0]), site(0x44, &clients[1])] }, clients)
}

/// A smoltcp stack on the LAN.
pub(crate) struct LanHost {
    pub(crate) device: QueueDevice,
    interface: Interface,
    sockets: SocketSet<'static>,
    dhcp: SocketHandle,
    dns: SocketHandle,
    pub(crate) address: Option<Ipv4Cidr>,
    pub(crate) servers: Vec<IpAddr>,
}

impl LanHost {
    pub(crate) fn new() -> Self {
        let mut device = QueueDevice::new(Medium::Ethernet, 1514);
        let config = Config::new(HardwareAddress::Ethernet(EthernetAddress(HOST_MAC)));
        let interface = Interface::new(config, &mut device, Instant::ZERO);
        let mut sockets = SocketSet::new(Vec::new());
        let dhcp = sockets.add(dhcpv4::Socket::new());
        let dns = sockets.add(dns::Socket::new(&[], Vec::new()));
        Self { device, interface, sockets, dhcp, dns, address: None, servers: Vec::new() }
    }

    pub(crate) fn poll(&mut self, now: Duration) {
        let now = Instant::from_micros(i64::try_from(now.as_micros()).unwrap());
        self.interface.poll(now, &mut self.device, &mut self.sockets);
        if let Some(dhcpv4::Event::Configured(lease)) =
            self.sockets.get_mut::<dhcpv4::Socket<'_>>(self.dhcp).poll()
        {
            self.address = Some(lease.address);
            self.servers = lease.dns_servers.iter().map(|server| IpAddr::V4(*server)).collect();
            self.interface.update_ip_addrs(|addresses| {
                addresses.push(IpCidr::Ipv4(lease.address)).unwrap();
            });
            self.interface.routes_mut().add_default_ipv4_route(lease.router.unwrap()).unwrap();
            let servers: Vec<IpAddress> = lease.dns_servers.iter().map(|ip| IpAddress::Ipv4(*ip)).collect();
            self.sockets.get_mut::<dns::Socket<'_>>(self.dns).update_servers(&servers);
        }
    }

    pub(crate) fn start_query(&mut self, name: &str) -> dns::QueryHandle {
        let socket = self.sockets.get_mut::<dns::Socket<'_>>(self.dns);
        socket.start_query(self.interface.context(), name, DnsQueryType::A).unwrap()
    }

    pub(crate) fn query_result(
        &mut self,
        query: dns::QueryHandle,
    ) -> Result<Vec<IpAddr>, dns::GetQueryResultError> {
        let found = self.sockets.get_mut::<dns::Socket<'_>>(self.dns).get_query_result(query)?;
        Ok(found.into_iter().map(IpAddr::from).collect())
    }
}

/// A zone's tunnel to one site, with a stack inside.
pub(crate) struct Zone {
    site: Site,
    tunnel: Tunn,
    device: QueueDevice,
    interface: Interface,
    sockets: SocketSet<'static>,
    tcp: SocketHandle,
    port: u16,
    /// Frames that the zone's tunnel put on the wire.
    pub(crate) frames: Vec<Vec<u8>>,
}

impl Zone {
    pub(crate) fn new(site: Site, private: StaticSecret, gateway: PublicKey) -> Self {
        let mut device = QueueDevice::new(Medium::Ip, TUNNEL_MTU);
        let mut interface = Interface::new(Config::new(HardwareAddress::Ip), &mut device, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            for (client, (_, prefix)) in site.client().into_iter().zip(site.server()) {
                addresses.push(IpCidr::new(client.into(), prefix)).unwrap();
            }
        });
        let mut sockets = SocketSet::new(Vec::new());
        let buffer = || tcp::SocketBuffer::new(vec![0; 256 * 1024]);
        let tcp = sockets.add(tcp::Socket::new(buffer(), buffer()));
        let tunnel = Tunn::new(private, gateway, None, Some(25), 9, None);
        Self { site, tunnel, device, interface, sockets, tcp, port: 49_152, frames: Vec::new() }
    }

    pub(crate) fn connect(&mut self, server: IpAddr) {
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(self.tcp);
        // The server's old connections are in TIME-WAIT: each new one has its own port.
        self.port += 1;
        socket.connect(self.interface.context(), (IpAddress::from(server), 80), self.port).unwrap();
    }

    pub(crate) fn tcp(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut::<tcp::Socket<'static>>(self.tcp)
    }

    /// Puts an inner packet of any content into the tunnel.
    pub(crate) fn send_inner(&mut self, packet: &[u8]) {
        let mut packet = packet.to_vec();
        packet.resize(packet.len().next_multiple_of(16), 0);
        let mut buffer = vec![0; 2048];
        if let TunnResult::WriteToNetwork(message) = self.tunnel.encapsulate(&packet, &mut buffer) {
            let message = message.to_vec();
            self.put_on_wire(&message);
        }
    }

    pub(crate) fn poll(&mut self, now: Duration) {
        let now = Instant::from_micros(i64::try_from(now.as_micros()).unwrap());
        self.interface.poll(now, &mut self.device, &mut self.sockets);
        while let Some(packet) = self.device.outbound.pop_front() {
            self.send_inner(&packet);
        }
    }

    /// Takes a frame for the host; those for another tunnel are not this one's.
    pub(crate) fn receive(&mut self, frame: &[u8]) {
        let Some(datagram) = parse_udp(frame).filter(|datagram| datagram.source == self.site.endpoint())
        else {
            return;
        };
        let mut buffer = vec![0; 65_536];
        match self.tunnel.decapsulate(None, datagram.payload, &mut buffer) {
            TunnResult::WriteToNetwork(message) => {
                let message = message.to_vec();
                self.put_on_wire(&message);
                while let TunnResult::WriteToNetwork(message) =
                    self.tunnel.decapsulate(None, &[], &mut buffer)
                {
                    let message = message.to_vec();
                    self.put_on_wire(&message);
                }
            }
            TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => {
                self.device.inbound.push_back(packet.to_vec());
            }
            TunnResult::Done => {}
            TunnResult::Err(error) => panic!("the gateway sent something else: {error:?}"),
        }
    }

    fn put_on_wire(&mut self, message: &[u8]) {
        self.frames.push(host_datagram(self.site.endpoint(), message));
    }
}

/// A datagram of the host's own address to `destination`.
pub(crate) fn host_datagram(destination: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    build_udp(&Datagram {
        source_mac: HOST_MAC,
        destination_mac: ROUTER_MAC,
        source: SocketAddrV4::new(HOST, 40_000 + u16::from(destination.ip().octets()[3])),
        destination,
        payload,
    })
}

/// The router's DNS service.
pub(crate) fn lan_dns() -> SocketAddrV4 {
    SocketAddrV4::new(ROUTER, 53)
}
