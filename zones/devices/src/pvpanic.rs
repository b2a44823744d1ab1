//! pvpanic: the PCI function on which a guest's kernel says that it panicked.
//!
//! One byte register: reading it says which events are known, writing it reports them (QEMU's
//! `docs/specs/pvpanic.rst`). Only "panicked" is known.

use std::sync::Arc;

use crate::pci::PciFunction;
use crate::pci::config::{Bar, ConfigSpace, Identity};

/// Size of the BAR.
const BAR_SIZE: u32 = 16;

/// Event: the kernel panicked.
const PANICKED: u8 = 1;

/// The function.
pub struct Pvpanic {
    config: ConfigSpace,
    panicked: Arc<dyn Fn() + Send + Sync>,
}

impl Pvpanic {
    /// Makes the function with its BAR at `address`; `panicked` is called on the processor that reported.
    #[must_use]
    pub fn new(address: u32, panicked: Arc<dyn Fn() + Send + Sync>) -> Self {
        let identity = Identity {
            vendor: 0x1B36,
            device: 0x0011,
            class: 0x08_80_00,
            revision: 1,
            subsystem: (0x1AF4, 0x1100),
        };
        Self { config: ConfigSpace::new(identity, Some(Bar { address, size: BAR_SIZE })), panicked }
    }
}

impl PciFunction for Pvpanic {
    fn config_read(&mut self, offset: u16, data: &mut [u8]) {
        self.config.read(offset, data);
    }

    fn config_write(&mut self, offset: u16, data: &[u8]) {
        self.config.write(offset, data);
    }

    fn bar_read(&mut self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let (0, Some(byte)) = (offset, data.first_mut()) {
            *byte = PANICKED;
        }
    }

    fn bar_write(&mut self, offset: u64, data: &[u8]) {
        if let (0, Some(events)) = (offset, data.first())
            && events & PANICKED != 0
        {
            (self.panicked)();
        }
    }

    fn reset(&mut self) {
        self.config.reset();
    }
}
