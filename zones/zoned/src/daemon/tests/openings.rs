//! Zones that ask for a PIN.

use control_api::{Factor as Shown, Login, Pin};
use zone_protocol::keeper::{Cause, Digits, Factor, PinState};

use super::*;

fn world(name: &str) -> World {
    let pin = "network = \"none\"\nlogin = \"pin\"\npin_tries = 4\npin_shuffle = true\n";
    World::with_policy(name, &POLICY.replace("network = \"none\"\n", pin))
}

fn open(digits: &str) -> Method {
    Method::Open { zone: "vault".into(), pin: Pin::new(digits.into()) }
}

fn cause(reply: &Reply) -> Option<(control_api::Cause, Option<u32>)> {
    let Reply::Error(CallError::NotOpened { zone, cause, tries_left, .. }) = reply else { return None };
    (zone == "vault").then_some((*cause, *tries_left))
}

#[test]
fn a_zone_with_a_pin_starts_once_keeper_has_opened_it() {
    let mut world = world("pin");
    // Nothing is known yet: one that was never chosen is asked for once.
    let fresh = Login { factor: Shown::Pin, chosen: true, shuffle: true, tries_left: None };
    assert_eq!(world.zone(1).login, fresh);
    world.tell_pin(1, PinState::default());
    let fresh = Login { chosen: false, ..fresh };
    assert_eq!(world.zone(1).login, fresh);
    assert_eq!(world.zone(0).login, Login::default());
    for (refusal, shown, notices) in [
        (Cause::PinNeeded, control_api::Cause::PinNeeded, 0),
        (Cause::WrongPin, control_api::Cause::WrongPin, 0),
        (Cause::LockedOut, control_api::Cause::LockedOut, 1),
    ] {
        world.refuses = Some((refusal, PinState { chosen: true, tries_left: Some(2), public_key: None }));
        assert_eq!(cause(&world.call(open("654321"))), Some((shown, Some(2))));
        world.check_state(1, Phase::Stopped, None);
        assert_eq!(world.zone(1).login, Login { chosen: true, tries_left: Some(2), ..fresh.clone() });
        assert_eq!(world.status().notices.len(), notices);
    }
    // No process was asked for by any of them.
    assert!(world.next_order().is_err());
    world.refuses = None;
    assert_eq!(world.call(open("123456")), Reply::Done);
    world.check_state(1, Phase::Starting, None);
    world.next_spawn(ZoneProfile::Vmm, 1);
    let typed = Some(Digits("123456".to_owned().into()));
    assert_eq!(world.openings.pop(), Some(("vault".into(), Factor::Pin { tries: 4 }, typed)));
    // It runs: nobody is asked for anything.
    assert!(matches!(world.call(open("123456")), Reply::Error(CallError::Refused(_))));
    assert_eq!(world.openings.len(), 3);
    world.call(Method::Start("office".into()));
    assert_eq!(world.openings.pop(), Some(("office".into(), Factor::Touch, None)));
}

#[test]
fn an_opening_that_nobody_answers_or_awaits_starts_nothing() {
    let mut world = world("pin-late");
    world.silent = true;
    let mut first = Client::connect(&world.socket).unwrap();
    first.begin(open("123456")).unwrap();
    world.settle();
    assert!(first.read_events().unwrap().is_empty());
    let Reply::Error(CallError::Refused(reason)) = world.call(open("123456")) else { panic!("opened twice") };
    assert_eq!(reason, "Zone vault is being opened already.");
    world.daemon.expire_openings(Instant::now() + Duration::from_secs(61));
    assert!(matches!(first.read_events().unwrap()[..], [Reply::Error(CallError::Refused(_))]));
    // The answer comes after all, and means nothing any more.
    let opened =
        |number| zone_protocol::keeper::FromKeeper::Opened { slot: 1, number, pin: PinState::default() };
    world.keeper.send(&opened(100), &[]).unwrap();
    world.settle();
    world.check_state(1, Phase::Stopped, None);
    // Whoever opened it has left.
    first.begin(open("123456")).unwrap();
    world.settle();
    drop(first);
    world.settle();
    world.keeper.send(&opened(101), &[]).unwrap();
    world.settle();
    world.check_state(1, Phase::Stopped, None);
    assert!(world.next_order().is_err());
}

#[test]
fn a_running_zone_with_a_pin_does_not_start_again_by_itself() {
    let mut world = world("pin-restart");
    assert_eq!(world.call(open("123456")), Reply::Done);
    world.next_spawn(ZoneProfile::Vmm, 1);
    world.daemon.zones[1].pin = Some(PinState { chosen: true, ..Default::default() });
    let Reply::Error(CallError::Refused(reason)) = world.call(Method::Restart("vault".into())) else {
        panic!("restarted")
    };
    assert_eq!(reason, "Zone vault asks for its PIN at each start. Stop it, then open it.");
    world.check_state(1, Phase::Starting, None);
}

#[test]
fn a_disposable_zone_has_nothing_to_open() {
    let policy = POLICY.replace("network = \"none\"\n", "network = \"none\"\ndisposable = true\n");
    let mut world = World::with_policy("pin-disposable", &policy);
    let Reply::Error(CallError::Refused(reason)) = world.call(open("123456")) else { panic!("opened") };
    assert_eq!(reason, "Zone vault is disposable: there is nothing to open.");
    assert!(world.openings.is_empty());
}

#[test]
fn a_recovery_key_passes_through() {
    let mut world = world("recovery");
    assert_eq!(world.status().recovery, control_api::Recovery::None);
    assert_eq!(world.call(Method::NewRecoveryKey), Reply::Key(Pin::new("000011".into())));
    assert_eq!(world.status().recovery, control_api::Recovery::Shown);
    let note = |digits: &str| Method::NoteRecoveryKey(Pin::new(digits.into()));
    assert_eq!(world.call(note("1")), Reply::Error(CallError::Refused("Another one.".into())));
    assert_eq!(world.call(note("000011")), Reply::Done);
    assert_eq!(world.status().recovery, control_api::Recovery::Noted);
    let recover = |pin: &str| Method::Recover {
        zone: "vault".into(),
        key: Pin::new("000011".into()),
        pin: Pin::new(pin.into()),
    };
    world.refuses = Some((Cause::WrongRecoveryKey, PinState::default()));
    let refused = Some((control_api::Cause::WrongRecoveryKey, None));
    assert_eq!(cause(&world.call(recover(""))), refused);
    assert_eq!(world.openings.pop(), Some(("vault".into(), Factor::Pin { tries: 4 }, None)));
    world.refuses = None;
    assert_eq!(world.call(recover("123456")), Reply::Done);
    world.check_state(1, Phase::Starting, None);
    assert_eq!(world.recoveries.len(), 2);
    assert_eq!(world.recoveries[1], Digits("000011".to_owned().into()));
}

#[test]
fn a_tunnels_key_comes_from_keeper_and_goes_with_its_zone() {
    // No demonstration: nothing but keeper has a key.
    let mut world = World::with_policy("key", &POLICY.replace("demo = true", "demo = false"));
    let public_key = |world: &mut World| world.zone(0).tunnel.unwrap().public_key;
    assert_eq!(public_key(&mut world), None);
    assert_eq!(world.call(Method::Start("office".into())), Reply::Done);
    assert_eq!(public_key(&mut world).as_deref(), Some("CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk="));
    let vpnd = world.next_spawn(ZoneProfile::Vpnd, 0);
    let mut bytes = [0; 40];
    assert_eq!(rustix::io::read(&vpnd.descriptors["key"], &mut bytes), Ok(32));
    assert_eq!(bytes[..32], [8; 32]);
    let vmm = world.next_spawn(ZoneProfile::Vmm, 0);
    // The next tunnel process of the same run gets it, too, also from the next zoned.
    world.exited(vpnd.number, ExitCause::Signal(9));
    let mut world = next_zoned(world, &[(vmm.number, ZoneProfile::Vmm)], &[]);
    let again = world.next_spawn(ZoneProfile::Vpnd, 0);
    assert!(again.descriptors.contains_key("key"));
    assert_eq!(world.call(Method::Kill("office".into())), Reply::Done);
    world.expect_kill(vmm.number);
    world.expect_kill(again.number);
    world.exited(again.number, ExitCause::Signal(9));
    assert!(world.daemon.zones[0].tunnel_key.is_some());
    world.exited(vmm.number, ExitCause::Signal(9));
    world.check_state(0, Phase::Stopped, None);
    assert!(world.daemon.zones[0].tunnel_key.is_none());
}

#[test]
fn nothing_is_opened_for_a_start_that_fails_anyway() {
    let mut world = world("pin-in-vain");
    fs::remove_file(world.data.template("template.toml.minisig")).unwrap();
    assert!(matches!(world.call(open("123456")), Reply::Error(CallError::Refused(_))));
    assert!(world.openings.is_empty());
    assert_eq!(world.zone(1).state.phase, Phase::Failed);
}
