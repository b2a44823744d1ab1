//! Which peer owns an address: the most specific allowed network decides, outwards and inwards.

use std::net::IpAddr;

/// Allowed networks of all peers, most specific first.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    v6: bool,
    bits: u128,
    mask: u128,
    prefix: u8,
    peer: usize,
}

/// An address as left-aligned bits, with its family.
fn key(address: IpAddr) -> (bool, u128) {
    match address {
        IpAddr::V4(v4) => (false, u128::from(v4.to_bits()) << 96),
        IpAddr::V6(v6) => (true, v6.to_bits()),
    }
}

/// The mask of a left-aligned prefix; `None` when it is longer than the address.
fn mask(v6: bool, prefix: u8) -> Option<u128> {
    if prefix > if v6 { 128 } else { 32 } {
        return None;
    }
    Some(u128::MAX.checked_shl(128_u32.saturating_sub(u32::from(prefix))).unwrap_or(0))
}

impl Routes {
    /// Adds a network. `false` when its prefix is too long or the same network is already there.
    pub(crate) fn add(&mut self, address: IpAddr, prefix: u8, peer: usize) -> bool {
        let (v6, bits) = key(address);
        let Some(mask) = mask(v6, prefix) else { return false };
        let entry = Entry { v6, bits: bits & mask, mask, prefix, peer };
        if self.entries.iter().any(|e| (e.v6, e.bits, e.prefix) == (v6, entry.bits, prefix)) {
            return false;
        }
        let place = self.entries.partition_point(|e| e.prefix >= prefix);
        self.entries.insert(place, entry);
        true
    }

    /// The peer that owns `address`.
    pub(crate) fn owner(&self, address: IpAddr) -> Option<usize> {
        let (v6, bits) = key(address);
        self.entries.iter().find(|e| e.v6 == v6 && bits & e.mask == e.bits).map(|e| e.peer)
    }
}
