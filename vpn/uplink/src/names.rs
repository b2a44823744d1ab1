//! Addresses of the endpoints' names, asked of the DHCP-given servers only: A first, AAAA when there is none.
//!
//! A name that was resolved is asked again every few minutes and keeps its last address while nobody
//! answers; after a failure the next server is asked, after a pause that doubles.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use smoltcp::socket::dns::{GetQueryResultError, QueryHandle};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{DnsQueryType, IpAddress};

use crate::stack::Stack;

/// How long an answer is used before the name is asked again.
const REFRESH: Duration = Duration::from_secs(300);

/// The pause after the first failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The most questions open at a time.
const MAX_OPEN: usize = 8;

/// A question that took as long as this had a server that does not answer (smoltcp gives up later).
const SILENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy)]
enum Phase {
    /// Until the question for this type is asked.
    Waiting(Instant, DnsQueryType),
    /// Since the question for this type was asked.
    Asking(Instant, DnsQueryType, QueryHandle),
}

struct Name {
    address: Option<IpAddr>,
    phase: Phase,
    failures: u32,
}

/// The names that the tunnels need.
#[derive(Default)]
pub(crate) struct Names {
    by_name: BTreeMap<String, Name>,
    servers: Vec<Ipv4Addr>,
    server: usize,
}

impl Names {
    /// Keeps exactly these names (lower case).
    pub(crate) fn want(&mut self, now: Instant, stack: &mut Stack, wanted: &BTreeSet<String>) {
        self.by_name.retain(|text, name| {
            let keep = wanted.contains(text);
            if !keep {
                name.cancel(now, stack);
            }
            keep
        });
        for text in wanted {
            if !self.by_name.contains_key(text) {
                self.by_name.insert(text.clone(), Name::new(now));
            }
        }
    }

    /// Asks these servers from now on; none: asks nobody. Open questions start anew, and what the last
    /// network's servers said is forgotten.
    pub(crate) fn use_servers(&mut self, now: Instant, stack: &mut Stack, servers: &[Ipv4Addr]) {
        for name in self.by_name.values_mut() {
            name.cancel(now, stack);
            *name = Name::new(now);
        }
        servers.clone_into(&mut self.servers);
        self.server = 0;
        self.select_server(stack);
    }

    /// Takes answers and starts questions. `true` when a question was started.
    pub(crate) fn poll(&mut self, now: Instant, stack: &mut Stack) -> bool {
        if self.servers.is_empty() {
            return false;
        }
        let mut failed = false;
        for name in self.by_name.values_mut() {
            failed |= name.take_answer(now, stack);
        }
        if failed {
            self.server = self.server.wrapping_add(1) % self.servers.len();
            self.select_server(stack);
        }
        let mut open = self.open();
        let mut started = false;
        for (text, name) in &mut self.by_name {
            if open < MAX_OPEN
                && let Phase::Waiting(at, family) = name.phase
                && at <= now
            {
                name.ask(now, stack, text, family);
                open = open.saturating_add(1);
                started = true;
            }
        }
        started
    }

    /// Where a name (lower case) is.
    pub(crate) fn get(&self, text: &str) -> Option<IpAddr> {
        self.by_name.get(text)?.address
    }

    /// Whether this is a name that we may ask for.
    pub(crate) fn contains(&self, text: &str) -> bool {
        self.by_name.contains_key(text)
    }

    /// When [`Names::poll`] has something to do next; the answers come through the stack's own deadline.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        if self.servers.is_empty() {
            return None;
        }
        if self.open() >= MAX_OPEN {
            return None;
        }
        let waiting = self.by_name.values().filter_map(|name| match name.phase {
            Phase::Waiting(at, _) => Some(at),
            Phase::Asking(..) => None,
        });
        waiting.min()
    }

    fn open(&self) -> usize {
        self.by_name.values().filter(|name| matches!(name.phase, Phase::Asking(..))).count()
    }

    fn select_server(&self, stack: &mut Stack) {
        let server: Vec<IpAddress> =
            self.servers.get(self.server).map(|&server| IpAddress::Ipv4(server)).into_iter().collect();
        stack.dns().0.update_servers(&server);
    }
}

impl Name {
    fn new(now: Instant) -> Self {
        Self { address: None, phase: Phase::Waiting(now, DnsQueryType::A), failures: 0 }
    }

    fn ask(&mut self, now: Instant, stack: &mut Stack, text: &str, family: DnsQueryType) {
        let (dns, context) = stack.dns();
        match dns.start_query(context, text, family) {
            Ok(handle) => self.phase = Phase::Asking(now, family, handle),
            Err(_invalid_name) => self.pause(now),
        }
    }

    /// `true` when the server failed us.
    fn take_answer(&mut self, now: Instant, stack: &mut Stack) -> bool {
        let Phase::Asking(since, family, handle) = self.phase else {
            return false;
        };
        match stack.dns().0.get_query_result(handle) {
            Err(GetQueryResultError::Pending) => false,
            Ok(addresses) if !addresses.is_empty() => {
                self.address = addresses.first().map(|&address| address.into());
                self.failures = 0;
                self.phase = Phase::Waiting(now + REFRESH, DnsQueryType::A);
                false
            }
            Ok(_) | Err(GetQueryResultError::Failed) => {
                if family == DnsQueryType::A && now - since < SILENCE {
                    self.phase = Phase::Waiting(now, DnsQueryType::Aaaa);
                    return false;
                }
                self.pause(now);
                true
            }
        }
    }

    fn pause(&mut self, now: Instant) {
        let pause = FIRST_PAUSE * 2_u32.saturating_pow(self.failures.min(6));
        self.failures = self.failures.saturating_add(1);
        self.phase = Phase::Waiting(now + pause.min(LONGEST_PAUSE), DnsQueryType::A);
    }

    fn cancel(&mut self, now: Instant, stack: &mut Stack) {
        if let Phase::Asking(_, _, handle) = self.phase {
            stack.dns().0.cancel_query(handle);
            self.phase = Phase::Waiting(now, DnsQueryType::A);
        }
    }
}
