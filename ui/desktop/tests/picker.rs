//! The picker drawn into memory: pictures to look at, and what must be true of their pixels.
//!
//! One test function: Slint is built for one thread, and the test harness gives each test its own.

#[path = "picker/lock.rs"]
mod lock;
#[path = "picker/pad.rs"]
mod pad;

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use desktop::plane::Plane;
use desktop::scene::Scene;
use desktop_model::geometry::{Point, Rect, Size};
use desktop_model::picker::{ARMING, Action, Link, Picker};
use desktop_model::pointer::{Contact, PointerEvent, Stage};
use desktop_model::scale::Scale;
use desktop_model::status::{Colour, Login, Notice, Phase, Recovery, Screen, Status, Tunnel, Uplink, Zone};

/// Randomness for a shuffled pad.
const SEED: u64 = 0x0123_4567_89ab_cdef;

fn zone(name: &str, colour: Colour, phase: Phase, tunnel: Option<Tunnel>) -> Zone {
    Zone {
        name: name.to_owned(),
        label: name.to_owned(),
        colour,
        phase,
        reason: None,
        login: Login::Touch,
        tunnel,
    }
}

fn demo(sent: u64, received: u64) -> Status {
    let up = Tunnel { up: true, sent_bytes: sent, received_bytes: received, reason: None, public_key: None };
    let down = Tunnel::default();
    Status {
        policy: "Demonstration".to_owned(),
        demo: true,
        uplink: Uplink { carrier: true, address: Some("192.168.77.20".to_owned()) },
        zones: vec![
            zone("Office", Colour::Green, Phase::Running, Some(up)),
            zone("Research", Colour::Blue, Phase::Starting, Some(down)),
            zone("Vault", Colour::Grey, Phase::Stopped, None),
        ],
        recovery: Recovery::Noted,
        screen: Screen::default(),
        notices: vec![Notice {
            number: 1,
            process: "vmm office".to_owned(),
            text: "killed by signal 9".to_owned(),
        }],
    }
}

fn save(plane: &Plane, name: &str) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let file = File::create(folder.join(format!("{name}.png"))).expect("target folder is writable");
    let side = |length: i32| u32::try_from(length).expect("sides are positive");
    let mut encoder =
        png::Encoder::new(BufWriter::new(file), side(plane.size().width), side(plane.size().height));
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_compression(png::Compression::Fastest);
    let bytes: Vec<u8> = plane.pixels().iter().flat_map(|pixel| pixel.rgb()).collect();
    encoder.write_header().and_then(|mut writer| writer.write_image_data(&bytes)).expect("PNG is written");
}

fn centre(rect: Rect) -> Point {
    Point { x: rect.x + rect.width / 2, y: rect.y + rect.height / 2 }
}

fn tap(picker: &mut Picker, now: u64, rect: Rect) -> Option<Action> {
    let event = |stage| PointerEvent { contact: Contact(0), stage, at: centre(rect) };
    assert_eq!(picker.pointer(now, event(Stage::Down), SEED), None);
    picker.pointer(now, event(Stage::Up), SEED)
}

/// Pixels of `rect` that differ from its first one: what was drawn on a plain ground.
fn ink(plane: &Plane, rect: Rect) -> usize {
    let ground = plane.at(Point { x: rect.x, y: rect.y });
    (rect.y..rect.bottom())
        .map(|y| plane.row(y, rect.x, rect.right()).iter().filter(|pixel| **pixel != ground).count())
        .sum()
}

fn picker_of(display: Size, scale: Scale) -> Picker {
    let mut picker = Picker::new(display, scale);
    picker.set_link(Link::Up);
    picker.set_clock(1_795_378_020);
    picker.set_status(0, demo(1000, 2000));
    picker.set_status(100, demo(300_000, 5_000_000));
    picker
}

fn pictures_and_tile_colours() {
    for (name, width, height, scale) in [
        ("picker-1280x800", 1280, 800, Scale::One),
        ("picker-1920x1080", 1920, 1080, Scale::OneAndHalf),
        ("picker-800x1280", 800, 1280, Scale::One),
        ("picker-2560x1600", 2560, 1600, Scale::Two),
        ("picker-480x320", 480, 320, Scale::One),
    ] {
        let size = Size { width, height };
        let mut picker = picker_of(size, scale);
        let mut scene = Scene::new(size).expect("Slint starts");
        let damage = scene.draw(&picker.view(100));
        assert_eq!(damage.rects(), [size.rect()], "the first picture is whole");
        save(scene.plane(), name);
        for tile in picker.view(100).tiles {
            // Half way across, in the band above the label's letters.
            let at = Point { x: centre(tile.rect).x, y: tile.rect.y + scale.of(6) };
            assert_eq!(scene.plane().at(at).rgb(), tile.rgb, "{name}: {}", tile.label);
            let below = Point { x: at.x, y: tile.rect.bottom() + 1 };
            assert_ne!(scene.plane().at(below).rgb(), tile.rgb, "{name}: {} is too tall", tile.label);
        }
        assert!(scene.draw(&picker.view(100)).is_empty(), "nothing changed, nothing is drawn");

        let second = picker.layout().tiles.get(2).copied();
        if let Some(vault) = second {
            let action = tap(&mut picker, 200, vault);
            assert_eq!(action, Some(Action::Start { zone: "Vault".to_owned() }), "{name}");
            let damage = scene.draw(&picker.view(200));
            let tiles = &picker.layout().tiles;
            assert!(!damage.is_empty());
            for rect in damage.rects() {
                assert!(tiles[2].encloses(*rect) || tiles[1].encloses(*rect), "{name}: {rect:?}");
            }
        }
    }
}

/// The longest sentences that `zoned` says, on every kind of display: all of them readable on the tile.
fn pictures_of_reasons() {
    let silent = "The gateway office.gateway.example does not answer. Check that it runs and that UDP \
                  port 51820 gets through.";
    let dead = "The tunnel process was killed by signal 9. The zone has no network until it is \
                stopped and started again.";
    let missing = "Not started: template \"micro\" is not installed: /data/templates/micro/root.img is missing; run \
                   `./bulkhead run` to build it.";
    let down = |reason: &str| Some(Tunnel { reason: Some(reason.to_owned()), ..Tunnel::default() });
    for (name, width, height, scale) in [
        ("reasons-1280x800", 1280, 800, Scale::One),
        ("reasons-800x1280", 800, 1280, Scale::One),
        ("reasons-1920x1080", 1920, 1080, Scale::OneAndHalf),
        ("reasons-1024x600", 1024, 600, Scale::One),
        ("reasons-480x320", 480, 320, Scale::One),
    ] {
        let size = Size { width, height };
        let mut picker = picker_of(size, scale);
        let mut status = demo(0, 0);
        status.zones[0].tunnel = down(silent);
        status.zones[1].phase = Phase::Running;
        status.zones[1].tunnel = down(dead);
        status.zones[2].phase = Phase::Failed;
        status.zones[2].reason = Some(missing.to_owned());
        picker.set_status(200, status);
        let mut scene = Scene::new(size).expect("Slint starts");
        let view = picker.view(200);
        let _ = scene.draw(&view);
        save(scene.plane(), name);
        for tile in &view.tiles {
            // Between the tunnel's line and the hint, which low tiles have not.
            let low = tile.rect.height < scale.of(208);
            let (top, bottom) = if low { (141, 5) } else { (176, 40) };
            let lines = Rect::from_edges(
                tile.rect.x + scale.of(18),
                tile.rect.y + scale.of(top),
                tile.rect.right() - scale.of(18),
                tile.rect.bottom() - scale.of(bottom),
            );
            let lines = lines_of_text(scene.plane(), lines);
            assert!((2..=9).contains(&lines), "{name}: {} has {lines} lines of reason", tile.label);
        }
    }
}

/// A sentence that one line does not hold is readable to its end in the notice bar.
fn pictures_of_long_notices() {
    let finding = "There are no zones: /etc/bulkhead/policy.toml is not accepted. Line 23: tunnel.office.dsn: \
                   found an unknown key, allowed the keys address, dns, mtu, peer (did you mean \"dns\"?)";
    for (name, width, height, scale, least) in [
        ("notice-1280x800", 1280, 800, Scale::One, 2),
        ("notice-3840x2160", 3840, 2160, Scale::Two, 1),
        ("notice-800x1280", 800, 1280, Scale::One, 2),
    ] {
        let mut picker = picker_of(Size { width, height }, scale);
        let mut status = demo(0, 0);
        finding.clone_into(&mut status.notices[0].text);
        "zoned".clone_into(&mut status.notices[0].process);
        picker.set_status(200, status);
        let mut scene = Scene::new(Size { width, height }).expect("Slint starts");
        let view = picker.view(200);
        let _ = scene.draw(&view);
        save(scene.plane(), name);
        // Right of the subject's own line.
        let words = Rect::from_edges(
            view.bar.notice.x + scale.of(100),
            view.bar.rect.y,
            view.bar.notice.right(),
            view.bar.rect.bottom(),
        );
        let lines = lines_of_text(scene.plane(), words);
        assert!((least..=3).contains(&lines), "{name}: {lines} lines of notice");
    }
}

/// Runs of rows with ink, each a line of text.
fn lines_of_text(plane: &Plane, rect: Rect) -> usize {
    let has_ink = |y: &i32| ink(plane, Rect { y: *y, height: 1, ..rect }) > 0;
    let rows: Vec<bool> = (rect.y..rect.bottom()).map(|y| has_ink(&y)).collect();
    rows.windows(2).filter(|pair| matches!(pair, [false, true])).count()
        + usize::from(rows.first() == Some(&true))
}

fn pictures_of_states() {
    let size = Size { width: 1280, height: 800 };
    let mut picker = picker_of(size, Scale::One);
    let mut scene = Scene::new(size).expect("Slint starts");
    let office = picker.layout().tiles[0];
    assert_eq!(tap(&mut picker, 1000, office), None);
    let _ = scene.draw(&picker.view(1000 + ARMING));
    save(scene.plane(), "picker-question");
    let question = picker.view(1000 + ARMING).tiles[0].question.clone().expect("a running zone asks");
    assert!(ink(scene.plane(), question.stop) > 500, "the stop button is drawn");
    let action = tap(&mut picker, 1000 + ARMING, question.stop);
    assert_eq!(action, Some(Action::Stop { zone: "Office".to_owned() }));

    let mut status = demo(0, 0);
    status.zones[1].phase = Phase::Failed;
    status.zones[1].reason = Some("the template micro is not on this host: /data/templates/micro".to_owned());
    picker.set_status(3000, status);
    picker.set_link(Link::Lost);
    let _ = scene.draw(&picker.view(3000));
    save(scene.plane(), "picker-lost");

    let colours = Colour::ALL.iter().map(|colour| zone(colour.name(), *colour, Phase::Stopped, None));
    picker.set_status(4000, Status { zones: colours.collect(), ..demo(0, 0) });
    picker.set_link(Link::Up);
    let _ = scene.draw(&picker.view(4000));
    save(scene.plane(), "picker-eight");
}

/// Every printable character can be drawn at every size: a glyph that was not embedded leaves no ink.
fn every_character_has_a_glyph() {
    for scale in Scale::ALL {
        let size = Size { width: scale.of(1280), height: scale.of(800) };
        let mut picker = Picker::new(size, scale);
        picker.set_link(Link::Up);
        let mut scene = Scene::new(size).expect("Slint starts");
        for byte in b'!'..=b'~' {
            let one = char::from(byte).to_string();
            let mut status = demo(0, 0);
            status.policy = one.clone();
            status.zones.truncate(1);
            status.zones[0].label = one.clone();
            status.zones[0].phase = Phase::Failed;
            status.zones[0].reason = Some(one.clone());
            status.notices[0].text = one.clone();
            status.notices[0].process = String::new();
            picker.set_status(0, status);
            let view = picker.view(0);
            let _ = scene.draw(&view);
            let plane = scene.plane();
            let tile = view.tiles[0].rect;
            let inner = tile.inset(scale.of(14));
            let band = Rect { height: scale.of(46), ..inner };
            assert!(ink(plane, band) > 0, "{one:?} is missing in bold at {scale:?}");
            let reason = Rect::from_edges(
                inner.x,
                tile.y + scale.of(140),
                inner.right(),
                inner.bottom() - scale.of(40),
            );
            assert!(ink(plane, reason) > 0, "{one:?} is missing in the reason at {scale:?}");
            let strip = Rect::from_edges(scale.of(210), scale.of(4), scale.of(400), scale.of(50));
            assert!(ink(plane, strip) > 0, "{one:?} is missing in the strip at {scale:?}");
            let bar = view.bar.notice;
            let bar = Rect { y: bar.y + scale.of(4), height: bar.height - scale.of(8), x: bar.x - 2, ..bar };
            assert!(ink(plane, bar) > 0, "{one:?} is missing in the notice at {scale:?}");
        }
    }
}

#[test]
fn the_picker_is_drawn_into_memory() {
    pictures_and_tile_colours();
    pictures_of_reasons();
    pictures_of_long_notices();
    pictures_of_states();
    pad::pictures();
    lock::pictures();
    every_character_has_a_glyph();
}
