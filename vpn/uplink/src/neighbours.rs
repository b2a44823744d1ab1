//! MAC addresses of the next hops that the tunnels use: asked before they are needed, refreshed while they
//! are, and believed only in an answer to our own question.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use smoltcp::time::{Duration, Instant};
use smoltcp::wire::EthernetAddress;

/// After this an entry is asked for again.
const REFRESH: Duration = Duration::from_secs(60);

/// After this without an answer an entry is forgotten.
const FORGET: Duration = Duration::from_secs(90);

/// Between two questions, the first few times.
const RETRY: Duration = Duration::from_secs(1);

/// Between two questions, when nobody answered for long.
const SLOW_RETRY: Duration = Duration::from_secs(10);

/// How many questions are asked quickly.
const QUICK_QUESTIONS: u32 = 10;

#[derive(Clone, Copy, Debug)]
struct Neighbour {
    /// Address, and when it was last confirmed.
    known: Option<(EthernetAddress, Instant)>,
    ask_at: Instant,
    /// Questions since the last answer.
    unanswered: u32,
}

/// The table; as large as the set that is wanted.
#[derive(Debug, Default)]
pub(crate) struct Neighbours {
    by_address: BTreeMap<Ipv4Addr, Neighbour>,
}

impl Neighbours {
    /// Keeps entries for exactly these addresses.
    pub(crate) fn want(&mut self, now: Instant, wanted: &BTreeSet<Ipv4Addr>) {
        self.by_address.retain(|address, _| wanted.contains(address));
        for &address in wanted {
            self.by_address.entry(address).or_insert(Neighbour { known: None, ask_at: now, unanswered: 0 });
        }
    }

    /// The addresses to ask for now.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<Ipv4Addr> {
        let mut due = Vec::new();
        for (&address, neighbour) in &mut self.by_address {
            if neighbour.known.is_some_and(|(_, at)| at + FORGET <= now) {
                neighbour.known = None;
            }
            if neighbour.ask_at <= now {
                due.push(address);
                neighbour.unanswered = neighbour.unanswered.saturating_add(1);
                let pause = if neighbour.unanswered <= QUICK_QUESTIONS { RETRY } else { SLOW_RETRY };
                neighbour.ask_at = now + pause;
            }
        }
        due
    }

    /// An ARP reply to us arrived. Believed when a question for this address is open.
    pub(crate) fn answer(&mut self, now: Instant, address: Ipv4Addr, mac: EthernetAddress) {
        if let Some(neighbour) = self.by_address.get_mut(&address)
            && neighbour.unanswered > 0
            && mac.is_unicast()
            && mac != EthernetAddress([0; 6])
        {
            *neighbour = Neighbour { known: Some((mac, now)), ask_at: now + REFRESH, unanswered: 0 };
        }
    }

    /// The MAC address of a next hop.
    pub(crate) fn get(&self, now: Instant, address: Ipv4Addr) -> Option<EthernetAddress> {
        let (mac, at) = self.by_address.get(&address)?.known?;
        (now < at + FORGET).then_some(mac)
    }

    /// When [`Neighbours::due`] has something to say next.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.by_address.values().map(|neighbour| neighbour.ask_at).min()
    }
}
