//! The one way from bytes to a template that may run.

use std::ops::Deref;

use minisign_verify::Signature;

use crate::rules::key_name;
use crate::{MAX_SIGNATURE, Manifest, ManifestError, Rules};

/// A manifest whose signature, name and epoch were checked. Its version is compared by who remembers the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedTemplate {
    manifest: Manifest,
}

impl Deref for VerifiedTemplate {
    type Target = Manifest;

    fn deref(&self) -> &Manifest {
        &self.manifest
    }
}

/// Why a template may not run: a fragment with what was found and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The signature's file is no signature.
    #[error("signature: found no minisign signature, allowed is one by {allowed}")]
    NoSignature {
        /// The keys of this host.
        allowed: String,
    },
    /// Signed by somebody else.
    #[error("signature: found one by key {found}, allowed is one by {allowed}")]
    OtherKey {
        /// The signature's key.
        found: String,
        /// The keys of this host.
        allowed: String,
    },
    /// By the right key, but not of these bytes.
    #[error(
        "signature: found one by key {found} that does not fit the manifest, allowed are the signed bytes only"
    )]
    Altered {
        /// The signature's key.
        found: String,
    },
    /// Signed, but no manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Another template's manifest.
    #[error("name: found {found:?}, allowed is {allowed:?}")]
    Name {
        /// The manifest's.
        found: String,
        /// The one that the policy asks for.
        allowed: String,
    },
    /// From before something that must not come back.
    #[error("epoch: found {found}, allowed is {allowed} or above")]
    Epoch {
        /// The manifest's.
        found: u32,
        /// The host image's least.
        allowed: u32,
    },
}

/// Checks a manifest that is to be the template `name`.
///
/// # Errors
/// [`VerifyError`]; nothing of the manifest is believed before its signature was checked.
pub fn verify(
    name: &str,
    manifest: &[u8],
    signature: &[u8],
    rules: &Rules,
) -> Result<VerifiedTemplate, VerifyError> {
    let no_signature = || VerifyError::NoSignature { allowed: rules.key_names() };
    if signature.len() > MAX_SIGNATURE {
        return Err(no_signature());
    }
    let text = std::str::from_utf8(signature).map_err(|_no_text| no_signature())?;
    let signature = Signature::decode(text).map_err(|_none| no_signature())?;
    let found = text.lines().nth(1).and_then(key_name).ok_or_else(no_signature)?;
    let Some((_, key)) = rules.keys.iter().find(|(name, _)| *name == found) else {
        return Err(VerifyError::OtherKey { found, allowed: rules.key_names() });
    };
    key.verify(manifest, &signature, false).map_err(|_wrong| VerifyError::Altered { found })?;
    let manifest = Manifest::decode(manifest)?;
    if manifest.name != name {
        return Err(VerifyError::Name { found: manifest.name, allowed: name.to_owned() });
    }
    if manifest.epoch < rules.minimum_epoch {
        return Err(VerifyError::Epoch { found: manifest.epoch, allowed: rules.minimum_epoch });
    }
    Ok(VerifiedTemplate { manifest })
}
