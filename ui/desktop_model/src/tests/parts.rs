use proptest::prelude::*;

use super::DISPLAY;
use crate::damage::{DamageList, Owed};
use crate::geometry::{Point, Rect, Size};
use crate::layout::{LEAST_DISPLAY, Layout, TARGET};
use crate::scale::Scale;
use crate::status::Colour;
use crate::text;

#[test]
fn bytes_read_well() {
    let table = [
        (0, "0 B"),
        (999, "999 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (10 * 1024, "10 KiB"),
        (1024 * 1024 - 1, "1023 KiB"),
        (12 * 1024 * 1024, "12 MiB"),
        (u64::MAX, "15 EiB"),
    ];
    for (count, words) in table {
        assert_eq!(text::bytes(count), words);
    }
}

#[test]
fn foreign_text_becomes_printable_ascii_and_short() {
    assert_eq!(text::ascii("B\u{fc}ro\n\u{202e}x", 20), "B_ro__x");
    assert_eq!(text::ascii("abcdefgh", 6), "abc...");
    assert_eq!(text::ascii("abcdef", 6), "abcdef");
}

#[test]
fn the_clock_wraps_at_midnight() {
    assert_eq!(text::clock(0), "00:00");
    assert_eq!(text::clock(86_399), "23:59");
    assert_eq!(text::clock(86_400 * 20_000 + 3_600 * 9 + 60 * 5 + 59), "09:05");
}

#[test]
fn scale_follows_the_physical_size_and_ignores_nonsense() {
    let check = |width, height, millimetres: Option<(i32, i32)>, expected| {
        let millimetres = millimetres.map(|(width, height)| Size { width, height });
        assert_eq!(
            Scale::choose(Size { width, height }, millimetres),
            expected,
            "{width}x{height} {millimetres:?}"
        );
    };
    check(1280, 800, None, Scale::One);
    check(1920, 1080, None, Scale::One);
    check(1920, 1080, Some((531, 299)), Scale::One); // 24 inch
    check(1920, 1080, Some((309, 174)), Scale::OneAndHalf); // 14 inch
    check(2560, 1600, Some((286, 179)), Scale::Two); // 13 inch
    check(3840, 2160, Some((160, 90)), Scale::Two); // an aspect ratio, not a size
    check(3840, 2160, Some((1600, 900)), Scale::One); // a television
    check(2560, 1440, Some((0, 0)), Scale::OneAndHalf);
    check(800, 480, Some((95, 54)), Scale::One); // 4 inch: dense, but it must fit
}

#[test]
fn every_zone_colour_carries_white_text() {
    // Contrast by WCAG 2.2: (1.05) / (luminance + 0.05) >= 4.5.
    let channel = |value: u8| {
        let value = f64::from(value) / 255.0;
        if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    };
    for colour in Colour::ALL {
        let [red, green, blue] = colour.rgb();
        let luminance = 0.2126 * channel(red) + 0.7152 * channel(green) + 0.0722 * channel(blue);
        assert!(1.05 / (luminance + 0.05) >= 4.5, "{colour:?}: {:.2}", 1.05 / (luminance + 0.05));
        assert_eq!(Colour::named(colour.name()), colour);
    }
    assert_eq!(Colour::named("mauve"), Colour::Grey);
}

#[test]
fn three_zones_stand_in_a_row_on_a_wide_display_and_in_a_column_on_a_tall_one() {
    for display in [DISPLAY, Size { width: 1920, height: 1080 }, Size { width: 3840, height: 2160 }] {
        let wide = Layout::new(display, Scale::One, 3, 0);
        assert!(wide.tiles.iter().all(|tile| tile.y == wide.tiles[0].y), "{:?}", wide.tiles);
    }
    for display in [Size { width: 600, height: 1024 }, Size { width: 800, height: 1280 }] {
        let tall = Layout::new(display, Scale::One, 3, 0);
        assert!(tall.tiles.windows(2).all(|pair| pair[1].y > pair[0].y), "{:?}", tall.tiles);
        assert_eq!(tall.pages, 1);
    }
}

#[test]
fn many_zones_get_pages_and_no_zone_is_lost() {
    let mut seen = Vec::new();
    let pages = Layout::new(DISPLAY, Scale::One, 40, 0).pages;
    for page in 0..pages {
        let layout = Layout::new(DISPLAY, Scale::One, 40, page);
        seen.extend(layout.first_zone..layout.first_zone + layout.tiles.len());
    }
    assert_eq!(seen, (0..40).collect::<Vec<_>>());
    assert!(Layout::new(DISPLAY, Scale::One, 40, 99).page == pages - 1);
}

fn a_rect() -> impl Strategy<Value = Rect> {
    (0..60, 0..60, 0..40, 0..40).prop_map(|(x, y, width, height)| Rect { x, y, width, height })
}

fn covered(rects: &[Rect], at: Point) -> bool {
    rects.iter().any(|rect| rect.contains(at))
}

proptest! {
    #[test]
    fn property_damage_never_loses_a_pixel_and_stays_bounded(rects in proptest::collection::vec(a_rect(), 0..60)) {
        let mut list = DamageList::default();
        for rect in &rects {
            list.add(*rect);
        }
        prop_assert!(list.rects().len() <= DamageList::MOST);
        let whole = rects.iter().fold(Rect::default(), |all, rect| all.union(*rect));
        for x in 0..100 {
            for y in 0..100 {
                let at = Point { x, y };
                prop_assert!(!covered(&rects, at) || covered(list.rects(), at), "lost {at:?}");
                prop_assert!(!covered(list.rects(), at) || whole.contains(at), "invented {at:?}");
            }
        }
    }

    #[test]
    fn property_every_buffer_is_owed_what_came_since_it_was_drawn(ops in proptest::collection::vec((a_rect(), 0..3usize), 1..30)) {
        // Model: a set of pixels for each buffer.
        let display = Rect { x: 0, y: 0, width: 100, height: 100 };
        let mut owed = Owed::all(2, display);
        let mut since: [Vec<Rect>; 2] = [vec![display], vec![display]];
        for (rect, op) in ops {
            if op == 2 {
                owed.add(rect);
                since.iter_mut().for_each(|list| list.push(rect));
            } else {
                let paid = owed.pay(op);
                for x in (0..100).step_by(3) {
                    for y in (0..100).step_by(3) {
                        let at = Point { x, y };
                        prop_assert!(!covered(&since[op], at) || covered(paid.rects(), at));
                    }
                }
                since[op].clear();
                prop_assert!(owed.is_paid(op));
            }
        }
    }

    #[test]
    fn property_layouts_hold_on_any_display(
        width in LEAST_DISPLAY.width..8000,
        height in LEAST_DISPLAY.height..8000,
        millimetres in proptest::option::of((0..900, 0..600)),
        zones in 0..40usize,
        page in 0..6usize,
    ) {
        let display = Size { width, height };
        let millimetres = millimetres.map(|(width, height)| Size { width, height });
        let scale = Scale::choose(display, millimetres);
        let layout = Layout::new(display, scale, zones, page);
        let screen = display.rect();
        let mut all = layout.tiles.clone();
        all.extend([layout.panel, layout.bar]);
        for (index, rect) in all.iter().enumerate() {
            prop_assert!(screen.encloses(*rect) && !rect.is_empty(), "{rect:?} of {layout:?}");
            for other in &all[index + 1..] {
                prop_assert!(rect.intersection(*other).is_empty(), "{rect:?} {other:?}");
            }
        }
        let mut buttons = vec![layout.dismiss, layout.lock, layout.screen_pin];
        prop_assert!(layout.panel.encloses(layout.lock) && layout.panel.encloses(layout.screen_pin));
        prop_assert!(layout.lock.intersection(layout.screen_pin).is_empty());
        buttons.extend(layout.previous);
        buttons.extend(layout.next);
        for tile in &layout.tiles {
            let answers = layout.question_buttons(*tile);
            let [stop, lock, keep] = answers;
            prop_assert!(answers.iter().all(|answer| tile.encloses(*answer)), "{tile:?} {answers:?}");
            prop_assert!(stop.right() < lock.x && lock.right() < keep.x, "{tile:?} {answers:?}");
            let (key, end) = (layout.key_button(*tile), layout.end_button(*tile));
            prop_assert!(tile.encloses(key) && tile.encloses(end) && key.intersection(end).is_empty(), "{tile:?} {key:?}");
            buttons.extend([stop, lock, keep, key, end, *tile]);
        }
        for button in buttons {
            prop_assert!(screen.encloses(button));
            prop_assert!(button.width >= scale.of(TARGET) && button.height >= scale.of(TARGET), "{button:?}");
        }
        prop_assert!(layout.page < layout.pages);
        prop_assert!(zones == 0 || !layout.tiles.is_empty());
    }
}
