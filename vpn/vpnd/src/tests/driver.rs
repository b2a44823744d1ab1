//! The other side of vhost-user: a frontend and a driver of two split rings.

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{Ordering, fence};

use rustix::fs::{MemfdFlags, SealFlags};
use vhost::vhost_user::message::VhostUserHeaderFlag;
use vhost::vhost_user::{Frontend, VhostUserFrontend, VhostUserProtocolFeatures};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use vm_memory::{
    Bytes, FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, MmapRegion,
};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

const SIZE: u16 = 256;
const MEMORY: usize = 64 << 20;

/// `VIRTQ_DESC_F_NEXT` and `VIRTQ_DESC_F_WRITE`.
pub(super) const NEXT: u16 = 1;
pub(super) const WRITE: u16 = 2;

/// One ring as its driver sees it.
pub(super) struct Ring {
    base: u64,
    buffers: u64,
    pub(super) available: u16,
    used: u16,
    kick: EventFd,
    call: EventFd,
    waiting: Epoll,
}

impl Ring {
    fn new(base: u64, buffers: u64) -> Self {
        let [kick, call] = [(), ()].map(|()| EventFd::new(libc_nonblock()).unwrap());
        let waiting = Epoll::new().unwrap();
        let event = EpollEvent::new(EventSet::IN, 0);
        waiting.ctl(ControlOperation::Add, call.as_raw_fd(), event).unwrap();
        Self { base, buffers, available: 0, used: 0, kick, call, waiting }
    }

    fn descriptors(&self) -> u64 {
        self.base
    }

    fn avail(&self) -> u64 {
        self.base + 0x2000
    }

    fn used(&self) -> u64 {
        self.base + 0x3000
    }
}

/// `EFD_NONBLOCK`.
fn libc_nonblock() -> i32 {
    i32::try_from(rustix::event::EventfdFlags::NONBLOCK.bits()).unwrap()
}

/// Frontend and driver.
pub(super) struct Driver {
    pub(super) frontend: Frontend,
    pub(super) memory: GuestMemoryMmap<()>,
    pub(super) receive: Ring,
    pub(super) transmit: Ring,
    features: u64,
    receive_buffer: usize,
}

impl Driver {
    pub(super) fn new(stream: UnixStream, features: u64, receive_buffer: usize) -> Self {
        let memfd =
            rustix::fs::memfd_create("guest", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        rustix::fs::ftruncate(&memfd, u64::try_from(MEMORY).unwrap()).unwrap();
        rustix::fs::fcntl_add_seals(&memfd, SealFlags::SHRINK).unwrap();
        let region = MmapRegion::from_file(FileOffset::new(memfd.into(), 0), MEMORY).unwrap();
        // Guest memory does not begin at zero, so that a mixed-up address is found.
        let region = vm_memory::GuestRegionMmap::new(region, GuestAddress(0x10_0000)).unwrap();
        let memory = GuestMemoryMmap::from_regions(vec![region]).unwrap();
        let mut driver = Self {
            frontend: Frontend::from_stream(stream, 2),
            memory,
            receive: Ring::new(0x10_0000, 0x100_0000),
            transmit: Ring::new(0x11_0000, 0x200_0000),
            features,
            receive_buffer,
        };
        driver.connect();
        driver.start();
        driver
    }

    fn connect(&mut self) {
        let frontend = &mut self.frontend;
        frontend.set_owner().unwrap();
        let offered = frontend.get_features().unwrap();
        assert_eq!(offered & self.features, self.features, "feature not offered");
        // Protocol features are negotiated by the frontend, beside what the guest accepts.
        frontend.set_features(self.features | 1 << 30).unwrap();
        let protocol = frontend.get_protocol_features().unwrap();
        assert!(protocol.contains(VhostUserProtocolFeatures::REPLY_ACK));
        frontend.set_protocol_features(VhostUserProtocolFeatures::REPLY_ACK).unwrap();
        frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        let region = self.memory.iter().next().unwrap();
        frontend.set_mem_table(&[VhostUserMemoryRegionInfo::from_guest_region(region).unwrap()]).unwrap();
    }

    /// Sets both rings up from zero and offers all receive buffers.
    pub(super) fn start(&mut self) {
        for ring in [&mut self.receive, &mut self.transmit] {
            (ring.available, ring.used) = (0, 0);
            self.memory.write_slice(&[0; 0x8000], GuestAddress(ring.base)).unwrap();
        }
        self.hand_over([0, 0]);
    }

    /// Closes the conversation. The rings stay as they are.
    pub(super) fn hang_up(&mut self) {
        self.frontend = Frontend::from_stream(UnixStream::pair().unwrap().0, 2);
    }

    /// Lets another backend go on behind the buffers that the last one used.
    pub(super) fn reconnect(&mut self, stream: UnixStream) {
        self.frontend = Frontend::from_stream(stream, 2);
        self.connect();
        self.hand_over([&self.receive, &self.transmit].map(|ring| self.used_index(ring)));
    }

    /// Forgets all kicks, as if they had been taken.
    pub(super) fn lose_kicks(&self) {
        for ring in [&self.receive, &self.transmit] {
            // Empty is as good as emptied.
            let _count = ring.kick.read();
        }
    }

    /// Gives both rings to the backend, which begins at these numbers.
    fn hand_over(&mut self, bases: [u16; 2]) {
        let region = self.memory.iter().next().unwrap();
        let user = |guest: u64| region.as_ptr().addr() as u64 + guest - region.start_addr().0;
        for (index, ring) in [&self.receive, &self.transmit].into_iter().enumerate() {
            self.frontend.set_vring_num(index, SIZE).unwrap();
            let config = VringConfigData {
                queue_max_size: SIZE,
                queue_size: SIZE,
                flags: 0,
                desc_table_addr: user(ring.descriptors()),
                used_ring_addr: user(ring.used()),
                avail_ring_addr: user(ring.avail()),
                log_addr: None,
            };
            self.frontend.set_vring_addr(index, &config).unwrap();
            self.frontend.set_vring_base(index, bases[index]).unwrap();
            self.frontend.set_vring_call(index, &ring.call).unwrap();
            self.frontend.set_vring_kick(index, &ring.kick).unwrap();
        }
        for index in 0..2 {
            self.frontend.set_vring_enable(index, true).unwrap();
        }
    }

    /// Stops both rings and returns where the backend stood.
    pub(super) fn stop(&mut self) -> [u32; 2] {
        [0, 1].map(|index| self.frontend.get_vring_base(index).unwrap())
    }

    pub(super) fn write_descriptor(
        &self,
        ring: &Ring,
        index: u16,
        at: u64,
        length: u32,
        flags: u16,
        next: u16,
    ) {
        let mut bytes = at.to_le_bytes().to_vec();
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&flags.to_le_bytes());
        bytes.extend_from_slice(&next.to_le_bytes());
        let place = GuestAddress(ring.descriptors() + u64::from(index) * 16);
        self.memory.write_slice(&bytes, place).unwrap();
    }

    /// Makes a chain available and publishes it.
    pub(super) fn publish(memory: &GuestMemoryMmap<()>, ring: &mut Ring, head: u16) {
        let slot = ring.avail() + 4 + u64::from(ring.available % SIZE) * 2;
        memory.write_slice(&head.to_le_bytes(), GuestAddress(slot)).unwrap();
        ring.available = ring.available.wrapping_add(1);
        memory.store(ring.available.to_le(), GuestAddress(ring.avail() + 2), Ordering::SeqCst).unwrap();
    }

    /// Offers this many receive buffers; `true` when the device wanted a kick.
    pub(super) fn offer(&mut self, count: u16) -> bool {
        let old = self.receive.available;
        for _ in 0..count {
            let index = self.receive.available % SIZE;
            let at = self.receive.buffers + u64::from(index) * 0x1000;
            let length = u32::try_from(self.receive_buffer).unwrap();
            self.write_descriptor(&self.receive, index, at, length, WRITE, 0);
            Self::publish(&self.memory, &mut self.receive, index);
        }
        self.kick(&self.receive, old)
    }

    /// Kicks where the device asked for it with one of the buffers since `old` (virtio 1.3, section 2.7.10).
    fn kick(&self, ring: &Ring, old: u16) -> bool {
        fence(Ordering::SeqCst);
        let wanted = if self.features & (1 << VIRTIO_RING_F_EVENT_IDX) == 0 {
            let flags: u16 = self.memory.load(GuestAddress(ring.used()), Ordering::SeqCst).unwrap();
            flags & 1 == 0
        } else {
            let event = GuestAddress(ring.used() + 4 + u64::from(SIZE) * 8);
            let event: u16 = self.memory.load(event, Ordering::SeqCst).unwrap();
            let new = ring.available;
            new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
        };
        if wanted {
            ring.kick.write(1).unwrap();
        }
        wanted
    }

    /// Sends one frame with its header, in two descriptors.
    pub(super) fn send(&mut self, header: [u8; 12], frame: &[u8]) {
        let index = self.transmit.available % (SIZE / 2) * 2;
        let at = self.transmit.buffers + u64::from(index) * 0x1_0000;
        self.memory.write_slice(&header, GuestAddress(at)).unwrap();
        self.memory.write_slice(frame, GuestAddress(at + 12)).unwrap();
        self.write_descriptor(&self.transmit, index, at, 12, NEXT, index + 1);
        let length = u32::try_from(frame.len()).unwrap();
        self.write_descriptor(&self.transmit, index + 1, at + 12, length, 0, 0);
        let old = self.transmit.available;
        Self::publish(&self.memory, &mut self.transmit, index);
        self.kick(&self.transmit, old);
    }

    /// Kicks whether or not the device wants it.
    pub(super) fn kick_transmit(&self) {
        self.transmit.kick.write(1).unwrap();
    }

    fn used_index(&self, ring: &Ring) -> u16 {
        self.memory.load(GuestAddress(ring.used() + 2), Ordering::SeqCst).unwrap()
    }

    /// Asks for an interrupt with the next used buffer and waits for one, unless there is a buffer already.
    fn await_used(memory: &GuestMemoryMmap<()>, ring: &Ring, used: u16) -> bool {
        let event = GuestAddress(ring.avail() + 4 + u64::from(SIZE) * 2);
        memory.store(used.to_le(), event, Ordering::SeqCst).unwrap();
        loop {
            let now: u16 = memory.load(GuestAddress(ring.used() + 2), Ordering::SeqCst).unwrap();
            if now != used {
                return true;
            }
            let mut events = [EpollEvent::default()];
            if ring.waiting.wait(10_000, &mut events).unwrap() == 0 {
                return false;
            }
            ring.call.read().unwrap();
        }
    }

    /// Waits until everything sent was used.
    pub(super) fn await_sent(&mut self) {
        while self.transmit.used != self.transmit.available {
            assert!(
                Self::await_used(&self.memory, &self.transmit, self.transmit.used),
                "frames are not taken"
            );
            self.transmit.used = self.used_index(&self.transmit);
        }
    }

    /// How many frames were used so far.
    pub(super) fn taken(&self) -> u16 {
        self.used_index(&self.transmit)
    }

    fn used_element(&self, number: u16) -> (u64, usize) {
        let at = self.receive.used() + 4 + u64::from(number % SIZE) * 8;
        let mut element = [0; 8];
        self.memory.read_slice(&mut element, GuestAddress(at)).unwrap();
        let id = u64::from(u32::from_le_bytes(element[..4].try_into().unwrap()));
        let length = u32::from_le_bytes(element[4..].try_into().unwrap());
        (self.receive.buffers + id * 0x1000, usize::try_from(length).unwrap())
    }

    /// Waits for the next received frame: its header and bytes. Merged buffers must all be there at once.
    pub(super) fn receive(&mut self) -> ([u8; 12], Vec<u8>) {
        let used = self.receive.used;
        assert!(Self::await_used(&self.memory, &self.receive, used), "no frame comes");
        let mut bytes = Vec::new();
        let mut buffers = 1;
        let mut number = 0;
        while number < buffers {
            let there = self.used_index(&self.receive).wrapping_sub(used);
            assert!(there > number, "buffer {number} of {buffers} is missing");
            let (at, length) = self.used_element(used.wrapping_add(number));
            let mut part = vec![0; length];
            self.memory.read_slice(&mut part, GuestAddress(at)).unwrap();
            bytes.extend_from_slice(&part);
            buffers = u16::from_le_bytes([bytes[10], bytes[11]]);
            number += 1;
        }
        self.receive.used = used.wrapping_add(number);
        let frame = bytes.split_off(12);
        (bytes.try_into().unwrap(), frame)
    }
}
