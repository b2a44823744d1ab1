//! MSI-X (PCI 3.0, section 6.8.2): the capability, the table and the pending bits of one function.
//!
//! A vector is *live* when the function's enable bit is set and neither the function nor the vector is masked.
//! Only changes of that state, or of a live vector's message, reach [`Vector`].

use std::io;
use std::sync::Arc;

use vmm_sys_util::eventfd::EventFd;

/// Id of the capability.
pub const CAPABILITY: u8 = 0x11;

/// Message control: function masked.
const FUNCTION_MASK: u16 = 1 << 14;
/// Message control: enabled.
const ENABLE: u16 = 1 << 15;

/// Bytes of one table entry: address, data, vector control.
const ENTRY_SIZE: usize = 16;

/// The most vectors that [`Msix`] keeps pending bits for.
pub const MAX_VECTORS: u16 = 64;

/// The host's end of one vector.
pub trait Vector: Send + Sync {
    /// Send what is pending, and everything from now on, as a write of `data` to `address`.
    ///
    /// # Errors
    /// The vector stays as it was.
    fn unmute(&self, address: u64, data: u32) -> io::Result<()>;

    /// Keep what comes until unmuted.
    ///
    /// # Errors
    /// The vector stays as it was.
    fn mute(&self) -> io::Result<()>;

    /// Whether something came while muted.
    fn pending(&self) -> bool;

    /// Forget what came while muted.
    fn discard_pending(&self);

    /// Interrupt, or leave it pending while muted.
    fn trigger(&self);

    /// A descriptor that, when written, does what [`Vector::trigger`] does.
    ///
    /// # Errors
    /// What duplicating reports.
    fn descriptor(&self) -> io::Result<EventFd>;
}

/// One entry of the table, as the guest wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    bytes: [u8; ENTRY_SIZE],
}

impl Entry {
    /// Masked, all else zero: the state after reset.
    const RESET: Self = Self { bytes: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0] };

    fn address(self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.bytes;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    fn data(self) -> u32 {
        let [.., a, b, c, d, _, _, _, _] = self.bytes;
        u32::from_le_bytes([a, b, c, d])
    }

    fn masked(self) -> bool {
        let [.., control, _, _, _] = self.bytes;
        control & 1 != 0
    }
}

/// The table of one function.
pub struct Msix {
    vectors: Vec<Arc<dyn Vector>>,
    entries: Vec<Entry>,
    control: u16,
    /// What each vector was last told: `None` is muted.
    live: Vec<Option<(u64, u32)>>,
}

impl Msix {
    /// Makes the table with everything masked.
    ///
    /// # Panics
    /// When there is no vector, or more than [`MAX_VECTORS`].
    #[must_use]
    pub fn new(vectors: Vec<Arc<dyn Vector>>) -> Self {
        let count = vectors.len();
        assert!((1..=usize::from(MAX_VECTORS)).contains(&count), "1 to {MAX_VECTORS} vectors, not {count}");
        Self { entries: vec![Entry::RESET; count], live: vec![None; count], vectors, control: 0 }
    }

    /// The capability's body: message control, then table and pending bits at these offsets in BAR 0.
    #[must_use]
    pub fn capability(&self, table: u32, pending: u32) -> Vec<u8> {
        let last = u16::try_from(self.vectors.len().saturating_sub(1)).expect("at most 64 vectors");
        let mut body = last.to_le_bytes().to_vec();
        body.extend_from_slice(&table.to_le_bytes());
        body.extend_from_slice(&pending.to_le_bytes());
        body
    }

    /// What the guest may write in the capability's body.
    #[must_use]
    pub fn writable() -> [u8; 2] {
        (FUNCTION_MASK | ENABLE).to_le_bytes()
    }

    /// The guest wrote message control.
    pub fn set_control(&mut self, control: u16) {
        self.control = control & (FUNCTION_MASK | ENABLE);
        for index in 0..self.entries.len() {
            self.update(index);
        }
    }

    /// Reads the table.
    pub fn table_read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let Some((index, within)) = self.locate(offset, data.len())
            && let Some(entry) = self.entries.get(index)
            && let Some(source) = entry.bytes.get(within..within.saturating_add(data.len()))
        {
            data.copy_from_slice(source);
        }
    }

    /// Writes the table.
    pub fn table_write(&mut self, offset: u64, data: &[u8]) {
        if let Some((index, within)) = self.locate(offset, data.len())
            && let Some(entry) = self.entries.get_mut(index)
            && let Some(target) = entry.bytes.get_mut(within..within.saturating_add(data.len()))
        {
            target.copy_from_slice(data);
            self.update(index);
        }
    }

    /// Reads the pending bits.
    pub fn pending_read(&self, offset: u64, data: &mut [u8]) {
        let bits =
            self.vectors.iter().rev().fold(0_u64, |bits, vector| bits << 1 | u64::from(vector.pending()));
        let bytes = bits.to_le_bytes();
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        for (position, byte) in data.iter_mut().enumerate() {
            *byte = bytes.get(start.saturating_add(position)).copied().unwrap_or(0);
        }
    }

    /// Back to the state at power-on: every vector is masked and forgotten.
    pub fn reset(&mut self) {
        self.entries.fill(Entry::RESET);
        // Disabled, no vector is live.
        self.set_control(0);
        self.discard_pending();
    }

    /// Forgets what is pending: the device was reset. The table stays: it is the function's, not the device's.
    pub fn discard_pending(&self) {
        for vector in &self.vectors {
            vector.discard_pending();
        }
    }

    /// Entry and offset inside it of an access of 4 or 8 aligned bytes (section 6.8.2 allows no other).
    fn locate(&self, offset: u64, length: usize) -> Option<(usize, usize)> {
        let offset = usize::try_from(offset).ok()?;
        let valid = matches!(length, 4 | 8) && offset.is_multiple_of(length);
        valid.then_some((offset / ENTRY_SIZE, offset % ENTRY_SIZE))
    }

    /// Tells one vector what changed.
    fn update(&mut self, index: usize) {
        let (Some(vector), Some(entry), Some(live)) =
            (self.vectors.get(index), self.entries.get(index), self.live.get_mut(index))
        else {
            return;
        };
        let enabled = self.control & (ENABLE | FUNCTION_MASK) == ENABLE && !entry.masked();
        let wanted = enabled.then(|| (entry.address(), entry.data()));
        if wanted == *live {
            return;
        }
        let result = match wanted {
            Some((address, data)) => vector.unmute(address, data),
            None => vector.mute(),
        };
        match result {
            Ok(()) => *live = wanted,
            // The kernel refuses what a guest made up: it gets no interrupt, which is what it asked for.
            Err(error) => tracing::debug!(index, %error, "interrupt vector not changed"),
        }
    }
}
