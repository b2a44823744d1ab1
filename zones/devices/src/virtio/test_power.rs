//! Whether a device that was reset is, to the guest, a new one: every register is compared.

use std::io;
use std::sync::Arc;
use std::sync::Mutex;

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::VirtioDevice;
use super::pci_transport::PciTransport;
use super::test_guest::{Guest, MEMORY, Seeded};
use super::threads::Unconfined;
use crate::pci::PciFunction;
use crate::pci::msix::Vector;

const BAR: u32 = 0xD002_0000;
const STATUS: u64 = 0x14;

/// A vector that keeps what comes while it is muted.
#[derive(Default)]
struct Pending(Mutex<(bool, bool)>);

impl Vector for Pending {
    fn unmute(&self, _address: u64, _data: u32) -> io::Result<()> {
        *self.0.lock().unwrap() = (true, false);
        Ok(())
    }
    fn mute(&self) -> io::Result<()> {
        self.0.lock().unwrap().0 = false;
        Ok(())
    }
    fn pending(&self) -> bool {
        self.0.lock().unwrap().1
    }
    fn discard_pending(&self) {
        self.0.lock().unwrap().1 = false;
    }
    fn trigger(&self) {
        let mut state = self.0.lock().unwrap();
        state.1 |= !state.0;
    }
    fn descriptor(&self) -> io::Result<EventFd> {
        EventFd::new(EFD_NONBLOCK)
    }
}

/// A device on a bus, with a guest that can reach it in every way.
struct Bench {
    transport: PciTransport,
    vectors: Vec<Arc<Pending>>,
    queues: u64,
    guest: Guest,
}

/// What the guest can read of a device: of its function, and of what a reset by the driver covers.
#[derive(PartialEq, Eq)]
struct Registers {
    function: Vec<u8>,
    device: Vec<u8>,
}

/// Names the first byte that differs.
fn assert_same(got: &[u8], wanted: &[u8], what: &str) {
    assert_eq!(got.len(), wanted.len());
    for (position, (got, wanted)) in got.iter().zip(wanted).enumerate() {
        assert_eq!(got, wanted, "{what}: byte {position:#x}");
    }
}

impl Registers {
    fn assert_new(&self, new: &Self, what: &str) {
        assert_same(&self.function, &new.function, &format!("{what}: function"));
        assert_same(&self.device, &new.device, &format!("{what}: device"));
    }
}

impl Bench {
    fn new(device: Box<dyn VirtioDevice>, guest: Guest) -> Self {
        let vectors: Vec<Arc<Pending>> =
            (0..PciTransport::vectors(&*device)).map(|_| Arc::default()).collect();
        let of_transport = vectors.iter().map(|vector| Arc::<Pending>::clone(vector) as Arc<dyn Vector>);
        let queues = device.queue_sizes().len() as u64;
        let transport = PciTransport::new(
            device,
            guest.memory.clone(),
            of_transport.collect(),
            BAR,
            Arc::new(Unconfined),
        )
        .unwrap();
        Self { transport, vectors, queues, guest }
    }

    fn write(&mut self, offset: u64, value: u64, length: usize) {
        self.transport.bar_write(offset, &value.to_le_bytes()[..length]);
    }

    fn read(&mut self, offset: u64, length: usize) -> u64 {
        let mut bytes = [0; 8];
        self.transport.bar_read(offset, &mut bytes[..length]);
        u64::from_le_bytes(bytes)
    }

    fn bytes(&mut self, range: std::ops::Range<u64>) -> Vec<u8> {
        range.map(|offset| self.read(offset, 1) as u8).collect()
    }

    /// Reads everything. The selectors are read first and written then.
    fn registers(&mut self) -> Registers {
        let mut function = Vec::new();
        for offset in (0..4096).step_by(4) {
            let mut word = [0; 4];
            self.transport.config_read(offset, &mut word);
            function.extend(word);
        }
        function.extend(self.bytes(0x15..0x16));
        for offset in (0x4000..0x4000 + 16 * (self.queues + 2)).step_by(4) {
            function.extend((self.read(offset, 4) as u32).to_le_bytes());
        }
        let mut device = self.bytes(0..0x15);
        device.extend(self.bytes(0x5000..0x5010));
        device.extend(self.bytes(0x16..0x40));
        device.extend(self.bytes(0x1000..0x1010));
        device.extend(self.bytes(0x2000..0x2100));
        device.extend(self.bytes(0x3000..0x3100));
        for select in 0..3 {
            self.write(0, select, 4);
            self.write(8, select, 4);
            device.extend(self.bytes(0..0x10));
        }
        for queue in 0..=self.queues {
            self.write(0x16, queue, 2);
            device.extend(self.bytes(0x16..0x38));
        }
        Registers { function, device }
    }

    /// Agrees on features.
    fn negotiate(&mut self, features: u64) {
        self.write(STATUS, 0, 1);
        self.write(STATUS, 3, 1);
        for half in 0..2 {
            self.write(0, half, 4);
            let offered = self.read(4, 4);
            self.write(8, half, 4);
            self.write(12, if half == 0 { offered & features } else { offered }, 4);
        }
        self.write(STATUS, 11, 1);
        self.write(0x10, 0, 2);
    }

    /// Starts the device with a ring outside of memory, which it cannot do.
    fn fail(&mut self) {
        self.negotiate(0);
        self.write(0x16, 0, 2);
        self.write(0x20, 1 << 40, 8);
        self.write(0x1C, 1, 2);
        self.write(STATUS, 15, 1);
        assert_eq!(self.read(STATUS, 1), 15 | 64);
    }

    /// Sets the device up as a driver does; says whether it runs.
    fn start(&mut self, features: u64) -> bool {
        self.negotiate(features);
        for (number, active) in (0..).zip(self.guest.activation(0).queues) {
            use virtio_queue::QueueT;
            self.write(0x16, number, 2);
            self.write(0x1A, number + 1, 2);
            self.write(0x20, active.queue.desc_table(), 8);
            self.write(0x28, active.queue.avail_ring(), 8);
            self.write(0x30, active.queue.used_ring(), 8);
            self.write(0x1C, 1, 2);
        }
        self.write(STATUS, 15, 1);
        self.read(STATUS, 1) == 15
    }

    /// One thing that a guest does, sensible or not.
    fn act(&mut self, random: &mut Seeded) {
        let value = random.next();
        match random.below(13) {
            0 => {
                let length = 1 << random.below(3);
                let offset = random.below(64) * 4 + random.below(4 / length) * length;
                self.transport.config_write(offset as u16, &value.to_le_bytes()[..length as usize]);
            }
            // MSI-X on, its vectors with messages, some of them masked.
            1 => self.transport.config_write(0x42, &[0, 0x80]),
            2 => self.write(0x4000 + random.below(4 * (self.queues + 2)) * 4, value >> 32 & 0xFF01, 4),
            3 => {
                self.start(value);
            }
            4 => self.write(STATUS, value & 0x8F, 1),
            5 => self.write(random.below(0x40), value, random.below(9) as usize),
            6 => self.write(0x2000 + random.below(64), value, random.below(9) as usize),
            7 => self.write(random.below(0x8000), value, random.below(9) as usize),
            8 => {
                let vector = random.below(self.vectors.len() as u64) as usize;
                self.vectors[vector].trigger();
            }
            9 => self.fail(),
            _ => {
                // Chains that may mean anything, and a notification.
                let queue = random.below(self.queues) as usize;
                for slot in 0..4 {
                    let place = 0x20_0000 + random.below(MEMORY - 0x20_1000);
                    let flags = random.below(4) as u16;
                    let raw = super::test_guest::Raw { address: place, size: 512, flags, next: slot + 1 };
                    self.guest.describe(queue, slot, raw);
                    self.guest.offer(queue, slot);
                }
                self.write(0x3000 + 4 * queue as u64, 0, 2);
                std::thread::yield_now();
            }
        }
    }
}

/// Lets a random driver loose on what `make` makes, then resets it, and compares it with a new one.
pub(crate) fn returns_to_power_on(mut make: impl FnMut() -> (Box<dyn VirtioDevice>, Guest)) {
    let mut started = 0;
    let mut changed = 0;
    for seed in 0..24 {
        let mut bench = |()| {
            let (device, guest) = make();
            Bench::new(device, guest)
        };
        let new = bench(()).registers();
        let mut used = bench(());
        let mut random = Seeded(seed);
        for round in 0..3 {
            for _ in 0..40 {
                used.act(&mut random);
            }
            changed += u32::from(used.registers() != new);
            // The driver's own reset leaves the function alone, and makes the device new.
            used.write(STATUS, 0, 1);
            assert_same(
                &used.registers().device,
                &new.device,
                &format!("seed {seed}, round {round}, device reset"),
            );
            for _ in 0..40 {
                used.act(&mut random);
            }
            changed += u32::from(used.registers() != new);
            used.transport.reset();
            used.registers().assert_new(&new, &format!("seed {seed}, round {round}, machine reset"));
            for vector in &used.vectors {
                assert_eq!(*vector.0.lock().unwrap(), (false, false));
            }
            started += u32::from(used.start(u64::MAX));
            used.transport.reset();
            // The selectors were moved by looking; nothing else was.
            used.registers().assert_new(&new, &format!("seed {seed}, round {round}, reset while running"));
        }
    }
    assert_eq!(started, 24 * 3, "a device that was reset does not start");
    assert!(changed > 24 * 5, "the driver changed nothing: {changed}");
}
