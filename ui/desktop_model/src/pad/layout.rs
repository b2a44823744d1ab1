//! Where the pad's keys and the card's words are.
//!
//! Both cover the whole display: a frame and a band in the zone's colour, inside of it the rest. On a wide display
//! the words stand to the left of the keys, on a tall one above them. Targets have sides of at least [`KEY`] on every
//! display of 480 x 320 logical pixels or more, in either direction, and of [`TARGET`] on the least one.

use crate::geometry::{Rect, Size};
use crate::layout::TARGET;
use crate::scale::Scale;

/// The least side of a key, in logical pixels.
pub const KEY: i32 = 64;

const MOST_KEY: Size = Size { width: 176, height: 128 };
const MOST_WORDS: Size = Size { width: 520, height: 240 };
const MOST_CARD: Size = Size { width: 760, height: 640 };
const BUTTON: Size = Size { width: 240, height: 72 };

/// Lengths that follow from how much room there is, in physical pixels.
#[derive(Clone, Copy)]
struct Measures {
    band: i32,
    frame: i32,
    margin: i32,
    gap: i32,
}

/// Geometry of the pad and of the card that stands in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PadLayout {
    /// The whole display.
    pub display: Size,
    /// Width of the frame in the zone's colour.
    pub frame: i32,
    /// The band in the zone's colour, with its label.
    pub band: Rect,
    /// Headline, dots and message.
    pub words: Rect,
    /// The ten places of digits; an unshuffled pad has each digit at the place of its number.
    pub places: [Rect; 10],
    /// Takes the last digit away.
    pub back: Rect,
    /// Sends the PIN.
    pub go: Rect,
    /// Closes the pad.
    pub cancel: Rect,
    /// Changes the PIN; beside it.
    pub change: Rect,
    /// The card's words.
    pub card: Rect,
    /// Closes the card.
    pub leave: Rect,
    /// The card's other button.
    pub retry: Rect,
}

/// Where the unshuffled pad of this display has `digit`; `None`: it is none.
#[must_use]
pub fn key_rect(display: Size, scale: Scale, digit: u8) -> Option<Rect> {
    PadLayout::new(display, scale).places.get(usize::from(digit)).copied()
}

impl PadLayout {
    /// The layout for a display.
    #[must_use]
    pub fn new(display: Size, scale: Scale) -> Self {
        let measures = measures(display, scale);
        let Measures { band, frame, margin, gap } = measures;
        let band = Rect { x: 0, y: 0, width: display.width, height: band };
        let body = Rect::from_edges(0, band.bottom(), display.width, display.height).inset(frame + margin);
        // Beside words, keys of a narrow display would be narrower than a finger.
        let narrow = body.width < scale.of(400) && display.height >= scale.of(480);
        let tall = narrow || display.height * 2 >= display.width * 3;
        let (words, grid, (cancel, change)) =
            if tall { above(body, scale, gap) } else { beside(body, scale, gap) };

        let key = Size { width: (grid.width - 2 * gap) / 3, height: (grid.height - 3 * gap) / 4 };
        let at = |column: i32, row: i32| Rect {
            x: grid.x + column * (key.width + gap),
            y: grid.y + row * (key.height + gap),
            width: key.width,
            height: key.height,
        };
        let places = std::array::from_fn(|place| match i32::try_from(place).unwrap_or(0) {
            0 => at(1, 3),
            place => at((place - 1) % 3, (place - 1) / 3),
        });
        let (card, leave, retry) = card(body, scale, gap);
        Self {
            display,
            frame,
            band,
            words,
            places,
            back: at(0, 3),
            go: at(2, 3),
            cancel,
            change,
            card,
            leave,
            retry,
        }
    }
}

fn measures(display: Size, scale: Scale) -> Measures {
    let px = |logical| scale.of(logical);
    let short = display.width.min(display.height);
    if short >= px(480) {
        return Measures { band: px(72), frame: px(8), margin: px(24), gap: px(16) };
    }
    if short >= px(320) {
        return Measures { band: px(40), frame: px(2), margin: px(4), gap: px(4) };
    }
    Measures { band: px(36), frame: px(2), margin: 0, gap: px(2) }
}

/// Words and small buttons to the left of the keys.
fn beside(body: Rect, scale: Scale, gap: i32) -> (Rect, Rect, (Rect, Rect)) {
    let px = |logical| scale.of(logical);
    let height = (body.height).min(4 * px(MOST_KEY.height) + 3 * gap);
    let least = 3 * px(if body.width < px(400) { TARGET } else { KEY }) + 2 * gap;
    let width = (body.width / 2).max(least).min(3 * px(MOST_KEY.width) + 2 * gap);
    let between = gap * 2;
    let left = (body.width - width - between).min(px(MOST_WORDS.width));
    let x = body.x + (body.width - left - between - width) / 2;
    let y = body.y + (body.height - height) / 2;
    let grid = Rect { x: x + left + between, y, width, height };
    let button = (height - 3 * gap) / 4;
    let row = Rect { x, y: grid.bottom() - button, width: left, height: button };
    let words = Rect::from_edges(x, y, x + left, row.y - gap);
    (words, grid, small_buttons(row, scale, gap))
}

/// Cancel and change, from the left of their row.
fn small_buttons(row: Rect, scale: Scale, gap: i32) -> (Rect, Rect) {
    let width = ((row.width - gap) / 2).min(scale.of(BUTTON.width));
    let cancel = Rect { width, ..row };
    (cancel, Rect { x: cancel.right() + gap, ..cancel })
}

/// Words above the keys, the small buttons below them.
fn above(body: Rect, scale: Scale, gap: i32) -> (Rect, Rect, (Rect, Rect)) {
    let px = |logical| scale.of(logical);
    let width = body.width.min(3 * px(MOST_KEY.width) + 2 * gap);
    let x = body.x + (body.width - width) / 2;
    let button = px(KEY);
    let least_words = px(if body.width < px(400) { 84 } else { 148 });
    let for_keys = body.height - least_words - button - 2 * gap;
    let height = for_keys.min(4 * px(MOST_KEY.height) + 3 * gap);
    let for_words = (body.height - height - button - 2 * gap).min(px(MOST_WORDS.height));
    let y = body.y + (body.height - for_words - height - button - 2 * gap) / 2;
    let words = Rect { x, y, width, height: for_words };
    let grid = Rect { x, y: words.bottom() + gap, width, height };
    let row = Rect { x, y: grid.bottom() + gap, width, height: button };
    let half = Rect { width: (width - gap) / 2, ..row };
    (words, grid, (half, Rect { x: row.right() - half.width, ..half }))
}

/// The card's words, and its buttons below them.
fn card(body: Rect, scale: Scale, gap: i32) -> (Rect, Rect, Rect) {
    let px = |logical| scale.of(logical);
    let width = body.width.min(px(MOST_CARD.width));
    let height = body.height.min(px(MOST_CARD.height));
    let x = body.x + (body.width - width) / 2;
    let bottom = body.y + (body.height + height) / 2;
    let button = Size {
        width: ((width - gap) / 2).min(px(BUTTON.width)),
        height: if body.height < px(320) { px(KEY) } else { px(BUTTON.height) },
    };
    let y = bottom - button.height;
    let leave = Rect { x, y, width: button.width, height: button.height };
    let retry = Rect { x: leave.right() + gap, ..leave };
    (Rect::from_edges(x, bottom - height, x + width, y - gap), leave, retry)
}
