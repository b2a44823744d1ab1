//! The conversation with a vhost-user back end: the front end's half, each exchange with a deadline.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use vhost::vhost_user::message::{VhostUserHeaderFlag, VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_queue::QueueT;
use vm_memory::GuestAddressSpace;
use vmm_sys_util::eventfd::EventFd;

use super::SharedRegion;
use crate::virtio::threads::{Role, Threads};
use crate::virtio::{Activation, ActiveQueue};

/// How long one exchange may take. A vCPU may be waiting for it.
const DEADLINE: Duration = Duration::from_secs(if cfg!(test) { 4 } else { 10 });

/// The back end's own protocol features, in the place of a virtio feature.
const PROTOCOL_FEATURES: u64 = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();

/// The device cannot be made with this back end.
#[derive(Debug, thiserror::Error)]
pub enum ConnectBackendError {
    /// The stream itself.
    #[error("socket of the network back end")]
    Socket(#[source] io::Error),
    /// The conversation broke off.
    #[error("negotiation with the network back end")]
    Negotiation(#[source] vhost::Error),
    /// Something that a modern device cannot do without.
    #[error("network back end offers {offered:#x}, without {missing:#x}")]
    Features {
        /// What it offers.
        offered: u64,
        /// What it would have to offer, too.
        missing: u64,
    },
    /// Waiting for its end.
    #[error("watching the network back end")]
    Watch(#[source] io::Error),
}

/// An exchange with a back end that had been agreed with went wrong.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// It refused, hung up or kept silent.
    #[error("network back end refused or did not answer")]
    Vhost(#[from] vhost::Error),
    /// The guest's interrupt.
    #[error("interrupt descriptor")]
    Interrupt(#[from] io::Error),
    /// The driver's ring.
    #[error("used index of a ring")]
    Ring(#[from] virtio_queue::Error),
}

/// Where the back end begins in the rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// The driver has just set them up.
    Fresh,
    /// After the last buffer that an earlier back end used. Network back ends use buffers in order, so this
    /// is where that one stood; what it had taken and not yet used is served again.
    AfterUsed,
}

/// A connected back end.
pub(super) struct Backend {
    frontend: Frontend,
    deadline: Deadline,
    stream: UnixStream,
    features: u64,
}

/// What tells of the back end's end.
pub(super) struct Hangup(UnixStream);

impl Hangup {
    /// To be waited for; never to be read.
    pub(super) fn descriptor(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Backend {
    /// Agrees on everything that does not depend on the guest. The back end must have all of `needed`.
    pub(super) fn connect(
        stream: UnixStream,
        needed: u64,
        threads: &dyn Threads,
    ) -> Result<Self, ConnectBackendError> {
        let ours = stream.try_clone().map_err(ConnectBackendError::Socket)?;
        let cut = stream.try_clone().map_err(ConnectBackendError::Socket)?;
        let deadline = Deadline::new(DEADLINE, cut, threads).map_err(ConnectBackendError::Watch)?;
        let queues = u64::try_from(super::QUEUE_SIZES.len()).expect("two queues");
        let mut frontend = Frontend::from_stream(stream, queues);
        let outcome = deadline.during(|| {
            frontend.set_owner()?;
            let features = frontend.get_features()?;
            if features & PROTOCOL_FEATURES != 0 {
                let wanted = VhostUserProtocolFeatures::REPLY_ACK;
                let agreed = frontend.get_protocol_features()? & wanted;
                frontend.set_protocol_features(agreed)?;
                // Where the back end can confirm, it must: a refused memory table is not noticed otherwise.
                if agreed == wanted {
                    frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
                }
            }
            Ok(features)
        });
        let features = outcome.map_err(ConnectBackendError::Negotiation)?;
        let missing = (PROTOCOL_FEATURES | 1 << VIRTIO_F_VERSION_1 | needed) & !features;
        if missing != 0 {
            return Err(ConnectBackendError::Features { offered: features, missing });
        }
        Ok(Self { frontend, deadline, stream: ours, features })
    }

    /// The virtio features that it has.
    pub(super) fn features(&self) -> u64 {
        self.features
    }

    /// A handle that tells of its end.
    pub(super) fn hangup(&self) -> io::Result<Hangup> {
        self.stream.try_clone().map(Hangup)
    }

    /// Ends the conversation for good.
    pub(super) fn cut(&self) {
        // It may be cut already.
        let _already_cut = self.stream.shutdown(Shutdown::Both);
    }

    /// Hands the rings over. `failed` is written when the back end gives one up.
    pub(super) fn start(
        &mut self,
        regions: &[SharedRegion],
        active: &Activation,
        begin: Begin,
        failed: &EventFd,
    ) -> Result<(), ExchangeError> {
        let always = PROTOCOL_FEATURES | 1 << VIRTIO_F_VERSION_1;
        let features = active.features & super::BACKEND_FEATURES & self.features | always;
        // The back end translates ring addresses by this table alone, so the guest's own addresses serve as
        // ours: no address of this process leaves it.
        let table: Vec<_> = regions
            .iter()
            .map(|region| VhostUserMemoryRegionInfo {
                guest_phys_addr: region.guest_address,
                memory_size: region.size,
                userspace_addr: region.guest_address,
                mmap_offset: region.offset,
                mmap_handle: region.file.as_raw_fd(),
            })
            .collect();
        let frontend = &mut self.frontend;
        self.deadline.during(|| {
            frontend.set_features(features)?;
            frontend.set_mem_table(&table)?;
            for queue in &active.queues {
                start_ring(frontend, active, queue, begin, failed)?;
            }
            for queue in &active.queues {
                frontend.set_vring_enable(usize::from(queue.index), true)?;
            }
            Ok(())
        })
    }

    /// Takes rings back: when this returns the back end touches them no more.
    pub(super) fn stop(&mut self, queues: &[ActiveQueue]) -> Result<(), ExchangeError> {
        let frontend = &mut self.frontend;
        self.deadline.during(|| {
            for index in queues.iter().map(|queue| usize::from(queue.index)) {
                frontend.set_vring_enable(index, false)?;
                frontend.get_vring_base(index)?;
            }
            Ok(())
        })
    }
}

fn start_ring(
    frontend: &Frontend,
    active: &Activation,
    ring: &ActiveQueue,
    begin: Begin,
    failed: &EventFd,
) -> Result<(), ExchangeError> {
    let index = usize::from(ring.index);
    let queue = &ring.queue;
    let base = match begin {
        Begin::Fresh => queue.next_avail(),
        Begin::AfterUsed => queue.used_idx(&*active.memory.memory(), Ordering::Acquire)?.0,
    };
    let addresses = VringConfigData {
        queue_max_size: queue.max_size(),
        queue_size: queue.size(),
        flags: 0,
        desc_table_addr: queue.desc_table(),
        used_ring_addr: queue.used_ring(),
        avail_ring_addr: queue.avail_ring(),
        log_addr: None,
    };
    frontend.set_vring_num(index, queue.size())?;
    frontend.set_vring_addr(index, &addresses)?;
    frontend.set_vring_base(index, base)?;
    frontend.set_vring_err(index, failed)?;
    frontend.set_vring_call(index, &active.interrupt.queue_descriptor(ring.index)?)?;
    frontend.set_vring_kick(index, &ring.kick)?;
    Ok(())
}

/// Cuts a conversation in which one exchange takes too long, which ends that exchange with an error.
///
/// The `vhost` crate retries for ever when a read times out, so a time-out of the socket would not help.
pub(super) struct Deadline {
    /// One message when an exchange begins, one when it has ended.
    exchanges: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Deadline {
    /// Watches over `stream`, with so much time for each exchange.
    pub(super) fn new(limit: Duration, stream: UnixStream, threads: &dyn Threads) -> io::Result<Self> {
        let (exchanges, told) = channel::<()>();
        let watch = move || {
            while told.recv().is_ok() {
                if told.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                    let _already_cut = stream.shutdown(Shutdown::Both);
                    let _ended = told.recv();
                }
            }
        };
        let thread = Some(threads.start(Role::Deadline, Box::new(watch))?);
        Ok(Self { exchanges: Some(exchanges), thread })
    }

    /// Runs an exchange.
    pub(super) fn during<T, E>(&self, exchange: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        // The thread listens until this is dropped.
        let tell = || self.exchanges.as_ref().is_some_and(|sender| sender.send(()).is_ok());
        tell();
        let outcome = exchange();
        tell();
        outcome
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.exchanges = None;
        let _panicked = self.thread.take().map(JoinHandle::join);
    }
}
