//! The connections' rules, case by case and under random sequences.

use proptest::prelude::*;

use super::{BUFFER, CREDIT, Connections, Duty, Header, Key, MAX_CONNECTIONS, Taken};
use crate::virtio::vsock::header::{SHUT_RECEIVE, SHUT_SEND, STREAM, op};

const GUEST: u64 = 3;
const HOST: u64 = 2;
const PORT: u32 = 1024;
const KEY: Key = Key { guest_port: 5000, host_port: PORT };

fn connections() -> Connections {
    Connections::new(GUEST, HOST, vec![PORT, 1025])
}

fn packet(op: u16) -> Header {
    Header {
        source_cid: GUEST,
        destination_cid: HOST,
        source_port: KEY.guest_port,
        destination_port: KEY.host_port,
        kind: STREAM,
        op,
        buffer_size: 1000,
        ..Header::default()
    }
}

fn bytes(size: u32) -> Header {
    Header { length: size, ..packet(op::RW) }
}

/// One open connection, its response already sent.
fn opened() -> Connections {
    let mut connections = connections();
    assert_eq!(connections.guest_packet(&packet(op::REQUEST), &[]), Taken::Asks(KEY));
    connections.accept(KEY);
    let response = connections.next_control().unwrap();
    let expected = Header {
        source_cid: HOST,
        destination_cid: GUEST,
        source_port: PORT,
        destination_port: 5000,
        kind: STREAM,
        op: op::RESPONSE,
        buffer_size: CREDIT,
        ..Header::default()
    };
    assert_eq!(response, expected);
    assert_eq!(connections.next_control(), None);
    connections
}

/// The next packet is a reset of this connection, and nothing follows it.
fn assert_reset(connections: &mut Connections) {
    let reset = connections.next_control().unwrap();
    assert_eq!((reset.op, reset.source_port, reset.destination_port), (op::RST, PORT, 5000));
    assert_eq!(connections.next_control(), None);
    assert!(!connections.open.contains_key(&KEY));
}

#[test]
fn header_survives_the_wire() {
    let mut header = packet(op::SHUTDOWN);
    (header.flags, header.length, header.forwarded) = (3, 0x0102_0304, u32::MAX);
    let bytes = header.to_bytes();
    assert_eq!(Header::from_bytes(bytes), header);
    assert_eq!((bytes[0], bytes[8], bytes[24..28].to_vec(), bytes[30]), (3, 2, vec![4, 3, 2, 1], 4));
}

#[test]
fn other_ports_and_further_connections_are_reset() {
    let mut connections = connections();
    let stranger = Header { destination_port: 22, ..packet(op::REQUEST) };
    assert_eq!(connections.guest_packet(&stranger, &[]), Taken::Refused);
    assert_eq!(connections.next_control().map(|header| (header.op, header.source_port)), Some((op::RST, 22)));
    for guest_port in 0..MAX_CONNECTIONS as u32 {
        let request = Header { source_port: guest_port, ..packet(op::REQUEST) };
        assert!(matches!(connections.guest_packet(&request, &[]), Taken::Asks(_)));
    }
    assert_eq!(connections.guest_packet(&packet(op::REQUEST), &[]), Taken::Refused);
    assert_reset(&mut connections);
}

#[test]
fn a_place_whose_host_is_gone_is_given_up_when_it_is_needed() {
    let request = |guest_port| Header { source_port: guest_port, ..packet(op::REQUEST) };
    let mut connections = connections();
    for guest_port in 0..MAX_CONNECTIONS as u32 {
        let Taken::Asks(key) = connections.guest_packet(&request(guest_port), &[]) else { panic!() };
        connections.accept(key);
    }
    let gone = Key { guest_port: 5, host_port: PORT };
    connections.host_closed(gone);
    while connections.next_control().is_some() {}
    // The guest was told and never resets; as long as there is a place, so be it.
    assert!(connections.open.contains_key(&gone) && !connections.needs_stream(gone));
    assert!(matches!(connections.guest_packet(&request(100), &[]), Taken::Asks(_)));
    let reset = connections.next_control().unwrap();
    assert_eq!((reset.op, reset.destination_port), (op::RST, 5));
    assert!(!connections.open.contains_key(&gone));
    // All others are in use.
    assert_eq!(connections.guest_packet(&request(101), &[]), Taken::Refused);
    connections.assert_invariants();
}

#[test]
fn connections_take_turns() {
    let mut connections = connections();
    let ports = [1, 2, 3];
    for guest_port in ports {
        let request = Header { source_port: guest_port, ..packet(op::REQUEST) };
        let Taken::Asks(key) = connections.guest_packet(&request, &[]) else { panic!() };
        connections.accept(key);
    }
    let mut order = Vec::new();
    for _ in 0..9 {
        // The first one never stops asking.
        connections.guest_packet(&Header { source_port: 1, ..packet(op::CREDIT_REQUEST) }, &[]);
        connections.guest_packet(&Header { source_port: 3, ..packet(op::CREDIT_REQUEST) }, &[]);
        order.push(connections.next_control().unwrap().destination_port);
    }
    assert_eq!(order, [1, 2, 3, 1, 3, 1, 3, 1, 3]);
}

#[test]
fn foreign_context_ids_are_ignored() {
    let mut connections = opened();
    for header in [
        Header { source_cid: 4, ..packet(op::REQUEST) },
        Header { destination_cid: 4, ..packet(op::REQUEST) },
        Header { source_cid: u64::MAX, destination_cid: u64::MAX, ..packet(op::RST) },
    ] {
        assert_eq!(connections.guest_packet(&header, &[]), Taken::Refused);
        assert_eq!(connections.next_control(), None);
    }
    assert!(connections.open.contains_key(&KEY));
}

#[test]
fn what_belongs_to_no_connection_is_reset_once() {
    for op in [0, op::RESPONSE, op::SHUTDOWN, op::RW, op::CREDIT_UPDATE, op::CREDIT_REQUEST, 8, u16::MAX] {
        let mut connections = connections();
        assert_eq!(connections.guest_packet(&packet(op), &[]), Taken::Refused, "{op}");
        assert_reset(&mut connections);
    }
    let mut connections = connections();
    assert_eq!(connections.guest_packet(&packet(op::RST), &[]), Taken::Handled);
    assert_eq!(connections.next_control(), None);
    // A socket type that the device does not know is answered in kind.
    let seqpacket = Header { kind: 2, ..packet(op::REQUEST) };
    assert_eq!(connections.guest_packet(&seqpacket, &[]), Taken::Refused);
    assert_eq!(connections.next_control().map(|header| (header.op, header.kind)), Some((op::RST, 2)));
}

#[test]
fn violations_end_the_connection() {
    let oversized = vec![0; BUFFER + 1];
    let cases: [(Header, &[u8]); 6] = [
        (packet(op::REQUEST), &[]),
        (packet(op::RESPONSE), &[]),
        (packet(0), &[]),
        (packet(99), &[]),
        // More announced than the chain held, and more than there is room for.
        (bytes(10), &[0; 9]),
        (bytes(CREDIT + 1), &oversized),
    ];
    for (header, payload) in cases {
        let mut connections = opened();
        assert_eq!(connections.guest_packet(&header, payload), Taken::Refused, "{header:?}");
        assert_reset(&mut connections);
    }
    // Bytes after the guest ended its direction.
    let mut connections = opened();
    connections.guest_packet(&Header { flags: SHUT_SEND, ..packet(op::SHUTDOWN) }, &[]);
    assert_eq!(connections.guest_packet(&bytes(1), &[0]), Taken::Refused);
    assert_reset(&mut connections);
}

#[test]
fn bytes_reach_the_host_in_order_and_credit_comes_back() {
    let mut connections = opened();
    let half = vec![1; BUFFER / 2];
    assert_eq!(connections.guest_packet(&bytes(CREDIT / 2), &half), Taken::Handled);
    assert_eq!(connections.guest_packet(&bytes(3), b"abc"), Taken::Handled);
    assert_eq!(connections.pending(KEY).len(), BUFFER / 2 + 3);
    assert_eq!(connections.next_control(), None);
    connections.host_took(KEY, BUFFER / 2);
    let update = connections.next_control().unwrap();
    assert_eq!((update.op, update.forwarded), (op::CREDIT_UPDATE, CREDIT / 2));
    assert_eq!(connections.pending(KEY), b"abc");
    // Asked for, it comes at any time.
    connections.guest_packet(&packet(op::CREDIT_REQUEST), &[]);
    assert_eq!(connections.next_control().unwrap().op, op::CREDIT_UPDATE);
    assert_eq!(connections.next_control(), None);
}

#[test]
fn the_host_sends_no_more_than_the_guest_can_take() {
    let mut connections = opened();
    assert_eq!(connections.room(KEY), 1000);
    assert_eq!(connections.host_sent(KEY, 600).map(|header| header.length), Some(600));
    assert_eq!(connections.room(KEY), 400);
    connections.host_sent(KEY, 400).unwrap();
    assert_eq!(connections.room(KEY), 0);
    // Without room the guest is asked once.
    assert_eq!(connections.next_control().unwrap().op, op::CREDIT_REQUEST);
    assert_eq!(connections.next_control(), None);
    let update = Header { forwarded: 1000, ..packet(op::CREDIT_UPDATE) };
    connections.guest_packet(&update, &[]);
    assert_eq!(connections.room(KEY), 1000);
    // A smaller buffer than what is under way, and a count of bytes that were never sent, mean: none.
    connections.guest_packet(&Header { buffer_size: 0, ..update }, &[]);
    assert_eq!(connections.room(KEY), 0);
    connections.guest_packet(&Header { forwarded: 5000, ..update }, &[]);
    assert_eq!(connections.room(KEY), 0);
}

#[test]
fn a_guest_that_closes_is_drained_first() {
    let mut connections = opened();
    connections.guest_packet(&bytes(3), b"abc");
    let close = Header { flags: SHUT_SEND | SHUT_RECEIVE, ..packet(op::SHUTDOWN) };
    assert_eq!(connections.guest_packet(&close, &[]), Taken::Handled);
    assert_eq!(connections.duty(KEY), Some(Duty::EndReads));
    assert_eq!(connections.duty(KEY), None);
    assert_eq!((connections.room(KEY), connections.next_control()), (0, None));
    connections.host_took(KEY, 3);
    assert_reset(&mut connections);
}

#[test]
fn a_half_close_reaches_the_host_after_the_bytes() {
    let mut connections = opened();
    connections.guest_packet(&bytes(3), b"abc");
    connections.guest_packet(&Header { flags: SHUT_SEND, ..packet(op::SHUTDOWN) }, &[]);
    assert_eq!(connections.duty(KEY), None);
    connections.host_took(KEY, 3);
    assert_eq!(connections.duty(KEY), Some(Duty::EndWrites));
    assert_eq!(connections.duty(KEY), None);
    assert_eq!(connections.room(KEY), 1000);
}

#[test]
fn the_hosts_end_reaches_the_guest() {
    let mut connections = opened();
    connections.host_ended(KEY);
    let end = connections.next_control().unwrap();
    assert_eq!((end.op, end.flags), (op::SHUTDOWN, SHUT_SEND));
    assert_eq!(connections.room(KEY), 0);
    connections.guest_packet(&bytes(1), b"x");
    connections.host_closed(KEY);
    let end = connections.next_control().unwrap();
    assert_eq!((end.op, end.flags), (op::SHUTDOWN, SHUT_SEND | SHUT_RECEIVE));
    assert_eq!(connections.pending(KEY), b"");
    // Bytes that were under way are dropped, not punished.
    assert_eq!(connections.guest_packet(&bytes(1), b"y"), Taken::Handled);
    assert_eq!(connections.guest_packet(&packet(op::RST), &[]), Taken::Handled);
    assert!(!connections.open.contains_key(&KEY));
    assert_eq!(connections.next_control(), None);
}

/// One thing that happens.
#[derive(Clone, Debug)]
enum Event {
    Packet { header: Header, size: u32, whole: bool },
    Accept(Key),
    Refuse(Key),
    HostSends(Key, usize),
    HostTakes(Key, usize),
    HostEnds(Key),
    HostCloses(Key),
    GuestTakesControl,
}

fn any_key() -> impl Strategy<Value = Key> {
    (0..12u32, prop_oneof![9 => 1024..1026u32, 1 => any::<u32>()])
        .prop_map(|(guest_port, host_port)| Key { guest_port, host_port })
}

fn any_size() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 0..200u32, 3 => 0..30_000u32, 1 => 60_000..70_000u32, 1 => any::<u32>()]
}

fn any_packet() -> impl Strategy<Value = Event> {
    let cid = |good| prop_oneof![20 => Just(good), 1 => any::<u64>()];
    let kind = prop_oneof![20 => Just(STREAM), 1 => any::<u16>()];
    let op = prop_oneof![4 => Just(op::REQUEST), 8 => Just(op::RW), 12 => 0..9u16, 1 => any::<u16>()];
    let flags = prop_oneof![8 => 0..4u32, 1 => any::<u32>()];
    let whole = prop_oneof![10 => Just(true), 1 => Just(false)];
    let numbers = (any_size(), flags, any_size(), any_size(), whole);
    (any_key(), cid(GUEST), cid(HOST), kind, op, numbers).prop_map(
        |(key, source_cid, destination_cid, kind, op, (size, flags, buffer_size, forwarded, whole))| {
            let header = Header {
                source_cid,
                destination_cid,
                source_port: key.guest_port,
                destination_port: key.host_port,
                length: size,
                kind,
                op,
                flags,
                buffer_size,
                forwarded,
            };
            Event::Packet { header, size, whole }
        },
    )
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        10 => any_packet(),
        3 => any_key().prop_map(Event::Accept),
        1 => any_key().prop_map(Event::Refuse),
        3 => (any_key(), 0..70_000usize).prop_map(|(key, size)| Event::HostSends(key, size)),
        3 => (any_key(), 0..70_000usize).prop_map(|(key, size)| Event::HostTakes(key, size)),
        1 => any_key().prop_map(Event::HostEnds),
        1 => any_key().prop_map(Event::HostCloses),
        4 => Just(Event::GuestTakesControl),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn property_bounds_hold_whatever_happens(events in prop::collection::vec(any_event(), 1..400)) {
        let mut connections = connections();
        let payload = vec![0; BUFFER];
        for event in events {
            match event {
                Event::Packet { header, size, whole } if connections.can_take() => {
                    let held = (size as usize).min(BUFFER);
                    let held = if whole { held } else { held / 2 };
                    connections.guest_packet(&header, &payload[..held]);
                }
                Event::Packet { .. } | Event::GuestTakesControl => {
                    let waiting = connections.has_control();
                    prop_assert_eq!(connections.next_control().is_some(), waiting);
                }
                Event::Accept(key) => connections.accept(key),
                Event::Refuse(key) => connections.refuse(key),
                Event::HostSends(key, size) => {
                    let room = connections.room(key);
                    let header = connections.host_sent(key, size);
                    prop_assert!(header.is_none_or(|header| header.length as usize <= room));
                }
                Event::HostTakes(key, size) => {
                    connections.host_took(key, size.min(connections.pending(key).len()));
                }
                Event::HostCloses(key) => connections.host_closed(key),
                Event::HostEnds(key) => connections.host_ended(key),
            }
            connections.assert_invariants();
        }
        // All that waits for the guest ends.
        let mut packets = 0;
        while connections.next_control().is_some() {
            packets += 1;
            prop_assert!(packets < 1000);
        }
    }
}
