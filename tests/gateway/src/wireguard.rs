//! A WireGuard gateway with one client, and the intranet behind it.
//!
//! boringtun does the protocol; this adds what a router does: it remembers where the client is, accepts inner
//! packets only from the client's own addresses, and pads what it sends to 16 bytes (WireGuard white paper,
//! section 5.4.6).

use std::net::{IpAddr, SocketAddrV4};
use std::time::Duration;

use boringtun::noise::{Tunn, TunnResult};

use crate::addresses::{ROUTER_MAC, Site};
use crate::config::SiteKeys;
use crate::intranet::Intranet;
use crate::packet::{Datagram, build_udp};

/// boringtun wants to be asked for its timers a few times a second.
const TIMER_PERIOD: Duration = Duration::from_millis(250);

/// What a gateway has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SiteCounters {
    /// Datagrams that came in.
    pub datagrams: u64,
    /// Handshakes that it answered.
    pub handshakes: u64,
    /// Datagrams that are no WireGuard message of the client.
    pub rejected: u64,
    /// Inner packets that it took out of the tunnel.
    pub inner_packets: u64,
    /// Inner packets whose source is not one of the client's addresses.
    pub foreign_sources: u64,
    /// Datagrams ignored because the gateway is silent.
    pub ignored_silent: u64,
    /// HTTP requests answered.
    pub requests: u64,
}

/// Frames and inner packets that came out of one step.
#[derive(Debug, Default)]
pub struct Output {
    /// Ethernet frames for the host, in order.
    pub frames: Vec<Vec<u8>>,
    /// Packets that were taken out of a tunnel.
    pub inner: Vec<(Site, Vec<u8>)>,
}

/// One gateway and its intranet.
pub struct WireGuardGateway {
    site: Site,
    tunnel: Tunn,
    intranet: Intranet,
    client: Option<Client>,
    timers_due: Duration,
    counters: SiteCounters,
    /// While set, nothing is heard and nothing is said.
    pub silent: bool,
}

/// Where the client was last heard.
#[derive(Clone, Copy, Debug)]
struct Client {
    mac: [u8; 6],
    address: SocketAddrV4,
}

impl std::fmt::Debug for WireGuardGateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WireGuardGateway").field("site", &self.site).finish_non_exhaustive()
    }
}

impl WireGuardGateway {
    /// A gateway without a session.
    #[must_use]
    pub fn new(site: Site, keys: &SiteKeys) -> Self {
        let index = u32::try_from(site.index() + 1).expect("there are two sites");
        Self {
            site,
            tunnel: Tunn::new(keys.gateway.clone(), keys.client, None, None, index, None),
            intranet: Intranet::new(site),
            client: None,
            timers_due: Duration::ZERO,
            counters: SiteCounters::default(),
            silent: false,
        }
    }

    /// What it has seen so far.
    #[must_use]
    pub fn counters(&self) -> SiteCounters {
        SiteCounters { requests: self.intranet.requests, ..self.counters }
    }

    /// Takes a datagram that the router forwarded.
    pub fn receive(&mut self, now: Duration, datagram: &Datagram<'_>, output: &mut Output) {
        self.counters.datagrams += 1;
        if self.silent {
            self.counters.ignored_silent += 1;
            return;
        }
        let client = Client { mac: datagram.source_mac, address: datagram.source };
        let source = IpAddr::V4(*client.address.ip());
        let mut buffer = vec![0; 65_536 + 64];
        match self.tunnel.decapsulate(Some(source), datagram.payload, &mut buffer) {
            TunnResult::WriteToNetwork(message) => {
                self.counters.handshakes += u64::from(message.first() == Some(&2));
                self.client = Some(client);
                self.send(message_frame(self.site, client, message), output);
                // Whatever waited for the session goes out now.
                while let TunnResult::WriteToNetwork(message) =
                    self.tunnel.decapsulate(None, &[], &mut buffer)
                {
                    output.frames.push(message_frame(self.site, client, message));
                }
            }
            TunnResult::WriteToTunnelV4(packet, address) => {
                self.client = Some(client);
                let packet = packet.to_vec();
                self.receive_inner(packet, IpAddr::V4(address), output);
            }
            TunnResult::WriteToTunnelV6(packet, address) => {
                self.client = Some(client);
                let packet = packet.to_vec();
                self.receive_inner(packet, IpAddr::V6(address), output);
            }
            TunnResult::Done => self.client = Some(client),
            TunnResult::Err(_) => self.counters.rejected += 1,
        }
        self.run_intranet(now, output);
    }

    /// Runs what is due although nothing came.
    pub fn poll(&mut self, now: Duration, output: &mut Output) {
        self.run_intranet(now, output);
        if now < self.timers_due {
            return;
        }
        self.timers_due = now + TIMER_PERIOD;
        let mut buffer = vec![0; 2048];
        if let TunnResult::WriteToNetwork(message) = self.tunnel.update_timers(&mut buffer)
            && let Some(client) = self.client
        {
            self.send(message_frame(self.site, client, message), output);
        }
    }

    /// How long [`WireGuardGateway::poll`] can wait.
    pub fn next_poll(&mut self, now: Duration) -> Duration {
        let timers = self.timers_due.saturating_sub(now);
        self.intranet.next_poll(now).map_or(timers, |intranet| intranet.min(timers))
    }

    fn receive_inner(&mut self, packet: Vec<u8>, source: IpAddr, output: &mut Output) {
        self.counters.inner_packets += 1;
        output.inner.push((self.site, packet.clone()));
        if self.site.client().contains(&source) {
            self.intranet.receive(packet);
        } else {
            self.counters.foreign_sources += 1;
        }
    }

    fn run_intranet(&mut self, now: Duration, output: &mut Output) {
        self.intranet.poll(now);
        let mut buffer = vec![0; 2048];
        while let Some(mut packet) = self.intranet.transmit() {
            // The receiver cuts the padding off by the inner packet's own length.
            packet.resize(packet.len().next_multiple_of(16), 0);
            if let TunnResult::WriteToNetwork(message) = self.tunnel.encapsulate(&packet, &mut buffer)
                && let Some(client) = self.client
            {
                self.send(message_frame(self.site, client, message), output);
            }
        }
    }

    fn send(&self, frame: Vec<u8>, output: &mut Output) {
        if !self.silent {
            output.frames.push(frame);
        }
    }
}

fn message_frame(site: Site, client: Client, message: &[u8]) -> Vec<u8> {
    build_udp(&Datagram {
        source_mac: ROUTER_MAC,
        destination_mac: client.mac,
        source: site.endpoint(),
        destination: client.address,
        payload: message,
    })
}
