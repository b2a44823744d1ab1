//! What a zone's secret is used for: one key each, so that none of them tells another.

use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, Serializable};
use init_protocol::DISK_KEY_BYTES;
use ring::hkdf::{HKDF_SHA256, Prk};
use zeroize::Zeroizing;

/// 32 bytes that are wiped, and that stay where they are: what is moved leaves a copy behind.
pub(crate) type Key = Box<Zeroizing<[u8; 32]>>;

/// What comes from a zone's secret (RFC 5869, HKDF with SHA-256; the secret is uniformly random, so it is the
/// pseudo-random key itself).
pub(crate) struct ZoneKeys {
    /// The zone's TPM encrypts its state with it.
    pub(crate) state: Key,
    /// The zone's TPM gives out what it keeps against it.
    pub(crate) auth: Key,
    /// The private key of its tunnel (X25519).
    pub(crate) tunnel: Key,
    /// Its part of the disk's key: what the zone's TPM keeps is the other one.
    pub(crate) disk: DiskPart,
}

/// One part of a disk's key. Neither the machine's TPM nor the zone's one gives the key out alone.
pub(crate) struct DiskPart(Key);

/// A disk's key; the same.
pub(crate) type DiskKey = Box<Zeroizing<[u8; DISK_KEY_BYTES]>>;

impl DiskPart {
    /// The key, with what the zone's TPM keeps.
    pub(crate) fn with(&self, kept: &[u8]) -> DiskKey {
        let part = Prk::new_less_safe(HKDF_SHA256, &self.0[..]);
        let mut key = DiskKey::new(Zeroizing::new([0; DISK_KEY_BYTES]));
        let purpose = [&b"bulkhead disk"[..], kept];
        let filled = part.expand(&purpose, Whole).and_then(|okm| okm.fill(&mut key[..]));
        filled.expect("HKDF gives 64 bytes of SHA-256");
        wipe_stack();
        key
    }
}

/// The length of a disk's key.
struct Whole;

impl ring::hkdf::KeyType for Whole {
    fn len(&self) -> usize {
        DISK_KEY_BYTES
    }
}

impl ZoneKeys {
    /// The keys of a secret.
    pub(crate) fn of(secret: &[u8; 32]) -> Self {
        let secret = Prk::new_less_safe(HKDF_SHA256, secret);
        let key = |purpose: &[u8]| {
            let mut key = Key::new(Zeroizing::new([0; 32]));
            let filled = secret.expand(&[purpose], HKDF_SHA256).and_then(|okm| okm.fill(&mut key[..]));
            filled.expect("HKDF gives 32 bytes of SHA-256");
            key
        };
        let keys = Self {
            state: key(b"bulkhead vtpm state"),
            auth: key(b"bulkhead vtpm authorization"),
            tunnel: key(b"bulkhead tunnel"),
            disk: DiskPart(key(b"bulkhead disk part")),
        };
        wipe_stack();
        keys
    }

    /// The public half of the tunnel's key.
    pub(crate) fn tunnel_public(&self) -> [u8; 32] {
        let private = <X25519HkdfSha256 as Kem>::PrivateKey::from_bytes(&self.tunnel[..]);
        let public = X25519HkdfSha256::sk_to_pk(&private.expect("any 32 bytes are a key of X25519"));
        wipe_stack();
        public.to_bytes().into()
    }
}

impl std::fmt::Debug for ZoneKeys {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("ZoneKeys(..)")
    }
}

/// Overwrites what functions that have returned left on the stack: the libraries that derive keys hold parts of them there.
#[inline(never)]
pub(crate) fn wipe_stack() {
    let mut space = [0_u8; 32 * 1024];
    std::hint::black_box(&mut space);
}

/// Fresh random bytes of the kernel.
///
/// # Errors
/// There are none.
pub(crate) fn random<const N: usize>() -> std::io::Result<Zeroizing<[u8; N]>> {
    let mut bytes = Zeroizing::new([0; N]);
    match rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty())? {
        count if count == N => Ok(bytes),
        few => Err(std::io::Error::other(format!("{few} random bytes instead of {N}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_use_has_a_key_of_its_own() {
        let (one, other) = (ZoneKeys::of(&[1; 32]), ZoneKeys::of(&[2; 32]));
        let keys =
            [&one, &other].map(|keys| [**keys.state, **keys.auth, **keys.tunnel, keys.tunnel_public()]);
        let different: std::collections::BTreeSet<_> = keys.iter().flatten().collect();
        assert_eq!(different.len(), 8);
        let disks = [one.disk.with(&[3; 64]), one.disk.with(&[4; 64]), other.disk.with(&[3; 64])];
        assert_eq!(disks.iter().map(|disk| ***disk).collect::<std::collections::BTreeSet<_>>().len(), 3);
        assert_eq!(disks[0], ZoneKeys::of(&[1; 32]).disk.with(&[3; 64]));
        assert_eq!(ZoneKeys::of(&[1; 32]).auth, one.auth);
        assert_ne!(*random::<32>().unwrap(), *random::<32>().unwrap());
    }
}
