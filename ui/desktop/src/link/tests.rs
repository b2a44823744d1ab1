use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use control_api::wire::{Call, CallError, Continues, Frames, MAX_CALL, Method, Reply};
use control_api::{Cause, Pin, Uplink};
use desktop_model::geometry::{Point, Rect, Size};
use desktop_model::pad::{self, ARMING, NotOpened, key_rect};
use desktop_model::picker::{Action, Link, OPENING, Picker};
use desktop_model::pointer::{Contact, PointerEvent, Stage};
use desktop_model::scale::Scale;
use desktop_model::status as model;

use super::{LinkEvent, PATIENCE, PROBE, RETRY, ZonedLink};
use crate::convert;

mod screen;

const DISPLAY: Size = Size { width: 1280, height: 800 };

/// A recovery key that can be one.
const KEY: &str = "720885-000000-123453-654313-000011-424248-699996-499994";

fn status(policy: &str) -> control_api::Status {
    control_api::Status {
        policy: policy.to_owned(),
        demo: true,
        uplink: Uplink::default(),
        zones: Vec::new(),
        recovery: control_api::Recovery::None,
        screen: control_api::Screen::default(),
        notices: Vec::new(),
    }
}

fn start(zone: &str) -> Action {
    Action::Start { zone: zone.to_owned() }
}

/// One message from a stream that blocks.
fn next_call(stream: &mut UnixStream) -> Method {
    let mut frames = Frames::new(MAX_CALL);
    let mut byte = [0];
    loop {
        stream.read_exact(&mut byte).expect("the client is there");
        frames.push(&byte);
        if let Some(frame) = frames.next_frame().expect("short") {
            return Call::decode(&frame).expect("a call").expect("a known one").method;
        }
    }
}

fn send(stream: &mut UnixStream, reply: &Reply) {
    stream.write_all(&reply.encode(Continues::No)).expect("the client is there");
}

struct Fixture {
    _folder: tempfile::TempDir,
    listener: UnixListener,
    link: ZonedLink,
}

/// A link that just connected, and `zoned`'s ends of it: monitor, calls, openings.
fn connected() -> (Fixture, UnixStream, UnixStream, UnixStream) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("zones");
    let listener = UnixListener::bind(&path).expect("a socket");
    let mut link = ZonedLink::new(&path);
    assert_eq!(link.service(0), [LinkEvent::State(Link::Up)]);
    let (mut monitor, _) = listener.accept().expect("monitor");
    let (calls, _) = listener.accept().expect("calls");
    let (openings, _) = listener.accept().expect("openings");
    for stream in [&monitor, &calls, &openings] {
        // A call that does not come is a failure, not a test without end.
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit");
    }
    assert_eq!(next_call(&mut monitor), Method::Monitor);
    (Fixture { _folder: folder, listener, link }, monitor, calls, openings)
}

#[test]
fn statuses_come_and_requests_go() {
    let (mut fixture, mut monitor, mut calls, mut openings) = connected();
    send(&mut monitor, &Reply::Status(status("one")));
    assert_eq!(fixture.link.service(1), [LinkEvent::Status(status("one"))]);
    assert_eq!(fixture.link.request(2, start("office")), None);
    assert_eq!(next_call(&mut openings), Method::Start("office".to_owned()));
    assert_eq!(fixture.link.request(2, Action::Stop { zone: "vault".to_owned() }), None);
    assert_eq!(next_call(&mut calls), Method::Stop("vault".to_owned()));
    send(&mut calls, &Reply::Error(CallError::Refused("it is starting".to_owned())));
    let failed = LinkEvent::Failed { zone: "vault".to_owned(), why: "it is starting".to_owned() };
    assert_eq!(fixture.link.service(3), [failed]);
}

/// The picker's action after 135790 was typed on the pad of `office`.
/// A picker with one zone, and where its keys are.
struct Hand {
    picker: Picker,
    now: u64,
}

impl Hand {
    fn new(login: model::Login) -> Self {
        let mut picker = Picker::new(DISPLAY, Scale::One);
        picker.set_link(Link::Up);
        let mut status = convert::status(status("one"));
        status.zones = vec![model::Zone {
            name: "office".to_owned(),
            label: "Office".to_owned(),
            colour: model::Colour::Green,
            phase: model::Phase::Stopped,
            reason: None,
            login,
            tunnel: None,
        }];
        picker.set_status(0, status);
        Self { picker, now: 0 }
    }

    fn touch(&mut self, rect: Rect) -> Option<Action> {
        self.now += ARMING;
        let at = Point { x: rect.x + 9, y: rect.y + 9 };
        let event = |stage| PointerEvent { contact: Contact(0), stage, at };
        let _ = self.picker.pointer(self.now, event(Stage::Down), 0);
        self.picker.pointer(self.now, event(Stage::Up), 0)
    }

    /// Types the digits of `text` and goes on.
    fn go(&mut self, text: &str) -> Option<Action> {
        for digit in text.bytes().filter(u8::is_ascii_digit) {
            let key = key_rect(DISPLAY, Scale::One, digit - b'0').expect("a digit");
            assert_eq!(self.touch(key), None);
        }
        self.touch(self.picker.pad_layout().go)
    }
}

/// What the pad asks for when somebody types 135790.
fn open() -> Action {
    let pin = model::PinLogin { chosen: true, ..model::PinLogin::default() };
    let mut hand = Hand::new(model::Login::Pin(pin));
    let tile = hand.picker.layout().tiles[0];
    assert_eq!(hand.touch(tile), None);
    hand.go("135790").expect("the pad asks to open the zone")
}

/// What it asks for when somebody has the recovery key.
fn recover(login: model::Login) -> Action {
    let mut hand = Hand::new(login);
    let (zone, cause) = ("office".to_owned(), pad::Cause::TpmCleared);
    hand.picker.not_opened(0, &NotOpened { zone, cause, reason: String::new(), tries_left: None });
    assert_eq!(hand.touch(hand.picker.pad_layout().retry), None);
    hand.go(KEY)
        .or_else(|| hand.go("246802"))
        .or_else(|| hand.go("246802"))
        .expect("the pad asks to recover the zone")
}

#[test]
fn a_recovery_key_goes_out_as_it_is_written_and_its_answer_is_an_openings() {
    let (mut fixture, _monitor, _calls, mut openings) = connected();
    for (login, pin) in [(model::Login::Touch, ""), (model::Login::Pin(model::PinLogin::default()), "246802")]
    {
        let action = recover(login);
        assert!(!format!("{action:?}").contains("720885"));
        assert_eq!(fixture.link.request(1, action), None);
        let sent = Method::Recover {
            zone: "office".to_owned(),
            key: Pin::new(KEY.to_owned()),
            pin: Pin::new(pin.to_owned()),
        };
        assert_eq!(next_call(&mut openings), sent);
        send(&mut openings, &Reply::Done);
        assert_eq!(fixture.link.service(2), [LinkEvent::Opened { zone: "office".to_owned() }]);
    }
}

#[test]
fn a_pin_goes_out_as_typed_and_each_answer_comes_back_with_its_zone() {
    let (mut fixture, _monitor, mut calls, mut openings) = connected();
    assert_eq!(fixture.link.request(1, open()), None);
    let sent = Method::Open { zone: "office".to_owned(), pin: Pin::new("135790".to_owned()) };
    assert_eq!(next_call(&mut openings), sent);
    assert!(!format!("{:?} {:?}", fixture.link, open()).contains("135790"));
    let error = |cause, tries_left| {
        let (zone, reason) = ("office".to_owned(), "The PIN is wrong.".to_owned());
        Reply::Error(CallError::NotOpened { zone, cause, reason, tries_left })
    };
    send(&mut openings, &error(Cause::WrongPin, Some(3)));
    let wrong = LinkEvent::NotOpened(NotOpened {
        zone: "office".to_owned(),
        cause: pad::Cause::WrongPin,
        reason: "The PIN is wrong.".to_owned(),
        tries_left: Some(3),
    });
    assert_eq!(fixture.link.service(2), [wrong]);
    assert_eq!(fixture.link.request(3, open()), None);
    // The TPM takes its time: nobody is called silent for that, and other calls are answered meanwhile.
    let late = 3 + PATIENCE * 2;
    assert_eq!(fixture.link.service(late), []);
    assert_eq!(fixture.link.request(late, Action::Stop { zone: "vault".to_owned() }), None);
    send(&mut calls, &Reply::Error(CallError::Refused("No.".to_owned())));
    let refused = LinkEvent::Failed { zone: "vault".to_owned(), why: "No.".to_owned() };
    assert_eq!(fixture.link.service(late), [refused]);
    send(&mut openings, &Reply::Done);
    assert_eq!(fixture.link.service(late + 1), [LinkEvent::Opened { zone: "office".to_owned() }]);
    assert_eq!(fixture.link.request(late, start("vault")), None);
    send(&mut openings, &error(Cause::TpmBusy, None));
    let events = fixture.link.service(late + 2);
    assert!(
        matches!(&events[..], [LinkEvent::NotOpened(why)] if why.zone == "vault" && why.tries_left.is_none()),
        "the zone of the call, whatever the answer says: {events:?}"
    );
}

#[test]
fn each_cause_on_the_wire_is_the_one_of_the_same_name() {
    for cause in [
        Cause::PinNeeded,
        Cause::BadPin,
        Cause::WrongPin,
        Cause::LockedOut,
        Cause::NotApproved,
        Cause::TpmMissing,
        Cause::TpmCleared,
        Cause::TpmForeign,
        Cause::TpmOwned,
        Cause::TpmBusy,
        Cause::Damaged,
        Cause::BadRecoveryKey,
        Cause::WrongRecoveryKey,
        Cause::NoRecovery,
        Cause::Other,
    ] {
        assert_eq!(format!("{cause:?}"), format!("{:?}", convert::cause(cause)));
    }
}

#[test]
fn an_opening_without_an_answer_is_given_up_with_its_connection() {
    let (mut fixture, _monitor, mut calls, _openings) = connected();
    assert_eq!(fixture.link.request(1, open()), None);
    for now in [PROBE, 2 * PROBE] {
        assert_eq!(fixture.link.service(now), []);
        assert_eq!(next_call(&mut calls), Method::GetInfo);
        send(&mut calls, &Reply::Service(control_api_value()));
        assert_eq!(fixture.link.service(now + 1), []);
    }
    let given_up = [
        LinkEvent::Failed {
            zone: "office".to_owned(),
            why: "zoned was given up before it answered.".to_owned(),
        },
        LinkEvent::State(Link::Lost),
    ];
    assert_eq!(fixture.link.service(1 + OPENING), given_up);
}

#[test]
fn a_crash_of_zoned_fails_what_was_asked_and_the_link_comes_back() {
    let (mut fixture, monitor, calls, openings) = connected();
    assert_eq!(fixture.link.request(1, start("office")), None);
    drop((monitor, calls, openings));
    let events = fixture.link.service(10);
    assert!(matches!(&events[0], LinkEvent::Failed { zone, .. } if zone == "office"), "{events:?}");
    assert_eq!(events[1..], [LinkEvent::State(Link::Lost)]);
    assert!(matches!(fixture.link.request(11, start("vault")), Some(LinkEvent::Failed { .. })));
    assert_eq!(fixture.link.deadline(), 10 + RETRY);
    assert_eq!(fixture.link.service(11), [], "not before its time");
    assert_eq!(fixture.link.service(10 + RETRY), [LinkEvent::State(Link::Up)]);
    let (mut monitor, _) = fixture.listener.accept().expect("monitor again");
    assert_eq!(next_call(&mut monitor), Method::Monitor);
}

#[test]
fn a_hung_zoned_is_silent_until_it_answers() {
    let (mut fixture, _monitor, mut calls, _openings) = connected();
    assert_eq!(fixture.link.deadline(), PROBE);
    assert_eq!(fixture.link.service(PROBE), []);
    assert_eq!(fixture.link.deadline(), PROBE + PATIENCE);
    assert_eq!(fixture.link.service(PROBE + PATIENCE), [LinkEvent::State(Link::Silent)]);
    assert!(fixture.link.deadline() > PROBE + PATIENCE, "no spinning on a hung zoned");
    for probe in 2..200 {
        assert_eq!(fixture.link.service(probe * PROBE), []);
    }
    assert_eq!(next_call(&mut calls), Method::GetInfo);
    send(&mut calls, &Reply::Service(control_api_value()));
    assert_eq!(fixture.link.service(200 * PROBE - 1), [LinkEvent::State(Link::Up)]);
}

/// Any parameters will do for a probe's answer.
fn control_api_value() -> serde_json::Value {
    serde_json::json!({})
}

#[test]
fn a_zoned_that_accepts_nothing_is_not_waited_for() {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, listen, socket};
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("zones");
    let listener = socket(AddressFamily::UNIX, SocketType::STREAM, None).expect("a socket");
    bind(&listener, &SocketAddrUnix::new(&path).expect("short")).expect("bound");
    listen(&listener, 0).expect("listening");
    let mut link = ZonedLink::new(&path);
    // Its queue takes one connection; a connect that waits would never return.
    for attempt in 0..3 {
        assert_eq!(link.service(attempt * RETRY), []);
        assert_eq!(link.deadline(), (attempt + 1) * RETRY);
    }
}

#[test]
fn garbage_from_zoned_is_a_lost_connection_not_a_panic() {
    let (mut fixture, mut monitor, _calls, _openings) = connected();
    monitor.write_all(b"{nonsense\0").expect("written");
    assert_eq!(fixture.link.service(1), [LinkEvent::State(Link::Lost)]);
    assert_eq!(fixture.link.service(1 + RETRY), [LinkEvent::State(Link::Up)]);
    let _ = fixture.listener.accept().expect("monitor again");
    let (mut calls, _) = fixture.listener.accept().expect("calls again");
    send(&mut calls, &Reply::Done);
    assert_eq!(fixture.link.service(2 + RETRY), [LinkEvent::State(Link::Lost)]);
}
