//! The bus and the devices without rings, attacked by a guest's loads and stores.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use devices::pci::host_bridge::HostBridge;
use devices::pci::{self, PciBus, PciFunction};
use devices::power;
use devices::pvpanic::Pvpanic;
use devices::virtio::pci_transport::PciTransport;
use devices::virtio::rng::Rng;
use devices::virtio::threads::Unconfined;

use crate::cursor::Cursor;
use crate::guest::{lines, memory};

/// The most accesses of one input.
const STEPS: usize = 400;

/// Base address of the third device's BAR, which never moves.
const BAR: u32 = 0xD002_0000;

/// Any access to the whole bus: configuration space, BARs, MSI-X tables. The BAR stays where it is, and what is
/// not there reads as all ones.
pub(crate) fn pci(bytes: &[u8]) {
    let mut cursor = Cursor::new(bytes);
    let mut bus = PciBus::default();
    bus.add(Box::new(HostBridge::default())).expect("room on the bus");
    bus.add(Box::new(Pvpanic::new(0xD001_0000, Arc::new(|| {})))).expect("room on the bus");
    let device = Rng::new();
    let vectors = lines(PciTransport::vectors(&device));
    let transport = PciTransport::new(Box::new(device), memory(), vectors, BAR, Arc::new(Unconfined))
        .expect("a transport");
    bus.add(Box::new(transport)).expect("room on the bus");
    let function = |number: u64| number * 0x8000;
    for _ in 0..STEPS {
        if cursor.is_empty() {
            break;
        }
        let choice = cursor.u8();
        let length = [1, 2, 4, 8, 3, 0][cursor.below(6)];
        let value = cursor.array::<8>();
        let mut read = [0x5A; 8];
        if choice & 1 == 0 {
            let near = [function(2), function(1), function(0), function(3), function(2) + 0x1000, 0xF_F000];
            let offset = cursor.number(&near).wrapping_add(u64::from(cursor.u8()));
            match choice & 2 {
                0 => bus.config_read(offset, &mut read[..length]),
                _ => bus.config_write(offset, &value[..length]),
            }
        } else {
            let near = [0x2_0000, 0x2_1000, 0x2_2000, 0x2_3000, 0x2_4000, 0x2_5000, 0x1_0000, 0, 0x3_0000];
            let offset = cursor.number(&near).wrapping_add(u64::from(cursor.u8()));
            match choice & 2 {
                0 => bus.bar_read(offset, &mut read[..length]),
                _ => bus.bar_write(offset, &value[..length]),
            }
        }
        assert_eq!(&read[length..], &[0x5A; 8][length..], "a load wrote past its end");
    }
    let mut bar = [0; 4];
    bus.config_write(function(2) + 0x10, &[0; 4]);
    bus.config_read(function(2) + 0x10, &mut bar);
    assert_eq!(u32::from_le_bytes(bar), BAR, "the BAR moved");
    let mut identity = [0; 4];
    bus.config_read(function(2), &mut identity);
    assert_eq!(identity, [0xF4, 0x1A, 0x44, 0x10], "the identity changed");
    bus.config_read(function(u64::from(pci::MAX_DEVICES) - 1), &mut identity);
    assert_eq!(identity, [0xFF; 4], "something appeared on the bus");
    bus.stop();
}

/// The panic device: it reports exactly the writes to its one register that say "panicked".
pub(crate) fn pvpanic(bytes: &[u8]) {
    let mut cursor = Cursor::new(bytes);
    let count = Arc::new(AtomicU64::new(0));
    let reported = Arc::clone(&count);
    let reports = Arc::new(move || {
        reported.fetch_add(1, Ordering::Relaxed);
    });
    let mut device = Pvpanic::new(BAR, reports);
    let mut expected = 0;
    for _ in 0..STEPS {
        if cursor.is_empty() {
            break;
        }
        let (choice, length) = (cursor.u8(), [1, 2, 4, 8, 0][cursor.below(5)]);
        let offset = cursor.number(&[0, 1, 4, 15, 16]);
        let value = cursor.array::<8>();
        let mut read = [0; 8];
        match choice & 3 {
            0 => device.bar_read(offset, &mut read[..length]),
            1 => {
                expected += u64::from(offset == 0 && length > 0 && value[0] & 1 != 0);
                device.bar_write(offset, &value[..length]);
            }
            2 => device.config_read(offset.to_le_bytes()[0].into(), &mut read[..length]),
            _ => device.config_write(offset.to_le_bytes()[0].into(), &value[..length]),
        }
    }
    assert_eq!(count.load(Ordering::Relaxed), expected, "reports do not match the guest's writes");
}

/// The power ports: only their own ports answer, and only the two documented writes ask for anything.
pub(crate) fn power(bytes: &[u8]) {
    let mut cursor = Cursor::new(bytes);
    for _ in 0..STEPS {
        if cursor.is_empty() {
            return;
        }
        let near = [power::SLEEP_CONTROL, power::SLEEP_STATUS, power::RESET].map(u64::from);
        let port = u16::try_from(cursor.number(&near) & 0xFFFF).expect("16 bits");
        let value = cursor.u8();
        let ours = (power::SLEEP_CONTROL..=power::RESET).contains(&port);
        assert_eq!(power::read(port), ours.then_some(0));
        let asked = power::request(port, value);
        let expected = if port == power::SLEEP_CONTROL && value & 0x3C == 0x34 {
            Some(power::Request::PowerOff)
        } else if port == power::RESET && value == power::RESET_VALUE {
            Some(power::Request::Reset)
        } else {
            None
        };
        assert_eq!(asked, expected, "port {port:#x}, value {value:#x}");
    }
}
