//! The PIN pad and the cards, each transition of them.

use proptest::prelude::*;

use super::{DISPLAY, SEED, centre, event, recovery, status, tap, zone};
use crate::geometry::{Rect, Size};
use crate::layout::{LEAST_DISPLAY, TARGET};
use crate::pad::{ARMING, Cause, IDLE, KEY, MOST_DIGITS, NotOpened, PadLayout, key_rect};
use crate::picker::{Action, Link, Picker};
use crate::pointer::Stage;
use crate::scale::Scale;
use crate::status::{Login, Phase, PinLogin, Status, Zone};
use crate::view::{CardView, FrontView, Level, PadView, Symbol};

pub(super) const CHOSEN: PinLogin = PinLogin { chosen: true, shuffle: false, tries_left: Some(5) };
pub(super) const UNCHOSEN: PinLogin = PinLogin { chosen: false, shuffle: false, tries_left: None };
pub(super) const SHUFFLED: PinLogin = PinLogin { shuffle: true, ..CHOSEN };

/// Late enough that what the first touch brought takes touches.
pub(super) const LATER: u64 = 1_000 + ARMING;

pub(super) fn with_pin(pin: PinLogin, phase: Phase) -> Status {
    let login = Login::Pin(pin);
    let office = Zone { login, ..zone("office", phase, None) };
    status(vec![office, zone("research", Phase::Stopped, None)])
}

/// A picker whose first zone asks for a PIN.
pub(super) fn picker_with(pin: PinLogin) -> Picker {
    let mut picker = Picker::new(DISPLAY, Scale::One);
    picker.set_link(Link::Up);
    picker.set_status(0, with_pin(pin, Phase::Stopped));
    picker
}

/// The same with the pad open since 1000.
fn pad_of(pin: PinLogin) -> Picker {
    let mut picker = picker_with(pin);
    let tile = picker.layout().tiles[0];
    assert_eq!(tap(&mut picker, 1000, tile), None, "a PIN is asked for first");
    picker
}

pub(super) fn type_digits(picker: &mut Picker, now: u64, digits: &str) {
    for digit in digits.bytes() {
        let key = key_rect(DISPLAY, Scale::One, digit - b'0').expect("a digit");
        assert_eq!(tap(picker, now, key), None);
    }
}

pub(super) fn go(picker: &mut Picker, now: u64) -> Option<Action> {
    let go = picker.pad_layout().go;
    tap(picker, now, go)
}

/// What is asked of `zoned` by these digits.
fn opens(action: Option<&Action>, digits: &str) -> bool {
    matches!(action, Some(Action::Open { zone, pin })
        if zone == "office" && pin.characters().collect::<String>() == digits)
}

pub(super) fn pad(picker: &Picker, now: u64) -> PadView {
    match picker.view(now).front {
        Some(FrontView::Pad(pad)) => pad,
        other => panic!("no pad but {other:?}"),
    }
}

pub(super) fn card(picker: &Picker, now: u64) -> CardView {
    match picker.view(now).front {
        Some(FrontView::Card(card)) => card,
        other => panic!("no card but {other:?}"),
    }
}

pub(super) fn not_opened(cause: Cause, tries_left: Option<u32>) -> NotOpened {
    NotOpened { zone: "office".to_owned(), cause, reason: "Said by zoned.".to_owned(), tries_left }
}

/// A pad that waits for the answer to 135790.
pub(super) fn checking() -> Picker {
    let mut picker = pad_of(CHOSEN);
    type_digits(&mut picker, LATER, "135790");
    assert!(opens(go(&mut picker, LATER).as_ref(), "135790"));
    picker
}

#[test]
fn a_touch_on_a_zone_with_a_pin_asks_for_it_and_the_pin_goes_out_once() {
    let mut picker = pad_of(CHOSEN);
    let shown = pad(&picker, LATER);
    assert_eq!((shown.headline.as_str(), shown.label.as_str()), ("PIN for OFFICE", "OFFICE"));
    assert_eq!((shown.message.as_str(), shown.level), ("5 tries left.", Level::Quiet));
    assert_eq!((shown.typed, shown.needed, shown.go.dull, shown.back.dull), (0, 6, true, true));
    type_digits(&mut picker, LATER, "13579");
    assert_eq!(go(&mut picker, LATER), None, "five digits are no PIN");
    assert_eq!(pad(&picker, LATER).typed, 5);
    type_digits(&mut picker, LATER, "0");
    assert!(!pad(&picker, LATER).go.dull);
    assert!(opens(go(&mut picker, LATER).as_ref(), "135790"));
    let shown = pad(&picker, LATER);
    assert_eq!((shown.headline.as_str(), shown.typed), ("Checking the PIN ...", 0));
    assert!(shown.busy.is_some() && shown.cancel.dull && shown.places.iter().all(|key| key.dull));
    assert_eq!(picker.targets(), [], "no key works");
    assert_eq!(go(&mut picker, LATER), None);
    picker.tick(LATER + 10 * IDLE);
    assert!(pad(&picker, LATER + 10 * IDLE).busy.is_some(), "it waits for the answer");
}

#[test]
fn a_right_pin_closes_the_pad_and_the_tile_says_that_the_zone_starts() {
    let mut picker = checking();
    picker.opened(LATER, "research");
    assert!(picker.view(LATER).front.is_some(), "another zone's answer");
    picker.opened(LATER, "office");
    let view = picker.view(LATER);
    assert_eq!(view.front, None);
    assert_eq!((view.tiles[0].phase.as_str(), view.tiles[0].symbol), ("Starting", Symbol::Busy));
    picker.set_status(LATER + 1, with_pin(CHOSEN, Phase::Starting));
    assert_eq!(picker.view(LATER + 1).tiles[0].phase, "Starting");
    let mut early = checking();
    early.set_status(LATER, with_pin(CHOSEN, Phase::Starting));
    assert!(pad(&early, LATER).busy.is_some(), "the answer may come after the status");
    early.opened(LATER, "office");
    assert_eq!(early.view(LATER).front, None);
}

#[test]
fn a_wrong_pin_leads_back_to_an_empty_pad_that_counts() {
    let mut picker = checking();
    for (left, words, level) in [
        (Some(3), "Wrong PIN. 3 tries left.", Level::Bad),
        (Some(1), "Wrong PIN. 1 try left: one more wrong PIN locks this zone out.", Level::Attention),
    ] {
        picker.not_opened(LATER, &not_opened(Cause::WrongPin, left));
        let shown = pad(&picker, LATER);
        assert_eq!((shown.message.as_str(), shown.level, shown.typed), (words, level, 0));
        assert_eq!(shown.busy, None);
        type_digits(&mut picker, LATER + ARMING, "111111");
        assert!(opens(go(&mut picker, LATER + ARMING).as_ref(), "111111"));
    }
    picker.not_opened(LATER, &not_opened(Cause::WrongPin, Some(0)));
    assert_eq!(card(&picker, LATER).headline, "OFFICE is locked out");
    let last = pad_of(PinLogin { tries_left: Some(1), ..CHOSEN });
    assert_eq!(pad(&last, LATER).level, Level::Attention);
}

#[test]
fn a_new_pin_is_typed_twice() {
    let mut picker = pad_of(UNCHOSEN);
    assert_eq!(pad(&picker, LATER).headline, "Choose a PIN for OFFICE");
    assert_eq!(pad(&picker, LATER).go.button.words, "Next");
    type_digits(&mut picker, LATER, "246802");
    assert_eq!(go(&mut picker, LATER), None);
    let shown = pad(&picker, LATER);
    assert_eq!((shown.headline.as_str(), shown.typed), ("Once more", 0));
    assert_eq!(go(&mut picker, LATER), None, "nothing was typed yet");
    type_digits(&mut picker, LATER, "246803");
    assert_eq!(go(&mut picker, LATER), None, "they differ");
    let shown = pad(&picker, LATER);
    assert_eq!((shown.headline.as_str(), shown.level), ("Choose a PIN for OFFICE", Level::Attention));
    assert_eq!(shown.message, "The two were not the same. Choose again.");
    type_digits(&mut picker, LATER, "246803");
    assert_eq!(go(&mut picker, LATER), None, "the first one of before is forgotten");
    type_digits(&mut picker, LATER, "246803");
    assert!(opens(go(&mut picker, LATER).as_ref(), "246803"));
    assert_eq!(pad(&picker, LATER).headline, "Setting the PIN ...");
}

#[test]
fn the_pad_follows_what_zoned_learns_of_the_pin() {
    // At boot nothing is known yet; another client may choose a PIN, too.
    let mut picker = pad_of(UNCHOSEN);
    type_digits(&mut picker, LATER, "246802");
    assert_eq!(go(&mut picker, LATER), None);
    picker.set_status(LATER, with_pin(UNCHOSEN, Phase::Stopped));
    assert_eq!(pad(&picker, LATER).headline, "Once more", "nothing new");
    picker.set_status(LATER, with_pin(CHOSEN, Phase::Stopped));
    assert_eq!(pad(&picker, LATER).headline, "PIN for OFFICE");
    type_digits(&mut picker, LATER + ARMING, "111");
    picker.set_status(LATER, with_pin(PinLogin { tries_left: Some(2), ..CHOSEN }, Phase::Stopped));
    let shown = pad(&picker, LATER);
    assert_eq!((shown.message.as_str(), shown.typed), ("2 tries left.", 3));
    picker.set_status(LATER, with_pin(UNCHOSEN, Phase::Stopped));
    assert_eq!(
        (pad(&picker, LATER).headline.as_str(), pad(&picker, LATER).typed),
        ("Choose a PIN for OFFICE", 0)
    );
}

#[test]
fn digits_end_at_twelve_and_the_back_key_takes_one() {
    let mut picker = pad_of(CHOSEN);
    type_digits(&mut picker, LATER, "12345678901299");
    assert_eq!(pad(&picker, LATER).typed, MOST_DIGITS);
    let back = picker.pad_layout().back;
    assert_eq!(tap(&mut picker, LATER, back), None);
    assert!(opens(go(&mut picker, LATER).as_ref(), "12345678901"));
    let mut picker = pad_of(CHOSEN);
    assert_eq!(tap(&mut picker, LATER, back), None, "nothing to take");
    type_digits(&mut picker, LATER, "1");
    let _ = tap(&mut picker, LATER, back);
    assert_eq!(pad(&picker, LATER).typed, 0);
}

/// Every way in which an unsent PIN ends. Reopened, the pad knows nothing of it.
#[test]
fn what_was_typed_is_gone_after_cancel_idle_a_lost_link_and_a_changed_display_or_zone() {
    type Way = (&'static str, fn(&mut Picker));
    let ways: [Way; 9] = [
        ("cancel", |picker| {
            let cancel = picker.pad_layout().cancel;
            assert_eq!(tap(picker, LATER, cancel), None);
        }),
        ("idle", |picker| picker.tick(LATER + IDLE)),
        ("lost", |picker| picker.set_link(Link::Lost)),
        ("silent", |picker| picker.set_link(Link::Silent)),
        ("display", |picker| picker.set_display(DISPLAY, Scale::One)),
        ("started", |picker| picker.set_status(LATER, with_pin(CHOSEN, Phase::Starting))),
        ("moved", |picker| {
            let mut status = with_pin(CHOSEN, Phase::Stopped);
            status.zones.reverse();
            picker.set_status(LATER, status);
        }),
        ("gone", |picker| picker.set_status(LATER, status(Vec::new()))),
        ("touch", |picker| {
            let zones = ["office", "research"].map(|name| zone(name, Phase::Stopped, None));
            picker.set_status(LATER, status(zones.to_vec()));
        }),
    ];
    for (name, way) in ways {
        let mut picker = pad_of(CHOSEN);
        type_digits(&mut picker, LATER, "1234567");
        way(&mut picker);
        match picker.view(LATER).front {
            None => assert_ne!(name, "display"),
            Some(FrontView::Pad(pad)) => assert_eq!((name, pad.typed), ("display", 0)),
            Some(other) => panic!("{name}: {other:?}"),
        }
        picker.set_link(Link::Up);
        picker.set_status(LATER + IDLE, with_pin(CHOSEN, Phase::Stopped));
        picker.tick(LATER + 3 * IDLE);
        let tile = picker.layout().tiles[0];
        assert_eq!(tap(&mut picker, LATER + 3 * IDLE, tile), None);
        assert_eq!(pad(&picker, LATER + 3 * IDLE).typed, 0, "{name}");
    }
    let mut picker = pad_of(UNCHOSEN);
    type_digits(&mut picker, LATER, "123456");
    let _ = go(&mut picker, LATER);
    picker.set_display(DISPLAY, Scale::One);
    assert_eq!(pad(&picker, LATER).headline, "Choose a PIN for OFFICE", "the first one is forgotten, too");
}

#[test]
fn a_finger_keeps_the_pad_open_and_the_pad_asks_for_its_timer() {
    let mut picker = pad_of(CHOSEN);
    assert_eq!(picker.deadline(1000), Some(1000 + IDLE));
    type_digits(&mut picker, 1000 + IDLE - 1, "1");
    picker.tick(1000 + IDLE + 5);
    assert_eq!(pad(&picker, 1000 + IDLE + 5).typed, 1);
    picker.tick(1000 + 2 * IDLE - 1);
    assert_eq!(picker.view(1000 + 2 * IDLE - 1).front, None);
}

#[test]
fn a_double_touch_on_the_tile_types_nothing_and_other_keys_take_touches_at_once() {
    // One zone alone: its tile lies under keys.
    let mut picker = picker_with(CHOSEN);
    let mut alone = with_pin(CHOSEN, Phase::Stopped);
    alone.zones.truncate(1);
    picker.set_status(0, alone);
    let five = key_rect(DISPLAY, Scale::One, 5).expect("a digit");
    let at = picker.layout().tiles[0].intersection(five);
    assert_eq!(picker.target_at(centre(at)), Some(crate::picker::Target::Tile(0)));
    assert_eq!(tap(&mut picker, 1000, at), None);
    assert_eq!(tap(&mut picker, 1001, at), None);
    type_digits(&mut picker, 1000 + ARMING - 1, "5");
    assert_eq!(pad(&picker, 1000 + ARMING - 1).typed, 0);
    type_digits(&mut picker, 1002, "4");
    type_digits(&mut picker, 1000 + ARMING, "5");
    assert_eq!(pad(&picker, 1000 + ARMING).typed, 2);
}

#[test]
fn after_a_wrong_pin_the_pad_takes_the_next_one_at_once_and_a_card_takes_nothing_at_first() {
    let mut picker = checking();
    picker.not_opened(LATER, &not_opened(Cause::WrongPin, Some(3)));
    type_digits(&mut picker, LATER, "1");
    assert_eq!(pad(&picker, LATER).typed, 1);
    let mut picker = checking();
    picker.not_opened(LATER, &not_opened(Cause::TpmBusy, Some(3)));
    let leave = picker.pad_layout().leave;
    assert_eq!(tap(&mut picker, LATER + ARMING - 1, leave), None);
    assert!(picker.view(LATER + ARMING - 1).front.is_some());
}

#[test]
fn fast_fingers_overlap_and_sliding_off_a_key_types_nothing() {
    let mut picker = pad_of(CHOSEN);
    let key = |digit| centre(key_rect(DISPLAY, Scale::One, digit).expect("a digit"));
    let mut touch =
        |contact, stage, at| assert_eq!(picker.pointer(LATER, event(contact, stage, at), SEED), None);
    touch(1, Stage::Down, key(1));
    touch(2, Stage::Down, key(2));
    touch(1, Stage::Up, key(1));
    touch(3, Stage::Down, key(3));
    touch(2, Stage::Up, key(2));
    touch(3, Stage::Up, key(3));
    touch(1, Stage::Down, key(9));
    touch(1, Stage::Move, key(8));
    touch(1, Stage::Up, key(8));
    touch(1, Stage::Down, key(9));
    touch(1, Stage::Cancel, key(9));
    type_digits(&mut picker, LATER, "456");
    assert!(opens(go(&mut picker, LATER).as_ref(), "123456"));
}

#[test]
fn a_shuffled_pad_shows_each_digit_once_in_an_order_of_its_seed_and_types_what_it_shows() {
    let open = |seed| {
        let mut picker = picker_with(SHUFFLED);
        let at = centre(picker.layout().tiles[0]);
        assert_eq!(picker.pointer(1000, event(1, Stage::Down, at), seed), None);
        assert_eq!(picker.pointer(1000, event(1, Stage::Up, at), seed), None);
        picker
    };
    let words = |picker: &Picker| {
        pad(picker, LATER).places.iter().map(|key| key.button.words.clone()).collect::<Vec<_>>()
    };
    let (mut first, second) = (open(SEED), open(SEED + 1));
    let plain: Vec<String> = (0..10).map(|digit| digit.to_string()).collect();
    assert_eq!(words(&pad_of(CHOSEN)), plain);
    assert_ne!(words(&first), plain);
    assert_ne!(words(&first), words(&second));
    let mut sorted = words(&first);
    sorted.sort();
    assert_eq!(sorted, plain);
    let wanted: String = words(&first)[..6].concat();
    for place in picker_places(&first).into_iter().take(6) {
        let _ = tap(&mut first, LATER, place);
    }
    assert!(opens(go(&mut first, LATER).as_ref(), &wanted));
}

fn picker_places(picker: &Picker) -> [Rect; 10] {
    picker.pad_layout().places
}

#[test]
fn each_order_of_the_digits_is_as_likely_as_any_other() {
    // Each digit at each place, over many seeds: about one in ten.
    let mut counts = [[0_u32; 10]; 10];
    for number in 0..2000_u64 {
        let mut picker = picker_with(SHUFFLED);
        let at = centre(picker.layout().tiles[0]);
        // SplitMix64: seeds that look random.
        let seed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let seed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let seed = (seed ^ (seed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let seed = seed ^ (seed >> 31);
        let _ = picker.pointer(1000, event(1, Stage::Down, at), seed);
        let _ = picker.pointer(1000, event(1, Stage::Up, at), seed);
        for (place, key) in pad(&picker, 1000).places.iter().enumerate() {
            counts[place][key.button.words.parse::<usize>().expect("a digit")] += 1;
        }
    }
    assert!(counts.iter().flatten().all(|count| (140..=260).contains(count)), "{counts:?}");
}

#[test]
fn nothing_printed_or_drawn_holds_what_was_typed() {
    // Two PINs of equal length, of which the second one's last key was pressed elsewhere.
    let typed = |digits: &str| {
        let mut picker = pad_of(CHOSEN);
        type_digits(&mut picker, LATER, digits);
        let held = key_rect(DISPLAY, Scale::One, digits.as_bytes()[0] - b'0').expect("a digit");
        let _ = picker.pointer(LATER, event(1, Stage::Down, centre(held)), SEED);
        let printed = format!("{picker:?}");
        let _ = picker.pointer(LATER, event(1, Stage::Cancel, centre(held)), SEED);
        let view = picker.view(LATER);
        let action = go(&mut picker, LATER).expect("opens");
        (printed, format!("{picker:?} {action:?}"), view)
    };
    assert_eq!(typed("111111"), typed("908070"));
    let mut picker = pad_of(UNCHOSEN);
    type_digits(&mut picker, LATER, "555555");
    let _ = go(&mut picker, LATER);
    assert!(!format!("{picker:?}").contains("5, 5"), "{picker:?}");
}

#[test]
fn each_cause_has_a_card_with_a_reason_and_what_to_do() {
    let mut headlines = Vec::new();
    for cause in Cause::ALL {
        let mut picker = checking();
        picker.not_opened(LATER, &not_opened(cause, Some(2)));
        if cause == Cause::WrongPin {
            assert_eq!(pad(&picker, LATER).message, "Wrong PIN. 2 tries left.");
            continue;
        }
        let shown = card(&picker, LATER);
        assert!(shown.headline.starts_with("OFFICE ") && shown.advice.ends_with('.'), "{shown:?}");
        assert_eq!(shown.reason, "Said by zoned.");
        assert!(!headlines.contains(&shown.headline), "{shown:?}");
        headlines.push(shown.headline);
        let again = matches!(cause, Cause::PinNeeded | Cause::BadPin | Cause::TpmBusy | Cause::Other);
        if recovery::LEADS_ON.contains(&cause) {
            continue;
        }
        assert_eq!(shown.onward.is_some(), again, "{cause:?}");
        let retry = picker.pad_layout().retry;
        assert_eq!(tap(&mut picker, LATER + ARMING, retry), None);
        if again {
            assert_eq!(pad(&picker, LATER + ARMING).typed, 0);
        } else {
            let leave = card(&picker, LATER + ARMING).leave.rect;
            assert_eq!(tap(&mut picker, LATER + ARMING - 1, leave), None, "it has just appeared");
            assert!(picker.view(LATER + ARMING).front.is_some());
            assert_eq!(tap(&mut picker, LATER + ARMING, leave), None);
            assert_eq!(picker.view(LATER + ARMING).front, None);
        }
        let mut wordless = checking();
        wordless.not_opened(LATER, &NotOpened { reason: " ".to_owned(), ..not_opened(cause, None) });
        assert!(card(&wordless, LATER).reason.len() > 10, "{cause:?}");
    }
}

#[test]
fn a_locked_zone_says_so_on_its_tile_and_asks_for_nothing() {
    let mut picker = picker_with(PinLogin { tries_left: Some(0), ..CHOSEN });
    let tile = picker.view(0).tiles[0].clone();
    assert_eq!((tile.phase.as_str(), tile.level, tile.padlock), ("Locked out", Level::Bad, true));
    assert_eq!(tile.hint, "Touch to see what to do");
    assert_eq!(tap(&mut picker, 1000, tile.rect), None);
    let shown = card(&picker, LATER);
    assert_eq!(shown.headline, "OFFICE is locked out");
    let mut told = pad_of(CHOSEN);
    type_digits(&mut told, LATER, "123456");
    told.set_status(LATER, with_pin(PinLogin { tries_left: Some(0), ..CHOSEN }, Phase::Stopped));
    assert_eq!(card(&told, LATER).headline, "OFFICE is locked out", "somebody else used up the tries");
}

#[test]
fn tiles_tell_which_zones_ask_for_a_pin() {
    let mut picker = picker_with(CHOSEN);
    let tiles = picker.view(0).tiles;
    assert_eq!((tiles[0].hint.as_str(), tiles[0].padlock), ("PIN: touch to start", true));
    assert_eq!((tiles[1].hint.as_str(), tiles[1].padlock), ("Touch to start", false));
    picker.set_status(1, with_pin(CHOSEN, Phase::Failed));
    assert_eq!(picker.view(1).tiles[0].hint, "PIN: touch to try again");
    picker.set_status(1, with_pin(CHOSEN, Phase::Running));
    assert!(!picker.view(1).tiles[0].padlock, "it is open");
}

#[test]
fn a_zone_without_a_pin_gets_the_card_too_and_tries_again() {
    let mut picker = picker_with(CHOSEN);
    let tile = picker.layout().tiles[1];
    assert_eq!(tap(&mut picker, 1000, tile), Some(Action::Start { zone: "research".to_owned() }));
    let why = NotOpened { zone: "research".to_owned(), ..not_opened(Cause::TpmBusy, None) };
    picker.not_opened(1000, &why);
    assert_eq!(card(&picker, 1000).headline, "RESEARCH has to wait for the TPM");
    assert_eq!(picker.view(1000).tiles[1].phase, "Stopped");
    let retry = picker.pad_layout().retry;
    assert_eq!(tap(&mut picker, LATER, retry), Some(Action::Start { zone: "research".to_owned() }));
    assert_eq!(picker.view(LATER).front, None);

    let mut picker = pad_of(CHOSEN);
    type_digits(&mut picker, LATER, "123");
    picker.not_opened(LATER, &why);
    assert_eq!(pad(&picker, LATER).typed, 3, "another zone's pad stays");
    assert_eq!(picker.view(LATER).bar.text, "Said by zoned.");
}

#[test]
fn a_zoned_that_goes_away_while_it_checks_leaves_a_card() {
    let mut picker = checking();
    picker.set_link(Link::Silent);
    assert!(pad(&picker, LATER).busy.is_some(), "it may still answer");
    picker.set_link(Link::Lost);
    let shown = card(&picker, LATER);
    assert_eq!(shown.reason, "zoned went away before it answered.");
    assert_eq!(shown.onward, None, "nobody is there to ask");
    let retry = picker.pad_layout().retry;
    assert_eq!(tap(&mut picker, LATER + ARMING, retry), None);
    assert_eq!(card(&picker, LATER + ARMING), shown);
    picker.set_link(Link::Up);
    assert!(card(&picker, LATER).onward.is_some());

    let mut picker = checking();
    picker.request_failed(LATER, "research", "Zone research is running already.");
    assert!(pad(&picker, LATER).busy.is_some(), "another zone's request");
    assert_eq!(picker.view(LATER).bar.subject, "research");
    let mut picker = checking();
    picker.request_failed(LATER, "office", "Zone office is running already.");
    assert_eq!(card(&picker, LATER).reason, "Zone office is running already.");
    assert_eq!(picker.view(LATER).bar.level, Level::Quiet, "said once");
}

#[test]
fn nothing_beneath_the_pad_can_be_touched() {
    let mut picker = pad_of(CHOSEN);
    let keys = picker.targets();
    for x in (0..DISPLAY.width).step_by(40) {
        for y in (0..DISPLAY.height).step_by(40) {
            let at = crate::geometry::Point { x, y };
            let on_key = keys.iter().any(|(rect, _)| rect.contains(at));
            assert_eq!(picker.target_at(at).is_some(), on_key);
        }
    }
    let research = picker.layout().tiles[1];
    let bare = (research.x..research.right())
        .map(|x| Rect { x, y: research.bottom() - 1, width: 1, height: 1 })
        .find(|rect| picker.target_at(centre(*rect)).is_none())
        .expect("keys do not cover all of the tile");
    assert_eq!(tap(&mut picker, LATER, bare), None);
    assert!(picker.view(LATER).front.is_some());
}

fn all_targets(layout: &PadLayout) -> (Vec<Rect>, Vec<Rect>) {
    let mut keys = layout.places.to_vec();
    keys.extend([layout.back, layout.go, layout.cancel, layout.change]);
    (keys, vec![layout.leave, layout.retry])
}

#[test]
fn the_unshuffled_pad_is_a_telephone() {
    for (width, height, scale) in [(1280, 800, Scale::One), (800, 1280, Scale::One), (1920, 1200, Scale::Two)]
    {
        let key = |digit| key_rect(Size { width, height }, scale, digit).expect("a digit");
        assert!(key(1).x < key(2).x && key(2).x < key(3).x && key(1).y == key(3).y);
        assert!(key(1).y < key(4).y && key(4).y < key(7).y && key(7).y < key(0).y);
        assert_eq!((key(0).x, key(8).x), (key(5).x, key(2).x));
        assert_eq!(key_rect(Size { width, height }, scale, 10), None);
    }
}

/// The rules of the layout.
fn check_layout(display: Size, scale: Scale) -> Result<(), TestCaseError> {
    let (short, long) = (display.width.min(display.height), display.width.max(display.height));
    let layout = PadLayout::new(display, scale);
    let least = scale.of(if short >= scale.of(320) && long >= scale.of(480) { KEY } else { TARGET });
    let (pad, card) = all_targets(&layout);
    for (targets, words) in [(pad, layout.words), (card, layout.card)] {
        prop_assert!(display.rect().encloses(words) && words.height >= scale.of(60), "{layout:?}");
        prop_assert!(words.width >= scale.of(120), "{layout:?}");
        for (index, rect) in targets.iter().enumerate() {
            prop_assert!(display.rect().encloses(*rect), "{rect:?} of {layout:?}");
            prop_assert!(rect.width >= least && rect.height >= least, "{rect:?} of {layout:?}");
            prop_assert!(rect.intersection(layout.band).is_empty() && rect.intersection(words).is_empty());
            for other in &targets[index + 1..] {
                prop_assert!(rect.intersection(*other).is_empty(), "{rect:?} {other:?} of {layout:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn keys_are_as_wide_as_a_finger_on_displays_that_are_hardly_taller_than_wide() {
    for width in 320..480 {
        for height in [480, 500, 600, 719] {
            check_layout(Size { width, height }, Scale::One).expect("the pad fits");
        }
    }
}

proptest! {
    #[test]
    fn property_the_pad_fits_any_display(
        width in LEAST_DISPLAY.width..8000,
        height in LEAST_DISPLAY.height..8000,
        millimetres in proptest::option::of((0..900, 0..600)),
    ) {
        let display = Size { width, height };
        let scale = Scale::choose(display, millimetres.map(|(width, height)| Size { width, height }));
        check_layout(display, scale)?;
    }
}
