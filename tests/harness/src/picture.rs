//! A picture of the screen, to assert colours on.

use std::io::BufReader;
use std::path::Path;

/// Red, green, blue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Colour(pub u8, pub u8, pub u8);

impl Colour {
    /// The largest difference of one component.
    #[must_use]
    pub fn distance(self, other: Self) -> u8 {
        self.0.abs_diff(other.0).max(self.1.abs_diff(other.1)).max(self.2.abs_diff(other.2))
    }
}

/// Pixels, row by row from the top left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    pixels: Vec<Colour>,
}

/// A file that is no picture.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// It cannot be read.
    #[error("open picture")]
    Io(#[from] std::io::Error),
    /// It is no PNG.
    #[error("decode PNG")]
    Png(#[from] png::DecodingError),
    /// It is a PNG of a kind that screens do not make.
    #[error("PNG has {0:?} pixels, not 8-bit RGB or RGBA")]
    Kind(png::ColorType),
}

impl Picture {
    /// Reads a PNG file.
    ///
    /// # Errors
    /// [`PictureError`].
    pub fn read(path: &Path) -> Result<Self, PictureError> {
        let mut decoder = png::Decoder::new(BufReader::new(std::fs::File::open(path)?));
        decoder.set_transformations(png::Transformations::normalize_to_color8());
        let mut reader = decoder.read_info()?;
        let mut bytes = vec![0; reader.output_buffer_size().unwrap_or(0)];
        let frame = reader.next_frame(&mut bytes)?;
        let components = match frame.color_type {
            png::ColorType::Rgb => 3,
            png::ColorType::Rgba => 4,
            other
            @ (png::ColorType::Grayscale | png::ColorType::GrayscaleAlpha | png::ColorType::Indexed) => {
                return Err(PictureError::Kind(other));
            }
        };
        let bytes = bytes.get(..frame.buffer_size()).unwrap_or_default();
        let pixels = bytes
            .chunks_exact(components)
            .filter_map(|pixel| match pixel {
                [red, green, blue, ..] => Some(Colour(*red, *green, *blue)),
                _ => None,
            })
            .collect();
        Ok(Self { width: frame.width, height: frame.height, pixels })
    }

    /// The colour at a point; `None` outside.
    #[must_use]
    pub fn at(&self, x: u32, y: u32) -> Option<Colour> {
        if x >= self.width {
            return None;
        }
        let index = u64::from(y) * u64::from(self.width) + u64::from(x);
        self.pixels.get(usize::try_from(index).ok()?).copied()
    }

    /// How many pixels of a rectangle satisfy `wanted`; what lies outside the picture does not.
    #[must_use]
    pub fn count(&self, rectangle: Rectangle, mut wanted: impl FnMut(Colour) -> bool) -> u64 {
        let mut count = 0;
        for y in rectangle.y..rectangle.y.saturating_add(rectangle.height).min(self.height) {
            for x in rectangle.x..rectangle.x.saturating_add(rectangle.width).min(self.width) {
                count += u64::from(self.at(x, y).is_some_and(&mut wanted));
            }
        }
        count
    }

    /// How many pixels of a rectangle differ from those of another picture.
    #[must_use]
    pub fn difference(&self, other: &Self, rectangle: Rectangle) -> usize {
        let columns = rectangle.x..rectangle.x.saturating_add(rectangle.width);
        (rectangle.y..rectangle.y.saturating_add(rectangle.height))
            .flat_map(|y| columns.clone().map(move |x| (x, y)))
            .filter(|(x, y)| self.at(*x, *y) != other.at(*x, *y))
            .count()
    }

    /// The whole picture.
    #[must_use]
    pub fn all(&self) -> Rectangle {
        Rectangle { x: 0, y: 0, width: self.width, height: self.height }
    }

    /// How many different colours there are, up to `most`: a screen without a picture has one or two.
    #[must_use]
    pub fn colours(&self, most: usize) -> usize {
        let mut seen = std::collections::BTreeSet::new();
        for pixel in &self.pixels {
            if seen.insert(*pixel) && seen.len() == most {
                break;
            }
        }
        seen.len()
    }
}

/// A part of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Rectangle {
    pub x: u32,
    pub y: u32,
    pub width: u32,
    pub height: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_are_where_they_were_written() {
        let path = std::env::temp_dir().join(format!("bulkhead-picture-{}.png", std::process::id()));
        let file = std::fs::File::create(&path).unwrap();
        let mut encoder = png::Encoder::new(file, 3, 2);
        encoder.set_color(png::ColorType::Rgb);
        let pixels: Vec<u8> = (0..18).collect();
        encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
        let picture = Picture::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!((picture.width, picture.height), (3, 2));
        assert_eq!(picture.at(2, 1), Some(Colour(15, 16, 17)));
        assert_eq!(picture.at(3, 0), None, "outside, not the next row");
        assert_eq!(picture.at(0, 2), None);
        assert_eq!(picture.count(picture.all(), |colour| colour.0 < 6), 2);
        let mut other = picture.clone();
        other.pixels[1] = Colour(0, 0, 0);
        let difference = |width| picture.difference(&other, Rectangle { x: 0, y: 0, width, height: 2 });
        assert_eq!((difference(3), difference(1)), (1, 0));
        assert_eq!((picture.colours(100), picture.colours(4)), (6, 4));
        assert_eq!(Colour(1, 2, 3).distance(Colour(2, 0, 3)), 2);
    }

    #[test]
    fn no_picture_is_an_error() {
        let path = std::env::temp_dir().join(format!("bulkhead-no-picture-{}", std::process::id()));
        std::fs::write(&path, "no").unwrap();
        assert!(matches!(Picture::read(&path), Err(PictureError::Png(_))));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(Picture::read(&path), Err(PictureError::Io(_))));
    }
}
