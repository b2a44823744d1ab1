//! The making of the recovery key.

use super::pad::{card, pad, type_digits};
use super::{DISPLAY, SEED, centre, event, status, tap, zone};
use crate::geometry::Rect;
use crate::pad::making::{ASKED, WRITING};
use crate::pad::recovery::{GroupState, KEY_IDLE};
use crate::pad::{ARMING, Cause, NotOpened, RecoveryKey};
use crate::picker::{Action, Link, Picker, Target};
use crate::pointer::Stage;
use crate::scale::Scale;
use crate::status::{Notice, Phase, Recovery, Status};
use crate::view::{FrontView, Level, MadeView};

const KEY: &str = "720885-000000-123453-654313-000011-424248-699996-499994";

/// Each stage appears a while after the one before: touches count.
const LATER: u64 = 1_000 + 10 * ARMING;

fn key() -> RecoveryKey {
    RecoveryKey::read(KEY).expect("a key")
}

fn with(recovery: Recovery) -> Status {
    Status { recovery, ..status(vec![zone("office", Phase::Stopped, None)]) }
}

fn picker_with(recovery: Recovery) -> Picker {
    let mut picker = Picker::new(DISPLAY, Scale::One);
    picker.set_link(Link::Up);
    picker.set_status(0, with(recovery));
    picker
}

/// The question whether to make one, since 0.
fn asked() -> Picker {
    let mut picker = picker_with(Recovery::None);
    let bar = picker.layout().notice;
    assert_eq!(tap(&mut picker, 0, bar), None);
    picker
}

/// Waits for a key since [`ARMING`].
fn waiting() -> Picker {
    let mut picker = asked();
    let onward = card(&picker, ARMING).onward.expect("it leads on").rect;
    assert_eq!(tap(&mut picker, ARMING, onward), Some(Action::NewRecoveryKey));
    picker
}

/// Shows the key since 1000.
fn shown() -> Picker {
    let mut picker = waiting();
    picker.key_made(1_000, Some(key()));
    picker
}

fn made(picker: &Picker) -> MadeView {
    match picker.view(LATER).front {
        Some(FrontView::Made(made)) => made,
        other => panic!("no key but {other:?}"),
    }
}

fn written(picker: &mut Picker, now: u64, seed: u64) {
    let at = centre(made(picker).written.expect("a key is there").rect);
    assert_eq!(picker.pointer(now, event(1, Stage::Down, at), seed), None);
    assert_eq!(picker.pointer(now, event(1, Stage::Up, at), seed), None);
}

/// Asks for groups since [`LATER`].
fn checked() -> Picker {
    let mut picker = shown();
    written(&mut picker, LATER, SEED);
    picker
}

/// The group that is asked for, from 0, and its digits.
fn wanted(picker: &Picker) -> Option<(usize, String)> {
    let groups = pad(picker, LATER).groups;
    let group = groups.iter().position(|group| group.state == GroupState::Current)?;
    Some((group, KEY.split('-').nth(group).expect("eight groups").to_owned()))
}

/// Types every group that is asked for; the answer is which they were.
fn type_all(picker: &mut Picker) -> Vec<usize> {
    let mut groups = Vec::new();
    while let Some((group, digits)) = wanted(picker) {
        let message = pad(picker, LATER).message;
        assert_eq!(message, format!("Type group {} from your paper.", group + 1));
        type_digits(picker, LATER + ARMING, &digits);
        groups.push(group);
    }
    groups
}

fn go(picker: &mut Picker) -> Option<Action> {
    let go = picker.pad_layout().go;
    tap(picker, LATER + ARMING, go)
}

fn notes(action: Option<&Action>) -> bool {
    matches!(action, Some(Action::NoteRecoveryKey { key }) if key.characters().collect::<String>() == KEY)
}

#[test]
fn the_bar_offers_to_make_a_key_until_one_is_noted() {
    for (recovery, offers) in [(Recovery::None, true), (Recovery::Shown, true), (Recovery::Noted, false)] {
        let picker = picker_with(recovery);
        assert_eq!(picker.view(0).bar.text.starts_with("No recovery key yet"), offers, "{recovery:?}");
        let bar = centre(picker.layout().notice);
        assert_eq!(picker.target_at(bar), offers.then_some(Target::Recovery), "{recovery:?}");
    }
    // Neither where something else is to be said, nor where nobody is to be asked.
    let mut picker = picker_with(Recovery::None);
    picker.set_link(Link::Lost);
    assert_eq!(picker.target_at(centre(picker.layout().notice)), None);
    picker.set_link(Link::Up);
    let notices = vec![Notice { number: 1, process: "vmm".to_owned(), text: "It died.".to_owned() }];
    picker.set_status(0, Status { notices, ..with(Recovery::None) });
    assert_eq!(picker.target_at(centre(picker.layout().notice)), None);
}

#[test]
fn a_key_is_made_shown_typed_back_and_noted() {
    let mut picker = asked();
    let question = card(&picker, 0);
    assert_eq!(
        (question.headline.as_str(), question.leave.words.as_str()),
        ("Make a recovery key?", "Later")
    );
    let onward = question.onward.expect("it leads on").rect;
    assert_eq!(tap(&mut picker, ARMING - 1, onward), None, "a double touch on the bar");
    let mut picker = waiting();
    assert!(made(&picker).busy.is_some() && made(&picker).groups.is_empty() && made(&picker).code.is_none());
    picker.key_made(1_000, Some(key()));
    let view = made(&picker);
    let groups: Vec<String> = view.groups.iter().map(|group| group.digits.characters().collect()).collect();
    assert_eq!(groups.join("-"), KEY);
    assert_eq!(view.code, Some(key()));
    written(&mut picker, 1_000 + ARMING, SEED);
    let view = pad(&picker, LATER);
    assert!(view.go.dull && view.groups.iter().all(|group| group.digits.count() == 0), "nothing is shown");
    assert_eq!(go(&mut picker), None);
    for _ in 0..ASKED {
        let (_, digits) = wanted(&picker).expect("a group");
        assert_eq!(go(&mut picker), None, "some are still missing");
        type_digits(&mut picker, LATER + ARMING, &digits);
    }
    assert_eq!(wanted(&picker), None);
    let view = pad(&picker, LATER);
    assert_eq!((view.message.as_str(), view.go.dull), ("These groups are right.", false));
    assert!(notes(go(&mut picker).as_ref()));
    assert_eq!(made(&picker).headline, "Noting the recovery key...");
    assert!(made(&picker).groups.is_empty() && made(&picker).code.is_none());
    picker.key_noted(LATER);
    assert_eq!(card(&picker, LATER).headline, "The recovery key is noted");
    let leave = picker.pad_layout().leave;
    assert_eq!(tap(&mut picker, LATER + 2 * ARMING, leave), None);
    assert_eq!(picker.view(LATER).front, None);
}

#[test]
fn a_wrong_group_leads_back_to_the_key_and_to_other_groups() {
    let mut picker = checked();
    let (first, digits) = wanted(&picker).expect("a group");
    type_digits(&mut picker, LATER + ARMING, &digits);
    let (second, digits) = wanted(&picker).expect("a group");
    let mut wrong = digits.into_bytes();
    wrong[5] = if wrong[5] == b'9' { b'0' } else { wrong[5] + 1 };
    type_digits(&mut picker, LATER + ARMING, std::str::from_utf8(&wrong).expect("digits"));
    let view = made(&picker);
    assert_eq!(view.level, Level::Bad);
    assert!(view.message.contains(&format!("is not group {}.", second + 1)), "{}", view.message);
    assert_eq!(view.code, Some(key()), "{first}");
    written(&mut picker, LATER + 2 * ARMING, SEED + 1);
    assert_eq!(pad(&picker, LATER).groups.iter().filter(|group| group.digits.count() > 0).count(), 0);
    let typed = |picker: &mut Picker| {
        let mut groups = Vec::new();
        while let Some((group, digits)) = wanted(picker) {
            type_digits(picker, LATER + 3 * ARMING, &digits);
            groups.push(group);
        }
        groups
    };
    assert_eq!(typed(&mut picker).len(), ASKED);
    let go = picker.pad_layout().go;
    assert!(notes(tap(&mut picker, LATER + 3 * ARMING, go).as_ref()));
}

#[test]
fn the_groups_asked_for_come_from_the_seed_each_as_likely_as_any_other() {
    let mut counts = [0_u32; 8];
    for number in 0..800_u64 {
        let mut picker = shown();
        written(&mut picker, LATER, number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let groups = type_all(&mut picker);
        assert!(groups.len() == ASKED && groups.is_sorted_by(|one, other| one < other), "{groups:?}");
        for group in groups {
            counts[group] += 1;
        }
    }
    assert!(counts.iter().all(|count| (230..370).contains(count)), "{counts:?}");
}

type Way = fn(&mut Picker);

#[test]
fn a_key_is_gone_when_its_screen_is_left_in_any_way() {
    let leave: Way = |picker| {
        let layout = picker.pad_layout();
        let checks = matches!(picker.view(LATER).front, Some(FrontView::Pad(_)));
        let button = if checks { layout.cancel } else { layout.leave };
        assert_eq!(tap(picker, LATER + ARMING, button), None);
    };
    let ways: [(&str, Way); 4] = [
        ("leave", leave),
        ("idle", |picker| picker.tick(LATER + WRITING)),
        ("lost", |picker| picker.set_link(Link::Lost)),
        ("connecting", |picker| picker.set_link(Link::Connecting)),
    ];
    for make in [shown, checked] {
        for (name, way) in ways {
            let mut picker = make();
            way(&mut picker);
            assert_eq!(picker.view(LATER).front, None, "{name}");
            // Nothing of it is left: nobody can go on where it was closed, and a late answer shows nothing.
            picker.key_made(LATER, Some(key()));
            picker.key_noted(LATER);
            assert_eq!(picker.view(LATER).front, None, "{name}");
        }
        let mut picker = make();
        picker.set_link(Link::Silent);
        assert!(picker.view(LATER).front.is_some(), "zoned may be slow");
        picker.not_opened(
            LATER,
            &NotOpened {
                zone: "office".to_owned(),
                cause: Cause::TpmBusy,
                reason: "Wait.".to_owned(),
                tries_left: None,
            },
        );
        assert!(!matches!(picker.view(LATER).front, Some(FrontView::Card(_))), "no card takes the key away");
    }
    let mut picker = checked();
    picker.tick(LATER + KEY_IDLE - 1);
    assert!(picker.view(LATER).front.is_some());
    picker.tick(LATER + KEY_IDLE);
    assert_eq!(picker.view(LATER).front, None, "nobody types");
}

#[test]
fn what_is_no_key_and_what_was_refused_is_said_in_words() {
    let mut picker = waiting();
    picker.key_made(1_000, None);
    assert_eq!(card(&picker, LATER).headline, "The recovery key was not noted");
    let retry = picker.pad_layout().retry;
    assert_eq!(tap(&mut picker, LATER, retry), Some(Action::NewRecoveryKey));
    picker.key_failed(LATER, "The TPM is busy.");
    assert_eq!(card(&picker, LATER).reason, "The TPM is busy.");
    picker.set_link(Link::Lost);
    assert_eq!(card(&picker, LATER).onward, None, "nobody is there to ask");

    let mut picker = waiting();
    picker.set_link(Link::Lost);
    assert_eq!(card(&picker, LATER).reason, "zoned went away before it answered.");
    let mut picker = checked();
    type_all(&mut picker);
    assert!(notes(go(&mut picker).as_ref()));
    picker.key_failed(LATER, "It is another one.");
    assert_eq!(card(&picker, LATER).reason, "It is another one.");
    assert!(!format!("{:?}", picker.view(LATER)).contains("RecoveryKey"), "the key went out");
}

#[test]
fn only_what_is_written_like_a_key_is_read_as_one() {
    assert!(RecoveryKey::read(KEY).is_some());
    for text in [
        "",
        "720885",
        &KEY[..54],
        &KEY.replace('-', ""),
        &KEY.replace("720885", "720886"),
        &KEY.replace('7', "x"),
        &format!("{KEY}-000000"),
        &format!("{KEY}-"),
        &KEY.replacen("-0", "0-", 1),
    ] {
        assert_eq!(RecoveryKey::read(text), None, "{text}");
    }
}

#[test]
fn nothing_printed_holds_a_key_that_was_made() {
    let other = "000000-000011-000022-000033-000044-000055-000066-000077";
    let printed = |text: &str| {
        let mut picker = waiting();
        picker.key_made(1_000, RecoveryKey::read(text));
        let mut printed = format!("{picker:?} {:?}", picker.view(LATER));
        written(&mut picker, LATER, SEED);
        printed.push_str(&format!("{picker:?}"));
        let groups: Vec<&str> = text.split('-').collect();
        while let Some((group, _)) = wanted(&picker) {
            type_digits(&mut picker, LATER + ARMING, groups[group]);
        }
        let action = go(&mut picker).expect("noted");
        printed + &format!("{action:?} {picker:?}")
    };
    assert_eq!(printed(KEY), printed(other));
}

#[test]
fn nothing_beneath_a_key_can_be_touched() {
    for mut picker in [asked(), waiting(), shown(), checked()] {
        let targets: Vec<Rect> = picker.targets().into_iter().map(|(rect, _)| rect).collect();
        let tile = picker.layout().tiles[0];
        let bare = (tile.x..tile.right())
            .map(|x| Rect { x, y: tile.y + 3, width: 1, height: 1 })
            .find(|one| targets.iter().all(|rect| rect.intersection(*one).is_empty()))
            .expect("a bare place");
        assert_eq!(tap(&mut picker, LATER + ARMING, bare), None);
        assert!(picker.view(LATER).front.is_some());
    }
}
