//! One PCI bus, reached through memory alone (ECAM): no port-based configuration, no bridges, no hot-plug.
//!
//! Every function is device number N, function 0, and has at most one memory BAR. The VMM places the BAR and
//! it stays there: a size probe works, a move is ignored, so that event descriptors bound to addresses never
//! need to follow. Interrupts are MSI-X only. What is not there reads as all ones.

use std::sync::{Mutex, PoisonError};

pub mod config;
pub mod host_bridge;
pub mod msix;

/// Bytes of one function's configuration space in the window.
const FUNCTION_SIZE: u64 = 4096;

/// Functions of one device.
const FUNCTIONS: u64 = 8;

/// The most devices of one bus.
pub const MAX_DEVICES: u8 = 32;

/// Size of the configuration window of one bus.
pub const ECAM_SIZE: u64 = FUNCTION_SIZE * FUNCTIONS * MAX_DEVICES as u64;

/// Distance between two devices' BARs, and so the largest BAR.
pub const BAR_STRIDE: u64 = 64 * 1024;

/// Size of the window that holds all BARs of a bus.
pub const BAR_WINDOW: u64 = BAR_STRIDE * MAX_DEVICES as u64;

/// Where the configuration space of device `number` starts, relative to its window.
#[must_use]
pub const fn config_offset(number: u8) -> u64 {
    FUNCTION_SIZE.wrapping_mul(FUNCTIONS).wrapping_mul(number as u64)
}

/// Where the BAR of device `number` starts, relative to the window.
#[must_use]
pub const fn bar_offset(number: u8) -> u64 {
    BAR_STRIDE.wrapping_mul(number as u64)
}

/// A function on the bus. Offsets and lengths are the guest's: anything goes.
pub trait PciFunction: Send {
    /// Reads configuration space; `offset + data.len()` is within one naturally aligned register of 4 bytes.
    fn config_read(&mut self, offset: u16, data: &mut [u8]);

    /// Writes configuration space, as [`PciFunction::config_read`].
    fn config_write(&mut self, offset: u16, data: &[u8]);

    /// Whether reading configuration space has no effect, and gives the same until it is written. Only then may
    /// somebody else answer for it.
    fn config_is_plain(&self) -> bool {
        true
    }

    /// Reads from the BAR.
    fn bar_read(&mut self, offset: u64, data: &mut [u8]);

    /// Writes to the BAR.
    fn bar_write(&mut self, offset: u64, data: &[u8]);

    /// Back to the state at power-on: what the guest can see is as if the function had just been made, and
    /// every worker has ended when this returns.
    fn reset(&mut self);

    /// The machine ends. A device that is as at power-on does nothing by itself.
    fn stop(&mut self) {
        self.reset();
    }
}

/// The bus. Its functions are fixed once it is shared between processors.
#[derive(Default)]
pub struct PciBus {
    functions: Vec<Mutex<Box<dyn PciFunction>>>,
}

/// The bus has [`MAX_DEVICES`] devices already.
#[derive(Debug, thiserror::Error)]
#[error("more than {MAX_DEVICES} devices on the bus")]
pub struct BusFull;

impl PciBus {
    /// The number that the next [`PciBus::add`] takes.
    ///
    /// # Errors
    /// [`BusFull`].
    pub fn next_number(&self) -> Result<u8, BusFull> {
        u8::try_from(self.functions.len()).ok().filter(|number| *number < MAX_DEVICES).ok_or(BusFull)
    }

    /// Adds a device, which takes the next number.
    ///
    /// # Errors
    /// [`BusFull`].
    pub fn add(&mut self, function: Box<dyn PciFunction>) -> Result<u8, BusFull> {
        let number = self.next_number()?;
        self.functions.push(Mutex::new(function));
        Ok(number)
    }

    /// A load from the configuration window.
    pub fn config_read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0xFF);
        if let Some((function, register)) = self.register(offset, data.len()) {
            function.lock().unwrap_or_else(PoisonError::into_inner).config_read(register, data);
        }
    }

    /// All that device `number` has in its configuration space, if it is there and reading it has no effect.
    pub fn plain_config(&self, number: u8) -> Option<[u8; config::SIZE]> {
        let mut function =
            self.functions.get(usize::from(number))?.lock().unwrap_or_else(PoisonError::into_inner);
        if !function.config_is_plain() {
            return None;
        }
        let mut bytes = [0; config::SIZE];
        for (register, word) in (0..).step_by(4).zip(bytes.chunks_mut(4)) {
            function.config_read(register, word);
        }
        Some(bytes)
    }

    /// A store to the configuration window.
    pub fn config_write(&self, offset: u64, data: &[u8]) {
        if let Some((function, register)) = self.register(offset, data.len()) {
            function.lock().unwrap_or_else(PoisonError::into_inner).config_write(register, data);
        }
    }

    /// A load from the BAR window.
    pub fn bar_read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0xFF);
        if let Some((function, inside)) = self.bar(offset) {
            function.lock().unwrap_or_else(PoisonError::into_inner).bar_read(inside, data);
        }
    }

    /// A store to the BAR window.
    pub fn bar_write(&self, offset: u64, data: &[u8]) {
        if let Some((function, inside)) = self.bar(offset) {
            function.lock().unwrap_or_else(PoisonError::into_inner).bar_write(inside, data);
        }
    }

    /// The machine is reset: every device is in its state at power-on, and its workers have ended, when this
    /// returns. No processor may run meanwhile: its writes could come after the reset.
    pub fn reset(&self) {
        for function in &self.functions {
            function.lock().unwrap_or_else(PoisonError::into_inner).reset();
        }
    }

    /// The machine ends: [`PciFunction::stop`] for every device.
    pub fn stop(&self) {
        for function in &self.functions {
            function.lock().unwrap_or_else(PoisonError::into_inner).stop();
        }
    }

    /// The function and register that an access of `length` bytes goes to.
    fn register(&self, offset: u64, length: usize) -> Option<(&Mutex<Box<dyn PciFunction>>, u16)> {
        let register = offset % FUNCTION_SIZE;
        let within = register % 4;
        let fits = within.checked_add(u64::try_from(length).ok()?)? <= 4;
        let function = offset / FUNCTION_SIZE;
        let first = function.is_multiple_of(FUNCTIONS);
        let device = self.functions.get(usize::try_from(function / FUNCTIONS).ok()?)?;
        (fits && first).then_some((device, u16::try_from(register).ok()?))
    }

    /// The function whose BAR an access goes to, and the offset inside.
    fn bar(&self, offset: u64) -> Option<(&Mutex<Box<dyn PciFunction>>, u64)> {
        let device = self.functions.get(usize::try_from(offset / BAR_STRIDE).ok()?)?;
        Some((device, offset % BAR_STRIDE))
    }
}

#[cfg(test)]
mod tests;
