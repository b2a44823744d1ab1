//! A recovery key, or a tunnel's public key, as a QR code: dark on light, with its quiet zone.

use desktop_model::pad::RecoveryKey;
use desktop_model::pad::recovery::{GROUP_DIGITS, GROUPS};
use desktop_model::view::FrontView;
use qrcodegen::{QrCode, QrCodeEcc};
use slint::{Image, Rgb8Pixel, SharedPixelBuffer};
use zeroize::Zeroizing;

use super::generated;

/// Light modules around the code, on each side.
const QUIET: i32 = 4;
const LIGHT: Rgb8Pixel = Rgb8Pixel { r: 255, g: 255, b: 255 };
const DARK: Rgb8Pixel = Rgb8Pixel { r: 0, g: 0, b: 0 };

/// What is shown: an image that is made anew would be drawn anew at each picture.
#[derive(Default)]
pub(super) struct Code {
    shown: Option<(Zeroizing<String>, i32)>,
}

impl Code {
    /// Shows the code of the view, or none.
    pub(super) fn show(&mut self, ui: &generated::Picker, view: Option<&FrontView>) {
        let wanted = match view {
            Some(FrontView::Made(made)) => made.code.as_ref().map(|key| (written(key), made.code_at.width)),
            Some(FrontView::Tunnel(page)) => Some((Zeroizing::new(page.key.clone()), page.code_at.width)),
            Some(FrontView::Pad(_) | FrontView::Card(_) | FrontView::Lock(_)) | None => None,
        };
        if self.shown == wanted {
            return;
        }
        ui.set_code(wanted.as_ref().and_then(|(text, side)| image(text, *side)).unwrap_or_default());
        self.shown = wanted;
    }
}

/// A recovery key as it is written.
fn written(key: &RecoveryKey) -> Zeroizing<String> {
    // A text that grew would leave copies behind.
    let mut text = Zeroizing::new(String::with_capacity(GROUPS * (GROUP_DIGITS + 1)));
    text.extend(key.characters());
    text
}

/// A picture of `side` pixels, each module as large as fits; `None`: it is too small for one.
fn image(text: &str, side: i32) -> Option<Image> {
    let code = QrCode::encode_text(text, QrCodeEcc::Medium).ok()?;
    let module = side / (code.size() + 2 * QUIET);
    if module < 1 {
        return None;
    }
    let left = (side - module * code.size()) / 2;
    let sides = u32::try_from(side).ok()?;
    let mut picture = SharedPixelBuffer::<Rgb8Pixel>::new(sides, sides);
    let places = (0..side).flat_map(|y| (0..side).map(move |x| (x, y)));
    for ((x, y), pixel) in places.zip(picture.make_mut_slice()) {
        // Outside of the code every module is light.
        let dark = code.get_module((x - left).div_euclid(module), (y - left).div_euclid(module));
        *pixel = if dark { DARK } else { LIGHT };
    }
    Some(Image::from_rgb8(picture))
}
