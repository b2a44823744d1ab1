//! The keys that sign zone templates, and approve what TPMs open secrets for.
//!
//! A release is signed with keys of the releaser's: `BULKHEAD_TEMPLATE_KEY` names a file made by `minisign -G -W`
//! (docs/decisions/0006-signed-templates.md), `BULKHEAD_APPROVAL_KEY` a P-256 key in PKCS#8 (docs/decisions/0019-sealed-disks.md).
//! Everybody else gets development keys, made at the first build and kept below `build/`: they protect against altered
//! files, not against whoever can read that folder. The host image carries the public halves of whichever keys signed.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use approval::Approver;
use rustix::rand::{GetRandomFlags, getrandom};
use template::SigningKey;

use crate::progress;
use crate::workspace::Workspace;

/// Name the files with keys of the releaser's.
const VARIABLE: &str = "BULKHEAD_TEMPLATE_KEY";
const APPROVAL_VARIABLE: &str = "BULKHEAD_APPROVAL_KEY";

/// A key that signs.
pub(crate) struct Key {
    key: SigningKey,
    public: String,
}

impl Key {
    /// The releaser's key, or the development key, which is made when there is none.
    pub(crate) fn find(workspace: &Workspace) -> Result<Self> {
        if let Some(path) = std::env::var_os(VARIABLE).map(PathBuf::from) {
            return Self::read(&path).with_context(|| format!("{VARIABLE} names {}", path.display()));
        }
        let path = workspace.built("keys/template.key");
        if !path.exists() {
            progress::say(&format!("==> making a development key for templates: {}", path.display()));
            make(&path).with_context(|| format!("make {}", path.display()))?;
        }
        Self::read(&path).with_context(|| format!("{}: remove it, and a new one is made", path.display()))
    }

    fn read(path: &Path) -> Result<Self> {
        let key = SigningKey::parse(&fs::read_to_string(path)?)?;
        let public = key.public_key();
        Ok(Self { key, public })
    }

    /// The public half, as minisign writes it.
    pub(crate) fn public(&self) -> &str {
        &self.public
    }

    /// The signature file of some bytes.
    pub(crate) fn sign(&self, bytes: &[u8]) -> String {
        self.key.sign(bytes)
    }
}

fn make(path: &Path) -> Result<()> {
    fs::create_dir_all(path.parent().context("a file has a folder")?)?;
    let (mut number, mut seed) = ([0; 8], [0; 32]);
    for bytes in [&mut number[..], &mut seed[..]] {
        getrandom(bytes, GetRandomFlags::empty()).context("ask for random bytes")?;
    }
    keep(path, SigningKey::from_seed(number, seed).secret_key_file().as_bytes())
}

/// Writes a new key for nobody else to read.
fn keep(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    Ok(())
}

/// The key that approves: the releaser's, or the development key, which is made when there is none.
pub(crate) fn approver(workspace: &Workspace) -> Result<Approver> {
    let read = |path: &Path| -> Result<Approver> { Ok(Approver::from_pkcs8(&fs::read(path)?)?) };
    if let Some(path) = std::env::var_os(APPROVAL_VARIABLE).map(PathBuf::from) {
        return read(&path).with_context(|| format!("{APPROVAL_VARIABLE} names {}", path.display()));
    }
    let path = workspace.built("keys/approval.key");
    if !path.exists() {
        progress::say(&format!("==> making a development key for approvals: {}", path.display()));
        fs::create_dir_all(path.parent().context("a file has a folder")?)?;
        keep(&path, &Approver::generate()?).with_context(|| format!("make {}", path.display()))?;
    }
    read(&path).with_context(|| format!("{}: remove it, and a new one is made", path.display()))
}
