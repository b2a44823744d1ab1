//! The display's lock: while it is on, nothing of the picker is drawn or reacts, and nothing is asked for but to lift it.
//!
//! ```text
//!             touch on the panel's button, or `zoned` says so
//!  unlocked -------------------------------------------------> locked --> PIN pad (or nothing) --> unlocking
//!     ^                                                          ^                                     |
//!     |                                                          +----------- refused -----------------+
//!     +----------------------- `zoned` says so ----------------------------------------------------- --+
//! ```
//!
//! It fails closed: the display is locked until the first status says otherwise, a lost or silent link leaves it as it
//! is, and after a touch on the button it is locked here at once. That holds until `zoned` has locked it: a request that
//! was lost with its connection is made again on the next one ([`Picker::follow_up`]).

use super::{Action, BEAT, Link, Millis, OPENING, PATIENCE, Picker, Target, Touch};
use crate::geometry::Rect;
use crate::pad::{Cause, Digits, NotOpened, Pad, Subject};
use crate::status::{Login, PinLogin, Screen};
use crate::text;
use crate::view::{Level, LockView};

/// Whether the user wants it locked and `zoned` has not said that it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Wanted {
    #[default]
    No,
    /// It is still to be asked for.
    Unsent,
    /// It was asked for on this connection.
    Sent,
}

/// What is known of the lock beyond the status.
#[derive(Clone, Debug, Default)]
pub(super) struct Lock {
    wanted: Wanted,
    /// It is being unlocked without a PIN, or the answer was yes; forgotten then.
    unlocking: Option<Millis>,
}

impl Lock {
    /// The link to `zoned` is in another state.
    pub(super) fn set_link(&mut self, link: Link) {
        if link != Link::Up {
            self.unlocking = None;
        }
        if matches!(link, Link::Lost | Link::Connecting) && self.wanted == Wanted::Sent {
            self.wanted = Wanted::Unsent;
        }
    }

    /// What `zoned` says.
    pub(super) fn told(&mut self, screen: Screen) {
        if screen.locked {
            self.wanted = Wanted::No;
        } else {
            self.unlocking = None;
        }
    }

    /// When it next looks different by itself.
    pub(super) fn deadline(&self, now: Millis) -> Option<Millis> {
        self.unlocking.filter(|until| now < *until).map(|until| ((now / BEAT + 1) * BEAT).min(until))
    }
}

impl Picker {
    /// The display is locked: by `zoned`, by a touch on the button, or because nothing is known yet.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.lock.wanted != Wanted::No || self.status.as_ref().is_none_or(|status| status.screen.locked)
    }

    /// What is to be asked for without a touch: a lock that did not reach `zoned`.
    pub fn follow_up(&mut self) -> Option<Action> {
        if self.link != Link::Up || self.lock.wanted != Wanted::Unsent {
            return None;
        }
        self.lock.wanted = Wanted::Sent;
        Some(Action::LockScreen)
    }

    /// The display's lock was lifted: the next status says it.
    pub fn unlocked(&mut self, now: Millis) {
        // Nobody who has lifted the lock waits for it.
        let was_wanted = std::mem::take(&mut self.lock.wanted) != Wanted::No;
        if self.front.take_if(|front| front.is_busy() && *front.subject() == Subject::Screen).is_some() {
            self.press = None;
        }
        if self.is_locked() {
            self.lock.unlocking = Some(now.saturating_add(PATIENCE));
        } else if was_wanted {
            self.clear_front();
        }
    }

    /// The display's lock was not lifted, or its PIN not changed.
    pub fn not_unlocked(&mut self, now: Millis, why: &NotOpened) {
        self.lock.unlocking = None;
        let is_locked = self.is_locked();
        match &mut self.front {
            Some(front) if front.is_busy() && *front.subject() == Subject::Screen => {
                front.not_opened(now, why);
            }
            None if is_locked => {
                self.front = Some(Pad::screen_card(now, self.screen_login(), why));
                self.press = None;
            }
            Some(_) | None => self.notice("display", &why.reason),
        }
    }

    /// A request about the display's lock, but that to lock it, was refused or got no answer.
    pub fn screen_failed(&mut self, now: Millis, why: &str) {
        let why =
            NotOpened { zone: String::new(), cause: Cause::Other, reason: why.to_owned(), tries_left: None };
        self.not_unlocked(now, &why);
    }

    /// `zoned` does not lock the display.
    pub fn lock_refused(&mut self, why: &str) {
        self.lock.wanted = Wanted::No;
        self.notice("display", why);
    }

    /// The display has another PIN.
    pub fn screen_pin_changed(&mut self, now: Millis) {
        let is_it = |front: &&mut Pad| front.is_changing() && *front.subject() == Subject::Screen;
        if let Some(front) = self.front.as_mut().filter(is_it) {
            front.changed(now);
        }
    }

    pub(super) fn lock_screen(&mut self) -> Option<Action> {
        self.lock = Lock { wanted: Wanted::Unsent, unlocking: None };
        self.clear_front();
        self.follow_up()
    }

    /// Whether the panel offers to change the display's PIN.
    pub(super) fn offers_screen_pin(&self) -> bool {
        let has_one = |pin: PinLogin| pin.chosen && pin.tries_left != Some(0);
        self.link == Link::Up && matches!(self.screen_login(), Login::Pin(pin) if has_one(pin))
    }

    pub(super) fn change_screen_pin(&mut self, now: Millis, touch: Touch) {
        if let Login::Pin(pin) = self.screen_login()
            && self.link == Link::Up
        {
            self.question = None;
            self.front = Some(Pad::change_screen(now, pin, touch.at, touch.seed));
        }
    }

    /// The whole display, where a touch unlocks it.
    pub(super) fn unlock_targets(&self) -> Vec<(Rect, Target)> {
        let can = self.link == Link::Up && self.status.is_some() && self.lock.unlocking.is_none();
        can.then_some((self.layout.display.rect(), Target::Unlock)).into_iter().collect()
    }

    pub(super) fn touch_unlock(&mut self, now: Millis, touch: Touch) -> Option<Action> {
        if self.link != Link::Up || self.lock.unlocking.is_some() {
            return None;
        }
        match self.screen_login() {
            Login::Pin(pin) => {
                self.front = Some(Pad::unlock(now, pin, touch.at, touch.seed));
                None
            }
            Login::Touch => {
                self.lock.unlocking = Some(now.saturating_add(OPENING));
                Some(Action::UnlockScreen { pin: Digits::default() })
            }
        }
    }

    /// Forgets an unlocking that came to nothing.
    pub(super) fn tick_lock(&mut self, now: Millis) {
        self.lock.unlocking.take_if(|until| now >= *until);
    }

    pub(super) fn lock_view(&self, now: Millis) -> LockView {
        let login = self.screen_login();
        let locked_out = matches!(login, Login::Pin(PinLogin { tries_left: Some(0), .. }));
        let (message, level) = match (self.link, &self.status) {
            (Link::Connecting, _) => {
                ("Connecting to zoned: it alone can unlock the display.", Level::Attention)
            }
            (Link::Lost, _) => {
                ("zoned is gone, reconnecting: the display stays locked until it answers.", Level::Bad)
            }
            (Link::Silent, _) => {
                ("zoned does not answer: the display stays locked until it does.", Level::Bad)
            }
            (Link::Up, None) => ("Waiting for zoned: it says how things are.", Level::Attention),
            (Link::Up, Some(_)) if locked_out => ("Too many wrong PINs were typed.", Level::Bad),
            (Link::Up, Some(_)) => ("", Level::Quiet),
        };
        let hint = match login {
            _ if self.unlock_targets().is_empty() => "",
            _ if locked_out => "Touch to see what to do",
            Login::Touch => "Touch to unlock",
            Login::Pin(PinLogin { chosen: true, .. }) => "Touch to type the PIN",
            Login::Pin(_) => "Touch to choose a PIN",
        };
        LockView {
            clock: text::clock(self.unix_seconds),
            headline: if self.lock.unlocking.is_some() { "Unlocking ..." } else { "Locked" }.to_owned(),
            message: message.to_owned(),
            level,
            hint: hint.to_owned(),
            busy: self.lock.unlocking.map(|_| u8::try_from(now / BEAT % 3).unwrap_or_default()),
            pressed: self.is_pressed(Target::Unlock),
        }
    }

    fn screen_login(&self) -> Login {
        self.status.as_ref().map(|status| status.screen.login).unwrap_or_default()
    }
}
