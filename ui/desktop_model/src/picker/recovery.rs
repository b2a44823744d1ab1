//! The machine's recovery key in the picker: the line that offers to make one, and what comes of it.

use super::{Action, Link, Millis, Picker, Touch};
use crate::pad::making::{Making, MakingStep};
use crate::pad::{RecoveryKey, Target};
use crate::status::Recovery;

impl Picker {
    /// A recovery key was made; `None`: what came is none.
    pub fn key_made(&mut self, now: Millis, key: Option<RecoveryKey>) {
        if let Some(making) = &mut self.making {
            making.made(now, key);
            self.press = None;
        }
    }

    /// The recovery key was noted.
    pub fn key_noted(&mut self, now: Millis) {
        if let Some(making) = &mut self.making {
            making.noted(now);
            self.press = None;
        }
    }

    /// The recovery key was not made, or not noted.
    pub fn key_failed(&mut self, now: Millis, why: &str) {
        if let Some(making) = &mut self.making {
            making.failed(now, why);
            self.press = None;
        }
    }

    /// Whether the bar offers to make a key, where nothing else is to be said.
    pub(super) fn offers_key(&self) -> bool {
        let noted = self.status.as_ref().is_none_or(|status| status.recovery == Recovery::Noted);
        !noted && self.link == Link::Up && self.shown_notice().is_none()
    }

    pub(super) fn offer_key(&mut self, now: Millis) {
        self.question = None;
        self.making = Some(Making::new(now));
    }

    pub(super) fn touch_making(&mut self, now: Millis, target: Target, touch: Touch) -> Option<Action> {
        match self.making.as_mut()?.touch(now, target, touch.seed) {
            MakingStep::Stay => None,
            MakingStep::Close => {
                self.making = None;
                None
            }
            MakingStep::Make => Some(Action::NewRecoveryKey),
            MakingStep::Note(key) => Some(Action::NoteRecoveryKey { key }),
        }
    }
}
