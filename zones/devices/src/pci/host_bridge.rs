//! Device 0: the host bridge. It does nothing; software looks for one.

use super::PciFunction;
use super::config::{ConfigSpace, Identity};

/// A host bridge without registers.
#[derive(Debug)]
pub struct HostBridge {
    config: ConfigSpace,
}

impl Default for HostBridge {
    fn default() -> Self {
        let identity = Identity {
            // Red Hat's generic PCIe host bridge: no driver binds to it and no quirk applies.
            vendor: 0x1B36,
            device: 0x0008,
            class: 0x06_00_00,
            revision: 0,
            subsystem: (0, 0),
        };
        Self { config: ConfigSpace::new(identity, None) }
    }
}

impl PciFunction for HostBridge {
    fn config_read(&mut self, offset: u16, data: &mut [u8]) {
        self.config.read(offset, data);
    }

    fn config_write(&mut self, offset: u16, data: &[u8]) {
        self.config.write(offset, data);
    }

    fn bar_read(&mut self, _offset: u64, _data: &mut [u8]) {}

    fn bar_write(&mut self, _offset: u64, _data: &[u8]) {}

    fn reset(&mut self) {
        self.config.reset();
    }
}
