//! The type that everything with an effect asks for.

use std::ops::Deref;

use crate::finding::Findings;
use crate::types::Policy;

/// A policy that [`verify`] accepted; nothing else makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedPolicy {
    policy: Policy,
}

/// Checks a policy and vouches for it.
///
/// Today "verified" means that every rule of [`check`](crate::check) holds. The signature, the version that
/// must not fall and the expiry come later, here: until then whoever can write the file can change the policy.
///
/// # Errors
/// What [`check`](crate::check) finds.
pub fn verify(file_name: &str, text: &str) -> Result<VerifiedPolicy, Findings> {
    crate::policy::check(file_name, text).map(|policy| VerifiedPolicy { policy })
}

impl Deref for VerifiedPolicy {
    type Target = Policy;

    fn deref(&self) -> &Policy {
        &self.policy
    }
}
