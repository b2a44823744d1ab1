//! The whole demo network as one pure state machine: frames and time in, frames out.

use std::time::Duration;

use crate::addresses::Site;
use crate::config::Keys;
use crate::lan::{self, Outcome, Service};
use crate::wireguard::{Output, SiteCounters, WireGuardGateway};

/// What the network has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames that came from the host.
    pub frames: u64,
    /// ARP requests answered.
    pub arp: u64,
    /// DHCP messages answered.
    pub dhcp: u64,
    /// DNS queries answered on the LAN.
    pub dns: u64,
    /// Frames that nobody wanted.
    pub ignored: u64,
    /// Frames for the host that were lost because it did not read.
    pub lost: u64,
    /// Times that QEMU connected.
    pub connections: u64,
    /// Per site, in the order of [`Site::ALL`].
    pub sites: [SiteCounters; 2],
}

/// LAN, gateways and intranets.
#[derive(Debug)]
pub struct DemoNetwork {
    gateways: [WireGuardGateway; 2],
    counters: Counters,
}

impl DemoNetwork {
    /// A network that has seen no frame.
    #[must_use]
    pub fn new(keys: &Keys) -> Self {
        let [office, research] = &keys.sites;
        Self {
            gateways: [
                WireGuardGateway::new(Site::Office, office),
                WireGuardGateway::new(Site::Research, research),
            ],
            counters: Counters::default(),
        }
    }

    /// Makes a gateway deaf and dumb, or ends that.
    pub fn set_silent(&mut self, site: Site, silence: Silence) {
        self.gateways[site.index()].silent = silence == Silence::Silent;
    }

    /// What it has seen; `lost` and `connections` are the shell's.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters { sites: [self.gateways[0].counters(), self.gateways[1].counters()], ..self.counters }
    }

    /// Handles one frame from the host.
    pub fn receive(&mut self, now: Duration, frame: &[u8], output: &mut Output) {
        self.counters.frames += 1;
        match lan::handle(frame) {
            Outcome::Reply(reply, service) => {
                *match service {
                    Service::Arp => &mut self.counters.arp,
                    Service::Dhcp => &mut self.counters.dhcp,
                    Service::Dns => &mut self.counters.dns,
                } += 1;
                output.frames.push(reply);
            }
            Outcome::WireGuard(site, datagram) => {
                self.gateways[site.index()].receive(now, &datagram, output);
            }
            Outcome::Ignored => self.counters.ignored += 1,
        }
    }

    /// Runs what is due although no frame came.
    pub fn poll(&mut self, now: Duration, output: &mut Output) {
        for gateway in &mut self.gateways {
            gateway.poll(now, output);
        }
    }

    /// How long [`DemoNetwork::poll`] can wait.
    pub fn next_poll(&mut self, now: Duration) -> Duration {
        let [office, research] = &mut self.gateways;
        office.next_poll(now).min(research.next_poll(now))
    }
}

/// Whether a gateway answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// It does.
    Answering,
    /// It ignores everything.
    Silent,
}
