//! Rings under pressure, and rings that lie.

use tunnel::GATEWAY_MAC;
use virtio_bindings::virtio_net::VIRTIO_NET_F_MRG_RXBUF;
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use vm_memory::{Bytes, GuestAddress};

use super::driver::{NEXT, WRITE};
use super::*;

const VERSION_1: u64 = 1 << 32;
const EVENT_IDX: u64 = VERSION_1 | 1 << VIRTIO_RING_F_EVENT_IDX;
const MERGEABLE: u64 = EVENT_IDX | 1 << VIRTIO_NET_F_MRG_RXBUF;

/// An answer of the server that carries a number.
fn numbered(number: u32, length: usize) -> Vec<u8> {
    let mut payload = vec![0; length];
    payload[..4].copy_from_slice(&number.to_be_bytes());
    udp((SERVER, 2), (ZONE, 1), &payload)
}

fn number_of(frame: &[u8]) -> u32 {
    u32::from_be_bytes(frame[42..46].try_into().unwrap())
}

/// Waits until vpnd has received and dropped as much as this.
fn await_status(world: &World, reached: impl Fn(&VpndStatus) -> bool) {
    while !reached(&world.status()) {}
}

#[test]
fn frames_wait_for_buffers_in_order_and_bounded() {
    for features in [VERSION_1, EVENT_IDX, MERGEABLE] {
        let mut world = World::new(features, 2048);
        world.establish();
        for number in 0..300 {
            world.answer(&numbered(number, 4));
        }
        await_status(&world, |status| status.received_bytes == 300 * 32 && status.dropped == 300 - 256);
        // Fewer buffers than frames: each time more are offered, more frames come.
        for number in 0..256 {
            if number % 8 == 0 {
                world.driver().offer(8);
            }
            assert_eq!(number_of(&world.driver().receive().1), number);
        }
        world.driver().offer(1);
        world.answer(&numbered(1000, 4));
        assert_eq!(number_of(&world.driver().receive().1), 1000);
    }
}

#[test]
fn a_frame_is_merged_over_small_buffers() {
    let mut world = World::new(MERGEABLE, 500);
    world.establish();
    world.driver().offer(2);
    let packet = numbered(5, 1300);
    world.answer(&packet);
    // Two buffers do not hold it; the third one brings it.
    await_status(&world, |status| status.received_bytes > 0);
    assert!(world.driver().offer(1), "the device waits for a buffer and asked for no kick");
    let (header, frame) = world.driver().receive();
    assert_eq!((header[10], &frame[14..]), (3, packet.as_slice()));
    // Without merging it is dropped, and smaller ones pass.
    let mut world = World::new(EVENT_IDX, 500);
    world.establish();
    world.driver().offer(4);
    world.answer(&packet);
    world.answer(&numbered(6, 4));
    assert_eq!(number_of(&world.driver().receive().1), 6);
    await_status(&world, |status| status.dropped == 1);
}

#[test]
fn a_lying_ring_harms_only_itself() {
    let mut world = World::new(EVENT_IDX, 2048);
    world.establish();
    let driver = world.driver();
    let far = u64::MAX - 100;
    let cases: [&[(u64, u32, u16, u16)]; 6] = [
        &[(far, 100, 0, 0)],
        &[(0x11_8000, u32::MAX, 0, 0)],
        // A loop, and one that leaves the table.
        &[(0x11_8000, 16, NEXT, 1), (0x11_8000, 16, NEXT, 0)],
        &[(0x11_8000, 16, NEXT, 60_000)],
        // Nothing readable.
        &[(0x11_8000, 2000, WRITE, 0)],
        // Indirect, which was not negotiated for anything sensible.
        &[(0x11_8001, 17, 4, 0)],
    ];
    for case in cases {
        for (index, (at, length, flags, next)) in (0_u16..).zip(case.iter()) {
            driver.write_descriptor(&driver.transmit, index, *at, *length, *flags, *next);
        }
        Driver::publish(&driver.memory, &mut driver.transmit, 0);
        driver.kick_transmit();
        driver.await_sent();
    }
    // A head outside of the table, then an index that runs away.
    Driver::publish(&driver.memory, &mut driver.transmit, 9999);
    driver.kick_transmit();
    driver.memory.write_slice(&[0xff; 2], GuestAddress(0x11_2002)).unwrap();
    driver.kick_transmit();
    // The receive ring lies as well.
    driver.write_descriptor(&driver.receive, 0, far, 2048, WRITE, 0);
    Driver::publish(&driver.memory, &mut driver.receive, 0);
    world.answer(&numbered(1, 4));
    await_status(&world, |status| status.dropped >= 6 && status.received_bytes == 32);

    // After a reset all is well again.
    let driver = world.driver();
    driver.stop();
    driver.start();
    driver.offer(8);
    driver.send([0; 12], &arp_request());
    assert_eq!(driver.receive().1[12..14], [8, 6]);
    let packet = udp((ZONE, 1), (SERVER, 2), b"alive");
    driver.send([0; 12], &frame(GATEWAY_MAC, 0x0800, &packet));
    world.until_inner(1);
    assert_eq!(world.inner, [packet]);
    assert_eq!(world.end(), Ended::MachineGone);
}

#[test]
fn rings_go_on_where_they_were_stopped() {
    let mut world = World::new(EVENT_IDX, 2048);
    world.driver().offer(16);
    for _ in 0..5 {
        world.driver().send([0; 12], &arp_request());
        world.driver().receive();
    }
    world.driver().await_sent();
    assert_eq!(world.driver().taken(), 5);
    assert_eq!(world.driver().stop(), [5, 5]);
    // Ring numbers and sizes that do not exist are refused, and the conversation goes on.
    use vhost::VhostBackend;
    let driver = world.driver();
    assert!(driver.frontend.set_vring_num(0, 1000).is_err());
    assert!(driver.frontend.set_features(1 << 30 | 1 << 5).is_err());
    driver.start();
    driver.offer(1);
    driver.send([0; 12], &arp_request());
    driver.receive();
}

#[test]
fn another_process_goes_on_where_a_dead_one_stood() {
    for features in [VERSION_1, EVENT_IDX, MERGEABLE] {
        let mut world = World::new(features, 2048);
        world.driver().offer(64);
        for round in 0..4 {
            for _ in 0..5 {
                world.driver().send([0; 12], &arp_request());
                assert_eq!(world.driver().receive().1[12..14], [8, 6]);
            }
            world.driver().await_sent();
            let packet = udp((ZONE, 1), (SERVER, 2), &[round; 30]);
            world.replace(|driver| {
                // Offered while nobody is there, or taken by the dead one and not yet used.
                driver.send([0; 12], &arp_request());
                driver.send([0; 12], &frame(GATEWAY_MAC, 0x0800, &packet));
                driver.lose_kicks();
            });
            assert_eq!(world.driver().receive().1[12..14], [8, 6]);
            // The new process has no session: it makes one, and the packet passes. The gateway's side is a
            // new one as well, so that no timer of the handshakes decides.
            world.gateway = Tunn::new(StaticSecret::from(GATEWAY_KEY), public(ZONE_KEY), None, None, 1, None);
            world.inner.clear();
            world.until_inner(1);
            assert_eq!(world.inner, [packet]);
            world.answer(&numbered(round.into(), 4));
            assert_eq!(number_of(&world.driver().receive().1), u32::from(round));
            world.driver().offer(8);
        }
        assert_eq!(world.end(), Ended::MachineGone);
    }
}
