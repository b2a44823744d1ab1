//! The display's lock, and that of zones.

use proptest::prelude::*;

use super::pad::{CHOSEN, UNCHOSEN, card, go, not_opened, pad, type_digits};
use super::{DISPLAY, centre, demo_picker, event, status, tap, tunnel, zone};
use crate::geometry::{Point, Rect};
use crate::pad::{Cause, FEWEST_DIGITS, IDLE, RecoveryKey};
use crate::picker::{ARMING, Action, Link, PATIENCE, Picker, Target};
use crate::pointer::Stage;
use crate::scale::Scale;
use crate::status::{Login, Phase, PinLogin, Recovery, Screen, Status, Zone};
use crate::view::{FrontView, Level, LockView, Symbol};

const KEY: &str = "720885-000000-123453-654313-000011-424248-699996-499994";
const PIN: Login = Login::Pin(CHOSEN);

/// Late enough that whatever appeared takes touches.
const LATER: u64 = 10_000;

fn with(locked: bool, login: Login) -> Status {
    let zones = vec![
        Zone { login: PIN, ..zone("office", Phase::Stopped, Some(tunnel(true, 1, 1))) },
        zone("vault", Phase::Running, None),
    ];
    Status { screen: Screen { locked, login }, ..status(zones) }
}

fn picker_with(locked: bool, login: Login) -> Picker {
    let mut picker = Picker::new(DISPLAY, Scale::One);
    picker.set_link(Link::Up);
    picker.set_status(0, with(locked, login));
    picker
}

fn lock(picker: &Picker) -> LockView {
    match picker.view(LATER).front {
        Some(FrontView::Lock(lock)) => lock,
        other => panic!("not locked but {other:?}"),
    }
}

fn touch(picker: &mut Picker, now: u64) -> Option<Action> {
    tap(picker, now, DISPLAY.rect())
}

/// The pad over a locked display since 1000.
fn pad_of(login: Login) -> Picker {
    let mut picker = picker_with(true, login);
    assert_eq!(touch(&mut picker, 1_000), None);
    picker
}

fn unlocks(action: Option<&Action>, digits: &str) -> bool {
    matches!(action, Some(Action::UnlockScreen { pin }) if pin.characters().eq(digits.chars()))
}

/// A locked display whose PIN is being checked.
fn checking() -> Picker {
    let mut picker = pad_of(PIN);
    type_digits(&mut picker, LATER, "135790");
    assert!(unlocks(go(&mut picker, LATER).as_ref(), "135790"));
    picker
}

#[test]
fn a_desktop_that_starts_is_locked_until_a_status_says_otherwise() {
    let mut picker = Picker::new(DISPLAY, Scale::One);
    for (link, words) in [
        (Link::Connecting, "Connecting to zoned"),
        (Link::Lost, "zoned is gone"),
        (Link::Silent, "zoned does not answer"),
        (Link::Up, "Waiting for zoned"),
    ] {
        picker.set_link(link);
        assert!(lock(&picker).message.starts_with(words), "{}", lock(&picker).message);
        assert_eq!((picker.targets(), touch(&mut picker, 1)), (Vec::new(), None), "{link:?}");
        assert_eq!(lock(&picker).hint, "");
    }
    picker.set_status(2, with(false, PIN));
    assert_eq!((picker.view(2).front, picker.view(2).tiles.len()), (None, 2));
    let mut picker = Picker::new(DISPLAY, Scale::One);
    picker.set_link(Link::Up);
    picker.set_status(2, with(true, PIN));
    assert_eq!(lock(&picker).hint, "Touch to type the PIN");
}

#[test]
fn a_lost_or_silent_link_leaves_the_lock_as_it_is() {
    for link in [Link::Lost, Link::Silent, Link::Connecting] {
        let mut picker = picker_with(true, Login::Touch);
        picker.set_link(link);
        assert_ne!(lock(&picker).level, Level::Quiet, "it says why");
        assert_eq!(touch(&mut picker, LATER), None, "{link:?}");
        picker.set_link(Link::Up);
        assert_eq!(lock(&picker).message, "", "{link:?}");
        let mut picker = picker_with(false, Login::Touch);
        picker.set_link(link);
        assert_eq!(picker.view(LATER).front, None, "{link:?}");
    }
}

#[test]
fn the_panels_button_locks_at_once_and_until_zoned_has_done_it() {
    let mut picker = picker_with(false, Login::Touch);
    let button = picker.view(0).panel.lock.rect;
    assert_eq!(tap(&mut picker, LATER, button), Some(Action::LockScreen));
    assert_eq!(lock(&picker).headline, "Locked");
    picker.set_status(LATER, with(false, Login::Touch));
    assert_eq!(lock(&picker).headline, "Locked", "it was on its way");
    assert_eq!(picker.follow_up(), None, "it was asked for");
    picker.set_status(LATER, with(true, Login::Touch));
    picker.set_status(LATER, with(false, Login::Touch));
    assert_eq!(picker.view(LATER).front, None);
}

#[test]
fn a_lock_that_was_lost_on_its_way_is_asked_for_again() {
    let mut picker = picker_with(false, PIN);
    let button = picker.layout().lock;
    picker.set_link(Link::Lost);
    assert_eq!(tap(&mut picker, LATER, button), None, "nobody is there to ask");
    assert!(picker.is_locked());
    assert_eq!(picker.follow_up(), None);
    for _ in 0..2 {
        picker.set_link(Link::Up);
        assert_eq!(picker.follow_up(), Some(Action::LockScreen));
        assert_eq!(picker.follow_up(), None, "once");
        picker.set_link(Link::Lost);
    }
    picker.set_link(Link::Up);
    picker.set_status(LATER, with(false, PIN));
    assert!(picker.is_locked(), "a new zoned does not know it");
    picker.set_status(LATER, with(true, PIN));
    assert_eq!(picker.follow_up(), None);
    picker.set_status(LATER, with(false, PIN));
    assert!(!picker.is_locked());

    let mut picker = picker_with(false, PIN);
    assert_eq!(tap(&mut picker, LATER, button), Some(Action::LockScreen));
    picker.lock_refused("It cannot be locked.");
    let view = picker.view(LATER);
    assert_eq!((view.front, view.bar.text.as_str()), (None, "It cannot be locked."));
}

#[test]
fn locking_forgets_whatever_was_in_front() {
    let states: [fn() -> Picker; 4] = [
        || {
            let mut picker = picker_with(false, PIN);
            let tile = picker.layout().tiles[0];
            assert_eq!(tap(&mut picker, 1_000, tile), None);
            type_digits(&mut picker, LATER, "1357");
            picker
        },
        || {
            let mut picker = picker_with(false, PIN);
            let tile = picker.layout().tiles[1];
            assert_eq!(tap(&mut picker, 1_000, tile), None);
            assert!(picker.view(LATER).tiles[1].question.is_some());
            picker
        },
        || {
            let mut picker = picker_with(false, PIN);
            picker.set_status(0, Status { recovery: Recovery::None, ..with(false, PIN) });
            let bar = picker.layout().notice;
            assert_eq!(tap(&mut picker, 0, bar), None);
            let retry = picker.pad_layout().retry;
            assert_eq!(tap(&mut picker, 1_000, retry), Some(Action::NewRecoveryKey));
            picker.key_made(1_000, RecoveryKey::read(KEY));
            assert!(format!("{:?}", picker.view(LATER)).contains("RecoveryKey"));
            picker
        },
        || {
            let mut picker = picker_with(false, PIN);
            picker.not_opened(0, &not_opened(Cause::LockedOut, None));
            let retry = picker.pad_layout().retry;
            assert_eq!(tap(&mut picker, 1_000, retry), None);
            type_digits(&mut picker, LATER, "720885");
            picker
        },
    ];
    for make in states {
        let mut picker = make();
        picker.set_status(LATER, with(true, PIN));
        assert_eq!(lock(&picker).headline, "Locked");
        assert!(!format!("{picker:?}").contains("Digits") && !format!("{picker:?}").contains("RecoveryKey"));
        picker.set_status(LATER, with(false, PIN));
        let view = picker.view(LATER);
        assert!(view.front.is_none() && view.tiles.iter().all(|tile| tile.question.is_none()));
    }
    // Neither does a finger that came down before.
    let mut picker = picker_with(false, PIN);
    let vault = centre(picker.layout().tiles[1]);
    assert_eq!(picker.pointer(LATER, event(1, Stage::Down, vault), 0), None);
    picker.set_status(LATER, with(true, Login::Touch));
    assert_eq!(picker.pointer(LATER, event(1, Stage::Up, vault), 0), None);
    assert_eq!(lock(&picker).headline, "Locked");
}

#[test]
fn without_a_pin_a_touch_unlocks() {
    let mut picker = picker_with(true, Login::Touch);
    assert_eq!(lock(&picker).hint, "Touch to unlock");
    assert!(unlocks(touch(&mut picker, LATER).as_ref(), ""));
    assert_eq!((lock(&picker).headline.as_str(), lock(&picker).busy.is_some()), ("Unlocking ...", true));
    assert_eq!(touch(&mut picker, LATER), None, "once");
    picker.unlocked(LATER);
    assert!(picker.is_locked(), "zoned's status says when");
    picker.set_status(LATER, with(false, Login::Touch));
    assert_eq!(picker.view(LATER).front, None);

    let mut picker = picker_with(true, Login::Touch);
    assert!(touch(&mut picker, LATER).is_some());
    picker.unlocked(LATER);
    picker.tick(LATER + PATIENCE);
    assert!(touch(&mut picker, LATER + PATIENCE).is_some(), "nothing came of it");
    picker.screen_failed(LATER, "zoned was given up.");
    assert_eq!(card(&picker, LATER).reason, "zoned was given up.");
    assert_eq!(card(&picker, LATER).headline, "This display stays as it was");
    let retry = picker.pad_layout().retry;
    assert!(unlocks(tap(&mut picker, LATER + ARMING, retry).as_ref(), ""));
    picker.set_link(Link::Lost);
    assert_eq!(lock(&picker).headline, "Locked", "nobody answers any more");
}

#[test]
fn with_a_pin_the_pad_unlocks_counts_and_closes_by_itself() {
    let mut picker = pad_of(PIN);
    let shown = pad(&picker, LATER);
    assert_eq!((shown.headline.as_str(), shown.change.clone()), ("PIN for this display", None));
    assert!(picker.view(LATER).tiles.is_empty());
    picker.tick(1_000 + IDLE);
    assert_eq!(lock(&picker).headline, "Locked");
    let mut picker = checking();
    picker.not_unlocked(LATER, &not_opened(Cause::WrongPin, Some(1)));
    let shown = pad(&picker, LATER);
    assert_eq!(shown.message, "Wrong PIN. 1 try left: one more wrong PIN locks this display out.");
    type_digits(&mut picker, LATER, "246802");
    assert!(unlocks(go(&mut picker, LATER).as_ref(), "246802"));
    picker.unlocked(LATER);
    assert_eq!(lock(&picker).headline, "Unlocking ...");
    picker.set_status(LATER, with(false, PIN));
    assert_eq!(picker.view(LATER).front, None);
    // The status may be faster than the answer, and the user faster than both.
    let mut picker = checking();
    picker.set_status(LATER, with(false, PIN));
    let tile = picker.layout().tiles[0];
    assert_eq!(tap(&mut picker, LATER, tile), None);
    picker.unlocked(LATER);
    assert_eq!(pad(&picker, LATER).headline, "PIN for OFFICE");
}

#[test]
fn the_first_pin_is_chosen_and_repeated() {
    let mut picker = pad_of(Login::Pin(UNCHOSEN));
    assert_eq!(pad(&picker, LATER).headline, "Choose a PIN for this display");
    type_digits(&mut picker, LATER, "135790");
    assert_eq!(go(&mut picker, LATER), None);
    type_digits(&mut picker, LATER, "135791");
    assert_eq!(go(&mut picker, LATER), None, "they differ");
    for done in [false, true] {
        type_digits(&mut picker, LATER, "135790");
        assert_eq!(unlocks(go(&mut picker, LATER).as_ref(), "135790"), done);
    }
}

#[test]
fn a_lockout_leads_to_the_recovery_key_and_a_new_pin() {
    let mut picker = checking();
    picker.not_unlocked(LATER, &not_opened(Cause::LockedOut, Some(0)));
    let shown = card(&picker, LATER);
    assert_eq!(shown.headline, "This display is locked out");
    let onward = shown.onward.expect("it leads on");
    assert_eq!(onward.words, "Recovery key");
    let now = LATER + 2 * ARMING;
    assert_eq!(tap(&mut picker, LATER + ARMING, onward.rect), None);
    type_digits(&mut picker, now, &KEY.replace('-', ""));
    assert_eq!(go(&mut picker, now), None);
    assert_eq!(pad(&picker, now).headline, "Choose a new PIN for this display");
    type_digits(&mut picker, now, "246802");
    assert_eq!(go(&mut picker, now), None);
    type_digits(&mut picker, now, "246802");
    let action = go(&mut picker, now);
    assert!(
        matches!(&action, Some(Action::RecoverScreen { key, pin })
            if key.characters().eq(KEY.chars()) && pin.characters().eq("246802".chars())),
        "{action:?}"
    );
    picker.not_unlocked(now, &not_opened(Cause::WrongRecoveryKey, None));
    assert_eq!(card(&picker, now).headline, "This display has another recovery key");
    // A display that is touched when it is locked out says so before anything is typed.
    let locked_out = Login::Pin(PinLogin { tries_left: Some(0), ..CHOSEN });
    let mut picker = picker_with(true, locked_out);
    assert_eq!(lock(&picker).hint, "Touch to see what to do");
    assert_eq!(touch(&mut picker, LATER), None);
    assert_eq!(card(&picker, LATER).headline, "This display is locked out");
}

#[test]
fn each_cause_has_a_card_of_the_displays_own_words() {
    for cause in Cause::ALL.into_iter().filter(|cause| *cause != Cause::WrongPin) {
        let mut picker = checking();
        picker
            .not_unlocked(LATER, &crate::pad::NotOpened { reason: String::new(), ..not_opened(cause, None) });
        let shown = card(&picker, LATER);
        assert!(shown.headline.starts_with("This display ") && shown.advice.ends_with('.'), "{shown:?}");
        let words = format!("{} {} {}", shown.headline, shown.reason, shown.advice);
        assert!(!words.contains("OFFICE") && !words.contains("the zone"), "{words}");
        let leave = shown.leave.rect;
        assert_eq!(tap(&mut picker, LATER + ARMING, leave), None);
        assert_eq!(lock(&picker).headline, "Locked");
    }
}

#[test]
fn what_comes_of_a_zone_meanwhile_waits_behind_the_lock() {
    let mut picker = picker_with(true, PIN);
    picker.not_opened(LATER, &not_opened(Cause::TpmBusy, None));
    picker.request_failed(LATER, "vault", "It fell over.");
    picker.opened(LATER, "vault");
    assert_eq!(lock(&picker).message, "");
    picker.set_status(LATER, with(false, PIN));
    assert_eq!(picker.view(LATER).bar.text, "It fell over.");
}

#[test]
fn a_running_zone_is_locked_by_the_questions_third_button() {
    let mut picker = demo_picker(Phase::Running);
    let tile = picker.layout().tiles[0];
    assert_eq!(picker.view(0).tiles[0].hint, "Touch to stop or lock");
    assert_eq!(tap(&mut picker, 1_000, tile), None);
    let button = picker.view(1_000).tiles[0].question.clone().and_then(|asked| asked.lock).expect("offered");
    assert_eq!(tap(&mut picker, 1_000 + ARMING - 1, button), None, "a double touch");
    let action = tap(&mut picker, 1_000 + ARMING, button);
    assert_eq!(action, Some(Action::Lock { zone: "office".to_owned() }));
    assert_eq!(picker.view(LATER).tiles[0].phase, "Lock requested");
    let refusal = "Zone office is disposable: its key is kept nowhere, so it cannot be locked.";
    picker.request_failed(LATER, "office", refusal);
    assert_eq!((picker.view(LATER).bar.text.as_str(), picker.view(LATER).bar.level), (refusal, Level::Bad));
    assert_eq!(picker.view(LATER).tiles[0].phase, "Running");
    let mut picker = demo_picker(Phase::Starting);
    assert_eq!(tap(&mut picker, 1_000, tile), None);
    let asked = picker.view(1_000).tiles[0].question.clone().expect("asked");
    assert_eq!(asked.lock, None, "it does not run yet");
}

#[test]
fn a_locked_zone_says_so_and_opens_like_a_stopped_one() {
    for (login, hint) in [(Login::Touch, "Touch to unlock"), (PIN, "PIN: touch to unlock")] {
        let locked = |phase| status(vec![Zone { login, ..zone("office", phase, None) }]);
        let mut picker = picker_with(false, Login::Touch);
        picker.set_status(0, locked(Phase::Locking));
        let tile = picker.view(0).tiles[0].clone();
        assert_eq!((tile.phase.as_str(), tile.symbol, tile.hint.as_str()), ("Locking", Symbol::Busy, ""));
        assert_eq!(tap(&mut picker, 0, tile.rect), None);
        assert!(picker.view(0).front.is_none() && picker.view(0).tiles[0].question.is_none());
        picker.set_status(0, locked(Phase::Locked));
        let tile = picker.view(0).tiles[0].clone();
        assert_eq!((tile.phase.as_str(), tile.symbol, tile.hint.as_str()), ("Locked", Symbol::Locked, hint));
        let action = tap(&mut picker, 1_000, tile.rect);
        if login == Login::Touch {
            assert_eq!(action, Some(Action::Start { zone: "office".to_owned() }));
            assert_eq!(picker.view(LATER).tiles[0].phase, "Unlock requested");
            continue;
        }
        type_digits(&mut picker, LATER, "135790");
        let action = go(&mut picker, LATER);
        assert!(matches!(&action, Some(Action::Open { zone, .. }) if zone == "office"), "{action:?}");
        picker.opened(LATER, "office");
        assert_eq!(picker.view(LATER).tiles[0].phase, "Unlocking");
        picker.set_status(LATER, locked(Phase::Running));
        assert_eq!(picker.view(LATER).tiles[0].phase, "Running");
    }
}

#[test]
fn a_locked_zone_is_ended_by_its_small_button_and_the_armed_question() {
    let mut picker = picker_with(false, Login::Touch);
    let mut locked = with(false, Login::Touch);
    locked.zones[0].phase = Phase::Locked;
    picker.set_status(0, locked);
    let view = picker.view(0);
    assert_eq!((view.tiles[1].end.clone(), view.tiles[0].traffic.as_str()), (None, ""));
    let end = view.tiles[0].end.clone().expect("it is locked").rect;
    assert_eq!(tap(&mut picker, 1_000, end), None);
    let view = picker.view(1_000);
    let asked = view.tiles[0].question.clone().expect("asked");
    assert_eq!((view.front, view.tiles[0].end.clone(), asked.lock), (None, None, None));
    assert_eq!(tap(&mut picker, 1_000 + ARMING - 1, asked.stop), None, "a double touch");
    let action = tap(&mut picker, 1_000 + ARMING, asked.stop);
    assert_eq!(action, Some(Action::Stop { zone: "office".to_owned() }));
    assert_eq!(
        (picker.view(LATER).tiles[0].phase.as_str(), picker.view(LATER).tiles[0].end.clone()),
        ("Stop requested", None)
    );
    picker.set_link(Link::Lost);
    assert_eq!(tap(&mut picker, LATER, end), None);
    assert_eq!(picker.view(LATER).tiles[0].question, None);
}

/// What can happen to a locked display.
#[derive(Clone, Debug)]
enum Event {
    Touch(usize),
    Point(i32, i32),
    Digits(u32),
    Status(bool, Login),
    Link(Link),
    NotUnlocked(Cause),
    NotOpened(Cause),
    KeyMade,
    Display,
    Pass(u64),
}

fn an_event() -> impl Strategy<Value = Event> {
    let login = prop_oneof![Just(Login::Touch), Just(PIN), Just(Login::Pin(UNCHOSEN))];
    let cause = || proptest::sample::select(Cause::ALL.to_vec());
    let link = prop_oneof![5 => Just(Link::Up), 1 => Just(Link::Lost), 1 => Just(Link::Silent)];
    prop_oneof![
        10 => (0..20usize).prop_map(Event::Touch),
        2 => (0..1280, 0..800).prop_map(|(x, y)| Event::Point(x, y)),
        10 => (0..1_000_000u32).prop_map(Event::Digits),
        2 => (proptest::bool::weighted(0.8), login).prop_map(|(locked, login)| Event::Status(locked, login)),
        1 => link.prop_map(Event::Link),
        3 => cause().prop_map(Event::NotUnlocked),
        2 => cause().prop_map(Event::NotOpened),
        1 => Just(Event::KeyMade),
        1 => Just(Event::Display),
        2 => (0..2_000u64).prop_map(Event::Pass),
    ]
}

proptest! {
    /// Whatever is touched, typed and told: a display that `zoned` called locked asks for nothing but its lock.
    #[test]
    fn property_a_locked_display_asks_for_nothing_but_its_lock(
        login in prop_oneof![Just(Login::Touch), Just(PIN), Just(Login::Pin(UNCHOSEN))],
        events in proptest::collection::vec(an_event(), 1..60),
    ) {
        let mut picker = picker_with(true, login);
        let mut locked = true;
        let mut now = LATER;
        for event in events {
            let mut asked = Vec::new();
            let spot = |at: Point| Rect { x: at.x, y: at.y, width: 1, height: 1 };
            match event {
                Event::Touch(index) => {
                    let targets = picker.targets();
                    if let Some((rect, _)) = targets.get(index % targets.len().max(1)) {
                        asked.extend(tap(&mut picker, now, *rect));
                    }
                }
                Event::Point(x, y) => asked.extend(tap(&mut picker, now, spot(Point { x, y }))),
                Event::Digits(number) => {
                    let places = picker.pad_layout().places;
                    for digit in format!("{number:0FEWEST_DIGITS$}").bytes() {
                        asked.extend(tap(&mut picker, now, places[usize::from(digit - b'0')]));
                    }
                    let go = picker.pad_layout().go;
                    asked.extend(tap(&mut picker, now, go));
                }
                Event::Status(now_locked, login) => {
                    locked = now_locked;
                    picker.set_status(now, with(locked, login));
                }
                Event::Link(link) => picker.set_link(link),
                Event::NotUnlocked(cause) => picker.not_unlocked(now, &not_opened(cause, None)),
                Event::NotOpened(cause) => picker.not_opened(now, &not_opened(cause, None)),
                Event::KeyMade => picker.key_made(now, RecoveryKey::read(KEY)),
                Event::Display => picker.set_display(DISPLAY, Scale::One),
                Event::Pass(by) => now += by,
            }
            asked.extend(picker.follow_up());
            let lifts = |action: &Action| {
                matches!(action, Action::UnlockScreen { .. } | Action::RecoverScreen { .. } | Action::LockScreen)
            };
            prop_assert!(!locked || asked.iter().all(lifts), "{asked:?}");
            let view = picker.view(now);
            let told = view.tiles.is_empty() && !format!("{view:?}").contains("OFFICE");
            prop_assert!(!locked || told, "zones are shown");
            let about_it = |target: &Target| matches!(target, Target::Unlock | Target::Front(_));
            let reacts = picker.targets().into_iter().any(|(_, target)| !about_it(&target));
            prop_assert!(!locked || !reacts, "zones react");
            now += 2 * ARMING;
        }
    }
}
