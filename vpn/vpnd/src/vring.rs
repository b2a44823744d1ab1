//! One virtqueue with its eventfds, and frames in and out of it.
//!
//! What lies in the ring is the guest's claim: every length is bounded here, and guest memory is only ever copied.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// Guest memory as the VMM described it.
pub(crate) type Memory = GuestMemoryMmap<()>;

/// The largest ring that the backend takes.
pub(crate) const MAX_RING: u16 = 1024;

/// The most pieces of guest memory that one received frame is scattered over. A driver that offers smaller pieces loses
/// frames.
const MAX_PIECES: usize = 64;

/// What became of a frame for the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// The guest has it.
    Done,
    /// The ring has no buffers: a kick will come.
    NoBuffers,
    /// The buffers at hand cannot hold it.
    Unfit,
}

/// A frame that the guest offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    head: u16,
    /// Bytes copied; `None`: it did not fit or was not readable.
    pub(crate) length: Option<usize>,
}

/// One ring.
pub(crate) struct Vring {
    pub(crate) queue: Queue,
    pub(crate) kick: Option<File>,
    pub(crate) call: Option<File>,
    pub(crate) enabled: bool,
    /// Passed `Queue::is_valid` since it was set up.
    checked: bool,
    /// Used entries were published that the queue's own count for interrupts does not know.
    must_signal: bool,
    used_anything: bool,
    pieces: Vec<(GuestAddress, u32)>,
    heads: Vec<(u16, u32)>,
}

impl Vring {
    /// A ring that is not set up.
    pub(crate) fn new() -> Self {
        Self {
            queue: Queue::new(MAX_RING).expect("the largest size is a power of two"),
            kick: None,
            call: None,
            enabled: false,
            checked: false,
            must_signal: false,
            used_anything: false,
            pieces: Vec::with_capacity(MAX_PIECES),
            heads: Vec::with_capacity(MAX_PIECES),
        }
    }

    /// Back to not set up, except for what the features say.
    pub(crate) fn stop(&mut self) {
        let event_idx = self.queue.event_idx_enabled();
        let enabled = self.enabled;
        *self = Self::new();
        self.queue.set_event_idx(event_idx);
        self.enabled = enabled;
    }

    /// Addresses or memory changed: check them before the next use.
    pub(crate) fn changed(&mut self) {
        self.checked = false;
    }

    /// The eventfd to wait for, while the ring runs.
    pub(crate) fn kick_to_poll(&self) -> Option<BorrowedFd<'_>> {
        self.kick.as_ref().filter(|_| self.queue.ready() && self.enabled).map(File::as_fd)
    }

    /// Whether the ring can be used now.
    pub(crate) fn is_active(&mut self, memory: &Memory) -> bool {
        if !self.enabled || !self.queue.ready() || self.kick.is_none() {
            return false;
        }
        if !self.checked {
            self.checked = self.queue.is_valid(memory);
        }
        self.checked
    }

    /// Takes the kick back. Call it when the eventfd is readable.
    pub(crate) fn acknowledge(&self) {
        if let Some(mut kick) = self.kick.as_ref() {
            let mut count = [0_u8; 8];
            // Nothing depends on the count, and a broken eventfd only means more work.
            let _ = kick.read(&mut count);
        }
    }

    /// Takes the next chain and copies what the guest wrote into `buffer`.
    pub(crate) fn take(&mut self, memory: &Memory, buffer: &mut [u8]) -> Option<Taken> {
        let chain = self.queue.pop_descriptor_chain(memory)?;
        let head = chain.head_index();
        let mut filled = Some(0_usize);
        for descriptor in chain.readable() {
            filled = filled.and_then(|start| {
                let end = start.checked_add(usize::try_from(descriptor.len()).ok()?)?;
                memory.read_slice(buffer.get_mut(start..end)?, descriptor.addr()).ok()?;
                Some(end)
            });
        }
        Some(Taken { head, length: filled })
    }

    /// Gives a chain back to the guest.
    pub(crate) fn give_back(&mut self, memory: &Memory, taken: Taken) {
        self.used_anything |= self.queue.add_used(memory, taken.head, 0).is_ok();
    }

    /// Copies a header and a frame to the guest. The header's last two bytes become the number of buffers. With
    /// `mergeable` a frame may take several.
    pub(crate) fn deliver(
        &mut self,
        memory: &Memory,
        mergeable: bool,
        header: [u8; 10],
        frame: &[u8],
    ) -> Delivery {
        let needed = header.len().saturating_add(2).saturating_add(frame.len());
        let gathered = self.gather_or_ask(memory, mergeable, needed);
        if gathered != Delivery::Done {
            return gathered;
        }
        let buffers = u16::try_from(self.heads.len()).unwrap_or(u16::MAX).to_le_bytes();
        let whole = [header.as_slice(), buffers.as_slice(), frame];
        let written = scatter(memory, &self.pieces, &whole);
        // A buffer that cannot be written is returned all the same: keeping it would starve the ring.
        self.publish(memory);
        if written.is_some() { Delivery::Done } else { Delivery::Unfit }
    }

    /// Collects chains until `needed` bytes fit. Without success the ring is as before, and when buffers are missing the
    /// guest was asked for a kick.
    fn gather_or_ask(&mut self, memory: &Memory, mergeable: bool, needed: usize) -> Delivery {
        let start = self.queue.next_avail();
        // Each turn but the last found that the driver added buffers meanwhile; a frame needs no more than this.
        for _ in 0..MAX_PIECES {
            let gathered = self.gather(memory, mergeable, needed);
            if gathered == Delivery::Done {
                return gathered;
            }
            // The kick must be asked for behind the buffers that are there: one for the first of them has passed.
            let more = gathered == Delivery::NoBuffers && self.want_kick(memory);
            self.queue.set_next_avail(start);
            if !more {
                return gathered;
            }
        }
        Delivery::NoBuffers
    }

    /// Collects chains until `needed` bytes fit.
    fn gather(&mut self, memory: &Memory, mergeable: bool, needed: usize) -> Delivery {
        self.pieces.clear();
        self.heads.clear();
        let mut room = 0_usize;
        while room < needed {
            if !self.heads.is_empty() && !mergeable {
                return Delivery::Unfit;
            }
            let Some(chain) = self.queue.pop_descriptor_chain(memory) else {
                return Delivery::NoBuffers;
            };
            let head = chain.head_index();
            let before = room;
            for descriptor in chain.writable() {
                if self.pieces.len() >= MAX_PIECES {
                    break;
                }
                let length = usize::try_from(descriptor.len()).unwrap_or(usize::MAX);
                let length = length.min(needed.saturating_sub(room));
                self.pieces.push((descriptor.addr(), u32::try_from(length).unwrap_or_default()));
                room = room.saturating_add(length);
            }
            let used = u32::try_from(room.saturating_sub(before)).unwrap_or_default();
            self.heads.push((head, used));
            if room < needed && (self.heads.len() >= MAX_PIECES || self.pieces.len() >= MAX_PIECES) {
                return Delivery::Unfit;
            }
        }
        Delivery::Done
    }

    /// Makes every gathered chain used, at once: the driver must not see a part of a frame.
    fn publish(&mut self, memory: &Memory) {
        let Some(((last, last_length), first)) = self.heads.split_last() else { return };
        let size = self.queue.size().max(1);
        let mut next = self.queue.next_used();
        for (head, length) in first {
            let slot = u64::from(next % size);
            let at = self.queue.used_ring().saturating_add(4).saturating_add(slot.saturating_mul(8));
            let mut element = [0_u8; 8];
            let (id, len) = element.split_at_mut(4);
            id.copy_from_slice(&u32::from(*head).to_le_bytes());
            len.copy_from_slice(&length.to_le_bytes());
            // The ring was checked to lie in memory as a whole.
            let _ = memory.write_slice(&element, GuestAddress(at));
            next = next.wrapping_add(1);
        }
        self.must_signal |= !first.is_empty();
        self.queue.set_next_used(next);
        self.used_anything |= self.queue.add_used(memory, *last, *last_length).is_ok();
    }

    /// Asks the guest for a kick with its next buffer; `true` when there is one already.
    pub(crate) fn want_kick(&mut self, memory: &Memory) -> bool {
        self.queue.enable_notification(memory).unwrap_or(false)
    }

    /// Spares the guest its kicks while the ring is worked on.
    pub(crate) fn spare_kicks(&mut self, memory: &Memory) {
        // Only kicks that are not needed follow from a failure.
        let _ = self.queue.disable_notification(memory);
    }

    /// Interrupts the guest once for everything used since the last call, if it wants to know.
    pub(crate) fn signal(&mut self, memory: &Memory) {
        if !std::mem::take(&mut self.used_anything) {
            return;
        }
        let wanted = self.queue.needs_notification(memory).unwrap_or(true);
        if !(std::mem::take(&mut self.must_signal) | wanted) {
            return;
        }
        if let Some(mut call) = self.call.as_ref() {
            // A full eventfd is an interrupt that is pending already.
            let _ = call.write(&1_u64.to_ne_bytes());
        }
    }
}

/// Writes `parts` one after the other into `pieces`.
fn scatter(memory: &Memory, pieces: &[(GuestAddress, u32)], parts: &[&[u8]]) -> Option<()> {
    let mut pieces = pieces.iter().copied();
    let (mut address, mut room) = (GuestAddress(0), 0_usize);
    for part in parts {
        let mut rest = *part;
        while !rest.is_empty() {
            if room == 0 {
                let (next, length) = pieces.next()?;
                (address, room) = (next, usize::try_from(length).ok()?);
                continue;
            }
            let (now, later) = rest.split_at(rest.len().min(room));
            memory.write_slice(now, address).ok()?;
            address = GuestAddress(address.0.checked_add(u64::try_from(now.len()).ok()?)?);
            room = room.saturating_sub(now.len());
            rest = later;
        }
    }
    Some(())
}
