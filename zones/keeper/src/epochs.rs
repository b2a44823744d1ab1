//! Epochs of approvals: none below the highest that this machine has used counts, so that what the maker has revoked does
//! not come back by putting an old image or template, with its old approval, in the place of the new one.
//!
//! Pure. Where they are remembered is `secrets`' part.

use std::collections::BTreeMap;

use approval::{Approval, ApprovalKey};
use hw_tpm::EpochTag;
use serde::{Deserialize, Serialize};

/// The first epoch: allowed where nothing else is known, and not worth remembering.
const FIRST: u32 = 1;

/// The highest epochs that were used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Epochs(BTreeMap<EpochTag, u32>);

/// Why an approval does not count: a fragment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EpochError {
    /// The epoch is anybody's word.
    #[error("the epoch of the approval for {0:?} is not signed by the key that approves")]
    Unsigned(String),
    /// It was revoked.
    #[error(
        "the approval for {purpose:?}: epoch: found {found}, allowed is {allowed} or above, which this machine has \
         used already"
    )]
    Revoked {
        /// What it is for.
        purpose: String,
        /// Its epoch.
        found: u32,
        /// The least.
        allowed: u32,
    },
}

impl Epochs {
    /// Whether an approval counts.
    ///
    /// # Errors
    /// [`EpochError`].
    pub(crate) fn check(&self, key: &ApprovalKey, approval: &Approval) -> Result<(), EpochError> {
        if !key.vouches(approval) {
            return Err(EpochError::Unsigned(approval.purpose.clone()));
        }
        let allowed = self.0.get(&tag(&approval.purpose)).copied().unwrap_or(FIRST);
        if approval.epoch < allowed {
            let (purpose, found) = (approval.purpose.clone(), approval.epoch);
            return Err(EpochError::Revoked { purpose, found, allowed });
        }
        Ok(())
    }

    /// Adds what is known elsewhere.
    pub(crate) fn merge(&mut self, others: impl IntoIterator<Item = (EpochTag, u32)>) {
        for (tag, epoch) in others {
            let known = self.0.entry(tag).or_insert(epoch);
            *known = epoch.max(*known);
        }
    }

    /// What is higher here than there.
    pub(crate) fn above(&self, other: &Self) -> Vec<(EpochTag, u32)> {
        let higher = |(tag, epoch): &(&EpochTag, &u32)| other.0.get(*tag).is_none_or(|known| known < *epoch);
        self.0.iter().filter(higher).map(|(tag, epoch)| (*tag, *epoch)).collect()
    }

    /// An approval that counts was used. `true`: that raises what is allowed.
    pub(crate) fn used(&mut self, approval: &Approval) -> bool {
        let tag = tag(&approval.purpose);
        if approval.epoch <= self.0.get(&tag).copied().unwrap_or(FIRST) {
            return false;
        }
        self.0.insert(tag, approval.epoch);
        true
    }
}

fn tag(purpose: &str) -> EpochTag {
    let mut tag = EpochTag::default();
    tag.iter_mut().zip(approval::sha256(&[purpose.as_bytes()])).for_each(|(place, byte)| *place = byte);
    tag
}

#[cfg(test)]
mod tests {
    use approval::{Approver, HOST, RUNNING};

    use super::*;

    #[test]
    fn an_epoch_below_the_highest_that_was_used_counts_no_more() {
        let approver = Approver::from_pkcs8(&Approver::generate().unwrap()).unwrap();
        let key = approver.key().unwrap();
        let approve = |purpose, epoch| approver.approve(purpose, RUNNING, epoch, [6; 32]).unwrap();
        let mut epochs = Epochs::default();
        for epoch in [1, 7] {
            epochs.check(&key, &approve(HOST, epoch)).unwrap();
        }
        let below_all = "the approval for \"bulkhead host\": epoch: found 0, allowed is 1 or above, which this machine \
                         has used already";
        assert_eq!(epochs.check(&key, &approve(HOST, 0)).unwrap_err().to_string(), below_all);
        // The first one is remembered nowhere.
        assert!(!epochs.used(&approve(HOST, 1)) && epochs == Epochs::default());
        assert_eq!([3, 3, 2].map(|epoch| epochs.used(&approve(HOST, epoch))), [true, false, false]);
        let [(of, 3)] = epochs.above(&Epochs::default())[..] else { panic!("{epochs:?}") };
        let (purpose, revoked) =
            (HOST.to_owned(), EpochError::Revoked { purpose: HOST.to_owned(), found: 2, allowed: 3 });
        assert_eq!(epochs.check(&key, &approve(HOST, 2)), Err(revoked));
        epochs.check(&key, &approve(HOST, 3)).unwrap();
        // Another purpose has epochs of its own.
        epochs.check(&key, &approve("bulkhead template micro", 1)).unwrap();
        // An old approval that calls itself newer.
        let lie = Approval { epoch: 9, ..approve(HOST, 2) };
        assert_eq!(epochs.check(&key, &lie), Err(EpochError::Unsigned(purpose)));
        // What is known elsewhere raises, and never lowers.
        epochs.merge([(of, 5), ([9; 8], 2)]);
        let before = epochs.clone();
        epochs.merge([(of, 4)]);
        assert_eq!((epochs.above(&before), epochs.above(&Epochs::default()).len()), (vec![], 2));
        assert!(
            epochs.check(&key, &approve(HOST, 4)).is_err() && epochs.check(&key, &approve(HOST, 5)).is_ok()
        );
    }
}
