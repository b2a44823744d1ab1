//! virtio-console (virtio 1.3, section 5.3): one port, out only.
//!
//! What the guest prints goes to a descriptor that must never block the device: when nobody takes the bytes
//! they are dropped and counted. The guest may offer receive buffers; nothing is ever put into them.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use virtio_bindings::virtio_ids::VIRTIO_ID_CONSOLE;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

use super::counters::Counters;
use super::ring::Chain;
use super::threads::Role;
use super::worker::Worker;
use super::{Activation, VirtioDevice};

const QUEUE_SIZES: [u16; 2] = [64, 64];
const TRANSMIT: u16 = 1;

/// The most pages of one request that are printed. Linux sends at most one.
const MAX_REQUEST_PARTS: usize = 16;

/// The device.
pub struct Console {
    output: Arc<OwnedFd>,
    counters: Arc<Counters>,
    worker: Option<Worker>,
}

impl Console {
    /// A console whose output goes to `output`, which is made non-blocking.
    ///
    /// # Errors
    /// `output` cannot be made non-blocking.
    pub fn new(output: OwnedFd) -> io::Result<Self> {
        fcntl_setfl(&output, fcntl_getfl(&output)? | OFlags::NONBLOCK)?;
        Ok(Self { output: Arc::new(output), counters: Arc::default(), worker: None })
    }

    /// What was dropped so far.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }
}

impl VirtioDevice for Console {
    fn device_type(&self) -> u16 {
        super::device_id(VIRTIO_ID_CONSOLE)
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn features(&self) -> u64 {
        1 << VIRTIO_RING_F_EVENT_IDX | 1 << VIRTIO_RING_F_INDIRECT_DESC
    }

    fn read_config(&self, _offset: u32, data: &mut [u8]) {
        // Neither size nor multiport is offered, so no field means anything.
        data.fill(0);
    }

    fn activate(&mut self, mut activation: Activation) -> io::Result<()> {
        self.reset();
        let (output, counters) = (Arc::clone(&self.output), Arc::clone(&self.counters));
        let serve = move |_queue: u16, chain: &mut Chain| {
            print(chain, &output, &counters);
            0
        };
        self.worker =
            Some(Worker::serve_queues(Role::Console, &mut activation, &[TRANSMIT], &self.counters, serve)?);
        Ok(())
    }

    fn reset(&mut self) {
        self.worker = None;
    }
}

/// Passes one request's bytes on, as far as the reader takes them. A pipe takes up to 4096 bytes whole or
/// not at all, so that lines are not torn.
fn print(chain: &mut Chain, output: &OwnedFd, counters: &Counters) {
    let mut buffer = [0; 4096];
    for _part in 0..MAX_REQUEST_PARTS {
        let size = chain.readable.read(&mut buffer);
        let bytes = buffer.get(..size).unwrap_or_default();
        if bytes.is_empty() {
            return;
        }
        let taken = rustix::io::write(output, bytes).unwrap_or(0);
        if taken < size {
            counters.dropped_bytes.add(u64::try_from(size.saturating_sub(taken)).unwrap_or(u64::MAX));
            break;
        }
    }
    counters.dropped_bytes.add(chain.readable.left());
}

#[cfg(test)]
mod tests;
