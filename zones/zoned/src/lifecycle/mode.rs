//! Whether the processors of a zone that is up run, and what the VMM says of that.

use std::time::Instant;

use super::{Action, Lifecycle, State};

/// Whether a zone's processors run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Runs,
    Pausing {
        deadline: Instant,
    },
    Paused,
    Resuming {
        deadline: Instant,
    },
    /// The agent writes everything out.
    Syncing {
        deadline: Instant,
    },
    /// The processors are to stand still, for the lock.
    Halting {
        deadline: Instant,
    },
    /// The key of the disk is to be forgotten.
    Closing {
        deadline: Instant,
    },
    Locked,
    /// The disk is to have its key again.
    Opening {
        deadline: Instant,
    },
}

impl Mode {
    /// When it took too long.
    pub(super) fn deadline(self) -> Option<Instant> {
        match self {
            Self::Runs | Self::Paused | Self::Locked => None,
            Self::Pausing { deadline }
            | Self::Resuming { deadline }
            | Self::Syncing { deadline }
            | Self::Halting { deadline }
            | Self::Closing { deadline }
            | Self::Opening { deadline } => Some(deadline),
        }
    }
}

impl Lifecycle {
    /// They stand still.
    pub(super) fn paused(&mut self, now: Instant) -> Vec<Action> {
        if let State::Up { mode: Mode::Halting { .. }, .. } = self.state {
            return self.close(now);
        }
        // In `Resuming` it answers an order that was taken back; in `Runs` it comes late, but it is so.
        if let State::Up { mode: mode @ (Mode::Pausing { .. } | Mode::Runs), .. } = &mut self.state {
            *mode = Mode::Paused;
        }
        Vec::new()
    }

    /// They run again.
    pub(super) fn resumed(&mut self) -> Vec<Action> {
        if let State::Up { mode: mode @ (Mode::Resuming { .. } | Mode::Paused), .. } = &mut self.state {
            *mode = Mode::Runs;
        }
        Vec::new()
    }
}
