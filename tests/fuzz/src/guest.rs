//! A hostile guest in front of one virtio device, as the VMM would place it: registers in a BAR, rings in guest
//! memory, notifications. Every step is a choice of the input.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use devices::pci::PciFunction;
use devices::pci::msix::Vector;
use devices::virtio::pci_transport::PciTransport;
use devices::virtio::threads::Unconfined;
use devices::virtio::{GuestMemory, VirtioDevice};
use vm_memory::{Bytes, GuestAddress, GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::cursor::Cursor;

/// Memory in two pieces with a hole between: both ends of both are worth pointing at.
pub(crate) const LOW_SIZE: u64 = 0x4_0000;
pub(crate) const HIGH: u64 = 0x8_0000;
pub(crate) const HIGH_SIZE: u64 = 0x1_0000;

/// Where the driver puts its rings, one after the other, and the buffers of whole requests.
const RINGS: u64 = 0x1000;
const RING_STRIDE: u64 = 0x4000;
const DATA: u64 = 0x2_0000;

/// Addresses that a descriptor is likely to hold.
pub(crate) const PLACES: &[u64] = &[
    DATA,
    DATA + 0x1000,
    DATA + 0x2000,
    DATA + 0x8000,
    RINGS,
    RINGS + RING_STRIDE,
    LOW_SIZE - 1,
    LOW_SIZE - 16,
    LOW_SIZE,
    HIGH - 1,
    HIGH,
    HIGH + HIGH_SIZE - 1,
    HIGH + HIGH_SIZE,
    0,
];

pub(crate) const SIZES: &[u64] = &[0, 1, 4, 16, 32, 44, 512, 513, 4096, 0x1_0000, 0x4_0000, 0xFFFF_FFFF];

/// How long a step waits for a device that may not be listening at all, in milliseconds.
const PATIENCE: u32 = 40;

/// How long a device that was asked properly may take.
const DEADLINE: u32 = 20_000;

/// The most steps of one input.
const STEPS: usize = 160;

/// Registers of the transport (`devices::virtio::pci_transport`).
mod register {
    pub(super) const FEATURE_SELECT: u64 = 0x08;
    pub(super) const FEATURES: u64 = 0x0C;
    pub(super) const CONFIG_VECTOR: u64 = 0x10;
    pub(super) const STATUS: u64 = 0x14;
    pub(super) const QUEUE_SELECT: u64 = 0x16;
    pub(super) const QUEUE_SIZE: u64 = 0x18;
    pub(super) const QUEUE_VECTOR: u64 = 0x1A;
    pub(super) const QUEUE_ENABLE: u64 = 0x1C;
    pub(super) const QUEUE_DESCRIPTORS: u64 = 0x20;
    pub(super) const QUEUE_DRIVER: u64 = 0x28;
    pub(super) const QUEUE_DEVICE: u64 = 0x30;
    pub(super) const TABLE: u64 = 0x4000;
}

const DRIVER_OK: u8 = 0x0F;
const STARTED: u8 = 4;
const NEEDS_RESET: u8 = 64;

/// An interrupt vector that remembers.
#[derive(Default)]
pub(crate) struct Line {
    live: AtomicBool,
    pending: AtomicBool,
    pub(crate) count: AtomicU64,
}

impl Vector for Line {
    fn unmute(&self, address: u64, _data: u32) -> io::Result<()> {
        // The kernel refuses what is no message address.
        if address >> 32 == 0xBAD {
            return Err(io::Error::other("refused"));
        }
        self.live.store(true, Ordering::Relaxed);
        if self.pending.swap(false, Ordering::Relaxed) {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn mute(&self) -> io::Result<()> {
        self.live.store(false, Ordering::Relaxed);
        Ok(())
    }

    fn pending(&self) -> bool {
        self.pending.load(Ordering::Relaxed)
    }

    fn discard_pending(&self) {
        self.pending.store(false, Ordering::Relaxed);
    }

    fn trigger(&self) {
        if self.live.load(Ordering::Relaxed) {
            self.count.fetch_add(1, Ordering::Relaxed);
        } else {
            self.pending.store(true, Ordering::Relaxed);
        }
    }

    fn descriptor(&self) -> io::Result<EventFd> {
        EventFd::new(EFD_NONBLOCK)
    }
}

/// Vectors that remember, as many as asked for.
pub(crate) fn lines(count: usize) -> Vec<Arc<dyn Vector>> {
    (0..count).map(|_| Arc::new(Line::default()) as Arc<dyn Vector>).collect()
}

/// Memory of a guest.
pub(crate) fn memory() -> GuestMemory {
    let ranges = [
        (GuestAddress(0), usize::try_from(LOW_SIZE).expect("it is small")),
        (GuestAddress(HIGH), usize::try_from(HIGH_SIZE).expect("it is small")),
    ];
    GuestMemoryAtomic::new(GuestMemoryMmap::from_ranges(&ranges).expect("memory for the guest"))
}

/// One queue as its driver sees it.
struct Ring {
    base: u64,
    size: u16,
    available: u16,
    kick: EventFd,
    /// Says whether `kick` was taken.
    waiting: Epoll,
    /// The device serves it.
    served: bool,
    /// It was notified in vain: nobody listens until the next start.
    deaf: bool,
}

impl Ring {
    fn driver(&self) -> u64 {
        self.base + 16 * u64::from(self.size)
    }

    fn device(&self) -> u64 {
        (self.driver() + 6 + 2 * u64::from(self.size)).next_multiple_of(4)
    }

    /// Notifies the device and waits until it is done with the work of this notification; false when nobody
    /// took it within so many milliseconds, or the device is no longer alive.
    fn notify(&self, patience: u32, mut alive: impl FnMut() -> bool) -> bool {
        // An eventfd that is full becomes writable again when the device takes the notification, and the device
        // takes the second one when it has done the work of the first.
        (0..2).all(|_| {
            let _empty = self.kick.read();
            let _full = self.kick.write(u64::MAX - 1);
            // The engine's clock interrupts some waits: they count as one of many.
            let taken = || self.waiting.wait(1, &mut [EpollEvent::default()]).is_ok_and(|count| count > 0);
            (0..patience).find_map(|_| if taken() { Some(true) } else { (!alive()).then_some(false) })
                == Some(true)
        })
    }
}

/// The guest.
pub(crate) struct Guest {
    memory: GuestMemory,
    transport: PciTransport,
    rings: Vec<Ring>,
}

impl Guest {
    /// A guest with this device, which serves these of its queues.
    pub(crate) fn new(device: Box<dyn VirtioDevice>, served: &[u64]) -> Self {
        let memory = memory();
        let sizes = device.queue_sizes().to_vec();
        let vectors = lines(PciTransport::vectors(&*device));
        let transport = PciTransport::new(device, memory.clone(), vectors, 0xD000_0000, Arc::new(Unconfined))
            .expect("the device fits its transport");
        let kicks = transport.notifications().map(|(kick, _)| kick.try_clone().expect("descriptor"));
        let rings = (0_u64..)
            .zip(kicks)
            .zip(sizes)
            .map(|((index, kick), size)| {
                let waiting = Epoll::new().expect("descriptor");
                let event = EpollEvent::new(EventSet::OUT, 0);
                waiting
                    .ctl(ControlOperation::Add, kick.as_raw_fd(), event)
                    .expect("an eventfd can be waited for");
                Ring {
                    base: RINGS + RING_STRIDE * index,
                    size,
                    available: 0,
                    kick,
                    waiting,
                    served: served.contains(&index),
                    deaf: true,
                }
            })
            .collect();
        Self { memory, transport, rings }
    }

    /// Writes guest memory; what does not lie in it is not written.
    fn poke(&self, address: u64, bytes: &[u8]) {
        let _outside = self.memory.memory().write_slice(bytes, GuestAddress(address));
    }

    fn peek_u16(&self, address: u64) -> u16 {
        let mut bytes = [0; 2];
        let _outside = self.memory.memory().read_slice(&mut bytes, GuestAddress(address));
        u16::from_le_bytes(bytes)
    }

    /// Resets the device and starts it as a driver would, with these of its features.
    pub(crate) fn start(&mut self, mask: u64) {
        self.transport.bar_write(register::STATUS, &[0]);
        self.transport.bar_write(register::STATUS, &[3]);
        let mut offered = 0;
        for half in [0_u32, 1] {
            self.transport.bar_write(0, &half.to_le_bytes());
            let mut bytes = [0; 4];
            self.transport.bar_read(4, &mut bytes);
            offered |= u64::from(u32::from_le_bytes(bytes)) << (32 * half);
        }
        let features = (offered & (mask | 1 << 32)).to_le_bytes();
        for (half, part) in [0_u32, 1].into_iter().zip(features.chunks(4)) {
            self.transport.bar_write(register::FEATURE_SELECT, &half.to_le_bytes());
            self.transport.bar_write(register::FEATURES, part);
        }
        self.transport.bar_write(register::STATUS, &[0x0B]);
        self.transport.bar_write(register::CONFIG_VECTOR, &[0, 0]);
        for index in 0..self.rings.len() {
            let ring = &mut self.rings[index];
            (ring.available, ring.deaf) = (0, !ring.served);
            let (base, driver, device, size) = (ring.base, ring.driver(), ring.device(), ring.size);
            let length = usize::try_from(device - base).expect("a ring is small") + 6 + 8 * usize::from(size);
            self.poke(base, &vec![0; length]);
            let number = u16::try_from(index).expect("a few queues");
            let write = |transport: &mut PciTransport, at, bytes: &[u8]| transport.bar_write(at, bytes);
            write(&mut self.transport, register::QUEUE_SELECT, &number.to_le_bytes());
            write(&mut self.transport, register::QUEUE_SIZE, &size.to_le_bytes());
            write(&mut self.transport, register::QUEUE_VECTOR, &(number + 1).to_le_bytes());
            write(&mut self.transport, register::QUEUE_DESCRIPTORS, &base.to_le_bytes());
            write(&mut self.transport, register::QUEUE_DRIVER, &driver.to_le_bytes());
            write(&mut self.transport, register::QUEUE_DEVICE, &device.to_le_bytes());
            write(&mut self.transport, register::QUEUE_ENABLE, &[1, 0]);
        }
        self.transport.bar_write(register::STATUS, &[DRIVER_OK]);
    }

    /// Writes one descriptor.
    pub(crate) fn describe(&self, queue: usize, slot: u16, address: u64, size: u32, flags: u16, next: u16) {
        let mut bytes = address.to_le_bytes().to_vec();
        bytes.extend_from_slice(&size.to_le_bytes());
        bytes.extend_from_slice(&flags.to_le_bytes());
        bytes.extend_from_slice(&next.to_le_bytes());
        self.poke(self.rings[queue].base + 16 * u64::from(slot), &bytes);
    }

    /// Writes one descriptor into the first ring's table, or into one of three tables that it may point to.
    pub(crate) fn describe_in(
        &self,
        table: usize,
        slot: u16,
        address: u64,
        size: u64,
        flags: u16,
        next: u16,
    ) {
        let base = [self.rings[0].base, DATA, DATA + 0x1000, DATA + 0x2000][table];
        let mut bytes = address.to_le_bytes().to_vec();
        bytes.extend_from_slice(&size.to_le_bytes()[..4]);
        bytes.extend_from_slice(&flags.to_le_bytes());
        bytes.extend_from_slice(&next.to_le_bytes());
        self.poke(base + 16 * u64::from(slot), &bytes);
    }

    /// Makes the chain that begins at `head` available.
    pub(crate) fn offer(&mut self, queue: usize, head: u16) {
        let ring = &mut self.rings[queue];
        let slot = ring.driver() + 4 + 2 * u64::from(ring.available % ring.size);
        ring.available = ring.available.wrapping_add(1);
        let (index, at) = (ring.available, ring.driver() + 2);
        self.poke(slot, &head.to_le_bytes());
        self.poke(at, &index.to_le_bytes());
    }

    /// Offers a request as a driver would: readable parts, then writable sizes. Its first slot is 0, so that one
    /// request at a time is under way.
    pub(crate) fn request(&mut self, queue: usize, readable: &[&[u8]], writable: &[u32]) {
        let mut address = DATA;
        let count = u16::try_from(readable.len() + writable.len()).expect("a few parts");
        let sizes = readable.iter().map(|part| u32::try_from(part.len()).expect("a small part"));
        let parts = sizes.map(|size| (size, 0)).chain(writable.iter().map(|size| (*size, 2)));
        for (slot, (size, access)) in (0_u16..).zip(parts) {
            if let Some(bytes) = readable.get(usize::from(slot)) {
                self.poke(address, bytes);
            }
            let more = u16::from(slot + 1 < count);
            self.describe(queue, slot, address, size, access | more, slot + 1);
            address += u64::from(size).next_multiple_of(16).min(0x4000);
        }
        if count > 0 {
            self.offer(queue, 0);
        }
    }

    /// Notifies the device until it took notice of everything that was offered before, if it listens.
    pub(crate) fn settle(&mut self, queue: usize) {
        let Self { transport, rings, .. } = self;
        if let Some(ring) = rings.get_mut(queue)
            && !ring.deaf
            && is_alive(transport)
        {
            ring.deaf = !ring.notify(PATIENCE, || is_alive(transport));
        }
    }

    /// What must hold after whatever came: a reset mends the device. One request must be answered.
    pub(crate) fn works_after_reset(&mut self, queue: usize, readable: &[&[u8]], writable: &[u32]) {
        self.start(0);
        let used = self.rings[queue].device() + 2;
        assert_eq!(self.peek_u16(used), 0, "a reset device still uses its old ring");
        self.request(queue, readable, writable);
        assert!(self.rings[queue].notify(DEADLINE, || true), "a device does not listen after a reset");
        assert_eq!(self.peek_u16(used), 1, "a request after a reset is not answered");
    }

    /// The attack: steps of the input until it ends. `request` makes a plausible request of the device's kind;
    /// `host` is a step of the device's other side.
    pub(crate) fn attack(
        &mut self,
        cursor: &mut Cursor<'_>,
        mut request: impl FnMut(&mut Self, &mut Cursor<'_>),
        mut host: impl FnMut(&mut Cursor<'_>),
    ) {
        for _ in 0..STEPS {
            if cursor.is_empty() {
                return;
            }
            let choice = cursor.u8();
            let queue = cursor.below(self.rings.len());
            match choice % 16 {
                0..=4 => request(self, cursor),
                5..=6 => self.step_descriptor(queue, cursor),
                7 => {
                    let address = cursor.number(PLACES);
                    self.poke(address, cursor.some_bytes(256));
                }
                8 => self.offer(queue, u16::from(cursor.u8())),
                9 => {
                    let index = cursor.u16();
                    self.rings[queue].available = index;
                    let at = self.rings[queue].driver() + 2;
                    self.poke(at, &index.to_le_bytes());
                }
                10..=11 => self.settle(queue),
                12 => self.step_register(cursor),
                13 => self.step_config(cursor),
                14 => host(cursor),
                _ => self.start(cursor.u64()),
            }
        }
    }

    fn step_descriptor(&self, queue: usize, cursor: &mut Cursor<'_>) {
        let slot = u16::from(cursor.u8());
        let address = cursor.number(PLACES);
        let size = cursor.number(SIZES);
        let flags = match cursor.u8() {
            choice @ 0..=223 => u16::from(choice & 7),
            _ => cursor.u16(),
        };
        let size = u32::try_from(size & 0xFFFF_FFFF).expect("32 bits");
        self.describe(queue, slot, address, size, flags, u16::from(cursor.u8()));
    }

    fn step_register(&mut self, cursor: &mut Cursor<'_>) {
        let tables = [0, 0x10, 0x14, 0x16, 0x18, 0x1A, 0x1C, 0x20, 0x28, 0x30, 0x1000, 0x2000, 0x3000];
        let table = if cursor.u8() < 32 { register::TABLE } else { 0 };
        let offset = cursor.number(&tables).wrapping_add(table);
        let length = [1, 2, 4, 8][cursor.below(4)];
        if cursor.flag() {
            self.transport.bar_write(offset, &cursor.array::<8>()[..length]);
        } else {
            self.transport.bar_read(offset, &mut [0; 8][..length]);
        }
    }

    fn step_config(&mut self, cursor: &mut Cursor<'_>) {
        let offset = u16::from(cursor.u8()) & !3;
        if cursor.flag() {
            self.transport.config_write(offset, &cursor.array::<4>());
        } else {
            self.transport.config_read(offset, &mut [0; 4]);
        }
    }

    /// The machine ends.
    pub(crate) fn stop(mut self) {
        self.transport.reset();
    }
}

/// Whether the driver started the device and the device has not given up.
fn is_alive(transport: &mut PciTransport) -> bool {
    let mut status = [0];
    transport.bar_read(register::STATUS, &mut status);
    status[0] & (STARTED | NEEDS_RESET) == STARTED
}
