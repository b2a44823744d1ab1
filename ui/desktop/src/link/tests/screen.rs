//! Calls about the display's lock, other PINs, zones' locks and the recovery key.

use control_api::wire::{CallError, Method, Reply};
use control_api::{Cause, Factor, Login, Phase, Pin, Screen, State, Tunnel, Zone};
use desktop_model::pad::{self, Digits, NotOpened, RecoveryKey};
use desktop_model::picker::{Action, Link};
use desktop_model::status as model;

use super::{DISPLAY, Hand, KEY, LinkEvent, connected, next_call, send, status};
use crate::convert;

const PIN: model::Login =
    model::Login::Pin(model::PinLogin { chosen: true, shuffle: false, tries_left: None });

fn pin(digits: &str) -> Pin {
    Pin::new(digits.to_owned())
}

/// A picker whose display has a PIN, and is locked or not.
fn screen(locked: bool) -> Hand {
    let mut hand = Hand::new(PIN);
    let screen = model::Screen { locked, login: PIN };
    hand.picker.set_status(0, model::Status { screen, ..convert::status(status("one")) });
    hand
}

/// What the pad asks for when somebody types 135790 on a locked display.
fn unlock() -> Action {
    let mut hand = screen(true);
    assert_eq!(hand.touch(DISPLAY.rect()), None);
    hand.go("135790").expect("the pad asks to unlock")
}

/// What it asks for when somebody has the recovery key.
fn recover() -> Action {
    let mut hand = screen(true);
    let (zone, cause) = (String::new(), pad::Cause::LockedOut);
    hand.picker.not_unlocked(0, &NotOpened { zone, cause, reason: String::new(), tries_left: None });
    assert_eq!(hand.touch(hand.picker.pad_layout().retry), None);
    hand.go(KEY).or_else(|| hand.go("246802")).or_else(|| hand.go("246802")).expect("the pad asks")
}

/// What it asks for when somebody changes a PIN, after a touch on what leads there.
fn change(mut hand: Hand) -> Action {
    hand.go("135790")
        .or_else(|| hand.go("246802"))
        .or_else(|| hand.go("246802"))
        .expect("the pad asks for another PIN")
}

fn change_screen() -> Action {
    let mut hand = screen(false);
    assert_eq!(hand.touch(hand.picker.layout().screen_pin), None);
    change(hand)
}

fn change_zone() -> Action {
    let mut hand = Hand::new(PIN);
    assert_eq!(hand.touch(hand.picker.layout().tiles[0]), None);
    assert_eq!(hand.touch(hand.picker.pad_layout().change), None);
    change(hand)
}

fn refused() -> Reply {
    Reply::Error(CallError::Refused("No.".to_owned()))
}

fn wrong() -> Reply {
    Reply::Error(CallError::NotOpened {
        zone: String::new(),
        cause: Cause::WrongPin,
        reason: "Wrong.".to_owned(),
        tries_left: Some(2),
    })
}

fn not_opened(zone: &str) -> NotOpened {
    let (zone, reason) = (zone.to_owned(), "Wrong.".to_owned());
    NotOpened { zone, cause: pad::Cause::WrongPin, reason, tries_left: Some(2) }
}

/// What is asked for, what goes out, and what comes of a yes, a wrong PIN and a refusal.
type Row = (fn() -> Action, Method, [LinkEvent; 3]);

#[test]
fn what_needs_the_tpm_goes_out_as_typed_and_each_answer_is_its_own() {
    let no = || "No.".to_owned();
    let other = LinkEvent::ScreenFailed { why: "zoned answered to something else.".to_owned() };
    let screen = |done| [done, LinkEvent::NotUnlocked(not_opened("")), LinkEvent::ScreenFailed { why: no() }];
    let zone = || "office".to_owned();
    let new = || pin("246802");
    let rows: [Row; 5] = [
        (unlock, Method::UnlockScreen(pin("135790")), screen(LinkEvent::Unlocked)),
        (
            || Action::UnlockScreen { pin: Digits::default() },
            Method::UnlockScreen(pin("")),
            screen(LinkEvent::Unlocked),
        ),
        (recover, Method::RecoverScreen { key: pin(KEY), pin: new() }, screen(LinkEvent::Unlocked)),
        (
            change_screen,
            Method::ChangeScreenPin { pin: pin("135790"), new: new() },
            screen(LinkEvent::ScreenPinChanged),
        ),
        (
            change_zone,
            Method::ChangePin { zone: zone(), pin: pin("135790"), new: new() },
            [
                LinkEvent::PinChanged { zone: zone() },
                LinkEvent::NotOpened(not_opened("office")),
                LinkEvent::Failed { zone: zone(), why: no() },
            ],
        ),
    ];
    for (ask, sent, events) in rows {
        let (mut fixture, _monitor, _calls, mut openings) = connected();
        for (reply, event) in [Reply::Done, wrong(), refused()].iter().zip(events) {
            let action = ask();
            let printed = format!("{action:?}");
            assert!(
                ["135790", "246802", "720885"].iter().all(|digits| !printed.contains(digits)),
                "{printed}"
            );
            assert_eq!(fixture.link.request(1, action), None);
            assert_eq!(next_call(&mut openings), sent);
            send(&mut openings, reply);
            assert_eq!(fixture.link.service(2), [event]);
        }
        if !matches!(sent, Method::ChangePin { .. }) {
            // Nothing but a plain yes lifts the lock.
            assert_eq!(fixture.link.request(3, ask()), None);
            send(&mut openings, &Reply::Service(serde_json::json!({ "vendor": "another" })));
            let events = fixture.link.service(4);
            assert_eq!(events, std::slice::from_ref(&other));
        }
        assert_eq!(fixture.link.request(5, ask()), None);
        drop(openings);
        let events = fixture.link.service(6);
        assert!(
            matches!(&events[0], LinkEvent::ScreenFailed { .. } | LinkEvent::Failed { .. }),
            "{events:?}"
        );
        assert_eq!(events[1..], [LinkEvent::State(Link::Lost)]);
    }
}

#[test]
fn locks_are_calls_that_are_answered_at_once() {
    let (mut fixture, _monitor, mut calls, openings) = connected();
    let office = || "office".to_owned();
    assert_eq!(fixture.link.request(1, Action::Lock { zone: office() }), None);
    assert_eq!(next_call(&mut calls), Method::Lock(office()));
    send(&mut calls, &refused());
    let failed = LinkEvent::Failed { zone: office(), why: "No.".to_owned() };
    assert_eq!(fixture.link.service(2), [failed]);
    for (reply, events) in
        [(Reply::Done, vec![]), (refused(), vec![LinkEvent::LockRefused { why: "No.".to_owned() }])]
    {
        assert_eq!(fixture.link.request(3, Action::LockScreen), None);
        assert_eq!(next_call(&mut calls), Method::LockScreen);
        send(&mut calls, &reply);
        assert_eq!(fixture.link.service(4), events);
    }
    // One that was lost with its connection is no refusal: the picker asks again.
    assert_eq!(fixture.link.request(5, Action::LockScreen), None);
    drop((calls, openings));
    assert_eq!(fixture.link.service(6), [LinkEvent::State(Link::Lost)]);
    assert_eq!(fixture.link.request(7, Action::LockScreen), None);
}

#[test]
fn a_recovery_key_is_made_and_noted_and_is_in_no_event_that_is_printed() {
    let (mut fixture, _monitor, _calls, mut openings) = connected();
    let noted = || Action::NoteRecoveryKey { key: RecoveryKey::read(KEY).expect("a key") };
    assert_eq!(fixture.link.request(1, Action::NewRecoveryKey), None);
    assert_eq!(next_call(&mut openings), Method::NewRecoveryKey);
    send(&mut openings, &Reply::Key(pin(KEY)));
    let events = fixture.link.service(2);
    assert_eq!(events, [LinkEvent::KeyMade(pin(KEY))]);
    assert!(!format!("{events:?} {:?}", noted()).contains("720885"));
    assert_eq!(fixture.link.request(3, noted()), None);
    assert_eq!(next_call(&mut openings), Method::NoteRecoveryKey(pin(KEY)));
    send(&mut openings, &Reply::Done);
    assert_eq!(fixture.link.service(4), [LinkEvent::KeyNoted]);
    assert_eq!(fixture.link.request(5, noted()), None);
    send(&mut openings, &refused());
    assert_eq!(fixture.link.service(6), [LinkEvent::KeyFailed { why: "No.".to_owned() }]);
    assert_eq!(fixture.link.request(7, Action::NewRecoveryKey), None);
    drop(openings);
    let events = fixture.link.service(8);
    assert!(matches!(&events[..], [LinkEvent::KeyFailed { .. }, LinkEvent::State(Link::Lost)]), "{events:?}");
}

#[test]
fn a_status_tells_of_locks_and_public_keys() {
    let zone = |phase| Zone {
        name: "office".to_owned(),
        label: "Office".to_owned(),
        colour: "green".to_owned(),
        state: State { phase, reason: None, agent: None, session: None },
        login: Login::default(),
        tunnel: Some(Tunnel { public_key: Some("Zm9v".to_owned()), ..Tunnel::default() }),
    };
    let login = Login { factor: Factor::Pin, chosen: true, shuffle: true, tries_left: Some(3) };
    let told = convert::status(control_api::Status {
        zones: vec![zone(Phase::Locking), zone(Phase::Locked)],
        screen: Screen { locked: true, login },
        ..status("one")
    });
    let phases: Vec<_> = told.zones.iter().map(|zone| zone.phase).collect();
    assert_eq!(phases, [model::Phase::Locking, model::Phase::Locked]);
    let key = told.zones[0].tunnel.as_ref().and_then(|tunnel| tunnel.public_key.as_deref());
    assert_eq!(key, Some("Zm9v"));
    let pin = model::PinLogin { chosen: true, shuffle: true, tries_left: Some(3) };
    assert_eq!(told.screen, model::Screen { locked: true, login: model::Login::Pin(pin) });
}
