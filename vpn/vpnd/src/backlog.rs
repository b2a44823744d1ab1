//! A bounded queue of byte strings that keeps its buffers.

use std::collections::VecDeque;

/// The queue. Memory grows to its limit once and is used again.
pub(crate) struct Backlog {
    queue: VecDeque<Vec<u8>>,
    spare: Vec<Vec<u8>>,
    limit: usize,
}

impl Backlog {
    /// A queue of at most `limit` entries.
    pub(crate) fn new(limit: usize) -> Self {
        Self { queue: VecDeque::with_capacity(limit), spare: Vec::with_capacity(limit), limit }
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Adds an entry made of two parts; `false` when the queue is full.
    pub(crate) fn push(&mut self, head: &[u8], tail: &[u8]) -> bool {
        if self.queue.len() >= self.limit {
            return false;
        }
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(head);
        buffer.extend_from_slice(tail);
        self.queue.push_back(buffer);
        true
    }

    /// The oldest entry.
    pub(crate) fn front(&self) -> Option<&[u8]> {
        self.queue.front().map(Vec::as_slice)
    }

    /// Removes the oldest entry.
    pub(crate) fn pop(&mut self) {
        if let Some(buffer) = self.queue.pop_front() {
            self.spare.push(buffer);
        }
    }

    /// Removes everything and says how much it was.
    pub(crate) fn clear(&mut self) -> u64 {
        let count = u64::try_from(self.queue.len()).unwrap_or(u64::MAX);
        self.spare.extend(self.queue.drain(..));
        count
    }
}
