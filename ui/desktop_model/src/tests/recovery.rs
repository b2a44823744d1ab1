//! The recovery key, typed.

use proptest::prelude::*;

use super::pad::{
    CHOSEN, LATER, SHUFFLED, UNCHOSEN, card, checking, go, not_opened, pad, picker_with, type_digits,
    with_pin,
};
use super::{DISPLAY, SEED, status, tap, zone};
use crate::pad::recovery::{GroupState, KEY_IDLE};
use crate::pad::{ARMING, Cause, IDLE, NotOpened, key_rect};
use crate::picker::{Action, Link, Picker};
use crate::scale::Scale;
use crate::status::{Phase, PinLogin};
use crate::view::{FrontView, Level, PadView};

/// The causes whose card leads to the recovery key.
pub(super) const LEADS_ON: [Cause; 7] = [
    Cause::LockedOut,
    Cause::TpmMissing,
    Cause::TpmCleared,
    Cause::TpmForeign,
    Cause::Damaged,
    Cause::BadRecoveryKey,
    Cause::WrongRecoveryKey,
];

const KEY: &str = "720885-000000-123453-654313-000011-424248-699996-499994";

/// Late enough that the key's pad takes touches.
const TYPING: u64 = LATER + 2 * ARMING;

/// The pad that asks for the key, after this cause.
fn asking(mut picker: Picker, cause: Cause) -> Picker {
    picker.not_opened(LATER, &not_opened(cause, None));
    let onward = card(&picker, LATER).onward.expect("it leads on");
    assert_eq!(onward.words, "Recovery key");
    assert_eq!(tap(&mut picker, LATER + ARMING, onward.rect), None);
    picker
}

fn locked() -> Picker {
    asking(checking(), Cause::LockedOut)
}

fn type_key(picker: &mut Picker, key: &str) {
    type_digits(picker, TYPING, &key.replace('-', ""));
}

fn back(picker: &mut Picker, times: usize) {
    for _ in 0..times {
        let back = picker.pad_layout().back;
        assert_eq!(tap(picker, TYPING, back), None);
    }
}

fn groups(view: &PadView) -> Vec<(String, GroupState)> {
    view.groups.iter().map(|group| (group.digits.characters().collect(), group.state)).collect()
}

/// What is asked of `zoned` with this key and PIN.
fn recovers(action: Option<&Action>, wanted: &str, digits: &str) -> bool {
    matches!(action, Some(Action::Recover { zone, key, pin })
        if zone == "office"
            && key.characters().collect::<String>() == wanted
            && pin.characters().collect::<String>() == digits)
}

/// A picker that waits for the answer to the key and the new PIN 246802.
fn recovering() -> Picker {
    let mut picker = locked();
    type_key(&mut picker, KEY);
    assert_eq!(go(&mut picker, TYPING), None);
    type_digits(&mut picker, TYPING, "246802");
    assert_eq!(go(&mut picker, TYPING), None);
    type_digits(&mut picker, TYPING, "246802");
    assert!(recovers(go(&mut picker, TYPING).as_ref(), KEY, "246802"));
    picker
}

#[test]
fn the_cards_that_a_key_helps_against_lead_to_it() {
    for cause in Cause::ALL {
        let mut picker = checking();
        picker.not_opened(LATER, &not_opened(cause, None));
        let Some(FrontView::Card(shown)) = picker.view(LATER).front else { continue };
        let leads = shown.onward.is_some_and(|onward| onward.words == "Recovery key");
        assert_eq!(leads, LEADS_ON.contains(&cause), "{cause:?}");
        if leads {
            let picker = asking(checking(), cause);
            let shown = pad(&picker, TYPING);
            assert_eq!((shown.headline.as_str(), shown.groups.len()), ("Recovery key", 8));
            assert!(shown.go.dull && shown.back.dull && !shown.cancel.dull);
        }
        picker.set_link(Link::Lost);
        assert_eq!(card(&picker, LATER).onward, None, "nothing can be asked for now");
    }
    // A tile that says that the zone is locked leads there, too.
    let mut picker = picker_with(PinLogin { tries_left: Some(0), ..CHOSEN });
    let tile = picker.layout().tiles[0];
    assert_eq!(tap(&mut picker, LATER, tile), None);
    let onward = card(&picker, LATER).onward.expect("it leads on").rect;
    assert_eq!(tap(&mut picker, LATER + ARMING, onward), None);
    assert_eq!(pad(&picker, TYPING).groups.len(), 8);
    // Started by somebody else: there is nothing to recover.
    let mut picker = checking();
    picker.not_opened(LATER, &not_opened(Cause::LockedOut, None));
    picker.set_status(LATER, with_pin(CHOSEN, Phase::Running));
    assert_eq!(tap(&mut picker, LATER + ARMING, onward), None);
    assert_eq!(picker.view(TYPING).front, None);
}

#[test]
fn groups_are_shown_in_clear_and_checked_when_they_are_whole() {
    let mut picker = locked();
    let shown = pad(&picker, TYPING);
    assert!(shown.message.starts_with("8 groups of 6 digits"), "{}", shown.message);
    type_key(&mut picker, "720885-12345");
    let shown = pad(&picker, TYPING);
    let is = |digits: &str, state| (digits.to_owned(), state);
    assert_eq!(
        groups(&shown)[..3],
        [is("720885", GroupState::Whole), is("12345", GroupState::Current), is("", GroupState::Later)]
    );
    assert_eq!((shown.message.as_str(), shown.level), ("Group 2 of 8.", Level::Quiet));
    type_key(&mut picker, "4");
    let shown = pad(&picker, TYPING);
    assert_eq!(groups(&shown)[1], is("123454", GroupState::Mistyped));
    assert!(shown.message.starts_with("Group 2 has a mistake") && shown.level == Level::Bad);
    type_key(&mut picker, "9");
    assert_eq!(groups(&pad(&picker, TYPING))[2], is("", GroupState::Later), "first the mistake");
    back(&mut picker, 1);
    type_key(&mut picker, "3");
    assert_eq!(groups(&pad(&picker, TYPING))[1], is("123453", GroupState::Whole));
    back(&mut picker, 13);
    let shown = pad(&picker, TYPING);
    assert_eq!(groups(&shown)[0], is("", GroupState::Current));
    assert!(shown.back.dull);
}

#[test]
fn a_group_is_a_16_bit_number_times_11() {
    for (group, state) in [
        ("000000", GroupState::Whole),
        ("720885", GroupState::Whole),
        ("720896", GroupState::Mistyped),
        ("999999", GroupState::Mistyped),
        ("000001", GroupState::Mistyped),
    ] {
        let mut picker = locked();
        type_key(&mut picker, group);
        assert_eq!(groups(&pad(&picker, TYPING))[0].1, state, "{group}");
    }
}

#[test]
fn a_whole_key_and_a_new_pin_go_out_once() {
    let mut picker = locked();
    type_key(&mut picker, &KEY[..KEY.len() - 1]);
    assert_eq!(go(&mut picker, TYPING), None);
    assert!(pad(&picker, TYPING).go.dull && !pad(&picker, TYPING).groups.is_empty(), "a digit is missing");
    type_key(&mut picker, "5");
    assert_eq!(go(&mut picker, TYPING), None);
    assert!(pad(&picker, TYPING).go.dull && !pad(&picker, TYPING).groups.is_empty(), "it is mistyped");
    back(&mut picker, 1);
    type_key(&mut picker, "4");
    let shown = pad(&picker, TYPING);
    assert_eq!((shown.go.dull, shown.go.button.words.as_str(), shown.level), (false, "Next", Level::Good));
    type_key(&mut picker, "7");
    assert_eq!(go(&mut picker, TYPING), None);
    let shown = pad(&picker, TYPING);
    assert_eq!((shown.headline.as_str(), shown.groups.len()), ("Choose a new PIN for OFFICE", 0));
    type_digits(&mut picker, TYPING, "246802");
    assert_eq!(go(&mut picker, TYPING), None);
    type_digits(&mut picker, TYPING, "246803");
    assert_eq!(go(&mut picker, TYPING), None, "they differ");
    assert_eq!(pad(&picker, TYPING).message, "The two were not the same. Choose again.");
    for action in [false, true] {
        type_digits(&mut picker, TYPING, "246802");
        let asked = go(&mut picker, TYPING);
        assert_eq!(recovers(asked.as_ref(), KEY, "246802"), action, "{asked:?}");
    }
    assert_eq!(pad(&picker, TYPING).headline, "Opening with the recovery key...");
    assert_eq!(picker.targets(), [], "no key works");
    picker.opened(TYPING, "office");
    let view = picker.view(TYPING);
    assert_eq!((view.front, view.tiles[0].phase.as_str()), (None, "Starting"));
}

#[test]
fn a_zone_without_a_pin_is_opened_by_the_key_alone() {
    let mut picker = Picker::new(DISPLAY, Scale::One);
    picker.set_link(Link::Up);
    picker.set_status(0, status(vec![zone("office", Phase::Stopped, None)]));
    let mut picker = asking(picker, Cause::TpmCleared);
    type_key(&mut picker, KEY);
    assert_eq!(pad(&picker, TYPING).go.button.words, "Open");
    assert!(recovers(go(&mut picker, TYPING).as_ref(), KEY, ""));
    assert_eq!(pad(&picker, TYPING).headline, "Opening with the recovery key...");
}

#[test]
fn a_refused_key_leaves_a_card_and_can_be_typed_anew() {
    for cause in [Cause::WrongRecoveryKey, Cause::NoRecovery, Cause::Other] {
        let mut picker = recovering();
        picker.not_opened(TYPING, &not_opened(cause, None));
        assert!(card(&picker, TYPING).headline.starts_with("OFFICE "));
    }
    let picker = asking(recovering(), Cause::WrongRecoveryKey);
    assert!(groups(&pad(&picker, TYPING)).iter().all(|(digits, _)| digits.is_empty()));
    let mut picker = recovering();
    picker.request_failed(TYPING, "office", "No.");
    assert_eq!(card(&picker, TYPING).reason, "No.");
    let mut picker = recovering();
    picker.set_link(Link::Lost);
    assert!(card(&picker, TYPING).reason.contains("went away"));
}

#[test]
fn a_typed_key_is_gone_after_cancel_idle_a_lost_link_and_a_changed_display_or_zone() {
    let typed = || {
        let mut picker = locked();
        type_key(&mut picker, "720885-0");
        picker
    };
    let choosing = || {
        let mut picker = locked();
        type_key(&mut picker, KEY);
        assert_eq!(go(&mut picker, TYPING), None);
        picker
    };
    for make in [typed, choosing] {
        let mut picker = make();
        let cancel = picker.pad_layout().cancel;
        assert_eq!(tap(&mut picker, TYPING, cancel), None);
        assert_eq!(picker.view(TYPING).front, None);
        for link in [Link::Lost, Link::Silent, Link::Connecting] {
            let mut picker = make();
            picker.set_link(link);
            assert_eq!(picker.view(TYPING).front, None, "{link:?}");
        }
        let mut picker = make();
        picker.tick(TYPING + IDLE);
        assert!(picker.view(TYPING).front.is_some(), "a key takes longer than a PIN");
        assert_eq!(picker.deadline(TYPING), Some(TYPING + KEY_IDLE));
        picker.tick(TYPING + KEY_IDLE);
        assert_eq!(picker.view(TYPING).front, None);
        let mut picker = make();
        picker.set_status(TYPING, with_pin(CHOSEN, Phase::Running));
        assert_eq!(picker.view(TYPING).front, None);
        let mut picker = make();
        picker.set_display(DISPLAY, Scale::One);
        let shown = pad(&picker, TYPING);
        assert_eq!(shown.groups.len(), 8);
        assert!(groups(&shown).iter().all(|(digits, _)| digits.is_empty()), "the key is forgotten");
        // A key stays nowhere: after the same steps the picker is the one that never saw it.
        let mut clean = locked();
        clean.set_display(DISPLAY, Scale::One);
        assert_eq!(pad(&clean, TYPING), shown);
    }
    let mut picker = choosing();
    picker.set_status(
        TYPING,
        status(vec![zone("office", Phase::Stopped, None), zone("research", Phase::Stopped, None)]),
    );
    assert_eq!(picker.view(TYPING).front, None, "no PIN is asked for any more");
}

#[test]
fn what_zoned_says_of_the_pin_leaves_the_key_alone() {
    for pin in [CHOSEN, UNCHOSEN, PinLogin { tries_left: Some(0), ..CHOSEN }] {
        let mut picker = locked();
        type_key(&mut picker, "720885-0");
        picker.set_status(TYPING, with_pin(pin, Phase::Stopped));
        assert_eq!(groups(&pad(&picker, TYPING))[1].0, "0");
        type_key(&mut picker, &KEY[8..]);
        assert_eq!(go(&mut picker, TYPING), None);
        picker.set_status(TYPING, with_pin(pin, Phase::Failed));
        assert_eq!(pad(&picker, TYPING).headline, "Choose a new PIN for OFFICE");
    }
}

#[test]
fn a_double_touch_on_the_cards_button_types_nothing() {
    let mut picker = locked();
    type_digits(&mut picker, LATER + ARMING, "1");
    type_digits(&mut picker, LATER + 2 * ARMING - 1, "1");
    assert!(groups(&pad(&picker, TYPING)).iter().all(|(digits, _)| digits.is_empty()));
    type_digits(&mut picker, LATER + 2 * ARMING, "1");
    assert_eq!(groups(&pad(&picker, TYPING))[0].0, "1");
}

#[test]
fn the_key_is_typed_on_a_telephone_and_the_new_pin_where_the_policy_wants_it() {
    let mut picker = picker_with(SHUFFLED);
    picker.not_opened(0, &not_opened(Cause::LockedOut, None));
    let mut picker = asking(picker, Cause::LockedOut);
    let order = |picker: &Picker| {
        pad(picker, TYPING).places.iter().map(|key| key.button.words.clone()).collect::<String>()
    };
    assert_eq!(order(&picker), "0123456789");
    type_key(&mut picker, KEY);
    assert_eq!(go(&mut picker, TYPING), None);
    assert_ne!(order(&picker), "0123456789", "seed {SEED:x}");
    for _ in 0..2 {
        for digit in "246802".chars() {
            let place =
                order(&picker).find(digit).and_then(|place| u8::try_from(place).ok()).expect("ten digits");
            let key = key_rect(DISPLAY, Scale::One, place).expect("a place");
            assert_eq!(tap(&mut picker, TYPING, key), None);
        }
        if let Some(asked) = go(&mut picker, TYPING) {
            assert!(recovers(Some(&asked), KEY, "246802"));
            return;
        }
    }
    panic!("nothing was asked for");
}

#[test]
fn nothing_printed_holds_a_key() {
    let printed = |key: &str| {
        let mut picker = locked();
        type_key(&mut picker, key);
        let mut printed = format!("{picker:?} {:?}", picker.view(TYPING));
        assert_eq!(go(&mut picker, TYPING), None);
        for _ in 0..2 {
            type_digits(&mut picker, TYPING, "246802");
            printed.push_str(&format!("{:?} {picker:?}", go(&mut picker, TYPING)));
        }
        printed
    };
    let other = "000000-000011-000022-000033-000044-000055-000066-000077";
    assert_eq!(printed(KEY), printed(other));
    assert!(printed(KEY).contains("RecoveryKey(..)"));
}

#[test]
fn a_card_that_comes_while_a_key_is_typed_does_not_disturb() {
    let mut picker = locked();
    type_key(&mut picker, "720885-0");
    picker.not_opened(TYPING, &NotOpened { zone: "research".to_owned(), ..not_opened(Cause::TpmBusy, None) });
    assert_eq!(groups(&pad(&picker, TYPING))[1].0, "0");
}

proptest! {
    #[test]
    fn property_any_wrong_digit_and_any_two_exchanged_ones_are_noticed(
        number in any::<u16>(), place in 0..6usize, digit in 0..10u8, other in 0..5usize,
    ) {
        let group = format!("{:06}", u32::from(number) * 11).into_bytes();
        let check = |group: &[u8]| {
            let mut picker = locked();
            type_key(&mut picker, std::str::from_utf8(group).expect("digits"));
            groups(&pad(&picker, TYPING))[0].1
        };
        prop_assert_eq!(check(&group), GroupState::Whole);
        let mut wrong = group.clone();
        wrong[place] = b'0' + digit;
        prop_assert_eq!(check(&wrong) == GroupState::Whole, wrong == group);
        let mut exchanged = group.clone();
        exchanged.swap(other, other + 1);
        prop_assert_eq!(check(&exchanged) == GroupState::Whole, exchanged == group);
    }
}
