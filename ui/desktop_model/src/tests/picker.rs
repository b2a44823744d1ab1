use super::{SEED, centre, demo_picker, event, status, tap, tunnel, zone};
use crate::geometry::Point;
use crate::picker::{ARMING, Action, Link, MOVING, OPENING, PATIENCE, QUESTION};
use crate::pointer::Stage;
use crate::status::{Notice, Phase};
use crate::view::{FrontView, Level, Symbol};

#[test]
fn a_touch_on_a_stopped_zone_starts_it() {
    let mut picker = demo_picker(Phase::Stopped);
    let tile = picker.layout().tiles[1];
    assert_eq!(tap(&mut picker, 100, tile), Some(Action::Start { zone: "research".to_owned() }));
    let view = picker.view(100);
    assert_eq!((view.tiles[1].phase.as_str(), view.tiles[1].symbol), ("Start requested", Symbol::Busy));
    assert_eq!(view.tiles[0].phase, "Stopped");
    assert_eq!(tap(&mut picker, 200, tile), None, "one request at a time");
    let mut opened = picker.clone();
    picker.tick(100 + OPENING - 1);
    assert_eq!(picker.view(100 + OPENING - 1).tiles[1].phase, "Start requested", "the TPM takes its time");
    picker.tick(100 + OPENING);
    assert_eq!(picker.view(100 + OPENING).tiles[1].phase, "Stopped");
    opened.opened(5000, "research");
    opened.tick(5000 + PATIENCE);
    assert_eq!(opened.view(5000 + PATIENCE).tiles[1].phase, "Stopped", "it was opened and does not start");
}

#[test]
fn a_failed_zone_names_the_reason_and_can_be_tried_again() {
    let mut picker = demo_picker(Phase::Failed);
    let mut failed = zone("office", Phase::Failed, None);
    failed.reason = Some("vmm: killed by signal 9".to_owned());
    picker.set_status(1, status(vec![failed]));
    let tile = &picker.view(1).tiles[0];
    assert_eq!((tile.phase.as_str(), tile.symbol, tile.level), ("Failed", Symbol::Failed, Level::Bad));
    assert_eq!(tile.reason, "vmm: killed by signal 9");
    let rect = tile.rect;
    assert_eq!(tap(&mut picker, 2, rect), Some(Action::Start { zone: "office".to_owned() }));
}

#[test]
fn a_touch_on_a_paused_zone_lets_it_go_on() {
    let mut picker = demo_picker(Phase::Paused);
    let tile = picker.layout().tiles[0];
    let view = picker.view(100);
    assert_eq!((view.tiles[0].phase.as_str(), view.tiles[0].hint.as_str()), ("Paused", "Touch to go on"));
    assert_eq!(tap(&mut picker, 100, tile), Some(Action::Resume { zone: "office".to_owned() }));
    let view = picker.view(100);
    assert_eq!((view.tiles[0].phase.as_str(), view.tiles[0].question.as_ref()), ("Resume requested", None));
    assert_eq!(tap(&mut picker, 200, tile), None, "one request at a time");
}

#[test]
fn only_the_armed_question_stops_a_running_zone() {
    let mut picker = demo_picker(Phase::Running);
    let tile = picker.layout().tiles[0];
    assert_eq!(tap(&mut picker, 1000, tile), None);
    let question = picker.view(1000).tiles[0].question.clone().expect("asked");
    assert_eq!(question.text, "Stop OFFICE?");
    assert!(!question.armed);
    assert_eq!(tap(&mut picker, 1000 + ARMING - 1, question.stop), None, "a double touch");
    assert!(picker.view(1000 + ARMING).tiles[0].question.as_ref().is_some_and(|question| question.armed));
    let action = tap(&mut picker, 1000 + ARMING, question.stop);
    assert_eq!(action, Some(Action::Stop { zone: "office".to_owned() }));
    let view = picker.view(2000);
    assert_eq!(view.tiles[0].question, None);
    assert_eq!(view.tiles[0].phase, "Stop requested");
}

#[test]
fn the_question_closes_by_keep_by_time_and_by_a_touch_elsewhere() {
    let mut picker = demo_picker(Phase::Running);
    let tile = picker.layout().tiles[0];
    let asked = |picker: &crate::picker::Picker, now| picker.view(now).tiles[0].question.is_some();
    let _ = tap(&mut picker, 0, tile);
    let [_, _, keep] = picker.layout().question_buttons(tile);
    assert_eq!(tap(&mut picker, 700, keep), None);
    assert!(!asked(&picker, 700));

    let _ = tap(&mut picker, 1000, tile);
    assert_eq!(picker.deadline(1000 + ARMING), Some(1000 + QUESTION));
    picker.tick(1000 + QUESTION);
    assert!(!asked(&picker, 1000 + QUESTION));

    let _ = tap(&mut picker, 20_000, tile);
    let other = picker.layout().tiles[1];
    assert!(tap(&mut picker, 20_700, other).is_some());
    assert!(!asked(&picker, 20_700));
}

#[test]
fn a_question_goes_when_its_zone_stops_by_itself() {
    let mut picker = demo_picker(Phase::Running);
    let tile = picker.layout().tiles[0];
    let _ = tap(&mut picker, 0, tile);
    let zones = ["office", "research", "vault"].map(|name| zone(name, Phase::Stopped, None));
    picker.set_status(100, status(zones.to_vec()));
    assert_eq!(picker.view(100).tiles[0].question, None);
}

#[test]
fn sliding_off_a_tile_a_second_finger_and_a_cancel_do_nothing() {
    let mut picker = demo_picker(Phase::Stopped);
    let (first, second) = (centre(picker.layout().tiles[0]), centre(picker.layout().tiles[1]));
    assert_eq!(picker.pointer(0, event(1, Stage::Down, first), SEED), None);
    assert!(picker.view(0).tiles[0].pressed);
    assert_eq!(picker.pointer(1, event(1, Stage::Move, second), SEED), None);
    assert!(!picker.view(1).tiles[0].pressed && !picker.view(1).tiles[1].pressed);
    assert_eq!(picker.pointer(2, event(1, Stage::Up, second), SEED), None);

    assert_eq!(picker.pointer(3, event(1, Stage::Down, first), SEED), None);
    assert_eq!(picker.pointer(4, event(2, Stage::Down, second), SEED), None);
    assert_eq!(picker.pointer(5, event(2, Stage::Up, second), SEED), None);
    assert_eq!(picker.pointer(6, event(1, Stage::Cancel, first), SEED), None);
    assert_eq!(picker.pointer(7, event(1, Stage::Up, first), SEED), None);

    assert_eq!(picker.pointer(7, event(1, Stage::Down, first), SEED), None);
    assert_eq!(picker.pointer(7, event(1, Stage::Down, Point::default()), SEED), None);
    assert_eq!(picker.pointer(7, event(1, Stage::Up, first), SEED), None, "the first touch never ended");

    let background = Point { x: 2, y: picker.layout().panel.bottom() + 2 };
    assert_eq!(picker.pointer(8, event(1, Stage::Down, background), SEED), None);
    assert_eq!(picker.pointer(9, event(1, Stage::Up, first), SEED), None);
}

#[test]
fn a_tunnel_that_is_down_says_why_in_place_of_its_bytes() {
    let mut picker = demo_picker(Phase::Running);
    let mut show = |phase, tunnel| {
        picker.set_status(1, status(vec![zone("office", phase, Some(tunnel))]));
        let tile = picker.view(1).tiles[0].clone();
        (tile.tunnel, tile.tunnel_level, tile.tunnel_reason, tile.traffic)
    };
    let mut dead = tunnel(false, 10, 2048);
    let words = |tunnel: &str, level, reason: &str, traffic: &str| {
        (tunnel.to_owned(), level, reason.to_owned(), traffic.to_owned())
    };
    let connecting = words("Tunnel connecting", Level::Attention, "", "in 2.0 KiB   out 10 B");
    assert_eq!(show(Phase::Running, dead.clone()), connecting);
    dead.reason = Some("The tunnel process was killed by signal 9.".to_owned());
    let down = words("Tunnel down", Level::Bad, "The tunnel process was killed by signal 9.", "");
    assert_eq!(show(Phase::Running, dead.clone()), down);
    assert_eq!(show(Phase::Stopped, dead.clone()), words("Tunnel off", Level::Quiet, "", ""));
    dead.up = true;
    assert_eq!(show(Phase::Running, dead), words("Tunnel up", Level::Good, "", "in 2.0 KiB   out 10 B"));
}

#[test]
fn bytes_move_for_a_while_and_stop_moving() {
    let mut picker = demo_picker(Phase::Running);
    assert!(!picker.view(0).tiles[0].moving);
    let moved = vec![
        zone("office", Phase::Running, Some(tunnel(true, 10, 2048))),
        zone("research", Phase::Stopped, Some(tunnel(false, 0, 0))),
        zone("vault", Phase::Stopped, None),
    ];
    picker.set_status(1000, status(moved.clone()));
    let tile = picker.view(1000).tiles[0].clone();
    assert!(tile.moving);
    assert_eq!(tile.traffic, "in 2.0 KiB   out 10 B");
    assert_eq!(tile.tunnel, "Tunnel up");
    assert_eq!(picker.deadline(1000), Some(1000 + MOVING));
    picker.set_status(2000, status(moved));
    picker.tick(1000 + MOVING);
    assert!(!picker.view(1000 + MOVING).tiles[0].moving);
    assert_eq!(picker.deadline(1000 + MOVING), None, "an idle picker needs no timer");
    let vault = picker.view(0).tiles[2].clone();
    assert_eq!((vault.tunnel.as_str(), vault.traffic.as_str()), ("No network", ""));
}

#[test]
fn notices_show_the_newest_and_are_dismissed_one_by_one() {
    let mut picker = demo_picker(Phase::Stopped);
    assert_eq!(picker.view(0).bar.text, "No notices");
    assert_eq!(picker.view(0).bar.dismiss, None);
    let notice = |number, process: &str| Notice {
        number,
        process: process.to_owned(),
        text: format!("killed by signal {number}"),
    };
    let mut with = status(vec![zone("office", Phase::Stopped, None)]);
    with.notices = vec![notice(8, "vpnd office"), notice(9, "vmm office")];
    picker.set_status(0, with.clone());
    let bar = picker.view(0).bar;
    assert_eq!((bar.subject.as_str(), bar.text.as_str()), ("vmm office", "killed by signal 9"));
    let dismiss = bar.dismiss.expect("can be dismissed");
    let _ = tap(&mut picker, 1, dismiss);
    assert_eq!(picker.view(1).bar.subject, "vpnd office");
    let _ = tap(&mut picker, 2, dismiss);
    assert_eq!(picker.view(2).bar.level, Level::Quiet);
    picker.set_status(3, with.clone());
    assert_eq!(picker.view(3).bar.level, Level::Quiet, "dismissed stays dismissed");
    picker.set_link(Link::Lost);
    picker.set_link(Link::Up);
    picker.set_status(4, with);
    assert_eq!(picker.view(4).bar.subject, "vmm office", "a new zoned may mean something else by 9");
    picker.request_failed(5, "office", "zoned refused: no such template");
    assert_eq!(picker.view(5).bar.text, "zoned refused: no such template");
}

#[test]
fn a_lost_zoned_is_shown_and_nothing_can_be_asked_of_it() {
    let mut picker = demo_picker(Phase::Running);
    for link in [Link::Lost, Link::Silent] {
        picker.set_link(link);
        let view = picker.view(0);
        assert_eq!(view.panel.uplink_level, Level::Bad);
        assert!(view.panel.uplink.starts_with("zoned "), "{}", view.panel.uplink);
        assert!(view.tiles.iter().all(|tile| tile.stale && tile.hint.is_empty()));
        for tile in picker.layout().tiles.clone() {
            assert_eq!(tap(&mut picker, 10, tile), None);
        }
        assert!(picker.view(10).tiles.iter().all(|tile| tile.question.is_none()));
    }
    let fresh = crate::picker::Picker::new(super::DISPLAY, crate::scale::Scale::One);
    assert!(matches!(fresh.view(0).front, Some(FrontView::Lock(_))), "nothing is known yet");
}

#[test]
fn hostile_words_reach_the_view_as_ascii() {
    let mut picker = demo_picker(Phase::Running);
    let mut hostile = zone("office", Phase::Failed, None);
    hostile.label = "caf\u{e9}\u{202e}\n".repeat(40);
    hostile.reason = Some("\u{1f4a3}".repeat(4000));
    picker.set_status(0, status(vec![hostile]));
    let tile = &picker.view(0).tiles[0];
    assert!(tile.label.is_ascii() && tile.label.len() <= 48);
    assert!(tile.reason.is_ascii() && tile.reason.len() <= 240);
}
