//! The PIN pad and the card as Slint's data.

use desktop_model::pad::CardSign;
use desktop_model::pad::recovery::GroupState;
use desktop_model::view::{
    ButtonView, CardView, FrontView, GroupView, KeyView, LockView, MadeView, PadView, TunnelKeyView,
};
use slint::Color;

use super::{generated, length, level, words};

/// What a key looks like; the numbers are those of `pad.slint`.
#[derive(Clone, Copy)]
enum Kind {
    Digit,
    Quiet,
    Onward,
    Back,
}

/// The front, and its keys.
pub(super) fn data(view: Option<&FrontView>) -> (generated::Front, Vec<generated::Key>) {
    match view {
        None => (generated::Front::default(), Vec::new()),
        Some(FrontView::Pad(pad)) => (pad_data(pad), pad_keys(pad)),
        Some(FrontView::Card(card)) => (card_data(card), card_keys(card)),
        Some(FrontView::Made(made)) => (made_data(made), made_keys(made)),
        Some(FrontView::Tunnel(page)) => (tunnel_data(page), vec![button(&page.leave, Kind::Quiet)]),
        Some(FrontView::Lock(lock)) => (lock_data(lock), Vec::new()),
    }
}

/// The groups of a recovery key.
pub(super) fn groups(view: Option<&FrontView>) -> Vec<generated::Group> {
    let groups = match view {
        Some(FrontView::Pad(pad)) => &pad.groups,
        Some(FrontView::Made(made)) => &made.groups,
        Some(FrontView::Card(_) | FrontView::Tunnel(_) | FrontView::Lock(_)) | None => return Vec::new(),
    };
    let group = |group: &GroupView| generated::Group {
        digits: group.digits.characters().collect(),
        state: match group.state {
            GroupState::Later => 0,
            GroupState::Current => 1,
            GroupState::Whole => 2,
            GroupState::Mistyped => 3,
        },
    };
    groups.iter().map(group).collect()
}

fn pad_data(pad: &PadView) -> generated::Front {
    let above = pad.places.iter().all(|key| key.button.rect.y >= pad.words.bottom());
    generated::Front {
        kind: 1,
        frame: length(pad.frame),
        band: length(pad.band.height),
        colour: colour(pad.rgb),
        onward: colour(pad.onward_rgb),
        label: words(&pad.label),
        x: length(pad.words.x),
        y: length(pad.words.y),
        width: length(pad.words.width),
        height: length(pad.words.height),
        centred: above,
        headline: words(&pad.headline),
        level: level(pad.level),
        message: words(&pad.message),
        slots: i32::try_from(pad.needed.max(pad.typed)).unwrap_or(0),
        typed: i32::try_from(pad.typed).unwrap_or(0),
        busy: pad.busy.map_or(-1, i32::from),
        ..generated::Front::default()
    }
}

fn card_data(card: &CardView) -> generated::Front {
    generated::Front {
        kind: 2,
        frame: length(card.frame),
        band: length(card.band.height),
        colour: colour(card.rgb),
        onward: colour(card.onward_rgb),
        label: words(&card.label),
        x: length(card.words.x),
        y: length(card.words.y),
        width: length(card.words.width),
        height: length(card.words.height),
        headline: words(&card.headline),
        level: level(card.level),
        sign: match card.sign {
            CardSign::Lock => 0,
            CardSign::Warning => 1,
            CardSign::Cross => 2,
        },
        reason: words(&card.reason),
        advice: words(&card.advice),
        ..generated::Front::default()
    }
}

fn made_data(made: &MadeView) -> generated::Front {
    let groups = made.groups_at;
    generated::Front {
        kind: 3,
        frame: length(made.frame),
        band: length(made.band.height),
        colour: colour(made.rgb),
        onward: colour(made.onward_rgb),
        label: words(&made.label),
        x: length(made.words.x),
        y: length(made.words.y),
        width: length(made.words.width),
        height: length(made.words.height),
        headline: words(&made.headline),
        level: level(made.level),
        message: words(&made.message),
        busy: made.busy.map_or(-1, i32::from),
        groups_x: length(groups.x),
        groups_y: length(groups.y),
        groups_width: length(groups.width),
        groups_height: length(groups.height),
        code_x: length(made.code_at.x),
        code_y: length(made.code_at.y),
        code_side: length(made.code_at.width),
        ..generated::Front::default()
    }
}

fn tunnel_data(page: &TunnelKeyView) -> generated::Front {
    generated::Front {
        kind: 4,
        frame: length(page.frame),
        band: length(page.band.height),
        colour: colour(page.rgb),
        label: words(&page.label),
        x: length(page.words.x),
        y: length(page.words.y),
        width: length(page.words.width),
        height: length(page.words.height),
        headline: words(&page.headline),
        reason: words(&page.key),
        busy: -1,
        groups_x: length(page.key_at.x),
        groups_y: length(page.key_at.y),
        groups_width: length(page.key_at.width),
        groups_height: length(page.key_at.height),
        code_x: length(page.code_at.x),
        code_y: length(page.code_at.y),
        code_side: length(page.code_at.width),
        ..generated::Front::default()
    }
}

fn lock_data(lock: &LockView) -> generated::Front {
    generated::Front {
        kind: 5,
        label: words(&lock.clock),
        headline: words(&lock.headline),
        level: level(lock.level),
        message: words(&lock.message),
        advice: words(&lock.hint),
        busy: lock.busy.map_or(-1, i32::from),
        pressed: lock.pressed,
        ..generated::Front::default()
    }
}

fn colour([red, green, blue]: [u8; 3]) -> Color {
    Color::from_rgb_u8(red, green, blue)
}

fn made_keys(made: &MadeView) -> Vec<generated::Key> {
    let mut keys = vec![button(&made.leave, Kind::Quiet)];
    keys.extend(made.written.as_ref().map(|written| button(written, Kind::Onward)));
    keys
}

fn pad_keys(pad: &PadView) -> Vec<generated::Key> {
    let mut keys: Vec<_> = pad.places.iter().map(|place| key(place, Kind::Digit)).collect();
    keys.extend([key(&pad.back, Kind::Back), key(&pad.go, Kind::Onward), key(&pad.cancel, Kind::Quiet)]);
    keys.extend(pad.change.as_ref().map(|change| button(change, Kind::Quiet)));
    keys
}

fn card_keys(card: &CardView) -> Vec<generated::Key> {
    let mut keys = vec![button(&card.leave, Kind::Quiet)];
    keys.extend(card.onward.as_ref().map(|onward| button(onward, Kind::Onward)));
    keys
}

fn key(view: &KeyView, kind: Kind) -> generated::Key {
    generated::Key { dull: view.dull, ..button(&view.button, kind) }
}

fn button(view: &ButtonView, kind: Kind) -> generated::Key {
    generated::Key {
        x: length(view.rect.x),
        y: length(view.rect.y),
        width: length(view.rect.width),
        height: length(view.rect.height),
        words: words(&view.words),
        kind: match kind {
            Kind::Digit => 0,
            Kind::Quiet => 1,
            Kind::Onward => 2,
            Kind::Back => 3,
        },
        pressed: view.pressed,
        dull: false,
    }
}
