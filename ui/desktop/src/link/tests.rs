use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

use control_api::Uplink;
use control_api::wire::{Call, CallError, Continues, Frames, MAX_CALL, Method, Reply};
use desktop_model::picker::{Action, Link};

use super::{LinkEvent, PATIENCE, PROBE, RETRY, ZonedLink};

fn status(policy: &str) -> control_api::Status {
    control_api::Status {
        policy: policy.to_owned(),
        demo: true,
        uplink: Uplink::default(),
        zones: Vec::new(),
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

/// A link that just connected, and `zoned`'s ends of it: monitor, calls.
fn connected() -> (Fixture, UnixStream, UnixStream) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("zones");
    let listener = UnixListener::bind(&path).expect("a socket");
    let mut link = ZonedLink::new(&path);
    assert_eq!(link.service(0), [LinkEvent::State(Link::Up)]);
    let (mut monitor, _) = listener.accept().expect("monitor");
    let (calls, _) = listener.accept().expect("calls");
    assert_eq!(next_call(&mut monitor), Method::Monitor);
    (Fixture { _folder: folder, listener, link }, monitor, calls)
}

#[test]
fn statuses_come_and_requests_go() {
    let (mut fixture, mut monitor, mut calls) = connected();
    send(&mut monitor, &Reply::Status(status("one")));
    assert_eq!(fixture.link.service(1), [LinkEvent::Status(status("one"))]);
    assert_eq!(fixture.link.request(2, start("office")), None);
    assert_eq!(next_call(&mut calls), Method::Start("office".to_owned()));
    assert_eq!(fixture.link.request(2, Action::Stop { zone: "vault".to_owned() }), None);
    assert_eq!(next_call(&mut calls), Method::Stop("vault".to_owned()));
    send(&mut calls, &Reply::Done);
    send(&mut calls, &Reply::Error(CallError::Refused("it is starting".to_owned())));
    let failed = LinkEvent::Failed { zone: "vault".to_owned(), why: "it is starting".to_owned() };
    assert_eq!(fixture.link.service(3), [failed]);
}

#[test]
fn a_crash_of_zoned_fails_what_was_asked_and_the_link_comes_back() {
    let (mut fixture, monitor, calls) = connected();
    assert_eq!(fixture.link.request(1, start("office")), None);
    drop((monitor, calls));
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
    let (mut fixture, _monitor, mut calls) = connected();
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
    let (mut fixture, mut monitor, _calls) = connected();
    monitor.write_all(b"{nonsense\0").expect("written");
    assert_eq!(fixture.link.service(1), [LinkEvent::State(Link::Lost)]);
    assert_eq!(fixture.link.service(1 + RETRY), [LinkEvent::State(Link::Up)]);
    let _ = fixture.listener.accept().expect("monitor again");
    let (mut calls, _) = fixture.listener.accept().expect("calls again");
    send(&mut calls, &Reply::Done);
    assert_eq!(fixture.link.service(2 + RETRY), [LinkEvent::State(Link::Lost)]);
}
