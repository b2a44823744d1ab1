//! What a gateway is started with: its socket, its keys, and how much it records.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use boringtun::x25519::{PublicKey, StaticSecret};
use toml_edit::DocumentMut;

use crate::addresses::Site;

/// Everything that [`crate::start`] needs.
#[derive(Debug)]
pub struct Config {
    /// The Unix socket on which QEMU's `-netdev stream` connects. A stale socket there is replaced.
    pub socket: PathBuf,
    /// Keys of both sites.
    pub keys: Keys,
    /// Every frame also goes into this pcap file.
    pub pcap: Option<PathBuf>,
    /// The most bytes of frames that are kept in memory; 0 keeps none.
    pub record_bytes: usize,
}

impl Config {
    /// What a test keeps in memory at most.
    pub const TEST_RECORD_BYTES: usize = 256 * 1024 * 1024;

    /// A configuration that records everything in memory and writes no file.
    #[must_use]
    pub fn for_test(socket: PathBuf, keys: Keys) -> Self {
        Self { socket, keys, pcap: None, record_bytes: Self::TEST_RECORD_BYTES }
    }
}

/// The keys of one site's WireGuard gateway. Its `Debug` shows none of them.
#[derive(Clone)]
pub struct SiteKeys {
    /// The gateway's own private key.
    pub gateway: StaticSecret,
    /// The public key of the only client.
    pub client: PublicKey,
}

impl std::fmt::Debug for SiteKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SiteKeys").finish_non_exhaustive()
    }
}

/// The keys of both sites, in the order of [`Site::ALL`].
#[derive(Clone, Debug)]
pub struct Keys {
    /// One entry a site.
    pub sites: [SiteKeys; 2],
}

/// Why no keys came out of the demo's key files.
#[derive(Debug, thiserror::Error)]
pub enum LoadKeysError {
    /// A file cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not TOML.
    #[error("parse {}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml_edit::TomlError>,
    },
    /// A key is missing or is not 32 bytes of base64.
    #[error("{}: {table}.{name}: found {found}, allowed is a string with 32 bytes in base64", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// `gateway` or `tunnel`.
        table: &'static str,
        /// The site's name.
        name: &'static str,
        /// `nothing`, or `something else`: keys are not repeated in messages.
        found: &'static str,
    },
}

impl Keys {
    /// Reads `gateway-keys.toml` and `demo-keys.toml` of the demo policy's folder.
    ///
    /// # Errors
    /// [`LoadKeysError`] names file and key.
    pub fn from_folder(folder: &Path) -> Result<Self, LoadKeysError> {
        let gateways = KeyFile::read(folder.join("gateway-keys.toml"), "gateway")?;
        let tunnels = KeyFile::read(folder.join("demo-keys.toml"), "tunnel")?;
        let site = |site: Site| -> Result<SiteKeys, LoadKeysError> {
            let client = StaticSecret::from(tunnels.key(site)?);
            Ok(SiteKeys {
                gateway: StaticSecret::from(gateways.key(site)?),
                client: PublicKey::from(&client),
            })
        };
        Ok(Self { sites: [site(Site::Office)?, site(Site::Research)?] })
    }

    /// Has a site expect another client; `None`: this is no public key in base64.
    #[must_use]
    pub fn with_client(mut self, site: Site, public_key: &str) -> Option<Self> {
        let key: [u8; 32] = STANDARD.decode(public_key).ok()?.try_into().ok()?;
        self.sites.get_mut(site.index())?.client = PublicKey::from(key);
        Some(self)
    }
}

struct KeyFile {
    path: PathBuf,
    table: &'static str,
    document: DocumentMut,
}

impl KeyFile {
    fn read(path: PathBuf, table: &'static str) -> Result<Self, LoadKeysError> {
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(source) => return Err(LoadKeysError::Read { path, source }),
        };
        match text.parse() {
            Ok(document) => Ok(Self { path, table, document }),
            Err(source) => Err(LoadKeysError::Parse { path, source: Box::new(source) }),
        }
    }

    fn key(&self, site: Site) -> Result<[u8; 32], LoadKeysError> {
        let item = self.document.get(self.table).and_then(|table| table.get(site.name()));
        let found = if item.is_none() { "nothing" } else { "something else" };
        item.and_then(|item| item.as_str())
            .and_then(|text| STANDARD.decode(text).ok())
            .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
            .ok_or_else(|| LoadKeysError::Key {
                path: self.path.clone(),
                table: self.table,
                name: site.name(),
                found,
            })
    }
}
