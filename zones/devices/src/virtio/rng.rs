//! virtio-rng (virtio 1.3, section 5.4): random bytes from the host's kernel.
//!
//! One request yields at most [`MAX_REQUEST`] bytes. The device keeps no pool and no state.

use std::io;
use std::sync::Arc;

use rustix::rand::{GetRandomFlags, getrandom};
use virtio_bindings::virtio_ids::VIRTIO_ID_RNG;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

use super::counters::Counters;
use super::ring::Chain;
use super::threads::Role;
use super::worker::Worker;
use super::{Activation, VirtioDevice};

/// The most random bytes that one request yields.
pub const MAX_REQUEST: usize = 4096;

const QUEUE_SIZES: [u16; 1] = [64];

/// The device.
#[derive(Default)]
pub struct Rng {
    counters: Arc<Counters>,
    worker: Option<Worker>,
}

impl Rng {
    /// A source of random bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the guest did wrong so far.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }
}

impl VirtioDevice for Rng {
    fn device_type(&self) -> u16 {
        super::device_id(VIRTIO_ID_RNG)
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn features(&self) -> u64 {
        1 << VIRTIO_RING_F_EVENT_IDX | 1 << VIRTIO_RING_F_INDIRECT_DESC
    }

    fn read_config(&self, _offset: u32, data: &mut [u8]) {
        data.fill(0);
    }

    fn activate(&mut self, mut activation: Activation) -> io::Result<()> {
        self.reset();
        let counters = Arc::clone(&self.counters);
        let serve = move |_queue: u16, chain: &mut Chain| fill(chain, &counters);
        self.worker = Some(Worker::serve_queues(Role::Random, &mut activation, &[0], &self.counters, serve)?);
        Ok(())
    }

    fn reset(&mut self) {
        self.worker = None;
    }
}

/// Fills one request; says how many bytes it got.
fn fill(chain: &mut Chain, counters: &Counters) -> u32 {
    let mut bytes = [0; MAX_REQUEST];
    let wanted = usize::try_from(chain.writable.left()).unwrap_or(MAX_REQUEST).min(MAX_REQUEST);
    let mut written: u32 = 0;
    if let Some(part) = bytes.get_mut(..wanted) {
        match getrandom(&mut *part, GetRandomFlags::empty()) {
            Ok(got) => {
                let sent = chain.writable.write(part.get(..got).unwrap_or_default());
                written = u32::try_from(sent).unwrap_or(0);
            }
            Err(errno) => {
                if counters.host_failures.add(1) {
                    tracing::error!(%errno, "getrandom failed");
                }
            }
        }
    }
    written
}

#[cfg(test)]
mod tests;
