//! The way to another PIN: the old one, the new one, the new one again.
//!
//! ```text
//!  Enter -> Old -> Choose -> Again -> Busy -> Changed
//!            ^                         |
//!            +------ (wrong PIN) ------+-> Card (any other cause)
//! ```

use super::{Asked, Digits, Pad, Remark, Shield, Stage, Step, Subject};
use crate::geometry::Point;
use crate::picker::Millis;
use crate::status::PinLogin;

impl Pad {
    /// Asks for another PIN of the display's lock, from a button at `at`.
    pub(crate) fn change_screen(now: Millis, pin: PinLogin, at: Point, seed: u64) -> Self {
        let mut pad = Self::unlock(now, pin, at, seed);
        pad.begin_change(now);
        pad.shield = Shield::At(at);
        pad
    }

    /// Whether there is a PIN to be changed, and nothing else is under way.
    pub(super) fn offers_change(&self) -> bool {
        // Behind a locked display nothing is changed: it is unlocked first.
        matches!(self.subject, Subject::Zone(_)) && self.stage == Stage::Enter
    }

    pub(super) fn begin_change(&mut self, now: Millis) {
        if self.stage != Stage::Enter {
            return;
        }
        self.typed.clear();
        self.remark = Remark::Nothing;
        self.stage = Stage::Old;
        self.since = now;
        // A double touch on the button types nothing.
        self.shield = Shield::Everything;
    }

    /// Sends both.
    pub(super) fn changes(&mut self, new: Digits) -> Step {
        let Some(old) = self.old.take() else { return Step::Stay };
        self.stage = Stage::Busy(Asked::Change);
        Step::Change(old, new)
    }

    /// Whether it waits for the answer to a change.
    pub(crate) fn is_changing(&self) -> bool {
        self.stage == Stage::Busy(Asked::Change)
    }

    /// The new PIN was taken.
    pub(crate) fn changed(&mut self, now: Millis) {
        self.stage = Stage::Changed;
        self.since = now;
        self.shield = Shield::Everything;
    }
}
