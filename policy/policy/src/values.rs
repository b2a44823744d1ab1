//! How single values are written: names, sizes, addresses, endpoints, keys.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::types::{Endpoint, Host, IpNetwork};

/// What [`name`] allows, in words.
pub(crate) const NAME: &str = "1 to 32 characters of a-z, 0-9 and -, the first of a-z";

/// A name that may stand in paths, log lines and messages.
pub(crate) fn name(text: &str) -> Option<String> {
    let (first, rest) = text.as_bytes().split_first()?;
    let good = first.is_ascii_lowercase()
        && rest.len() < 32
        && rest.iter().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == b'-');
    good.then(|| text.to_owned())
}

/// Printable ASCII of at most `longest` characters, not only blanks.
pub(crate) fn printable(text: &str, longest: usize) -> Option<String> {
    let good = text.len() <= longest
        && text.bytes().all(|c| c.is_ascii_graphic() || c == b' ')
        && text.bytes().any(|c| c != b' ');
    good.then(|| text.to_owned())
}

/// A size in MiB: `256 MiB`, `2 GiB`.
pub(crate) fn mebibytes(text: &str) -> Option<u32> {
    let (digits, unit) = text.split_once(' ')?;
    let factor = match unit {
        "MiB" => 1,
        "GiB" => 1024,
        _ => return None,
    };
    decimal(digits)?.checked_mul(factor)
}

/// `address/prefix`.
pub(crate) fn network(text: &str) -> Option<IpNetwork> {
    let (address, prefix) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let prefix = u8::try_from(decimal(prefix)?).ok().filter(|prefix| *prefix <= longest)?;
    Some(IpNetwork { address, prefix })
}

/// The network with the host's bits cleared.
pub(crate) fn base_of(network: IpNetwork) -> IpNetwork {
    let host_bits = |width: u32| width.saturating_sub(u32::from(network.prefix));
    let address = match network.address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(host_bits(32)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(host_bits(128)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    };
    IpNetwork { address, prefix: network.prefix }
}

/// Whether an address can be one host's own.
pub(crate) fn is_host(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !(address.is_unspecified() || address.is_multicast() || address.is_loopback() || broadcast)
}

/// `host:port` or `[IPv6 address]:port`.
pub(crate) fn endpoint(text: &str) -> Option<Endpoint> {
    let (host, port) = text.rsplit_once(':')?;
    let port = u16::try_from(decimal(port)?).ok().filter(|port| *port != 0)?;
    let address: Option<IpAddr> = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(inside) => Some(IpAddr::V6(inside.parse().ok()?)),
        None => host.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    };
    let host = match address {
        Some(address) => is_host(address).then_some(Host::Address(address))?,
        None => Host::Name(dns_name(host)?),
    };
    Some(Endpoint { host, port })
}

/// A DNS name as [`Host::Name`] describes it.
fn dns_name(text: &str) -> Option<String> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // What ends in a number is an IPv4 address with a mistake in it.
    let number_last = text.rsplit('.').next()?.bytes().all(|c| c.is_ascii_digit());
    (text.len() <= 253 && text.split('.').all(label) && !number_last).then(|| text.to_owned())
}

/// 32 bytes in base64, not all zero.
pub(crate) fn key(text: &str) -> Option<[u8; 32]> {
    let bytes: [u8; 32] = STANDARD.decode(text).ok()?.try_into().ok()?;
    (bytes != [0; 32]).then_some(bytes)
}

/// Digits only: no sign, no blanks.
fn decimal(text: &str) -> Option<u32> {
    text.bytes().all(|c| c.is_ascii_digit()).then(|| text.parse().ok())?
}
