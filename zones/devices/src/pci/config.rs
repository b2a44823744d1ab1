//! Type-0 configuration space: bytes, and which of their bits the guest may write.

/// Size of what a conventional function has. The rest of its 4 KiB reads as zero: no extended capabilities.
pub const SIZE: usize = 256;

const VENDOR_ID: usize = 0x00;
const COMMAND: usize = 0x04;
const STATUS: usize = 0x06;
const REVISION: usize = 0x08;
const BAR0: usize = 0x10;
const SUBSYSTEM_VENDOR: usize = 0x2C;
const CAPABILITIES: usize = 0x34;
const INTERRUPT_LINE: usize = 0x3C;
const FIRST_CAPABILITY: usize = 0x40;

/// Command: memory space, bus master, interrupt disable.
const COMMAND_WRITABLE: u16 = 1 << 1 | 1 << 2 | 1 << 10;

/// Status: the capability list is there.
const STATUS_CAPABILITIES: u16 = 1 << 4;

/// Who a function is.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// Vendor.
    pub vendor: u16,
    /// Device.
    pub device: u16,
    /// Base class, sub-class, interface: `0xBBSSII`.
    pub class: u32,
    /// Revision.
    pub revision: u8,
    /// Subsystem's vendor and number.
    pub subsystem: (u16, u16),
}

/// The BAR as the VMM placed it.
#[derive(Clone, Copy, Debug)]
pub struct Bar {
    /// Guest-physical address, a multiple of the size.
    pub address: u32,
    /// A power of two, at least 16.
    pub size: u32,
}

/// Configuration space of one function with at most one 32-bit memory BAR.
#[derive(Debug)]
pub struct ConfigSpace {
    bytes: [u8; SIZE],
    at_power_on: [u8; SIZE],
    writable: [u8; SIZE],
    bar: Option<Bar>,
    /// The guest wrote all ones: the BAR reads as its size.
    probing: bool,
    next_capability: usize,
    last_link: usize,
}

impl ConfigSpace {
    /// Makes the space without capabilities.
    #[must_use]
    pub fn new(identity: Identity, bar: Option<Bar>) -> Self {
        let mut space = Self {
            bytes: [0; SIZE],
            at_power_on: [0; SIZE],
            writable: [0; SIZE],
            bar,
            probing: false,
            next_capability: FIRST_CAPABILITY,
            last_link: CAPABILITIES,
        };
        let [interface, sub, base, _] = identity.class.to_le_bytes();
        space.put(VENDOR_ID, &identity.vendor.to_le_bytes());
        space.put(VENDOR_ID + 2, &identity.device.to_le_bytes());
        space.put(REVISION, &[identity.revision, interface, sub, base]);
        space.put(SUBSYSTEM_VENDOR, &identity.subsystem.0.to_le_bytes());
        space.put(SUBSYSTEM_VENDOR + 2, &identity.subsystem.1.to_le_bytes());
        space.allow(COMMAND, &COMMAND_WRITABLE.to_le_bytes());
        // Software keeps its notes there; without an interrupt pin the value means nothing.
        space.allow(INTERRUPT_LINE, &[0xFF]);
        space
    }

    /// Appends a capability: `body` follows its id and link. Returns where it starts.
    ///
    /// # Panics
    /// When the capabilities do not fit 256 bytes: the VMM chooses them, not the guest.
    pub fn add_capability(&mut self, id: u8, body: &[u8]) -> u16 {
        let at = self.next_capability;
        self.put(at, &[id, 0]);
        self.put(at.saturating_add(2), body);
        let link = u8::try_from(at).expect("capabilities lie in the first 256 bytes");
        self.put(self.last_link, &[link]);
        self.last_link = at.saturating_add(1);
        self.next_capability = at.saturating_add(2).saturating_add(body.len()).next_multiple_of(4);
        self.put(STATUS, &STATUS_CAPABILITIES.to_le_bytes());
        u16::from(link)
    }

    /// Back to the state at power-on.
    pub fn reset(&mut self) {
        self.bytes = self.at_power_on;
        self.probing = false;
    }

    /// Lets the guest write the bits of `mask` from `offset` on. Those outside the space stay as they are.
    pub fn allow(&mut self, offset: usize, mask: &[u8]) {
        for (writable, bits) in self.writable.iter_mut().skip(offset).zip(mask) {
            *writable = *bits;
        }
    }

    /// Reads; outside the 256 bytes everything is zero.
    pub fn read(&self, offset: u16, data: &mut [u8]) {
        let bar = self.bar_register();
        for (position, byte) in (usize::from(offset)..).zip(data.iter_mut()) {
            let in_bar = position.checked_sub(BAR0).and_then(|at| bar.get(at));
            *byte = in_bar.or_else(|| self.bytes.get(position)).copied().unwrap_or(0);
        }
    }

    /// Writes what may be written.
    pub fn write(&mut self, offset: u16, data: &[u8]) {
        if usize::from(offset) == BAR0 && self.bar.is_some() {
            self.probing = *data == [0xFF; 4];
            return;
        }
        for (position, new) in (usize::from(offset)..).zip(data) {
            if let (Some(byte), Some(mask)) = (self.bytes.get_mut(position), self.writable.get(position)) {
                *byte = (*byte & !mask) | (new & mask);
            }
        }
    }

    /// A little-endian half-word, for the registers that the function itself looks at.
    #[must_use]
    pub fn half_word(&self, offset: u16) -> u16 {
        let mut bytes = [0; 2];
        self.read(offset, &mut bytes);
        u16::from_le_bytes(bytes)
    }

    /// A little-endian word, likewise.
    #[must_use]
    pub fn word(&self, offset: u16) -> u32 {
        let mut bytes = [0; 4];
        self.read(offset, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    /// What BAR 0 reads as.
    fn bar_register(&self) -> [u8; 4] {
        let value = match self.bar {
            // The low bits of a 32-bit memory BAR that may not be prefetched are all zero.
            Some(bar) if self.probing => !(bar.size.wrapping_sub(1)),
            Some(bar) => bar.address,
            None => 0,
        };
        value.to_le_bytes()
    }

    /// Sets bytes that the guest sees.
    fn put(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset.saturating_add(bytes.len());
        for space in [&mut self.bytes, &mut self.at_power_on] {
            space
                .get_mut(offset..end)
                .expect("the VMM's own registers lie in the first 256 bytes")
                .copy_from_slice(bytes);
        }
    }
}
