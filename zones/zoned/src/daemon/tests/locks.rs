//! Locked zones, and the display's lock.

use control_api::{Factor as Shown, Pin};
use zone_protocol::agent::Ask;
use zone_protocol::keeper::{Cause, Digits, Factor, FromKeeper, PinState, Purpose, ToKeeper};
use zone_protocol::vmm::Command;

use super::*;

fn pin(digits: &str) -> Pin {
    Pin::new(digits.into())
}

fn refusal(reply: Reply) -> String {
    let Reply::Error(CallError::Refused(reason)) = reply else { panic!("{reply:?}") };
    reason
}

/// The agent answers what it was asked with "synced".
fn sync(world: &mut World, running: &Running) {
    let request = next_request(&running.agent);
    assert_eq!(request.ask, Ask::Sync);
    let answer = FromAgent::Response { number: request.number, answer: Answer::Synced };
    rustix::io::write(&running.agent, &encode(&answer).unwrap()).unwrap();
    world.settle();
}

fn told(running: &Running) -> Command {
    running.events.receive::<Command>().unwrap().0
}

fn say(world: &mut World, running: &Running, event: &VmmEvent) {
    running.events.send(event, &[]).unwrap();
    world.settle();
}

/// Locks the running zone "vault".
fn lock(world: &mut World, running: &Running) {
    assert_eq!(world.call(Method::Lock("vault".into())), Reply::Done);
    world.check_state(1, Phase::Locking, None);
    sync(world, running);
    assert_eq!(told(running), Command::Pause);
    say(world, running, &VmmEvent::Paused);
    // Only what `keeper` can give back is forgotten.
    assert_eq!(world.next_asked(), ToKeeper::Lock { slot: 1, number: 0 });
    assert!(world.next_order().is_err());
    let locked = FromKeeper::Locked { slot: 1, number: 0, refused: None };
    world.keeper.send(&locked, &[]).unwrap();
    world.settle();
    assert_eq!(world.next_order().unwrap().0, Request::LockDisk { slot: 1 });
    world.check_state(1, Phase::Locking, None);
    // A second answer of `keeper` locks nothing a second time once the disk is locked.
    world.tell_init(&InitEvent::DiskLocked { slot: 1, refused: None });
    world.check_state(1, Phase::Locked, None);
    world.keeper.send(&locked, &[]).unwrap();
    world.settle();
    assert!(world.next_order().is_err());
}

#[test]
fn a_locked_zone_comes_back_for_what_opens_it() {
    let mut world = World::new("lock");
    let running = world.run(1);
    lock(&mut world, &running);
    for method in
        [Method::Pause("vault".into()), Method::Resume("vault".into()), Method::Lock("vault".into())]
    {
        assert_eq!(refusal(world.call(method)), "Zone vault is locked. Open it to use it.");
    }
    // Not for nothing.
    let known = PinState { chosen: true, tries_left: Some(2), public_key: None };
    world.refuses = Some((Cause::WrongPin, known));
    let reply = world.call(Method::Open { zone: "vault".into(), pin: pin("000000") });
    assert!(matches!(reply, Reply::Error(CallError::NotOpened { .. })), "{reply:?}");
    world.check_state(1, Phase::Locked, None);
    assert!(world.next_order().is_err());
    world.refuses = None;
    assert_eq!(world.call(Method::Start("vault".into())), Reply::Done);
    assert_eq!(world.purposes.pop(), Some(Purpose::Unlock));
    assert_eq!(world.next_order().unwrap().0, Request::UnlockDisk { slot: 1 });
    world.check_state(1, Phase::Locked, None);
    // The host cannot: it stays locked, and says so.
    world.tell_init(&InitEvent::DiskUnlocked { slot: 1, refused: Some("no key".into()) });
    world.check_state(1, Phase::Locked, None);
    assert_eq!(last_notice(&world.status()).1, "Zone vault: it stays locked: no key.");
    assert_eq!(world.call(Method::Open { zone: "vault".into(), pin: pin("123456") }), Reply::Done);
    assert_eq!(world.next_order().unwrap().0, Request::UnlockDisk { slot: 1 });
    world.tell_init(&InitEvent::DiskUnlocked { slot: 1, refused: None });
    assert_eq!(told(&running), Command::Resume);
    say(&mut world, &running, &VmmEvent::Resumed);
    world.check_state(1, Phase::Running, None);
    assert_eq!(world.purposes, [Purpose::Start { tunnel: false }, Purpose::Unlock, Purpose::Unlock]);
}

#[test]
fn a_lock_outlives_zoned_and_a_stop_ends_the_zone_at_once() {
    let mut world = World::new("lock-adopt");
    let running = world.run(1);
    lock(&mut world, &running);
    let vmm = running.vmm.number;
    let mut world = next_zoned(world, &[(vmm, ZoneProfile::Vmm)], &[]);
    world.check_state(1, Phase::Locked, None);
    // Its guest is not asked: it cannot run.
    assert_eq!(world.call(Method::Stop("vault".into())), Reply::Done);
    world.expect_kill(vmm);
    world.exited(vmm, ExitCause::Signal(9));
    world.check_state(1, Phase::Stopped, None);
}

#[test]
fn a_lock_that_fails_leaves_the_zone_running() {
    let mut world = World::new("lock-fails");
    let running = world.run(1);
    assert_eq!(world.call(Method::Lock("vault".into())), Reply::Done);
    sync(&mut world, &running);
    assert_eq!(told(&running), Command::Pause);
    say(&mut world, &running, &VmmEvent::Paused);
    let refused = Some("it is too new".to_owned());
    world.keeper.send(&FromKeeper::Locked { slot: 1, number: 0, refused }, &[]).unwrap();
    world.settle();
    assert_eq!(told(&running), Command::Resume);
    say(&mut world, &running, &VmmEvent::Resumed);
    world.check_state(1, Phase::Running, None);
    assert_eq!(last_notice(&world.status()).1, "Zone vault: it was not locked: it is too new.");
    // Its agent goes in mid-sync: it is locked without it.
    assert_eq!(world.call(Method::Lock("vault".into())), Reply::Done);
    drop(running.agent);
    world.settle();
    assert_eq!(running.events.receive::<Command>().unwrap().0, Command::Pause);
    world.check_state(1, Phase::Locking, None);
}

#[test]
fn a_disposable_zone_is_not_locked() {
    let policy = POLICY.replace("network = \"none\"\n", "network = \"none\"\ndisposable = true\n");
    let mut world = World::with_policy("lock-disposable", &policy);
    let reason = refusal(world.call(Method::Lock("vault".into())));
    assert!(reason.starts_with("Zone vault is disposable: "), "{reason}");
    assert_eq!(
        world.call(Method::Lock("office".into())),
        Reply::Error(CallError::NotRunning("office".into()))
    );
}

fn with_pin(name: &str) -> World {
    World::with_policy(name, &format!("{POLICY}\n[screen]\nlogin = \"pin\"\npin_tries = 4\n"))
}

#[test]
fn nothing_is_opened_or_ended_behind_the_displays_lock() {
    let mut world = with_pin("screen");
    let screen = world.status().screen;
    assert!(screen.locked && screen.login.factor == Shown::Pin && screen.login.chosen);
    world.tell_pin(255, PinState::default());
    assert!(!world.status().screen.login.chosen);
    for method in [
        Method::Start("vault".into()),
        Method::Open { zone: "vault".into(), pin: pin("123456") },
        Method::Recover { zone: "vault".into(), key: pin("0"), pin: pin("123456") },
        Method::ChangePin { zone: "vault".into(), pin: pin("123456"), new: pin("123457") },
        Method::ChangeScreenPin { pin: pin("123456"), new: pin("123457") },
        Method::NewRecoveryKey,
        Method::NoteRecoveryKey(pin("0")),
        Method::Stop("vault".into()),
        Method::Kill("vault".into()),
        Method::Restart("vault".into()),
        Method::Pause("vault".into()),
        Method::Resume("vault".into()),
    ] {
        assert_eq!(refusal(world.call(method)), "The display is locked.");
    }
    assert!(world.next_order().is_err() && world.openings.is_empty());
    // A wrong PIN, and one that is none.
    let known = PinState { chosen: true, tries_left: Some(1), public_key: None };
    world.refuses = Some((Cause::WrongPin, known));
    let reply = world.call(Method::UnlockScreen(pin("000000")));
    let Reply::Error(CallError::NotOpened { zone, tries_left, .. }) = reply else { panic!("{reply:?}") };
    assert_eq!((zone.as_str(), tries_left), ("", Some(1)));
    let screen = world.status().screen;
    assert_eq!((screen.locked, screen.login.tries_left), (true, Some(1)));
    assert!(world.call(Method::UnlockScreen(pin(""))) != Reply::Done);
    assert_eq!(world.openings.pop(), Some(("@screen".into(), Factor::Pin { tries: 4 }, None)));
    // The right one.
    world.refuses = None;
    assert_eq!(world.call(Method::UnlockScreen(pin("123456"))), Reply::Done);
    let typed = Some(Digits("123456".to_owned().into()));
    assert_eq!(world.openings.pop(), Some(("@screen".into(), Factor::Pin { tries: 4 }, typed)));
    assert!(world.purposes.iter().all(|purpose| *purpose == Purpose::Proof));
    assert!(!world.status().screen.locked);
    assert_eq!(world.call(Method::Start("vault".into())), Reply::Done);
    world.next_spawn(ZoneProfile::Vmm, 1);
    // Locked again: the zone runs on, and a new zoned does not forget it.
    assert_eq!(world.call(Method::LockScreen), Reply::Done);
    world.check_state(1, Phase::Starting, None);
    assert_eq!(refusal(world.call(Method::Kill("vault".into()))), "The display is locked.");
    let recover = Method::RecoverScreen { key: pin("000011"), pin: pin("654321") };
    assert_eq!(world.call(recover), Reply::Done);
    assert_eq!(world.recoveries.pop(), Some(Digits("000011".to_owned().into())));
    assert!(!world.status().screen.locked);
}

#[test]
fn the_display_is_locked_after_zoned_was_lost() {
    let mut world = with_pin("screen-adopt");
    assert_eq!(world.call(Method::UnlockScreen(pin("123456"))), Reply::Done);
    let running = world.run(1);
    let mut world = next_zoned(world, &[(running.vmm.number, ZoneProfile::Vmm)], &[]);
    assert!(world.status().screen.locked);
    world.check_state(1, Phase::Running, Some("The zone's agent hung up; the zone itself goes on."));
}

#[test]
fn a_display_without_a_pin_is_locked_and_unlocked_by_a_touch() {
    let mut world = World::new("screen-touch");
    assert!(!world.status().screen.locked);
    assert_eq!(world.call(Method::UnlockScreen(pin(""))), Reply::Done);
    assert_eq!(world.call(Method::LockScreen), Reply::Done);
    assert_eq!(refusal(world.call(Method::Start("vault".into()))), "The display is locked.");
    assert_eq!(world.call(Method::UnlockScreen(pin(""))), Reply::Done);
    assert!(!world.status().screen.locked && world.openings.is_empty());
}

#[test]
fn pins_are_changed_by_whoever_knows_them() {
    let pins = "network = \"none\"\nlogin = \"pin\"\n";
    let policy = POLICY.replace("network = \"none\"\n", pins);
    let mut world = World::with_policy("new-pin", &format!("{policy}\n[screen]\nlogin = \"pin\"\n"));
    assert_eq!(world.call(Method::UnlockScreen(pin("123456"))), Reply::Done);
    let change = |zone: &str| Method::ChangePin { zone: zone.into(), pin: pin("123456"), new: pin("654321") };
    let screen = Method::ChangeScreenPin { pin: pin("123456"), new: pin("654321") };
    for (method, what) in
        [(change("office"), "Zone office"), (change("vault"), "Zone vault"), (screen.clone(), "The")]
    {
        assert!(refusal(world.call(method)).starts_with(what));
    }
    let known = PinState { chosen: true, tries_left: Some(2), public_key: None };
    [1, 255].into_iter().for_each(|slot| world.tell_pin(slot, known));
    world.refuses = Some((Cause::WrongPin, known));
    let reply = world.call(change("vault"));
    assert!(matches!(reply, Reply::Error(CallError::NotOpened { .. })), "{reply:?}");
    world.refuses = None;
    world.tell_pin(1, known);
    assert_eq!(world.call(change("vault")), Reply::Done);
    world.check_state(1, Phase::Stopped, None);
    assert_eq!(world.call(screen), Reply::Done);
    let new = Purpose::NewPin(Digits("654321".to_owned().into()));
    assert_eq!(world.purposes, [Purpose::Proof, new.clone(), new.clone(), new]);
    assert_eq!(refusal(world.call(change("office"))), "Zone office has no PIN that could be changed.");
}
