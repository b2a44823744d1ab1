//! The virtual TPM in a zone's life: its process lives as long as the zone's machine does, and each time that the
//! machine is about to run its first instruction the TPM begins anew.
//!
//! A zone never runs without it, nor with one that holds something else: whatever goes wrong here ends the zone.

use std::time::Instant;

use init_protocol::ExitCause;
use zone_protocol::vmm::Command;

use super::{Action, After, KILL_PATIENCE, Lifecycle, START_PATIENCE, State, Step, died};

impl Lifecycle {
    /// The machine is loaded and waits.
    pub(super) fn tpm_wanted(&mut self, now: Instant) -> Vec<Action> {
        match &mut self.state {
            State::Starting { .. } | State::Up { .. } => {
                self.tpm_wanted = true;
                let lost = self.lock_is_lost();
                self.state = State::Starting { deadline: now + START_PATIENCE };
                // Behind the first start its guest is another one from here on.
                let dropped = self.booted.then_some(Action::DropAgent);
                dropped.into_iter().chain(lost).chain([Action::BeginTpm]).collect()
            }
            // It ended in order, and would only begin anew.
            State::Stopping { deadline, step, .. } if *step == Step::Asked => {
                *step = Step::Told;
                *deadline = now + KILL_PATIENCE;
                vec![Action::Tell(Command::Kill)]
            }
            State::Stopping { .. } | State::Stopped { .. } | State::Failed { .. } => Vec::new(),
        }
    }

    /// Whether the machine waits for it.
    pub(crate) fn waits_for_tpm(&self) -> bool {
        self.is_on() && self.tpm_wanted
    }

    /// Whether its guest ran already: the machine has all its disks.
    pub(crate) fn has_booted(&self) -> bool {
        self.booted
    }

    /// It cannot be begun: follows "the virtual TPM".
    pub(super) fn tpm_failed(&mut self, reason: &str, now: Instant) -> Vec<Action> {
        self.wind_down(After::Failed(format!("The zone's virtual TPM {reason}.")), now)
    }

    pub(super) fn tpm_exited(&mut self, cause: ExitCause, now: Instant) -> Vec<Action> {
        self.tpm = false;
        match self.state {
            // It goes with the others.
            State::Stopping { step: Step::Killed, .. } => self.after_exit(now),
            State::Starting { .. }
            | State::Up { .. }
            | State::Stopping { .. }
            | State::Stopped { .. }
            | State::Failed { .. } => self.tpm_failed(&died(cause), now),
        }
    }
}
