//! virtio-balloon (virtio 1.3, section 5.5) for one purpose: free page reporting.
//!
//! The guest names pages that it does not use; the device punches them out of the memory file, so that the host
//! has them back at once. The guest sees zeroes when it touches them again. Nothing else of the balloon is
//! used: the host asks for no page (the target is always zero), so what a driver puts into the inflate and
//! deflate queues is given back unread, and there are no statistics and no hints.
//!
//! Every range is the guest's claim. A page that it still needed is its own loss; what lies outside of its
//! memory, or is no whole page, is left alone.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, fallocate};
use virtio_bindings::virtio_ids::VIRTIO_ID_BALLOON;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

use super::counters::Counters;
use super::ring::Chain;
use super::threads::Role;
use super::worker::Worker;
use super::{Activation, SharedRegion, VirtioDevice};

/// The driver wants its pages to hold a value (section 5.5.3; the bindings lack this device).
const VIRTIO_BALLOON_F_PAGE_POISON: u32 = 4;

/// Free page reporting.
const VIRTIO_BALLOON_F_REPORTING: u32 = 5;

/// Inflate, deflate, statistics, hints, reports. Linux reports no less than 32 ranges at a time.
const QUEUE_SIZES: [u16; 5] = [64; 5];

/// The queues that may be the one for reports: its own number, and the one that Linux gives it when the two
/// queues before it were not negotiated.
const REPORTS: [u16; 2] = [4, 2];

/// The unit in which memory comes back.
const PAGE: u64 = 4096;

/// Configuration: `num_pages`, `actual`, `free_page_hint_cmd_id`, `poison_val`, four bytes each.
const CONFIG_SIZE: usize = 16;

/// What the driver may write of it: `actual` and `poison_val`.
const WRITABLE: [Range<usize>; 2] = [4..8, 12..16];

/// The device.
pub struct Balloon {
    regions: Arc<[SharedRegion]>,
    config: [u8; CONFIG_SIZE],
    counters: Arc<Counters>,
    worker: Option<Worker>,
}

impl Balloon {
    /// A balloon for a guest whose memory is `regions`.
    pub fn new(regions: Vec<SharedRegion>) -> Self {
        Self { regions: regions.into(), config: [0; CONFIG_SIZE], counters: Arc::default(), worker: None }
    }

    /// What the guest did wrong, and how much memory came back.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// What pages must hold when the guest touches them again; it is zero unless the driver says otherwise.
    fn poison(&self, features: u64) -> u32 {
        let [.., a, b, c, d] = self.config;
        if features & (1 << VIRTIO_BALLOON_F_PAGE_POISON) == 0 { 0 } else { u32::from_le_bytes([a, b, c, d]) }
    }
}

impl VirtioDevice for Balloon {
    fn device_type(&self) -> u16 {
        super::device_id(VIRTIO_ID_BALLOON)
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn features(&self) -> u64 {
        1 << VIRTIO_BALLOON_F_REPORTING
            | 1 << VIRTIO_BALLOON_F_PAGE_POISON
            | 1 << VIRTIO_RING_F_EVENT_IDX
            | 1 << VIRTIO_RING_F_INDIRECT_DESC
    }

    fn read_config(&self, offset: u32, data: &mut [u8]) {
        super::read_config_bytes(&self.config, offset, data);
    }

    fn write_config(&mut self, offset: u32, data: &[u8]) {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        for (position, new) in (start..usize::MAX).zip(data) {
            if let Some(byte) = self.config.get_mut(position)
                && WRITABLE.iter().any(|field| field.contains(&position))
            {
                *byte = *new;
            }
        }
    }

    fn activate(&mut self, mut activation: Activation) -> io::Result<()> {
        self.worker = None;
        let features = activation.features;
        // A page that must come back with something in it cannot be given away.
        let reports = features & (1 << VIRTIO_BALLOON_F_REPORTING) != 0 && self.poison(features) == 0;
        let (regions, counters) = (Arc::clone(&self.regions), Arc::clone(&self.counters));
        let serve = move |queue: u16, chain: &mut Chain| {
            if reports && REPORTS.contains(&queue) {
                for (address, size) in chain.writable.pieces() {
                    release(&regions, address, size.into(), &counters);
                }
            }
            0
        };
        let queues: Vec<_> = activation.queues.iter().map(|active| active.index).collect();
        self.worker =
            Some(Worker::serve_queues(Role::Balloon, &mut activation, &queues, &self.counters, serve)?);
        Ok(())
    }

    fn reset(&mut self) {
        self.worker = None;
        self.config = [0; CONFIG_SIZE];
    }
}

/// Gives the whole pages of `size` bytes from `address` on back to the host.
fn release(regions: &[SharedRegion], address: u64, size: u64, counters: &Counters) {
    let pages = whole_pages(address, size);
    let mut released: u64 = 0;
    for (region, range) in regions.iter().filter_map(|region| Some((region, inside(region, &pages)?))) {
        let length = range.end.saturating_sub(range.start);
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match fallocate(&region.file, flags, range.start, length) {
            Ok(()) => released = released.saturating_add(length),
            Err(errno) => {
                if counters.host_failures.add(1) {
                    tracing::warn!(%errno, "memory of the guest did not come back");
                }
            }
        }
    }
    counters.released_bytes.add(released);
    if released < size {
        counters.refused.add(1);
    }
}

/// The whole pages within `size` bytes from `address` on.
fn whole_pages(address: u64, size: u64) -> Range<u64> {
    let end = address.saturating_add(size);
    let start = address.checked_next_multiple_of(PAGE).unwrap_or(end);
    start..end.saturating_sub(end % PAGE)
}

/// The part of `pages` that lies in `region`, as positions in its file.
fn inside(region: &SharedRegion, pages: &Range<u64>) -> Option<Range<u64>> {
    let start = pages.start.max(region.guest_address);
    let end = pages.end.min(region.guest_address.saturating_add(region.size));
    if start >= end {
        return None;
    }
    let in_file = |address: u64| address.checked_sub(region.guest_address)?.checked_add(region.offset);
    Some(in_file(start)?..in_file(end)?)
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "tests choose numbers that fit")]
mod tests;
