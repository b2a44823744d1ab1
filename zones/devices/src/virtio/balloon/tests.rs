//! The balloon on a real memory file: what comes back, and what a hostile guest can do with it.

use std::fs::File;
use std::os::unix::fs::MetadataExt;

use proptest::prelude::*;
use rustix::fs::{MemfdFlags, memfd_create};

use super::{Balloon, PAGE, QUEUE_SIZES, SharedRegion, inside, whole_pages};
use crate::virtio::VirtioDevice;
use crate::virtio::test_guest::{Guest, MEMORY, Raw, Seeded, WRITE, hostile_guest};

/// Where guest memory begins in its file.
const OFFSET: u64 = 0x10_0000;

/// Where the test has pages of its own, above all rings and buffers.
const PAGES: u64 = 0x30_0000;

struct Machine {
    guest: Guest,
    device: Balloon,
    file: File,
}

fn memory() -> File {
    let file = File::from(memfd_create("guest", MemfdFlags::CLOEXEC).unwrap());
    file.set_len(OFFSET + MEMORY + OFFSET).unwrap();
    file
}

fn regions(file: &File) -> Vec<SharedRegion> {
    vec![SharedRegion { guest_address: 0, size: MEMORY, offset: OFFSET, file: file.try_clone().unwrap() }]
}

fn machine() -> Machine {
    let file = memory();
    let device = Balloon::new(regions(&file));
    let guest = Guest::on_file(device.queue_sizes(), file.try_clone().unwrap(), OFFSET);
    Machine { guest, device, file }
}

impl Machine {
    /// Memory that the host really holds for the guest.
    fn held(&self) -> u64 {
        self.file.metadata().unwrap().blocks() * 512
    }

    /// Reports ranges on `queue` and waits until they are given back.
    fn report(&mut self, queue: usize, ranges: &[(u64, u32)]) {
        for (slot, (address, size)) in (0..).zip(ranges) {
            let last = usize::from(slot) + 1 == ranges.len();
            let flags = if last { WRITE } else { WRITE | 1 };
            self.guest.describe(queue, slot, Raw { address: *address, size: *size, flags, next: slot + 1 });
        }
        let before = self.guest.offered(queue);
        self.guest.offer(queue, 0);
        self.guest.notify(queue, before);
        assert_eq!(self.guest.await_used(queue), (0, 0));
    }
}

#[test]
fn reported_pages_come_back_to_the_host_and_read_as_zero() {
    for (mask, queue) in [(u64::MAX, 2), (!(1 << 29), 4)] {
        let mut machine = machine();
        machine.guest.activate(&mut machine.device, mask);
        machine.guest.poke(PAGES, &[7; 64 * PAGE as usize]);
        let before = machine.held();
        machine.report(queue, &[(PAGES, 16 * 4096), (PAGES + 32 * PAGE, 4096)]);
        assert_eq!(before - machine.held(), 17 * PAGE);
        assert_eq!(machine.device.counters().released_bytes.get(), 17 * PAGE);
        for page in 0..64 {
            let gone = page < 16 || page == 32;
            let first = machine.guest.peek(PAGES + page * PAGE, 1);
            assert_eq!(first, [if gone { 0 } else { 7 }], "page {page}");
        }
        assert_eq!(machine.device.counters().refused.get(), 0);
    }
}

#[test]
fn parts_of_pages_stay() {
    let mut machine = machine();
    machine.guest.activate(&mut machine.device, u64::MAX);
    machine.guest.poke(PAGES, &[7; 4 * PAGE as usize]);
    machine.report(2, &[(PAGES + 1, 2 * 4096), (PAGES + 3 * PAGE, 4095)]);
    for (page, expected) in [(0, 7), (1, 0), (2, 7), (3, 7)] {
        assert_eq!(machine.guest.peek(PAGES + page * PAGE, 1), [expected], "page {page}");
    }
    assert_eq!(machine.device.counters().refused.get(), 2);
}

#[test]
fn pages_that_must_hold_something_stay() {
    for (features, poison, gone) in
        [(u64::MAX, 0xAAu8, false), (u64::MAX, 0, true), (!(1 << 4), 0xAA, true), (!(1 << 5), 0, false)]
    {
        let mut machine = machine();
        machine.device.write_config(12, &[poison; 4]);
        machine.guest.activate(&mut machine.device, features);
        machine.guest.poke(PAGES, &[7; PAGE as usize]);
        machine.report(2, &[(PAGES, 4096)]);
        assert_eq!(machine.guest.peek(PAGES, 1), [if gone { 0 } else { 7 }], "{features:#x} {poison}");
    }
}

#[test]
fn other_queues_give_back_unread() {
    let mut machine = machine();
    machine.guest.activate(&mut machine.device, u64::MAX);
    machine.guest.poke(PAGES, &[7; PAGE as usize]);
    for queue in [0, 1] {
        // The page's number, as a driver that inflates would send it; and its range.
        assert_eq!(machine.guest.request(queue, &[&0x300u32.to_le_bytes()], &[]).0, 0);
        machine.report(queue, &[(PAGES, 4096)]);
    }
    assert_eq!(machine.guest.peek(PAGES, 1), [7]);
}

#[test]
fn the_driver_writes_its_own_fields_alone_and_a_reset_forgets_them() {
    let mut machine = machine();
    machine.device.write_config(0, &[0xFF; 20]);
    machine.device.write_config(u32::MAX, &[0xFF; 20]);
    let read = |device: &Balloon| {
        let mut config = [9; 20];
        device.read_config(0, &mut config);
        config
    };
    let mut expected = [0; 20];
    expected[4..8].fill(0xFF);
    expected[12..16].fill(0xFF);
    assert_eq!(read(&machine.device), expected);
    machine.guest.activate(&mut machine.device, u64::MAX);
    assert_eq!(read(&machine.device), expected);
    machine.device.reset();
    assert_eq!(read(&machine.device), [0; 20]);
}

#[test]
fn a_guest_that_gives_its_rings_away_needs_a_reset() {
    let mut machine = machine();
    machine.guest.activate(&mut machine.device, u64::MAX);
    for _ in 0..3 {
        machine.report(2, &[(PAGES, 4096)]);
    }
    // All memory, the rings included: from now on the queue's index contradicts what was served.
    machine.guest.describe(2, 0, Raw { address: 0, size: MEMORY as u32, flags: WRITE, next: 0 });
    machine.guest.offer(2, 0);
    machine.guest.kick(2);
    machine.guest.interrupt.wait("a call for reset", |signals| signals.needs_reset == 1);
    machine.device.reset();
    machine.guest.activate(&mut machine.device, u64::MAX);
    machine.guest.poke(PAGES, &[7; PAGE as usize]);
    machine.report(2, &[(PAGES, 4096)]);
    assert_eq!(machine.guest.peek(PAGES, 1), [0]);
}

#[test]
fn survives_a_hostile_guest_and_nothing_but_its_memory_is_touched() {
    for seed in [21, 22] {
        let file = memory();
        let around = [0..OFFSET, OFFSET + MEMORY..OFFSET + MEMORY + OFFSET];
        for range in &around {
            let bytes = vec![5; (range.end - range.start) as usize];
            std::os::unix::fs::FileExt::write_all_at(&file, &bytes, range.start).unwrap();
        }
        let device = Balloon::new(regions(&file));
        let counters = device.counters();
        hostile_guest(Box::new(device), seed, 400, |random: &mut Seeded| {
            random.next().to_le_bytes().to_vec()
        });
        assert!(counters.released_bytes.get() > 0, "the attack attacked nothing: {counters:?}");
        for range in around {
            let mut bytes = vec![0; (range.end - range.start) as usize];
            std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, range.start).unwrap();
            assert!(bytes.iter().all(|byte| *byte == 5));
        }
    }
}

proptest! {
    #[test]
    fn property_only_whole_pages_inside_are_released(
        address in prop_oneof![0..0x5000u64, any::<u64>()], size in prop_oneof![0..0x5000u64, any::<u64>()],
        start in 0..4u64, pages in 0..4u64, offset in 0..4u64,
    ) {
        let file = File::from(memfd_create("none", MemfdFlags::CLOEXEC).unwrap());
        let guest_address = start * PAGE;
        let region = SharedRegion { guest_address, size: pages * PAGE, offset: offset * PAGE, file };
        let found = inside(&region, &whole_pages(address, size)).unwrap_or(0..0);
        for page in 0..10 {
            let first = guest_address + page * PAGE;
            let claimed = first >= address && first + PAGE <= address.saturating_add(size);
            let expected = page < pages && claimed;
            let position = (offset + page) * PAGE;
            let got = found.start <= position && position + PAGE <= found.end;
            prop_assert_eq!(got, expected, "page {} of {:?}", page, found);
        }
        prop_assert!(found.end - found.start <= pages * PAGE);
        prop_assert_eq!((found.start % PAGE, found.end % PAGE), (0, 0));
    }
}

#[test]
fn is_a_balloon_with_room_for_reports() {
    let device = machine().device;
    assert_eq!(device.device_type(), 5);
    assert!(QUEUE_SIZES.iter().all(|size| *size >= 32));
}

#[test]
fn returns_to_power_on() {
    crate::virtio::test_power::returns_to_power_on(|| {
        let Machine { guest, device, .. } = machine();
        (Box::new(device), guest)
    });
}
