//! Devices that serve rings in the VMM's process, attacked by their guest.

use std::fs::File;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use devices::virtio::SharedRegion;
use devices::virtio::balloon::Balloon;
use devices::virtio::block::{Access, Block};
use devices::virtio::console::Console;
use devices::virtio::rng::Rng;
use devices::virtio::vsock::Vsock;
use rustix::fs::MemfdFlags;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

use crate::cursor::Cursor;
use crate::guest::{Guest, HIGH, HIGH_SIZE, LOW_SIZE, PLACES, SIZES};

/// A file in memory.
pub(crate) fn file_of(bytes: &[u8]) -> File {
    let file = File::from(rustix::fs::memfd_create("fuzz", MemfdFlags::CLOEXEC).expect("memory"));
    file.write_all_at(bytes, 0).expect("memory");
    file
}

/// Sectors of the disk.
const SECTORS: u64 = 64;

/// Requests of the disk, and registers. A read-only disk never changes, and no disk changes its length.
pub(crate) fn block(bytes: &[u8]) {
    let mut cursor = Cursor::new(bytes);
    let choice = cursor.u8();
    let access = if choice & 1 == 0 { Access::ReadWrite } else { Access::ReadOnly };
    let content = vec![0xA5; usize::try_from(SECTORS * 512).expect("a small disk")];
    let file = file_of(&content);
    let disk = Block::new(file.try_clone().expect("descriptor"), access, "fuzz").expect("a disk");
    let mut guest = Guest::new(Box::new(disk), &[0]);
    guest.start(cursor.u64());
    guest.attack(
        &mut cursor,
        |guest, cursor| {
            let kind = cursor.number(&[0, 1, 4, 8, 11, 13]);
            let sector = cursor.number(&[0, 1, 7, SECTORS - 1, SECTORS]);
            let mut header = kind.to_le_bytes()[..4].to_vec();
            header.extend([0; 4]);
            header.extend(sector.to_le_bytes());
            let data = cursor.some_bytes(600);
            let size = u32::from(cursor.u16());
            match cursor.below(5) {
                0 => guest.request(0, &[&header, data], &[1]),
                1 => guest.request(0, &[&header], &[size, 1]),
                2 => {
                    // Ranges of a discard or a write of zeroes.
                    let mut ranges = Vec::new();
                    for _ in 0..=cursor.below(17) {
                        ranges.extend(cursor.number(&[0, 1, 8, SECTORS - 8, SECTORS]).to_le_bytes());
                        ranges.extend(&cursor.number(&[0, 8, 16, SECTORS]).to_le_bytes()[..4]);
                        ranges.extend(u32::from(cursor.u8()).to_le_bytes());
                    }
                    guest.request(0, &[&header, &ranges], &[1]);
                }
                3 => guest.request(0, &[&header[..data.len().min(16)]], &[size]),
                _ => guest.request(0, &[&[&header, data].concat()], &[512, size, 1]),
            }
            guest.settle(0);
        },
        |_| {},
    );
    if choice & 2 != 0 {
        guest.works_after_reset(0, &[&[0; 16]], &[512, 1]);
    }
    guest.stop();
    assert_eq!(file.metadata().expect("length").len(), SECTORS * 512, "the disk changed its length");
    if access == Access::ReadOnly {
        let mut now = vec![0; content.len()];
        file.read_exact_at(&mut now, 0).expect("read the disk");
        assert_eq!(now, content, "a read-only disk changed");
    }
}

/// Output of the console, and registers. Nothing that the guest does makes the device wait for its reader.
pub(crate) fn console(bytes: &[u8]) {
    let mut cursor = Cursor::new(bytes);
    let choice = cursor.u8();
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).expect("a pipe");
    // A small pipe is soon full.
    fcntl_setpipe_size(&writer, 4096).expect("a pipe");
    let reader = File::from(reader);
    let mut guest = Guest::new(Box::new(Console::new(writer).expect("a console")), &[1]);
    guest.start(cursor.u64());
    guest.attack(
        &mut cursor,
        |guest, cursor| {
            let text = cursor.some_bytes(300);
            let rest = cursor.below(2);
            guest.request(1, &[text, b"more"][..=rest], &[]);
            guest.settle(1);
        },
        |cursor| {
            let mut read = vec![0; usize::from(cursor.u16())];
            let _nothing_there = (&reader).read(&mut read);
        },
    );
    if choice & 2 != 0 {
        guest.works_after_reset(1, &[b"x"], &[]);
    }
    guest.stop();
}

/// Requests for random bytes, and registers.
pub(crate) fn rng(bytes: &[u8]) {
    let mut cursor = Cursor::new(bytes);
    let choice = cursor.u8();
    let mut guest = Guest::new(Box::new(Rng::new()), &[0]);
    guest.start(cursor.u64());
    guest.attack(
        &mut cursor,
        |guest, cursor| {
            let sizes = [u32::from(cursor.u16()), u32::from(cursor.u8()), 5000];
            let count = cursor.below(3);
            guest.request(0, &[], &sizes[..=count]);
            guest.settle(0);
        },
        |_| {},
    );
    if choice & 2 != 0 {
        guest.works_after_reset(0, &[], &[8]);
    }
    guest.stop();
}

/// Reports of free pages, and registers. What lies beside the guest's memory in its file stays as it was.
pub(crate) fn balloon(bytes: &[u8]) {
    const PAGE: u64 = 4096;
    let mut cursor = Cursor::new(bytes);
    let choice = cursor.u8();
    let (low, high) = (LOW_SIZE + PAGE, LOW_SIZE + 2 * PAGE);
    let file = file_of(&[]);
    let end = high + HIGH_SIZE;
    file.set_len(end + PAGE).expect("memory");
    let guards = [0, low, end];
    let guard = [0xA5; 4096];
    guards.iter().for_each(|at| file.write_all_at(&guard, *at).expect("memory"));
    let region = |guest_address, size, offset| {
        let file = file.try_clone().expect("descriptor");
        SharedRegion { guest_address, size, offset, file }
    };
    let regions = vec![region(0, LOW_SIZE, PAGE), region(HIGH, HIGH_SIZE, high)];
    let mut guest = Guest::new(Box::new(Balloon::new(regions)), &[0, 1, 2, 3, 4]);
    guest.start(cursor.u64());
    guest.attack(
        &mut cursor,
        |guest, cursor| {
            let queue = cursor.below(5);
            let slot = u16::from(cursor.u8() % 8);
            let (address, size) = (cursor.number(PLACES), cursor.number(SIZES));
            let size = u32::try_from(size & 0xFFFF_FFFF).expect("32 bits");
            guest.describe(queue, slot, address, size, u16::from(cursor.u8() & 3), slot + 1);
            guest.offer(queue, u16::from(cursor.u8() % 8));
            guest.settle(queue);
        },
        |_| {},
    );
    if choice & 2 != 0 {
        guest.works_after_reset(4, &[], &[4096]);
    }
    guest.stop();
    for at in guards {
        let mut now = [0; 4096];
        file.read_exact_at(&mut now, at).expect("memory");
        assert_eq!(now, guard, "memory beside the guest's changed");
    }
}

/// A whole descriptor table, an available ring and an indirect table, as the input has them: chains that loop,
/// overlap, leave memory, end nowhere or go through tables in tables.
pub(crate) fn chains(bytes: &[u8]) {
    let mut cursor = Cursor::new(bytes);
    let choice = cursor.u8();
    let mut guest = Guest::new(Box::new(Rng::new()), &[0]);
    guest.start(cursor.u64());
    let heads = cursor.below(12);
    while !cursor.is_empty() {
        let in_table = cursor.below(4);
        let slot = u16::from(cursor.u8() % 32);
        let (address, size) = (cursor.number(PLACES), cursor.number(SIZES));
        let flags = u16::from(cursor.u8() & 7);
        let next = u16::from(cursor.u8() % 40);
        guest.describe_in(in_table, slot, address, size, flags, next);
    }
    for head in 0..=heads {
        guest.offer(0, u16::try_from(head).expect("a few heads"));
    }
    guest.settle(0);
    if choice & 2 != 0 {
        guest.works_after_reset(0, &[], &[8]);
    }
    guest.stop();
}

/// Context id of the guest and the ports that it may reach; the host refuses the second.
const GUEST_CID: u64 = 3;
const PORTS: [u32; 2] = [1024, 7];

/// A vsock packet's header (virtio 1.3, section 5.10.6), near what is right.
fn vsock_header(cursor: &mut Cursor<'_>, payload: usize) -> [u8; 44] {
    let length = match cursor.u8() {
        0..=191 => u32::try_from(payload).expect("a small payload"),
        _ => cursor.u32(),
    };
    let parts = [
        cursor.number(&[GUEST_CID; 8]).to_le_bytes().to_vec(),
        cursor.number(&[2; 8]).to_le_bytes().to_vec(),
        u32::from(cursor.u8() % 8).to_le_bytes().to_vec(),
        cursor.number(&[1024, 1024, 1024, 7, 22]).to_le_bytes()[..4].to_vec(),
        length.to_le_bytes().to_vec(),
        cursor.number(&[1, 1, 1, 1, 2]).to_le_bytes()[..2].to_vec(),
        cursor.number(&[1, 1, 2, 3, 4, 5, 5, 6, 7]).to_le_bytes()[..2].to_vec(),
        u32::from(cursor.u8() & 3).to_le_bytes().to_vec(),
        cursor.number(&[16384, 65536, 0, 1, 0xFFFF_FFFF]).to_le_bytes()[..4].to_vec(),
        cursor.number(&[0, 1, 100, 0xFFFF_FFFF]).to_le_bytes()[..4].to_vec(),
    ];
    let mut header = [0; 44];
    for (target, byte) in header.iter_mut().zip(parts.into_iter().flatten()) {
        *target = byte;
    }
    header
}

/// Packets of stream sockets, registers, and what the host does with its ends of the streams. The host is never
/// asked to take more streams than the device promises to hold.
pub(crate) fn vsock(bytes: &[u8]) {
    let mut cursor = Cursor::new(bytes);
    let choice = cursor.u8();
    let streams: Arc<Mutex<Vec<UnixStream>>> = Arc::default();
    let host = Arc::clone(&streams);
    let connect = move |port: u32, stream: OwnedFd| {
        assert!(PORTS.contains(&port), "the guest reached port {port}");
        let stream = UnixStream::from(stream);
        stream.set_nonblocking(true).expect("a socket");
        let mut held = host.lock().expect("no panic before");
        let takes = port == PORTS[0] && held.len() < 64;
        if takes {
            held.push(stream);
        }
        takes
    };
    let device = Vsock::new(3, &PORTS, Box::new(connect));
    let mut guest = Guest::new(Box::new(device), &[0, 1]);
    guest.start(cursor.u64());
    guest.attack(
        &mut cursor,
        |guest, cursor| match cursor.below(5) {
            0 => {
                // A buffer for the guest to receive.
                guest.request(0, &[], &[u32::from(cursor.u16() % 8192)]);
                guest.settle(0);
            }
            _ => {
                let payload = cursor.some_bytes(200);
                let header = vsock_header(cursor, payload.len());
                match cursor.below(4) {
                    0 => guest.request(1, &[&header[..payload.len().min(44)]], &[]),
                    1 => guest.request(1, &[&header], &[]),
                    _ => guest.request(1, &[&header, payload], &[]),
                }
                guest.settle(1);
            }
        },
        |cursor| {
            let mut held = streams.lock().expect("no panic before");
            let count = held.len().max(1);
            let index = cursor.below(count);
            let Some(mut stream) = held.get(index) else { return };
            match cursor.below(5) {
                0 => drop(stream.write(&vec![7; usize::from(cursor.u16())])),
                1 => drop(stream.read(&mut vec![0; usize::from(cursor.u16())])),
                2 => drop(stream.shutdown(Shutdown::Write)),
                3 => drop(stream.shutdown(Shutdown::Read)),
                _ => drop(held.remove(index)),
            }
        },
    );
    let refused = [2_u8, 0, 0, 0, 0, 0, 0, 0];
    if choice & 2 != 0 {
        guest.works_after_reset(1, &[&refused], &[]);
    }
    guest.stop();
    // The device is gone: every stream that it had must have ended.
    for mut stream in std::mem::take(&mut *streams.lock().expect("no panic before")) {
        let mut rest = [0; 4096];
        loop {
            match stream.read(&mut rest) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    panic!("a stream outlives its device")
                }
                Err(_) => break,
            }
        }
    }
}
