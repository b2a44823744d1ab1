//! The one way of every input event.
//!
//! Devices report where they are on themselves; the router places that on the display, keeps the mouse cursor, and
//! decides who gets the event. Today there is one receiver, the trusted UI. Whoever comes later gets in line here
//! and nowhere else, in this order: lock, secure attention, trusted UI, the zone that has the focus.

use desktop_model::geometry::{Point, Rect, Size};
use desktop_model::pointer::{Contact, PointerEvent, Stage};
use desktop_model::scale::Scale;

use crate::compose::Cursor;
use crate::input::decoder::{DeviceEvent, Fraction, SLOTS, TouchStage};

/// Where an event goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routed {
    /// To the trusted UI.
    TrustedUi(PointerEvent),
}

/// What an event led to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The event's receiver; `None`: nobody.
    pub routed: Option<Routed>,
    /// Where the cursor was or is, when it moved or changed between shown and hidden.
    pub cursor_damage: [Rect; 2],
}

/// The router's state.
#[derive(Clone, Debug)]
pub struct Router {
    display: Size,
    scale: Scale,
    cursor: Point,
    cursor_shown: bool,
    /// The device whose button is down.
    pressed_by: Option<u8>,
}

impl Router {
    /// For a display of this size.
    #[must_use]
    pub fn new(display: Size, scale: Scale) -> Self {
        let cursor = Point { x: display.width / 2, y: display.height / 2 };
        Self { display, scale, cursor, cursor_shown: false, pressed_by: None }
    }

    /// The display changed.
    pub fn set_display(&mut self, display: Size, scale: Scale) {
        *self = Self::new(display, scale);
    }

    /// The mouse cursor; `None` while fingers are used.
    #[must_use]
    pub fn cursor(&self) -> Option<Cursor> {
        self.cursor_shown.then_some(Cursor { tip: self.cursor, scale: self.scale })
    }

    /// Takes an event of the input device numbered `device`.
    pub fn route(&mut self, device: u8, event: DeviceEvent) -> Outcome {
        match event {
            DeviceEvent::Touch { slot, stage, x, y } => {
                let cursor_damage = self.show_cursor(None);
                let stage = match stage {
                    TouchStage::Down => Stage::Down,
                    TouchStage::Move => Stage::Move,
                    TouchStage::Up => Stage::Up,
                    TouchStage::Cancel => Stage::Cancel,
                };
                let at = self.place(x, y);
                let event = PointerEvent { contact: contact(device, slot), stage, at };
                Outcome { routed: Some(Routed::TrustedUi(event)), cursor_damage }
            }
            DeviceEvent::PointAt { x, y } => self.point(self.place(x, y)),
            DeviceEvent::PointBy { x, y } => {
                let along =
                    |from: i32, by: i32, side: i32| from.saturating_add(by).clamp(0, (side - 1).max(0));
                self.point(Point {
                    x: along(self.cursor.x, x, self.display.width),
                    y: along(self.cursor.y, y, self.display.height),
                })
            }
            DeviceEvent::Button { down } => self.button(device, down),
            // No receiver takes keys yet.
            DeviceEvent::Key { .. } => Outcome::default(),
        }
    }

    fn button(&mut self, device: u8, down: bool) -> Outcome {
        // One pointer: a second mouse's button is nothing new while the first one's is down.
        match (self.pressed_by, down) {
            (None, true) => self.pressed_by = Some(device),
            (Some(by), false) if by == device => self.pressed_by = None,
            _ => return Outcome::default(),
        }
        let stage = if down { Stage::Down } else { Stage::Up };
        let cursor_damage = self.show_cursor(Some(self.cursor));
        let event = PointerEvent { contact: MOUSE, stage, at: self.cursor };
        Outcome { routed: Some(Routed::TrustedUi(event)), cursor_damage }
    }

    fn point(&mut self, at: Point) -> Outcome {
        let cursor_damage = self.show_cursor(Some(at));
        let event = PointerEvent { contact: MOUSE, stage: Stage::Move, at };
        Outcome { routed: Some(Routed::TrustedUi(event)), cursor_damage }
    }

    /// Shows the cursor at a place, or hides it; says which pixels changed.
    fn show_cursor(&mut self, at: Option<Point>) -> [Rect; 2] {
        let before = self.cursor();
        self.cursor_shown = at.is_some();
        self.cursor = at.unwrap_or(self.cursor);
        let after = self.cursor();
        if before == after {
            return [Rect::default(); 2];
        }
        [before, after].map(|cursor| cursor.map(Cursor::rect).unwrap_or_default())
    }

    fn place(&self, x: Fraction, y: Fraction) -> Point {
        let along = |fraction: Fraction, side: i32| {
            let most = i64::from((side - 1).max(0));
            i32::try_from((i64::from(fraction) * most + 32_767) / 65_535).unwrap_or(0)
        };
        Point { x: along(x, self.display.width), y: along(y, self.display.height) }
    }
}

/// The mouse, all mice together.
const MOUSE: Contact = Contact(u32::MAX);

fn contact(device: u8, slot: u8) -> Contact {
    Contact(u32::from(device) * u32::from(SLOTS) + u32::from(slot))
}

#[cfg(test)]
mod tests;
