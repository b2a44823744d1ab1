//! Another PIN for a zone, or for the display's lock.

use super::pad::{
    CHOSEN, LATER, UNCHOSEN, card, checking, go, not_opened, pad, picker_with, type_digits, with_pin,
};
use super::{DISPLAY, tap};
use crate::pad::{ARMING, Cause, IDLE};
use crate::picker::{Action, Link, Picker};
use crate::scale::Scale;
use crate::status::{Login, Phase, PinLogin, Screen, Status};
use crate::view::Level;

/// Late enough that the second form of the pad takes touches.
const TYPING: u64 = LATER + 2 * ARMING;

/// Asks for the old PIN of a zone.
fn old_of_zone() -> Picker {
    let mut picker = picker_with(CHOSEN);
    let tile = picker.layout().tiles[0];
    assert_eq!(tap(&mut picker, 1000, tile), None);
    let change = pad(&picker, LATER).change.expect("offered").rect;
    assert_eq!(tap(&mut picker, LATER, change), None);
    picker
}

fn with_screen(pin: PinLogin) -> Status {
    let screen = Screen { locked: false, login: Login::Pin(pin) };
    Status { screen, ..with_pin(CHOSEN, Phase::Stopped) }
}

/// Asks for the old PIN of the display.
fn old_of_screen() -> Picker {
    let mut picker = picker_with(CHOSEN);
    picker.set_status(0, with_screen(CHOSEN));
    let button = picker.view(0).panel.screen_pin.expect("offered").rect;
    assert_eq!(tap(&mut picker, 1000, button), None);
    picker
}

fn type_all(picker: &mut Picker, pins: [&str; 3]) -> Option<Action> {
    let mut action = None;
    for digits in pins {
        assert_eq!(action, None);
        type_digits(picker, TYPING, digits);
        action = go(picker, TYPING);
    }
    action
}

fn changes(action: Option<&Action>, wanted: Option<&str>) -> bool {
    let (zone, pin, new) = match action {
        Some(Action::ChangePin { zone, pin, new }) => (Some(zone.as_str()), pin, new),
        Some(Action::ChangeScreenPin { pin, new }) => (None, pin, new),
        _ => return false,
    };
    zone == wanted && pin.characters().eq("135790".chars()) && new.characters().eq("246802".chars())
}

#[test]
fn old_new_and_new_again_go_out_once_and_a_card_says_that_it_is_done() {
    for (mut picker, zone, name) in
        [(old_of_zone(), Some("office"), "OFFICE"), (old_of_screen(), None, "this display")]
    {
        assert_eq!(pad(&picker, TYPING).headline, format!("The old PIN of {name}"));
        assert_eq!(pad(&picker, TYPING).change, None);
        let action = type_all(&mut picker, ["135790", "246802", "246802"]);
        assert!(changes(action.as_ref(), zone), "{action:?}");
        assert_eq!(pad(&picker, TYPING).headline, "Changing the PIN ...");
        assert_eq!(picker.targets(), [], "no key works");
        picker.pin_changed(TYPING, "research");
        assert!(pad(&picker, TYPING).busy.is_some(), "another zone's");
        match zone {
            Some(zone) => picker.pin_changed(TYPING, zone),
            None => picker.screen_pin_changed(TYPING),
        }
        let shown = card(&picker, TYPING);
        assert_eq!((shown.level, shown.onward), (Level::Good, None));
        assert!(shown.headline.ends_with("has another PIN"), "{}", shown.headline);
        assert_eq!(tap(&mut picker, TYPING + ARMING, shown.leave.rect), None);
        assert_eq!(picker.view(TYPING + ARMING).front, None);
    }
}

#[test]
fn two_that_differ_are_chosen_anew_and_the_old_one_is_kept_for_it() {
    let mut picker = old_of_zone();
    assert_eq!(type_all(&mut picker, ["135790", "246802", "246803"]), None);
    assert_eq!(pad(&picker, TYPING).message, "The two were not the same. Choose again.");
    assert_eq!(pad(&picker, TYPING).headline, "Choose a new PIN for OFFICE");
    type_digits(&mut picker, TYPING, "246802");
    assert_eq!(go(&mut picker, TYPING), None);
    type_digits(&mut picker, TYPING, "246802");
    assert!(changes(go(&mut picker, TYPING).as_ref(), Some("office")));
}

#[test]
fn a_wrong_old_one_is_asked_for_again_and_other_causes_are_cards() {
    for (mut picker, screen) in [(old_of_zone(), false), (old_of_screen(), true)] {
        let tell = |picker: &mut Picker, cause, tries| {
            let why = not_opened(cause, tries);
            if screen { picker.not_unlocked(TYPING, &why) } else { picker.not_opened(TYPING, &why) }
        };
        assert!(type_all(&mut picker, ["135790", "246802", "246802"]).is_some());
        tell(&mut picker, Cause::WrongPin, Some(2));
        let shown = pad(&picker, TYPING);
        assert!(shown.headline.starts_with("The old PIN"), "{}", shown.headline);
        assert_eq!((shown.message.as_str(), shown.typed), ("Wrong PIN. 2 tries left.", 0));
        let action = type_all(&mut picker, ["135790", "246802", "246802"]);
        assert!(changes(action.as_ref(), (!screen).then_some("office")));
        tell(&mut picker, Cause::TpmBusy, None);
        assert!(card(&picker, TYPING).headline.ends_with("has to wait for the TPM"));
        let retry = picker.pad_layout().retry;
        assert_eq!(tap(&mut picker, TYPING + ARMING, retry), None);
        assert_eq!(pad(&picker, TYPING).typed, 0);
        let again = pad(&picker, TYPING).headline.starts_with("The old PIN");
        assert_eq!(again, screen, "the display's goes on where it was");
    }
    let mut picker = old_of_zone();
    assert!(type_all(&mut picker, ["135790", "246802", "246802"]).is_some());
    picker.not_opened(TYPING, &not_opened(Cause::WrongPin, Some(0)));
    assert_eq!(card(&picker, TYPING).headline, "OFFICE is locked out");
    let mut picker = old_of_screen();
    assert!(type_all(&mut picker, ["135790", "246802", "246802"]).is_some());
    picker.set_link(Link::Lost);
    assert!(card(&picker, TYPING).reason.contains("went away"));
}

#[test]
fn it_is_offered_where_there_is_a_pin_and_nothing_else_is_under_way() {
    let mut picker = picker_with(UNCHOSEN);
    let tile = picker.layout().tiles[0];
    assert_eq!(tap(&mut picker, 1000, tile), None);
    let change = picker.pad_layout().change;
    assert_eq!(pad(&picker, LATER).change, None, "there is none yet");
    assert_eq!(tap(&mut picker, LATER, change), None);
    assert_eq!(pad(&picker, LATER).headline, "Choose a PIN for OFFICE");
    assert_eq!(pad(&checking(), LATER).change, None, "it is being checked");
    for (login, offered) in [
        (Login::Touch, false),
        (Login::Pin(UNCHOSEN), false),
        (Login::Pin(PinLogin { tries_left: Some(0), ..CHOSEN }), false),
        (Login::Pin(CHOSEN), true),
    ] {
        let mut picker = picker_with(CHOSEN);
        picker.set_status(0, Status { screen: Screen { locked: false, login }, ..with_screen(CHOSEN) });
        assert_eq!(picker.view(0).panel.screen_pin.is_some(), offered, "{login:?}");
        let button = picker.layout().screen_pin;
        assert_eq!(tap(&mut picker, 0, button), None);
        assert_eq!(picker.view(0).front.is_some(), offered, "{login:?}");
    }
}

#[test]
fn typed_pins_are_gone_after_cancel_idle_a_lost_link_and_a_changed_display() {
    for make in [old_of_zone, old_of_screen] {
        let half = || {
            let mut picker = make();
            type_digits(&mut picker, TYPING, "135790");
            assert_eq!(go(&mut picker, TYPING), None);
            type_digits(&mut picker, TYPING, "246802");
            picker
        };
        let mut picker = half();
        picker.set_display(DISPLAY, Scale::One);
        let shown = pad(&picker, TYPING);
        assert!(shown.typed == 0 && shown.headline.starts_with("The old PIN"), "{}", shown.headline);
        let ways: [fn(&mut Picker); 3] = [
            |picker| picker.set_link(Link::Lost),
            |picker| picker.tick(TYPING + IDLE),
            |picker| {
                let cancel = picker.pad_layout().cancel;
                assert_eq!(tap(picker, TYPING, cancel), None);
            },
        ];
        for way in ways {
            let mut picker = half();
            way(&mut picker);
            assert_eq!(picker.view(TYPING).front, None);
            assert!(!format!("{picker:?}").contains("Digits"), "{picker:?}");
        }
    }
}

#[test]
fn a_double_touch_on_the_button_types_nothing() {
    let mut picker = old_of_zone();
    type_digits(&mut picker, LATER + ARMING - 1, "1");
    assert_eq!(pad(&picker, LATER).typed, 0);
    type_digits(&mut picker, LATER + ARMING, "1");
    assert_eq!(pad(&picker, LATER).typed, 1);
}

#[test]
fn nothing_printed_holds_a_pin() {
    let printed = |pins: [&str; 3]| {
        let mut picker = old_of_zone();
        let action = type_all(&mut picker, pins);
        format!("{picker:?} {action:?} {:?}", picker.view(TYPING))
    };
    assert_eq!(printed(["135790", "246802", "246802"]), printed(["000000", "111111", "111111"]));
}
