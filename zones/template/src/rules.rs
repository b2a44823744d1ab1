//! What a host image demands of a template: who signed it, and a least epoch. The host image carries them, so they
//! change only with it.

use minisign_verify::PublicKey;
use serde::Deserialize;

/// The file of a host image, parsed.
#[derive(Clone)]
pub struct Rules {
    /// The least epoch.
    pub minimum_epoch: u32,
    pub(crate) keys: Vec<(String, PublicKey)>,
}

impl std::fmt::Debug for Rules {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Rules {{ minimum_epoch: {}, keys: {:?} }}", self.minimum_epoch, self.key_names())
    }
}

/// Why a text gives no rules: a fragment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    /// Not the keys and values of such a file; the parser's words.
    #[error("{0}")]
    Content(String),
    /// A key that is none.
    #[error("keys: found {0:?}, allowed are minisign public keys (RW...)")]
    Key(String),
    /// Nobody may sign.
    #[error("keys: found none, at least one is needed")]
    NoKey,
}

/// The file's form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    minimum_epoch: u32,
    keys: Vec<String>,
}

impl Rules {
    /// Reads `minimum_epoch = N` and `keys = ["RW..."]`, minisign public keys.
    ///
    /// # Errors
    /// [`RulesError`].
    pub fn parse(text: &str) -> Result<Self, RulesError> {
        let file: File =
            toml_edit::de::from_str(text).map_err(|error| RulesError::Content(error.message().to_owned()))?;
        let keys: Vec<(String, PublicKey)> = file
            .keys
            .iter()
            .map(|text| {
                let name = key_name(text).ok_or_else(|| RulesError::Key(text.clone()))?;
                let key = PublicKey::from_base64(text).map_err(|_wrong| RulesError::Key(text.clone()))?;
                Ok((name, key))
            })
            .collect::<Result<_, RulesError>>()?;
        if keys.is_empty() {
            return Err(RulesError::NoKey);
        }
        Ok(Self { minimum_epoch: file.minimum_epoch, keys })
    }

    /// The text that [`Rules::parse`] reads.
    #[must_use]
    pub fn text(minimum_epoch: u32, public_key: &str) -> String {
        format!("minimum_epoch = {minimum_epoch}\nkeys = [\"{public_key}\"]\n")
    }

    /// The names of all keys, as minisign prints them, with commas.
    pub(crate) fn key_names(&self) -> String {
        self.keys.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

/// The name of the key in a public key or signature, as minisign prints it: its number, highest byte first.
pub(crate) fn key_name(base64: &str) -> Option<String> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(base64).ok()?;
    let number: [u8; 8] = bytes.get(2..10)?.try_into().ok()?;
    Some(format!("{:016X}", u64::from_le_bytes(number)))
}
