//! The display's lock. Zones run on behind it; nobody opens, ends or changes anything before it is lifted.
//!
//! Where the policy asks for a PIN the display is locked from boot on, and whenever `zoned` starts: a lock that is
//! forgotten is none. The machine's TPM compares the PIN and counts wrong ones, as for a zone. `desktop` draws the lock and
//! keeps input away; what it would ask for all the same is refused here.

use std::time::Instant;

use control_api::Pin;
use control_api::wire::{Method, Reply};
use policy::{Login, Policy};
use zone_protocol::keeper::{PinState, Purpose, SCREEN};

use super::Daemon;
use super::calls::refused;
use super::openings::{Brought, Wanted, digits, login};
use crate::server::ClientId;

/// Stands for the display's lock where a zone has its slot.
pub(super) const SCREEN_SLOT: u8 = u8::MAX;

/// The lock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Screen {
    locked: bool,
    /// What `keeper` said of its PIN.
    pub(super) pin: Option<PinState>,
}

impl Screen {
    /// At the start.
    pub(super) fn new(policy: Option<&Policy>) -> Self {
        let locked = policy.is_some_and(|policy| policy.screen != Login::Touch);
        Self { locked, pin: None }
    }

    /// What is shown of it.
    pub(super) fn show(self, policy: Option<&Policy>) -> control_api::Screen {
        let wanted = policy.map_or(Login::Touch, |policy| policy.screen);
        control_api::Screen { locked: self.locked, login: login(wanted, self.pin) }
    }
}

impl Daemon {
    /// Whether a call has to wait for the lock to be lifted.
    pub(super) fn is_behind_lock(&self, method: &Method) -> bool {
        self.screen.locked
            && match method {
                Method::Start(_)
                | Method::Open { .. }
                | Method::Recover { .. }
                | Method::ChangePin { .. }
                | Method::ChangeScreenPin { .. }
                | Method::NewRecoveryKey
                | Method::NoteRecoveryKey(_)
                | Method::Stop(_)
                | Method::Kill(_)
                | Method::Restart(_)
                | Method::Pause(_)
                | Method::Resume(_) => true,
                Method::Status
                | Method::Monitor
                | Method::Lock(_)
                | Method::LockScreen
                | Method::UnlockScreen(_)
                | Method::RecoverScreen { .. }
                | Method::RunCheck { .. }
                | Method::Audit { .. }
                | Method::PowerOff
                | Method::GetInfo
                | Method::GetInterfaceDescription(_) => false,
            }
    }

    /// Locks the display.
    pub(super) fn lock_screen(&mut self) -> Reply {
        if !std::mem::replace(&mut self.screen.locked, true) {
            self.audit.record(None, &audit::Event::ScreenLocked);
        }
        Reply::Done
    }

    /// Lifts the lock, with a PIN or the recovery key; `None`: the answer comes later.
    pub(super) fn unlock_screen(
        &mut self,
        from: (ClientId, &'static str),
        brought: Brought,
        now: Instant,
    ) -> Option<Reply> {
        if !self.screen.locked {
            return Some(Reply::Done);
        }
        let wanted = self.policy().map_or(Login::Touch, |policy| policy.screen);
        // One that the policy does not ask for any more is needed once.
        let asks = wanted != Login::Touch || self.screen.pin.is_some_and(|pin| pin.chosen);
        if !asks {
            return Some(self.screen_opened());
        }
        let place = (usize::from(SCREEN_SLOT), SCREEN);
        self.ask_to_open(from, place, wanted, brought, (Wanted::UnlockScreen, Purpose::Proof), now)
    }

    /// Gives it another PIN; `None`: the answer comes later.
    pub(super) fn change_screen_pin(
        &mut self,
        from: (ClientId, &'static str),
        [pin, new]: [Pin; 2],
        now: Instant,
    ) -> Option<Reply> {
        let wanted = self.policy().map_or(Login::Touch, |policy| policy.screen);
        if wanted == Login::Touch || !self.screen.pin.is_some_and(|pin| pin.chosen) {
            return Some(refused("The display's lock has no PIN that could be changed.".to_owned()));
        }
        let brought = Brought { pin: Some(pin), recovery: None };
        let place = (usize::from(SCREEN_SLOT), SCREEN);
        self.ask_to_open(from, place, wanted, brought, (Wanted::NewPin, Purpose::NewPin(digits(&new))), now)
    }

    /// Its user may.
    pub(super) fn screen_opened(&mut self) -> Reply {
        self.screen.locked = false;
        self.audit.record(None, &audit::Event::ScreenUnlocked);
        Reply::Done
    }
}
