//! smoltcp between two bounded queues: what DHCP, DNS and their ARP need, and nothing that listens.

use std::collections::VecDeque;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{dhcpv4, dns};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr};

use crate::frame::MAX_FRAME;
use crate::lease::Lease;

/// The most frames in each queue; more are dropped.
const QUEUE: usize = 64;

/// The largest pause between two calls of [`Stack::poll`] when smoltcp wants to send and cannot.
const BLOCKED_PAUSE: Duration = Duration::from_millis(250);

/// How long to wait for an answer to DHCPDISCOVER.
const DISCOVER_TIMEOUT: Duration = Duration::from_secs(4);

/// What the lease did in a [`Stack::poll`].
pub(crate) enum LeaseEvent {
    /// There is a lease, new or changed; smoltcp's configuration, yet to be judged.
    Configured(dhcpv4::Config<'static>),
    /// The lease is gone.
    Lost,
}

/// The stack, its sockets and its queues.
pub(crate) struct Stack {
    queues: Queues,
    interface: Interface,
    sockets: SocketSet<'static>,
    dhcp: SocketHandle,
    dns: SocketHandle,
}

impl Stack {
    /// `mac` must be unicast; `seed` decides transaction numbers and DNS source ports.
    pub(crate) fn new(mac: EthernetAddress, seed: u64, now: Instant) -> Self {
        let mut queues = Queues::default();
        let mut config = Config::new(HardwareAddress::Ethernet(mac));
        config.random_seed = seed;
        let interface = Interface::new(config, &mut queues, now);
        let mut sockets = SocketSet::new(Vec::new());
        let mut dhcp = dhcpv4::Socket::new();
        let mut retry = dhcpv4::RetryConfig::default();
        retry.discover_timeout = DISCOVER_TIMEOUT;
        dhcp.set_retry_config(retry);
        let dhcp = sockets.add(dhcp);
        let dns = sockets.add(dns::Socket::new(&[], Vec::new()));
        Self { queues, interface, sockets, dhcp, dns }
    }

    /// Hands a received frame to the stack; `false` when its queue is full.
    pub(crate) fn push(&mut self, frame: &[u8]) -> bool {
        let fits = self.queues.received.len() < QUEUE;
        if fits {
            self.queues.received.push_back(frame.to_vec());
        }
        fits
    }

    /// Works through received frames and timers.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<LeaseEvent> {
        self.interface.poll(now, &mut self.queues, &mut self.sockets);
        let event = self.sockets.get_mut::<dhcpv4::Socket<'_>>(self.dhcp).poll()?;
        Some(match event {
            dhcpv4::Event::Configured(config) => LeaseEvent::Configured(dhcpv4::Config {
                server: config.server,
                address: config.address,
                router: config.router,
                dns_servers: config.dns_servers.clone(),
                packet: None,
            }),
            dhcpv4::Event::Deconfigured => LeaseEvent::Lost,
        })
    }

    /// The next frame that the stack wants to send; nobody judged it yet.
    pub(crate) fn pop(&mut self) -> Option<Vec<u8>> {
        self.queues.sent.pop_front()
    }

    /// Takes over a lease's address and route, or forgets the last one's.
    pub(crate) fn configure(&mut self, lease: Option<&Lease>) {
        self.interface.update_ip_addrs(|addresses| {
            addresses.clear();
            if let Some(lease) = lease {
                addresses.push(IpCidr::Ipv4(lease.address)).expect("one address fits the empty list");
            }
        });
        let routes = self.interface.routes_mut();
        routes.remove_default_ipv4_route();
        if let Some(router) = lease.and_then(|lease| lease.router) {
            routes.add_default_ipv4_route(router).expect("one route fits the table without another");
        }
    }

    /// Forgets the lease, if any, and starts looking for a server at once.
    pub(crate) fn restart_dhcp(&mut self) {
        self.sockets.get_mut::<dhcpv4::Socket<'_>>(self.dhcp).reset();
    }

    /// The DNS socket, and the context in which queries are started.
    pub(crate) fn dns(&mut self) -> (&mut dns::Socket<'static>, &mut smoltcp::iface::Context) {
        (self.sockets.get_mut::<dns::Socket<'_>>(self.dns), self.interface.context())
    }

    /// When [`Stack::poll`] has something to do next. A stack that is blocked (no route to a server that it
    /// must reach) asks for "now" again and again; it is made to wait.
    pub(crate) fn deadline(&mut self, now: Instant) -> Option<Instant> {
        let at = self.interface.poll_at(now, &self.sockets)?;
        Some(if at <= now { now + BLOCKED_PAUSE } else { at })
    }
}

#[derive(Default)]
struct Queues {
    received: VecDeque<Vec<u8>>,
    sent: VecDeque<Vec<u8>>,
}

struct Received(Vec<u8>);

struct Sending<'a>(&'a mut VecDeque<Vec<u8>>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, use_frame: F) -> R {
        use_frame(&self.0)
    }
}

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        let mut frame = vec![0; length];
        let result = fill(&mut frame);
        self.0.push_back(frame);
        result
    }
}

impl Device for Queues {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Received, Sending<'_>)> {
        if self.sent.len() >= QUEUE {
            return None;
        }
        let frame = self.received.pop_front()?;
        Some((Received(frame), Sending(&mut self.sent)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Sending<'_>> {
        (self.sent.len() < QUEUE).then_some(Sending(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = MAX_FRAME;
        // Why not on receipt: see `frame::parse_datagram`.
        capabilities.checksum.udp = Checksum::Tx;
        capabilities
    }
}
