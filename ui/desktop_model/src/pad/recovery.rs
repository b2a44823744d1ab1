//! The recovery key, typed in clear from its paper, and what the pad does with it.
//!
//! ```text
//!  card -> Key -> (all groups whole) -> Choose -> Again -> Busy -> closed: the zone starts, or a card
//!             +------ zone without a PIN --------------------^
//! ```
//!
//! Each group is a 16-bit number times 11, so that every wrong digit and every two that changed places are noticed where
//! they are. A mistyped group takes no more digits until some of its own were taken away.

use std::fmt;

use super::{Asked, Digits, IDLE, Order, Pad, Remark, Shield, Stage, Step, pin_of};
use crate::picker::Millis;
use crate::status::Login;
use crate::view::{GroupView, Level};

/// Groups of a recovery key.
pub const GROUPS: usize = 8;
/// Digits of each.
pub const GROUP_DIGITS: usize = 6;
/// So long a key takes to be typed: a pad with one is closed after so long without a touch.
pub const KEY_IDLE: Millis = 180_000;

const KEY_DIGITS: usize = GROUPS * GROUP_DIGITS;
const CHECK: u32 = 11;

/// A recovery key, as far as it was typed: never printed, and wiped when cleared and when dropped.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RecoveryKey(Digits<KEY_DIGITS>);

/// How a group of a recovery key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupState {
    /// Nothing of it was typed, and the next digit is not its own.
    Later,
    /// The next digit is its own.
    Current,
    /// It can be a group.
    Whole,
    /// It cannot.
    Mistyped,
}

impl RecoveryKey {
    /// Appends a digit, unless a group is mistyped or all are whole.
    pub(super) fn push(&mut self, digit: u8) {
        if self.mistyped().is_none() {
            self.0.push(digit);
        }
    }

    /// Takes the last digit away.
    pub(super) fn pop(&mut self) {
        self.0.pop();
    }

    /// Wipes it.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Leaves nothing behind.
    pub(super) fn take(&mut self) -> Self {
        Self(self.0.take())
    }

    /// Reads a key as it is written; `None`: it is none.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let mut key = Self::default();
        for digit in text.bytes().filter(|byte| *byte != b'-') {
            key.push(digit.checked_sub(b'0').filter(|digit| *digit < 10)?);
        }
        (key.is_whole() && key.characters().eq(text.chars())).then_some(key)
    }

    /// Digits so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.count()
    }

    /// Every group is there, and none is mistyped.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.count() == KEY_DIGITS && self.mistyped().is_none()
    }

    /// The digits as they are written, for whoever sends them: a hyphen between groups.
    pub fn characters(&self) -> impl Iterator<Item = char> {
        self.0.characters().enumerate().flat_map(|(place, digit)| {
            let hyphen = (place > 0 && place % GROUP_DIGITS == 0).then_some('-');
            hyphen.into_iter().chain([digit])
        })
    }

    /// The place of the mistyped group.
    pub(super) fn mistyped(&self) -> Option<usize> {
        (0..GROUPS).find(|group| is_whole(self.digits(*group)) == Some(false))
    }

    /// The group that is typed: the mistyped one first.
    fn current(&self) -> usize {
        self.mistyped().unwrap_or((self.count() / GROUP_DIGITS).min(GROUPS - 1))
    }

    /// The digits of a group, as far as they were typed.
    pub(super) fn digits(&self, group: usize) -> &[u8] {
        self.0.typed().chunks(GROUP_DIGITS).nth(group).unwrap_or_default()
    }

    fn state(&self, group: usize) -> GroupState {
        match is_whole(self.digits(group)) {
            Some(true) => GroupState::Whole,
            Some(false) => GroupState::Mistyped,
            None if group == self.current() => GroupState::Current,
            None => GroupState::Later,
        }
    }

    /// The groups as they are shown.
    pub(super) fn views(&self) -> Vec<GroupView> {
        (0..GROUPS).map(|group| GroupView { digits: self.group(group), state: self.state(group) }).collect()
    }

    /// A group, for who shows it.
    pub(super) fn group(&self, group: usize) -> Digits<GROUP_DIGITS> {
        let mut digits = Digits::default();
        for digit in self.digits(group) {
            digits.push(*digit);
        }
        digits
    }
}

/// Whether these digits can be a group; `None`: some are missing.
fn is_whole(digits: &[u8]) -> Option<bool> {
    let number = digits.iter().fold(0, |number, digit| number * 10 + u32::from(*digit));
    let can_be = number % CHECK == 0 && number / CHECK <= u32::from(u16::MAX);
    (digits.len() == GROUP_DIGITS).then_some(can_be)
}

impl fmt::Debug for RecoveryKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("RecoveryKey(..)")
    }
}

impl Pad {
    /// The card's user has the recovery key. The digits' places of the new PIN come from the seed, where the policy wants
    /// them to change.
    pub(crate) fn recover(&mut self, now: Millis, seed: u64) {
        self.order = match self.pin {
            Some(pin) if pin.shuffle => Order::shuffled(seed),
            _ => Order::PLAIN,
        };
        self.key = Some(RecoveryKey::default());
        self.remark = Remark::Nothing;
        self.stage = Stage::Key;
        self.since = now;
        // A double touch on the card's button types nothing.
        self.shield = Shield::Everything;
        self.touched = now;
    }

    /// Goes on with a whole key: to the new PIN, or to the opening of a zone that asks for none.
    pub(super) fn key_typed(&mut self) -> Step {
        if !self.key.as_ref().is_some_and(RecoveryKey::is_whole) {
            return Step::Stay;
        }
        if self.pin.is_some() {
            self.stage = Stage::Choose;
            return Step::Stay;
        }
        self.recovered(Digits::default())
    }

    /// Sends the key with this PIN.
    pub(super) fn recovered(&mut self, pin: Digits) -> Step {
        let Some(key) = self.key.take() else { return Step::Stay };
        self.stage = Stage::Busy(Asked::Recover);
        Step::Recover(key, pin)
    }

    /// How it is now, while its key or its new PIN is typed. `false`: there is nothing to ask any more.
    pub(super) fn set_login_to_recover(&mut self, login: Login, openable: bool) -> bool {
        let pin = pin_of(login);
        let choosing = self.stage != Stage::Key;
        if !openable || choosing && pin.is_none() {
            return false;
        }
        self.pin = pin;
        true
    }

    /// Everything moved: what was typed is forgotten.
    pub(super) fn forget_key(&mut self) {
        if let Some(key) = &mut self.key {
            key.clear();
            self.stage = Stage::Key;
        }
    }

    /// How long nobody may touch it.
    pub(super) fn patience(&self) -> Millis {
        if self.key.is_some() { KEY_IDLE } else { IDLE }
    }

    /// What stands below the groups.
    pub(super) fn key_message(&self, key: &RecoveryKey) -> (String, Level) {
        if let Some(group) = key.mistyped() {
            return (format!("Group {} has a mistake: take its digits away.", group + 1), Level::Bad);
        }
        if key.is_whole() {
            let next = if self.pin.is_some() { " Next, choose a new PIN." } else { "" };
            return (format!("All groups are well formed.{next}"), Level::Good);
        }
        if key.count() == 0 {
            return (format!("{GROUPS} groups of {GROUP_DIGITS} digits, as on the paper."), Level::Quiet);
        }
        (format!("Group {} of {GROUPS}.", key.current() + 1), Level::Quiet)
    }
}
