//! DNS over TCP, for answers that UDP cut: connections to the gateway's port 53 are led to the tunnel's first server by
//! exchanging the gateway's address for the server's, and back. The two ends speak TCP with each other.
//!
//! A connection is known by the zone's port. One that the zone makes to the server itself from the same port at the same
//! time would be mixed up with it; such a port is drawn once in thousands of times and the connection only fails.

use std::net::IpAddr;
use std::time::Duration;

use super::dns::PORT;
use crate::bytes::be16;
use crate::ip::{self, Header, TCP};

/// Connections under way; the one that was quiet longest gives way.
const MAX_FLOWS: usize = 64;

/// A connection that was quiet for so long is forgotten.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Where TCP keeps its checksum.
const CHECKSUM_AT: usize = 16;

/// A connection of the zone.
struct Flow {
    client: (IpAddr, u16),
    gateway: IpAddr,
    server: IpAddr,
    seen: Duration,
}

/// Connections under way.
#[derive(Default)]
pub(super) struct Flows {
    flows: Vec<Flow>,
}

impl Flows {
    /// Whether no connection is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// Makes the packet for the tunnel from one that the zone sent to the gateway.
    pub(super) fn forward(
        &mut self,
        header: &Header,
        segment: &[u8],
        server: IpAddr,
        now: Duration,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let client = (header.source, be16(segment, 0)?);
        if be16(segment, 2)? != PORT {
            return None;
        }
        self.flows.retain(|flow| now.saturating_sub(flow.seen) < TIMEOUT && flow.client != client);
        if self.flows.len() >= MAX_FLOWS {
            let oldest = self.flows.iter().enumerate().min_by_key(|(_, flow)| flow.seen);
            let place = oldest.map_or(0, |(place, _)| place);
            self.flows.swap_remove(place);
        }
        self.flows.push(Flow { client, gateway: header.destination, server, seen: now });
        rewrite(segment, header.source, server, out)
    }

    /// The address as which the gateway speaks to the zone, when a packet out of the tunnel belongs to a connection.
    pub(super) fn answer(&mut self, header: &Header, segment: &[u8], now: Duration) -> Option<IpAddr> {
        let client = (header.destination, be16(segment, 2)?);
        if be16(segment, 0)? != PORT {
            return None;
        }
        let flow = self.flows.iter_mut().find(|flow| {
            flow.client == client && flow.server == header.source && now.saturating_sub(flow.seen) < TIMEOUT
        })?;
        flow.seen = now;
        Some(flow.gateway)
    }
}

/// Appends the segment in a packet between these addresses. The checksum is made anew: the guest may have left its own
/// to the device.
pub(super) fn rewrite(segment: &[u8], source: IpAddr, destination: IpAddr, out: &mut Vec<u8>) -> Option<()> {
    let mut segment = segment.to_vec();
    crate::bytes::put(&mut segment, CHECKSUM_AT, &[0, 0])?;
    ip::push_packet(out, source, destination, TCP, &segment, CHECKSUM_AT)
}
