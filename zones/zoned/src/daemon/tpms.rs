//! The zones' virtual TPMs: `keeper` begins them, the VMMs get their data channels.

use std::os::fd::AsFd;
use std::time::Instant;

use anyhow::Context;
use ipc::ReceiveError;
use zone_protocol::keeper::{FromKeeper, ToKeeper};
use zone_protocol::vmm::Command;

use super::Daemon;
use crate::lifecycle::Event;

impl Daemon {
    /// Asks `keeper` for a zone's TPM.
    ///
    /// # Errors
    /// It takes no question: what follows "the virtual TPM".
    pub(super) fn begin_tpm(&mut self, zone: usize) -> Result<(), String> {
        let Some((number, measured)) = self.run_mut(zone).map(|run| run.tpm) else { return Ok(()) };
        let Ok(slot) = u8::try_from(zone) else { return Ok(()) };
        let sent = self.keeper.send(&ToKeeper::Begin { slot, number, measured }, &[]);
        sent.map_err(|error| format!("has nobody who begins it: {error}"))
    }

    /// Takes an answer of `keeper`.
    pub(super) fn keeper_ready(&mut self, now: Instant) -> anyhow::Result<()> {
        let (answer, descriptors) = match self.keeper.receive::<FromKeeper>() {
            Ok(message) => message,
            Err(ReceiveError::WouldBlock) => return Ok(()),
            Err(ReceiveError::Malformed) => {
                tracing::warn!("malformed message from keeper");
                return Ok(());
            }
            Err(error) => return Err(error).context("receive from keeper (init keeps both ends open)"),
        };
        let (FromKeeper::Ready { slot, number } | FromKeeper::Failed { slot, number, .. }) = &answer;
        let zone = usize::from(*slot);
        // An answer for an earlier run is too late, and a machine that does not wait needs none.
        let awaited = self.run_mut(zone).is_some_and(|run| run.tpm.0 == *number)
            && self.zones.get(zone).is_some_and(|zone| zone.life.waits_for_tpm());
        if !awaited {
            tracing::info!(zone = self.zone_name(zone), "late answer about a TPM");
            return Ok(());
        }
        match (answer, descriptors.first()) {
            (FromKeeper::Ready { .. }, Some(data)) => {
                self.tell_vmm(zone, &Command::Tpm, &[data.as_fd()]);
                Ok(())
            }
            (FromKeeper::Ready { .. }, None) => {
                self.event(zone, Event::TpmFailed("came without its data channel".to_owned()), now)
            }
            (FromKeeper::Failed { reason, .. }, _) => self.event(zone, Event::TpmFailed(reason), now),
        }
    }
}
