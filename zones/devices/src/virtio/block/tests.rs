//! The block device against a memory file, with honest and hostile guests.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, memfd_create};
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_MQ, VIRTIO_BLK_F_RO, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_FLUSH,
    VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_WRITE_ZEROES,
};

use super::{Access, Block, OpenDiskError, SECTOR};
use crate::virtio::VirtioDevice;
use crate::virtio::test_guest::{Guest, INDIRECT, NEXT, Raw, Seeded, WRITE, hostile_guest, until};

const OK: u8 = 0;
const IOERR: u8 = 1;
const UNSUPP: u8 = 2;
const SECTORS: u64 = 2048;
const PLAIN: u64 = !(1 << 29);

/// A disk whose byte at each position tells its sector.
fn disk() -> File {
    let file = File::from(memfd_create("disk", MemfdFlags::CLOEXEC).unwrap());
    for sector in 0..SECTORS {
        file.write_all_at(&pattern(sector), sector * SECTOR).unwrap();
    }
    file
}

fn pattern(sector: u64) -> [u8; 512] {
    let mut bytes = [sector as u8; 512];
    bytes[..8].copy_from_slice(&sector.to_le_bytes());
    bytes
}

fn sector_of(file: &File, sector: u64) -> [u8; 512] {
    let mut bytes = [0; 512];
    file.read_exact_at(&mut bytes, sector * SECTOR).unwrap();
    bytes
}

fn header(kind: u32, sector: u64) -> [u8; 16] {
    let mut header = [0; 16];
    header[..4].copy_from_slice(&kind.to_le_bytes());
    header[8..].copy_from_slice(&sector.to_le_bytes());
    header
}

fn range(sector: u64, sectors: u32, flags: u32) -> [u8; 16] {
    let mut range = [0; 16];
    range[..8].copy_from_slice(&sector.to_le_bytes());
    range[8..12].copy_from_slice(&sectors.to_le_bytes());
    range[12..].copy_from_slice(&flags.to_le_bytes());
    range
}

struct Machine {
    guest: Guest,
    device: Block,
    file: File,
}

fn machine(access: Access, mask: u64) -> Machine {
    let file = disk();
    let mut device = Block::new(file.try_clone().unwrap(), access, "private").unwrap();
    let mut guest = Guest::new(device.queue_sizes());
    guest.activate(&mut device, mask);
    Machine { guest, device, file }
}

impl Machine {
    /// Sends a request and gives its status back, which must be the last byte counted as written on success.
    fn status(&mut self, readable: &[&[u8]], writable: &[u32]) -> u8 {
        let (written, bytes) = self.guest.request(0, readable, writable);
        let status = *bytes.last().unwrap();
        if status == OK {
            assert_eq!(written as usize, bytes.len());
        }
        status
    }
}

#[test]
fn shows_what_it_is() {
    let device = Block::new(disk(), Access::ReadOnly, "template").unwrap();
    let mut capacity = [0; 8];
    device.read_config(0, &mut capacity);
    assert_eq!(u64::from_le_bytes(capacity), SECTORS);
    let mut tail = [7; 8];
    device.read_config(56, &mut tail);
    assert_eq!(tail, [1, 0, 0, 0, 0, 0, 0, 0]);
    device.read_config(u32::MAX, &mut tail);
    assert_eq!(tail, [0; 8]);
    assert_ne!(device.features() & (1 << VIRTIO_BLK_F_RO), 0);
    assert_eq!(device.device_type(), 2);
}

#[test]
fn refuses_files_that_are_no_disk() {
    let short = File::from(memfd_create("short", MemfdFlags::CLOEXEC).unwrap());
    short.set_len(511).unwrap();
    assert!(matches!(Block::new(short, Access::ReadOnly, ""), Err(OpenDiskError::Short(511))));
    let pipe = File::from(rustix::pipe::pipe().unwrap().0);
    assert!(matches!(Block::new(pipe, Access::ReadOnly, ""), Err(OpenDiskError::NotAFile)));
    for serial in ["more than twenty bytes", "größe"] {
        assert!(matches!(Block::new(disk(), Access::ReadOnly, serial), Err(OpenDiskError::Serial(_))));
    }
}

#[test]
fn reads_in_any_framing() {
    for mask in [u64::MAX, PLAIN] {
        let mut machine = machine(Access::ReadOnly, mask);
        for sizes in [&[512, 512, 1][..], &[1, 1000, 24], &[1025], &[1023, 2]] {
            let header = header(VIRTIO_BLK_T_IN, 5);
            let (front, back) = header.split_at(3);
            let (written, bytes) = machine.guest.request(0, &[front, back], sizes);
            assert_eq!(written, 1025);
            assert_eq!(bytes[..512], pattern(5));
            assert_eq!(bytes[512..1024], pattern(6));
            assert_eq!(bytes[1024], OK);
        }
    }
}

#[test]
fn reads_more_than_one_buffer() {
    let mut machine = machine(Access::ReadOnly, PLAIN);
    let size = 400 * SECTOR as u32;
    let (written, bytes) = machine.guest.request(0, &[&header(VIRTIO_BLK_T_IN, 100)], &[size, 1]);
    assert_eq!(written, size + 1);
    for (index, sector) in bytes[..size as usize].chunks(512).enumerate() {
        assert_eq!(sector, pattern(100 + index as u64));
    }
}

#[test]
fn writes_and_flushes() {
    let mut machine = machine(Access::ReadWrite, u64::MAX);
    let data = [0xabu8; 1024];
    assert_eq!(machine.status(&[&header(VIRTIO_BLK_T_OUT, 9), &data[..700], &data[700..]], &[1]), OK);
    let counters = machine.device.counters();
    assert_eq!(counters.flushes.get(), 0);
    assert_eq!(machine.status(&[&header(VIRTIO_BLK_T_FLUSH, 0)], &[1]), OK);
    assert_eq!(counters.flushes.get(), 1);
    assert_eq!(sector_of(&machine.file, 8), pattern(8));
    assert_eq!(sector_of(&machine.file, 9), [0xab; 512]);
    assert_eq!(sector_of(&machine.file, 10), [0xab; 512]);
    assert_eq!(sector_of(&machine.file, 11), pattern(11));
    // Without the flush feature a write is durable when it completes.
    machine.device.reset();
    machine.guest.activate(&mut machine.device, !(1 << VIRTIO_BLK_F_FLUSH));
    assert_eq!(machine.status(&[&header(VIRTIO_BLK_T_OUT, 9), &pattern(9)], &[1]), OK);
    assert_eq!(sector_of(&machine.file, 9), pattern(9));
    assert_eq!(counters.flushes.get(), 2);
}

#[test]
fn read_only_refuses_every_change() {
    // A driver that ignores the feature bit gets no further than one that honours it.
    for mask in [u64::MAX, !(1 << VIRTIO_BLK_F_RO)] {
        let mut machine = machine(Access::ReadOnly, mask);
        assert_eq!(machine.status(&[&header(VIRTIO_BLK_T_OUT, 1), &[0; 512]], &[1]), IOERR);
        assert_eq!(machine.status(&[&header(VIRTIO_BLK_T_DISCARD, 0), &range(1, 8, 0)], &[1]), IOERR);
        assert_eq!(machine.status(&[&header(VIRTIO_BLK_T_WRITE_ZEROES, 0), &range(1, 8, 0)], &[1]), IOERR);
        for sector in 0..SECTORS {
            assert_eq!(sector_of(&machine.file, sector), pattern(sector));
        }
        assert_eq!(machine.device.counters().refused.get(), 3);
    }
}

#[test]
fn identifies_itself() {
    let mut machine = machine(Access::ReadOnly, PLAIN);
    let (_, bytes) = machine.guest.request(0, &[&header(VIRTIO_BLK_T_GET_ID, 0)], &[20, 1]);
    assert_eq!(&bytes[..8], b"private\0");
    assert_eq!(bytes[20], OK);
}

#[test]
fn discards_and_zeroes() {
    let mut machine = machine(Access::ReadWrite, PLAIN);
    let discard = header(VIRTIO_BLK_T_DISCARD, 0);
    let zero = header(VIRTIO_BLK_T_WRITE_ZEROES, 0);
    assert_eq!(machine.status(&[&discard, &range(8, 8, 0), &range(32, 8, 0)], &[1]), OK);
    assert_eq!(machine.status(&[&zero, &range(3, 1, 0)], &[1]), OK);
    assert_eq!(machine.status(&[&zero, &range(50, 5, 1)], &[1]), OK);
    for sector in 0..64 {
        let gone = matches!(sector, 3 | 8..16 | 32..40 | 50..55);
        let expected = if gone { [0; 512] } else { pattern(sector) };
        assert_eq!(sector_of(&machine.file, sector), expected, "sector {sector}");
    }
    assert_eq!(machine.file.metadata().unwrap().len(), SECTORS * SECTOR);
}

#[test]
fn refuses_bad_requests() {
    let mut machine = machine(Access::ReadWrite, PLAIN);
    let data = [1; 512];
    let check = |machine: &mut Machine, readable: &[&[u8]], writable: &[u32], expected| {
        assert_eq!(machine.status(readable, writable), expected, "{readable:?} {writable:?}");
    };
    // Beyond the end, over the end, and so far that positions overflow.
    for sector in [SECTORS, SECTORS - 1, u64::MAX, u64::MAX / 512, 1 << 55] {
        check(&mut machine, &[&header(VIRTIO_BLK_T_IN, sector)], &[1024, 1], IOERR);
        check(&mut machine, &[&header(VIRTIO_BLK_T_OUT, sector), &data, &data], &[1], IOERR);
        check(&mut machine, &[&header(VIRTIO_BLK_T_DISCARD, 0), &range(sector, 2, 0)], &[1], IOERR);
        check(&mut machine, &[&header(VIRTIO_BLK_T_WRITE_ZEROES, 0), &range(sector, 2, 1)], &[1], IOERR);
    }
    // Parts of sectors, short headers, serials without room.
    check(&mut machine, &[&header(VIRTIO_BLK_T_IN, 0)], &[511, 1], IOERR);
    check(&mut machine, &[&header(VIRTIO_BLK_T_OUT, 0), &data[1..]], &[1], IOERR);
    check(&mut machine, &[&header(VIRTIO_BLK_T_OUT, 0)[..15]], &[1], IOERR);
    check(&mut machine, &[], &[1], IOERR);
    check(&mut machine, &[&header(VIRTIO_BLK_T_GET_ID, 0)], &[19, 1], IOERR);
    // Ranges: none, half of one, too many, too large, unknown flags.
    let discard = header(VIRTIO_BLK_T_DISCARD, 0);
    check(&mut machine, &[&discard], &[1], IOERR);
    check(&mut machine, &[&discard, &range(0, 1, 0)[..9]], &[1], IOERR);
    check(&mut machine, &[&discard, &range(0, 1, 0).repeat(17)], &[1], IOERR);
    check(&mut machine, &[&discard, &range(0, u32::MAX, 0)], &[1], IOERR);
    check(&mut machine, &[&discard, &range(0, 1, 1)], &[1], UNSUPP);
    check(&mut machine, &[&header(VIRTIO_BLK_T_WRITE_ZEROES, 0), &range(0, 1, 2)], &[1], UNSUPP);
    // Requests that do not exist.
    check(&mut machine, &[&header(1234, 0)], &[1], UNSUPP);
    for sector in 0..SECTORS {
        assert_eq!(sector_of(&machine.file, sector), pattern(sector));
    }
}

#[test]
fn a_file_that_shrank_is_an_io_error() {
    let mut machine = machine(Access::ReadWrite, PLAIN);
    machine.file.set_len(512).unwrap();
    assert_eq!(machine.status(&[&header(VIRTIO_BLK_T_IN, 0)], &[512, 1]), OK);
    assert_eq!(machine.status(&[&header(VIRTIO_BLK_T_IN, 1)], &[512, 1]), IOERR);
    assert_eq!(machine.device.counters().host_failures.get(), 1);
}

#[test]
fn gives_malformed_chains_back_unused() {
    let mut machine = machine(Access::ReadWrite, PLAIN);
    let read = header(VIRTIO_BLK_T_IN, 0);
    let chains: [&[Raw]; 7] = [
        // A loop.
        &[
            Raw { address: 0x20_0000, size: 16, flags: NEXT, next: 1 },
            Raw { address: 0x20_1000, size: 512, flags: NEXT | WRITE, next: 1 },
        ],
        // Broken off: the next descriptor is outside of the table.
        &[Raw { address: 0x20_0000, size: 16, flags: NEXT, next: 999 }],
        // A buffer outside of guest memory, and one that wraps.
        &[
            Raw { address: 0x20_0000, size: 16, flags: NEXT, next: 1 },
            Raw { address: 0x7fff_0000, size: 513, flags: WRITE, next: 0 },
        ],
        &[
            Raw { address: 0x20_0000, size: 16, flags: NEXT, next: 1 },
            Raw { address: u64::MAX - 4, size: 513, flags: WRITE, next: 0 },
        ],
        // Readable after writable.
        &[
            Raw { address: 0x20_1000, size: 513, flags: NEXT | WRITE, next: 1 },
            Raw { address: 0x20_0000, size: 16, flags: 0, next: 0 },
        ],
        // An indirect table inside an indirect table.
        &[Raw { address: 0x20_2000, size: 16, flags: INDIRECT, next: 0 }],
        // No room for a status.
        &[Raw { address: 0x20_0000, size: 16, flags: 0, next: 0 }],
    ];
    machine.guest.poke(0x20_0000, &read);
    let nested = [0x20_2000u64.to_le_bytes(), (16 | u64::from(INDIRECT) << 32).to_le_bytes()].concat();
    machine.guest.poke(0x20_2000, &nested);
    for (number, chain) in chains.iter().enumerate() {
        for (slot, raw) in chain.iter().enumerate() {
            machine.guest.describe(0, slot as u16, *raw);
        }
        let signals = machine.guest.interrupt.signals().queues[0];
        machine.guest.offer(0, 0);
        machine.guest.kick(0);
        assert_eq!(machine.guest.await_used(0), (0, 0), "chain {number}");
        machine.guest.interrupt.wait("an interrupt", |now| now.queues[0] > signals);
        assert_eq!(machine.device.counters().malformed.get(), number as u64 + 1);
    }
    // The device still works.
    assert_eq!(machine.status(&[&read], &[512, 1]), OK);
    assert_eq!(machine.guest.interrupt.signals().needs_reset, 0);
}

#[test]
fn serves_indirect_tables() {
    let mut machine = machine(Access::ReadOnly, PLAIN);
    machine.guest.poke(0x20_0000, &header(VIRTIO_BLK_T_IN, 3));
    let entry = |address: u64, size: u32, flags: u16, next: u16| {
        [&address.to_le_bytes()[..], &size.to_le_bytes(), &flags.to_le_bytes(), &next.to_le_bytes()].concat()
    };
    let table = [
        entry(0x20_0000, 16, NEXT, 1),
        entry(0x20_1000, 512, NEXT | WRITE, 2),
        entry(0x20_2000, 1, WRITE, 0),
    ];
    machine.guest.poke(0x20_3000, &table.concat());
    machine.guest.describe(0, 7, Raw { address: 0x20_3000, size: 48, flags: INDIRECT, next: 0 });
    machine.guest.offer(0, 7);
    machine.guest.kick(0);
    assert_eq!(machine.guest.await_used(0), (7, 513));
    assert_eq!(machine.guest.peek(0x20_1000, 512), pattern(3));
    assert_eq!(machine.guest.peek(0x20_2000, 1), [OK]);
}

#[test]
fn a_chain_is_no_longer_than_the_queue() {
    let mut machine = machine(Access::ReadOnly, PLAIN);
    machine.guest.poke(0x20_0000, &header(VIRTIO_BLK_T_IN, 0));
    for (count, expected) in [(256u16, 513), (257, 0)] {
        // A header, data in two-byte parts, and a part that completes the sector and has the status.
        for slot in 0..count {
            let (address, size, flags) = match slot {
                0 => (0x20_0000, 16, NEXT),
                _ if slot + 1 < count => (0x20_1000, 2, NEXT | WRITE),
                _ => (0x20_2000, 513 - 2 * (u32::from(count) - 2), WRITE),
            };
            let entry = [
                &u64::to_le_bytes(address)[..],
                &u32::to_le_bytes(size),
                &u16::to_le_bytes(flags),
                &(slot + 1).to_le_bytes(),
            ];
            machine.guest.poke(0x21_0000 + 16 * u64::from(slot), &entry.concat());
        }
        let size = 16 * u32::from(count);
        machine.guest.describe(0, 0, Raw { address: 0x21_0000, size, flags: INDIRECT, next: 0 });
        machine.guest.offer(0, 0);
        machine.guest.kick(0);
        let (_, written) = machine.guest.await_used(0);
        assert_eq!(written, expected, "{count}");
        assert_eq!(machine.device.counters().malformed.get(), u64::from(count == 257));
    }
}

#[test]
fn an_absurd_index_needs_a_reset_and_a_reset_helps() {
    let mut machine = machine(Access::ReadOnly, PLAIN);
    machine.guest.set_available_index(0, 5000);
    machine.guest.kick(0);
    machine.guest.interrupt.wait("a call for reset", |signals| signals.needs_reset == 1);
    machine.device.reset();
    machine.device.reset();
    machine.guest.activate(&mut machine.device, PLAIN);
    assert_eq!(machine.status(&[&header(VIRTIO_BLK_T_IN, 0)], &[512, 1]), OK);
}

#[test]
fn serves_what_was_offered_before_the_notification() {
    let file = disk();
    let mut device = Block::new(file, Access::ReadOnly, "x").unwrap();
    let mut guest = Guest::new(device.queue_sizes());
    let activation = guest.activation(0);
    guest.build(0, 0, &[&header(VIRTIO_BLK_T_IN, 2)], &[512, 1]);
    guest.offer(0, 0);
    device.activate(activation).unwrap();
    assert_eq!(guest.await_used(0), (0, 513));
}

#[test]
fn event_index_spares_interrupts() {
    let mut machine = machine(Access::ReadOnly, u64::MAX);
    for _ in 0..20 {
        assert_eq!(machine.status(&[&header(VIRTIO_BLK_T_IN, 2)], &[512, 1]), OK);
    }
    // With the event index left behind, the guest hears nothing more.
    let before = machine.guest.interrupt.signals().queues[0];
    machine.guest.build(0, 0, &[&header(VIRTIO_BLK_T_IN, 2)], &[512, 1]);
    for _ in 0..10 {
        machine.guest.offer(0, 0);
    }
    machine.guest.kick(0);
    until("service", || machine.guest.pending_used(0) == 10);
    machine.device.reset();
    assert_eq!(machine.guest.interrupt.signals().queues[0], before);
}

/// The status byte of the next used request of `queue`, which was made by [`offer_request`].
fn next_status(guest: &mut Guest, queue: usize) -> u8 {
    let (head, _) = guest.await_used(queue);
    guest.peek(status_of(queue, head), 1)[0]
}

/// Where the request at `slot` reports.
fn status_of(queue: usize, slot: u16) -> u64 {
    0x18_0000 + 0x4_0000 * queue as u64 + u64::from(slot) * 0x1000 + 0xF00
}

/// Makes a write or flush available in three descriptors from `slot` on, without a notification.
fn offer_request(guest: &mut Guest, queue: usize, slot: u16, kind: u32, sector: u64, data: &[u8]) {
    let status = status_of(queue, slot);
    let start = status - 0xF00;
    guest.poke(start, &header(kind, sector));
    guest.poke(start + 16, data);
    let size = 16 + data.len() as u32;
    guest.describe(queue, slot, Raw { address: start, size, flags: NEXT, next: slot + 1 });
    guest.describe(queue, slot + 1, Raw { address: status, size: 1, flags: WRITE, next: 0 });
    guest.offer(queue, slot);
}

#[test]
fn says_how_many_queues_it_has() {
    for (asked, given) in [(0, 1), (1, 1), (3, 3), (8, 8), (9, 8), (u16::MAX, 8)] {
        let device = Block::new(disk(), Access::ReadOnly, "").unwrap().with_queues(asked);
        assert_eq!(device.queue_sizes(), vec![256; given]);
        assert_eq!(device.features() >> VIRTIO_BLK_F_MQ & 1, u64::from(given > 1));
        let mut queues = [0; 2];
        device.read_config(34, &mut queues);
        assert_eq!(usize::from(u16::from_le_bytes(queues)), given);
    }
}

#[test]
fn every_queue_is_served_and_a_driver_may_leave_some_out() {
    const QUEUES: usize = 4;
    let file = disk();
    let mut device =
        Block::new(file.try_clone().unwrap(), Access::ReadWrite, "").unwrap().with_queues(QUEUES as u16);
    let mut guest = Guest::new(device.queue_sizes());
    for enabled in [&[0, 1, 2, 3][..], &[2], &[0]] {
        let mut activation = guest.activation(device.features() & PLAIN);
        activation.queues.retain(|active| enabled.contains(&usize::from(active.index)));
        device.activate(activation).unwrap();
        for round in 0..20u8 {
            for queue in enabled {
                let sector = *queue as u64 * 100 + u64::from(round);
                offer_request(&mut guest, *queue, 0, VIRTIO_BLK_T_OUT, sector, &[round; 512]);
                guest.kick(*queue);
            }
            for queue in enabled {
                assert_eq!(next_status(&mut guest, *queue), OK);
                assert_eq!(sector_of(&file, *queue as u64 * 100 + u64::from(round)), [round; 512]);
                assert!(guest.interrupt.signals().queues[*queue] > 0);
            }
        }
        device.reset();
    }
}

#[test]
fn one_queue_waits_for_no_other() {
    let file = disk();
    let mut device = Block::new(file, Access::ReadWrite, "").unwrap().with_queues(2);
    let mut guest = Guest::new(device.queue_sizes());
    guest.activate(&mut device, PLAIN);
    let storage = Arc::clone(&device.storage);
    let held = storage.flusher.hold();
    // The first queue's flush takes as long as it likes.
    offer_request(&mut guest, 0, 0, VIRTIO_BLK_T_FLUSH, 0, &[]);
    guest.kick(0);
    for number in 0..10u8 {
        offer_request(&mut guest, 1, 0, VIRTIO_BLK_T_OUT, 7, &[number; 512]);
        guest.kick(1);
        assert_eq!(next_status(&mut guest, 1), OK);
    }
    assert_eq!(guest.pending_used(0), 0);
    drop(held);
    assert_eq!(next_status(&mut guest, 0), OK);
}

#[test]
fn queues_that_flush_at_once_lose_nothing() {
    const QUEUES: usize = 4;
    let file = disk();
    let mut device =
        Block::new(file.try_clone().unwrap(), Access::ReadWrite, "").unwrap().with_queues(QUEUES as u16);
    let counters = device.counters();
    let mut guest = Guest::new(device.queue_sizes());
    guest.activate(&mut device, PLAIN);
    for round in 0..50u8 {
        for queue in 0..QUEUES {
            // Behind each other in one queue, all queues at once.
            offer_request(&mut guest, queue, 0, VIRTIO_BLK_T_OUT, queue as u64, &[round; 512]);
            offer_request(&mut guest, queue, 4, VIRTIO_BLK_T_FLUSH, 0, &[]);
        }
        (0..QUEUES).for_each(|queue| guest.kick(queue));
        for queue in 0..QUEUES {
            assert_eq!([next_status(&mut guest, queue), next_status(&mut guest, queue)], [OK, OK]);
            assert_eq!(sector_of(&file, queue as u64), [round; 512]);
        }
    }
    // Each round needs one at least, and no more than each queue's own.
    assert!((50..=50 * QUEUES as u64).contains(&counters.flushes.get()), "{counters:?}");
}

#[test]
fn a_flush_that_fails_is_an_io_error_from_then_on() {
    // The kernel cannot bring a pipe's end to stable storage: like a file whose disk is gone.
    let mut device = Block::new(disk(), Access::ReadWrite, "").unwrap().with_queues(2);
    let storage = Arc::get_mut(&mut device.storage).unwrap();
    storage.file = File::from(rustix::pipe::pipe().unwrap().1);
    let mut guest = Guest::new(device.queue_sizes());
    for _ in 0..2 {
        guest.activate(&mut device, PLAIN);
        for queue in [0, 1, 0] {
            offer_request(&mut guest, queue, 0, VIRTIO_BLK_T_FLUSH, 0, &[]);
            guest.kick(queue);
            assert_eq!(next_status(&mut guest, queue), IOERR);
        }
        device.reset();
    }
    assert_eq!((device.counters().flushes.get(), device.counters().host_failures.get()), (0, 6));
}

/// On a file in memory, or on the block device of at least 1 MiB that the variable names; it is overwritten. A loop
/// device whose blocks are larger than a sector shows most, but making one needs root.
#[test]
fn discards_and_zeroes_of_any_alignment_touch_nothing_else() {
    let file = match std::env::var_os("BULKHEAD_TEST_BLOCK_DEVICE") {
        Some(path) => File::options().read(true).write(true).open(path).unwrap(),
        None => disk(),
    };
    (0..SECTORS).for_each(|sector| file.write_all_at(&pattern(sector), sector * SECTOR).unwrap());
    let mut device = Block::new(file.try_clone().unwrap(), Access::ReadWrite, "").unwrap();
    let mut guest = Guest::new(device.queue_sizes());
    guest.activate(&mut device, PLAIN);
    let mut machine = Machine { guest, device, file };
    assert!(machine.device.storage.sectors >= SECTORS);
    assert_eq!(machine.status(&[&header(VIRTIO_BLK_T_OUT, 9), &[3; 512]], &[1]), OK);
    let discard = header(VIRTIO_BLK_T_DISCARD, 0);
    let zero = header(VIRTIO_BLK_T_WRITE_ZEROES, 0);
    // Aligned to any block, then to none.
    assert_eq!(machine.status(&[&discard, &range(64, 64, 0)], &[1]), OK);
    assert_eq!(machine.status(&[&discard, &range(201, 3, 0)], &[1]), OK);
    for flags in [0, 1] {
        let start = 300 + u64::from(flags) * 100;
        assert_eq!(machine.status(&[&zero, &range(start + 1, 3, flags)], &[1]), OK);
        assert_eq!(machine.status(&[&zero, &range(start + 20, 64, flags)], &[1]), OK);
    }
    assert_eq!(machine.status(&[&header(VIRTIO_BLK_T_FLUSH, 0)], &[1]), OK);
    for sector in 0..SECTORS {
        let expected = match sector {
            9 => [3; 512],
            301..304 | 320..384 | 401..404 | 420..484 => [0; 512],
            // A discard promises nothing.
            64..128 | 201..204 => continue,
            _ => pattern(sector),
        };
        assert_eq!(sector_of(&machine.file, sector), expected, "sector {sector}");
    }
    assert_eq!(machine.device.counters().host_failures.get(), 0);
}

#[test]
fn survives_a_hostile_guest() {
    for seed in [1, 2, 3, 0xb10c] {
        let file = disk();
        let access = if seed % 2 == 0 { Access::ReadOnly } else { Access::ReadWrite };
        let device = Block::new(file.try_clone().unwrap(), access, "x").unwrap().with_queues(seed as u16 % 4);
        let counters = device.counters();
        hostile_guest(Box::new(device), seed, 400, |random: &mut Seeded| {
            let kind = [0, 1, 4, 8, 11, 13, 99][random.below(7) as usize];
            let sector = if random.below(8) == 0 { random.next() } else { random.below(SECTORS + 2) };
            let header = header(kind, sector);
            [header, range(random.below(SECTORS), random.below(64) as u32, 0)].concat()
        });
        assert!(
            counters.malformed.get() > 10 && counters.refused.get() > 10,
            "the attack attacked nothing: {counters:?}"
        );
        assert_eq!(file.metadata().unwrap().len(), SECTORS * SECTOR);
        if access == Access::ReadOnly {
            assert!((0..SECTORS).all(|sector| sector_of(&file, sector) == pattern(sector)));
        }
    }
}

#[test]
fn returns_to_power_on() {
    crate::virtio::test_power::returns_to_power_on(|| {
        let device = Block::new(disk(), Access::ReadWrite, "x").unwrap().with_queues(3);
        let guest = Guest::new(device.queue_sizes());
        (Box::new(device), guest)
    });
}
