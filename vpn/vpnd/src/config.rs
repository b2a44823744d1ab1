//! From the configuration that `zoned` passed to the tunnel's own.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;

use tunnel::{Config, Limits, PeerConfig};
use vpn_protocol::VpndConfig;

/// The largest configuration that is read.
const MAX_CONFIG: u64 = 64 * 1024;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadConfigError {
    /// The memfd cannot be read.
    #[error("descriptor cannot be read")]
    Io(#[from] std::io::Error),
    /// Its bytes are no `VpndConfig`.
    #[error("{0} bytes do not decode as a configuration")]
    Malformed(usize),
}

/// Reads the whole memfd, wherever its offset stands.
pub(crate) fn read(descriptor: OwnedFd) -> Result<VpndConfig, ReadConfigError> {
    let mut file = File::from(descriptor);
    file.seek(SeekFrom::Start(0))?;
    let mut bytes = Vec::new();
    file.take(MAX_CONFIG).read_to_end(&mut bytes)?;
    match postcard::take_from_bytes(&bytes) {
        Ok((config, [])) => Ok(config),
        Ok(_) | Err(_) => Err(ReadConfigError::Malformed(bytes.len())),
    }
}

/// Makes the tunnel's configuration.
pub(crate) fn tunnel(config: VpndConfig, private_key: &[u8; 32], seed: [u8; 32]) -> Config {
    Config {
        private_key: *private_key,
        // The prefix says which hosts are near the zone; here only its own address matters.
        addresses: config.addresses.into_iter().map(|(address, _prefix)| address).collect(),
        dns: config.dns,
        mtu: config.mtu,
        peers: config
            .peers
            .into_iter()
            .map(|peer| PeerConfig {
                public_key: peer.public_key,
                allowed_ips: peer.allowed_ips,
                keepalive: peer.keepalive,
            })
            .collect(),
        zone_mac: config.zone_mac,
        seed,
        limits: Limits::default(),
    }
}
