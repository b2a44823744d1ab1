//! The whole device: rings on one side, Unix streams on the other.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, channel};

use super::header::{Header, SHUT_RECEIVE, SHUT_SEND, SIZE, STREAM, op};
use super::{HOST_CID, RECEIVE, TRANSMIT, Vsock};
use crate::virtio::VirtioDevice;
use crate::virtio::test_guest::{DEADLINE, Guest, Raw, Seeded, WRITE, hostile_guest};

const GUEST_CID: u32 = 3;
const PORT: u32 = 1024;
const RX: usize = RECEIVE as usize;
const TX: usize = TRANSMIT as usize;

/// Size and place of the guest's receive buffers.
const BUFFER: u32 = 4096;
const BUFFERS: u64 = 0x30_0000;

struct Machine {
    guest: Guest,
    device: Vsock,
    streams: Receiver<(u32, OwnedFd)>,
    forwarded: u32,
}

fn machine(mask: u64) -> Machine {
    let (sender, streams) = channel();
    let connect = Box::new(move |port, stream| port != 7 && sender.send((port, stream)).is_ok());
    let mut device = Vsock::new(GUEST_CID, &[PORT, 7], connect);
    let mut guest = Guest::new(device.queue_sizes());
    guest.activate(&mut device, mask);
    Machine { guest, device, streams, forwarded: 0 }
}

impl Machine {
    /// Gives the device `count` receive buffers, in the table's first slots.
    fn feed(&mut self, count: u16) {
        let before = self.guest.offered(RX);
        for slot in 0..count {
            let address = BUFFERS + u64::from(slot) * u64::from(BUFFER);
            self.guest.describe(RX, slot, Raw { address, size: BUFFER, flags: WRITE, next: 0 });
            self.guest.offer(RX, slot);
        }
        self.guest.notify(RX, before);
    }

    /// Sends a packet and waits until the device took it.
    fn send(&mut self, header: Header, payload: &[u8]) {
        let header = header.to_bytes();
        let parts: &[&[u8]] = if payload.is_empty() { &[&header] } else { &[&header, payload] };
        assert_eq!(self.guest.request(TX, parts, &[]).0, 0);
    }

    fn packet(&self, op: u16) -> Header {
        Header {
            source_cid: GUEST_CID.into(),
            destination_cid: HOST_CID,
            source_port: 99,
            destination_port: PORT,
            kind: STREAM,
            op,
            buffer_size: 16_384,
            forwarded: self.forwarded,
            ..Header::default()
        }
    }

    fn bytes(&self, payload: &[u8]) -> Header {
        Header { length: payload.len() as u32, ..self.packet(op::RW) }
    }

    /// The next packet for the guest, whose buffer goes back to the device.
    fn receive(&mut self) -> (Header, Vec<u8>) {
        let (slot, written) = self.guest.await_used(RX);
        let bytes = self.guest.peek(BUFFERS + u64::from(slot) * u64::from(BUFFER), written as usize);
        let header = Header::from_bytes(bytes[..SIZE].try_into().unwrap());
        assert_eq!((header.source_cid, header.destination_cid), (HOST_CID, GUEST_CID.into()));
        assert_eq!(header.length as usize, bytes.len() - SIZE);
        self.forwarded = self.forwarded.wrapping_add(header.length);
        let before = self.guest.offered(RX);
        self.guest.offer(RX, slot);
        self.guest.notify(RX, before);
        (header, bytes[SIZE..].to_vec())
    }

    fn receive_op(&mut self, op: u16) -> Header {
        let (header, _) = self.receive();
        assert_eq!(header.op, op, "{header:?}");
        header
    }

    /// Connects, and gives the host's stream.
    fn connect(&mut self) -> UnixStream {
        self.feed(8);
        self.send(self.packet(op::REQUEST), &[]);
        self.receive_op(op::RESPONSE);
        let (port, stream) = self.streams.recv_timeout(DEADLINE).unwrap();
        assert_eq!(port, PORT);
        let stream = UnixStream::from(stream);
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream
    }
}

#[test]
fn shows_the_guests_context_id() {
    let machine = machine(0);
    let mut cid = [0; 8];
    machine.device.read_config(0, &mut cid);
    assert_eq!(cid, [3, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(machine.device.device_type(), 19);
}

#[test]
fn bytes_pass_both_ways() {
    for mask in [u64::MAX, 0] {
        let mut machine = machine(mask);
        let mut host = machine.connect();
        machine.send(machine.bytes(b"hello host"), b"hello host");
        let mut heard = [0; 10];
        host.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"hello host");
        host.write_all(b"hello guest").unwrap();
        let (header, heard) = machine.receive();
        assert_eq!((header.op, &heard[..]), (op::RW, &b"hello guest"[..]));
        assert_eq!(machine.device.counters().refused.get(), 0);
    }
}

#[test]
fn floods_are_held_back_in_both_directions() {
    let mut machine = machine(u64::MAX);
    let host = machine.connect();
    let total = 1 << 20;
    let pattern = |at: usize| (at % 251) as u8;
    // To the guest: never more under way than the 16 KiB that it has room for.
    let mut writer = host.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        writer.write_all(&(0..total).map(pattern).collect::<Vec<_>>()).unwrap();
    });
    let mut heard = Vec::new();
    let mut told = 0;
    while heard.len() < total {
        let (header, bytes) = machine.receive();
        assert!(matches!(header.op, op::RW | op::CREDIT_REQUEST));
        heard.extend(bytes);
        assert!(machine.forwarded - told <= 16_384);
        if machine.forwarded - told >= 8192 {
            told = machine.forwarded;
            machine.send(machine.packet(op::CREDIT_UPDATE), &[]);
        }
    }
    sender.join().unwrap();
    assert!(heard.iter().enumerate().all(|(at, byte)| *byte == pattern(at)));

    // To the host: the guest stops when its credit is used up and goes on when the host reads.
    let mut reader = host;
    let listener = std::thread::spawn(move || {
        let mut heard = vec![0; total];
        reader.read_exact(&mut heard).unwrap();
        heard
    });
    let (mut sent, mut credit) = (0usize, 65_536u32);
    while sent < total {
        let size = 8192.min(total - sent);
        while credit < size as u32 {
            machine.send(machine.packet(op::CREDIT_REQUEST), &[]);
            let (header, _) = machine.receive();
            credit = header.buffer_size - (sent as u32 - header.forwarded);
        }
        let bytes: Vec<u8> = (sent..sent + size).map(pattern).collect();
        machine.send(machine.bytes(&bytes), &bytes);
        sent += size;
        credit -= size as u32;
    }
    let heard = listener.join().unwrap();
    assert!(heard.iter().enumerate().all(|(at, byte)| *byte == pattern(at)));
    assert_eq!(machine.device.counters().refused.get(), 0);
}

#[test]
fn a_guest_that_ignores_its_credit_is_reset() {
    let mut machine = machine(u64::MAX);
    let _host = machine.connect();
    let flood = vec![0; 60_000];
    for _ in 0..20 {
        machine.send(machine.bytes(&flood), &flood);
    }
    let mut ops = Vec::new();
    while !ops.contains(&op::RST) {
        ops.push(machine.receive().0.op);
    }
    assert!(machine.device.counters().refused.get() > 0);
}

#[test]
fn refused_ports_and_refusing_hosts_are_resets() {
    let mut machine = machine(u64::MAX);
    machine.feed(8);
    for (number, port) in [22, 0, u32::MAX, 7].into_iter().enumerate() {
        machine.send(Header { destination_port: port, ..machine.packet(op::REQUEST) }, &[]);
        assert_eq!(machine.receive_op(op::RST).source_port, port);
        assert!(machine.streams.try_recv().is_err(), "{number}");
    }
}

#[test]
fn the_hosts_close_and_half_close_reach_the_guest() {
    let mut machine = machine(u64::MAX);
    let mut host = machine.connect();
    host.write_all(b"last words").unwrap();
    host.shutdown(Shutdown::Write).unwrap();
    assert_eq!(machine.receive().1, b"last words");
    assert_eq!(machine.receive_op(op::SHUTDOWN).flags, SHUT_SEND);
    // The other direction still works.
    machine.send(machine.bytes(b"answer"), b"answer");
    let mut heard = [0; 6];
    host.read_exact(&mut heard).unwrap();
    drop(host);
    assert_eq!(machine.receive_op(op::SHUTDOWN).flags, SHUT_SEND | SHUT_RECEIVE);
    machine.send(machine.packet(op::RST), &[]);
    machine.connect();
}

#[test]
fn the_guests_close_and_half_close_reach_the_host() {
    let mut machine = machine(u64::MAX);
    let mut host = machine.connect();
    machine.send(machine.bytes(b"last words"), b"last words");
    machine.send(Header { flags: SHUT_SEND, ..machine.packet(op::SHUTDOWN) }, &[]);
    let mut heard = Vec::new();
    host.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, b"last words");
    host.write_all(b"answer").unwrap();
    assert_eq!(machine.receive().1, b"answer");
    machine.send(Header { flags: SHUT_RECEIVE, ..machine.packet(op::SHUTDOWN) }, &[]);
    machine.receive_op(op::RST);
    assert!(host.write_all(b"too late").is_err());
}

#[test]
fn a_reset_of_the_device_ends_all_connections() {
    let mut machine = machine(u64::MAX);
    let mut host = machine.connect();
    machine.device.reset();
    assert_eq!(host.read(&mut [0; 1]).unwrap(), 0);
    machine.forwarded = 0;
    machine.guest.activate(&mut machine.device, u64::MAX);
    machine.connect();
}

#[test]
fn packets_wait_for_receive_buffers() {
    for mask in [u64::MAX, 0] {
        packets_wait(mask);
    }
}

fn packets_wait(mask: u64) {
    let mut machine = machine(mask);
    // 70 refusals, of which at most 64 may be held: the rest of the packets stays in the ring.
    let header = Header { destination_port: 22, ..machine.packet(op::REQUEST) }.to_bytes();
    machine.guest.build(TX, 0, &[&header], &[]);
    (0..70).for_each(|_| machine.guest.offer(TX, 0));
    machine.guest.kick(TX);
    for _ in 0..64 {
        machine.guest.await_used(TX);
    }
    assert_eq!(machine.guest.pending_used(TX), 0);
    machine.feed(8);
    for _ in 0..70 {
        machine.receive_op(op::RST);
    }
    for _ in 0..6 {
        machine.guest.await_used(TX);
    }
}

#[test]
fn small_buffers_are_given_back() {
    let mut machine = machine(0);
    machine.guest.describe(RX, 0, Raw { address: BUFFERS, size: 43, flags: WRITE, next: 0 });
    machine.guest.offer(RX, 0);
    machine.send(machine.packet(op::RW), &[]);
    assert_eq!(machine.guest.await_used(RX), (0, 0));
    assert_eq!(machine.device.counters().malformed.get(), 1);
    machine.feed(1);
    machine.receive_op(op::RST);
    // A packet without a whole header.
    assert_eq!(machine.guest.request(TX, &[&[0; 43]], &[]).0, 0);
    assert_eq!(machine.device.counters().malformed.get(), 2);
}

#[test]
fn a_closed_stream_keeps_no_place_from_a_new_one() {
    let mut machine = machine(!(1 << 29));
    let mut held = vec![machine.connect()];
    for port in 1..40 {
        // The host closes; the guest is told, and never resets.
        drop(held.pop());
        machine.receive_op(op::SHUTDOWN);
        let request = Header { source_port: 1000 + port, ..machine.packet(op::REQUEST) };
        machine.send(request, &[]);
        let answer = machine.receive().0;
        let answer = if answer.op == op::RST { machine.receive().0 } else { answer };
        assert_eq!((answer.op, answer.destination_port), (op::RESPONSE, 1000 + port));
        held.push(UnixStream::from(machine.streams.recv_timeout(DEADLINE).unwrap().1));
    }
}

#[test]
fn questions_of_the_guest_do_not_starve_its_streams() {
    const QUESTIONS: u16 = 100;
    let mut machine = machine(!(1 << 29));
    let mut stream = machine.connect();
    // Take every receive buffer away: the stream is ready, and waits.
    for _ in 0..7 {
        machine.send(machine.packet(op::CREDIT_REQUEST), &[]);
        let (_, written) = machine.guest.await_used(RX);
        assert_eq!(written as usize, SIZE);
    }
    machine.send(machine.packet(op::CREDIT_REQUEST), &[]);
    assert_eq!(machine.guest.await_used(RX).1 as usize, SIZE);
    stream.write_all(&[7; 100]).unwrap();
    // Many questions at once, and a buffer for every answer.
    let header = machine.packet(op::CREDIT_REQUEST).to_bytes();
    machine.guest.build(TX, 0, &[&header], &[]);
    (0..QUESTIONS).for_each(|_| machine.guest.offer(TX, 0));
    for slot in 0..=QUESTIONS {
        let address = BUFFERS + u64::from(slot) * u64::from(BUFFER);
        machine.guest.describe(RX, slot, Raw { address, size: BUFFER, flags: WRITE, next: 0 });
        machine.guest.offer(RX, slot);
    }
    machine.guest.kick(TX);
    let position = (0..=QUESTIONS).find(|_| {
        let (_, written) = machine.guest.await_used(RX);
        written as usize == SIZE + 100
    });
    assert!(position.is_some_and(|position| position < 50), "bytes came at {position:?}");
}

#[test]
fn survives_a_hostile_guest() {
    for seed in [8, 9, 10] {
        let (sender, streams) = channel();
        let connect = Box::new(move |_, stream| sender.send(UnixStream::from(stream)).is_ok());
        let device = Vsock::new(GUEST_CID, &[PORT], connect);
        let counters = device.counters();
        // A host that talks as much as it can and reads nothing.
        let host = std::thread::spawn(move || {
            let mut held = Vec::new();
            for stream in streams {
                stream.set_nonblocking(true).unwrap();
                let _full = (&stream).write(&[7; 100_000]);
                held.push(stream);
                held.truncate(if held.len() > 20 { 5 } else { 20 });
            }
        });
        hostile_guest(Box::new(device), seed, 600, |random: &mut Seeded| {
            let header = Header {
                source_cid: if random.below(12) == 0 { random.next() } else { 3 },
                destination_cid: if random.below(12) == 0 { random.next() } else { 2 },
                source_port: random.below(12) as u32,
                destination_port: if random.below(4) == 0 { 22 } else { PORT },
                length: if random.below(4) == 0 { random.next() as u32 } else { random.below(100) as u32 },
                kind: if random.below(12) == 0 { 2 } else { 1 },
                op: random.below(9) as u16,
                flags: random.below(4) as u32,
                buffer_size: random.next() as u32,
                forwarded: random.below(70_000) as u32,
            };
            header.to_bytes().to_vec()
        });
        host.join().unwrap();
        assert!(counters.refused.get() > 10, "the attack attacked nothing: {counters:?}");
    }
}

#[test]
fn returns_to_power_on() {
    crate::virtio::test_power::returns_to_power_on(|| {
        let device = Vsock::new(GUEST_CID, &[PORT], Box::new(|_, _| true));
        let guest = Guest::new(device.queue_sizes());
        (Box::new(device), guest)
    });
}
