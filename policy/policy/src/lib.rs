//! The administrator's policy: one TOML file, parsed, checked and typed.
//!
//! [`check`] turns text into a [`Policy`] or a list of [`Finding`]s that name file, line, key, what was found
//! and what is allowed. [`verify`] is the only function that makes a [`VerifiedPolicy`], the type that
//! everything with an effect asks for. Default deny: what the file does not grant does not exist; an unknown
//! key is an error. The file holds public keys only.
//!
//! Text comes in as an argument and nothing is opened, written or logged here. No input makes it panic.

#![forbid(unsafe_code)]
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::panic_in_result_fn)]

mod demo_keys;
mod explain;
mod finding;
mod keep;
mod keys;
mod login;
mod policy;
mod read;
mod tunnels;
mod types;
mod user;
mod values;
mod verified;
mod zones;

pub use demo_keys::{demo_gateway_keys, demo_keys};
pub use explain::{ExplainError, Line, explain};
pub use finding::{Finding, Findings};
pub use policy::{MAX_TEXT, check};
pub use types::*;
pub use verified::{VerifiedPolicy, verify};

#[cfg(test)]
mod tests;
