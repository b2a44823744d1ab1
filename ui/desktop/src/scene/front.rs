//! The PIN pad and the card as Slint's data.

use desktop_model::pad::CardSign;
use desktop_model::pad::recovery::GroupState;
use desktop_model::view::{ButtonView, CardView, FrontView, GroupView, KeyView, PadView};
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
    }
}

/// The groups of a recovery key.
pub(super) fn groups(view: Option<&FrontView>) -> Vec<generated::Group> {
    let Some(FrontView::Pad(pad)) = view else { return Vec::new() };
    let group = |group: &GroupView| generated::Group {
        digits: group.digits.characters().collect(),
        state: match group.state {
            GroupState::Later => 0,
            GroupState::Current => 1,
            GroupState::Whole => 2,
            GroupState::Mistyped => 3,
        },
    };
    pad.groups.iter().map(group).collect()
}

fn pad_data(pad: &PadView) -> generated::Front {
    let [red, green, blue] = pad.rgb;
    let above = pad.places.iter().all(|key| key.button.rect.y >= pad.words.bottom());
    generated::Front {
        kind: 1,
        frame: length(pad.frame),
        band: length(pad.band.height),
        colour: Color::from_rgb_u8(red, green, blue),
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
    let [red, green, blue] = card.rgb;
    generated::Front {
        kind: 2,
        frame: length(card.frame),
        band: length(card.band.height),
        colour: Color::from_rgb_u8(red, green, blue),
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

fn pad_keys(pad: &PadView) -> Vec<generated::Key> {
    let mut keys: Vec<_> = pad.places.iter().map(|place| key(place, Kind::Digit)).collect();
    keys.extend([key(&pad.back, Kind::Back), key(&pad.go, Kind::Onward), key(&pad.cancel, Kind::Quiet)]);
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
