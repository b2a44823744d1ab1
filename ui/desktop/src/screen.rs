//! The display: kernel mode setting with two dumb buffers.
//!
//! The descriptor comes from `init` and is the DRM master. Mode: the preferred one of the first connected connector.
//! Buffers are mapped once. A finished picture is shown by a page flip; with a driver without page flips the picture
//! goes into the buffer on the display, and the driver is told what changed in it (DIRTYFB).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use desktop_model::damage::Owed;
use desktop_model::geometry::{Rect, Size};
use drm::buffer::{Buffer as _, DrmFourcc};
use drm::control::dumbbuffer::{DumbBuffer, DumbMapping};
use drm::control::{ClipRect, Device as _, Event, Mode, ModeTypeFlags, PageFlipFlags};
use drm::control::{connector, crtc, framebuffer};
use drm::{Device as _, DriverCapability};

use crate::compose::{self, Cursor, Format, Target};
use crate::plane::Plane;

/// A page flip whose end was not reported after so many milliseconds is taken for done.
const FLIP_PATIENCE: u64 = 1_000;

/// The display cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenScreenError {
    /// Nothing is connected; worth another try later.
    #[error("no display is connected")]
    NotConnected,
    /// No CRTC can drive the connector.
    #[error("no CRTC for the connected display")]
    NoCrtc,
    /// The kernel refused a step.
    #[error("{step}")]
    Refused {
        /// What was attempted.
        step: &'static str,
        /// The answer.
        #[source]
        source: io::Error,
    },
}

/// The DRM device.
#[derive(Debug)]
pub struct Card(OwnedFd);

impl Card {
    /// Takes over the open device.
    #[must_use]
    pub fn new(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }
}

impl AsFd for Card {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl drm::Device for Card {}
impl drm::control::Device for Card {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Flip,
    /// Into the buffer on the display; the driver may want to know what changed.
    InPlace,
}

struct Buffer {
    dumb: DumbBuffer,
    framebuffer: framebuffer::Handle,
    bytes: DumbMapping<'static>,
}

/// The display in use.
pub struct Screen {
    crtc: crtc::Handle,
    size: Size,
    millimetres: Option<Size>,
    format: Format,
    buffers: Vec<Buffer>,
    owed: Owed,
    /// The buffer to draw next.
    back: usize,
    method: Method,
    /// When the page flip under way began.
    flipping: Option<u64>,
}

impl Screen {
    /// Chooses mode and format, makes the buffers and turns the display on, black.
    ///
    /// # Errors
    /// [`OpenScreenError`].
    pub fn open(card: &Card) -> Result<Self, OpenScreenError> {
        let step = |step| move |source| OpenScreenError::Refused { step, source };
        let resources = card.resource_handles().map_err(step("list display resources"))?;
        let connected = resources
            .connectors()
            .iter()
            .filter_map(|handle| card.get_connector(*handle, true).ok())
            .find(|info| info.state() == connector::State::Connected && !info.modes().is_empty());
        let connector = connected.ok_or(OpenScreenError::NotConnected)?;
        let mode = preferred(connector.modes()).ok_or(OpenScreenError::NotConnected)?;
        let crtc = choose_crtc(card, &resources, &connector).ok_or(OpenScreenError::NoCrtc)?;
        let (width, height) = mode.size();
        let size = Size { width: i32::from(width), height: i32::from(height) };
        let format = choose_format(card);
        let buffers = (0..2)
            .map(|_| Buffer::new(card, (width.into(), height.into()), format))
            .collect::<io::Result<Vec<_>>>()
            .map_err(step("make display buffers"))?;
        let first = buffers.first().map(|buffer| buffer.framebuffer);
        card.set_crtc(crtc, first, (0, 0), &[connector.handle()], Some(mode))
            .map_err(step("set the mode"))?;
        let millimetres = connector.size().and_then(|(width, height)| {
            Some(Size { width: i32::try_from(width).ok()?, height: i32::try_from(height).ok()? })
        });
        tracing::info!(width, height, refresh = mode.vrefresh(), ?millimetres, ?format, "display");
        let owed = Owed::all(buffers.len(), size.rect());
        Ok(Self {
            crtc,
            size,
            millimetres,
            format,
            buffers,
            owed,
            back: 1,
            method: Method::Flip,
            flipping: None,
        })
    }

    /// Width and height in pixels.
    #[must_use]
    pub fn size(&self) -> Size {
        self.size
    }

    /// Width and height as EDID tells them.
    #[must_use]
    pub fn millimetres(&self) -> Option<Size> {
        self.millimetres
    }

    /// These pixels of the picture changed.
    pub fn damage(&mut self, rect: Rect) {
        self.owed.add(rect);
    }

    /// Brings the display up to date with the picture, as far as it is ready for that.
    ///
    /// # Errors
    /// What the kernel reports.
    pub fn present(
        &mut self,
        card: &Card,
        plane: &Plane,
        cursor: Option<Cursor>,
        now: u64,
    ) -> Result<(), OpenScreenError> {
        if self.flipping.is_some_and(|since| now < since.saturating_add(FLIP_PATIENCE)) {
            return Ok(());
        }
        self.flipping = None;
        match self.method {
            Method::Flip if self.owed.is_paid(self.front()) => Ok(()),
            Method::Flip => self.flip(card, plane, cursor, now),
            Method::InPlace => self.draw_in_place(card, plane, cursor),
        }
    }

    /// Reads the device's events; true when a page flip ended.
    ///
    /// # Errors
    /// What the kernel reports.
    pub fn read_events(&mut self, card: &Card) -> io::Result<bool> {
        let flipped = card.receive_events()?.any(|event| matches!(event, Event::PageFlip(_)));
        if flipped {
            self.flipping = None;
        }
        Ok(flipped)
    }

    /// When a page flip under way counts as lost.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        self.flipping.map(|since| since.saturating_add(FLIP_PATIENCE))
    }

    /// The buffer on the display: whatever it lacks, the user does not see yet.
    fn front(&self) -> usize {
        1 - self.back
    }

    fn flip(
        &mut self,
        card: &Card,
        plane: &Plane,
        cursor: Option<Cursor>,
        now: u64,
    ) -> Result<(), OpenScreenError> {
        self.draw(self.back, plane, cursor);
        let Some(buffer) = self.buffers.get(self.back) else { return Ok(()) };
        match card.page_flip(self.crtc, buffer.framebuffer, PageFlipFlags::EVENT, None) {
            Ok(()) => {
                self.flipping = Some(now);
                self.back = self.front();
                Ok(())
            }
            Err(error) if no_such_call(&error) => {
                tracing::info!(%error, "no page flips here, drawing in place");
                self.method = Method::InPlace;
                self.draw_in_place(card, plane, cursor)
            }
            // Another flip is under way after all, or the display is being switched: draw this again later.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::BUSY.raw_os_error()) => {
                self.damage(self.size.rect());
                self.flipping = Some(now);
                Ok(())
            }
            Err(source) => Err(OpenScreenError::Refused { step: "flip", source }),
        }
    }

    fn draw_in_place(
        &mut self,
        card: &Card,
        plane: &Plane,
        cursor: Option<Cursor>,
    ) -> Result<(), OpenScreenError> {
        let front = self.front();
        let drawn = self.draw(front, plane, cursor);
        let Some(buffer) = self.buffers.get(front).filter(|_| !drawn.is_empty()) else { return Ok(()) };
        let clips: Vec<ClipRect> = drawn.into_iter().filter_map(clip).collect();
        match card.dirty_framebuffer(buffer.framebuffer, &clips) {
            Ok(()) => Ok(()),
            // The display reads the buffer by itself.
            Err(error) if no_such_call(&error) => Ok(()),
            Err(source) => Err(OpenScreenError::Refused { step: "report damage", source }),
        }
    }

    /// Copies what `index` owes and says what that was.
    fn draw(&mut self, index: usize, plane: &Plane, cursor: Option<Cursor>) -> Vec<Rect> {
        let Some(buffer) = self.buffers.get_mut(index) else { return Vec::new() };
        let owed = self.owed.pay(index);
        let pitch = usize::try_from(buffer.dumb.pitch()).unwrap_or(0);
        let mut target = Target { bytes: &mut buffer.bytes, pitch, format: self.format };
        for rect in owed.rects() {
            compose::copy(plane, cursor, *rect, &mut target);
        }
        owed.rects().to_vec()
    }
}

impl Buffer {
    fn new(card: &Card, size: (u32, u32), format: Format) -> io::Result<Self> {
        let (fourcc, depth, bits) = match format {
            Format::Xrgb8888 => (DrmFourcc::Xrgb8888, 24, 32),
            Format::Rgb565 => (DrmFourcc::Rgb565, 16, 16),
        };
        let dumb = card.create_dumb_buffer(size, fourcc, bits)?;
        let framebuffer = card.add_framebuffer(&dumb, depth, bits)?;
        // The mapping borrows the handle's record, and both live as long as the process: some 40 bytes a buffer.
        let mut bytes = card.map_dumb_buffer(Box::leak(Box::new(dumb)))?;
        bytes.fill(0);
        Ok(Self { dumb, framebuffer, bytes })
    }
}

fn preferred(modes: &[Mode]) -> Option<Mode> {
    let preferred = modes.iter().find(|mode| mode.mode_type().contains(ModeTypeFlags::PREFERRED));
    preferred.or(modes.first()).copied()
}

/// The CRTC that drives the connector already, or the first one that can.
fn choose_crtc(
    card: &Card,
    resources: &drm::control::ResourceHandles,
    connector: &connector::Info,
) -> Option<crtc::Handle> {
    let current = connector.current_encoder().and_then(|encoder| card.get_encoder(encoder).ok()?.crtc());
    current.or_else(|| {
        let encoders = connector.encoders().iter().filter_map(|encoder| card.get_encoder(*encoder).ok());
        encoders.flat_map(|encoder| resources.filter_crtcs(encoder.possible_crtcs())).next()
    })
}

/// 16-bit pixels only where the driver prefers them.
fn choose_format(card: &Card) -> Format {
    match card.get_driver_capability(DriverCapability::DumbPreferredDepth) {
        Ok(16) => Format::Rgb565,
        _ => Format::Xrgb8888,
    }
}

/// The driver does not know the call, which is different from refusing it now.
fn no_such_call(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let known = [Errno::NOSYS, Errno::OPNOTSUPP, Errno::INVAL].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|raw| known.contains(&raw))
}

fn clip(rect: Rect) -> Option<ClipRect> {
    let side = |length: i32| u16::try_from(length).ok();
    Some(ClipRect::new(side(rect.x)?, side(rect.y)?, side(rect.right())?, side(rect.bottom())?))
}
