//! The page with the public key of a zone's tunnel.

use super::{DISPLAY, centre, status, tap, tunnel, zone};
use crate::pad::{ARMING, Cause, NotOpened};
use crate::picker::{Link, Picker, Target};
use crate::scale::Scale;
use crate::status::{Phase, Status, Tunnel};
use crate::view::{FrontView, TunnelKeyView};

const KEY: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";

fn with(key: Option<&str>, phase: Phase) -> Status {
    let public_key = key.map(str::to_owned);
    let office = zone("office", phase, Some(Tunnel { public_key, ..tunnel(false, 0, 0) }));
    status(vec![office, zone("vault", Phase::Stopped, None)])
}

fn picker_with(key: Option<&str>, phase: Phase) -> Picker {
    let mut picker = Picker::new(DISPLAY, Scale::One);
    picker.set_link(Link::Up);
    picker.set_status(0, with(key, phase));
    picker
}

fn page(picker: &Picker) -> Option<TunnelKeyView> {
    match picker.view(0).front {
        Some(FrontView::Tunnel(page)) => Some(page),
        None => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_small_button_shows_the_key_and_the_rest_of_the_tile_does_what_it_did() {
    for phase in [Phase::Stopped, Phase::Running, Phase::Locked] {
        let mut picker = picker_with(Some(KEY), phase);
        let tile = picker.view(0).tiles[0].clone();
        let button = tile.key.expect("it has a key");
        assert_eq!(picker.target_at(centre(button.rect)), Some(Target::TunnelKey(0)));
        assert_eq!(picker.target_at(centre(tile.rect)), Some(Target::Tile(0)));
        assert_eq!(tap(&mut picker, 1000, button.rect), None);
        let shown = page(&picker).expect("the page");
        assert_eq!((shown.key.as_str(), shown.label.as_str()), (KEY, "OFFICE"));
        assert!(shown.words.encloses(shown.code_at) && shown.words.encloses(shown.key_at));
        assert_eq!(picker.targets(), [(shown.leave.rect, Target::Front(crate::pad::Target::Leave))]);
        assert_eq!(tap(&mut picker, 1000 + ARMING - 1, shown.leave.rect), None);
        assert!(page(&picker).is_some(), "it has just appeared");
        assert_eq!(tap(&mut picker, 1000 + ARMING, shown.leave.rect), None);
        assert_eq!(page(&picker), None);
    }
}

#[test]
fn a_zone_without_a_key_has_no_button() {
    for key in [None, Some("")] {
        let picker = picker_with(key, Phase::Running);
        assert!(picker.view(0).tiles.iter().all(|tile| tile.key.is_none()), "{key:?}");
        assert!(picker.targets().iter().all(|(_, target)| !matches!(target, Target::TunnelKey(_))));
    }
    // The question's buttons are where it was.
    let mut picker = picker_with(Some(KEY), Phase::Running);
    let tile = picker.view(0).tiles[0].rect;
    assert_eq!(tap(&mut picker, 0, tile), None);
    assert_eq!(picker.view(0).tiles[0].key, None);
}

#[test]
fn the_page_follows_its_zone_and_goes_with_it() {
    let open = || {
        let mut picker = picker_with(Some(KEY), Phase::Stopped);
        let button = picker.view(0).tiles[0].key.clone().expect("a key").rect;
        assert_eq!(tap(&mut picker, 0, button), None);
        picker
    };
    let mut picker = open();
    picker.set_status(1, with(Some("Zm9v"), Phase::Stopped));
    assert_eq!(page(&picker).expect("still there").key, "Zm9v");
    picker.set_status(1, with(None, Phase::Stopped));
    assert_eq!((page(&picker), picker.view(1).tiles.len()), (None, 2));
    assert!(picker.targets().iter().any(|(_, target)| *target == Target::Tile(0)), "no invisible page");
    let mut picker = open();
    picker.set_status(1, status(vec![zone("vault", Phase::Stopped, None)]));
    assert_eq!(page(&picker), None);
    let mut picker = open();
    let (zone, cause) = ("office".to_owned(), Cause::TpmBusy);
    picker.not_opened(1, &NotOpened { zone, cause, reason: "Wait.".to_owned(), tries_left: None });
    assert!(matches!(picker.view(1).front, Some(FrontView::Card(_))));
}
