use desktop_model::geometry::{Point, Rect, Size};
use desktop_model::scale::Scale;
use proptest::prelude::*;

use super::{Cursor, Format, Target, copy};
use crate::plane::{Pixel, Plane};

const SIZE: Size = Size { width: 40, height: 30 };

fn picture() -> Plane {
    let mut plane = Plane::new(SIZE);
    for (index, pixel) in (0..).zip(plane.pixels_mut()) {
        *pixel = Pixel(0x0001_0000 + index);
    }
    plane
}

fn a_rect() -> impl Strategy<Value = Rect> {
    (-10..50, -10..40, 0..60, 0..50).prop_map(|(x, y, width, height)| Rect { x, y, width, height })
}

proptest! {
    #[test]
    fn property_only_the_rectangle_is_written_and_it_is_written_right(
        rect in a_rect(), tip in (-20..60, -20..50), with_cursor: bool, slack in 0..3usize
    ) {
        let plane = picture();
        let pitch = 40 * 4 + slack * 4;
        let mut bytes = vec![0xee; pitch * 30];
        let cursor = with_cursor.then_some(Cursor { tip: Point { x: tip.0, y: tip.1 }, scale: Scale::OneAndHalf });
        copy(&plane, cursor, rect, &mut Target { bytes: &mut bytes, pitch, format: Format::Xrgb8888 });
        for (y, row) in (0..).zip(bytes.chunks_exact(pitch)) {
            for (x, pixel) in (0..).zip(row.chunks_exact(4)) {
                let at = Point { x, y };
                let expected = if !rect.contains(at) || x >= SIZE.width {
                    0xeeee_eeee
                } else {
                    cursor.and_then(|cursor| cursor.pixel(at)).unwrap_or_else(|| plane.at(at)).0
                };
                prop_assert_eq!(u32::from_le_bytes([pixel[0], pixel[1], pixel[2], pixel[3]]), expected, "{:?}", at);
            }
        }
    }
}

#[test]
fn a_buffer_that_is_too_small_is_left_alone_where_rows_are_missing() {
    let mut bytes = vec![0; 40 * 4 * 10];
    copy(
        &picture(),
        None,
        SIZE.rect(),
        &mut Target { bytes: &mut bytes, pitch: 160, format: Format::Xrgb8888 },
    );
    assert_eq!(bytes[160 * 9], 0x68);
    let mut narrow = vec![0; 30 * 20];
    copy(
        &picture(),
        None,
        SIZE.rect(),
        &mut Target { bytes: &mut narrow, pitch: 20, format: Format::Xrgb8888 },
    );
    assert!(narrow.iter().all(|byte| *byte == 0), "a row must not spill into the next");
}

#[test]
fn rgb565_keeps_the_high_bits() {
    let mut plane = Plane::new(Size { width: 1, height: 1 });
    plane.pixels_mut()[0] = Pixel::from_channels([0xff, 0x84, 0x08]);
    let mut bytes = [0; 2];
    copy(
        &plane,
        None,
        plane.size().rect(),
        &mut Target { bytes: &mut bytes, pitch: 2, format: Format::Rgb565 },
    );
    assert_eq!(u16::from_le_bytes(bytes), (0x1f << 11) | (0x21 << 5) | 1);
}

#[test]
fn the_cursors_tip_is_where_it_points() {
    let cursor = Cursor { tip: Point { x: 5, y: 6 }, scale: Scale::Two };
    assert!(cursor.pixel(Point { x: 5, y: 6 }).is_some());
    assert!(cursor.pixel(Point { x: 4, y: 6 }).is_none());
    assert!(cursor.pixel(Point { x: 5, y: 5 }).is_none());
    assert!(cursor.pixel(Point { x: 5 + 24, y: 6 + 22 }).is_none());
}
