//! A guest that behaves, and guests that do not.

use proptest::prelude::*;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use zone_protocol::agent::Status;

use super::*;

fn link() -> (AgentLink, OwnedFd) {
    let (ours, guest) =
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    (AgentLink::new(ours).unwrap(), guest)
}

fn hello(protocol: u32, version: &str) -> Vec<u8> {
    let status = Status { protocol, version: version.to_owned(), uptime_ms: 1 };
    encode(&FromAgent::Hello(status)).unwrap()
}

fn answer(output: String) -> Vec<u8> {
    encode(&FromAgent::Response { number: 1, answer: Answer::Check { passed: true, output } }).unwrap()
}

#[test]
fn an_agent_greets_and_answers() {
    let (mut link, guest) = link();
    let mut bytes = hello(VERSION, "0.1\n\x1b");
    bytes.extend(answer("x".to_owned()));
    let mut said = Vec::new();
    for byte in bytes {
        rustix::io::write(&guest, &[byte]).unwrap();
        said.extend(link.read().unwrap());
    }
    let check = Answer::Check { passed: true, output: "x".to_owned() };
    assert_eq!(said, [Said::Hello("0.1??".to_owned()), Said::Answer(1, check)]);
    assert_eq!(link.ask(Ask::Status).unwrap(), 1);
    let mut bytes = [0_u8; 64];
    let count = rustix::io::read(&guest, &mut bytes).unwrap();
    assert_eq!(bytes[..count], encode(&Request { number: 1, ask: Ask::Status }).unwrap());
}

#[test]
fn a_session_lasts_until_the_agent_says_otherwise() {
    let (mut link, guest) = link();
    rustix::io::write(&guest, &hello(VERSION, "1")).unwrap();
    link.read().unwrap();
    for open in [false, true, true, false] {
        rustix::io::write(&guest, &encode(&FromAgent::Session { open }).unwrap()).unwrap();
        assert_eq!(link.read().unwrap(), []);
        assert_eq!(link.session(), open);
    }
}

#[test]
fn long_output_is_cut() {
    let (mut link, guest) = link();
    rustix::io::write(&guest, &hello(VERSION, "1")).unwrap();
    rustix::io::write(&guest, &answer("\u{e9}".repeat(20_000))).unwrap();
    let mut said = Vec::new();
    while said.len() < 2 {
        said.extend(link.read().unwrap());
    }
    let Said::Answer(_, Answer::Check { output, .. }) = &said[1] else { panic!("{said:?}") };
    assert_eq!(output.len(), MAX_OUTPUT);
}

#[test]
fn misbehaviour_ends_the_connection() {
    let mut twice = hello(VERSION, "1");
    twice.extend(hello(VERSION, "1"));
    let session = encode(&FromAgent::Session { open: true }).unwrap();
    let cases: [(Vec<u8>, &str); 6] = [
        (session, "agent did not begin with one hello"),
        (answer(String::new()), "agent did not begin with one hello"),
        (twice, "agent did not begin with one hello"),
        (hello(VERSION + 1, "1"), "agent speaks version 4 of the protocol, the host 3"),
        (vec![0; 4], "agent sent no message of the protocol"),
        (vec![0xff; 4], "agent sent no message of the protocol"),
    ];
    for (bytes, reason) in cases {
        let (mut link, guest) = link();
        rustix::io::write(&guest, &bytes).unwrap();
        assert_eq!(link.read().unwrap_err().to_string(), reason);
    }
    let (mut link, guest) = link();
    drop(guest);
    assert!(matches!(link.read(), Err(LinkError::Closed)));
}

#[test]
fn a_guest_that_does_not_read_costs_a_bounded_amount() {
    let (mut link, _guest) = link();
    let ask = Ask::RunCheck { name: "x".repeat(60_000), arguments: Vec::new() };
    let mut asked = 0;
    let end = loop {
        match link.ask(ask.clone()) {
            Ok(_) => asked += 1,
            Err(error) => break error,
        }
        assert!(asked < 1000);
    };
    assert!(matches!(end, LinkError::Stuck));
    assert!(link.unsent.len() <= MAX_UNSENT);
}

proptest! {
    #[test]
    fn property_random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
        let (mut link, guest) = link();
        rustix::io::write(&guest, &bytes).unwrap();
        drop(guest);
        while link.read().is_ok() {}
    }
}
