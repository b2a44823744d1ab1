//! virtio-vsock (virtio 1.3, section 5.10): stream sockets from the guest to a few ports of the host.
//!
//! For each connection that the guest makes to a port on the list, the device makes a pair of Unix stream
//! sockets, keeps one end and hands the other to whoever made the device. The host never connects to the
//! guest, and no port leads to another guest. Which connection a byte belongs to is decided here alone; what
//! the bytes mean is not looked at.

mod connections;
mod header;
mod pump;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use virtio_bindings::virtio_ids::VIRTIO_ID_VSOCK;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

use self::connections::Connections;
use self::pump::Pump;
use super::counters::Counters;
use super::threads::Role;
use super::worker::{Stop, Worker};
use super::{Activation, VirtioDevice};

/// The host's context id (virtio 1.3, section 5.10.4).
pub const HOST_CID: u64 = 2;

const QUEUE_SIZES: [u16; 3] = [128, 128, 16];
const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;

/// Takes the host's end of a new connection to a port; false refuses it.
pub type Connect = Box<dyn FnMut(u32, OwnedFd) -> bool + Send>;

/// The device.
pub struct Vsock {
    guest_cid: u32,
    ports: Vec<u32>,
    connect: Arc<Mutex<Connect>>,
    counters: Arc<Counters>,
    worker: Option<Worker>,
}

impl Vsock {
    /// A device by which a guest with context id `guest_cid` reaches `ports` of the host. `connect` runs on
    /// the device's thread: it must not block for long and not use the device.
    pub fn new(guest_cid: u32, ports: &[u32], connect: Connect) -> Self {
        Self {
            guest_cid,
            ports: ports.to_vec(),
            connect: Arc::new(Mutex::new(connect)),
            counters: Arc::default(),
            worker: None,
        }
    }

    /// What the guest did wrong so far.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }
}

impl VirtioDevice for Vsock {
    fn device_type(&self) -> u16 {
        super::device_id(VIRTIO_ID_VSOCK)
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn features(&self) -> u64 {
        1 << VIRTIO_RING_F_EVENT_IDX | 1 << VIRTIO_RING_F_INDIRECT_DESC
    }

    fn read_config(&self, offset: u32, data: &mut [u8]) {
        super::read_config_bytes(&u64::from(self.guest_cid).to_le_bytes(), offset, data);
    }

    fn activate(&mut self, mut activation: Activation) -> io::Result<()> {
        self.reset();
        let receive = activation.take_ring(RECEIVE, &self.counters)?;
        let transmit = activation.take_ring(TRANSMIT, &self.counters)?;
        let (stop, interrupt) = (Stop::new()?, activation.interrupt);
        let connections = Connections::new(u64::from(self.guest_cid), HOST_CID, self.ports.clone());
        let pump = Pump::new(
            receive,
            transmit,
            connections,
            Arc::clone(&self.connect),
            Arc::clone(&interrupt),
            Arc::clone(&self.counters),
            stop.clone(),
        );
        self.worker =
            Some(Worker::start(&*activation.threads, Role::Vsock, stop, interrupt, move || pump.run())?);
        Ok(())
    }

    fn reset(&mut self) {
        self.worker = None;
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "tests choose numbers that fit")]
mod tests;
