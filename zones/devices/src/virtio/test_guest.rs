//! A guest driver for the tests of all devices: it owns memory and rings, and it can be hostile.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::Duration;

use virtio_bindings::virtio_ring::{VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::threads::Unconfined;
use super::{Activation, ActiveQueue, GuestMemory, Interrupt, VirtioDevice};

/// Guest memory of a test, in bytes.
pub(crate) const MEMORY: u64 = 4 << 20;

/// Each ring has this much room for its three parts.
const RING_SPACE: u64 = 0x4000;

/// Where buffers begin, above the rings.
const DATA: u64 = 0x10_0000;

pub(crate) const NEXT: u16 = VRING_DESC_F_NEXT as u16;
pub(crate) const WRITE: u16 = VRING_DESC_F_WRITE as u16;
pub(crate) const INDIRECT: u16 = VRING_DESC_F_INDIRECT as u16;

/// How long a test waits for what must happen.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Waits for what no signal tells of.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !holds() {
        assert!(start.elapsed() < DEADLINE, "{what} did not happen in time");
        std::thread::yield_now();
    }
}

/// What a device told the guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Signals {
    pub(crate) queues: [u64; 8],
    pub(crate) config: u64,
    pub(crate) needs_reset: u64,
}

/// Interrupts that a test can wait for.
#[derive(Default)]
pub(crate) struct TestInterrupt {
    signals: Mutex<Signals>,
    changed: Condvar,
    descriptors: Mutex<Vec<(u16, EventFd)>>,
}

impl TestInterrupt {
    fn change(&self, change: impl FnOnce(&mut Signals)) {
        change(&mut self.signals.lock().unwrap());
        self.changed.notify_all();
    }

    /// Waits until `holds`, which is asked again after each signal.
    pub(crate) fn wait(&self, what: &str, mut holds: impl FnMut(&Signals) -> bool) {
        let signals = self.signals.lock().unwrap();
        let (_signals, timeout) =
            self.changed.wait_timeout_while(signals, DEADLINE, |signals| !holds(signals)).unwrap();
        assert!(!timeout.timed_out(), "{what} did not happen in time");
    }

    /// Gives the device a moment: until its next signal, or a little while if none comes.
    fn pause(&self) {
        let signals = self.signals.lock().unwrap();
        let _signals = self.changed.wait_timeout(signals, Duration::from_millis(3)).unwrap();
    }

    pub(crate) fn signals(&self) -> Signals {
        self.signals.lock().unwrap().clone()
    }

    /// The descriptors that were handed out.
    pub(crate) fn descriptors(&self) -> Vec<(u16, EventFd)> {
        std::mem::take(&mut self.descriptors.lock().unwrap())
    }
}

impl Interrupt for TestInterrupt {
    fn signal_queue(&self, index: u16) {
        self.change(|signals| signals.queues[usize::from(index)] += 1);
    }

    fn signal_config(&self) {
        self.change(|signals| signals.config += 1);
    }

    fn queue_descriptor(&self, index: u16) -> std::io::Result<EventFd> {
        let event = EventFd::new(EFD_NONBLOCK)?;
        self.descriptors.lock().unwrap().push((index, event.try_clone()?));
        Ok(event)
    }

    fn needs_reset(&self) {
        self.change(|signals| signals.needs_reset += 1);
    }
}

/// One descriptor as the test writes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Raw {
    pub(crate) address: u64,
    pub(crate) size: u32,
    pub(crate) flags: u16,
    pub(crate) next: u16,
}

/// The driver's side of one queue.
pub(crate) struct DriverQueue {
    base: u64,
    size: u16,
    next_available: u16,
    used_seen: u16,
    kick: EventFd,
}

/// The driver's side of a device.
pub(crate) struct Guest {
    pub(crate) memory: GuestMemory,
    pub(crate) interrupt: Arc<TestInterrupt>,
    pub(crate) queues: Vec<DriverQueue>,
    event_index: bool,
}

impl Guest {
    /// A guest with one queue of each size.
    pub(crate) fn new(sizes: &[u16]) -> Self {
        Self::on_memory(sizes, None)
    }

    /// The same on shared memory, which begins at `offset` in `file`.
    pub(crate) fn on_file(sizes: &[u16], file: File, offset: u64) -> Self {
        Self::on_memory(sizes, Some(FileOffset::new(file, offset)))
    }

    fn on_memory(sizes: &[u16], file: Option<FileOffset>) -> Self {
        let range = (GuestAddress(0), MEMORY as usize, file);
        let map = GuestMemoryMmap::from_ranges_with_files([range]).unwrap();
        let memory = GuestMemoryAtomic::new(map);
        let queues = sizes
            .iter()
            .enumerate()
            .map(|(index, size)| DriverQueue {
                base: RING_SPACE * (index as u64 + 1),
                size: *size,
                next_available: 0,
                used_seen: 0,
                kick: EventFd::new(EFD_NONBLOCK).unwrap(),
            })
            .collect();
        Self { memory, interrupt: Arc::default(), queues, event_index: false }
    }

    /// Activates `device` with fresh rings and all of its features that are in `mask`.
    pub(crate) fn activate(&mut self, device: &mut dyn VirtioDevice, mask: u64) {
        let features = device.features() & mask;
        self.event_index = features & (1 << 29) != 0;
        let activation = self.activation(features);
        device.activate(activation).unwrap();
    }

    /// Fresh rings for an activation.
    pub(crate) fn activation(&mut self, features: u64) -> Activation {
        let mut queues = Vec::new();
        for (index, driver) in self.queues.iter_mut().enumerate() {
            let zeroes = vec![0; RING_SPACE as usize];
            self.memory.memory().write_slice(&zeroes, GuestAddress(driver.base)).unwrap();
            driver.next_available = 0;
            driver.used_seen = 0;
            let mut queue = Queue::new(driver.size).unwrap();
            queue.set_size(driver.size);
            queue.set_desc_table_address(Some(driver.base as u32), Some(0));
            queue.set_avail_ring_address(Some(driver.available() as u32), Some(0));
            queue.set_used_ring_address(Some(driver.used() as u32), Some(0));
            queue.set_ready(true);
            assert!(queue.is_valid(&*self.memory.memory()));
            let kick = driver.kick.try_clone().unwrap();
            queues.push(ActiveQueue { index: index as u16, queue, kick });
        }
        let interrupt = Arc::clone(&self.interrupt) as Arc<dyn Interrupt>;
        Activation { memory: self.memory.clone(), features, queues, interrupt, threads: Arc::new(Unconfined) }
    }

    /// Writes one descriptor.
    pub(crate) fn describe(&self, queue: usize, slot: u16, raw: Raw) {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&raw.address.to_le_bytes());
        bytes[8..12].copy_from_slice(&raw.size.to_le_bytes());
        bytes[12..14].copy_from_slice(&raw.flags.to_le_bytes());
        bytes[14..].copy_from_slice(&raw.next.to_le_bytes());
        self.poke(self.queues[queue].base + 16 * u64::from(slot), &bytes);
    }

    /// Makes the chain that begins at `head` available, without a notification.
    pub(crate) fn offer(&mut self, queue: usize, head: u16) {
        let driver = &mut self.queues[queue];
        let slot = u64::from(driver.next_available % driver.size);
        driver.next_available = driver.next_available.wrapping_add(1);
        let (ring, index) = (driver.available(), driver.next_available);
        self.poke(ring + 4 + 2 * slot, &head.to_le_bytes());
        self.set_available_index(queue, index);
        assert_eq!(ring, self.queues[queue].available());
    }

    /// Sets the index that says how many chains are available.
    pub(crate) fn set_available_index(&mut self, queue: usize, index: u16) {
        self.queues[queue].next_available = index;
        let address = GuestAddress(self.queues[queue].available() + 2);
        let release = std::sync::atomic::Ordering::Release;
        self.memory.memory().store(index.to_le(), address, release).unwrap();
    }

    /// Notifies the device.
    pub(crate) fn kick(&self, queue: usize) {
        self.queues[queue].kick.write(1).unwrap();
    }

    /// How many chains were made available so far, wrapping.
    pub(crate) fn offered(&self, queue: usize) -> u16 {
        self.queues[queue].next_available
    }

    /// Notifies the device of what was offered since `before`, if it asked for that, as Linux does.
    pub(crate) fn notify(&self, queue: usize, before: u16) {
        let driver = &self.queues[queue];
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        let word = |address| {
            let bytes = self.peek(address, 2);
            u16::from_le_bytes([bytes[0], bytes[1]])
        };
        let now = driver.next_available;
        let wanted = if self.event_index {
            let event = word(driver.used() + 4 + 8 * u64::from(driver.size));
            now.wrapping_sub(event).wrapping_sub(1) < now.wrapping_sub(before)
        } else {
            word(driver.used()) & 1 == 0
        };
        if wanted {
            self.kick(queue);
        }
    }

    /// Waits for the next used chain: its head and how many bytes were written.
    pub(crate) fn await_used(&mut self, queue: usize) -> (u16, u32) {
        let (used, seen) = (self.queues[queue].used(), self.queues[queue].used_seen);
        if self.event_index {
            // Ask for an interrupt at the very next used chain.
            let event = self.queues[queue].available() + 4 + 2 * u64::from(self.queues[queue].size);
            self.poke(event, &seen.to_le_bytes());
        }
        let memory = self.memory.memory();
        self.interrupt.wait("a used buffer", |_| {
            let acquire = std::sync::atomic::Ordering::Acquire;
            memory.load::<u16>(GuestAddress(used + 2), acquire).unwrap() != seen
        });
        let slot = used + 4 + 8 * u64::from(seen % self.queues[queue].size);
        self.queues[queue].used_seen = seen.wrapping_add(1);
        let entry = self.peek(slot, 8);
        let word = |at: usize| u32::from_le_bytes(entry[at..at + 4].try_into().unwrap());
        (word(0) as u16, word(4))
    }

    /// Used chains that the driver has not taken yet.
    pub(crate) fn pending_used(&self, queue: usize) -> u16 {
        let index = self.peek(self.queues[queue].used() + 2, 2);
        u16::from_le_bytes([index[0], index[1]]).wrapping_sub(self.queues[queue].used_seen)
    }

    /// Builds a well-formed chain from slot 0 of the table on: `readable` parts, then `writable` sizes.
    pub(crate) fn build(&self, queue: usize, slot: u16, readable: &[&[u8]], writable: &[u32]) -> Vec<u64> {
        let mut address = DATA + u64::from(slot) * 0x1_0000 + queue as u64 * 0x10_0000;
        let mut places = Vec::new();
        let count = readable.len() + writable.len();
        for index in 0..count {
            let (size, flags) = match readable.get(index) {
                Some(bytes) => {
                    self.poke(address, bytes);
                    (bytes.len() as u32, 0)
                }
                None => (writable[index - readable.len()], WRITE),
            };
            let last = index + 1 == count;
            let next = slot + index as u16 + 1;
            let flags = if last { flags } else { flags | NEXT };
            self.describe(queue, slot + index as u16, Raw { address, size, flags, next });
            places.push(address);
            address += u64::from(size).next_multiple_of(16);
        }
        places
    }

    /// One whole request, waited for: how many bytes the device says it wrote, and all writable bytes.
    pub(crate) fn request(&mut self, queue: usize, readable: &[&[u8]], writable: &[u32]) -> (u32, Vec<u8>) {
        let places = self.build(queue, 0, readable, writable);
        let before = self.offered(queue);
        self.offer(queue, 0);
        self.notify(queue, before);
        let (head, written) = self.await_used(queue);
        assert_eq!(head, 0);
        let mut bytes = Vec::new();
        for (place, size) in places.iter().skip(readable.len()).zip(writable) {
            bytes.extend(self.peek(*place, *size as usize));
        }
        (written, bytes)
    }

    /// Writes guest memory.
    pub(crate) fn poke(&self, address: u64, bytes: &[u8]) {
        self.memory.memory().write_slice(bytes, GuestAddress(address)).unwrap();
    }

    /// Reads guest memory.
    pub(crate) fn peek(&self, address: u64, size: usize) -> Vec<u8> {
        let mut bytes = vec![0; size];
        self.memory.memory().read_slice(&mut bytes, GuestAddress(address)).unwrap();
        bytes
    }
}

impl DriverQueue {
    fn available(&self) -> u64 {
        self.base + 16 * u64::from(self.size)
    }

    fn used(&self) -> u64 {
        (self.available() + 6 + 2 * u64::from(self.size)).next_multiple_of(4)
    }
}

/// A small generator (SplitMix64): tests name their seed.
pub(crate) struct Seeded(pub(crate) u64);

impl Seeded {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Mostly plausible, sometimes absurd.
    fn address(&mut self) -> u64 {
        match self.below(10) {
            0 => self.next(),
            1 => MEMORY - self.below(64),
            2 => self.below(DATA),
            _ => DATA + self.below(MEMORY - DATA),
        }
    }

    fn size(&mut self) -> u32 {
        match self.below(12) {
            0 => self.next() as u32,
            1 => 0,
            2 => 1,
            3 => u32::MAX,
            4 => 16 * self.below(300) as u32,
            5 => self.below(1 << 20) as u32,
            _ => self.below(8192) as u32,
        }
    }

    fn descriptor(&mut self, size: u16) -> Raw {
        let flags = match self.below(16) {
            0 => self.next() as u16,
            1 => INDIRECT,
            2 => INDIRECT | NEXT | WRITE,
            3..8 => NEXT,
            8..11 => NEXT | WRITE,
            11..14 => WRITE,
            _ => 0,
        };
        let next = if self.below(8) == 0 { self.next() as u16 } else { self.below(u64::from(size)) as u16 };
        Raw { address: self.address(), size: self.size(), flags, next }
    }
}

/// Runs `rounds` of a guest that writes random descriptors, rings and bytes, notifies at random and resets
/// whenever the device asks for it. Ends only if every reset ends; panics of a worker surface at `check`.
pub(crate) fn hostile_guest(
    mut device: Box<dyn VirtioDevice>,
    seed: u64,
    rounds: u32,
    mut plausible: impl FnMut(&mut Seeded) -> Vec<u8> + Send + 'static,
) {
    let (done, finished) = mpsc::channel();
    let attacker = std::thread::spawn(move || {
        let sizes = device.queue_sizes().to_vec();
        let mut guest = Guest::new(&sizes);
        let mut random = Seeded(seed);
        guest.activate(&mut *device, u64::MAX);
        for round in 0..rounds {
            let queue = random.below(sizes.len() as u64) as usize;
            // Few slots, so that chains form; now and then the whole table.
            let size = if random.below(8) == 0 { sizes[queue] } else { sizes[queue].min(12) };
            for _ in 0..random.below(24) {
                let slot = random.below(u64::from(size)) as u16;
                let raw = random.descriptor(size);
                guest.describe(queue, slot, raw);
                // A plausible header where the device will look for one.
                if raw.address < MEMORY - 128 {
                    let bytes = plausible(&mut random);
                    guest.poke(raw.address, &bytes[..bytes.len().min(128)]);
                }
            }
            match random.below(40) {
                0 => guest.set_available_index(queue, random.next() as u16),
                _ => (0..random.below(4)).for_each(|_| {
                    let wild = random.below(50) == 0;
                    let head = if wild { random.next() } else { random.below(u64::from(size)) };
                    guest.offer(queue, head as u16);
                }),
            }
            if random.below(3) > 0 {
                guest.kick(queue);
                // Mostly let the device come to it, sometimes change everything under its hands.
                if random.below(4) > 0 {
                    guest.interrupt.pause();
                }
            }
            if guest.interrupt.signals().needs_reset > 0 || random.below(50) == 0 {
                device.reset();
                guest.interrupt = Arc::default();
                guest.activate(&mut *device, random.next() | u64::from(round % 2) << 29);
            }
        }
        device.reset();
        // Power-on state: it serves again.
        guest.activate(&mut *device, u64::MAX);
        device.reset();
        done.send(()).unwrap();
    });
    match finished.recv_timeout(Duration::from_secs(120)) {
        Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => attacker.join().unwrap(),
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("the device did not end in time, seed {seed}"),
    }
}

/// Everything that can be read from `descriptor` until its other end is closed.
pub(crate) fn read_all(descriptor: OwnedFd) -> Vec<u8> {
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut File::from(descriptor), &mut bytes).unwrap();
    bytes
}
