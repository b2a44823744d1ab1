//! Typed digits, and the order in which a pad shows its ten.

use std::fmt;

use zeroize::{Zeroize, Zeroizing};

use super::{FEWEST_DIGITS, MOST_DIGITS};

/// What was typed: never printed, never moved to another place of memory (a move leaves what was moved behind), and wiped when
/// cleared and when dropped.
///
/// There are at most `MOST`: those of a PIN, unless it says otherwise.
#[derive(Clone, PartialEq, Eq)]
pub struct Digits<const MOST: usize = MOST_DIGITS> {
    digits: Box<Zeroizing<[u8; MOST]>>,
    count: usize,
}

impl<const MOST: usize> Default for Digits<MOST> {
    fn default() -> Self {
        Self { digits: Box::new(Zeroizing::new([0; MOST])), count: 0 }
    }
}

impl Digits {
    /// Enough for a PIN.
    #[must_use]
    pub fn is_enough(&self) -> bool {
        self.count >= FEWEST_DIGITS
    }
}

impl<const MOST: usize> Digits<MOST> {
    /// Appends a digit, unless there are `MOST`.
    pub(super) fn push(&mut self, digit: u8) {
        if let Some(place) = self.digits.get_mut(self.count) {
            *place = digit;
            self.count += 1;
        }
    }

    /// Takes the last one away.
    pub(super) fn pop(&mut self) {
        if let Some(last) = self.count.checked_sub(1) {
            self.count = last;
            if let Some(place) = self.digits.get_mut(last) {
                place.zeroize();
            }
        }
    }

    /// Wipes all of them.
    pub(super) fn clear(&mut self) {
        self.digits.zeroize();
        self.count = 0;
    }

    /// Leaves nothing behind.
    pub(super) fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// As numbers.
    pub(super) fn typed(&self) -> &[u8] {
        self.digits.get(..self.count).unwrap_or_default()
    }

    /// The digits, for whoever sends them.
    pub fn characters(&self) -> impl Iterator<Item = char> {
        self.typed().iter().map(|digit| char::from(b'0' + digit))
    }
}

impl<const MOST: usize> fmt::Debug for Digits<MOST> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Digits(..)")
    }
}

/// Which digit each of the pad's places shows; printed it says nothing.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Order([u8; 10]);

impl Order {
    /// Each digit at its own place.
    pub(super) const PLAIN: Self = Self([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);

    /// One of the 10! orders, each as likely as the seeds are (Fisher and Yates, the seed read as a number whose
    /// digits have the bases 10 to 2: 2^64 is so much more than 10! that no order is likelier by a billionth).
    pub(super) fn shuffled(seed: u64) -> Self {
        let mut order = Self::PLAIN;
        let mut rest = seed;
        for last in (1..order.0.len()).rev() {
            let choices = u64::try_from(last + 1).unwrap_or(1);
            order.0.swap(last, usize::try_from(rest % choices).unwrap_or(0));
            rest /= choices;
        }
        order
    }

    /// The digit at a place.
    pub(super) fn digit(&self, place: usize) -> Option<u8> {
        self.0.get(place).copied()
    }
}

impl fmt::Debug for Order {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Order(..)")
    }
}
