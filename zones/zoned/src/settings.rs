//! The policy and the demonstration's private keys, read once at the start.
//!
//! A policy that does not verify gives no zones at all, and every finding becomes a notice: the host comes
//! up and says what is wrong. A file of private keys is accepted only beside a policy that calls itself a
//! demonstration.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use init_protocol::MAX_ZONES;
use policy::VerifiedPolicy;

/// Where everything is.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    /// The policy.
    pub(crate) policy: PathBuf,
    /// The demonstration's private keys.
    pub(crate) demo_keys: PathBuf,
    /// Who may sign templates.
    pub(crate) template_rules: PathBuf,
    /// The firmware that starts every zone.
    pub(crate) firmware: PathBuf,
    /// Templates and private disks.
    pub(crate) data: PathBuf,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            policy: "/etc/bulkhead/policy.toml".into(),
            demo_keys: "/etc/bulkhead/demo-keys.toml".into(),
            template_rules: "/etc/bulkhead/templates.toml".into(),
            firmware: "/etc/bulkhead/zone_fw".into(),
            data: "/data".into(),
        }
    }
}

/// What was read.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    /// The policy, when it verified.
    pub(crate) policy: Option<VerifiedPolicy>,
    /// Private keys by the tunnel's name.
    pub(crate) keys: BTreeMap<String, [u8; 32]>,
    /// What is wrong, in sentences.
    pub(crate) problems: Vec<String>,
    /// SHA-256 of the policy's file.
    sha256: String,
}

impl Settings {
    /// Reads the files.
    pub(crate) fn read(paths: &Paths) -> Self {
        let mut settings = Self::default();
        let name = paths.policy.display().to_string();
        let text = match std::fs::read_to_string(&paths.policy) {
            Ok(text) => text,
            Err(error) => {
                settings.problems.push(format!(
                    "There is no policy, so there are no zones: {name}: {error}. Build the image again with one."
                ));
                return settings;
            }
        };
        settings.sha256 = audit::record::sha256(text.as_bytes());
        match policy::verify(&name, &text) {
            Ok(policy) if policy.zones.len() > usize::from(MAX_ZONES) => {
                let count = policy.zones.len();
                settings.problems.push(format!(
                    "There are no zones: {name} names {count}, and this host runs at most {MAX_ZONES}. Remove some \
                     from the policy."
                ));
            }
            Ok(policy) => {
                settings.read_keys(paths, &policy);
                settings.policy = Some(policy);
            }
            Err(findings) => {
                settings.problems.extend(findings.iter().map(|finding| {
                    format!(
                        "The policy has an error, so there are no zones: {finding}. Correct it and build the image \
                         again."
                    )
                }));
            }
        }
        settings
    }

    /// Name and hash of the policy that is in force.
    pub(crate) fn loaded(&self) -> Option<(String, String)> {
        let policy = self.policy.as_deref()?;
        Some((audit::event::text(&policy.name), self.sha256.clone()))
    }

    fn read_keys(&mut self, paths: &Paths, policy: &VerifiedPolicy) {
        let name = paths.demo_keys.display().to_string();
        let text = match std::fs::read_to_string(&paths.demo_keys) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => {
                self.problems.push(format!(
                    "The tunnels' private keys cannot be read: {name}: {error}. Build the image again."
                ));
                return;
            }
        };
        if !policy.demo {
            self.problems.push(format!("{name} is ignored: the policy is no demonstration."));
            return;
        }
        match policy::demo_keys(&name, &text) {
            Ok(keys) => self.keys = keys,
            Err(findings) => self.problems.extend(findings.iter().map(|finding| {
                format!("The tunnels' private keys have an error: {finding}. Correct it and build the image again.")
            })),
        }
    }
}

#[cfg(test)]
mod tests;
