//! The DNS forwarder: a query to the gateway goes into the tunnel to the tunnel's server, from the zone's own address
//! with an unpredictable port and id; the answer comes back as the gateway's.
//!
//! This is UDP; `dns_tcp` leads connections to the same server. Names are not parsed beyond finding the question's end;
//! nothing is cached.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ring::hmac;

use super::{Datagram, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Link, Outcome};
use crate::bytes::{array, be16, put};
use crate::ip;

/// Queries under way; the oldest gives way.
const MAX_QUERIES: usize = 128;

/// Answers that come later are no answers.
const TIMEOUT: Duration = Duration::from_secs(10);

const HEADER: usize = 12;
pub(super) const PORT: u16 = 53;
const RESPONSE: u8 = 0x80;
const REFUSED: u8 = 5;

/// The longest question: a name of 255 bytes, type and class.
const MAX_QUESTION: usize = 259;

/// A query under way.
struct Query {
    client: (IpAddr, u16),
    gateway: IpAddr,
    client_id: u16,
    server: usize,
    port: u16,
    id: u16,
    question: Vec<u8>,
    sent: Duration,
}

/// Queries and where they go.
pub(super) struct Forwarder {
    /// Servers of the tunnel that share a family with the zone, with the source address for each.
    servers: Vec<(IpAddr, IpAddr)>,
    key: hmac::Key,
    drawn: u64,
    queries: Vec<Query>,
}

impl Forwarder {
    pub(super) fn new(
        servers: &[IpAddr],
        v4: Option<Ipv4Addr>,
        v6: Option<Ipv6Addr>,
        seed: &[u8; 32],
    ) -> Self {
        let servers = servers
            .iter()
            .filter_map(|server| {
                let source = match server {
                    IpAddr::V4(_) => v4.map(IpAddr::V4),
                    IpAddr::V6(_) => v6.map(IpAddr::V6),
                };
                source.map(|source| (*server, source))
            })
            .collect();
        Self { servers, key: hmac::Key::new(hmac::HMAC_SHA256, seed), drawn: 0, queries: Vec::new() }
    }

    /// Whether no query is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.queries.is_empty()
    }

    /// The first server that a client of this family reaches without changing family.
    pub(super) fn server_for(&self, client: IpAddr) -> Option<IpAddr> {
        self.servers.iter().map(|(server, _)| *server).find(|server| server.is_ipv4() == client.is_ipv4())
    }

    /// Takes a query of the zone and makes the packet for the tunnel.
    pub(super) fn forward(
        &mut self,
        datagram: &Datagram<'_>,
        link: &Link,
        now: Duration,
        out: &mut Vec<u8>,
    ) -> Option<Outcome> {
        let (client, _) = datagram.source;
        let local = matches!(client, IpAddr::V6(v6) if v6.is_unicast_link_local() && link.v6.is_some());
        if !local && !link.owns(client) {
            return None;
        }
        let message = datagram.payload;
        let question =
            question(message).filter(|_| message.get(2).is_some_and(|flags| flags & RESPONSE == 0))?;
        if self.servers.is_empty() {
            refuse(datagram, question, link, out)?;
            return Some(Outcome::Reply);
        }
        let client_id = be16(message, 0)?;
        let [port_high, port_low, id_high, id_low] = self.draw();
        // 16384..=65535: above the ports that mean something.
        let port = (u16::from_be_bytes([port_high, port_low]) % 0xc000).wrapping_add(0x4000);
        let id = u16::from_be_bytes([id_high, id_low]);
        // A repeated query tries the next server.
        let mut turn = 0;
        if let Some(place) = self.queries.iter().position(|query| {
            query.client == datagram.source && query.client_id == client_id && query.question == question
        }) {
            turn = self.queries.swap_remove(place).server.wrapping_add(1);
        }
        self.queries.retain(|query| now.saturating_sub(query.sent) < TIMEOUT);
        if self.queries.len() >= MAX_QUERIES {
            let oldest = self.queries.iter().enumerate().min_by_key(|(_, query)| query.sent);
            let place = oldest.map_or(0, |(place, _)| place);
            self.queries.swap_remove(place);
        }
        let server = turn.checked_rem(self.servers.len())?;
        let (address, source) = *self.servers.get(server)?;
        let mut forwarded = message.to_vec();
        put(&mut forwarded, 0, &id.to_be_bytes())?;
        ip::push_udp(out, (source, port), (address, PORT), &forwarded)?;
        self.queries.push(Query {
            client: datagram.source,
            gateway: datagram.destination.0,
            client_id,
            server,
            port,
            id,
            question: question.to_vec(),
            sent: now,
        });
        Some(Outcome::IntoTunnel)
    }

    /// Takes a datagram from the tunnel; when it answers a query, makes the frame for the zone.
    pub(super) fn answer(
        &mut self,
        datagram: &Datagram<'_>,
        link: &Link,
        now: Duration,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let id = be16(datagram.payload, 0)?;
        let place = self.queries.iter().position(|query| {
            query.id == id
                && query.port == datagram.destination.1
                && datagram.source.1 == PORT
                && now.saturating_sub(query.sent) < TIMEOUT
                && self.servers.get(query.server) == Some(&(datagram.source.0, datagram.destination.0))
        })?;
        if datagram.payload.get(2)? & RESPONSE == 0 {
            return None;
        }
        let query = self.queries.get(place)?;
        if !question(datagram.payload)?.eq_ignore_ascii_case(&query.question) {
            return None;
        }
        let query = self.queries.swap_remove(place);
        let mut message = datagram.payload.to_vec();
        put(&mut message, 0, &query.client_id.to_be_bytes())?;
        to_zone(query.gateway, query.client, &message, link, out)
    }

    /// Four bytes that nobody without the seed can foresee.
    fn draw(&mut self) -> [u8; 4] {
        self.drawn = self.drawn.wrapping_add(1);
        let tag = hmac::sign(&self.key, &self.drawn.to_le_bytes());
        array(tag.as_ref(), 0).unwrap_or_default()
    }
}

/// Refuses a query: the tunnel has no server.
fn refuse(datagram: &Datagram<'_>, question: &[u8], link: &Link, out: &mut Vec<u8>) -> Option<()> {
    let mut message = datagram.payload.get(..HEADER)?.to_vec();
    let flags = datagram.payload.get(2)? | RESPONSE;
    put(&mut message, 2, &[flags, REFUSED])?;
    put(&mut message, 6, &[0; 6])?;
    message.extend_from_slice(question);
    to_zone(datagram.destination.0, datagram.source, &message, link, out)
}

fn to_zone(
    gateway: IpAddr,
    client: (IpAddr, u16),
    message: &[u8],
    link: &Link,
    out: &mut Vec<u8>,
) -> Option<()> {
    link.begin(out, if gateway.is_ipv4() { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 });
    ip::push_udp(out, (gateway, PORT), client, message)
}

/// The one question of a message: name, type and class.
fn question(message: &[u8]) -> Option<&[u8]> {
    if be16(message, 4)? != 1 {
        return None;
    }
    let question = message.get(HEADER..)?;
    let mut at: usize = 0;
    loop {
        let label = *question.get(at)?;
        if label & 0xc0 != 0 {
            return None;
        }
        at = at.checked_add(usize::from(label))?.checked_add(1)?;
        if label == 0 {
            break;
        }
    }
    let end = at.checked_add(4).filter(|end| *end <= MAX_QUESTION)?;
    question.get(..end)
}
