//! The contract between a virtio device and the PCI transport that shows it to the guest.
//!
//! ```text
//!            activate (DRIVER_OK)
//!   idle ---------------------------> active: a worker thread owns the queues
//!    ^                                   |
//!    +----------- reset -----------------+   the worker has ended when reset returns
//! ```
//! The transport owns feature negotiation, queue set-up and MSI-X; a device sees only [`Activation`].

pub mod balloon;
pub mod block;
pub mod console;
pub mod counters;
pub mod net;
pub mod pci_transport;
mod ring;
pub mod rng;
#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "tests choose numbers that fit")]
mod test_guest;
#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "tests choose numbers that fit")]
mod test_power;
pub mod threads;
pub mod vsock;
mod worker;

use std::fs::File;
use std::io;
use std::sync::Arc;

use virtio_queue::Queue;
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::eventfd::EventFd;

use self::threads::Threads;

/// Guest memory as devices see it: volatile copies only.
pub type GuestMemory = GuestMemoryAtomic<GuestMemoryMmap<()>>;

/// A part of guest memory, by the file that holds it.
pub struct SharedRegion {
    /// Where the guest sees it.
    pub guest_address: u64,
    /// Its length.
    pub size: u64,
    /// Where it begins in `file`.
    pub offset: u64,
    /// The memory file.
    pub file: File,
}

/// A virtio device behind a transport.
pub trait VirtioDevice: Send {
    /// Device type (virtio 1.3, section 5).
    fn device_type(&self) -> u16;

    /// The largest size of each queue, a power of two each; their number is the number of queues.
    fn queue_sizes(&self) -> &[u16];

    /// Feature bits that the device offers. The transport adds `VIRTIO_F_VERSION_1` and
    /// `VIRTIO_RING_F_EVENT_IDX` handling stays with the device.
    fn features(&self) -> u64;

    /// Reads device-specific configuration. Bytes past its end read as zero.
    fn read_config(&self, offset: u32, data: &mut [u8]);

    /// Writes device-specific configuration. Most devices have nothing that can be written.
    fn write_config(&mut self, _offset: u32, _data: &[u8]) {}

    /// The driver set DRIVER_OK: start to serve the queues on threads of the device's own.
    ///
    /// # Errors
    /// The device cannot work; the transport sets DEVICE_NEEDS_RESET.
    fn activate(&mut self, activation: Activation) -> io::Result<()>;

    /// Back to power-on state. Every worker has ended and every queue is dropped when this returns.
    fn reset(&mut self);
}

/// What a device is given when the driver is ready.
pub struct Activation {
    /// Guest memory.
    pub memory: GuestMemory,
    /// Negotiated features.
    pub features: u64,
    /// The enabled queues.
    pub queues: Vec<ActiveQueue>,
    /// Tells the guest.
    pub interrupt: Arc<dyn Interrupt>,
    /// Where the device gets its threads from.
    pub threads: Arc<dyn Threads>,
}

/// One enabled queue.
pub struct ActiveQueue {
    /// Its number.
    pub index: u16,
    /// The ring, as the driver set it up: already checked by `Queue::is_valid`.
    pub queue: Queue,
    /// Written by the guest's notification.
    pub kick: EventFd,
}

/// The device's way to interrupt the guest (MSI-X behind it).
pub trait Interrupt: Send + Sync {
    /// Used buffers are in this queue.
    fn signal_queue(&self, index: u16);

    /// Configuration changed.
    fn signal_config(&self);

    /// A descriptor that, when written, does what [`Interrupt::signal_queue`] does: for a backend in
    /// another process.
    ///
    /// # Errors
    /// What duplicating the descriptor reports.
    fn queue_descriptor(&self, index: u16) -> io::Result<EventFd>;

    /// The device cannot go on: sets DEVICE_NEEDS_RESET and interrupts.
    fn needs_reset(&self);
}

/// A device type as `u16`: virtio's bindings hold it as `u32`.
fn device_id(id: u32) -> u16 {
    u16::try_from(id).expect("virtio device types are small")
}

/// Copies the part of `config` that a driver asked for; bytes past its end read as zero.
fn read_config_bytes(config: &[u8], offset: u32, data: &mut [u8]) {
    data.fill(0);
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    for (target, source) in data.iter_mut().zip(config.get(start..).unwrap_or_default()) {
        *target = *source;
    }
}
