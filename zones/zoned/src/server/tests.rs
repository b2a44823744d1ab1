//! Clients that behave, are slow, or misbehave.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use control_api::Uplink;
use control_api::client::Client as RealClient;

use super::*;

struct Fixture {
    server: Server,
    path: PathBuf,
    now: Instant,
}

impl Fixture {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("zoned-server-{name}-{}", std::process::id()));
        drop(std::fs::remove_file(&path));
        let listener = UnixListener::bind(&path).unwrap();
        Self { server: Server::new(listener.into()).unwrap(), path, now: Instant::now() }
    }

    fn raw(&mut self) -> (ClientId, UnixStream) {
        let stream = UnixStream::connect(&self.path).unwrap();
        self.server.accept();
        (self.server.next_client - 1, stream)
    }

    fn call(&mut self, id: ClientId, stream: &mut UnixStream, bytes: &[u8]) -> Option<Method> {
        stream.write_all(bytes).unwrap();
        self.server.ready(id, PollFlags::IN, self.now)
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.path));
    }
}

fn status(policy: &str) -> Status {
    Status {
        policy: policy.to_owned(),
        demo: false,
        uplink: Uplink::default(),
        zones: Vec::new(),
        recovery: control_api::Recovery::None,
        screen: control_api::Screen::default(),
        notices: Vec::new(),
    }
}

#[test]
fn one_call_at_a_time() {
    let mut fixture = Fixture::new("order");
    let (id, mut stream) = fixture.raw();
    let mut both = Call::new(Method::Status).encode();
    both.extend_from_slice(&Call::new(Method::PowerOff).encode());
    assert_eq!(fixture.call(id, &mut stream, &both), Some(Method::Status));
    assert_eq!(fixture.server.ready(id, PollFlags::empty(), fixture.now), None);
    assert!(fixture.server.backlog().is_empty());
    fixture.server.reply(id, &Reply::Done, fixture.now);
    assert_eq!(fixture.server.backlog(), [id]);
    assert_eq!(fixture.server.ready(id, PollFlags::empty(), fixture.now), Some(Method::PowerOff));
}

#[test]
fn a_oneway_call_is_not_answered() {
    let mut fixture = Fixture::new("oneway");
    let (id, mut stream) = fixture.raw();
    let mut call = Call::new(Method::PowerOff);
    call.oneway = true;
    assert_eq!(fixture.call(id, &mut stream, &call.encode()), Some(Method::PowerOff));
    fixture.server.reply(id, &Reply::Done, fixture.now);
    stream.set_nonblocking(true).unwrap();
    assert!(stream.read(&mut [0; 8]).is_err());
}

#[test]
fn the_service_interface_is_answered() {
    let mut fixture = Fixture::new("service");
    let mut client = RealClient::connect(&fixture.path).unwrap();
    fixture.server.accept();
    client.begin(Method::GetInterfaceDescription(INTERFACE.to_owned())).unwrap();
    assert_eq!(fixture.server.ready(1, PollFlags::IN, fixture.now), None);
    let expected = Reply::Service(json!({ "description": DESCRIPTION }));
    assert_eq!(client.read_events().unwrap(), [expected]);
    client.begin(Method::GetInterfaceDescription("com.example.No".to_owned())).unwrap();
    assert_eq!(fixture.server.ready(1, PollFlags::IN, fixture.now), None);
    let expected = Reply::Error(CallError::InterfaceNotFound("com.example.No".to_owned()));
    assert_eq!(client.read_events().unwrap(), [expected]);
}

#[test]
fn monitors_are_told_at_most_four_times_a_second() {
    let mut fixture = Fixture::new("rate");
    let mut client = RealClient::connect(&fixture.path).unwrap();
    fixture.server.accept();
    client.begin(Method::Monitor).unwrap();
    assert_eq!(fixture.server.ready(1, PollFlags::IN, fixture.now), Some(Method::Monitor));
    let mut told = 0;
    for millisecond in 0..1000 {
        fixture.server.changed();
        let now = fixture.now + Duration::from_millis(millisecond);
        fixture.server.publish(&status(&millisecond.to_string()), now);
        told += client.read_events().unwrap().len();
    }
    assert_eq!(told, 4);
    // The last change is never lost, and nothing is sent without one.
    let due = fixture.server.deadline(fixture.now).unwrap();
    fixture.server.publish(&status("last"), due);
    assert_eq!(client.read_events().unwrap(), [Reply::Status(status("last"))]);
    assert_eq!(fixture.server.deadline(due), None);
    fixture.server.publish(&status("last"), due + Duration::from_secs(1));
    assert!(client.read_events().unwrap().is_empty());
}

#[test]
fn a_stuck_monitor_is_dropped_and_bounded() {
    let mut fixture = Fixture::new("stuck");
    let (id, mut stream) = fixture.raw();
    fixture.call(id, &mut stream, &Call::new(Method::Monitor).encode());
    let big = status(&"x".repeat(100_000));
    let mut now = fixture.now;
    let mut rounds = 0;
    while fixture.server.is_connected(id) {
        now += MONITOR_INTERVAL;
        fixture.server.changed();
        fixture.server.publish(&big, now);
        if let Some(client) = fixture.server.clients.get(&id) {
            assert!(client.unsent.len() < 200_000);
        }
        rounds += 1;
        assert!(rounds < 1000);
    }
    assert!(now - fixture.now >= STUCK);
}

#[test]
fn misbehaving_clients_are_dropped() {
    let endless = vec![b'{'; MAX_CALL + 8192];
    for (name, bytes) in [("garbage", b"hello\0".to_vec()), ("endless", endless)] {
        let mut fixture = Fixture::new(name);
        let (id, stream) = fixture.raw();
        let mut writer = stream.try_clone().unwrap();
        let writes = std::thread::spawn(move || drop(writer.write_all(&bytes)));
        let mut rounds = 0;
        while fixture.server.is_connected(id) {
            assert_eq!(fixture.server.ready(id, PollFlags::IN, fixture.now), None);
            rounds += 1;
            assert!(rounds < 1_000_000);
        }
        writes.join().unwrap();
    }
    let mut fixture = Fixture::new("talks");
    let (id, mut stream) = fixture.raw();
    fixture.call(id, &mut stream, &Call::new(Method::Monitor).encode());
    fixture.call(id, &mut stream, &Call::new(Method::Status).encode());
    assert!(!fixture.server.is_connected(id));
}

#[test]
fn clients_are_counted() {
    let mut fixture = Fixture::new("count");
    let streams: Vec<_> = (0..MAX_CLIENTS + 3).map(|_| fixture.raw()).collect();
    assert_eq!(fixture.server.clients.len(), MAX_CLIENTS);
    drop(streams);
    let ids: Vec<ClientId> = fixture.server.clients.keys().copied().collect();
    for id in ids {
        fixture.server.ready(id, PollFlags::IN | PollFlags::HUP, fixture.now);
    }
    assert!(fixture.server.clients.is_empty());
}
