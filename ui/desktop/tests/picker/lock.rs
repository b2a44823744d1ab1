//! The display's lock, zones that are locked, and the page with a tunnel's key, drawn.

use desktop::scene::Scene;
use desktop_model::geometry::{Rect, Size};
use desktop_model::pad::{Cause, NotOpened};
use desktop_model::picker::{ARMING, Action, Link, Picker};
use desktop_model::scale::Scale;
use desktop_model::status::{Login, Phase, PinLogin, Screen, Status};
use desktop_model::view::FrontView;

use super::pad::{DISPLAYS, code};
use super::{demo, ink, lines_of_text, picker_of, save, tap};

const KEY: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
const PIN: Login = Login::Pin(PinLogin { chosen: true, shuffle: false, tries_left: Some(5) });

/// What has appeared takes touches after each step of so long.
const STEP: u64 = 1_000;

fn with(locked: bool) -> Status {
    let mut status = demo(0, 0);
    status.notices.clear();
    status.screen = Screen { locked, login: PIN };
    for zone in &mut status.zones {
        if let Some(tunnel) = &mut zone.tunnel {
            tunnel.public_key = Some(KEY.to_owned());
        }
    }
    status.zones[1].phase = Phase::Locked;
    status.zones[1].login = PIN;
    status
}

struct Stand {
    name: &'static str,
    picker: Picker,
    scene: Scene,
    now: u64,
}

impl Stand {
    fn save(&mut self, what: &str) {
        let _ = self.scene.draw(&self.picker.view(self.now));
        save(self.scene.plane(), &format!("lock-{what}-{}", self.name));
    }

    fn tap(&mut self, rect: Rect) -> Option<Action> {
        self.now += STEP;
        tap(&mut self.picker, self.now, rect)
    }

    /// Types six digits on the pad and goes on.
    fn type_pin(&mut self) -> Option<Action> {
        let layout = self.picker.pad_layout();
        for digit in 1..=6 {
            assert_eq!(self.tap(layout.places[digit]), None);
        }
        self.tap(layout.go)
    }
}

pub(super) fn pictures() {
    // The largest looks like the others, and takes the longest.
    for (name, width, height, scale) in DISPLAYS.into_iter().filter(|(name, ..)| *name != "1920x1200") {
        let display = Size { width, height };
        let scene = Scene::new(display).expect("Slint starts");
        let mut stand = Stand { name, picker: picker_of(display, scale), scene, now: STEP };
        starting(&mut stand, display, scale);
        tunnel_key(&mut stand);
        zone_lock(&mut stand);
        screen_lock(&mut stand, display);
        screen_pin(&mut stand);
    }
}

/// A desktop that knows nothing yet, and one whose `zoned` is gone: both say so in words.
fn starting(stand: &mut Stand, display: Size, scale: Scale) {
    let mut fresh = Picker::new(display, scale);
    for (what, link) in [("connecting", Link::Connecting), ("gone", Link::Lost), ("silent", Link::Silent)] {
        fresh.set_link(link);
        let view = fresh.view(stand.now);
        let _ = stand.scene.draw(&view);
        save(stand.scene.plane(), &format!("lock-{what}-{}", stand.name));
        let Some(FrontView::Lock(lock)) = view.front else { panic!("it is locked") };
        assert!(lock.message.contains("zoned"));
        // Clock, word and sentence.
        let lines = lines_of_text(stand.scene.plane(), display.rect().inset(2));
        assert!((3..=5).contains(&lines), "{}: {lines} lines of words for {what}", stand.name);
    }
}

fn tunnel_key(stand: &mut Stand) {
    stand.picker.set_status(stand.now, with(false));
    stand.save("tiles");
    for tile in stand.picker.view(stand.now).tiles {
        let Some(key) = tile.key else { continue };
        assert!(ink(stand.scene.plane(), key.rect.inset(8)) > 30, "{}: {}", stand.name, tile.label);
    }
    let button = stand.picker.view(stand.now).tiles[0].key.clone().expect("a key").rect;
    assert_eq!(stand.tap(button), None);
    stand.save("tunnel-key");
    let Some(FrontView::Tunnel(page)) = stand.picker.view(stand.now).front else { panic!("no page") };
    assert_eq!(code(stand.scene.plane(), page.code_at).as_deref(), Some(KEY), "{}", stand.name);
    let lines = lines_of_text(stand.scene.plane(), page.key_at);
    assert!((1..=2).contains(&lines), "{}: {lines} lines of key", stand.name);
    assert_eq!(stand.tap(page.leave.rect), None);
    assert_eq!(stand.picker.view(stand.now).front, None);
}

fn zone_lock(stand: &mut Stand) {
    let tile = stand.picker.layout().tiles[0];
    assert_eq!(stand.tap(tile), None);
    stand.now += ARMING;
    stand.save("question");
    let asked = stand.picker.view(stand.now).tiles[0].question.clone().expect("asked");
    let buttons = [Some(asked.stop), asked.lock, Some(asked.keep)];
    for button in buttons.into_iter().flatten() {
        assert!(ink(stand.scene.plane(), button.inset(8)) > 100, "{}", stand.name);
    }
    let lock = asked.lock.expect("it runs");
    assert!(matches!(stand.tap(lock), Some(Action::Lock { .. })));
    let refusal = "Zone office is disposable: its disk's key is kept nowhere, so that it cannot be locked.";
    stand.picker.request_failed(stand.now, "Office", refusal);
    stand.save("refused");
    let dismiss = stand.picker.layout().dismiss;
    assert_eq!(stand.tap(dismiss), None);
    let Some(locked) = stand.picker.layout().tiles.get(1).copied() else { return };
    assert_eq!(stand.tap(locked), None);
    stand.save("zone-pad");
    let cancel = stand.picker.pad_layout().cancel;
    assert_eq!(stand.tap(cancel), None);
}

fn screen_lock(stand: &mut Stand, display: Size) {
    let zones: Vec<[u8; 3]> = stand.picker.view(stand.now).tiles.iter().map(|tile| tile.rgb).collect();
    stand.save("before");
    let button = stand.picker.layout().lock;
    assert!(ink(stand.scene.plane(), button.inset(4)) > 50, "{}: the button", stand.name);
    assert_eq!(stand.tap(button), Some(Action::LockScreen));
    stand.save("locked");
    let shown = |stand: &Stand| {
        let pixels = stand.scene.plane().pixels();
        pixels.iter().any(|pixel| zones.contains(&pixel.rgb()))
    };
    assert!(!shown(stand), "{}: a zone shines through", stand.name);
    stand.picker.set_status(stand.now, with(true));
    assert_eq!(stand.tap(display.rect()), None);
    stand.save("pad");
    assert!(!shown(stand), "{}: a zone shines through", stand.name);
    assert!(matches!(stand.type_pin(), Some(Action::UnlockScreen { .. })));
    stand.save("checking");
    let not = |cause, tries_left| NotOpened { zone: String::new(), cause, reason: String::new(), tries_left };
    stand.picker.not_unlocked(stand.now, &not(Cause::WrongPin, Some(1)));
    stand.save("wrong");
    // The usual display, and the one with the least room for words.
    let causes =
        if ["1280x800", "480x320"].contains(&stand.name) { &Cause::ALL[..] } else { &[Cause::LockedOut] };
    for cause in causes.iter().copied().filter(|cause| *cause != Cause::WrongPin) {
        assert!(matches!(stand.type_pin(), Some(Action::UnlockScreen { .. })));
        stand.picker.not_unlocked(stand.now, &not(cause, None));
        stand.save(&format!("card-{cause:?}").to_lowercase());
        let layout = stand.picker.pad_layout();
        let below = Rect::from_edges(
            layout.card.x,
            layout.card.bottom() + 1,
            layout.card.right(),
            layout.leave.y - 1,
        );
        assert_eq!(ink(stand.scene.plane(), below), 0, "{}: words on the buttons", stand.name);
        assert_eq!(stand.tap(layout.leave), None);
        assert_eq!(stand.tap(display.rect()), None);
    }
    assert!(matches!(stand.type_pin(), Some(Action::UnlockScreen { .. })));
    stand.picker.unlocked(stand.now);
    stand.save("unlocking");
    stand.picker.set_status(stand.now, with(false));
    let _ = stand.scene.draw(&stand.picker.view(stand.now));
    assert!(shown(stand), "{}: the zones are back", stand.name);
}

fn screen_pin(stand: &mut Stand) {
    let button = stand.picker.view(stand.now).panel.screen_pin.expect("it has one").rect;
    assert!(ink(stand.scene.plane(), button.inset(6)) > 30, "{}: the button", stand.name);
    assert_eq!(stand.tap(button), None);
    stand.save("screen-pin-old");
    assert_eq!(stand.type_pin(), None);
    stand.save("screen-pin-new");
    assert_eq!(stand.type_pin(), None);
    assert!(matches!(stand.type_pin(), Some(Action::ChangeScreenPin { .. })));
    stand.picker.screen_pin_changed(stand.now);
    stand.save("screen-pin-changed");
    let leave = stand.picker.pad_layout().leave;
    assert_eq!(stand.tap(leave), None);
}
