//! A zone template's signed manifest: what it says, how it is written, who may have signed it.
//!
//! A template is a folder with `vmlinux`, `initrd`, `root.img`, the manifest `template.toml`, its signature
//! `template.toml.minisig`, and `approval`, which the TPMs check. The manifest names the other files by size and SHA-256, and the root image also by the
//! root of its dm-verity tree, so that one signature covers every byte that a zone runs.
//!
//! ```text
//! build: Manifest -- encode --> bytes -- SigningKey::sign --> signature     (image/builder)
//! host:  bytes + signature + Rules -- verify --> VerifiedTemplate           (zoned, and keeper for itself)
//! ```
//!
//! A [`VerifiedTemplate`] comes from [`verify`] and from nowhere else; a manifest that nobody checked has no
//! command line to start a zone with. The crate does no I/O: bytes come in as arguments. It does not look at the files
//! that a manifest names: who opens them compares them ([`FileSum`]).

mod manifest;
mod rules;
mod signing;
mod verify;

/// The Merkle tree that dm-verity checks a root image with.
pub mod verity;

pub use manifest::{FileSum, Manifest, ManifestError, Recipe, Root, Summer};
pub use rules::{Rules, RulesError};
pub use signing::{KeyError, SigningKey, approve};
pub use verify::{VerifiedTemplate, VerifyError, verify};

/// The manifest's file name.
pub const MANIFEST: &str = "template.toml";

/// The file name of its signature.
pub const SIGNATURE: &str = "template.toml.minisig";

/// The file name of the approval: for it a zone's TPM opens what it keeps for this template. Its signature is random, so it is
/// the one file of which two builds differ.
pub const APPROVAL: &str = "approval";

/// The file name of the kernel: an ELF image, whose segments are best where the builder arranges them, or a bzImage. The
/// zone's firmware reads it, nobody on the host.
pub const KERNEL: &str = "vmlinux";

/// The file name of the initrd.
pub const INITRD: &str = "initrd";

/// The file name of the root image: a file system, then its hash tree.
pub const ROOT: &str = "root.img";

/// Bytes that a manifest or a signature has at most; a longer file is not read.
pub const MAX_SIZE: usize = 16 * 1024;

/// Bytes that a signature has at most. Its first line is nobody's, so it could hold anything.
pub const MAX_SIGNATURE: usize = 1024;

/// What the words of the kernel's command line begin with that only the host writes.
pub const HOST_PARAMETERS: &str = "bulkhead.";

/// The word of the kernel's command line that tells the agent the verity tree: `bulkhead.root=BLOCKS,HASH`.
pub const ROOT_PARAMETER: &str = "bulkhead.root";

#[cfg(test)]
mod tests;
