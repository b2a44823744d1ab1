//! Where epochs are remembered: in a file, and in the machine's TPM, which nobody sets back by writing the disk.

use approval::{Approval, HOST};
use hw_tpm::Tpm;

use super::{Hardware, SecretError};
use crate::epochs::Epochs;

impl Hardware {
    /// What is known without asking the TPM anew.
    fn epochs(&mut self) -> Result<&mut Epochs, SecretError> {
        if self.epochs.is_none() {
            self.epochs = Some(self.store.epochs()?);
        }
        Ok(self.epochs.get_or_insert_default())
    }

    /// Adds what a TPM knows that was just opened, and looks whether this host was revoked.
    pub(super) fn learn_epochs(&mut self, tpm: &mut Tpm) -> Result<(), SecretError> {
        let mut known = Epochs::default();
        known.merge(tpm.epochs()?);
        self.epochs()?.merge(known.above(&Epochs::default()));
        self.learned = Some(known);
        let (key, approvals) = (self.key, self.of_host());
        Ok(approvals
            .iter()
            .try_for_each(|approval| self.epochs.get_or_insert_default().check(&key, approval))?)
    }

    /// Approvals of this host.
    fn of_host(&self) -> Vec<Approval> {
        self.approvals.iter().filter(|approval| approval.purpose == HOST).cloned().collect()
    }

    /// Whether these count.
    pub(super) fn judge_epochs(&mut self, approvals: &[Approval]) -> Result<(), SecretError> {
        if self.learned.is_none() && self.store.machine()?.is_some() {
            // A disposable zone starts without a TPM, too.
            match self.tpm() {
                Ok(tpm) => self.tpm = Some(tpm),
                Err(error) => tracing::warn!(%error, "epochs are judged by a file alone"),
            }
        }
        let key = self.key;
        let epochs = self.epochs()?;
        Ok(approvals.iter().try_for_each(|approval| epochs.check(&key, approval))?)
    }

    /// What this host's own approvals say is used from now on.
    pub(super) fn used_host(&mut self) {
        let approvals = self.of_host();
        self.note_epochs(&approvals);
    }

    /// Remembers epochs that were used. Where that fails, the next start tries again.
    pub(super) fn note_epochs(&mut self, approvals: &[Approval]) {
        if let Err(error) = self.remember_epochs(approvals) {
            tracing::error!(%error, "epochs are not remembered");
            (self.epochs, self.learned) = (None, None);
        }
    }

    fn remember_epochs(&mut self, approvals: &[Approval]) -> Result<(), SecretError> {
        let mut news = false;
        for approval in approvals {
            if self.epochs()?.used(approval) {
                tracing::info!(
                    purpose = approval.purpose,
                    approval.epoch,
                    "older epochs do not count any more"
                );
                news = true;
            }
        }
        let epochs = self.epochs()?.clone();
        if news {
            self.store.keep_epochs(&epochs)?;
        }
        // Also what a file says, and a TPM that was just taken into use does not know.
        let Some(known) = &self.learned else { return Ok(()) };
        let lacking = epochs.above(known);
        if lacking.is_empty() {
            return Ok(());
        }
        let mut tpm = self.tpm()?;
        let owner = self.owner(&mut tpm)?;
        for (tag, epoch) in lacking {
            tpm.raise_epoch(tag, epoch, &owner)?;
        }
        self.tpm = Some(tpm);
        self.learned = Some(epochs);
        Ok(())
    }
}
