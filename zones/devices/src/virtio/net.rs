//! virtio-net (virtio 1.3, section 5.1) whose other half is another process: a vhost-user front end.
//!
//! This process shows the guest a MAC address, a link and the features that the back end has; the rings
//! themselves, the notifications and the interrupts run between guest and back end. No packet ever passes
//! through here.
//!
//! ```text
//!            activate                       hang-up, refusal or silence of the back end
//!   idle -----------------> served by the   ------------------------------------------> link down for good
//!    ^                      back end                                                    (the guest runs on)
//!    +------- reset ---------+
//! ```
//! The back end is not trusted to answer: every exchange has a deadline, after which the connection is cut.

mod backend;

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use virtio_bindings::virtio_ids::VIRTIO_ID_NET;
use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6,
    VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_MAC, VIRTIO_NET_F_MRG_RXBUF,
    VIRTIO_NET_F_STATUS, VIRTIO_NET_S_LINK_UP,
};
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

pub use self::backend::ConnectBackendError;
use self::backend::{Backend, ExchangeError, Hangup};
pub use super::SharedRegion;
use super::worker::{Stop, Waiter, Worker};
use super::{Activation, Interrupt, VirtioDevice};

/// Receive and transmit.
const QUEUE_SIZES: [u16; 2] = [256, 256];

/// What the guest is offered when the back end has it.
const BACKEND_FEATURES: u64 = 1 << VIRTIO_NET_F_CSUM
    | 1 << VIRTIO_NET_F_GUEST_CSUM
    | 1 << VIRTIO_NET_F_GUEST_TSO4
    | 1 << VIRTIO_NET_F_GUEST_TSO6
    | 1 << VIRTIO_NET_F_HOST_TSO4
    | 1 << VIRTIO_NET_F_HOST_TSO6
    | 1 << VIRTIO_NET_F_MRG_RXBUF
    | 1 << VIRTIO_RING_F_EVENT_IDX
    | 1 << VIRTIO_RING_F_INDIRECT_DESC;

/// The device.
pub struct Net {
    backend: Backend,
    mac: [u8; 6],
    link: Arc<Link>,
    worker: Option<Worker>,
    /// The rings that the back end may be using.
    running: Vec<u16>,
}

/// Whether the back end is there. Once gone it stays gone.
struct Link {
    up: AtomicBool,
    lost: EventFd,
}

impl Link {
    fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    /// Takes the link down; true the first time.
    fn lose(&self) -> bool {
        let first = self.up.swap(false, Ordering::AcqRel);
        if first {
            // A full counter is as readable as a fresh one.
            let _already_signalled = self.lost.write(1);
        }
        first
    }
}

impl Net {
    /// Agrees with the back end at the other end of `stream` on what it can do. It will be able to map all
    /// of `regions`.
    ///
    /// # Errors
    /// The back end is no vhost-user back end that a modern virtio device can use, or does not answer.
    pub fn new(
        stream: UnixStream,
        mac: [u8; 6],
        regions: Vec<SharedRegion>,
    ) -> Result<Self, ConnectBackendError> {
        let backend = Backend::connect(stream, regions)?;
        let lost = EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK).map_err(ConnectBackendError::Socket)?;
        let link = Arc::new(Link { up: AtomicBool::new(true), lost });
        Ok(Self { backend, mac, link, worker: None, running: Vec::new() })
    }

    /// A descriptor that becomes readable, and stays so, when the back end was found to be gone. That is
    /// noticed at once while the device is active, else when it is next activated.
    ///
    /// # Errors
    /// What duplicating the descriptor reports.
    pub fn lost(&self) -> io::Result<EventFd> {
        self.link.lost.try_clone()
    }

    fn config(&self) -> [u8; 8] {
        let [a, b, c, d, e, f] = self.mac;
        let link_up = u8::try_from(VIRTIO_NET_S_LINK_UP).expect("the link's status bit is the lowest");
        [a, b, c, d, e, f, if self.link.is_up() { link_up } else { 0 }, 0]
    }

    /// The back end failed: the guest keeps a NIC without a link.
    fn lose(&self, error: &ExchangeError, interrupt: Option<&dyn Interrupt>) {
        self.backend.cut();
        if self.link.lose() {
            tracing::warn!(error = error as &dyn std::error::Error, "network back end lost");
            if let Some(interrupt) = interrupt {
                interrupt.signal_config();
            }
        }
    }
}

impl VirtioDevice for Net {
    fn device_type(&self) -> u16 {
        super::device_id(VIRTIO_ID_NET)
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn features(&self) -> u64 {
        1 << VIRTIO_NET_F_MAC | 1 << VIRTIO_NET_F_STATUS | self.backend.features() & BACKEND_FEATURES
    }

    fn read_config(&self, offset: u32, data: &mut [u8]) {
        super::read_config_bytes(&self.config(), offset, data);
    }

    /// Never fails for the back end's sake: without one the guest sees a link that is down.
    fn activate(&mut self, activation: Activation) -> io::Result<()> {
        self.reset();
        let stop = Stop::new()?;
        let Activation { features, queues, interrupt, .. } = activation;
        if !self.link.is_up() {
            return Ok(());
        }
        // From here on the back end may hold rings, whatever it answers.
        self.running = queues.iter().map(|active| active.index).collect();
        let failed = EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?;
        if let Err(error) = self.backend.start(features & BACKEND_FEATURES, &queues, &*interrupt, &failed) {
            self.lose(&error, Some(&*interrupt));
            return Ok(());
        }
        let hangup = self.backend.hangup()?;
        let (link, watched, worker_stop) = (Arc::clone(&self.link), Arc::clone(&interrupt), stop.clone());
        self.worker = Some(Worker::start("net", stop, interrupt, move || {
            watch(&hangup, &failed, &link, &*watched, &worker_stop)?;
            Ok(())
        })?);
        Ok(())
    }

    fn reset(&mut self) {
        if let Some(worker) = self.worker.take() {
            drop(worker);
        }
        let running = std::mem::take(&mut self.running);
        if self.link.is_up()
            && !running.is_empty()
            && let Err(error) = self.backend.stop(&running)
        {
            self.lose(&error, None);
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.reset();
    }
}

/// Waits for the back end to hang up, or to give up a ring.
fn watch(
    hangup: &Hangup,
    failed: &EventFd,
    link: &Link,
    interrupt: &dyn Interrupt,
    stop: &Stop,
) -> io::Result<()> {
    const HANGUP: u64 = 0;
    const FAILED: u64 = 1;
    let waiter = Waiter::new(stop)?;
    waiter.add(hangup.descriptor(), HANGUP, EventSet::READ_HANG_UP)?;
    waiter.add(failed.as_raw_fd(), FAILED, EventSet::IN)?;
    while let Some(ready) = waiter.wait()? {
        for (token, _) in ready.iter() {
            if token == HANGUP {
                waiter.remove(hangup.descriptor())?;
                if link.lose() {
                    tracing::warn!("network back end hung up");
                    interrupt.signal_config();
                }
            } else {
                let _count = failed.read();
                tracing::debug!("network back end gave a ring up");
                interrupt.needs_reset();
            }
        }
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "tests choose numbers that fit")]
mod tests;
