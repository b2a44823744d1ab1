//! `vpnd` as a process: its loop between a hostile VMM, a hostile guest and a hostile uplink.
//!
//! All that the others say is written before it starts, then the VMM leaves: it must come to an end.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;

use ipc::Channel;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::cursor::Cursor;
use crate::packets::{arp, ethernet, icmp, ipv4, send_with, udp};
use crate::tunnels::{ZONE_MAC, config, dhcp};

/// Guest memory: where it begins and its size. The VMM's own addresses are others.
const MEMORY: u64 = 0x10_0000;
const SIZE: u64 = 0x2_0000;
const USER: u64 = 0x7000_0000;

/// Ring entries, and where in guest memory the parts of the rings are.
const ENTRIES: u16 = 16;
const RING: u64 = 0x1000;
const BUFFERS: u64 = 0x4000;

/// The most messages of one conversation: their answers fit a socket that nobody reads.
const MESSAGES: usize = 64;

/// Requests by number (vhost-user specification).
mod request {
    pub(super) const SET_FEATURES: u32 = 2;
    pub(super) const SET_MEM_TABLE: u32 = 5;
    pub(super) const SET_VRING_NUM: u32 = 8;
    pub(super) const SET_VRING_ADDR: u32 = 9;
    pub(super) const SET_VRING_BASE: u32 = 10;
    pub(super) const SET_VRING_KICK: u32 = 12;
    pub(super) const SET_VRING_CALL: u32 = 13;
    pub(super) const SET_VRING_ENABLE: u32 = 18;
    pub(super) const GET_FEATURES: u32 = 1;
    pub(super) const SET_PROTOCOL_FEATURES: u32 = 16;
}

/// The other side of everything.
struct World {
    memory: File,
    machine: UnixStream,
    uplink: std::os::fd::OwnedFd,
    event: std::os::fd::OwnedFd,
    sent: usize,
}

impl World {
    fn send(&mut self, request: u32, flags: u32, payload: &[u8], descriptors: &[BorrowedFd<'_>]) {
        let size = u32::try_from(payload.len()).expect("a small message");
        let message = [&[request, flags, size].map(u32::to_le_bytes).concat(), payload].concat();
        self.send_raw(&message, descriptors);
    }

    fn send_raw(&mut self, message: &[u8], descriptors: &[BorrowedFd<'_>]) {
        self.sent += 1;
        if self.sent <= MESSAGES {
            let _full = send_with(self.machine.as_fd(), message, descriptors);
        }
    }

    /// One message as an honest VMM sends it; the input may change its payload and what comes with it.
    fn message(&mut self, kind: u32, mut payload: Vec<u8>, cursor: &mut Cursor<'_>) {
        let mut count = usize::from(matches!(
            kind,
            request::SET_MEM_TABLE | request::SET_VRING_KICK | request::SET_VRING_CALL
        ));
        let mut flags = 1 | if cursor.flag() { 8 } else { 0 };
        match cursor.u8() {
            0..=199 => {}
            200..=229 => {
                for _ in 0..=cursor.below(3) {
                    let (at, value) = (cursor.below(payload.len()), cursor.u8());
                    if let Some(byte) = payload.get_mut(at) {
                        *byte = value;
                    }
                }
            }
            230..=239 => payload.truncate(cursor.below(payload.len())),
            240..=247 => count = cursor.below(12),
            248..=251 => flags = u32::from(cursor.u8()),
            _ => payload.extend(cursor.some_bytes(64)),
        }
        let memory = self.memory.try_clone().expect("descriptor");
        let event = self.event.try_clone().expect("descriptor");
        let first = if kind == request::SET_MEM_TABLE { memory.as_fd() } else { event.as_fd() };
        self.send(kind, flags, &payload, &vec![first; count]);
    }

    /// Everything that an honest VMM says until both rings run, each message through the input's hands.
    fn converse(&mut self, features: u64, cursor: &mut Cursor<'_>) {
        let words = |words: &[u64]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
        let pair = |a: u32, b: u32| [a, b].map(u32::to_le_bytes).concat();
        self.message(request::GET_FEATURES, Vec::new(), cursor);
        self.message(request::SET_FEATURES, words(&[features]), cursor);
        self.message(request::SET_PROTOCOL_FEATURES, words(&[8]), cursor);
        self.message(request::SET_MEM_TABLE, [pair(1, 0), words(&[MEMORY, SIZE, USER, 0])].concat(), cursor);
        for index in [0_u32, 1] {
            let base = USER + RING * u64::from(index);
            self.message(request::SET_VRING_NUM, pair(index, ENTRIES.into()), cursor);
            let addresses = words(&[base, base + 0x800, base + 0x400, 0]);
            self.message(request::SET_VRING_ADDR, [pair(index, 0), addresses].concat(), cursor);
            self.message(request::SET_VRING_BASE, pair(index, 0), cursor);
            self.message(request::SET_VRING_CALL, words(&[index.into()]), cursor);
            self.message(request::SET_VRING_KICK, words(&[index.into()]), cursor);
        }
        for index in [0, 1] {
            self.message(request::SET_VRING_ENABLE, pair(index, 1), cursor);
        }
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        if at + u64::try_from(bytes.len()).expect("a few bytes") <= SIZE {
            self.memory.write_all_at(bytes, at).expect("memory");
        }
    }

    fn describe(&self, ring: u64, slot: u16, address: u64, length: u32, flags: u16, next: u16) {
        let mut bytes = address.to_le_bytes().to_vec();
        bytes.extend(length.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        bytes.extend(next.to_le_bytes());
        self.write(RING * ring + 16 * u64::from(slot), &bytes);
    }
}

/// Guest memory that cannot shrink, as `vm_kvm` makes it.
fn memory() -> File {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = File::from(rustix::fs::memfd_create("guest", flags).expect("memory"));
    memory.set_len(SIZE).expect("memory");
    rustix::fs::fcntl_add_seals(&memory, SealFlags::SHRINK).expect("seals");
    memory
}

/// Runs a `vpnd` on what `talk` says. It must end; how does not matter.
fn serve(talk: impl FnOnce(&mut World)) {
    let (machine, vhost) = UnixStream::pair().expect("a socket pair");
    let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
    let (uplink, theirs) = pair.expect("a socket pair");
    let (status, reports) = Channel::pair().expect("a channel");
    let memory = memory();
    let event = eventfd(1, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).expect("an eventfd");
    let mut world = World { memory, machine, uplink, event, sent: 0 };
    talk(&mut world);
    world.machine.shutdown(std::net::Shutdown::Write).expect("a socket");
    let _how = vpnd::serve(&config(), vhost, theirs, status);
    assert_eq!(world.memory.metadata().expect("length").len(), SIZE, "guest memory changed its length");
    drop(reports);
}

/// Messages of a hostile VMM: honest ones, changed ones, and anything, with descriptors.
pub(crate) fn vhost_back(bytes: &[u8]) {
    let mut cursor = Cursor::new(bytes);
    serve(|world| {
        let features =
            cursor.number(&[1 << 32 | 1 << 30, 1 << 32 | 1 << 30 | 1 << 29 | 1 << 15, 1 << 30, 1 << 32]);
        world.converse(features, &mut cursor);
        while !cursor.is_empty() && world.sent < MESSAGES {
            let count = cursor.below(10);
            let memory = world.memory.try_clone().expect("descriptor");
            let event = world.event.try_clone().expect("descriptor");
            let one = if cursor.flag() { memory.as_fd() } else { event.as_fd() };
            match cursor.below(6) {
                0 => {
                    let raw = cursor.some_bytes(100);
                    world.send_raw(raw, &vec![one; count]);
                }
                1 => {
                    // A table of several regions.
                    let regions = u32::try_from(cursor.below(12)).expect("a few");
                    let mut payload = [regions, 0].map(u32::to_le_bytes).concat();
                    for _ in 0..regions {
                        payload.extend(
                            cursor.number(&[MEMORY, MEMORY + SIZE, 0, MEMORY + SIZE / 2]).to_le_bytes(),
                        );
                        payload.extend(cursor.number(&[SIZE, SIZE / 2, 4096, 0, 2 * SIZE]).to_le_bytes());
                        payload.extend(cursor.number(&[USER, USER + SIZE, 0]).to_le_bytes());
                        payload.extend(cursor.number(&[0, 4096, SIZE / 2, SIZE]).to_le_bytes());
                    }
                    let count = usize::try_from(regions).expect("a few");
                    world.send(request::SET_MEM_TABLE, 9, &payload, &vec![memory.as_fd(); count]);
                }
                2 => {
                    let base = cursor.number(&[USER, USER + RING, USER + SIZE - 16, 0]);
                    let words = [base, base.wrapping_add(cursor.u64() & 0xFFFF), cursor.number(&[base]), 0];
                    let mut payload = [u32::from(cursor.u8() % 3), 0].map(u32::to_le_bytes).concat();
                    payload.extend(words.iter().flat_map(|word| word.to_le_bytes()));
                    world.send(request::SET_VRING_ADDR, 9, &payload, &[]);
                }
                _ => {
                    let kind = u32::from(cursor.u8() % 45);
                    let payload = cursor.some_bytes(48);
                    world.send(kind, 1 | u32::from(cursor.u8() & 8), payload, &vec![one; count.min(3)]);
                }
            }
        }
    });
}

/// A frame of the guest that is answered at once, or goes into the tunnel, or is anything.
fn frame(cursor: &mut Cursor<'_>) -> Vec<u8> {
    let gateway = std::net::Ipv4Addr::new(169, 254, 77, 1);
    let zone = std::net::Ipv4Addr::new(10, 11, 0, 2);
    match cursor.below(5) {
        0 => ethernet([255; 6], ZONE_MAC, 0x0806, &arp(1, (ZONE_MAC, zone), ([0; 6], gateway))),
        1 => {
            let options = [53, 1, 1 + cursor.u8() % 3, 255];
            let message = dhcp(1, [1, 2, 3, 4], ZONE_MAC, 0.into(), &options);
            let packet = ipv4(0.into(), std::net::Ipv4Addr::BROADCAST, 17, &udp(68, 67, &message));
            ethernet([255; 6], ZONE_MAC, 0x0800, &packet)
        }
        2 => {
            let body = icmp(&[&[8, 0, 0, 0, 0, 1, 0, 1], cursor.some_bytes(64)].concat());
            ethernet(tunnel::GATEWAY_MAC, ZONE_MAC, 0x0800, &ipv4(zone, gateway, 1, &body))
        }
        3 => {
            let body = udp(1000, 2000, cursor.some_bytes(64));
            let to = std::net::Ipv4Addr::new(10, 11, 0, 1);
            ethernet(tunnel::GATEWAY_MAC, ZONE_MAC, 0x0800, &ipv4(zone, to, 17, &body))
        }
        _ => cursor.some_bytes(200).to_vec(),
    }
}

/// Rings of a hostile guest behind an honest VMM: frames in any chains, receive buffers of any kind, datagrams.
pub(crate) fn vpnd_rings(bytes: &[u8]) {
    let mut cursor = Cursor::new(bytes);
    serve(|world| {
        let features = 1 << 32 | 1 << 30 | (cursor.u64() & (1 << 29 | 1 << 28 | 1 << 15 | 3));
        for slot in 0..ENTRIES {
            // The receive ring has good buffers but where the input says otherwise.
            world.describe(0, slot, MEMORY + BUFFERS + 0x400 * u64::from(slot), 0x400, 2, 0);
            world.write(0x404 + 2 * u64::from(slot), &slot.to_le_bytes());
        }
        world.write(0x402, &cursor.number(&[16, 16, 1, 0, 17]).to_le_bytes()[..2]);
        let mut place = BUFFERS + 0x4000;
        let mut offered = 0_u16;
        while !cursor.is_empty() {
            let near =
                [MEMORY + BUFFERS, MEMORY, MEMORY + RING, MEMORY + SIZE - 1, MEMORY - 1, MEMORY + SIZE];
            let slot = u16::from(cursor.u8() % 16);
            match cursor.below(5) {
                0 => {
                    let ring = u64::from(cursor.u8() & 1);
                    let (address, length) =
                        (cursor.number(&near), cursor.number(&[64, 1, 0, 0x400, 0xFFFF_FFFF]));
                    let flags = u16::from(cursor.u8() & 7);
                    let length = u32::try_from(length & 0xFFFF_FFFF).expect("32 bits");
                    world.describe(ring, slot, address, length, flags, u16::from(cursor.u8() % 18));
                }
                1 => {
                    world.write(RING + 0x404 + 2 * u64::from(offered % ENTRIES), &slot.to_le_bytes());
                    offered = offered.wrapping_add(1);
                }
                2 => {
                    let _full = send_with(world.uplink.as_fd(), cursor.some_bytes(150), &[]);
                }
                _ => {
                    let frame = frame(&mut cursor);
                    let mut bytes =
                        if cursor.u8() < 220 { vec![0; 12] } else { cursor.array::<12>().to_vec() };
                    bytes.extend(frame);
                    let length = u32::try_from(bytes.len()).expect("a small frame");
                    world.write(place, &bytes);
                    world.describe(1, slot, MEMORY + place, length, 0, 0);
                    world.write(RING + 0x404 + 2 * u64::from(offered % ENTRIES), &slot.to_le_bytes());
                    offered = offered.wrapping_add(1);
                    place += u64::from(length).next_multiple_of(16);
                }
            }
        }
        let index = if cursor.u8() > 250 { cursor.u16() } else { offered };
        world.write(RING + 0x402, &index.to_le_bytes());
        world.converse(features, &mut cursor);
        // One more turn of the loop for each.
        for _ in 0..4 {
            world.send(request::GET_FEATURES, 1, &[], &[]);
        }
    });
}
