//! virtio over PCI, modern interface only (virtio 1.3, section 4.1).
//!
//! ```text
//!   BAR 0    0x0000 common configuration     0x3000 notifications, 4 bytes a queue
//!            0x1000 interrupt status         0x4000 MSI-X table
//!            0x2000 device configuration     0x5000 MSI-X pending bits
//! ```
//! Registers written by the driver are kept as they came and judged once, when it says DRIVER_OK: a queue
//! that does not lie in memory, or is not a ring, makes the device need a reset. The notification address of
//! each queue is meant to be bound to [`PciTransport::kick`] by the VMM; a write that reaches the model still
//! kicks. There is no legacy interface and no interrupt pin.

mod common;
mod interrupt;

use std::io;
use std::sync::Arc;

use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_queue::{Queue, QueueT};
use vm_memory::GuestAddressSpace;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use self::common::{Change, Common, QueueRegisters};
use self::interrupt::TransportInterrupt;
use super::threads::Threads;
use super::{Activation, ActiveQueue, GuestMemory, Interrupt, VirtioDevice};
use crate::pci::PciFunction;
use crate::pci::config::{Bar, ConfigSpace, Identity};
use crate::pci::msix::{self, Msix, Vector};

const COMMON: u32 = 0x0000;
const STATUS: u32 = 0x1000;
const DEVICE: u32 = 0x2000;
const NOTIFY: u32 = 0x3000;
const TABLE: u32 = 0x4000;
const PENDING: u32 = 0x5000;
const BAR_SIZE: u32 = 0x8000;
/// Each of the parts above has one page.
const PART: u32 = 0x1000;

/// Distance between the notification addresses of two queues.
const NOTIFY_STRIDE: u32 = 4;

/// The most queues of one device: one vector each, and one for configuration changes.
pub const MAX_QUEUES: usize = msix::MAX_VECTORS as usize - 1;

/// Status bits (section 2.1).
const DRIVER_OK: u8 = 4;
const FEATURES_OK: u8 = 8;
const NEEDS_RESET: u8 = 64;

/// Vendor-specific capability, and the kinds of it (section 4.1.4).
const VENDOR_CAPABILITY: u8 = 0x09;
const KIND_COMMON: u8 = 1;
const KIND_NOTIFY: u8 = 2;
const KIND_STATUS: u8 = 3;
const KIND_DEVICE: u8 = 4;
const KIND_WINDOW: u8 = 5;

/// What the driver may write of the window's capability, from its BAR number on: that, offset and length.
const WINDOW_WRITABLE: [u8; 12] = [0xFF, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];

/// A virtio device as a PCI function.
pub struct PciTransport {
    config: ConfigSpace,
    msix_capability: u16,
    window_capability: u16,
    msix: Msix,
    common: Common,
    device: Box<dyn VirtioDevice>,
    memory: GuestMemory,
    interrupt: Arc<TransportInterrupt>,
    threads: Arc<dyn Threads>,
    kicks: Vec<EventFd>,
}

/// Why a device was not put on the bus.
#[derive(Debug, thiserror::Error)]
pub enum NewTransportError {
    /// It has more queues than [`MAX_QUEUES`].
    #[error("{0} queues, at most {MAX_QUEUES}")]
    TooManyQueues(usize),
    /// There must be one vector a queue, and one more.
    #[error("{got} vectors, expected {wanted}")]
    Vectors {
        /// How many came.
        got: usize,
        /// How many are needed.
        wanted: usize,
    },
    /// Event descriptors.
    #[error("event descriptor for a queue")]
    Event(#[source] io::Error),
}

impl PciTransport {
    /// How many vectors `device` needs.
    #[must_use]
    pub fn vectors(device: &dyn VirtioDevice) -> usize {
        device.queue_sizes().len().saturating_add(1)
    }

    /// Puts `device` behind the transport, with its BAR at `address`; its threads come from `threads`.
    ///
    /// # Errors
    /// [`NewTransportError`].
    pub fn new(
        device: Box<dyn VirtioDevice>,
        memory: GuestMemory,
        vectors: Vec<Arc<dyn Vector>>,
        address: u32,
        threads: Arc<dyn Threads>,
    ) -> Result<Self, NewTransportError> {
        let queues = device.queue_sizes().len();
        if queues > MAX_QUEUES {
            return Err(NewTransportError::TooManyQueues(queues));
        }
        let wanted = Self::vectors(&*device);
        if vectors.len() != wanted {
            return Err(NewTransportError::Vectors { got: vectors.len(), wanted });
        }
        let kicks = (0..queues)
            .map(|_| EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC))
            .collect::<io::Result<Vec<_>>>()
            .map_err(NewTransportError::Event)?;
        let interrupt = Arc::new(TransportInterrupt::new(vectors.clone(), queues));
        let msix = Msix::new(vectors);
        let mut config =
            ConfigSpace::new(identity(device.device_type()), Some(Bar { address, size: BAR_SIZE }));
        let msix_capability = config.add_capability(msix::CAPABILITY, &msix.capability(TABLE, PENDING));
        config.allow(usize::from(msix_capability).saturating_add(2), &Msix::writable());
        config.add_capability(VENDOR_CAPABILITY, &capability(KIND_COMMON, COMMON, &[]));
        config.add_capability(VENDOR_CAPABILITY, &capability(KIND_STATUS, STATUS, &[]));
        config.add_capability(VENDOR_CAPABILITY, &capability(KIND_DEVICE, DEVICE, &[]));
        config.add_capability(
            VENDOR_CAPABILITY,
            &capability(KIND_NOTIFY, NOTIFY, &NOTIFY_STRIDE.to_le_bytes()),
        );
        let window_capability =
            config.add_capability(VENDOR_CAPABILITY, &capability(KIND_WINDOW, 0, &[0; 4]));
        config.allow(usize::from(window_capability).saturating_add(4), &WINDOW_WRITABLE);
        let features = device.features() | 1 << VIRTIO_F_VERSION_1;
        let common = Common::new(features, device.queue_sizes());
        Ok(Self {
            config,
            msix_capability,
            window_capability,
            msix,
            common,
            device,
            memory,
            interrupt,
            threads,
            kicks,
        })
    }

    /// Each queue's event descriptor with the offset in the BAR at which the guest notifies it: to be bound
    /// to each other once, when the machine is built.
    pub fn notifications(&self) -> impl Iterator<Item = (&EventFd, u64)> {
        let offsets = (u64::from(NOTIFY)..).step_by(NOTIFY_STRIDE as usize);
        self.kicks.iter().zip(offsets)
    }

    /// The driver wrote something that needs more than remembering.
    fn apply(&mut self, change: Change) {
        match change {
            Change::None => {}
            Change::Reset => self.reset_device(),
            Change::DriverOk => {
                if let Err(error) = self.activate() {
                    tracing::debug!(device = self.device.device_type(), %error, "device not started");
                    self.device.reset();
                    self.interrupt.needs_reset();
                }
            }
            Change::ConfigVector(vector) => {
                self.common.config_vector = self.interrupt.set_config_vector(vector);
            }
            Change::QueueVector(queue, vector) => {
                let accepted = self.interrupt.set_queue_vector(queue, vector);
                if let Some(registers) = self.common.queues.get_mut(usize::from(queue)) {
                    registers.vector = accepted;
                }
            }
        }
    }

    /// Starts the device.
    fn activate(&mut self) -> io::Result<()> {
        let mut queues = Vec::new();
        for ((index, registers), kick) in (0..).zip(&self.common.queues).zip(&self.kicks) {
            if registers.enabled {
                let queue = checked_queue(registers, &self.memory)
                    .ok_or_else(|| io::Error::other(format!("queue {index} is no ring in memory")))?;
                queues.push(ActiveQueue { index, queue, kick: kick.try_clone()? });
            }
        }
        let interrupt: Arc<dyn Interrupt> = Arc::<TransportInterrupt>::clone(&self.interrupt);
        let features = self.common.driver_features;
        let (memory, threads) = (self.memory.clone(), Arc::clone(&self.threads));
        self.device.activate(Activation { memory, features, queues, interrupt, threads })
    }

    /// The driver resets the device: it, its queues and its interrupts are as at power-on. The function
    /// stays as it is, with its MSI-X table (section 4.1.4.3.1 and PCI know two resets).
    fn reset_device(&mut self) {
        self.device.reset();
        self.common.reset();
        self.interrupt.reset();
        self.msix.discard_pending();
        for kick in &self.kicks {
            // Empty is as good as emptied.
            let _count = kick.read();
        }
    }

    /// Where an access to configuration space leads when it hits the data of the window (section 4.1.4.9):
    /// offset in the BAR and length, if the driver set them to something sensible.
    fn window(&self, offset: u16) -> Option<(u64, usize)> {
        if offset != self.window_data() {
            return None;
        }
        let bar = self.config.half_word(self.window_capability.saturating_add(4)) & 0xFF;
        let start = self.config.word(self.window_capability.saturating_add(8));
        let length = self.config.word(self.window_capability.saturating_add(12));
        let valid = bar == 0 && matches!(length, 1 | 2 | 4) && start.is_multiple_of(length);
        valid.then_some((u64::from(start), usize::try_from(length).ok()?))
    }

    /// Where the data of the window is in configuration space.
    fn window_data(&self) -> u16 {
        self.window_capability.saturating_add(16)
    }

    /// The status byte: what the driver wrote, and what the device adds.
    fn status(&self) -> u8 {
        self.common.status | if self.interrupt.is_broken() { NEEDS_RESET } else { 0 }
    }
}

impl PciFunction for PciTransport {
    fn config_read(&mut self, offset: u16, data: &mut [u8]) {
        self.config.read(offset, data);
        if let Some((offset, length)) = self.window(offset) {
            let mut through = [0; 4];
            let through = through.get_mut(..length).expect("a window of at most 4 bytes");
            self.bar_read(offset, through);
            for (byte, value) in data.iter_mut().zip(through) {
                *byte = *value;
            }
        }
    }

    fn config_write(&mut self, offset: u16, data: &[u8]) {
        self.config.write(offset, data);
        if let Some((offset, length)) = self.window(offset) {
            self.bar_write(offset, data.get(..length).unwrap_or(data));
        }
        // Message control is the upper half of the capability's first register.
        if offset & !3 == self.msix_capability {
            self.msix.set_control(self.config.half_word(self.msix_capability.saturating_add(2)));
        }
    }

    /// Not while the window leads somewhere.
    fn config_is_plain(&self) -> bool {
        self.window(self.window_data()).is_none()
    }

    fn bar_read(&mut self, offset: u64, data: &mut [u8]) {
        let Some((part, within)) = split(offset) else { return data.fill(0) };
        match part {
            COMMON => {
                let image = self.common.image(self.status(), self.interrupt.generation());
                let start = usize::try_from(within).unwrap_or(usize::MAX);
                for (position, byte) in data.iter_mut().enumerate() {
                    *byte = image.get(start.saturating_add(position)).copied().unwrap_or(0);
                }
            }
            STATUS => {
                data.fill(0);
                if let (0, Some(byte)) = (within, data.first_mut()) {
                    *byte = self.interrupt.take_status();
                }
            }
            DEVICE => self.device.read_config(within, data),
            TABLE => self.msix.table_read(u64::from(within), data),
            PENDING => self.msix.pending_read(u64::from(within), data),
            _ => data.fill(0),
        }
    }

    fn bar_write(&mut self, offset: u64, data: &[u8]) {
        let Some((part, within)) = split(offset) else { return };
        match part {
            COMMON => {
                let change = self.common.write(within, data);
                self.apply(change);
            }
            DEVICE => self.device.write_config(within, data),
            NOTIFY => {
                let queue = usize::try_from(within / NOTIFY_STRIDE).unwrap_or(usize::MAX);
                if let Some(kick) = self.kicks.get(queue) {
                    // A count that is full says already that there is work.
                    let _full = kick.write(1);
                }
            }
            TABLE => self.msix.table_write(u64::from(within), data),
            _ => {}
        }
    }

    fn reset(&mut self) {
        self.reset_device();
        self.interrupt.restart_generation();
        self.msix.reset();
        self.config.reset();
    }
}

/// The part of the BAR, and the offset inside.
fn split(offset: u64) -> Option<(u32, u32)> {
    let offset = u32::try_from(offset).ok().filter(|offset| *offset < BAR_SIZE)?;
    Some((offset & !(PART.wrapping_sub(1)), offset % PART))
}

/// The body of a virtio capability behind its id and link (section 4.1.4), BAR 0, one page.
fn capability(kind: u8, offset: u32, more: &[u8]) -> Vec<u8> {
    let length = u8::try_from(more.len()).expect("capabilities are short").saturating_add(16);
    let mut body = vec![length, kind, 0, 0, 0, 0];
    body.extend_from_slice(&offset.to_le_bytes());
    body.extend_from_slice(&PART.to_le_bytes());
    body.extend_from_slice(more);
    body
}

/// Vendor, device and class of a virtio device type.
fn identity(device_type: u16) -> Identity {
    let class = match device_type {
        1 => 0x02_00_00,
        2 => 0x01_80_00,
        3 => 0x07_80_00,
        _ => 0xFF_00_00,
    };
    let device = device_type.saturating_add(0x1040);
    Identity { vendor: 0x1AF4, device, class, revision: 1, subsystem: (0x1AF4, device) }
}

/// Builds the queue that the driver described, if it is one.
fn checked_queue(registers: &QueueRegisters, memory: &GuestMemory) -> Option<Queue> {
    let mut queue = Queue::new(registers.max_size).ok()?;
    queue.try_set_size(registers.size).ok()?;
    queue.try_set_desc_table_address(vm_memory::GuestAddress(registers.descriptors)).ok()?;
    queue.try_set_avail_ring_address(vm_memory::GuestAddress(registers.driver)).ok()?;
    queue.try_set_used_ring_address(vm_memory::GuestAddress(registers.device)).ok()?;
    queue.set_ready(true);
    queue.is_valid(&*memory.memory()).then_some(queue)
}

#[cfg(test)]
mod tests;
