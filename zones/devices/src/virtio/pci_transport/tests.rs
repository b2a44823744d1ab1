use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;
use vm_memory::{GuestAddress, GuestMemoryMmap};

use super::*;
use crate::virtio::threads::Unconfined;

const BAR: u32 = 0xD002_0000;
const MEMORY: usize = 1 << 20;

/// A device that remembers what the transport did with it.
#[derive(Default)]
struct State {
    active: Option<Activation>,
    resets: u32,
    fail: bool,
}

#[derive(Clone, Default)]
struct Fake(Arc<Mutex<State>>);

impl VirtioDevice for Fake {
    fn device_type(&self) -> u16 {
        2
    }
    fn queue_sizes(&self) -> &[u16] {
        &[16, 4]
    }
    fn features(&self) -> u64 {
        1 << 9 | 1 << 29
    }
    fn read_config(&self, offset: u32, data: &mut [u8]) {
        data.fill(u8::try_from(offset & 0xFF).unwrap());
    }
    fn activate(&mut self, activation: Activation) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        if state.fail {
            return Err(io::ErrorKind::Other.into());
        }
        assert!(state.active.is_none(), "activated twice");
        state.active = Some(activation);
        Ok(())
    }
    fn reset(&mut self) {
        let mut state = self.0.lock().unwrap();
        state.active = None;
        state.resets += 1;
    }
}

/// Counts what would interrupt the guest.
#[derive(Default)]
struct Count(AtomicU32);

impl Vector for Count {
    fn unmute(&self, _address: u64, _data: u32) -> io::Result<()> {
        Ok(())
    }
    fn mute(&self) -> io::Result<()> {
        Ok(())
    }
    fn pending(&self) -> bool {
        false
    }
    fn discard_pending(&self) {}
    fn trigger(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
    fn descriptor(&self) -> io::Result<EventFd> {
        EventFd::new(0)
    }
}

struct Bench {
    transport: PciTransport,
    device: Fake,
    vectors: Vec<Arc<Count>>,
}

impl Bench {
    fn new() -> Self {
        let device = Fake::default();
        let vectors: Vec<Arc<Count>> = (0..3).map(|_| Arc::default()).collect();
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY)]).unwrap();
        let of_transport =
            vectors.iter().map(|count| Arc::<Count>::clone(count) as Arc<dyn Vector>).collect();
        let boxed = Box::new(device.clone());
        let transport =
            PciTransport::new(boxed, GuestMemory::new(memory), of_transport, BAR, Arc::new(Unconfined))
                .unwrap();
        Self { transport, device, vectors }
    }

    fn write(&mut self, offset: u64, value: u64, length: usize) {
        self.transport.bar_write(offset, &value.to_le_bytes()[..length]);
    }

    fn read(&mut self, offset: u64, length: usize) -> u64 {
        let mut bytes = [0; 8];
        self.transport.bar_read(offset, &mut bytes[..length]);
        u64::from_le_bytes(bytes)
    }

    /// Feature negotiation as far as FEATURES_OK. Returns the status read back.
    fn negotiate(&mut self, features: u64) -> u64 {
        self.write(0x14, 0, 1);
        self.write(0x14, 3, 1);
        self.write(8, 0, 4);
        self.write(12, features & 0xFFFF_FFFF, 4);
        self.write(8, 1, 4);
        self.write(12, features >> 32, 4);
        self.write(0x14, 11, 1);
        self.read(0x14, 1)
    }

    /// Sets a queue up at `base`, with its own vector.
    fn queue(&mut self, number: u64, size: u64, base: u64) {
        self.write(0x16, number, 2);
        self.write(0x18, size, 2);
        self.write(0x1A, number + 1, 2);
        self.write(0x20, base, 4);
        self.write(0x24, base >> 32, 4);
        self.write(0x28, base.wrapping_add(0x1000), 8);
        self.write(0x30, base.wrapping_add(0x2000), 8);
        self.write(0x1C, 1, 2);
    }

    fn is_active(&self) -> bool {
        self.device.0.lock().unwrap().active.is_some()
    }
}

#[test]
fn a_driver_starts_the_device_is_interrupted_and_resets_it() {
    let mut bench = Bench::new();
    assert_eq!(bench.read(0x12, 2), 2);
    assert_eq!(bench.read(4, 4), 1 << 9 | 1 << 29);
    bench.write(0, 1, 4);
    assert_eq!(bench.read(4, 4), 1);
    assert_eq!(bench.negotiate(1 << 32 | 1 << 29), 11);
    bench.write(0x10, 0, 2);
    bench.queue(1, 2, 0x4000);
    assert_eq!(
        [bench.read(0x18, 2), bench.read(0x1A, 2), bench.read(0x1C, 2), bench.read(0x1E, 2)],
        [2, 2, 1, 1]
    );
    assert!(!bench.is_active());
    bench.write(0x14, 15, 1);
    {
        let state = bench.device.0.lock().unwrap();
        let active = state.active.as_ref().unwrap();
        assert_eq!(active.features, 1 << 32 | 1 << 29);
        assert_eq!(active.queues.len(), 1);
        assert_eq!((active.queues[0].index, active.queues[0].queue.size()), (1, 2));
        active.interrupt.signal_queue(1);
        active.interrupt.signal_queue(0);
    }
    let counts =
        |bench: &Bench| bench.vectors.iter().map(|count| count.0.load(Ordering::SeqCst)).collect::<Vec<_>>();
    assert_eq!(counts(&bench), [0, 0, 1]);
    assert_eq!(bench.read(0x1000, 1), 1);
    assert_eq!(bench.read(0x1000, 1), 0);
    // A notification that no event descriptor caught.
    bench.write(0x3004, 1, 2);
    assert_eq!(bench.device.0.lock().unwrap().active.as_ref().unwrap().queues[0].kick.read().unwrap(), 1);
    // Configuration: generation and vector.
    bench.device.0.lock().unwrap().active.as_ref().unwrap().interrupt.signal_config();
    assert_eq!((counts(&bench), bench.read(0x15, 1), bench.read(0x1000, 1)), (vec![1, 0, 1], 1, 2));
    assert_eq!(bench.read(0x2007, 1), 7);

    bench.write(0x3004, 1, 2);
    bench.write(0x14, 0, 1);
    assert!(!bench.is_active());
    bench.write(0x16, 1, 2);
    assert_eq!(
        [bench.read(0x14, 1), bench.read(0x18, 2), bench.read(0x1A, 2), bench.read(0x1C, 2)],
        [0, 4, 0xFFFF, 0]
    );
    assert_eq!([bench.read(0x10, 2), bench.read(0x20, 8)], [0xFFFF, 0]);
    // The notification before the reset is forgotten.
    assert!(bench.transport.kicks[1].read().is_err());
}

#[test]
fn features_that_were_not_offered_or_without_version_1_are_refused() {
    for features in [1 << 32 | 1 << 5, 1 << 29, 0] {
        let mut bench = Bench::new();
        assert_eq!(bench.negotiate(features), 3, "{features:#x}");
        bench.write(0x14, 15, 1);
        assert_eq!(bench.read(0x14, 1) & 4, 0);
        assert!(!bench.is_active());
    }
}

#[test]
fn a_queue_that_is_no_ring_in_memory_breaks_the_device_until_reset() {
    let beyond = u64::try_from(MEMORY).unwrap();
    for (size, base) in
        [(3, 0x4000), (32, 0x4000), (0, 0x4000), (4, beyond), (4, u64::MAX - 0xFFF), (4, 0x4001)]
    {
        let mut bench = Bench::new();
        bench.negotiate(1 << 32);
        bench.write(0x10, 0, 2);
        bench.queue(0, size, base);
        bench.write(0x14, 15, 1);
        assert!(!bench.is_active(), "{size} at {base:#x}");
        assert_eq!(bench.read(0x14, 1), 15 | 64);
        assert_eq!(bench.vectors[0].0.load(Ordering::SeqCst), 1);
        bench.write(0x14, 0, 1);
        assert_eq!(bench.read(0x14, 1), 0);
    }
}

#[test]
fn a_device_that_cannot_start_needs_a_reset() {
    let mut bench = Bench::new();
    bench.device.0.lock().unwrap().fail = true;
    bench.negotiate(1 << 32);
    bench.write(0x14, 15, 1);
    assert_eq!(bench.read(0x14, 1), 15 | 64);
}

#[test]
fn queues_and_features_are_fixed_once_agreed() {
    let mut bench = Bench::new();
    bench.negotiate(1 << 32);
    bench.queue(0, 4, 0x4000);
    bench.write(0x20, 0x8000, 8);
    bench.write(0x18, 2, 2);
    bench.write(12, 0xFFFF, 4);
    assert_eq!([bench.read(0x20, 8), bench.read(0x18, 2), bench.read(12, 4)], [0x4000, 4, 1]);
    // There is no third queue and no fourth vector.
    bench.write(0x1A, 3, 2);
    assert_eq!(bench.read(0x1A, 2), 0xFFFF);
    bench.write(0x16, 2, 2);
    assert_eq!(bench.read(0x18, 2), 0);
}

#[test]
fn the_capabilities_describe_the_bar() {
    let mut bench = Bench::new();
    let mut config = |offset: u16, length: usize| {
        let mut bytes = [0; 4];
        bench.transport.config_read(offset, &mut bytes[..length]);
        u32::from_le_bytes(bytes)
    };
    assert_eq!(config(0, 4), 0x1042_1AF4);
    let mut found = Vec::new();
    let mut at = u16::try_from(config(0x34, 1)).unwrap();
    while at != 0 {
        match config(at, 1) {
            0x11 => {
                assert_eq!([config(at + 2, 2), config(at + 4, 4), config(at + 8, 4)], [2, TABLE, PENDING]);
            }
            0x09 => {
                found.push((config(at + 3, 1), config(at + 8, 4)));
                assert_eq!((config(at + 4, 1), config(at + 12, 4)), (0, PART), "capability at {at:#x}");
            }
            other => panic!("capability {other:#x}"),
        }
        at = u16::try_from(config(at + 1, 1)).unwrap();
    }
    assert_eq!(found, [(1, COMMON), (3, STATUS), (4, DEVICE), (2, NOTIFY), (5, 0)]);
}

#[test]
fn the_bar_is_reached_through_configuration_space() {
    let mut bench = Bench::new();
    let window = bench.transport.window_capability;
    let mut access = |start: u32, length: u32, write: Option<u8>| {
        bench.transport.config_write(window + 4, &[0]);
        bench.transport.config_write(window + 8, &start.to_le_bytes());
        bench.transport.config_write(window + 12, &length.to_le_bytes());
        if let Some(value) = write {
            bench.transport.config_write(window + 16, &[value, 0, 0, 0]);
        }
        let mut bytes = [0xEE; 4];
        bench.transport.config_read(window + 16, &mut bytes);
        u32::from_le_bytes(bytes)
    };
    assert_eq!(access(0x12, 2, None) & 0xFFFF, 2);
    assert_eq!(access(0x14, 1, Some(3)) & 0xFF, 3);
    // Not aligned, too wide, beyond the BAR.
    assert_eq!([access(0x13, 2, None), access(0, 8, None), access(BAR_SIZE, 4, None)], [0; 3]);
}

proptest! {
    /// A driver that writes anything anywhere: no panic, and the device is active only with DRIVER_OK.
    #[test]
    fn property_any_driver_is_survived(
        steps in prop::collection::vec((0_u64..0x8100, 0_usize..=8, any::<u64>(), 0_u8..8), 0..300)
    ) {
        let mut bench = Bench::new();
        for (offset, length, value, kind) in steps {
            match kind {
                0 => { bench.read(offset, length); }
                1 => bench.write(offset, value, length),
                2 => bench.write(0x14, value & 0x8F, 1),
                3 => { bench.negotiate(1 << 32); }
                4 => bench.queue(value & 3, value >> 8 & 31, value >> 16 & 0x1F_FFFF),
                5 => bench.transport.config_write(u16::try_from(offset % 0x100).unwrap() & !3, &value.to_le_bytes()[..4]),
                _ => bench.write((offset % 0x38) & !1, value, 2),
            }
            let status = bench.read(0x14, 1);
            if bench.is_active() {
                prop_assert_eq!(status & 0x4C, 0x0C);
            }
        }
    }
}
