use proptest::prelude::*;

use super::{Axis, Decoder, DeviceEvent, Kind, RawEvent, TouchStage};

const X: Axis = Axis { least: 0, most: 32_767 };
const MULTI: Kind = Kind::MultiTouch { x: X, y: X };

fn feed(decoder: &mut Decoder, events: &[(u16, u16, i32)]) -> Vec<DeviceEvent> {
    let mut out = Vec::new();
    for &(kind, code, value) in events {
        decoder.feed(RawEvent { kind, code, value }, &mut out);
    }
    out
}

fn touch(slot: u8, stage: TouchStage, x: u16, y: u16) -> DeviceEvent {
    DeviceEvent::Touch { slot, stage, x, y }
}

#[test]
fn two_fingers_come_move_and_go() {
    let mut decoder = Decoder::new(MULTI);
    let down = [
        (3, 0x2f, 0),
        (3, 0x39, 5),
        (3, 0x35, 32_767),
        (3, 0x36, 0),
        (3, 0x2f, 1),
        (3, 0x39, 6),
        (3, 0x35, 0),
        (3, 0x36, 32_767),
        (1, 0x14a, 1),
        (0, 0, 0),
    ];
    let expected = [touch(0, TouchStage::Down, u16::MAX, 0), touch(1, TouchStage::Down, 0, u16::MAX)];
    assert_eq!(feed(&mut decoder, &down), expected);
    // The slot stays selected from frame to frame.
    let moved = feed(&mut decoder, &[(3, 0x36, 0), (0, 0, 0)]);
    assert_eq!(moved, [touch(1, TouchStage::Move, 0, 0)]);
    let up = feed(&mut decoder, &[(3, 0x2f, 0), (3, 0x39, -1), (0, 0, 0)]);
    assert_eq!(up, [touch(0, TouchStage::Up, u16::MAX, 0)]);
    assert_eq!(feed(&mut decoder, &[(0, 0, 0)]), []);
}

#[test]
fn nothing_is_said_before_the_frame_ends() {
    let mut decoder = Decoder::new(MULTI);
    assert_eq!(feed(&mut decoder, &[(3, 0x39, 5), (3, 0x35, 1), (3, 0x36, 1)]), []);
}

#[test]
fn a_finger_replaced_within_a_frame_is_another_touch() {
    let mut decoder = Decoder::new(MULTI);
    let _ = feed(&mut decoder, &[(3, 0x39, 5), (0, 0, 0)]);
    let again = feed(&mut decoder, &[(3, 0x39, -1), (3, 0x39, 6), (3, 0x35, 32_767), (0, 0, 0)]);
    let stages = [touch(0, TouchStage::Cancel, u16::MAX, 0), touch(0, TouchStage::Down, u16::MAX, 0)];
    assert_eq!(again, stages);
}

#[test]
fn lost_events_cancel_what_is_down_and_the_rest_of_the_frame_is_ignored() {
    let mut decoder = Decoder::new(MULTI);
    let _ = feed(&mut decoder, &[(3, 0x39, 5), (3, 0x35, 32_767), (0, 0, 0)]);
    let lost = feed(&mut decoder, &[(0, 3, 0), (3, 0x39, 9), (0, 0, 0)]);
    assert_eq!(lost, [touch(0, TouchStage::Cancel, u16::MAX, 0)]);
    assert_eq!(feed(&mut decoder, &[(3, 0x35, 0), (0, 0, 0)]), []);
}

#[test]
fn a_tablet_points_before_it_clicks() {
    let mut decoder = Decoder::new(Kind::Tablet { x: X, y: X });
    let frame = feed(&mut decoder, &[(1, 0x110, 1), (3, 0, 32_767), (3, 1, 0), (0, 0, 0)]);
    assert_eq!(frame, [DeviceEvent::PointAt { x: u16::MAX, y: 0 }, DeviceEvent::Button { down: true }]);
    assert_eq!(feed(&mut decoder, &[(1, 0x110, 0), (0, 0, 0)]), [DeviceEvent::Button { down: false }]);
}

#[test]
fn a_mouse_moves_by_sums_and_a_single_touch_is_a_touch() {
    let mut mouse = Decoder::new(Kind::Mouse);
    let frame = feed(&mut mouse, &[(2, 0, 3), (2, 0, 4), (2, 1, -1), (2, 8, 1), (0, 0, 0)]);
    assert_eq!(frame, [DeviceEvent::PointBy { x: 7, y: -1 }]);
    let mut single = Decoder::new(Kind::SingleTouch { x: X, y: X });
    let frame = feed(&mut single, &[(3, 0, 32_767), (3, 1, 32_767), (1, 0x14a, 1), (0, 0, 0)]);
    assert_eq!(frame, [touch(0, TouchStage::Down, u16::MAX, u16::MAX)]);
}

#[test]
fn keys_do_not_repeat_and_are_released_when_the_device_goes() {
    let mut decoder = Decoder::new(Kind::Keys);
    let events = feed(&mut decoder, &[(1, 30, 1), (1, 30, 2), (1, 31, 1), (1, 31, 0), (0, 0, 0)]);
    let key = |code, down| DeviceEvent::Key { code, down };
    assert_eq!(events, [key(30, true), key(31, true), key(31, false)]);
    let mut out = Vec::new();
    decoder.give_up(&mut out);
    assert_eq!(out, [key(30, false)]);
}

fn a_raw_event() -> impl Strategy<Value = RawEvent> {
    let interesting = prop_oneof![
        Just((0, 0, 0)),
        Just((0, 3, 0)),
        (0..20i32).prop_map(|slot| (3, 0x2f, slot)),
        (-1..9i32).prop_map(|id| (3, 0x39, id)),
        any::<i32>().prop_map(|x| (3, 0x35, x)),
        (any::<u16>(), any::<u16>(), any::<i32>()),
    ];
    interesting.prop_map(|(kind, code, value)| RawEvent { kind, code, value })
}

#[test]
fn a_touch_where_the_last_reader_stopped_needs_no_position() {
    let mut decoder = Decoder::new(MULTI);
    let mut untold = Decoder::new(MULTI);
    decoder.resume(0, &[(7, 9)]);
    let (mut out, mut lost) = (Vec::new(), Vec::new());
    for event in [(3, 0x39, 1), (0, 0, 0)] {
        let event = RawEvent { kind: event.0, code: event.1, value: event.2 };
        decoder.feed(event, &mut out);
        untold.feed(event, &mut lost);
    }
    assert!(matches!(out[..], [DeviceEvent::Touch { stage: TouchStage::Down, .. }]), "{out:?}");
    assert_ne!(out, lost);
}

proptest! {
    #[test]
    fn property_every_touch_that_begins_ends_once_whatever_the_device_says(
        events in proptest::collection::vec(a_raw_event(), 0..200)
    ) {
        let mut decoder = Decoder::new(MULTI);
        let mut out = Vec::new();
        for event in events {
            decoder.feed(event, &mut out);
        }
        decoder.give_up(&mut out);
        let mut down = [false; 256];
        for event in out {
            let DeviceEvent::Touch { slot, stage, .. } = event else { continue };
            let held = &mut down[usize::from(slot)];
            match stage {
                TouchStage::Down => prop_assert!(!std::mem::replace(held, true)),
                TouchStage::Move => prop_assert!(*held),
                TouchStage::Up | TouchStage::Cancel => prop_assert!(std::mem::replace(held, false)),
            }
        }
        prop_assert!(!down.contains(&true));
    }
}
