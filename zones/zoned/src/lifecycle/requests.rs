//! What a user may ask of a zone, in each state.

use std::time::Instant;

use zone_protocol::vmm::Command;

use super::{Action, After, Lifecycle, Mode, PAUSE_PATIENCE, Refusal, State, Step};

impl Lifecycle {
    pub(super) fn start(&mut self, now: Instant) -> Result<Vec<Action>, Refusal> {
        match self.state {
            State::Stopped { .. } | State::Failed { .. } => Ok(self.launch(now)),
            State::Starting { .. } => Err(Refusal::Starting),
            State::Up { mode: Mode::Runs | Mode::Resuming { .. }, .. } => Err(Refusal::Running),
            State::Up { mode: Mode::Pausing { .. } | Mode::Paused, .. } => Err(Refusal::Paused),
            State::Up { .. } => Err(Refusal::Locked),
            State::Stopping { .. } => Err(Refusal::Stopping),
        }
    }

    pub(super) fn stop(&mut self, now: Instant) -> Result<Vec<Action>, Refusal> {
        match &mut self.state {
            State::Stopped { .. } | State::Failed { .. } => Err(Refusal::NotRunning),
            State::Starting { .. } | State::Up { .. } => Ok(self.ask_to_end(After::Stopped(None), now)),
            State::Stopping { after, .. } => {
                if *after == After::Restart {
                    *after = After::Stopped(None);
                }
                Ok(Vec::new())
            }
        }
    }

    pub(super) fn restart(&mut self, now: Instant) -> Vec<Action> {
        match &mut self.state {
            State::Stopped { .. } | State::Failed { .. } => self.launch(now),
            State::Starting { .. } | State::Up { .. } => self.ask_to_end(After::Restart, now),
            State::Stopping { after, .. } => {
                *after = After::Restart;
                Vec::new()
            }
        }
    }

    /// Begins an end in order.
    pub(super) fn ask_to_end(&mut self, after: After, now: Instant) -> Vec<Action> {
        let State::Up { mode, .. } = self.state else {
            // Nobody is there yet who could be asked, and nothing that could be lost.
            return self.wind_down(after, now);
        };
        let actions = match mode {
            Mode::Runs | Mode::Syncing { .. } => vec![Action::AskAgent],
            // A guest that stands still cannot answer.
            Mode::Pausing { .. } | Mode::Paused | Mode::Resuming { .. } | Mode::Halting { .. } => {
                vec![Action::Tell(Command::Resume), Action::AskAgent]
            }
            // It cannot go on without its disk. What it had written out is safe.
            Mode::Closing { .. } | Mode::Locked | Mode::Opening { .. } => return self.wind_down(after, now),
        };
        self.stopping(Step::Asked, after, now);
        actions
    }

    pub(super) fn kill(&mut self, now: Instant) -> Result<Vec<Action>, Refusal> {
        match &self.state {
            State::Stopped { .. } | State::Failed { .. } => Err(Refusal::NotRunning),
            State::Starting { .. } | State::Up { .. } => Ok(self.wind_down(After::Stopped(None), now)),
            State::Stopping { after, .. } => {
                let after = if *after == After::Restart { After::Stopped(None) } else { after.clone() };
                self.stopping(Step::Killed, after, now);
                Ok(self.kills())
            }
        }
    }

    pub(super) fn pause(&mut self, now: Instant) -> Result<Vec<Action>, Refusal> {
        let deadline = now + PAUSE_PATIENCE;
        match &mut self.state {
            State::Up { mode: mode @ (Mode::Runs | Mode::Resuming { .. }), .. } => {
                *mode = Mode::Pausing { deadline };
                Ok(vec![Action::Tell(Command::Pause)])
            }
            State::Up { mode: Mode::Pausing { .. } | Mode::Paused, .. } => Err(Refusal::Paused),
            State::Up { .. } => Err(Refusal::Locked),
            State::Stopping { .. } => Err(Refusal::Stopping),
            State::Stopped { .. } | State::Starting { .. } | State::Failed { .. } => Err(Refusal::NotRunning),
        }
    }

    pub(super) fn resume(&mut self, now: Instant) -> Result<Vec<Action>, Refusal> {
        let deadline = now + PAUSE_PATIENCE;
        match &mut self.state {
            State::Up { mode: mode @ (Mode::Paused | Mode::Pausing { .. }), .. } => {
                *mode = Mode::Resuming { deadline };
                Ok(vec![Action::Tell(Command::Resume)])
            }
            State::Up { mode: Mode::Runs | Mode::Resuming { .. }, .. } => Err(Refusal::Running),
            State::Up { .. } => Err(Refusal::Locked),
            State::Stopping { .. } => Err(Refusal::Stopping),
            State::Stopped { .. } | State::Starting { .. } | State::Failed { .. } => Err(Refusal::NotRunning),
        }
    }
}
