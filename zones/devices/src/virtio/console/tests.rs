//! The console into a pipe, with honest and hostile guests.

use std::os::fd::OwnedFd;

use rustix::pipe::{PipeFlags, pipe_with};

use super::Console;
use crate::virtio::VirtioDevice;
use crate::virtio::test_guest::{Guest, hostile_guest, read_all};

fn console() -> (Guest, Console, OwnedFd) {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let mut device = Console::new(writer).unwrap();
    let mut guest = Guest::new(device.queue_sizes());
    guest.activate(&mut device, u64::MAX);
    (guest, device, reader)
}

#[test]
fn passes_the_guests_lines_on() {
    let (mut guest, device, reader) = console();
    assert_eq!(guest.request(1, &[b"hello ", b"world\n"], &[]).0, 0);
    guest.request(1, &[b"again\n"], &[]);
    let counters = device.counters();
    drop(device);
    assert_eq!(read_all(reader), b"hello world\nagain\n");
    assert_eq!(counters.dropped_bytes.get(), 0);
}

#[test]
fn drops_and_counts_what_nobody_reads() {
    let (mut guest, mut device, reader) = console();
    let page = [b'x'; 4096];
    for _ in 0..40 {
        guest.request(1, &[&page], &[]);
    }
    device.reset();
    let counters = device.counters();
    drop(device);
    let passed = read_all(reader).len() as u64;
    assert!(passed > 0 && counters.dropped_bytes.get() > 0);
    assert_eq!(passed + counters.dropped_bytes.get(), 40 * 4096);
}

#[test]
fn outlives_its_reader() {
    let (mut guest, device, reader) = console();
    drop(reader);
    guest.request(1, &[b"nobody hears this\n"], &[]);
    assert_eq!(device.counters().dropped_bytes.get(), 18);
}

#[test]
fn bounds_each_request() {
    let (mut guest, device, reader) = console();
    let huge = vec![b'y'; 300_000];
    guest.request(1, &[&huge], &[]);
    let counters = device.counters();
    drop(device);
    let passed = read_all(reader).len() as u64;
    assert!(passed <= 65_536);
    assert_eq!(passed + counters.dropped_bytes.get(), 300_000);
}

#[test]
fn receive_buffers_are_left_alone() {
    let (mut guest, mut device, _reader) = console();
    guest.build(0, 0, &[], &[64]);
    guest.offer(0, 0);
    guest.kick(0);
    guest.request(1, &[b"x"], &[]);
    device.reset();
    assert_eq!(guest.pending_used(0), 0);
    guest.activate(&mut device, 0);
    guest.request(1, &[b"x"], &[]);
}

#[test]
fn survives_a_hostile_guest() {
    for seed in [6, 7] {
        let (_reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let device = Console::new(writer).unwrap();
        let counters = device.counters();
        hostile_guest(Box::new(device), seed, 300, |random| random.next().to_le_bytes().to_vec());
        assert!(counters.malformed.get() > 10, "the attack attacked nothing: {counters:?}");
    }
}

#[test]
fn returns_to_power_on() {
    crate::virtio::test_power::returns_to_power_on(|| {
        let device =
            Console::new(std::fs::File::options().write(true).open("/dev/null").unwrap().into()).unwrap();
        let guest = Guest::new(device.queue_sizes());
        (Box::new(device), guest)
    });
}
