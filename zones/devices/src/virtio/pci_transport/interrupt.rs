//! The device's way to its driver: which vector each queue uses, and the interrupt status byte.
//!
//! Lock-free: workers signal while a processor holds the function's lock and waits for them to end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, Ordering};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::pci::msix::Vector;
use crate::virtio::Interrupt;

/// The driver wants no interrupt, or gets none for lack of a vector.
pub(super) const NO_VECTOR: u16 = 0xFFFF;

/// Interrupt status: a queue was used.
const QUEUE: u8 = 1;
/// Interrupt status: configuration changed.
const CONFIG: u8 = 2;

/// Interrupts of one device.
pub(super) struct TransportInterrupt {
    vectors: Vec<Arc<dyn Vector>>,
    queue_vectors: Vec<AtomicU16>,
    config_vector: AtomicU16,
    status: AtomicU8,
    generation: AtomicU8,
    broken: AtomicBool,
}

impl TransportInterrupt {
    pub(super) fn new(vectors: Vec<Arc<dyn Vector>>, queues: usize) -> Self {
        Self {
            vectors,
            queue_vectors: (0..queues).map(|_| AtomicU16::new(NO_VECTOR)).collect(),
            config_vector: AtomicU16::new(NO_VECTOR),
            status: AtomicU8::new(0),
            generation: AtomicU8::new(0),
            broken: AtomicBool::new(false),
        }
    }

    /// Back to the state at power-on. Configuration's generation goes on counting.
    pub(super) fn reset(&self) {
        for vector in &self.queue_vectors {
            vector.store(NO_VECTOR, Ordering::Release);
        }
        self.config_vector.store(NO_VECTOR, Ordering::Release);
        self.status.store(0, Ordering::Release);
        self.broken.store(false, Ordering::Release);
    }

    /// The machine was reset: nobody remembers an earlier generation.
    pub(super) fn restart_generation(&self) {
        self.generation.store(0, Ordering::Release);
    }

    /// Maps configuration changes. Returns what the driver reads back (section 4.1.5.1.2.1).
    pub(super) fn set_config_vector(&self, vector: u16) -> u16 {
        let accepted = self.accept(vector);
        self.config_vector.store(accepted, Ordering::Release);
        accepted
    }

    /// Maps a queue. Returns what the driver reads back.
    pub(super) fn set_queue_vector(&self, queue: u16, vector: u16) -> u16 {
        let accepted = self.accept(vector);
        if let Some(slot) = self.queue_vectors.get(usize::from(queue)) {
            slot.store(accepted, Ordering::Release);
        }
        accepted
    }

    /// Reads and clears the interrupt status.
    pub(super) fn take_status(&self) -> u8 {
        self.status.swap(0, Ordering::AcqRel)
    }

    /// Counts configuration changes.
    pub(super) fn generation(&self) -> u8 {
        self.generation.load(Ordering::Acquire)
    }

    /// The device cannot go on.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// A vector that exists, or none.
    fn accept(&self, vector: u16) -> u16 {
        if usize::from(vector) < self.vectors.len() { vector } else { NO_VECTOR }
    }

    /// The vector that a register names.
    fn vector(&self, register: &AtomicU16) -> Option<&Arc<dyn Vector>> {
        self.vectors.get(usize::from(register.load(Ordering::Acquire)))
    }
}

impl Interrupt for TransportInterrupt {
    fn signal_queue(&self, index: u16) {
        self.status.fetch_or(QUEUE, Ordering::AcqRel);
        if let Some(vector) = self.queue_vectors.get(usize::from(index)).and_then(|slot| self.vector(slot)) {
            vector.trigger();
        }
    }

    fn signal_config(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.status.fetch_or(CONFIG, Ordering::AcqRel);
        if let Some(vector) = self.vector(&self.config_vector) {
            vector.trigger();
        }
    }

    fn queue_descriptor(&self, index: u16) -> io::Result<EventFd> {
        match self.queue_vectors.get(usize::from(index)).and_then(|slot| self.vector(slot)) {
            Some(vector) => vector.descriptor(),
            // The driver polls this queue: the backend's writes go nowhere.
            None => EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC),
        }
    }

    fn needs_reset(&self) {
        self.broken.store(true, Ordering::Release);
        self.signal_config();
    }
}
