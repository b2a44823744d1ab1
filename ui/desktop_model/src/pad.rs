//! The PIN pad, and the card that says why a zone was not opened: each covers the whole display.
//!
//! ```text
//!  touch, PIN chosen -> Enter --------------------> Busy -> closed: the zone starts
//!  touch, none yet  --> Choose -> Again -> (equal) -> Busy
//!                          ^        |                  |
//!                          +--------+ (different)      +-> Enter (wrong PIN), Card (any other cause)
//! ```
//!
//! From some cards the recovery key leads on: [`recovery`]. The way to another PIN: [`change`]. What it opens is a zone,
//! or the display that is locked ([`Subject`]).
//!
//! Typed digits are in [`Digits`] alone: wiped on cancel, when they are sent, after [`IDLE`] without a touch, and when
//! the link, the display or the zone changes. What is drawn tells how many of a PIN there are and never which; a place's
//! number and the order of the digits print as nothing. While a PIN is checked nothing can be touched.
//!
//! This is trusted UI: only [`crate::pointer::PointerEvent`]s reach it, no key, no text, and nothing of a zone but its
//! label, colour and state as `zoned` tells them.

use std::fmt;

use crate::geometry::{Point, Rect};
use crate::picker::{BEAT, Link, Millis};
use crate::status::{Login, PinLogin, Zone};

mod cards;
mod change;
mod digits;
mod layout;
pub mod making;
pub mod recovery;
mod render;

pub use cards::{CardSign, Cause};
pub use digits::Digits;
use digits::Order;
pub use layout::{KEY, PadLayout, key_rect};
pub use recovery::RecoveryKey;

/// The fewest digits of a PIN.
pub const FEWEST_DIGITS: usize = 6;
/// The most digits of a PIN.
pub const MOST_DIGITS: usize = 12;
/// A pad that nobody touches closes by itself after so long.
pub const IDLE: Millis = 60_000;
/// What has just appeared ignores touches for so long that may have been meant for what was there before.
pub const ARMING: Millis = 300;

/// No zone's colour: what is the machine's own has it.
pub(crate) const MACHINE_RGB: [u8; 3] = [0x3a, 0x46, 0x54];
/// The buttons that go on there.
pub(crate) const ONWARD_RGB: [u8; 3] = [0x1f, 0x5f, 0xb8];
const SCREEN: &str = "This display";

/// One of the ten places of digits. It prints as nothing: on an unshuffled pad it is the digit.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Place(usize);

impl fmt::Debug for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Place(..)")
    }
}

/// Something of the pad or the card that can be touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A digit's place.
    Place(Place),
    /// Takes the last digit away.
    Back,
    /// Sends the PIN, or goes on to its repetition.
    Go,
    /// Closes the pad.
    Cancel,
    /// Closes the card.
    Leave,
    /// Tries to open the zone once more.
    Retry,
    /// Asks for the recovery key.
    Recover,
    /// Asks for another PIN.
    Change,
}

/// A zone was not opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotOpened {
    /// The zone.
    pub zone: String,
    /// What stands in the way.
    pub cause: Cause,
    /// A sentence; may be empty.
    pub reason: String,
    /// Wrong PINs until the zone is locked, if the machine's TPM said so.
    pub tries_left: Option<u32>,
}

/// What follows from a touch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Stay,
    Close,
    /// Open the zone with this PIN.
    Open(Digits),
    /// Take the second PIN in place of the first.
    Change(Digits, Digits),
    /// As if the zone's tile were touched.
    Retry,
    /// Ask for the recovery key.
    AskKey,
    /// Open the zone with this recovery key; the PIN is its new one, if it asks for one.
    Recover(RecoveryKey, Digits),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    Enter,
    /// The PIN that is to be changed is typed.
    Old,
    Choose,
    Again {
        first: Digits,
    },
    /// The recovery key is typed.
    Key,
    Busy(Asked),
    Card {
        cause: Cause,
        reason: String,
    },
    /// Another PIN was taken.
    Changed,
}

/// What the zone was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Check,
    Set,
    Recover,
    Change,
}

/// What was wrong with the last try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remark {
    Nothing,
    Wrong,
    Different,
}

/// Touches that begin within [`ARMING`] and count for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shield {
    /// None: nobody could touch anything just before.
    Nothing,
    /// Those on whatever is here: the tile was touched here, perhaps twice.
    At(Point),
    /// All: it came by itself.
    Everything,
}

/// What is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A zone, by name.
    Zone(String),
    /// The display's lock.
    Screen,
}

/// The pad or the card of one zone, or of the display's lock.
#[derive(Clone, Debug)]
pub(crate) struct Pad {
    subject: Subject,
    label: String,
    rgb: [u8; 3],
    /// Of the buttons that go on.
    onward_rgb: [u8; 3],
    /// `None`: the zone asks for no PIN.
    pin: Option<PinLogin>,
    order: Order,
    stage: Stage,
    typed: Digits,
    /// From the card's button until it is sent.
    key: Option<RecoveryKey>,
    /// The PIN that is to be changed, until it is sent.
    old: Option<Digits>,
    remark: Remark,
    /// When it appeared in this form.
    since: Millis,
    shield: Shield,
    touched: Millis,
}

impl Pad {
    /// The pad for a zone that asks for a PIN and was touched at `at`, or the card that says that no PIN helps any more.
    /// The digits' places come from the seed, where the policy wants them to change.
    pub(crate) fn open(now: Millis, zone: &Zone, pin: PinLogin, at: Point, seed: u64) -> Self {
        let mut pad = Self::of(now, zone);
        if pin.shuffle {
            pad.order = Order::shuffled(seed);
        }
        pad.begin(now, pin, Shield::At(at));
        pad
    }

    /// The card that says why a zone was not opened.
    pub(crate) fn card(now: Millis, zone: &Zone, why: &NotOpened) -> Self {
        let mut pad = Self::of(now, zone);
        pad.show_card(now, why.cause, &why.reason);
        pad
    }

    /// The pad that lifts the display's lock, which was touched at `at`.
    pub(crate) fn unlock(now: Millis, pin: PinLogin, at: Point, seed: u64) -> Self {
        let mut pad = Self::screen(now, Login::Pin(pin));
        if pin.shuffle {
            pad.order = Order::shuffled(seed);
        }
        pad.begin(now, pin, Shield::At(at));
        pad
    }

    /// The card that says why the display's lock was not lifted.
    pub(crate) fn screen_card(now: Millis, login: Login, why: &NotOpened) -> Self {
        let mut pad = Self::screen(now, login);
        pad.show_card(now, why.cause, &why.reason);
        pad
    }

    fn screen(now: Millis, login: Login) -> Self {
        Self::new(now, Subject::Screen, SCREEN, (MACHINE_RGB, ONWARD_RGB), login)
    }

    fn of(now: Millis, zone: &Zone) -> Self {
        let rgb = zone.colour.rgb();
        Self::new(now, Subject::Zone(zone.name.clone()), &zone.label, (rgb, rgb), zone.login)
    }

    fn new(
        now: Millis,
        subject: Subject,
        label: &str,
        (rgb, onward_rgb): ([u8; 3], [u8; 3]),
        login: Login,
    ) -> Self {
        Self {
            subject,
            label: label.to_owned(),
            rgb,
            onward_rgb,
            pin: pin_of(login),
            order: Order::PLAIN,
            stage: Stage::Enter,
            typed: Digits::default(),
            key: None,
            old: None,
            remark: Remark::Nothing,
            since: now,
            shield: Shield::Everything,
            touched: now,
        }
    }

    /// What it opens.
    pub(crate) fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Whether it opens this zone.
    pub(crate) fn is_for(&self, zone: &str) -> bool {
        matches!(&self.subject, Subject::Zone(name) if name == zone)
    }

    /// Which touches that begin now count for nothing.
    pub(crate) fn shield(&self, now: Millis) -> Shield {
        if now < self.since.saturating_add(ARMING) { self.shield } else { Shield::Nothing }
    }

    /// Whether the zone's answer is awaited.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(self.stage, Stage::Busy(_))
    }

    /// Everything that can be touched now. `online`: requests can be made.
    pub(crate) fn targets(&self, layout: &PadLayout, online: bool) -> Vec<(Rect, Target)> {
        match &self.stage {
            Stage::Busy(_) => Vec::new(),
            Stage::Card { cause, .. } => {
                let mut targets = vec![(layout.leave, Target::Leave)];
                if online && let Some(onward) = cards::words(*cause, &self.subject).onward {
                    targets.push((layout.retry, onward.target()));
                }
                targets
            }
            Stage::Changed => vec![(layout.leave, Target::Leave)],
            Stage::Enter | Stage::Old | Stage::Choose | Stage::Again { .. } | Stage::Key => {
                let places = layout.places.iter().enumerate();
                let mut targets: Vec<_> =
                    places.map(|(place, rect)| (*rect, Target::Place(Place(place)))).collect();
                targets.push((layout.back, Target::Back));
                targets.push((layout.go, Target::Go));
                targets.push((layout.cancel, Target::Cancel));
                targets.extend(self.offers_change().then_some((layout.change, Target::Change)));
                targets
            }
        }
    }

    /// A finger is on it: somebody is there.
    pub(crate) fn touched(&mut self, now: Millis) {
        self.touched = now;
    }

    /// A target was touched.
    pub(crate) fn touch(&mut self, now: Millis, target: Target) -> Step {
        self.touched = now;
        match (target, &self.stage) {
            (Target::Leave, Stage::Card { .. } | Stage::Changed) => Step::Close,
            (Target::Retry, Stage::Card { .. }) => Step::Retry,
            (Target::Recover, Stage::Card { .. }) => Step::AskKey,
            (_, Stage::Busy(_) | Stage::Card { .. } | Stage::Changed) => Step::Stay,
            (Target::Change, _) => {
                self.begin_change(now);
                Step::Stay
            }
            (Target::Leave | Target::Retry | Target::Recover, _) => Step::Stay,
            (Target::Cancel, _) => Step::Close,
            (Target::Place(Place(place)), _) => {
                let Some(digit) = self.order().digit(place) else { return Step::Stay };
                match &mut self.key {
                    Some(key) if self.stage == Stage::Key => key.push(digit),
                    _ => self.typed.push(digit),
                }
                Step::Stay
            }
            (Target::Back, _) => {
                match &mut self.key {
                    Some(key) if self.stage == Stage::Key => key.pop(),
                    _ => self.typed.pop(),
                }
                Step::Stay
            }
            (Target::Go, Stage::Key) => self.key_typed(),
            (Target::Go, _) if self.typed.is_enough() => self.go(),
            (Target::Go, _) => Step::Stay,
        }
    }

    fn go(&mut self) -> Step {
        self.remark = Remark::Nothing;
        let typed = self.typed.take();
        match std::mem::replace(&mut self.stage, Stage::Choose) {
            Stage::Choose => {
                self.stage = Stage::Again { first: typed };
                Step::Stay
            }
            Stage::Again { first } if first != typed => {
                self.remark = Remark::Different;
                Step::Stay
            }
            Stage::Again { .. } if self.key.is_some() => self.recovered(typed),
            Stage::Again { .. } if self.old.is_some() => self.changes(typed),
            Stage::Old => {
                self.old = Some(typed);
                Step::Stay
            }
            Stage::Again { .. } => {
                self.stage = Stage::Busy(Asked::Set);
                Step::Open(typed)
            }
            Stage::Enter => {
                self.stage = Stage::Busy(Asked::Check);
                Step::Open(typed)
            }
            stage @ (Stage::Key | Stage::Busy(_) | Stage::Card { .. } | Stage::Changed) => {
                self.stage = stage;
                Step::Stay
            }
        }
    }

    /// The PIN was not taken, or nothing was asked for one.
    pub(crate) fn not_opened(&mut self, now: Millis, why: &NotOpened) {
        let pin = self.pin.map(|pin| PinLogin { tries_left: why.tries_left.or(pin.tries_left), ..pin });
        match pin {
            Some(pin) if why.cause == Cause::WrongPin => {
                let changes = self.stage == Stage::Busy(Asked::Change);
                // A wrong one shows that there is a right one.
                self.begin(now, PinLogin { chosen: true, ..pin }, Shield::Nothing);
                self.remark = Remark::Wrong;
                if changes && self.stage == Stage::Enter {
                    self.stage = Stage::Old;
                }
            }
            _ => {
                self.pin = pin;
                self.show_card(now, why.cause, &why.reason);
            }
        }
    }

    /// How that is now; `openable`: it can be opened. `false`: there is nothing to ask any more.
    #[must_use]
    pub(crate) fn set_login(&mut self, now: Millis, login: Login, openable: bool) -> bool {
        if matches!(self.stage, Stage::Busy(_) | Stage::Card { .. } | Stage::Changed) {
            return true;
        }
        if self.key.is_some() {
            return self.set_login_to_recover(login, openable);
        }
        let Login::Pin(pin) = login else { return false };
        if !openable {
            return false;
        }
        let has_one = self.old.is_some() || matches!(self.stage, Stage::Enter | Stage::Old);
        if pin.chosen != has_one || pin.tries_left == Some(0) {
            self.begin(now, pin, Shield::Everything);
        }
        self.pin = Some(pin);
        true
    }

    /// The link to `zoned` is in another state. `false`: close the pad.
    #[must_use]
    pub(crate) fn set_link(&mut self, link: Link) -> bool {
        match (&self.stage, link) {
            (Stage::Busy(_), Link::Lost | Link::Connecting) => {
                self.show_card(self.since, Cause::Other, "zoned went away before it answered.");
                true
            }
            // A silent zoned may still answer.
            (Stage::Busy(_) | Stage::Card { .. } | Stage::Changed, _) | (_, Link::Up) => true,
            (_, Link::Silent | Link::Lost | Link::Connecting) => false,
        }
    }

    /// Everything moved: what was typed is forgotten.
    pub(crate) fn display_changed(&mut self) {
        self.typed.clear();
        if matches!(self.stage, Stage::Again { .. }) {
            self.stage = Stage::Choose;
        }
        if self.old.take().is_some() {
            self.stage = Stage::Old;
        }
        self.forget_key();
    }

    /// Whether nobody has touched it for too long.
    pub(crate) fn is_idle(&self, now: Millis) -> bool {
        self.idle_at().is_some_and(|at| now >= at)
    }

    /// When it next changes by itself.
    pub(crate) fn deadline(&self, now: Millis) -> Option<Millis> {
        let beat = self.is_busy().then(|| (now / BEAT + 1) * BEAT);
        beat.or(self.idle_at())
    }

    fn idle_at(&self) -> Option<Millis> {
        match self.stage {
            Stage::Busy(_) | Stage::Card { .. } | Stage::Changed => None,
            Stage::Enter | Stage::Old | Stage::Choose | Stage::Again { .. } | Stage::Key => {
                Some(self.touched.saturating_add(self.patience()))
            }
        }
    }

    /// The digits' places now: those of a key, which is shown, are where everybody expects them.
    fn order(&self) -> &Order {
        if self.stage == Stage::Key { &Order::PLAIN } else { &self.order }
    }

    fn begin(&mut self, now: Millis, pin: PinLogin, shield: Shield) {
        self.typed.clear();
        self.old = None;
        self.pin = Some(pin);
        self.remark = Remark::Nothing;
        self.stage = if pin.chosen { Stage::Enter } else { Stage::Choose };
        self.since = now;
        self.shield = shield;
        self.touched = now;
        if pin.tries_left == Some(0) {
            self.show_card(now, Cause::LockedOut, "");
        }
    }

    fn show_card(&mut self, now: Millis, cause: Cause, reason: &str) {
        self.typed.clear();
        self.old = None;
        self.stage = Stage::Card { cause, reason: reason.to_owned() };
        self.since = now;
        self.shield = Shield::Everything;
    }
}

fn pin_of(login: Login) -> Option<PinLogin> {
    match login {
        Login::Touch => None,
        Login::Pin(pin) => Some(pin),
    }
}
