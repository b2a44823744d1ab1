//! What lies behind a WireGuard gateway: one server with DNS and HTTP, on smoltcp over the tunnel's inner
//! packets.
//!
//! DNS answers `intranet.example` with the server's own addresses and NXDOMAIN otherwise. HTTP serves `/`
//! (names the network and the client's inner address) and `/bytes/N` (N bytes, to measure throughput).

mod http;

use std::net::IpAddr;
use std::time::Duration;

use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::phy::Medium;
use smoltcp::socket::{tcp, udp};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr};

use self::http::Connection;
use crate::addresses::{INTRANET_NAME, Site, TUNNEL_MTU};
use crate::dns;
use crate::queue_device::QueueDevice;

/// Connections served at the same time, those in TIME-WAIT included.
const CONNECTIONS: usize = 32;

const RECEIVE_BUFFER: usize = 8 * 1024;
const SEND_BUFFER: usize = 128 * 1024;

/// The server of one site.
pub struct Intranet {
    site: Site,
    device: QueueDevice,
    interface: Interface,
    sockets: SocketSet<'static>,
    dns: SocketHandle,
    connections: Vec<(SocketHandle, Connection)>,
    /// HTTP requests answered so far.
    pub requests: u64,
}

impl std::fmt::Debug for Intranet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Intranet").field("site", &self.site).finish_non_exhaustive()
    }
}

impl Intranet {
    /// A server that has heard nothing yet.
    #[must_use]
    pub fn new(site: Site) -> Self {
        let mut device = QueueDevice::new(Medium::Ip, TUNNEL_MTU);
        let mut interface = Interface::new(Config::new(HardwareAddress::Ip), &mut device, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            for (address, prefix) in site.server() {
                addresses.push(IpCidr::new(address.into(), prefix)).expect("two addresses fit an interface");
            }
        });
        let mut sockets = SocketSet::new(Vec::new());
        let packets = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 64], vec![0; 32 * 1024]);
        let mut socket = udp::Socket::new(packets(), packets());
        socket.bind(53).expect("a new socket is unbound");
        let dns = sockets.add(socket);
        let connections = (0..CONNECTIONS)
            .map(|_| {
                let socket = tcp::Socket::new(
                    tcp::SocketBuffer::new(vec![0; RECEIVE_BUFFER]),
                    tcp::SocketBuffer::new(vec![0; SEND_BUFFER]),
                );
                (sockets.add(socket), Connection::default())
            })
            .collect();
        Self { site, device, interface, sockets, dns, connections, requests: 0 }
    }

    /// Takes a packet out of the tunnel. When too many wait already it is lost, as on a real link.
    pub fn receive(&mut self, packet: Vec<u8>) {
        if self.device.inbound.len() < QueueDevice::LIMIT {
            self.device.inbound.push_back(packet);
        }
    }

    /// The next packet for the tunnel.
    pub fn transmit(&mut self) -> Option<Vec<u8>> {
        self.device.outbound.pop_front()
    }

    /// Runs the stack and the servers until nothing moves any more.
    pub fn poll(&mut self, now: Duration) {
        let now = instant(now);
        loop {
            let moved = self.interface.poll(now, &mut self.device, &mut self.sockets);
            let served = self.serve_dns() | self.serve_http();
            if moved == PollResult::None && !served {
                return;
            }
        }
    }

    /// When [`Intranet::poll`] must run again although no packet came.
    pub fn next_poll(&mut self, now: Duration) -> Option<Duration> {
        self.interface.poll_delay(instant(now), &self.sockets).map(Duration::from)
    }

    fn serve_dns(&mut self) -> bool {
        let socket = self.sockets.get_mut::<udp::Socket<'_>>(self.dns);
        let mut served = false;
        while let Ok((query, from)) = socket.recv() {
            let response = dns::answer(query, |name| {
                (name == INTRANET_NAME).then(|| self.site.server().into_iter().map(|(ip, _)| ip).collect())
            });
            if let Some(response) = response {
                // The answer leaves from the address that was asked; a full buffer loses it, as UDP may.
                served |= socket.send_slice(&response, from).is_ok();
            }
        }
        served
    }

    fn serve_http(&mut self) -> bool {
        let mut served = false;
        for (handle, connection) in &mut self.connections {
            let socket = self.sockets.get_mut::<tcp::Socket<'_>>(*handle);
            if !socket.is_open() {
                *connection = Connection::default();
                served |= socket.listen(80).is_ok();
                continue;
            }
            let client: Option<IpAddr> = socket.remote_endpoint().map(|endpoint| endpoint.addr.into());
            let before = connection.is_answering();
            served |= connection.serve(socket, self.site, client);
            self.requests += u64::from(!before && connection.is_answering());
        }
        served
    }
}

fn instant(now: Duration) -> Instant {
    Instant::from_micros(i64::try_from(now.as_micros()).expect("a run is shorter than 290,000 years"))
}
