//! Rectangles that still have to be copied.
//!
//! A [`DamageList`] never holds more than [`DamageList::MOST`] rectangles: what does not fit is merged where the
//! merge adds the fewest pixels. [`Owed`] keeps one list for each display buffer: a buffer that is shown gets
//! every damage since it was last drawn, not only the newest.

use crate::geometry::Rect;

/// A bounded set of rectangles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DamageList {
    rects: Vec<Rect>,
}

impl DamageList {
    /// The most rectangles held.
    pub const MOST: usize = 16;

    /// Adds what `rect` covers.
    pub fn add(&mut self, rect: Rect) {
        if rect.is_empty() || self.rects.iter().any(|held| held.encloses(rect)) {
            return;
        }
        self.rects.retain(|held| !rect.encloses(*held));
        self.rects.push(rect);
        while self.rects.len() > Self::MOST {
            self.merge_cheapest();
        }
    }

    /// Adds what `other` covers.
    pub fn add_all(&mut self, other: &Self) {
        for rect in &other.rects {
            self.add(*rect);
        }
    }

    /// The rectangles; they may overlap.
    #[must_use]
    pub fn rects(&self) -> &[Rect] {
        &self.rects
    }

    /// Nothing is damaged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rects.is_empty()
    }

    /// Empties the list and returns what was in it.
    pub fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    fn merge_cheapest(&mut self) {
        let mut best = (0, 1, i64::MAX);
        for first in 0..self.rects.len() {
            for second in first + 1..self.rects.len() {
                let (a, b) = (self.rects[first], self.rects[second]);
                let added = a.union(b).area() - a.area() - b.area();
                if added < best.2 {
                    best = (first, second, added);
                }
            }
        }
        let second = self.rects.swap_remove(best.1);
        let first = self.rects.swap_remove(best.0);
        self.add(first.union(second));
    }
}

/// Damage that each of a display's buffers has not seen yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owed {
    buffers: Vec<DamageList>,
}

impl Owed {
    /// For `count` buffers, all of which owe the whole of `display`.
    #[must_use]
    pub fn all(count: usize, display: Rect) -> Self {
        let mut whole = DamageList::default();
        whole.add(display);
        Self { buffers: vec![whole; count] }
    }

    /// Every buffer owes `rect` from now on.
    pub fn add(&mut self, rect: Rect) {
        for buffer in &mut self.buffers {
            buffer.add(rect);
        }
    }

    /// What `buffer` owes, which counts as paid.
    pub fn pay(&mut self, buffer: usize) -> DamageList {
        self.buffers.get_mut(buffer).map(DamageList::take).unwrap_or_default()
    }

    /// `buffer` is up to date.
    #[must_use]
    pub fn is_paid(&self, buffer: usize) -> bool {
        self.buffers.get(buffer).is_none_or(DamageList::is_empty)
    }
}
