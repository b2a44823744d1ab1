//! The PIN pad and the cards, drawn.

use desktop::plane::Plane;
use desktop::scene::Scene;
use desktop_model::geometry::{Point, Rect, Size};
use desktop_model::pad::recovery::GroupState;
use desktop_model::pad::{ARMING, Cause, NotOpened, RecoveryKey};
use desktop_model::picker::{Action, Picker};
use desktop_model::pointer::{Contact, PointerEvent, Stage};
use desktop_model::scale::Scale;
use desktop_model::status::{Login, Phase, PinLogin, Recovery, Status};
use desktop_model::view::FrontView;

use super::{SEED, centre, demo, ink, picker_of, save, tap};

pub(super) const DISPLAYS: [(&str, i32, i32, Scale); 5] = [
    ("1280x800", 1280, 800, Scale::One),
    ("800x1280", 800, 1280, Scale::One),
    ("1920x1200", 1920, 1200, Scale::Two),
    ("1920x1080", 1920, 1080, Scale::OneAndHalf),
    ("480x320", 480, 320, Scale::One),
];

/// Late enough that what the first touch brought takes touches.
const LATER: u64 = 200 + ARMING;

const PIN: PinLogin = PinLogin { chosen: true, shuffle: false, tries_left: Some(5) };

fn with_pins(pin: PinLogin) -> Status {
    let mut status = demo(0, 0);
    status.zones[0].phase = Phase::Stopped;
    status.zones[0].login = Login::Pin(pin);
    status.zones[1].phase = Phase::Failed;
    status.zones[1].login = Login::Pin(PinLogin { tries_left: Some(0), ..PIN });
    status.notices.clear();
    status
}

/// One display with its scene and a picker on it.
struct Stand {
    name: String,
    picker: Picker,
    scene: Scene,
}

impl Stand {
    fn new(name: &str, display: Size, scale: Scale) -> Self {
        let picker = picker_of(display, scale);
        Self { name: name.to_owned(), picker, scene: Scene::new(display).expect("Slint starts") }
    }

    /// The pad of the first zone, at [`LATER`].
    fn open(&mut self, pin: PinLogin) {
        self.picker.set_status(200, with_pins(PinLogin { tries_left: None, ..pin }));
        self.picker.set_status(200, with_pins(pin));
        let tile = self.picker.layout().tiles[0];
        assert_eq!(tap(&mut self.picker, 200, tile), None);
    }

    fn type_digits(&mut self, places: &[usize]) {
        for place in places {
            let key = self.picker.pad_layout().places[*place];
            assert_eq!(tap(&mut self.picker, LATER + 2 * ARMING, key), None);
        }
    }

    fn go(&mut self) -> Option<Action> {
        let go = self.picker.pad_layout().go;
        tap(&mut self.picker, LATER + 2 * ARMING, go)
    }

    fn cancel(&mut self) {
        let cancel = self.picker.pad_layout().cancel;
        assert_eq!(tap(&mut self.picker, LATER + 2 * ARMING, cancel), None);
    }

    fn save(&mut self, what: &str) {
        let _ = self.scene.draw(&self.picker.view(LATER + 2 * ARMING));
        save(self.scene.plane(), &format!("pad-{what}-{}", self.name));
    }

    fn not_opened(&mut self, cause: Cause, reason: &str, tries_left: Option<u32>) {
        let (zone, reason) = ("Office".to_owned(), reason.to_owned());
        self.picker.not_opened(LATER, &NotOpened { zone, cause, reason, tries_left });
    }

    fn colour_at(&self, x: i32, y: i32) -> [u8; 3] {
        self.scene.plane().at(Point { x, y }).rgb()
    }
}

pub(super) fn pictures() {
    for (name, width, height, scale) in DISPLAYS {
        let mut stand = Stand::new(name, Size { width, height }, scale);
        pads(&mut stand, scale);
        cards(&mut stand);
        recovery(&mut stand);
        making(&mut stand, scale);
        change(&mut stand);
        longest_words(&mut stand);
    }
}

fn pads(stand: &mut Stand, scale: Scale) {
    stand.picker.set_status(200, with_pins(PIN));
    stand.save("tiles");
    let beneath = stand.scene.plane().pixels().to_vec();
    stand.open(PIN);
    stand.save("empty");
    in_the_zones_colour(stand);
    every_key_is_drawn(stand, scale);
    let layout = stand.picker.pad_layout();
    let dots = |stand: &Stand| ink(stand.scene.plane(), layout.words);
    let empty = dots(stand);
    stand.type_digits(&[1, 2, 3, 4, 5, 6, 7]);
    stand.save("typed");
    assert!(dots(stand) > empty, "{}: dots fill", stand.name);

    let held = centre(layout.places[5]);
    let event = |stage| PointerEvent { contact: Contact(3), stage, at: held };
    let _ = stand.picker.pointer(LATER + 2 * ARMING, event(Stage::Down), SEED);
    stand.save("pressed");
    let _ = stand.picker.pointer(LATER + 2 * ARMING, event(Stage::Cancel), SEED);

    assert!(matches!(stand.go(), Some(Action::Open { .. })));
    stand.save("checking");
    stand.not_opened(Cause::WrongPin, "The PIN is wrong.", Some(3));
    stand.save("wrong");
    stand.type_digits(&[1, 2, 3, 4, 5, 6]);
    let _ = stand.go();
    stand.not_opened(Cause::WrongPin, "The PIN is wrong.", Some(1));
    stand.save("last");
    stand.cancel();

    stand.picker.set_status(LATER, with_pins(PIN));
    let _ = stand.scene.draw(&stand.picker.view(LATER));
    assert!(stand.scene.plane().pixels() == beneath, "{}: a closed pad leaves nothing", stand.name);

    stand.open(PinLogin { shuffle: true, ..PIN });
    stand.save("shuffled");
    stand.cancel();

    stand.open(PinLogin { chosen: false, tries_left: None, ..PIN });
    stand.save("choose");
    stand.type_digits(&[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
    assert_eq!(stand.go(), None);
    stand.save("again");
    stand.type_digits(&[2, 2, 2, 2, 2, 2]);
    assert_eq!(stand.go(), None);
    stand.save("different");
    stand.cancel();
}

/// Frame and band are the zone's; the tiles are nowhere to be seen.
fn in_the_zones_colour(stand: &Stand) {
    let layout = stand.picker.pad_layout();
    let Some(FrontView::Pad(pad)) = stand.picker.view(LATER).front else { panic!("no pad") };
    for (x, y) in [
        (layout.display.width / 2, 2),
        (1, layout.display.height - 2),
        (layout.display.width - 2, layout.display.height / 2),
        (layout.display.width / 2, layout.display.height - 1),
    ] {
        assert_eq!(stand.colour_at(x, y), pad.rgb, "{} at {x}, {y}", stand.name);
    }
    let others: Vec<[u8; 3]> = stand.picker.view(LATER).tiles.iter().skip(1).map(|tile| tile.rgb).collect();
    assert!(
        stand.scene.plane().pixels().iter().all(|pixel| !others.contains(&pixel.rgb())),
        "{}: another zone shines through",
        stand.name
    );
}

/// A glyph that was not embedded leaves no ink.
fn every_key_is_drawn(stand: &Stand, scale: Scale) {
    let layout = stand.picker.pad_layout();
    let mut keys = layout.places.to_vec();
    keys.extend([layout.back, layout.go, layout.cancel, layout.change]);
    for (number, key) in keys.iter().enumerate() {
        let middle = Rect {
            x: centre(*key).x - scale.of(20),
            y: centre(*key).y - scale.of(20),
            width: scale.of(40),
            height: scale.of(40),
        };
        let drawn = ink(stand.scene.plane(), middle);
        assert!(drawn > 40, "{}: key {number} has {drawn} pixels of ink", stand.name);
    }
}

/// A card for each cause, with a sentence of `zoned` as long as they come.
fn cards(stand: &mut Stand) {
    let reason = "The machine's TPM gave nothing out for this zone: what it compared and what was asked of it do not \
                  agree, and zoned says so in a sentence that is as long as they come.";
    for cause in Cause::ALL {
        if cause == Cause::WrongPin {
            continue;
        }
        stand.open(PIN);
        stand.type_digits(&[1, 2, 3, 4, 5, 6]);
        let _ = stand.go();
        stand.not_opened(cause, reason, None);
        stand.save(&format!("card-{cause:?}").to_lowercase());
        let Some(FrontView::Card(card)) = stand.picker.view(LATER).front else { panic!("no card") };
        for button in [Some(card.leave.rect), card.onward.map(|onward| onward.rect)].into_iter().flatten() {
            assert!(ink(stand.scene.plane(), button.inset(8)) > 100, "{}: {cause:?}", stand.name);
        }
        let leave = card.leave.rect;
        assert_eq!(tap(&mut stand.picker, LATER + 2 * ARMING, leave), None);
    }
}

/// The recovery key in clear, group after group, and the new PIN.
fn recovery(stand: &mut Stand) {
    let status = || with_pins(PinLogin { tries_left: Some(0), ..PIN });
    let key = ["720885", "000000", "123453", "654313", "000011", "424248", "699996", "499994"];
    stand.picker.set_status(200, status());
    let tile = stand.picker.layout().tiles[0];
    assert_eq!(tap(&mut stand.picker, 200, tile), None);
    let onward = stand.picker.pad_layout().retry;
    assert_eq!(tap(&mut stand.picker, LATER, onward), None);
    stand.save("recovery-empty");
    let layout = stand.picker.pad_layout();
    let groups = |stand: &Stand| ink(stand.scene.plane(), layout.words);
    let mut before = groups(stand);
    let digits = |group: &str| group.bytes().map(|digit| usize::from(digit - b'0')).collect::<Vec<_>>();
    for (number, group) in key.iter().enumerate() {
        stand.type_digits(&digits(group));
        let _ = stand.scene.draw(&stand.picker.view(LATER + 2 * ARMING));
        assert_ne!(groups(stand), before, "{}: group {number} is drawn", stand.name);
        before = groups(stand);
        if number == 3 {
            stand.type_digits(&digits("000012"));
            stand.save("recovery-mistyped");
            for _ in 0..6 {
                let back = layout.back;
                assert_eq!(tap(&mut stand.picker, LATER + 2 * ARMING, back), None);
            }
            stand.type_digits(&digits("00"));
            stand.save("recovery-half");
            for _ in 0..2 {
                assert_eq!(tap(&mut stand.picker, LATER + 2 * ARMING, layout.back), None);
            }
        }
    }
    stand.save("recovery-whole");
    let words = layout.words;
    let end = layout
        .places
        .iter()
        .map(|key| key.y)
        .filter(|y| *y >= words.bottom())
        .min()
        .unwrap_or(layout.cancel.y);
    let below = Rect::from_edges(words.x, words.bottom() + 1, words.right(), end - 1);
    if below.height > 0 {
        assert_eq!(ink(stand.scene.plane(), below), 0, "{}: words on the buttons", stand.name);
    }
    assert_eq!(stand.go(), None);
    stand.save("recovery-choose");
    for action in [false, true] {
        stand.type_digits(&[2, 4, 6, 8, 0, 2]);
        assert_eq!(matches!(stand.go(), Some(Action::Recover { .. })), action);
    }
    stand.save("recovery-opening");
    stand.not_opened(Cause::WrongRecoveryKey, "", None);
    stand.save("card-another-key");
    assert_eq!(tap(&mut stand.picker, LATER + 2 * ARMING, layout.leave), None);
}

/// A new recovery key: the question, the key in groups and as a code, its groups typed back, and what came of it.
fn making(stand: &mut Stand, scale: Scale) {
    const KEY: &str = "720885-000000-123453-654313-000011-424248-699996-499994";
    let mut status = with_pins(PIN);
    status.recovery = Recovery::None;
    stand.picker.set_status(200, status);
    stand.save("key-offered");
    let layout = stand.picker.pad_layout();
    let bar = stand.picker.layout().notice;
    assert_eq!(tap(&mut stand.picker, 200, bar), None);
    stand.save("key-question");
    assert_eq!(tap(&mut stand.picker, LATER, layout.retry), Some(Action::NewRecoveryKey));
    stand.save("key-waiting");
    stand.picker.key_made(LATER, RecoveryKey::read(KEY));
    stand.save("key-shown");
    let Some(FrontView::Made(made)) = stand.picker.view(LATER).front else { panic!("no key") };
    groups_are_drawn(stand, made.groups_at, scale);
    assert_eq!(code(stand.scene.plane(), made.code_at).as_deref(), Some(KEY), "{}", stand.name);
    let written = made.written.expect("a button").rect;
    assert_eq!(tap(&mut stand.picker, LATER + 2 * ARMING, written), None);
    stand.save("key-check");
    let light = stand.scene.plane().pixels().iter().filter(|pixel| pixel.rgb() == [255; 3]).count();
    let area = usize::try_from(made.code_at.area()).expect("a square");
    assert!(light < area / 4, "{}: the code is gone", stand.name);
    type_wanted(stand, KEY, 1);
    stand.save("key-check-one");
    for _ in 0..6 {
        assert_eq!(tap(&mut stand.picker, LATER + 9 * ARMING, layout.places[9]), None);
    }
    stand.save("key-wrong");
    assert_eq!(tap(&mut stand.picker, LATER + 10 * ARMING, written), None);
    type_wanted(stand, KEY, 3);
    stand.save("key-checked");
    let go = layout.go;
    let action = tap(&mut stand.picker, LATER + 11 * ARMING, go);
    assert!(matches!(action, Some(Action::NoteRecoveryKey { .. })), "{}: {action:?}", stand.name);
    stand.save("key-noting");
    stand.picker.key_noted(LATER);
    stand.save("key-noted");
    assert_eq!(tap(&mut stand.picker, LATER + 11 * ARMING, layout.leave), None);
}

/// Another PIN for a zone.
fn change(stand: &mut Stand) {
    stand.open(PIN);
    let layout = stand.picker.pad_layout();
    assert_eq!(tap(&mut stand.picker, LATER, layout.change), None);
    stand.save("change-old");
    assert!(ink(stand.scene.plane(), layout.cancel.inset(8)) > 100, "{}", stand.name);
    for (what, action) in [("change-new", false), ("change-again", false), ("change-busy", true)] {
        stand.type_digits(&[1, 2, 3, 4, 5, 6]);
        assert_eq!(matches!(stand.go(), Some(Action::ChangePin { .. })), action, "{}: {what}", stand.name);
        stand.save(what);
    }
    stand.picker.pin_changed(LATER, "Office");
    stand.save("changed");
    assert_eq!(tap(&mut stand.picker, LATER + 2 * ARMING, layout.leave), None);
}

/// Types so many of the groups that are asked for.
fn type_wanted(stand: &mut Stand, key: &str, count: usize) {
    for _ in 0..count {
        let Some(FrontView::Pad(pad)) = stand.picker.view(LATER).front else { panic!("no pad") };
        let group = pad.groups.iter().position(|group| group.state == GroupState::Current);
        let group = key.split('-').nth(group.expect("one is asked for")).expect("eight");
        for digit in group.bytes() {
            let place = stand.picker.pad_layout().places[usize::from(digit - b'0')];
            assert_eq!(tap(&mut stand.picker, LATER + 11 * ARMING, place), None);
        }
    }
}

/// Eight cells, each with ink in it.
fn groups_are_drawn(stand: &Stand, at: Rect, scale: Scale) {
    for index in 0..8 {
        let cell = Rect {
            x: at.x + index % 2 * at.width / 2,
            y: at.y + index / 2 * at.height / 4,
            width: at.width / 2,
            height: at.height / 4,
        };
        let drawn = ink(stand.scene.plane(), cell.inset(scale.of(6)));
        assert!(drawn > 100, "{}: group {index} has {drawn} pixels of ink", stand.name);
    }
}

/// What a camera reads there.
pub(super) fn code(plane: &Plane, at: Rect) -> Option<String> {
    let side = usize::try_from(at.width).expect("a square");
    let mut picture = rqrr::PreparedImage::prepare_from_greyscale(side, side, |x, y| {
        let offset = |places: usize| i32::try_from(places).expect("on the display");
        let [red, ..] = plane.at(Point { x: at.x + offset(x), y: at.y + offset(y) }).rgb();
        red
    });
    let grid = picture.detect_grids().pop()?;
    grid.decode().ok().map(|(_, text)| text)
}

/// Labels and sentences of full length stay clear of the buttons.
fn longest_words(stand: &mut Stand) {
    let mut status = with_pins(PinLogin { chosen: false, tries_left: None, ..PIN });
    "Office of the northern region AG".clone_into(&mut status.zones[0].label);
    stand.picker.set_status(LATER, status);
    let tile = stand.picker.layout().tiles[0];
    assert_eq!(tap(&mut stand.picker, 200, tile), None);
    stand.save("long");
    stand.type_digits(&[1, 2, 3, 4, 5, 6]);
    assert_eq!(stand.go(), None);
    stand.type_digits(&[1, 2, 3, 4, 5, 6]);
    assert!(stand.go().is_some());
    stand.not_opened(Cause::TpmOwned, &"Words of zoned. ".repeat(30), None);
    stand.save("card-long");
    let layout = stand.picker.pad_layout();
    let below =
        Rect::from_edges(layout.card.x, layout.card.bottom() + 1, layout.card.right(), layout.leave.y - 1);
    assert_eq!(ink(stand.scene.plane(), below), 0, "{}: words on the buttons", stand.name);
    let above = Rect::from_edges(layout.card.x, layout.band.bottom(), layout.card.right(), layout.card.y);
    assert_eq!(ink(stand.scene.plane(), above), 0, "{}: words on the band", stand.name);
    assert_eq!(tap(&mut stand.picker, LATER + 2 * ARMING, layout.leave), None);
}
