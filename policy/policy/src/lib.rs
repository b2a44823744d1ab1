//! The administrator's policy: one TOML file, parsed, checked and typed.
//!
//! [`check`] turns text into a [`Policy`] or a list of [`Finding`]s that name file, line, key, what was found
//! and what is allowed. [`verify`] is the only function that makes a [`VerifiedPolicy`], the type that
//! everything with an effect asks for. Default deny: what the file does not grant does not exist; an unknown
//! key is an error. The file holds public keys only.

mod types;

pub use types::*;
