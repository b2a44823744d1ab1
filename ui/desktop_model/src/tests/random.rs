//! Random operations, and after each the rules that must always hold.

use proptest::prelude::*;

use super::{event, status, tunnel, zone};
use crate::geometry::{Point, Size};
use crate::layout::TARGET;
use crate::pad::{self, Cause, FEWEST_DIGITS, MOST_DIGITS, NotOpened, RecoveryKey};
use crate::picker::{ARMING, Action, Link, Picker, Target};
use crate::pointer::Stage;
use crate::scale::Scale;
use crate::status::{Login, Notice, Phase, PinLogin, Recovery, Screen, Tunnel};
use crate::view::FrontView;

const KEY: &str = "720885-000000-123453-654313-000011-424248-699996-499994";

#[derive(Clone, Debug)]
enum Op {
    Pointer(u32, Stage, Where, u64),
    /// A whole touch, so that PINs get typed.
    Tap(usize),
    Status(Vec<(Phase, u64, Login)>, u64, Recovery, Screen),
    Opened(usize),
    NotOpened(usize, Cause, Option<u32>),
    Link(Link),
    Display(i32, i32, Scale),
    Failed,
    KeyMade,
    KeyNoted,
    KeyFailed,
    Unlocked,
    NotUnlocked(Cause, Option<u32>),
    ScreenFailed,
    LockRefused,
    FollowUp,
    PinChanged(usize),
    ScreenPinChanged,
    Pass(u64),
}

/// Random points rarely hit a button, so half of the operations aim at one.
#[derive(Clone, Debug)]
enum Where {
    Point(i32, i32),
    Target(usize),
}

fn an_op() -> impl Strategy<Value = Op> {
    let stage = prop_oneof![
        3 => Just(Stage::Down), 3 => Just(Stage::Up), 1 => Just(Stage::Move), 1 => Just(Stage::Cancel)
    ];
    let place = prop_oneof![
        (-20..2100, -20..2100).prop_map(|(x, y)| Where::Point(x, y)),
        (0..14usize).prop_map(Where::Target),
    ];
    let tries = || proptest::option::of(0..4u32);
    let login = || {
        prop_oneof![
            1 => Just(Login::Touch),
            2 => (any::<bool>(), any::<bool>(), tries())
                .prop_map(|(chosen, shuffle, tries_left)| Login::Pin(PinLogin { chosen, shuffle, tries_left })),
        ]
    };
    let phase = prop_oneof![
        Just(Phase::Stopped),
        Just(Phase::Starting),
        Just(Phase::Running),
        Just(Phase::Paused),
        Just(Phase::Locking),
        Just(Phase::Locked),
        Just(Phase::Stopping),
        Just(Phase::Failed)
    ];
    let link = prop_oneof![
        4 => Just(Link::Up), 1 => Just(Link::Lost), 1 => Just(Link::Silent), 1 => Just(Link::Connecting)
    ];
    let recovery = prop_oneof![Just(Recovery::None), Just(Recovery::Shown), Just(Recovery::Noted)];
    let cause = || proptest::sample::select(Cause::ALL.to_vec());
    let screen =
        (proptest::bool::weighted(0.25), login()).prop_map(|(locked, login)| Screen { locked, login });
    let scale = prop_oneof![Just(Scale::One), Just(Scale::OneAndHalf), Just(Scale::Two)];
    prop_oneof![
        20 => (0..3u32, stage, place, any::<u64>())
            .prop_map(|(contact, stage, at, seed)| Op::Pointer(contact, stage, at, seed)),
        30 => (0..14usize).prop_map(Op::Tap),
        2 => (0..4usize).prop_map(Op::Opened),
        3 => (0..4usize, cause(), tries())
            .prop_map(|(zone, cause, tries)| Op::NotOpened(zone, cause, tries)),
        6 => (proptest::collection::vec((phase, 0..5000u64, login()), 0..12), 0..4u64, recovery, screen)
            .prop_map(|(zones, notice, recovery, screen)| Op::Status(zones, notice, recovery, screen)),
        1 => Just(Op::Unlocked),
        1 => (cause(), tries()).prop_map(|(cause, tries)| Op::NotUnlocked(cause, tries)),
        1 => Just(Op::ScreenFailed),
        1 => Just(Op::LockRefused),
        2 => Just(Op::FollowUp),
        1 => (0..4usize).prop_map(Op::PinChanged),
        1 => Just(Op::ScreenPinChanged),
        2 => Just(Op::KeyMade),
        1 => Just(Op::KeyNoted),
        1 => Just(Op::KeyFailed),
        2 => link.prop_map(Op::Link),
        1 => (960..2048i32, 960..2048i32, scale)
            .prop_map(|(width, height, scale)| Op::Display(width, height, scale)),
        1 => Just(Op::Failed),
        4 => (0..4000u64).prop_map(Op::Pass),
    ]
}

/// What the test remembers in order to judge actions without asking the picker's own state.
#[derive(Default)]
struct Witness {
    /// Contact and target of each open touch, as they were at its beginning.
    down: Vec<(u32, Option<Target>)>,
    asked_at: Option<u64>,
    /// What the last status said of the display's lock.
    told_locked: Option<bool>,
    /// The user has locked it, and nobody has answered.
    wanted: bool,
}

impl Witness {
    fn is_locked(&self) -> bool {
        self.wanted || self.told_locked != Some(false)
    }
}

fn run(ops: Vec<Op>) -> Result<(), TestCaseError> {
    let mut picker = Picker::new(Size { width: 1280, height: 960 }, Scale::One);
    let mut witness = Witness::default();
    let mut now = 0;
    for op in ops {
        match op {
            Op::Pointer(contact, stage, place, seed) => {
                pointer(&mut picker, &mut witness, now, (contact, stage, seed), place)?;
            }
            Op::Tap(target) => {
                for stage in [Stage::Down, Stage::Up] {
                    pointer(&mut picker, &mut witness, now, (9, stage, 7), Where::Target(target))?;
                }
            }
            Op::Opened(zone) => picker.opened(now, &format!("zone{zone}")),
            Op::NotOpened(zone, cause, tries_left) => {
                let (zone, reason) = (format!("zone{zone}"), "Said by zoned.".to_owned());
                picker.not_opened(now, &NotOpened { zone, cause, reason, tries_left });
            }
            Op::Status(zones, notice, recovery, screen) => {
                let zones = (0..).zip(zones).map(|(index, (phase, bytes, login))| {
                    let net = (index % 3 != 2).then(|| Tunnel {
                        public_key: (bytes % 3 != 0).then(|| "a".repeat(44)),
                        ..tunnel(bytes % 2 == 0, bytes, bytes / 2)
                    });
                    crate::status::Zone { login, ..zone(&format!("zone{index}"), phase, net) }
                });
                let mut status = status(zones.collect());
                status.recovery = recovery;
                status.screen = screen;
                witness.told_locked = Some(screen.locked);
                witness.wanted &= !screen.locked;
                status.notices = (0..notice)
                    .map(|number| Notice { number, process: "vmm".to_owned(), text: "died".to_owned() })
                    .collect();
                picker.set_status(now, status);
            }
            Op::Link(link) => picker.set_link(link),
            Op::Display(width, height, scale) => picker.set_display(Size { width, height }, scale),
            Op::KeyMade => picker.key_made(now, RecoveryKey::read(KEY)),
            Op::KeyNoted => picker.key_noted(now),
            Op::KeyFailed => picker.key_failed(now, "refused"),
            Op::Unlocked => {
                picker.unlocked(now);
                witness.wanted = false;
            }
            Op::NotUnlocked(cause, tries_left) => {
                let (zone, reason) = (String::new(), "Said by zoned.".to_owned());
                picker.not_unlocked(now, &NotOpened { zone, cause, reason, tries_left });
            }
            Op::ScreenFailed => picker.screen_failed(now, "refused"),
            Op::LockRefused => {
                picker.lock_refused("refused");
                witness.wanted = false;
            }
            Op::FollowUp => {
                let asked = picker.follow_up();
                prop_assert!(asked.is_none() || asked == Some(Action::LockScreen) && witness.wanted);
            }
            Op::PinChanged(zone) => picker.pin_changed(now, &format!("zone{zone}")),
            Op::ScreenPinChanged => picker.screen_pin_changed(now),
            Op::Failed => picker.request_failed(now, "zone0", "refused"),
            Op::Pass(by) => {
                now += by;
                picker.tick(now);
            }
        }
        assert_invariants(&picker, &witness, now)?;
    }
    Ok(())
}

fn pointer(
    picker: &mut Picker,
    witness: &mut Witness,
    now: u64,
    (contact, stage, seed): (u32, Stage, u64),
    place: Where,
) -> Result<(), TestCaseError> {
    let targets = picker.targets();
    let at = match place {
        Where::Point(x, y) => Point { x, y },
        Where::Target(index) if !targets.is_empty() => super::centre(targets[index % targets.len()].0),
        Where::Target(_) => Point::default(),
    };
    let target = picker.target_at(at);
    let front = picker.view(now).front;
    let asked = asking(picker, now);
    let names: Vec<String> = picker.view(now).tiles.iter().map(|tile| tile.label.to_lowercase()).collect();
    let first = picker.layout().first_zone;
    let began = witness.down.iter().rev().find(|(held, _)| *held == contact).and_then(|(_, target)| *target);
    let action = picker.pointer(now, event(contact, stage, at), seed);
    let locked = witness.is_locked();
    if stage == Stage::Up && began == target && picker.is_locked() && !locked {
        prop_assert_eq!(target, Some(Target::LockScreen), "it locks at the user's wish");
        witness.wanted = true;
    }
    match stage {
        Stage::Down => witness.down.push((contact, target)),
        Stage::Up | Stage::Cancel => witness.down.retain(|(held, _)| *held != contact),
        Stage::Move => {}
    }
    if let Some(action) = action {
        prop_assert_eq!(stage, Stage::Up);
        if locked {
            let lifts = matches!(
                action,
                Action::UnlockScreen { .. } | Action::RecoverScreen { .. } | Action::LockScreen
            );
            prop_assert!(lifts, "{action:?} of a locked display");
        }
        prop_assert_eq!(began, target, "began and ended on different targets");
        match (action, target) {
            (Action::Start { zone }, Some(Target::Tile(index))) => {
                prop_assert!(!picker.view(now).tiles[index - first].padlock, "started without its PIN");
                prop_assert_eq!(&zone, &names[index - first]);
            }
            (Action::Resume { zone }, Some(Target::Tile(index))) => {
                prop_assert_eq!(&zone, &names[index - first]);
            }
            (Action::Stop { zone }, Some(Target::Stop(index))) => {
                prop_assert_eq!(&zone, &names[index - first]);
                prop_assert!(witness.asked_at.is_some_and(|asked| now >= asked + ARMING), "stopped unarmed");
            }
            (Action::Lock { zone }, Some(Target::Lock(index))) => {
                prop_assert_eq!(&zone, &names[index - first]);
                prop_assert!(witness.asked_at.is_some_and(|asked| now >= asked + ARMING), "locked unarmed");
            }
            (Action::LockScreen, Some(Target::LockScreen)) => prop_assert!(witness.wanted),
            (Action::UnlockScreen { pin }, Some(Target::Unlock | Target::Front(pad::Target::Retry))) => {
                prop_assert!(locked && pin.characters().count() == 0);
            }
            (Action::UnlockScreen { pin }, Some(Target::Front(pad::Target::Go))) => {
                prop_assert!(locked && (FEWEST_DIGITS..=MOST_DIGITS).contains(&pin.characters().count()));
            }
            (Action::RecoverScreen { key, .. }, Some(Target::Front(pad::Target::Go))) => {
                prop_assert!(locked && key.is_whole());
            }
            (
                Action::ChangePin { pin, new, .. } | Action::ChangeScreenPin { pin, new },
                Some(Target::Front(pad::Target::Go)),
            ) => {
                let counts = [&pin, &new].map(|digits| digits.characters().count());
                prop_assert!(counts.iter().all(|count| (FEWEST_DIGITS..=MOST_DIGITS).contains(count)));
            }
            (Action::Open { pin, .. }, Some(Target::Front(pad::Target::Go))) => {
                prop_assert!((FEWEST_DIGITS..=MOST_DIGITS).contains(&pin.characters().count()));
                let busy = |view| matches!(view, Some(FrontView::Pad(pad)) if pad.busy.is_some());
                prop_assert!(!busy(front) && busy(picker.view(now).front), "asked twice");
            }
            (Action::Recover { key, .. }, Some(Target::Front(pad::Target::Go))) => {
                prop_assert!(key.is_whole());
            }
            (Action::NoteRecoveryKey { key }, Some(Target::Front(pad::Target::Go))) => {
                prop_assert!(key.is_whole());
            }
            (Action::Start { .. } | Action::NewRecoveryKey, Some(Target::Front(pad::Target::Retry))) => {
                prop_assert!(matches!(front, Some(FrontView::Card(_))));
            }
            (action, target) => prop_assert!(false, "{action:?} by a touch on {target:?}"),
        }
    }
    let asking = asking(picker, now);
    if asking.is_some() && asking != asked {
        witness.asked_at = Some(now);
    }
    Ok(())
}

/// The zone of the stop question.
fn asking(picker: &Picker, now: u64) -> Option<usize> {
    picker.view(now).tiles.iter().find(|tile| tile.question.is_some()).map(|tile| tile.zone)
}

/// A locked display shows nothing of any zone, and takes no touch that is not about its lock.
fn assert_locked(picker: &Picker, now: u64) -> Result<(), TestCaseError> {
    let view = picker.view(now);
    let printed = format!("{view:?}");
    for word in ["ZONE", "vmm", "Uplink", "192.168", "\"demo\"", "aaaa"] {
        prop_assert!(!printed.contains(word), "{word} in {printed}");
    }
    prop_assert!(view.front.is_some());
    for (_, target) in picker.targets() {
        prop_assert!(matches!(target, Target::Unlock | Target::Front(_)), "{target:?}");
    }
    Ok(())
}

fn assert_invariants(picker: &Picker, witness: &Witness, now: u64) -> Result<(), TestCaseError> {
    prop_assert_eq!(picker.is_locked(), witness.is_locked());
    if witness.is_locked() {
        assert_locked(picker, now)?;
    }
    let layout = picker.layout();
    let screen = layout.display.rect();
    let least = layout.scale.of(TARGET);
    let targets = picker.targets();
    for (index, (rect, target)) in targets.iter().enumerate() {
        prop_assert!(screen.encloses(*rect), "{target:?} {rect:?} is off {screen:?}");
        prop_assert!(rect.width >= least && rect.height >= least, "{target:?} {rect:?} is too small");
        if matches!(target, Target::Front(_)) {
            let least = layout.scale.of(pad::KEY);
            prop_assert!(rect.width >= least && rect.height >= least, "{target:?} {rect:?} is too small");
        }
        for (other, beneath) in &targets[index + 1..] {
            let on_it = matches!((target, beneath), (Target::TunnelKey(on) | Target::End(on), Target::Tile(tile)) if on == tile);
            let apart = rect.intersection(*other).is_empty() || on_it;
            prop_assert!(apart, "{target:?} {rect:?} overlaps {other:?}");
        }
    }
    let view = picker.view(now);
    prop_assert_eq!(
        view.front.is_some(),
        targets.iter().any(|(_, target)| matches!(target, Target::Front(_)))
            || matches!(&view.front, Some(FrontView::Lock(_)))
            || matches!(&view.front, Some(FrontView::Pad(pad)) if pad.busy.is_some()),
        "the front takes all touches"
    );
    prop_assert!(view.tiles.iter().filter(|tile| tile.question.is_some()).count() <= 1);
    prop_assert!(view.tiles.iter().filter(|tile| tile.pressed).count() <= 1);
    prop_assert!(view.tiles.iter().all(|tile| screen.encloses(tile.rect)));
    prop_assert!(picker.deadline(now).is_none_or(|deadline| deadline > now), "a deadline in the past spins");
    Ok(())
}

proptest! {
    #[test]
    fn property_the_rules_hold_under_random_operations(ops in proptest::collection::vec(an_op(), 1..120)) {
        run(ops)?;
    }
}
