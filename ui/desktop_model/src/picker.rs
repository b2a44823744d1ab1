//! The picker's state.
//!
//! A zone's tile under a finger means: start it when it does not run, or ask for its PIN where it has one; ask whether
//! to stop or lock it when it does. While the display is locked ([`lock`]) there are no tiles.
//! Only the question's own button stops a zone, and only after [`ARMING`], so that neither a stray nor a double
//! touch does. A touch counts when it ends on the target on which it began, and only one contact counts at a time.

use std::collections::{BTreeMap, BTreeSet};

use crate::geometry::{Point, Rect, Size};
use crate::layout::Layout;
use crate::pad::making::Making;
use crate::pad::{self, Pad, Subject};
use crate::pointer::{Contact, PointerEvent, Stage};
use crate::scale::Scale;
use crate::status::{Login, Phase, Status, Zone};

mod action;
mod front;
mod lock;
mod recovery;
mod render;
mod tunnel_key;

pub use action::Action;
use lock::Lock;
use tunnel_key::KeyPage;

/// Milliseconds on a clock that never goes back.
pub type Millis = u64;

/// A stop question ignores its stop button for so long.
pub const ARMING: Millis = 500;
/// A stop question closes by itself after so long.
pub const QUESTION: Millis = 10_000;
/// Bytes count as moving for so long after they were seen to move.
pub const MOVING: Millis = 2_500;
/// A request without an effect is forgotten after so long.
pub const PATIENCE: Millis = 10_000;
/// What needs the machine's TPM is answered within so long: it may be busy with other zones, and it is slow.
pub const OPENING: Millis = 120_000;
/// The three dots of a busy zone change so often.
pub const BEAT: Millis = 400;

/// The connection to `zoned`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Link {
    /// Not connected since the start.
    #[default]
    Connecting,
    /// Statuses come.
    Up,
    /// It was lost; what is shown is old.
    Lost,
    /// Connected, but `zoned` does not answer; what is shown may be old.
    Silent,
}

/// Something that can be touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A zone's tile, by index in the status.
    Tile(usize),
    /// The stop button of the question on this zone's tile.
    Stop(usize),
    /// The lock button of the question on this zone's tile.
    Lock(usize),
    /// The keep button of the question on this zone's tile.
    Keep(usize),
    /// The small button on this zone's tile that shows its tunnel's key.
    TunnelKey(usize),
    /// The small button on a locked zone's tile that asks whether to stop it.
    End(usize),
    /// Locks the display.
    LockScreen,
    /// Changes the display's PIN.
    ScreenPin,
    /// The display, while it is locked.
    Unlock,
    /// The notice's dismiss button.
    Dismiss,
    /// The line that offers to make a recovery key.
    Recovery,
    /// To the previous page.
    Previous,
    /// To the next page.
    Next,
    /// Something of the PIN pad or of a card, which cover everything else.
    Front(pad::Target),
}

/// Something that happened in the desktop itself, shown like a notice of `zoned`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct OwnNotice {
    subject: String,
    text: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Press {
    contact: Contact,
    target: Target,
    inside: bool,
}

/// Where a touch ended, and the randomness that came with it.
#[derive(Clone, Copy)]
struct Touch {
    at: Point,
    seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Question {
    zone: usize,
    since: Millis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pending {
    was: Phase,
    /// What the tile says meanwhile.
    words: &'static str,
    /// When it is forgotten.
    until: Millis,
}

/// The picker.
#[derive(Clone, Debug)]
pub struct Picker {
    layout: Layout,
    link: Link,
    status: Option<Status>,
    moved: BTreeMap<String, Millis>,
    pending: BTreeMap<String, Pending>,
    question: Option<Question>,
    press: Option<Press>,
    front: Option<Pad>,
    making: Option<Making>,
    key_page: Option<KeyPage>,
    lock: Lock,
    own_notice: Option<OwnNotice>,
    dismissed: BTreeSet<u64>,
    unix_seconds: u64,
}

impl Picker {
    /// An empty picker on `display`.
    #[must_use]
    pub fn new(display: Size, scale: Scale) -> Self {
        Self {
            layout: Layout::new(display, scale, 0, 0),
            link: Link::Connecting,
            status: None,
            moved: BTreeMap::new(),
            pending: BTreeMap::new(),
            question: None,
            press: None,
            front: None,
            making: None,
            key_page: None,
            lock: Lock::default(),
            own_notice: None,
            dismissed: BTreeSet::new(),
            unix_seconds: 0,
        }
    }

    /// Where everything is.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The display changed.
    pub fn set_display(&mut self, display: Size, scale: Scale) {
        self.press = None;
        self.question = None;
        if let Some(front) = &mut self.front {
            front.display_changed();
        }
        if let Some(making) = &mut self.making {
            making.display_changed();
        }
        self.layout = Layout::new(display, scale, self.zones().len(), self.layout.page);
    }

    /// The wall clock, for display only.
    pub fn set_clock(&mut self, unix_seconds: u64) {
        self.unix_seconds = unix_seconds;
    }

    /// The connection to `zoned` changed.
    pub fn set_link(&mut self, link: Link) {
        if link != Link::Up {
            // A question answered now could reach another zoned with other zones.
            self.question = None;
            self.press = None;
            self.pending.clear();
        }
        self.front.take_if(|front| !front.set_link(link));
        self.making.take_if(|making| !making.set_link(link));
        self.lock.set_link(link);
        if matches!(link, Link::Connecting | Link::Lost) {
            // A restarted zoned counts its notices from the start again.
            self.dismissed.clear();
        }
        self.link = link;
    }

    /// `zoned` said how things are.
    pub fn set_status(&mut self, now: Millis, status: Status) {
        let was_locked = self.is_locked();
        let names = |status: &Status| status.zones.iter().map(|zone| zone.name.clone()).collect::<Vec<_>>();
        let same_zones = self.status.as_ref().is_some_and(|old| names(old) == names(&status));
        if !same_zones {
            // Tiles moved: whatever finger is down was put on something else.
            self.press = None;
            self.question = None;
            self.key_page = None;
            // What opens the display is the machine's, whatever zones there are.
            self.front.take_if(|front| matches!(front.subject(), Subject::Zone(_)));
            self.moved.clear();
            self.pending.clear();
            self.layout =
                Layout::new(self.layout.display, self.layout.scale, status.zones.len(), self.layout.page);
        }
        for zone in &status.zones {
            let old = self.zones().iter().find(|old| old.name == zone.name);
            if old.is_some_and(|old| bytes_moved(old, zone)) {
                self.moved.insert(zone.name.clone(), now);
            }
            if self.pending.get(&zone.name).is_some_and(|pending| pending.was != zone.phase) {
                self.pending.remove(&zone.name);
            }
        }
        let shown: BTreeSet<u64> = status.notices.iter().map(|notice| notice.number).collect();
        self.dismissed.retain(|number| shown.contains(number));
        self.lock.told(status.screen);
        self.status = Some(status);
        if self.is_locked() != was_locked {
            self.clear_front();
        }
        let stoppable =
            |question: &Question| self.zones().get(question.zone).is_some_and(|zone| can_stop(zone.phase));
        self.question = self.question.filter(stoppable);
        self.front_status(now);
        self.check_key_page();
    }

    /// A request was refused or got no answer.
    pub fn request_failed(&mut self, now: Millis, zone: &str, why: &str) {
        self.pending.remove(zone);
        if self.front_failed(now, zone, why) {
            return;
        }
        self.own_notice = Some(OwnNotice { subject: zone.to_owned(), text: why.to_owned() });
    }

    /// Something in the desktop itself is worth a notice, such as a lost input device.
    pub fn notice(&mut self, subject: &str, text: &str) {
        self.own_notice = Some(OwnNotice { subject: subject.to_owned(), text: text.to_owned() });
    }

    /// Time passed: forget what is too old.
    pub fn tick(&mut self, now: Millis) {
        self.question = self.question.filter(|question| now < question.since.saturating_add(QUESTION));
        self.moved.retain(|_, moved| now < moved.saturating_add(MOVING));
        self.pending.retain(|_, pending| now < pending.until);
        self.tick_lock(now);
        let making = self.making.take_if(|making| making.is_idle(now)).is_some();
        if making || self.front.take_if(|front| front.is_idle(now)).is_some() {
            self.press = None;
        }
    }

    /// When the view next changes by itself (not counting the clock).
    #[must_use]
    pub fn deadline(&self, now: Millis) -> Option<Millis> {
        let question = self.question.map(|question| {
            let armed = question.since.saturating_add(ARMING);
            if now < armed { armed } else { question.since.saturating_add(QUESTION) }
        });
        let moved = self.moved.values().map(|moved| moved.saturating_add(MOVING)).min();
        let pending = self.pending.values().map(|pending| pending.until).min();
        let busy = self.link == Link::Up && self.zones().iter().any(|zone| self.is_busy(zone));
        let beat = busy.then(|| (now / BEAT + 1) * BEAT);
        let front = self.front.as_ref().and_then(|front| front.deadline(now));
        let unlocking = self.lock.deadline(now);
        let making = self.making.as_ref().and_then(|making| making.deadline(now));
        [question, moved, pending, beat, front, making, unlocking].into_iter().flatten().min()
    }

    /// A contact did something; the answer is what the user asked for by it. The seed is fresh randomness: it
    /// decides the places of a pad's digits, if the event opens one.
    pub fn pointer(&mut self, now: Millis, event: PointerEvent, seed: u64) -> Option<Action> {
        self.tick(now);
        match event.stage {
            Stage::Down => {
                // A second beginning without an end: the end was lost, so the first touch counts for nothing.
                self.press.take_if(|press| press.contact == event.contact);
                self.front_down(now, event.at);
                if self.press.is_none() && !self.is_shielded(now, event.at) {
                    let target = self.target_at(event.at);
                    self.press = target.map(|target| Press { contact: event.contact, target, inside: true });
                }
                None
            }
            Stage::Move => {
                let inside =
                    self.press.as_ref().is_some_and(|press| self.target_at(event.at) == Some(press.target));
                if let Some(press) = self.press.as_mut().filter(|press| press.contact == event.contact) {
                    press.inside = inside;
                }
                None
            }
            Stage::Cancel => {
                self.press.take_if(|press| press.contact == event.contact);
                None
            }
            Stage::Up => {
                let press = self.press.take_if(|press| press.contact == event.contact)?;
                if self.target_at(event.at) == Some(press.target) {
                    self.touch(now, press.target, Touch { at: event.at, seed })
                } else {
                    None
                }
            }
        }
    }

    /// What is touched at `at`.
    #[must_use]
    pub fn target_at(&self, at: Point) -> Option<Target> {
        self.targets().into_iter().find(|(rect, _)| rect.contains(at)).map(|(_, target)| target)
    }

    /// Everything that can be touched now, topmost first.
    #[must_use]
    pub fn targets(&self) -> Vec<(Rect, Target)> {
        let layout = &self.layout;
        if self.is_locked() && self.front.is_none() {
            return self.unlock_targets();
        }
        let making =
            self.making.as_ref().map(|making| making.targets(&self.pad_layout(), self.link == Link::Up));
        if let Some(targets) = making {
            return targets.into_iter().map(|(rect, target)| (rect, Target::Front(target))).collect();
        }
        if let Some(front) = &self.front {
            let targets = front.targets(&self.pad_layout(), self.link == Link::Up);
            return targets.into_iter().map(|(rect, target)| (rect, Target::Front(target))).collect();
        }
        if self.key_page.is_some() {
            return vec![(self.pad_layout().leave, Target::Front(pad::Target::Leave))];
        }
        let mut targets = vec![(layout.lock, Target::LockScreen)];
        targets.extend(self.offers_screen_pin().then_some((layout.screen_pin, Target::ScreenPin)));
        for (zone, tile) in (layout.first_zone..).zip(&layout.tiles) {
            if self.question.is_some_and(|question| question.zone == zone) {
                let [stop, lock, keep] = layout.question_buttons(*tile);
                targets.push((stop, Target::Stop(zone)));
                targets.extend(self.can_lock(zone).then_some((lock, Target::Lock(zone))));
                targets.push((keep, Target::Keep(zone)));
            } else {
                let key = layout.key_button(*tile);
                targets.extend(self.tunnel_key(zone).map(|_| (key, Target::TunnelKey(zone))));
                targets.extend(self.can_end(zone).then(|| (layout.end_button(*tile), Target::End(zone))));
                targets.push((*tile, Target::Tile(zone)));
            }
        }
        if self.shown_notice().is_some() {
            targets.push((layout.dismiss, Target::Dismiss));
        } else if self.offers_key() {
            targets.push((layout.notice, Target::Recovery));
        }
        targets.extend(layout.previous.map(|rect| (rect, Target::Previous)));
        targets.extend(layout.next.map(|rect| (rect, Target::Next)));
        targets
    }

    fn touch(&mut self, now: Millis, target: Target, touch: Touch) -> Option<Action> {
        match target {
            Target::Front(target) => self.touch_front(now, target, touch),
            Target::Tile(zone) => self.touch_tile(now, zone, touch),
            Target::Stop(zone) => {
                let zone = self.answered(now, zone, "Stop requested")?;
                Some(Action::Stop { zone })
            }
            Target::Lock(zone) => {
                let zone = self.answered(now, zone, "Lock requested")?;
                Some(Action::Lock { zone })
            }
            Target::End(zone) => {
                let can = self.link == Link::Up && self.can_end(zone);
                self.question = can.then_some(Question { zone, since: now });
                None
            }
            Target::LockScreen => self.lock_screen(),
            Target::Unlock => self.touch_unlock(now, touch),
            Target::ScreenPin => {
                self.change_screen_pin(now, touch);
                None
            }
            Target::TunnelKey(zone) => {
                self.show_tunnel_key(now, zone);
                None
            }
            Target::Keep(_) => {
                self.question = None;
                None
            }
            Target::Dismiss => {
                self.dismiss();
                None
            }
            Target::Recovery => {
                self.offer_key(now);
                None
            }
            Target::Previous => {
                self.turn_to(self.layout.page.saturating_sub(1));
                None
            }
            Target::Next => {
                self.turn_to(self.layout.page + 1);
                None
            }
        }
    }

    fn touch_tile(&mut self, now: Millis, index: usize, touch: Touch) -> Option<Action> {
        // A touch on another tile also closes a question: it was meant for something else.
        self.question = None;
        let zone = self.zones().get(index)?;
        if self.link != Link::Up || self.pending.contains_key(&zone.name) {
            return None;
        }
        let name = zone.name.clone();
        match zone.phase {
            Phase::Stopped | Phase::Failed | Phase::Locked => {
                if let Login::Pin(pin) = zone.login {
                    self.front = Some(Pad::open(now, zone, pin, touch.at, touch.seed));
                    return None;
                }
                let words = if zone.phase == Phase::Locked { "Unlock requested" } else { "Start requested" };
                let pending = Pending { was: zone.phase, words, until: now.saturating_add(OPENING) };
                self.pending.insert(name.clone(), pending);
                Some(Action::Start { zone: name })
            }
            Phase::Paused => {
                let pending = Pending {
                    was: zone.phase,
                    words: "Resume requested",
                    until: now.saturating_add(PATIENCE),
                };
                self.pending.insert(name.clone(), pending);
                Some(Action::Resume { zone: name })
            }
            Phase::Starting | Phase::Running => {
                self.question = Some(Question { zone: index, since: now });
                None
            }
            Phase::Stopping | Phase::Locking => None,
        }
    }

    /// The zone of a question that was answered, once it is armed.
    fn answered(&mut self, now: Millis, index: usize, words: &'static str) -> Option<String> {
        let question = self.question.filter(|question| question.zone == index)?;
        if now < question.since.saturating_add(ARMING) {
            return None;
        }
        self.question = None;
        let zone = self.zones().get(index)?;
        let name = zone.name.clone();
        let until = now.saturating_add(PATIENCE);
        self.pending.insert(name.clone(), Pending { was: zone.phase, words, until });
        Some(name)
    }

    /// Whether it is locked: a touch on its tile unlocks it, so that something else has to end it.
    fn can_end(&self, index: usize) -> bool {
        let locked = |zone: &Zone| zone.phase == Phase::Locked && !self.pending.contains_key(&zone.name);
        self.zones().get(index).is_some_and(locked)
    }

    /// Whether the question on this zone's tile offers to lock it.
    fn can_lock(&self, index: usize) -> bool {
        self.zones().get(index).is_some_and(|zone| zone.phase == Phase::Running)
    }

    fn dismiss(&mut self) {
        if self.own_notice.take().is_some() {
            return;
        }
        if let Some(number) = self.newest_notice() {
            self.dismissed.insert(number);
        }
    }

    fn turn_to(&mut self, page: usize) {
        self.question = None;
        self.layout = Layout::new(self.layout.display, self.layout.scale, self.zones().len(), page);
    }

    fn zones(&self) -> &[Zone] {
        self.status.as_ref().map_or(&[], |status| &status.zones)
    }

    fn is_busy(&self, zone: &Zone) -> bool {
        matches!(zone.phase, Phase::Starting | Phase::Stopping | Phase::Locking)
            || self.pending.contains_key(&zone.name)
    }

    /// The newest notice of `zoned` that was not dismissed.
    fn newest_notice(&self) -> Option<u64> {
        let notices = self.status.as_ref()?.notices.iter();
        notices.map(|notice| notice.number).filter(|number| !self.dismissed.contains(number)).max()
    }
}

/// A zone in this phase can be opened: it starts, or is unlocked.
fn can_open(phase: Phase) -> bool {
    matches!(phase, Phase::Stopped | Phase::Failed | Phase::Locked)
}

/// A zone in this phase can be stopped.
fn can_stop(phase: Phase) -> bool {
    matches!(phase, Phase::Starting | Phase::Running | Phase::Paused | Phase::Locked)
}

/// The tunnel carried payload between two statuses. Counters that fell belong to a new tunnel.
fn bytes_moved(old: &Zone, new: &Zone) -> bool {
    let count = |zone: &Zone| zone.tunnel.as_ref().map(|tunnel| (tunnel.sent_bytes, tunnel.received_bytes));
    match (count(old), count(new)) {
        (Some(old), Some(new)) => new.0 > old.0 || new.1 > old.1,
        _ => false,
    }
}
