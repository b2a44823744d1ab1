//! The random source, with honest and hostile guests.

use super::{MAX_REQUEST, Rng};
use crate::virtio::VirtioDevice;
use crate::virtio::test_guest::{Guest, hostile_guest};

#[test]
fn fills_requests_with_random_bytes() {
    let mut device = Rng::new();
    let mut guest = Guest::new(device.queue_sizes());
    guest.activate(&mut device, u64::MAX);
    let (written, first) = guest.request(0, &[], &[30, 34]);
    assert_eq!(written, 64);
    guest.request(0, &[], &[30, 34]);
    let (_, second) = guest.request(0, &[], &[30, 34]);
    assert_ne!(first, second);
    assert_ne!(first, [0; 64]);
    // After a reset it serves again.
    device.reset();
    guest.activate(&mut device, 0);
    assert_eq!(guest.request(0, &[], &[8]).0, 8);
}

#[test]
fn bounds_each_request() {
    let mut device = Rng::new();
    let mut guest = Guest::new(device.queue_sizes());
    guest.activate(&mut device, 0);
    let (written, bytes) = guest.request(0, &[], &[5000, 5000]);
    assert_eq!(written as usize, MAX_REQUEST);
    assert_eq!(bytes[MAX_REQUEST..], [0; 10_000 - MAX_REQUEST]);
    // A request that offers no room gets nothing.
    assert_eq!(guest.request(0, &[b"input"], &[]).0, 0);
}

#[test]
fn survives_a_hostile_guest() {
    for seed in [4, 5] {
        let device = Rng::new();
        let counters = device.counters();
        hostile_guest(Box::new(device), seed, 300, |random| random.next().to_le_bytes().to_vec());
        assert!(counters.malformed.get() > 10, "the attack attacked nothing: {counters:?}");
    }
}

#[test]
fn returns_to_power_on() {
    crate::virtio::test_power::returns_to_power_on(|| {
        let device = Rng::new();
        let guest = Guest::new(device.queue_sizes());
        (Box::new(device), guest)
    });
}
