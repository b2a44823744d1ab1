//! Linux input events as touches, movements, buttons and keys.
//!
//! Events come in frames that end with `SYN_REPORT`; what is emitted is the state at the frame's end. After
//! `SYN_DROPPED` the kernel threw events away: every open touch is cancelled and everything up to the next
//! frame's end is ignored. Numbers are those of `linux/input-event-codes.h`.

/// `struct input_event` without its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawEvent {
    /// `EV_*`.
    pub kind: u16,
    /// The code within its kind.
    pub code: u16,
    /// The value.
    pub value: i32,
}

/// The range that an axis reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Axis {
    /// At the left or top edge.
    pub least: i32,
    /// At the right or bottom edge.
    pub most: i32,
}

/// What a device is, by what it can report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the axes' names say it")]
pub enum Kind {
    /// A touch screen with slots (protocol B).
    MultiTouch { x: Axis, y: Axis },
    /// A touch screen for one finger.
    SingleTouch { x: Axis, y: Axis },
    /// A pointer with absolute position, as virtual machines have.
    Tablet { x: Axis, y: Axis },
    /// A pointer with relative movement.
    Mouse,
    /// Keys only.
    Keys,
}

/// How far across its range an axis is: 0 at one edge, 65 535 at the other.
pub type Fraction = u16;

/// The state of a touch at the end of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TouchStage {
    /// It began.
    Down,
    /// It moved.
    Move,
    /// It ended.
    Up,
    /// It is void.
    Cancel,
}

/// What a device reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceEvent {
    /// A finger.
    Touch {
        /// Which.
        slot: u8,
        /// What it does.
        stage: TouchStage,
        /// Where, across.
        x: Fraction,
        /// Where, down.
        y: Fraction,
    },
    /// The pointer is at a place.
    PointAt {
        /// Where, across.
        x: Fraction,
        /// Where, down.
        y: Fraction,
    },
    /// The pointer moved.
    PointBy {
        /// To the right.
        x: i32,
        /// Down.
        y: i32,
    },
    /// The primary button was pressed or released.
    Button {
        /// It is down.
        down: bool,
    },
    /// A key changed, by Linux key code; repeats are left out.
    Key {
        /// Which.
        code: u16,
        /// It is down.
        down: bool,
    },
}

/// The most slots followed; further fingers are ignored.
pub const SLOTS: u8 = 16;

const EV_SYN: u16 = 0;
const EV_KEY: u16 = 1;
const EV_REL: u16 = 2;
const EV_ABS: u16 = 3;
const SYN_REPORT: u16 = 0;
const SYN_DROPPED: u16 = 3;
const REL_X: u16 = 0;
const REL_Y: u16 = 1;
const ABS_X: u16 = 0;
const ABS_Y: u16 = 1;
const ABS_MT_SLOT: u16 = 0x2f;
const ABS_MT_POSITION_X: u16 = 0x35;
const ABS_MT_POSITION_Y: u16 = 0x36;
const ABS_MT_TRACKING_ID: u16 = 0x39;
const BTN_MISC: u16 = 0x100;
const BTN_LEFT: u16 = 0x110;
const BTN_TOUCH: u16 = 0x14a;
const BTN_LAST: u16 = 0x15f;

#[derive(Clone, Copy, Debug, Default)]
struct Finger {
    x: i32,
    y: i32,
    /// Down in the frame being read.
    down: bool,
    /// Down at the end of the frame before.
    was_down: bool,
    changed: bool,
    /// Lifted and put down again within one frame.
    replaced: bool,
}

/// One device's state.
#[derive(Clone, Debug)]
pub struct Decoder {
    kind: Kind,
    /// Events are ignored until the frame ends.
    dropping: bool,
    slot: Option<usize>,
    fingers: [Finger; SLOTS as usize],
    moved: (i32, i32),
    pointed: bool,
    button: bool,
    button_was: bool,
    keys_down: Vec<u16>,
}

impl Decoder {
    /// For a device of `kind`.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            dropping: false,
            slot: Some(0),
            fingers: [Finger::default(); SLOTS as usize],
            moved: (0, 0),
            pointed: false,
            button: false,
            button_was: false,
            keys_down: Vec::new(),
        }
    }

    /// Goes on where the device's last reader stopped: the kernel reports only what differs from that.
    pub fn resume(&mut self, slot: i32, positions: &[(i32, i32)]) {
        self.slot = usize::try_from(slot).ok().filter(|slot| *slot < self.fingers.len());
        for (finger, (x, y)) in self.fingers.iter_mut().zip(positions) {
            (finger.x, finger.y) = (*x, *y);
        }
    }

    /// Takes one event; what it completes is added to `out`.
    pub fn feed(&mut self, event: RawEvent, out: &mut Vec<DeviceEvent>) {
        match (event.kind, event.code) {
            (EV_SYN, SYN_DROPPED) => {
                self.give_up(out);
                self.dropping = true;
            }
            (EV_SYN, SYN_REPORT) if self.dropping => self.dropping = false,
            _ if self.dropping => {}
            (EV_SYN, SYN_REPORT) => self.end_frame(out),
            (EV_KEY, code) => self.key(code, event.value, out),
            (EV_REL, REL_X) => self.moved.0 = self.moved.0.saturating_add(event.value),
            (EV_REL, REL_Y) => self.moved.1 = self.moved.1.saturating_add(event.value),
            (EV_ABS, code) => self.absolute(code, event.value),
            _ => {}
        }
    }

    /// Cancels every open touch and releases button and keys.
    pub fn give_up(&mut self, out: &mut Vec<DeviceEvent>) {
        let (x, y) = self.axes();
        for (slot, finger) in (0..).zip(&mut self.fingers) {
            if finger.was_down {
                let (x, y) = (fraction(x, finger.x), fraction(y, finger.y));
                out.push(DeviceEvent::Touch { slot, stage: TouchStage::Cancel, x, y });
            }
            *finger = Finger { x: finger.x, y: finger.y, ..Finger::default() };
        }
        if std::mem::take(&mut self.button_was) {
            out.push(DeviceEvent::Button { down: false });
        }
        self.button = false;
        self.moved = (0, 0);
        out.extend(self.keys_down.drain(..).map(|code| DeviceEvent::Key { code, down: false }));
    }

    fn key(&mut self, code: u16, value: i32, out: &mut Vec<DeviceEvent>) {
        match (self.kind, code, value) {
            (_, _, 2) => {}
            (Kind::SingleTouch { .. }, BTN_TOUCH, _) => {
                self.fingers[0].down = value != 0;
                self.fingers[0].changed = true;
            }
            (Kind::Tablet { .. } | Kind::Mouse, BTN_LEFT, _) => self.button = value != 0,
            (_, BTN_MISC..=BTN_LAST, _) => {}
            (_, _, 0) => {
                if let Some(held) = self.keys_down.iter().position(|held| *held == code) {
                    self.keys_down.swap_remove(held);
                    out.push(DeviceEvent::Key { code, down: false });
                }
            }
            _ => {
                // No keyboard has more keys than codes; the bound only guards against a broken driver.
                if !self.keys_down.contains(&code) && self.keys_down.len() < 256 {
                    self.keys_down.push(code);
                    out.push(DeviceEvent::Key { code, down: true });
                }
            }
        }
    }

    fn absolute(&mut self, code: u16, value: i32) {
        match self.kind {
            Kind::MultiTouch { .. } => self.multi_touch(code, value),
            Kind::SingleTouch { .. } | Kind::Tablet { .. } => {
                let finger = &mut self.fingers[0];
                match code {
                    ABS_X => finger.x = value,
                    ABS_Y => finger.y = value,
                    _ => return,
                }
                finger.changed = true;
                self.pointed = true;
            }
            Kind::Mouse | Kind::Keys => {}
        }
    }

    fn multi_touch(&mut self, code: u16, value: i32) {
        if code == ABS_MT_SLOT {
            self.slot = usize::try_from(value).ok().filter(|slot| *slot < usize::from(SLOTS));
            return;
        }
        let Some(finger) = self.slot.and_then(|slot| self.fingers.get_mut(slot)) else { return };
        match code {
            ABS_MT_TRACKING_ID => {
                finger.replaced |= finger.was_down && value >= 0;
                finger.down = value >= 0;
            }
            ABS_MT_POSITION_X => finger.x = value,
            ABS_MT_POSITION_Y => finger.y = value,
            _ => return,
        }
        finger.changed = true;
    }

    fn end_frame(&mut self, out: &mut Vec<DeviceEvent>) {
        let (x_axis, y_axis) = self.axes();
        match self.kind {
            Kind::MultiTouch { .. } | Kind::SingleTouch { .. } => {
                for (slot, finger) in (0..).zip(&mut self.fingers) {
                    if !std::mem::take(&mut finger.changed) {
                        continue;
                    }
                    let (x, y) = (fraction(x_axis, finger.x), fraction(y_axis, finger.y));
                    let mut push = |stage| out.push(DeviceEvent::Touch { slot, stage, x, y });
                    match (finger.was_down, finger.down) {
                        (true, true) if std::mem::take(&mut finger.replaced) => {
                            push(TouchStage::Cancel);
                            push(TouchStage::Down);
                        }
                        (true, true) => push(TouchStage::Move),
                        (false, true) => push(TouchStage::Down),
                        (true, false) => push(TouchStage::Up),
                        (false, false) => {}
                    }
                    finger.replaced = false;
                    finger.was_down = finger.down;
                }
            }
            Kind::Tablet { .. } => {
                if std::mem::take(&mut self.pointed) {
                    let (x, y) = (fraction(x_axis, self.fingers[0].x), fraction(y_axis, self.fingers[0].y));
                    out.push(DeviceEvent::PointAt { x, y });
                }
            }
            Kind::Mouse => {
                let (x, y) = std::mem::take(&mut self.moved);
                if (x, y) != (0, 0) {
                    out.push(DeviceEvent::PointBy { x, y });
                }
            }
            Kind::Keys => {}
        }
        if self.button != self.button_was {
            self.button_was = self.button;
            out.push(DeviceEvent::Button { down: self.button });
        }
    }

    fn axes(&self) -> (Axis, Axis) {
        match self.kind {
            Kind::MultiTouch { x, y } | Kind::SingleTouch { x, y } | Kind::Tablet { x, y } => (x, y),
            Kind::Mouse | Kind::Keys => (Axis::default(), Axis::default()),
        }
    }
}

/// Where `value` is within its axis; outside values count as the edge.
fn fraction(axis: Axis, value: i32) -> Fraction {
    let span = i64::from(axis.most) - i64::from(axis.least);
    if span <= 0 {
        return 0;
    }
    let offset = (i64::from(value) - i64::from(axis.least)).clamp(0, span);
    Fraction::try_from(offset * i64::from(Fraction::MAX) / span).unwrap_or(Fraction::MAX)
}

#[cfg(test)]
mod tests;
