//! Copies parts of the picture, and the mouse cursor over it, into a display buffer.
//!
//! Display memory is only ever written: on real hardware reading it back is slow. What lies under the cursor
//! comes from the picture in memory.

use desktop_model::geometry::{Point, Rect};
use desktop_model::scale::Scale;

use crate::plane::{Pixel, Plane};

/// How a display buffer holds a pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Four bytes: blue, green, red, unused.
    Xrgb8888,
    /// Two bytes, little-endian: 5 bits red, 6 green, 5 blue.
    Rgb565,
}

impl Format {
    /// Bytes of one pixel.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::Xrgb8888 => 4,
            Self::Rgb565 => 2,
        }
    }
}

/// Memory of a display buffer.
#[derive(Debug)]
pub struct Target<'a> {
    /// All its rows.
    pub bytes: &'a mut [u8],
    /// Bytes from one row to the next.
    pub pitch: usize,
    /// How pixels are held.
    pub format: Format,
}

/// The mouse cursor: an arrow whose tip is at `tip`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The pixel it points at.
    pub tip: Point,
    /// Its size.
    pub scale: Scale,
}

/// `#`: outline, `+`: filling, anything else: see-through.
const ARROW: [&[u8; 12]; 19] = [
    b"#           ",
    b"##          ",
    b"#+#         ",
    b"#++#        ",
    b"#+++#       ",
    b"#++++#      ",
    b"#+++++#     ",
    b"#++++++#    ",
    b"#+++++++#   ",
    b"#++++++++#  ",
    b"#+++++++++# ",
    b"#++++++#####",
    b"#+++#++#    ",
    b"#++##++#    ",
    b"#+#  #++#   ",
    b"##   #++#   ",
    b"#     #++#  ",
    b"      #++#  ",
    b"       ##   ",
];

impl Cursor {
    /// The pixels that the cursor may cover.
    #[must_use]
    pub fn rect(self) -> Rect {
        Rect { x: self.tip.x, y: self.tip.y, width: self.scale.of(12), height: self.scale.of(19) }
    }

    /// The cursor's own pixel at `at`, if it has one there.
    #[must_use]
    pub fn pixel(self, at: Point) -> Option<Pixel> {
        // Rounding could find half a cell beyond the rectangle that counts as damage.
        if !self.rect().contains(at) {
            return None;
        }
        let from = |offset: i32| usize::try_from(offset * 2 / self.scale.halves()).ok();
        let cell = ARROW.get(from(at.y - self.tip.y)?)?.get(from(at.x - self.tip.x)?)?;
        match cell {
            b'#' => Some(Pixel(0x0010_1010)),
            b'+' => Some(Pixel(0x00ff_ffff)),
            _ => None,
        }
    }
}

/// Copies `rect` of the picture with the cursor on it into `target`. What lies outside of either is left out.
pub fn copy(plane: &Plane, cursor: Option<Cursor>, rect: Rect, target: &mut Target<'_>) {
    let rect = rect.intersection(plane.size().rect());
    for y in rect.y..rect.bottom() {
        copy_row(plane.row(y, rect.x, rect.right()), y, rect.x, target);
    }
    let Some(cursor) = cursor else { return };
    let under = cursor.rect().intersection(rect);
    for y in under.y..under.bottom() {
        for x in under.x..under.right() {
            if let Some(pixel) = cursor.pixel(Point { x, y }) {
                copy_row(&[pixel], y, x, target);
            }
        }
    }
}

fn copy_row(pixels: &[Pixel], y: i32, x: i32, target: &mut Target<'_>) {
    let Some((y, x)) = usize::try_from(y).ok().zip(usize::try_from(x).ok()) else { return };
    let start = y * target.pitch + x * target.format.bytes();
    let length = pixels.len() * target.format.bytes();
    // A row that does not fit its pitch would spill into the next one.
    if x * target.format.bytes() + length > target.pitch {
        return;
    }
    let Some(bytes) = target.bytes.get_mut(start..start + length) else { return };
    match target.format {
        Format::Xrgb8888 => {
            for (bytes, pixel) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(pixels) {
                *bytes = pixel.0.to_le_bytes();
            }
        }
        Format::Rgb565 => {
            for (bytes, pixel) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(pixels) {
                let [red, green, blue] = pixel.rgb().map(u16::from);
                *bytes = ((red >> 3 << 11) | (green >> 2 << 5) | (blue >> 3)).to_le_bytes();
            }
        }
    }
}

#[cfg(test)]
mod tests;
