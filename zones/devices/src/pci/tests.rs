use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use proptest::prelude::*;
use vmm_sys_util::eventfd::EventFd;

use super::config::{Bar, ConfigSpace, Identity};
use super::host_bridge::HostBridge;
use super::msix::{Msix, Vector};
use super::*;

const IDENTITY: Identity =
    Identity { vendor: 0x1AF4, device: 0x1042, class: 0x01_80_00, revision: 1, subsystem: (0x1AF4, 0x1042) };

fn space() -> ConfigSpace {
    ConfigSpace::new(IDENTITY, Some(Bar { address: 0xD002_0000, size: 0x8000 }))
}

#[test]
fn identity_and_capability_list() {
    let mut space = space();
    let first = space.add_capability(0x11, &[1, 0, 2, 3]);
    let second = space.add_capability(0x09, &[0xAA; 14]);
    assert_eq!(space.word(0), 0x1042_1AF4);
    assert_eq!(space.word(8), 0x0180_0001);
    assert_eq!(space.word(0x2C), 0x1042_1AF4);
    assert_eq!(space.half_word(6) & 0x10, 0x10);
    assert_eq!(space.word(0x34) & 0xFF, u32::from(first));
    assert_eq!(space.word(first) & 0xFFFF, u32::from(second) << 8 | 0x11);
    assert_eq!(space.word(second) & 0xFFFF, 0x09);
}

#[test]
fn the_bar_answers_a_size_probe_and_never_moves() {
    let mut space = space();
    assert_eq!(space.word(0x10), 0xD002_0000);
    space.write(0x10, &[0xFF; 4]);
    assert_eq!(space.word(0x10), 0xFFFF_8000);
    space.write(0x10, &0xD400_0000_u32.to_le_bytes());
    assert_eq!(space.word(0x10), 0xD002_0000);
    space.write(0x10, &[0xFF]);
    assert_eq!(space.word(0x10), 0xD002_0000);
    // The other BARs are not there.
    space.write(0x14, &[0xFF; 4]);
    assert_eq!(space.word(0x14), 0);
}

#[test]
fn a_bus_without_a_function_reads_all_ones() {
    let mut bus = PciBus::default();
    bus.add(Box::new(HostBridge::default())).unwrap();
    let read = |offset, length| {
        let mut data = vec![0; length];
        bus.config_read(offset, &mut data);
        data
    };
    assert_eq!(read(0, 4), [0x36, 0x1B, 0x08, 0x00]);
    assert_eq!(read(2, 2), [0x08, 0x00]);
    // Function 1, device 1, an access across registers, an access of no width.
    for (offset, length) in [(0x1000, 4), (0x8000, 4), (2, 4), (0, 8)] {
        assert_eq!(read(offset, length), vec![0xFF; length]);
    }
    let mut data = [0; 4];
    bus.bar_read(BAR_STRIDE, &mut data);
    assert_eq!(data, [0xFF; 4]);
}

#[test]
fn a_bus_takes_32_devices() {
    let mut bus = PciBus::default();
    for number in 0..MAX_DEVICES {
        assert_eq!(bus.add(Box::new(HostBridge::default())).unwrap(), number);
    }
    assert!(bus.add(Box::new(HostBridge::default())).is_err());
}

/// Records what it is told; can refuse.
#[derive(Default)]
struct Recorder {
    live: AtomicBool,
    data: AtomicU32,
    changes: AtomicU32,
    refuse: AtomicBool,
    waiting: AtomicBool,
}

impl Vector for Recorder {
    fn unmute(&self, _address: u64, data: u32) -> io::Result<()> {
        self.changes.fetch_add(1, Ordering::SeqCst);
        if self.refuse.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.live.store(true, Ordering::SeqCst);
        self.data.store(data, Ordering::SeqCst);
        Ok(())
    }
    fn mute(&self) -> io::Result<()> {
        self.changes.fetch_add(1, Ordering::SeqCst);
        self.live.store(false, Ordering::SeqCst);
        Ok(())
    }
    fn pending(&self) -> bool {
        self.waiting.load(Ordering::SeqCst)
    }
    fn discard_pending(&self) {
        self.waiting.store(false, Ordering::SeqCst);
    }
    fn trigger(&self) {
        self.waiting.store(!self.live.load(Ordering::SeqCst), Ordering::SeqCst);
    }
    fn descriptor(&self) -> io::Result<EventFd> {
        EventFd::new(0)
    }
}

fn table(count: usize) -> (Msix, Vec<Arc<Recorder>>) {
    let recorders: Vec<Arc<Recorder>> = (0..count).map(|_| Arc::default()).collect();
    let vectors =
        recorders.iter().map(|recorder| Arc::<Recorder>::clone(recorder) as Arc<dyn Vector>).collect();
    (Msix::new(vectors), recorders)
}

#[test]
fn a_vector_is_live_only_when_nothing_masks_it() {
    let (mut msix, recorders) = table(2);
    let live = || recorders.iter().map(|recorder| recorder.live.load(Ordering::SeqCst)).collect::<Vec<_>>();
    msix.table_write(16, &0xFEE0_0000_u64.to_le_bytes());
    msix.table_write(24, &0x41_u32.to_le_bytes());
    msix.table_write(28, &[0; 4]);
    assert_eq!(live(), [false, false]);
    msix.set_control(0xC000);
    assert_eq!(live(), [false, false]);
    msix.set_control(0x8000);
    assert_eq!(live(), [false, true]);
    assert_eq!(recorders[1].data.load(Ordering::SeqCst), 0x41);
    // Nothing new: nobody is told.
    msix.set_control(0x8000);
    msix.table_write(28, &[0; 4]);
    assert_eq!(recorders[1].changes.load(Ordering::SeqCst), 1);
    msix.table_write(28, &[1, 0, 0, 0]);
    assert_eq!(live(), [false, false]);
    recorders[1].trigger();
    let mut bits = [0; 8];
    msix.pending_read(0, &mut bits);
    assert_eq!(bits, [2, 0, 0, 0, 0, 0, 0, 0]);
    let mut entry = [0; 8];
    msix.table_read(24, &mut entry);
    assert_eq!(entry, [0x41, 0, 0, 0, 1, 0, 0, 0]);
}

#[test]
fn a_refused_message_leaves_the_vector_as_it_was() {
    let (mut msix, recorders) = table(1);
    recorders[0].refuse.store(true, Ordering::SeqCst);
    msix.table_write(12, &[0; 4]);
    msix.set_control(0x8000);
    recorders[0].refuse.store(false, Ordering::SeqCst);
    // The next change tries again.
    msix.table_write(8, &[7, 0, 0, 0]);
    assert!(recorders[0].live.load(Ordering::SeqCst));
}

proptest! {
    /// Whatever is read or written where: no panic, and what must not change does not.
    #[test]
    fn property_any_access_is_survived(
        accesses in prop::collection::vec((any::<u64>(), 0_usize..=8, any::<u64>(), 0_u8..6), 0..200)
    ) {
        let (mut msix, _recorders) = table(3);
        let mut space = space();
        let mut bus = PciBus::default();
        bus.add(Box::new(HostBridge::default())).unwrap();
        for (offset, length, value, kind) in accesses {
            let mut data = value.to_le_bytes()[..length].to_vec();
            let near = offset % 0x120;
            match kind {
                0 => msix.table_write(near, &data),
                1 => msix.table_read(offset, &mut data),
                2 => msix.pending_read(offset, &mut data),
                3 => space.write(u16::try_from(near).unwrap(), &data),
                4 => space.read(u16::try_from(offset % 0x1_0000).unwrap(), &mut data),
                _ => {
                    bus.config_write(offset % 0x2000, &data);
                    bus.bar_write(offset, &data);
                    bus.bar_read(offset, &mut data);
                }
            }
        }
        prop_assert_eq!(space.word(0), 0x1042_1AF4);
        let bar = space.word(0x10);
        prop_assert!(bar == 0xD002_0000 || bar == 0xFFFF_8000);
    }
}

#[test]
fn a_reset_of_the_bus_reaches_every_function() {
    let mut bus = PciBus::default();
    bus.add(Box::new(HostBridge::default())).unwrap();
    bus.add(Box::new(crate::pvpanic::Pvpanic::new(0xD001_0000, Arc::new(|| {})))).unwrap();
    let read = |bus: &PciBus| {
        let mut words = Vec::new();
        for offset in (0..2 * FUNCTION_SIZE * FUNCTIONS).step_by(4) {
            let mut word = [0; 4];
            bus.config_read(offset, &mut word);
            words.push(word);
        }
        words
    };
    let new = read(&bus);
    for device in 0..2 {
        for register in [4, 0x10, 0x3C] {
            bus.config_write(device * FUNCTION_SIZE * FUNCTIONS + register, &[0xFF; 4]);
        }
    }
    let changed = read(&bus).iter().zip(&new).filter(|(now, then)| now != then).count();
    // Command and interrupt line of both, and the size of the one BAR.
    assert_eq!(changed, 5);
    bus.reset();
    assert!(read(&bus) == new);
}
