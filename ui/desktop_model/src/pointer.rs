//! Touches and clicks, after the input router placed them on the display.

use crate::geometry::Point;

/// One finger or the mouse button: the same from [`Stage::Down`] to [`Stage::Up`] or [`Stage::Cancel`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Contact(pub u32);

/// What a contact does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It touches the display.
    Down,
    /// It moves while it touches.
    Move,
    /// It leaves the display.
    Up,
    /// It ends without a meaning: the device went away or events were lost.
    Cancel,
}

/// An event of one contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PointerEvent {
    /// Which contact.
    pub contact: Contact,
    /// What it does.
    pub stage: Stage,
    /// Where; for `Cancel` the last known place.
    pub at: Point,
}
