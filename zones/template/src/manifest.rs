//! The manifest as a value and as text.

use std::fmt::Write as _;

use ring::digest::{Context, SHA256};
use serde::Deserialize;

use crate::{HOST_PARAMETERS, MAX_SIZE, ROOT_PARAMETER};

/// The one version of the format.
const SCHEMA: u32 = 1;

/// What a template consists of.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    schema: u32,
    /// The name under which a policy asks for it: no template can stand in for another.
    pub name: String,
    /// Raised when all older templates must not run any more; a host image demands a least one.
    pub epoch: u32,
    /// Raised with each release; a host never goes back below the highest that it has used.
    pub version: u64,
    /// The least memory, in MiB, with which a zone starts.
    pub memory_min_mib: u32,
    /// The kernel's command line, but for the root's hash.
    command_line: String,
    /// `vmlinux`.
    pub kernel: FileSum,
    /// `initrd`.
    pub initrd: FileSum,
    /// `root.img`.
    pub root: Root,
}

/// What a manifest says that is not found out by looking at files; see [`Manifest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// The template's name.
    pub name: &'static str,
    /// Its epoch.
    pub epoch: u32,
    /// Its version.
    pub version: u64,
    /// The least memory in MiB.
    pub memory_min_mib: u32,
    /// The kernel's command line, but for the root's hash.
    pub command_line: &'static str,
}

/// A file's size and SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSum {
    /// Its length in bytes.
    pub size: u64,
    /// The SHA-256 of all of it.
    #[serde(deserialize_with = "hash")]
    pub sha256: [u8; 32],
}

/// Adds up a file that comes in pieces.
#[derive(Clone)]
pub struct Summer {
    size: u64,
    context: Context,
}

impl Default for Summer {
    fn default() -> Self {
        Self { size: 0, context: Context::new(&SHA256) }
    }
}

impl std::fmt::Debug for Summer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Summer of {} bytes", self.size)
    }
}

impl Summer {
    /// Adds the next piece.
    pub fn add(&mut self, piece: &[u8]) {
        self.context.update(piece);
        self.size = self.size.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
    }

    /// Size and hash of all pieces.
    #[must_use]
    pub fn finish(self) -> FileSum {
        let sha256 = self.context.finish().as_ref().try_into().expect("a SHA-256 has 32 bytes");
        FileSum { size: self.size, sha256 }
    }
}

impl std::fmt::Display for FileSum {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} bytes with SHA-256 {}", self.size, hex(&self.sha256))
    }
}

/// The root image: a file system that dm-verity guards, then the hash tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// Length of file system and tree, in bytes.
    pub size: u64,
    /// The SHA-256 of both.
    #[serde(deserialize_with = "hash")]
    pub sha256: [u8; 32],
    /// Blocks of 4096 bytes of the file system; the tree begins behind them.
    pub data_blocks: u64,
    /// The hash of the tree's top block.
    #[serde(deserialize_with = "hash")]
    pub verity: [u8; 32],
}

/// Why bytes are no manifest: a fragment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Too long to be one.
    #[error("found {0} bytes, allowed are {MAX_SIZE}")]
    Long(usize),
    /// No text.
    #[error("found bytes that are no UTF-8 text")]
    Text,
    /// Not the keys and values of a manifest; the parser's words.
    #[error("{0}")]
    Content(String),
    /// A format that is not ours.
    #[error("schema: found {0}, allowed is {SCHEMA}")]
    Schema(u32),
    /// Right in content but written otherwise than [`Manifest::encode`] writes it.
    #[error("found a manifest that is not in its canonical form")]
    NotCanonical,
    /// The file system does not fit the image, or a value does not fit the command line.
    #[error("{key}: found {found}, allowed is {allowed}")]
    Value {
        /// The key in the manifest.
        key: &'static str,
        /// Its value.
        found: String,
        /// What it may be.
        allowed: &'static str,
    },
}

impl Manifest {
    /// A manifest of these parts.
    ///
    /// # Errors
    /// [`ManifestError::Value`].
    pub fn new(recipe: &Recipe, kernel: FileSum, initrd: FileSum, root: Root) -> Result<Self, ManifestError> {
        let manifest = Self {
            schema: SCHEMA,
            name: recipe.name.to_owned(),
            epoch: recipe.epoch,
            version: recipe.version,
            memory_min_mib: recipe.memory_min_mib,
            command_line: recipe.command_line.to_owned(),
            kernel,
            initrd,
            root,
        };
        manifest.check()?;
        Ok(manifest)
    }

    /// Its one written form.
    #[must_use]
    pub fn encode(&self) -> String {
        let Self { schema, name, epoch, version, memory_min_mib, command_line, kernel, initrd, root } = self;
        let mut text = format!(
            "schema = {schema}\nname = \"{name}\"\nepoch = {epoch}\nversion = {version}\n\
             memory_min_mib = {memory_min_mib}\ncommand_line = \"{command_line}\"\n"
        );
        let file = |name: &str, size: u64, sha256: &[u8; 32]| {
            format!("\n[{name}]\nsize = {size}\nsha256 = \"{}\"\n", hex(sha256))
        };
        text += &file("kernel", kernel.size, &kernel.sha256);
        text += &file("initrd", initrd.size, &initrd.sha256);
        text += &file("root", root.size, &root.sha256);
        text += &format!("data_blocks = {}\nverity = \"{}\"\n", root.data_blocks, hex(&root.verity));
        text
    }

    /// Reads what [`Manifest::encode`] wrote. The result is a claim until [`crate::verify`] has checked its signature.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MAX_SIZE {
            return Err(ManifestError::Long(bytes.len()));
        }
        let text = std::str::from_utf8(bytes).map_err(|_no_text| ManifestError::Text)?;
        let manifest: Self = toml_edit::de::from_str(text)
            .map_err(|error| ManifestError::Content(error.message().to_owned()))?;
        if manifest.schema != SCHEMA {
            return Err(ManifestError::Schema(manifest.schema));
        }
        manifest.check()?;
        if manifest.encode() != text {
            return Err(ManifestError::NotCanonical);
        }
        Ok(manifest)
    }

    /// The whole command line of the zone's kernel: the manifest's words and the root's verity tree.
    #[must_use]
    pub fn command_line(&self) -> String {
        let Root { data_blocks, verity, .. } = &self.root;
        format!("{} {ROOT_PARAMETER}={data_blocks},{}", self.command_line, hex(verity))
    }

    fn check(&self) -> Result<(), ManifestError> {
        let value = |key, found: String, allowed| Err(ManifestError::Value { key, found, allowed });
        let plain =
            |text: &str| text.bytes().all(|byte| matches!(byte, b' '..=b'~') && !b"\"\\".contains(&byte));
        let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if self.name.is_empty() || self.name.len() > 64 || !self.name.bytes().all(word) {
            return value("name", format!("{:?}", self.name), "a-z, 0-9 and -, at most 64");
        }
        if !plain(&self.command_line) || self.command_line.contains(HOST_PARAMETERS) {
            let allowed = "printable ASCII without quotes, backslashes and bulkhead.";
            return value("command_line", format!("{:?}", self.command_line), allowed);
        }
        let root = &self.root;
        if root.data_blocks == 0 || crate::verity::size(root.data_blocks) != Some(root.size) {
            let allowed = "the number of 4096-byte blocks that, with their hash tree, make the root's size";
            return value("root.data_blocks", root.data_blocks.to_string(), allowed);
        }
        Ok(())
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        write!(text, "{byte:02x}").expect("text in memory takes all");
    }
    text
}

/// 64 hexadecimal digits.
fn hash<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
    let text = String::deserialize(deserializer)?;
    let wrong = || serde::de::Error::custom(format!("found {text:?}, allowed are 64 hexadecimal digits"));
    let digits: Vec<u8> = text
        .bytes()
        .map(|byte| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()
        .ok_or_else(wrong)?;
    let bytes: Vec<u8> =
        digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |all, digit| all << 4 | digit)).collect();
    if digits.len() != 64 {
        return Err(wrong());
    }
    bytes.try_into().map_err(|_length| wrong())
}
