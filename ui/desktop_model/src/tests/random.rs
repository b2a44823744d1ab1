//! Random operations, and after each the rules that must always hold.

use proptest::prelude::*;

use super::{event, status, tunnel, zone};
use crate::geometry::{Point, Size};
use crate::layout::TARGET;
use crate::picker::{ARMING, Action, Link, Picker, Target};
use crate::pointer::Stage;
use crate::scale::Scale;
use crate::status::{Notice, Phase};

#[derive(Clone, Debug)]
enum Op {
    Pointer(u32, Stage, Where),
    Status(Vec<(Phase, u64)>, u64),
    Link(Link),
    Display(i32, i32, Scale),
    Failed,
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
        (0..12usize).prop_map(Where::Target),
    ];
    let phase = prop_oneof![
        Just(Phase::Stopped),
        Just(Phase::Starting),
        Just(Phase::Running),
        Just(Phase::Paused),
        Just(Phase::Stopping),
        Just(Phase::Failed)
    ];
    let link = prop_oneof![
        4 => Just(Link::Up), 1 => Just(Link::Lost), 1 => Just(Link::Silent), 1 => Just(Link::Connecting)
    ];
    let scale = prop_oneof![Just(Scale::One), Just(Scale::OneAndHalf), Just(Scale::Two)];
    prop_oneof![
        20 => (0..3u32, stage, place).prop_map(|(contact, stage, at)| Op::Pointer(contact, stage, at)),
        4 => (proptest::collection::vec((phase, 0..5000u64), 0..12), 0..9u64)
            .prop_map(|(zones, notice)| Op::Status(zones, notice)),
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
}

fn run(ops: Vec<Op>) -> Result<(), TestCaseError> {
    let mut picker = Picker::new(Size { width: 1280, height: 960 }, Scale::One);
    let mut witness = Witness::default();
    let mut now = 0;
    for op in ops {
        match op {
            Op::Pointer(contact, stage, place) => {
                pointer(&mut picker, &mut witness, now, contact, stage, place)?;
            }
            Op::Status(zones, notice) => {
                let zones = (0..).zip(zones).map(|(index, (phase, bytes))| {
                    let net = (index % 3 != 2).then(|| tunnel(bytes % 2 == 0, bytes, bytes / 2));
                    zone(&format!("zone{index}"), phase, net)
                });
                let mut status = status(zones.collect());
                status.notices = (0..notice)
                    .map(|number| Notice { number, process: "vmm".to_owned(), text: "died".to_owned() })
                    .collect();
                picker.set_status(now, status);
            }
            Op::Link(link) => picker.set_link(link),
            Op::Display(width, height, scale) => picker.set_display(Size { width, height }, scale),
            Op::Failed => picker.request_failed("zone0", "refused"),
            Op::Pass(by) => {
                now += by;
                picker.tick(now);
            }
        }
        assert_invariants(&picker, now)?;
    }
    Ok(())
}

fn pointer(
    picker: &mut Picker,
    witness: &mut Witness,
    now: u64,
    contact: u32,
    stage: Stage,
    place: Where,
) -> Result<(), TestCaseError> {
    let targets = picker.targets();
    let at = match place {
        Where::Point(x, y) => Point { x, y },
        Where::Target(index) if !targets.is_empty() => super::centre(targets[index % targets.len()].0),
        Where::Target(_) => Point::default(),
    };
    let target = picker.target_at(at);
    let names: Vec<String> = picker.view(now).tiles.iter().map(|tile| tile.label.to_lowercase()).collect();
    let first = picker.layout().first_zone;
    let began = witness.down.iter().rev().find(|(held, _)| *held == contact).and_then(|(_, target)| *target);
    let action = picker.pointer(now, event(contact, stage, at));
    match stage {
        Stage::Down => witness.down.push((contact, target)),
        Stage::Up | Stage::Cancel => witness.down.retain(|(held, _)| *held != contact),
        Stage::Move => {}
    }
    if let Some(action) = action {
        prop_assert_eq!(stage, Stage::Up);
        prop_assert_eq!(began, target, "began and ended on different targets");
        match (action, target) {
            (Action::Start { zone }, Some(Target::Tile(index))) => {
                prop_assert_eq!(&zone, &names[index - first]);
            }
            (Action::Resume { zone }, Some(Target::Tile(index))) => {
                prop_assert_eq!(&zone, &names[index - first]);
            }
            (Action::Stop { zone }, Some(Target::Stop(index))) => {
                prop_assert_eq!(&zone, &names[index - first]);
                prop_assert!(witness.asked_at.is_some_and(|asked| now >= asked + ARMING), "stopped unarmed");
            }
            (action, target) => prop_assert!(false, "{action:?} by a touch on {target:?}"),
        }
    }
    let asking = picker.view(now).tiles.iter().any(|tile| tile.question.is_some());
    if asking && stage == Stage::Up && matches!(target, Some(Target::Tile(_))) {
        witness.asked_at = Some(now);
    }
    Ok(())
}

fn assert_invariants(picker: &Picker, now: u64) -> Result<(), TestCaseError> {
    let layout = picker.layout();
    let screen = layout.display.rect();
    let least = layout.scale.of(TARGET);
    let targets = picker.targets();
    for (index, (rect, target)) in targets.iter().enumerate() {
        prop_assert!(screen.encloses(*rect), "{target:?} {rect:?} is off {screen:?}");
        prop_assert!(rect.width >= least && rect.height >= least, "{target:?} {rect:?} is too small");
        for (other, _) in &targets[index + 1..] {
            prop_assert!(rect.intersection(*other).is_empty(), "{target:?} {rect:?} overlaps {other:?}");
        }
    }
    let view = picker.view(now);
    prop_assert!(view.tiles.iter().filter(|tile| tile.question.is_some()).count() <= 1);
    prop_assert!(view.tiles.iter().filter(|tile| tile.pressed).count() <= 1);
    prop_assert!(view.tiles.iter().all(|tile| screen.encloses(tile.rect)));
    prop_assert!(picker.deadline(now).is_none_or(|deadline| deadline > now), "a deadline in the past spins");
    Ok(())
}

proptest! {
    #[test]
    fn property_the_rules_hold_under_random_operations(ops in proptest::collection::vec(an_op(), 1..80)) {
        run(ops)?;
    }
}
