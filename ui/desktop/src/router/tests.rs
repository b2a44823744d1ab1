use desktop_model::geometry::{Point, Rect, Size};
use desktop_model::picker::{Action, Link, Picker};
use desktop_model::pointer::{PointerEvent, Stage};
use desktop_model::scale::Scale;
use desktop_model::status::{Colour, Login, Phase, Status, Zone};
use proptest::prelude::*;

use super::{Routed, Router};
use crate::input::decoder::{Axis, Decoder, DeviceEvent, Kind, RawEvent, TouchStage};

const SIZE: Size = Size { width: 1280, height: 800 };

fn ui(router: &mut Router, device: u8, event: DeviceEvent) -> PointerEvent {
    let Some(Routed::TrustedUi(event)) = router.route(device, event).routed else { panic!("goes to the UI") };
    event
}

#[test]
fn a_touch_lands_where_the_finger_is_and_hides_the_cursor() {
    let mut router = Router::new(SIZE, Scale::One);
    let moved = router.route(0, DeviceEvent::PointBy { x: 1, y: 0 });
    assert_eq!(moved.cursor_damage[1].x, 641);
    let corner = DeviceEvent::Touch { slot: 1, stage: TouchStage::Down, x: u16::MAX, y: u16::MAX };
    let outcome = router.route(3, corner);
    assert_eq!(outcome.cursor_damage[0].x, 641);
    let Some(Routed::TrustedUi(event)) = outcome.routed else { panic!("goes to the UI") };
    assert_eq!((event.at, event.stage), (Point { x: 1279, y: 799 }, Stage::Down));
    assert_eq!(router.cursor(), None);
    assert_ne!(event.contact, ui(&mut router, 4, corner).contact, "two screens are two contacts");
}

#[test]
fn one_button_at_a_time() {
    let mut router = Router::new(SIZE, Scale::One);
    assert_eq!(ui(&mut router, 1, DeviceEvent::Button { down: true }).stage, Stage::Down);
    assert_eq!(router.route(2, DeviceEvent::Button { down: true }).routed, None);
    assert_eq!(router.route(2, DeviceEvent::Button { down: false }).routed, None);
    assert_eq!(ui(&mut router, 1, DeviceEvent::Button { down: false }).stage, Stage::Up);
    assert_eq!(router.route(1, DeviceEvent::Button { down: false }).routed, None);
}

#[test]
fn keys_go_nowhere_yet() {
    let mut router = Router::new(SIZE, Scale::One);
    assert_eq!(router.route(0, DeviceEvent::Key { code: 28, down: true }).routed, None);
}

/// The whole way: what the kernel reports for a finger on a tile becomes the start of that tile's zone.
#[test]
fn a_finger_on_a_tile_starts_its_zone() {
    let mut picker = Picker::new(SIZE, Scale::One);
    picker.set_link(Link::Up);
    let zones = ["office", "research", "vault"].map(|name| Zone {
        name: name.to_owned(),
        label: name.to_owned(),
        colour: Colour::Blue,
        phase: Phase::Stopped,
        reason: None,
        login: Login::Touch,
        tunnel: None,
    });
    picker.set_status(0, Status { zones: zones.to_vec(), ..Status::default() });
    let mut router = Router::new(SIZE, Scale::One);
    let axis = Axis { least: 0, most: 32_767 };
    let mut decoder = Decoder::new(Kind::MultiTouch { x: axis, y: axis });
    for (name, tile) in ["office", "research", "vault"].iter().zip(picker.layout().tiles.clone()) {
        let on = |at: i32, side: i32| at * 32_767 / side;
        let x = on(tile.x + tile.width / 2, SIZE.width);
        let y = on(tile.y + tile.height / 2, SIZE.height);
        let frames =
            [(3, 0x2f, 0), (3, 0x39, 1), (3, 0x35, x), (3, 0x36, y), (0, 0, 0), (3, 0x39, -1), (0, 0, 0)];
        let mut events = Vec::new();
        for (kind, code, value) in frames {
            decoder.feed(RawEvent { kind, code, value }, &mut events);
        }
        let actions: Vec<Action> =
            events.into_iter().filter_map(|event| picker.pointer(10, ui(&mut router, 0, event), 0)).collect();
        assert_eq!(actions, [Action::Start { zone: (*name).to_owned() }]);
    }
}

fn an_event() -> impl Strategy<Value = DeviceEvent> {
    let stage = prop_oneof![
        Just(TouchStage::Down),
        Just(TouchStage::Move),
        Just(TouchStage::Up),
        Just(TouchStage::Cancel)
    ];
    prop_oneof![
        (0..16u8, stage, any::<u16>(), any::<u16>()).prop_map(|(slot, stage, x, y)| DeviceEvent::Touch {
            slot,
            stage,
            x,
            y
        }),
        (any::<u16>(), any::<u16>()).prop_map(|(x, y)| DeviceEvent::PointAt { x, y }),
        (any::<i32>(), any::<i32>()).prop_map(|(x, y)| DeviceEvent::PointBy { x, y }),
        any::<bool>().prop_map(|down| DeviceEvent::Button { down }),
        (any::<u16>(), any::<bool>()).prop_map(|(code, down)| DeviceEvent::Key { code, down }),
    ]
}

proptest! {
    #[test]
    fn property_nothing_leaves_the_display_and_every_cursor_change_is_damage(
        events in proptest::collection::vec((0..4u8, an_event()), 0..60)
    ) {
        let mut router = Router::new(SIZE, Scale::Two);
        for (device, event) in events {
            let before = router.cursor();
            let outcome = router.route(device, event);
            let inside = |at| SIZE.rect().contains(at);
            if let Some(Routed::TrustedUi(event)) = outcome.routed {
                prop_assert!(inside(event.at), "{event:?}");
            }
            let after = router.cursor();
            prop_assert!(after.is_none_or(|cursor| inside(cursor.tip)));
            let damage = outcome.cursor_damage.iter().fold(Rect::default(), |all, rect| all.union(*rect));
            if before != after {
                for cursor in [before, after].into_iter().flatten() {
                    prop_assert!(damage.encloses(cursor.rect()));
                }
            }
        }
    }
}
