//! What stands in front of the picker: a zone's PIN pad, or the card that says why it was not opened.

use super::{Action, Link, Millis, PATIENCE, Pending, Picker, Target, Touch, can_open};
use crate::geometry::Point;
use crate::pad::{self, Cause, NotOpened, Pad, PadLayout, Shield, Step, Subject};
use crate::status::{Phase, Zone};
use crate::view::FrontView;

impl Picker {
    /// Where the pad's keys and the card's words are.
    #[must_use]
    pub fn pad_layout(&self) -> PadLayout {
        PadLayout::new(self.layout.display, self.layout.scale)
    }

    /// A zone was opened, and starts.
    pub fn opened(&mut self, now: Millis, zone: &str) {
        let until = now.saturating_add(PATIENCE);
        if let Some(pending) = self.pending.get_mut(zone) {
            // What was to take its time has been done.
            pending.until = pending.until.min(until);
        }
        if self.front.take_if(|front| front.is_busy() && front.is_for(zone)).is_none() {
            return;
        }
        let was = self.zone_named(zone).map(|zone| zone.phase);
        if let Some(was) = was.filter(|phase| can_open(*phase)) {
            let words = if was == Phase::Locked { "Unlocking" } else { "Starting" };
            self.pending.insert(zone.to_owned(), Pending { was, words, until });
        }
    }

    /// A zone was not opened. Its user is told on the whole display, unless another zone's pad or card is there.
    pub fn not_opened(&mut self, now: Millis, why: &NotOpened) {
        self.pending.remove(&why.zone);
        let covered = self.making.is_some() || self.is_locked();
        match &mut self.front {
            Some(front) if front.is_busy() && front.is_for(&why.zone) => front.not_opened(now, why),
            Some(_) => self.notice(&why.zone, &why.reason),
            None if covered => self.notice(&why.zone, &why.reason),
            None => {
                let Some(zone) = self.zone_named(&why.zone) else {
                    return self.notice(&why.zone, &why.reason);
                };
                self.front = Some(Pad::card(now, zone, why));
                self.key_page = None;
                // Whatever finger is down was put on something else.
                self.press = None;
                self.question = None;
            }
        }
    }

    /// A zone has another PIN.
    pub fn pin_changed(&mut self, now: Millis, zone: &str) {
        if let Some(front) = self.front.as_mut().filter(|front| front.is_changing() && front.is_for(zone)) {
            front.changed(now);
        }
    }

    /// Nothing stands in front any more, and no finger has begun anything.
    pub(super) fn clear_front(&mut self) {
        self.front = None;
        self.making = None;
        self.key_page = None;
        self.question = None;
        self.press = None;
    }

    pub(super) fn front_view(&self, now: Millis) -> Option<FrontView> {
        let pressed = self
            .press
            .as_ref()
            .filter(|press| press.inside)
            .and_then(|press| if let Target::Front(target) = press.target { Some(target) } else { None });
        if let Some(making) = &self.making {
            let online = self.link == Link::Up;
            return Some(making.view(now, &self.pad_layout(), self.layout.scale, pressed, online));
        }
        if let Some(page) = &self.key_page {
            return self.tunnel_key_view(page, pressed);
        }
        if self.is_locked() && self.front.is_none() {
            return Some(FrontView::Lock(self.lock_view(now)));
        }
        let front = self.front.as_ref()?;
        Some(front.view(now, &self.pad_layout(), pressed, self.link == Link::Up))
    }

    /// A finger came down while another one is on a digit: who types fast lifts the first after the second.
    pub(super) fn front_down(&mut self, now: Millis, at: Point) {
        match (&mut self.making, &mut self.front) {
            (Some(making), _) => making.touched(now),
            (None, Some(front)) => front.touched(now),
            (None, None) => return,
        }
        let is_place = |target: Target| matches!(target, Target::Front(pad::Target::Place(_)));
        if self.target_at(at).is_some_and(is_place)
            && let Some(first) = self.press.take_if(|press| press.inside && is_place(press.target))
            && let Target::Front(target) = first.target
        {
            // A digit asks for nothing.
            let _ = self.touch_front(now, target, Touch { at, seed: 0 });
        }
    }

    /// Whether a touch that begins here and now may have been meant for what was there before.
    pub(super) fn is_shielded(&self, now: Millis, at: Point) -> bool {
        if let Some(making) = &self.making {
            return making.is_shielded(now);
        }
        if let Some(page) = &self.key_page {
            return page.is_shielded(now);
        }
        match self.front.as_ref().map(|front| front.shield(now)) {
            None | Some(Shield::Nothing) => false,
            Some(Shield::At(place)) => self.target_at(place) == self.target_at(at),
            Some(Shield::Everything) => true,
        }
    }

    pub(super) fn touch_front(&mut self, now: Millis, target: pad::Target, touch: Touch) -> Option<Action> {
        if self.making.is_some() {
            return self.touch_making(now, target, touch);
        }
        if self.key_page.take().is_some() {
            return None;
        }
        match self.front.as_mut()?.touch(now, target) {
            Step::Stay => None,
            Step::Close => {
                self.front = None;
                None
            }
            Step::Open(pin) => Some(match self.front.as_ref()?.subject().clone() {
                Subject::Zone(zone) => Action::Open { zone, pin },
                Subject::Screen => Action::UnlockScreen { pin },
            }),
            Step::Recover(key, pin) => Some(match self.front.as_ref()?.subject().clone() {
                Subject::Zone(zone) => Action::Recover { zone, key, pin },
                Subject::Screen => Action::RecoverScreen { key, pin },
            }),
            Step::Change(pin, new) => Some(match self.front.as_ref()?.subject().clone() {
                Subject::Zone(zone) => Action::ChangePin { zone, pin, new },
                Subject::Screen => Action::ChangeScreenPin { pin, new },
            }),
            Step::AskKey => {
                let front = self.front.take()?;
                let asks = match front.subject() {
                    Subject::Zone(zone) => self.zone_named(zone).is_some_and(|zone| can_open(zone.phase)),
                    Subject::Screen => self.is_locked(),
                };
                if asks {
                    self.front.insert(front).recover(now, touch.seed);
                }
                None
            }
            Step::Retry => match self.front.take()?.subject() {
                Subject::Zone(name) => {
                    let index = self.zones().iter().position(|zone| zone.name == *name)?;
                    if can_open(self.zones().get(index)?.phase) {
                        self.touch_tile(now, index, touch)
                    } else {
                        None
                    }
                }
                Subject::Screen if self.is_locked() => self.touch_unlock(now, touch),
                Subject::Screen => {
                    self.change_screen_pin(now, touch);
                    None
                }
            },
        }
    }

    /// The zone that the front is about may be another one now.
    pub(super) fn front_status(&mut self, now: Millis) {
        let Some(front) = &self.front else { return };
        let login = match front.subject() {
            Subject::Zone(zone) => self.zone_named(zone).map(|zone| (zone.login, can_open(zone.phase))),
            Subject::Screen => self.status.as_ref().map(|status| (status.screen.login, true)),
        };
        let stays =
            |front: &mut Pad| login.is_some_and(|(login, openable)| front.set_login(now, login, openable));
        if self.front.as_mut().is_some_and(|front| !stays(front)) {
            self.front = None;
            self.press = None;
        }
    }

    /// Whether the pad says it that the request failed.
    pub(super) fn front_failed(&mut self, now: Millis, zone: &str, why: &str) -> bool {
        let Some(front) = self.front.as_mut().filter(|front| front.is_busy() && front.is_for(zone)) else {
            return false;
        };
        let why = NotOpened {
            zone: zone.to_owned(),
            cause: Cause::Other,
            reason: why.to_owned(),
            tries_left: None,
        };
        front.not_opened(now, &why);
        true
    }

    fn zone_named(&self, name: &str) -> Option<&Zone> {
        self.zones().iter().find(|zone| zone.name == name)
    }
}
