//! What `zoned` says of a zone that it did not open.

use anyhow::{Context, bail};
use harness::bridge::CallError;

/// The parameters of `NotOpened`.
#[derive(Debug, PartialEq, Eq)]
pub struct Told {
    /// The zone.
    pub zone: String,
    /// The cause's name.
    pub cause: String,
    /// The sentence.
    pub reason: String,
    /// Wrong PINs until it is locked.
    pub tries_left: Option<u32>,
}

/// What was said to somebody who wanted to open a zone.
///
/// # Errors
/// It was opened, or something else went wrong.
pub fn told(result: Result<(), CallError>) -> anyhow::Result<Told> {
    match result {
        Ok(()) => bail!("it was opened"),
        Err(CallError::Method { error, parameters, .. }) if error.ends_with(".NotOpened") => {
            let text = |key| {
                let text = parameters.get(key).and_then(|value| value.as_str());
                text.map(str::to_owned).with_context(|| format!("NotOpened has no {key}: {parameters}"))
            };
            let tries_left = parameters.get("tries_left").and_then(|value| value.as_u64());
            let tries_left = tries_left.map(u32::try_from).transpose()?;
            Ok(Told { zone: text("zone")?, cause: text("cause")?, reason: text("reason")?, tries_left })
        }
        Err(error) => Err(error).context("another error than NotOpened"),
    }
}
