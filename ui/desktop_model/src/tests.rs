//! Tests of the model; the random-operation test is in [`random`].

use crate::geometry::{Point, Rect, Size};
use crate::picker::{Action, Picker};
use crate::pointer::{Contact, PointerEvent, Stage};
use crate::scale::Scale;
use crate::status::{Colour, Login, Phase, Recovery, Screen, Status, Tunnel, Uplink, Zone};

mod change;
mod lock;
mod making;
mod pad;
mod parts;
mod picker;
mod random;
mod recovery;
mod tunnel_key;

fn zone(name: &str, phase: Phase, tunnel: Option<Tunnel>) -> Zone {
    let colour = Colour::Green;
    let login = Login::Touch;
    Zone { name: name.to_owned(), label: name.to_uppercase(), colour, phase, reason: None, login, tunnel }
}

fn status(zones: Vec<Zone>) -> Status {
    let uplink = Uplink { carrier: true, address: Some("192.168.77.20".to_owned()) };
    let (policy, recovery) = ("demo".to_owned(), Recovery::Noted);
    let screen = Screen::default();
    Status { policy, demo: true, uplink, zones, recovery, screen, notices: Vec::new() }
}

fn tunnel(up: bool, sent: u64, received: u64) -> Tunnel {
    Tunnel { up, sent_bytes: sent, received_bytes: received, reason: None, public_key: None }
}

/// Randomness for pads.
const SEED: u64 = 0x0123_4567_89ab_cdef;

const DISPLAY: Size = Size { width: 1280, height: 800 };

fn centre(rect: Rect) -> Point {
    Point { x: rect.x + rect.width / 2, y: rect.y + rect.height / 2 }
}

fn event(contact: u32, stage: Stage, at: Point) -> PointerEvent {
    PointerEvent { contact: Contact(contact), stage, at }
}

/// One finger down and up at the centre of `rect`.
fn tap(picker: &mut Picker, now: u64, rect: Rect) -> Option<Action> {
    let at = centre(rect);
    assert_eq!(picker.pointer(now, event(7, Stage::Down, at), SEED), None, "a touch acts when it ends");
    picker.pointer(now, event(7, Stage::Up, at), SEED)
}

fn demo_picker(phase: Phase) -> Picker {
    let mut picker = Picker::new(DISPLAY, Scale::One);
    picker.set_link(crate::picker::Link::Up);
    let zones = vec![
        zone("office", phase, Some(tunnel(true, 10, 10))),
        zone("research", Phase::Stopped, Some(tunnel(false, 0, 0))),
        zone("vault", Phase::Stopped, None),
    ];
    picker.set_status(0, status(zones));
    picker
}
