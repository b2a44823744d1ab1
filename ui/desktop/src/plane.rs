//! The picture in memory: rows of XRGB8888 pixels.

use desktop_model::geometry::{Point, Size};
use slint::platform::software_renderer::{PremultipliedRgbaColor, TargetPixel};

/// One pixel, `0x00RRGGBB`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Pixel(pub u32);

impl Pixel {
    /// Red, green and blue.
    #[must_use]
    pub fn rgb(self) -> [u8; 3] {
        let [_, red, green, blue] = self.0.to_be_bytes();
        [red, green, blue]
    }

    /// A pixel from red, green and blue.
    #[must_use]
    pub fn from_channels([red, green, blue]: [u8; 3]) -> Self {
        Self(u32::from_be_bytes([0, red, green, blue]))
    }
}

impl TargetPixel for Pixel {
    fn blend(&mut self, color: PremultipliedRgbaColor) {
        let keep = u32::from(u8::MAX - color.alpha);
        let mix = |below: u8, above: u8| {
            let sum = u32::from(below) * keep / 255 + u32::from(above);
            u8::try_from(sum).unwrap_or(u8::MAX)
        };
        let [red, green, blue] = self.rgb();
        *self = Self::from_channels([mix(red, color.red), mix(green, color.green), mix(blue, color.blue)]);
    }

    fn from_rgb(red: u8, green: u8, blue: u8) -> Self {
        Self::from_channels([red, green, blue])
    }
}

/// A picture of a whole display.
#[derive(Clone, Debug)]
pub struct Plane {
    size: Size,
    stride: usize,
    pixels: Vec<Pixel>,
}

impl Plane {
    /// A black picture.
    #[must_use]
    pub fn new(size: Size) -> Self {
        let stride = usize::try_from(size.width).unwrap_or(0);
        let rows = usize::try_from(size.height).unwrap_or(0);
        Self { size, stride, pixels: vec![Pixel::default(); stride * rows] }
    }

    /// Width and height.
    #[must_use]
    pub fn size(&self) -> Size {
        self.size
    }

    /// Pixels of a row.
    #[must_use]
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// All pixels, row by row.
    #[must_use]
    pub fn pixels(&self) -> &[Pixel] {
        &self.pixels
    }

    /// All pixels, for the renderer.
    pub fn pixels_mut(&mut self) -> &mut [Pixel] {
        &mut self.pixels
    }

    /// Part of a row; empty where the picture has no such pixels.
    #[must_use]
    pub fn row(&self, y: i32, left: i32, right: i32) -> &[Pixel] {
        let range = usize::try_from(y).ok().zip(usize::try_from(left).ok()).zip(usize::try_from(right).ok());
        let Some(((y, left), right)) = range else { return &[] };
        if left > right || right > self.stride {
            return &[];
        }
        self.pixels.get(y * self.stride + left..y * self.stride + right).unwrap_or(&[])
    }

    /// The pixel at `at`; black outside.
    #[must_use]
    pub fn at(&self, at: Point) -> Pixel {
        self.row(at.y, at.x, at.x + 1).first().copied().unwrap_or_default()
    }
}
