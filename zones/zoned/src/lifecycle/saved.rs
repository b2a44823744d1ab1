//! What of a zone's life outlives its `zoned`.
//!
//! Times do not: every wait that was under way begins anew, and earlier deaths and resets count as if they were
//! just now. It never restores a zone that has no process.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::{After, HungUp, Lifecycle, Mode, PAUSE_PATIENCE, Restarts, START_PATIENCE, State, Step, Vpnd};

/// The wire form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedLife {
    phase: SavedPhase,
    vpnd: SavedVpnd,
    vpnd_deaths: u8,
    booted: bool,
    resets: u8,
    tpm_wanted: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum SavedPhase {
    Starting,
    Up { agent: String, mode: SavedMode },
    Stopping { step: SavedStep, after: SavedAfter },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum SavedMode {
    Runs,
    Pausing,
    Paused,
    Resuming,
    Syncing,
    Halting,
    Closing,
    Locked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum SavedStep {
    Asked,
    Told,
    Killed,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum SavedAfter {
    Stopped(Option<String>),
    Failed(String),
    Restart,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum SavedVpnd {
    Off,
    Lives(Option<String>),
    Waits(String),
    GivenUp(String),
}

impl Lifecycle {
    /// What the next `zoned` needs; `None` when the zone has no process.
    pub(crate) fn save(&self) -> Option<SavedLife> {
        let phase = match &self.state {
            State::Stopped { .. } | State::Failed { .. } => return None,
            State::Starting { .. } => SavedPhase::Starting,
            State::Up { agent, lost: _, mode } => {
                let mode = match mode {
                    Mode::Runs => SavedMode::Runs,
                    Mode::Pausing { .. } => SavedMode::Pausing,
                    Mode::Paused => SavedMode::Paused,
                    Mode::Resuming { .. } => SavedMode::Resuming,
                    Mode::Syncing { .. } => SavedMode::Syncing,
                    Mode::Halting { .. } => SavedMode::Halting,
                    Mode::Closing { .. } => SavedMode::Closing,
                    // The user opens it once more: who was asked answers somebody who is gone.
                    Mode::Locked | Mode::Opening { .. } => SavedMode::Locked,
                };
                SavedPhase::Up { agent: agent.clone(), mode }
            }
            State::Stopping { step, after, .. } => {
                let step = match step {
                    Step::Asked => SavedStep::Asked,
                    Step::Told => SavedStep::Told,
                    Step::Killed => SavedStep::Killed,
                };
                let after = match after.clone() {
                    After::Stopped(reason) => SavedAfter::Stopped(reason),
                    After::Failed(reason) => SavedAfter::Failed(reason),
                    After::Restart => SavedAfter::Restart,
                };
                SavedPhase::Stopping { step, after }
            }
        };
        let vpnd = match self.vpnd.clone() {
            Vpnd::Off => SavedVpnd::Off,
            Vpnd::Lives { died, .. } => SavedVpnd::Lives(died),
            Vpnd::Waits { died, .. } => SavedVpnd::Waits(died),
            Vpnd::GivenUp { died } => SavedVpnd::GivenUp(died),
        };
        Some(SavedLife {
            phase,
            vpnd,
            vpnd_deaths: u8::try_from(self.vpnd_deaths.count()).unwrap_or(u8::MAX),
            booted: self.booted,
            resets: self.resets,
            tpm_wanted: self.tpm_wanted,
        })
    }

    /// Goes on where an earlier `zoned` was; the processes that it had are counted as alive, and the shell
    /// tells of each that is not.
    pub(crate) fn restore(saved: SavedLife, has_vpnd: bool, now: Instant) -> Self {
        let mut life = Self::new(has_vpnd, now);
        (life.vmm, life.tpm, life.tpm_wanted) = (true, true, saved.tpm_wanted);
        life.booted = saved.booted;
        life.vpnd_deaths = Restarts::after(usize::from(saved.vpnd_deaths), std::time::Duration::ZERO);
        life.resets = saved.resets.min(super::MAX_RESETS);
        life.vpnd = match saved.vpnd {
            SavedVpnd::Off => Vpnd::Off,
            SavedVpnd::Lives(died) => Vpnd::Lives { died, hung_up: HungUp::No },
            SavedVpnd::Waits(died) => Vpnd::Waits { at: now, died },
            SavedVpnd::GivenUp(died) => Vpnd::GivenUp { died },
        };
        life.state = match saved.phase {
            SavedPhase::Starting => State::Starting { deadline: now + START_PATIENCE },
            SavedPhase::Up { agent, mode } => {
                let deadline = now + PAUSE_PATIENCE;
                let mode = match mode {
                    SavedMode::Runs => Mode::Runs,
                    SavedMode::Pausing => Mode::Pausing { deadline },
                    SavedMode::Paused => Mode::Paused,
                    SavedMode::Resuming => Mode::Resuming { deadline },
                    SavedMode::Syncing => Mode::Syncing { deadline },
                    SavedMode::Halting => Mode::Halting { deadline },
                    SavedMode::Closing => Mode::Closing { deadline },
                    SavedMode::Locked => Mode::Locked,
                };
                // Its connection went with the earlier `zoned`; it connects again.
                State::Up { agent, lost: true, mode }
            }
            SavedPhase::Stopping { step, after } => {
                let step = match step {
                    SavedStep::Asked => Step::Asked,
                    SavedStep::Told => Step::Told,
                    SavedStep::Killed => Step::Killed,
                };
                let after = match after {
                    SavedAfter::Stopped(reason) => After::Stopped(reason),
                    SavedAfter::Failed(reason) => After::Failed(reason),
                    SavedAfter::Restart => After::Restart,
                };
                State::Stopping { deadline: now + step.patience(), step, after }
            }
        };
        life
    }
}
