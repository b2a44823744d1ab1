//! How many pixels a logical pixel has.
//!
//! Layouts are written in logical pixels of about 1/96 inch. The scale follows from the display's pixels and
//! its physical size as EDID reports it, which is often absent or wrong: an implausible size is ignored.

use crate::geometry::Size;

/// Displays whose short side has fewer logical pixels than this get a smaller scale.
const SHORT_SIDE: i32 = 480;

/// Physical pixels per logical pixel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    /// 1, below about 135 dots per inch.
    #[default]
    One,
    /// 1.5, below about 185 dots per inch.
    OneAndHalf,
    /// 2.
    Two,
}

impl Scale {
    /// Every scale, smallest first.
    pub const ALL: [Self; 3] = [Self::One, Self::OneAndHalf, Self::Two];

    /// The scale for a display of `pixels` that measures `millimetres`.
    #[must_use]
    pub fn choose(pixels: Size, millimetres: Option<Size>) -> Self {
        let wanted = match millimetres.and_then(|size| dots_per_inch(pixels, size)) {
            Some(dots) if dots < 135 => Self::One,
            Some(dots) if dots < 185 => Self::OneAndHalf,
            Some(_) => Self::Two,
            None => by_pixels(pixels),
        };
        let short = pixels.width.min(pixels.height);
        let fits = |scale: &Self| short >= scale.of(SHORT_SIDE);
        Self::ALL
            .into_iter()
            .rev()
            .skip_while(|scale| scale.halves() > wanted.halves())
            .find(fits)
            .unwrap_or(Self::One)
    }

    /// `logical` pixels as physical ones, rounded down.
    #[must_use]
    pub fn of(self, logical: i32) -> i32 {
        logical * self.halves() / 2
    }

    /// Twice the scale, which is whole.
    #[must_use]
    pub fn halves(self) -> i32 {
        match self {
            Self::One => 2,
            Self::OneAndHalf => 3,
            Self::Two => 4,
        }
    }
}

/// Dots per inch along the diagonal's larger leg; `None` when the size cannot be true.
fn dots_per_inch(pixels: Size, millimetres: Size) -> Option<i32> {
    let along = |pixels: i32, millimetres: i32| {
        (millimetres > 0).then(|| i64::from(pixels) * 254 / (i64::from(millimetres) * 10))
    };
    let across = along(pixels.width, millimetres.width)?;
    let down = along(pixels.height, millimetres.height)?;
    // Pixels are square; projectors and old EDIDs report an aspect ratio or nonsense instead of a size.
    let square = (across - down).abs() * 4 <= across.max(down);
    let plausible = (40..=600).contains(&across);
    if square && plausible { i32::try_from(across).ok() } else { None }
}

/// A guess where the physical size is unknown.
fn by_pixels(pixels: Size) -> Scale {
    match pixels.width.min(pixels.height) {
        ..1300 => Scale::One,
        1300..2000 => Scale::OneAndHalf,
        _ => Scale::Two,
    }
}
