//! The lock of a zone: it stands still, and the key of its disk is nowhere until its user brings what opens it.
//!
//! ```text
//!   Runs --lock--> Syncing --Synced, or too late--> Halting --Paused--> Closing --Closed--> Locked
//!                  the agent writes                 the VMM's           keeper and init     |
//!                  everything out                   processors stop     forget the key      | unlock
//!                                                                                           v
//!   Runs <--Resumed-- Resuming <------------------ Opened ------------------------------ Opening
//! ```
//!
//! A guest that begins anew meanwhile is not locked, and its user is told. A step that fails leaves the zone running, or
//! locked, never in between. A locked zone ends without being asked: it cannot run, and what it had written out is safe.

use std::time::{Duration, Instant};

use zone_protocol::vmm::Command;

use super::{Action, Lifecycle, Mode, PAUSE_PATIENCE, Refusal, Role, State};

/// How long an agent may write.
pub(crate) const SYNC_PATIENCE: Duration = Duration::from_secs(20);

/// How long `keeper` and `init` may take: a disk finishes what it works on.
const KEY_PATIENCE: Duration = Duration::from_secs(20);

impl Lifecycle {
    pub(super) fn lock(&mut self, now: Instant) -> Result<Vec<Action>, Refusal> {
        let State::Up { lost, mode, .. } = &mut self.state else {
            return Err(match self.state {
                State::Stopping { .. } => Refusal::Stopping,
                State::Stopped { .. } | State::Starting { .. } | State::Up { .. } | State::Failed { .. } => {
                    Refusal::NotRunning
                }
            });
        };
        match mode {
            // Nobody is there to write.
            Mode::Runs | Mode::Resuming { .. } if *lost => Ok(self.halt(now)),
            Mode::Runs | Mode::Resuming { .. } => {
                *mode = Mode::Syncing { deadline: now + SYNC_PATIENCE };
                Ok(vec![Action::SyncAgent])
            }
            Mode::Pausing { .. } => {
                *mode = Mode::Halting { deadline: now + PAUSE_PATIENCE };
                Ok(Vec::new())
            }
            Mode::Paused => Ok(self.close(now)),
            Mode::Syncing { .. } | Mode::Halting { .. } | Mode::Closing { .. } => Err(Refusal::Locked),
            Mode::Locked | Mode::Opening { .. } => Err(Refusal::Locked),
        }
    }

    /// The agent wrote everything out, or is gone.
    pub(super) fn synced(&mut self, now: Instant) -> Vec<Action> {
        match self.state {
            State::Up { mode: Mode::Syncing { .. }, .. } => self.halt(now),
            State::Up { .. }
            | State::Stopped { .. }
            | State::Starting { .. }
            | State::Stopping { .. }
            | State::Failed { .. } => Vec::new(),
        }
    }

    fn halt(&mut self, now: Instant) -> Vec<Action> {
        self.enter(Mode::Halting { deadline: now + PAUSE_PATIENCE });
        vec![Action::Tell(Command::Pause)]
    }

    /// The machine stands still.
    pub(super) fn close(&mut self, now: Instant) -> Vec<Action> {
        self.enter(Mode::Closing { deadline: now + KEY_PATIENCE });
        vec![Action::LockDisk]
    }

    /// The key is forgotten, or a fragment says why not.
    pub(super) fn closed(&mut self, refused: Option<String>, now: Instant) -> Vec<Action> {
        let State::Up { mode: Mode::Closing { .. }, .. } = self.state else { return Vec::new() };
        let Some(reason) = refused else {
            self.enter(Mode::Locked);
            return Vec::new();
        };
        self.enter(Mode::Resuming { deadline: now + PAUSE_PATIENCE });
        vec![Action::Tell(Command::Resume), not_locked(&reason)]
    }

    /// Its user brought what opens it.
    pub(super) fn unlock(&mut self, now: Instant) -> Vec<Action> {
        let State::Up { mode: Mode::Locked, .. } = self.state else { return Vec::new() };
        self.enter(Mode::Opening { deadline: now + KEY_PATIENCE });
        vec![Action::UnlockDisk]
    }

    /// The disk works again, or a fragment says why not.
    pub(super) fn unlocked(&mut self, refused: Option<&str>, now: Instant) -> Vec<Action> {
        let State::Up { mode: Mode::Opening { .. }, .. } = self.state else { return Vec::new() };
        match refused {
            None => {
                self.enter(Mode::Resuming { deadline: now + PAUSE_PATIENCE });
                vec![Action::Tell(Command::Resume)]
            }
            Some(reason) => self.stays_locked(reason),
        }
    }

    /// A step took too long.
    pub(super) fn lock_is_late(&mut self, mode: Mode, now: Instant) -> Vec<Action> {
        match mode {
            Mode::Syncing { .. } => {
                let seconds = SYNC_PATIENCE.as_secs();
                let text = format!(
                    "its agent did not write everything out within {seconds} seconds. It is locked all the same; what \
                     it had not saved is lost if it is not unlocked again."
                );
                self.halt(now).into_iter().chain([Action::Notice(Role::Vmm, text)]).collect()
            }
            Mode::Halting { .. } => {
                self.enter(Mode::Runs);
                let seconds = PAUSE_PATIENCE.as_secs();
                vec![not_locked(&format!("it did not stand still within {seconds} seconds"))]
            }
            // Whoever was asked may not have heard it; that it comes twice changes nothing.
            Mode::Closing { .. } => self.close(now),
            Mode::Opening { .. } => self.stays_locked("the host did not answer in time"),
            Mode::Runs | Mode::Pausing { .. } | Mode::Paused | Mode::Resuming { .. } | Mode::Locked => {
                Vec::new()
            }
        }
    }

    /// Its guest began anew.
    pub(super) fn lock_is_lost(&self) -> Option<Action> {
        let State::Up { mode: Mode::Syncing { .. } | Mode::Halting { .. }, .. } = self.state else {
            return None;
        };
        Some(not_locked("it began anew meanwhile"))
    }

    /// Whether its disk is to be locked now.
    pub(crate) fn waits_for_its_lock(&self) -> bool {
        matches!(self.state, State::Up { mode: Mode::Closing { .. }, .. })
    }

    fn stays_locked(&mut self, reason: &str) -> Vec<Action> {
        self.enter(Mode::Locked);
        vec![Action::Notice(Role::Vmm, format!("it stays locked: {reason}."))]
    }

    fn enter(&mut self, new: Mode) {
        if let State::Up { mode, .. } = &mut self.state {
            *mode = new;
        }
    }
}

fn not_locked(reason: &str) -> Action {
    Action::Notice(Role::Vmm, format!("it was not locked: {reason}."))
}
