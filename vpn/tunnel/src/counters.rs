//! What a tunnel counts.

/// Why packets were dropped, and how many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops {
    /// From the zone: malformed frames and offload requests.
    pub malformed: u64,
    /// From the zone: wrong source address, Ethernet or IP.
    pub spoofed: u64,
    /// From the zone: protocols and destinations that never enter a tunnel (other ethertypes, multicast, router
    /// advertisements, foreign DHCP).
    pub refused: u64,
    /// From the zone: no peer owns the destination.
    pub no_route: u64,
    /// From the zone: larger than the tunnel's MTU.
    pub too_large: u64,
    /// From the zone: the queue that awaits a handshake is full, or the keys are worn out.
    pub no_session: u64,
    /// From a peer: not a valid WireGuard message, or replayed.
    pub unauthentic: u64,
    /// From a peer: the inner source belongs to somebody else, or the inner destination is not the zone.
    pub foreign: u64,
}

impl Drops {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        [
            self.malformed,
            self.spoofed,
            self.refused,
            self.no_route,
            self.too_large,
            self.no_session,
            self.unauthentic,
            self.foreign,
        ]
        .iter()
        .fold(0, |total, count| total.saturating_add(*count))
    }
}

/// Adds one to a counter.
pub(crate) fn count(counter: &mut u64) {
    *counter = counter.saturating_add(1);
}
