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
        let known = tpm.epochs()?;
        self.epochs()?.merge(known);
        self.learned = true;
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
        if !self.learned && self.store.machine()?.is_some() {
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
        for approval in approvals {
            if let Err(error) = self.note_epoch(approval) {
                tracing::error!(purpose = approval.purpose, %error, "its epoch is not remembered");
                self.epochs = None;
                self.learned = false;
            }
        }
    }

    fn note_epoch(&mut self, approval: &Approval) -> Result<(), SecretError> {
        let Some((tag, epoch)) = self.epochs()?.used(approval) else { return Ok(()) };
        tracing::info!(purpose = approval.purpose, epoch, "older epochs do not count any more");
        if self.store.machine()?.is_some() {
            let mut tpm = self.tpm()?;
            let owner = self.owner(&mut tpm)?;
            tpm.raise_epoch(tag, epoch, &owner)?;
            self.tpm = Some(tpm);
        }
        let epochs = self.epochs()?.clone();
        Ok(self.store.keep_epochs(&epochs)?)
    }
}
