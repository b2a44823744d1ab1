//! The poll loop that ties the parts together. It alone has side effects; what to do is decided by the model, the
//! router and the link.

use std::os::fd::AsFd;

use anyhow::Context as _;
use desktop_model::geometry::Size;
use desktop_model::pad::RecoveryKey;
use desktop_model::picker::{Action, Picker};
use desktop_model::scale::Scale;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::clock;
use crate::convert;
use crate::input::Device;
use crate::link::{LinkEvent, ZonedLink};
use crate::router::{Routed, Router};
use crate::scene::Scene;
use crate::screen::{Card, OpenScreenError, Screen};

/// A machine without a display is asked again after so many milliseconds.
const DISPLAY_RETRY: u64 = 2_000;

/// What is drawn on while there is no display.
const NO_DISPLAY: Size = Size { width: 1280, height: 800 };

/// The desktop.
pub struct App {
    card: Card,
    screen: Option<Screen>,
    screen_retry_at: u64,
    scene: Scene,
    picker: Picker,
    router: Router,
    /// A device that is gone leaves its place empty, so that the numbers of the others stay.
    devices: Vec<Option<Device>>,
    link: ZonedLink,
}

/// Whose descriptor became ready.
#[derive(Clone, Copy)]
enum Source {
    Screen,
    Device(usize),
    Link,
}

impl App {
    /// The desktop on a display, with its input devices.
    ///
    /// # Errors
    /// The display or Slint refuses; a missing display is no error.
    pub fn new(card: Card, devices: Vec<Device>, link: ZonedLink) -> anyhow::Result<Self> {
        let mut app = Self {
            card,
            screen: None,
            screen_retry_at: 0,
            scene: Scene::new(NO_DISPLAY)?,
            picker: Picker::new(NO_DISPLAY, Scale::One),
            router: Router::new(NO_DISPLAY, Scale::One),
            devices: devices.into_iter().map(Some).collect(),
            link,
        };
        app.open_screen(clock::monotonic())?;
        Ok(app)
    }

    /// Runs until something that cannot be repaired.
    ///
    /// # Errors
    /// What that was.
    pub fn run(mut self) -> anyhow::Result<()> {
        loop {
            let now = clock::monotonic();
            if self.screen.is_none() && now >= self.screen_retry_at {
                self.open_screen(now)?;
            }
            self.service_link(now);
            self.draw(now)?;
            for source in self.wait(now)? {
                self.ready(source)?;
            }
        }
    }

    fn open_screen(&mut self, now: u64) -> anyhow::Result<()> {
        match Screen::open(&self.card) {
            Ok(screen) => {
                let size = screen.size();
                let scale = Scale::choose(size, screen.millimetres());
                tracing::info!(?scale, "desktop");
                self.scene.resize(size);
                self.picker.set_display(size, scale);
                self.router.set_display(size, scale);
                self.screen = Some(screen);
            }
            Err(OpenScreenError::NotConnected) => {
                tracing::debug!("no display is connected");
                self.screen_retry_at = now.saturating_add(DISPLAY_RETRY);
            }
            Err(error) => return Err(error).context("open the display"),
        }
        Ok(())
    }

    fn service_link(&mut self, now: u64) {
        for event in self.link.service(now) {
            self.link_event(now, event);
        }
        if let Some(action) = self.picker.follow_up() {
            self.ask(now, action);
        }
    }

    fn ask(&mut self, now: u64, action: Action) {
        // A PIN or a recovery key in it prints as nothing.
        tracing::info!(?action, "asked by the user");
        if let Some(event) = self.link.request(now, action) {
            self.link_event(now, event);
        }
    }

    fn link_event(&mut self, now: u64, event: LinkEvent) {
        match event {
            LinkEvent::State(state) => self.picker.set_link(state),
            LinkEvent::Status(status) => self.picker.set_status(now, convert::status(status)),
            LinkEvent::Opened { zone } => self.picker.opened(now, &zone),
            LinkEvent::NotOpened(why) => self.picker.not_opened(now, &why),
            LinkEvent::PinChanged { zone } => self.picker.pin_changed(now, &zone),
            LinkEvent::Unlocked => self.picker.unlocked(now),
            LinkEvent::NotUnlocked(why) => self.picker.not_unlocked(now, &why),
            LinkEvent::ScreenFailed { why } => self.picker.screen_failed(now, &why),
            LinkEvent::ScreenPinChanged => self.picker.screen_pin_changed(now),
            LinkEvent::LockRefused { why } => self.picker.lock_refused(&why),
            LinkEvent::KeyMade(key) => self.picker.key_made(now, RecoveryKey::read(key.digits())),
            LinkEvent::KeyNoted => self.picker.key_noted(now),
            LinkEvent::KeyFailed { why } => self.picker.key_failed(now, &why),
            LinkEvent::Failed { zone, why } => self.picker.request_failed(now, &zone, &why),
        }
    }

    fn draw(&mut self, now: u64) -> anyhow::Result<()> {
        self.picker.tick(now);
        self.picker.set_clock(clock::wall() / 1000);
        let damage = self.scene.draw(&self.picker.view(now));
        let Some(screen) = &mut self.screen else { return Ok(()) };
        for rect in damage.rects() {
            screen.damage(*rect);
        }
        screen.present(&self.card, self.scene.plane(), self.router.cursor(), now).context("show the picture")
    }

    /// Waits for a descriptor or the next deadline; says what is ready.
    fn wait(&self, now: u64) -> anyhow::Result<Vec<Source>> {
        let mut sources = Vec::new();
        let mut fds = Vec::new();
        if self.screen.is_some() {
            sources.push(Source::Screen);
            fds.push(PollFd::from_borrowed_fd(self.card.as_fd(), PollFlags::IN));
        }
        for (index, device) in self.devices.iter().enumerate() {
            let Some(device) = device else { continue };
            sources.push(Source::Device(index));
            fds.push(PollFd::from_borrowed_fd(device.as_fd(), PollFlags::IN));
        }
        for (fd, writes) in self.link.descriptors() {
            let mut interest = PollFlags::IN;
            interest.set(PollFlags::OUT, writes);
            sources.push(Source::Link);
            fds.push(PollFd::from_borrowed_fd(fd, interest));
        }
        let patience = self.deadline(now).saturating_sub(now);
        let timeout = Timespec {
            tv_sec: i64::try_from(patience / 1000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(patience % 1000 * 1_000_000).unwrap_or(0),
        };
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Vec::new()),
            Err(error) => return Err(error).context("wait for events"),
        }
        let ready = sources.into_iter().zip(fds).filter(|(_, fd)| !fd.revents().is_empty());
        Ok(ready.map(|(source, _)| source).collect())
    }

    /// When something is to be done at the latest: always within the minute that the clock shows.
    fn deadline(&self, now: u64) -> u64 {
        let minute = now.saturating_add(60_000 - clock::wall() % 60_000);
        let screen = match &self.screen {
            Some(screen) => screen.deadline(),
            None => Some(self.screen_retry_at),
        };
        let deadlines = [Some(minute), screen, self.picker.deadline(now), Some(self.link.deadline())];
        deadlines.into_iter().flatten().min().unwrap_or(minute)
    }

    fn ready(&mut self, source: Source) -> anyhow::Result<()> {
        match source {
            // The link reads by itself before the next picture.
            Source::Link => Ok(()),
            Source::Device(index) => {
                self.read_device(index);
                Ok(())
            }
            Source::Screen => match &mut self.screen {
                Some(screen) => screen.read_events(&self.card).map(|_| ()).context("read display events"),
                None => Ok(()),
            },
        }
    }

    fn read_device(&mut self, index: usize) {
        let Some(place) = self.devices.get_mut(index) else { return };
        let Some(device) = place else { return };
        let events = match device.read() {
            Ok(events) => events,
            Err(error) => {
                tracing::warn!(name = device.name(), %error, "input device is gone");
                let events = device.give_up();
                *place = None;
                self.picker.notice("desktop", "an input device went away");
                events
            }
        };
        let number = u8::try_from(index).unwrap_or(u8::MAX);
        for event in events {
            let outcome = self.router.route(number, event);
            for rect in outcome.cursor_damage {
                if let Some(screen) = &mut self.screen {
                    screen.damage(rect);
                }
            }
            let Some(Routed::TrustedUi(event)) = outcome.routed else { continue };
            let now = clock::monotonic();
            let Some(action) = self.picker.pointer(now, event, seed()) else { continue };
            self.ask(now, action);
        }
    }
}

/// Fresh randomness, for the places of a PIN pad's digits and the groups of a recovery key that are asked for.
fn seed() -> u64 {
    let mut bytes = [0; 8];
    getrandom(&mut bytes, GetRandomFlags::empty()).expect("the kernel never refuses so few random bytes");
    u64::from_ne_bytes(bytes)
}
