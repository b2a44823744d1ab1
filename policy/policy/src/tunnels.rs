//! The rules of `[tunnel.NAME]` and `[[tunnel.NAME.peer]]`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::finding::Report;
use crate::read::{Field, Place};
use crate::types::{IpNetwork, Peer, Tunnel};
use crate::values::{self, NAME};

const KEYS: &[&str] = &["address", "dns", "mtu", "peer"];
const PEER_KEYS: &[&str] = &["public_key", "endpoint", "allowed_ips", "keepalive"];

const MAX_DNS: usize = 3;
const MAX_PEERS: usize = 8;
const MAX_ALLOWED_IPS: usize = 256;
const DEFAULT_MTU: u16 = 1420;

const ADDRESS: &str = "an address with prefix length, such as \"10.11.0.2/32\"";
const ADDRESSES: &str = "a list of 1 to 2 addresses with prefix length";
const DNS: &str = "the IP address of a host";
const KEY: &str = "an X25519 public key: 32 bytes in base64, 44 characters";
const ENDPOINT: &str =
    "\"host:port\", the host by DNS name, IPv4 address or [IPv6 address], the port from 1 to 65535";
const NETWORK: &str = "a network, such as \"10.11.0.0/24\" or \"::/0\"";
const NETWORKS: &str = "a list of 1 to 256 networks";
const PEERS: &str = "a list of 1 to 8 peers: [[tunnel.NAME.peer]]";

/// Reads all tunnels.
pub(crate) fn read(report: &mut Report, places: &[(String, Place<'_>)]) -> Vec<Tunnel> {
    places.iter().filter_map(|(name, place)| tunnel(report, name, place)).collect()
}

fn tunnel(report: &mut Report, name: &str, place: &Place<'_>) -> Option<Tunnel> {
    place.only(report, KEYS);
    let good_name = values::name(name);
    if good_name.is_none() {
        report.add(place.at, &place.path, format!("the name {:?}", crate::read::clip(name)), NAME);
    }
    let addresses = place.required(report, "address", ADDRESSES).and_then(|field| addresses(report, &field));
    let dns = match place.field("dns") {
        None => Some(Vec::new()),
        Some(field) => field.list(report, 0..=MAX_DNS, "DNS servers").and_then(|servers| {
            let parse = |text: &str| text.parse().ok().filter(|&address: &IpAddr| values::is_host(address));
            all(servers.iter().map(|server| server.text(report, DNS, parse)))
        }),
    };
    let mtu = match place.field("mtu") {
        None => Some(DEFAULT_MTU),
        Some(field) => field.number(report, 1280..=1420),
    };
    let peers = place.required(report, "peer", PEERS).and_then(|field| {
        let fields = field.list(report, 1..=MAX_PEERS, "peers")?;
        let mut taken = Taken::default();
        all(fields.iter().map(|field| {
            let place = field.as_table(report)?;
            peer(report, &place, &mut taken)
        }))
    });
    Some(Tunnel { name: good_name?, addresses: addresses?, dns: dns?, mtu: mtu?, peers: peers? })
}

fn addresses(report: &mut Report, field: &Field<'_>) -> Option<Vec<IpNetwork>> {
    let fields = field.list(report, 1..=2, "addresses with prefix length")?;
    let parse = |text: &str| values::network(text).filter(|network| values::is_host(network.address));
    let found = all(fields.iter().map(|field| field.text(report, ADDRESS, parse)))?;
    if let ([_, second], [one, two]) = (fields.as_slice(), found.as_slice())
        && one.address.is_ipv4() == two.address.is_ipv4()
    {
        let family = if one.address.is_ipv4() { "IPv4" } else { "IPv6" };
        let found = format!("{}, a second {family} address", second.show());
        report.add(second.at, &second.path, found, "at most one IPv4 and one IPv6 address");
        return None;
    }
    Some(found)
}

/// What only one peer of a tunnel may have, and where it has it.
#[derive(Default)]
struct Taken {
    keys: BTreeMap<[u8; 32], usize>,
    networks: BTreeMap<IpNetwork, usize>,
}

fn peer(report: &mut Report, place: &Place<'_>, taken: &mut Taken) -> Option<Peer> {
    place.only(report, PEER_KEYS);
    let public_key = place.required(report, "public_key", KEY).and_then(|field| {
        let key = field.text(report, KEY, values::key)?;
        if let Some(earlier) = taken.keys.insert(key, field.at) {
            let found = format!("the key of line {}", report.line(earlier));
            report.add(field.at, &field.path, found, "a key that no other peer of the tunnel has");
            return None;
        }
        Some(key)
    });
    let endpoint = place.required(report, "endpoint", ENDPOINT);
    let endpoint = endpoint.and_then(|field| field.text(report, ENDPOINT, values::endpoint));
    let allowed_ips = place.required(report, "allowed_ips", NETWORKS).and_then(|field| {
        let fields = field.list(report, 1..=MAX_ALLOWED_IPS, "networks")?;
        all(fields.iter().map(|field| allowed_ip(report, field, taken)))
    });
    let keepalive = match place.field("keepalive") {
        None => Some(None),
        Some(field) => field.number(report, 1..=65535).map(Some),
    };
    Some(Peer {
        public_key: public_key?,
        endpoint: endpoint?,
        allowed_ips: allowed_ips?,
        keepalive: keepalive?,
    })
}

fn allowed_ip(report: &mut Report, field: &Field<'_>, taken: &mut Taken) -> Option<IpNetwork> {
    let network = field.text(report, NETWORK, values::network)?;
    let base = values::base_of(network);
    if base != network {
        let allowed = format!("a network, with no bits set behind its prefix: \"{base}\"");
        report.add(field.at, &field.path, field.show(), allowed);
        return None;
    }
    if let Some(earlier) = taken.networks.insert(network, field.at) {
        let found = format!("{}, as in line {}", field.show(), report.line(earlier));
        report.add(field.at, &field.path, found, "each network once in a tunnel");
        return None;
    }
    Some(network)
}

/// Everything, if nothing is missing; each is looked at in any case, for its findings.
fn all<T>(parts: impl Iterator<Item = Option<T>>) -> Option<Vec<T>> {
    let parts: Vec<Option<T>> = parts.collect();
    parts.into_iter().collect()
}
