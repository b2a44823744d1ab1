//! Counters of what a guest or a peer did wrong, and log lines that they cannot flood.

use std::sync::atomic::{AtomicU64, Ordering};

/// What one device dropped, refused or made durable since the machine started. A reset of the device keeps it.
#[derive(Debug, Default)]
pub struct Counters {
    /// Chains or packets that break the rules of virtio.
    pub malformed: Count,
    /// Well-formed requests that the device refused.
    pub refused: Count,
    /// Bytes that were dropped because nobody took them.
    pub dropped_bytes: Count,
    /// Requests that the host's own files or sockets failed.
    pub host_failures: Count,
    /// Bytes of guest memory that the guest gave back.
    pub released_bytes: Count,
    /// Times that a disk's file was brought to stable storage.
    pub flushes: Count,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds `amount`, stopping at the top. True when the count passed a power of two: the moment for a log
    /// line, because that happens at most 64 times.
    pub(crate) fn add(&self, amount: u64) -> bool {
        let before = self.0.fetch_add(amount, Ordering::Relaxed);
        before.checked_ilog2() != before.saturating_add(amount).checked_ilog2()
    }

    /// The number so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
