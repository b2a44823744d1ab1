//! virtio-net (virtio 1.3, section 5.1) whose other half is another process: a vhost-user front end.
//!
//! This process shows the guest a MAC address, a link and the features that the back end has; the rings
//! themselves, the notifications and the interrupts run between guest and back end. No packet ever passes
//! through here.
//!
//! ```text
//!               hang-up, refusal or silence of the back end
//!   link up  -------------------------------------------------->  link down: the guest runs on,
//!   (the back end serves     NetControl::reconnect                 its rings stand still
//!    the driver's rings) <----------------------------------------
//! ```
//! The driver may come, go and reset in either state. The back end is not trusted to answer: every exchange
//! has a deadline, after which the connection is cut. The features that the guest was shown stay: another
//! back end must have them all.

mod backend;

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use virtio_bindings::virtio_ids::VIRTIO_ID_NET;
use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6,
    VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_MAC, VIRTIO_NET_F_MRG_RXBUF,
    VIRTIO_NET_F_STATUS, VIRTIO_NET_S_LINK_UP,
};
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use self::backend::{Backend, Begin, Hangup};
pub use self::backend::{ConnectBackendError, ExchangeError};
pub use super::SharedRegion;
use super::threads::{Role, Threads};
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
    mac: [u8; 6],
    core: Arc<Core>,
}

/// Gives a [`Net`], which its bus owns, another back end while the guest runs.
#[derive(Clone)]
pub struct NetControl(Arc<Core>);

/// The new back end does not serve the guest. The link is down.
#[derive(Debug, thiserror::Error)]
pub enum ReconnectError {
    /// It cannot be the back end of this device.
    #[error(transparent)]
    Connect(#[from] ConnectBackendError),
    /// It did not take the driver's rings over.
    #[error(transparent)]
    Start(#[from] ExchangeError),
}

/// What driver and VMM share.
struct Core {
    regions: Vec<SharedRegion>,
    /// What the guest was offered of [`BACKEND_FEATURES`].
    offered: u64,
    link: Arc<Link>,
    threads: Arc<dyn Threads>,
    /// Held during exchanges, so that a reset and a new back end never meet half-way.
    state: Mutex<State>,
}

struct State {
    /// The last one; it serves nobody while the link is down.
    connection: Connection,
    /// What the driver set up, while it is there.
    active: Option<Activation>,
}

struct Connection {
    backend: Backend,
    failed: EventFd,
    watcher: Option<Worker>,
}

/// Whether a back end is there, and who wants to know.
struct Link {
    up: AtomicBool,
    lost: EventFd,
    driver: Mutex<Option<Arc<dyn Interrupt>>>,
}

impl Link {
    fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    /// Takes the link down, unless it is, and says so to VMM and driver.
    fn lose(&self) {
        if self.up.swap(false, Ordering::AcqRel) {
            // A full counter is as readable as a fresh one.
            let _already_signalled = self.lost.write(1);
            self.tell_driver();
        }
    }

    /// The link is not what it was.
    fn tell_driver(&self) {
        if let Some(driver) = self.driver() {
            driver.signal_config();
        }
    }

    fn driver(&self) -> Option<Arc<dyn Interrupt>> {
        self.driver.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_driver(&self, driver: Option<Arc<dyn Interrupt>>) {
        *self.driver.lock().unwrap_or_else(PoisonError::into_inner) = driver;
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
        threads: Arc<dyn Threads>,
    ) -> Result<Self, ConnectBackendError> {
        let lost = event().map_err(ConnectBackendError::Watch)?;
        let link = Arc::new(Link { up: AtomicBool::new(true), lost, driver: Mutex::new(None) });
        let mut connection = Connection::new(stream, 0, &*threads)?;
        connection.watch(&link, &*threads)?;
        let offered = connection.backend.features() & BACKEND_FEATURES;
        let state = Mutex::new(State { connection, active: None });
        Ok(Self { mac, core: Arc::new(Core { regions, offered, link, threads, state }) })
    }

    /// For whoever finds a new back end when this one is lost.
    pub fn control(&self) -> NetControl {
        NetControl(Arc::clone(&self.core))
    }

    /// See [`NetControl::lost`].
    ///
    /// # Errors
    /// What duplicating the descriptor reports.
    pub fn lost(&self) -> io::Result<EventFd> {
        self.core.link.lost.try_clone()
    }

    fn config(&self) -> [u8; 8] {
        let [a, b, c, d, e, f] = self.mac;
        let link_up = u8::try_from(VIRTIO_NET_S_LINK_UP).expect("the link's status bit is the lowest");
        [a, b, c, d, e, f, if self.core.link.is_up() { link_up } else { 0 }, 0]
    }
}

impl NetControl {
    /// A descriptor that becomes readable when there is no back end any more: at once when it hung up, and
    /// when another one turned out to be of no use. Whoever reads it has taken note.
    ///
    /// # Errors
    /// What duplicating the descriptor reports.
    pub fn lost(&self) -> io::Result<EventFd> {
        self.0.link.lost.try_clone()
    }

    /// Lets the back end at the other end of `stream` serve the guest from where the last one stood. The
    /// last one is stopped first if it is still there. Three exchanges, each with its deadline: a driver that
    /// resets meanwhile waits.
    ///
    /// # Errors
    /// [`ReconnectError`]: the link is down, and another attempt may follow.
    pub fn reconnect(&self, stream: UnixStream) -> Result<(), ReconnectError> {
        let core = &*self.0;
        let mut state = core.lock();
        let State { connection, active } = &mut *state;
        connection.end(&core.link, active.as_ref());
        // A loss that nobody took note of is over, one way or the other.
        let _count = core.link.lost.read();
        let outcome = core.replace(connection, active.as_ref(), stream);
        if outcome.is_err() {
            // The counter is empty, so it takes one.
            let _signalled = core.link.lost.write(1);
        }
        // Up again, or down now if it was not before.
        core.link.tell_driver();
        outcome
    }
}

impl Core {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a new back end in the place of one that has ended.
    fn replace(
        &self,
        connection: &mut Connection,
        active: Option<&Activation>,
        stream: UnixStream,
    ) -> Result<(), ReconnectError> {
        let mut next = Connection::new(stream, self.offered, &*self.threads)?;
        if let Some(active) = active {
            next.backend.start(&self.regions, active, Begin::AfterUsed, &next.failed)?;
        }
        self.link.up.store(true, Ordering::Release);
        next.watch(&self.link, &*self.threads)?;
        *connection = next;
        for (active, queue) in active.iter().flat_map(|active| active.queues.iter().map(move |q| (active, q)))
        {
            // A notification may have died with the last back end, and so may an interrupt.
            let _full = queue.kick.write(1);
            active.interrupt.signal_queue(queue.index);
        }
        Ok(())
    }
}

impl Connection {
    fn new(stream: UnixStream, needed: u64, threads: &dyn Threads) -> Result<Self, ConnectBackendError> {
        let failed = event().map_err(ConnectBackendError::Watch)?;
        Ok(Self { backend: Backend::connect(stream, needed, threads)?, failed, watcher: None })
    }

    /// Has `link` learn of the back end's end.
    fn watch(&mut self, link: &Arc<Link>, threads: &dyn Threads) -> Result<(), ConnectBackendError> {
        let start = || {
            let stop = Stop::new()?;
            let (hangup, failed) = (self.backend.hangup()?, self.failed.try_clone()?);
            let (watched, abandoned, of_worker) = (Arc::clone(link), Arc::clone(link), stop.clone());
            let body = move || Ok(watch(&hangup, &failed, &watched, &of_worker)?);
            Worker::start_with(threads, Role::NetWatch, stop, body, move || abandoned.lose())
        };
        self.watcher = Some(start().map_err(|error| {
            link.up.store(false, Ordering::Release);
            ConnectBackendError::Watch(error)
        })?);
        Ok(())
    }

    /// Takes the rings away from the back end, if it can still be asked to, and ends the conversation.
    fn end(&mut self, link: &Link, active: Option<&Activation>) {
        self.watcher = None;
        if link.up.swap(false, Ordering::AcqRel)
            && let Some(active) = active
            && let Err(error) = self.backend.stop(&active.queues)
        {
            tracing::warn!(error = &error as &dyn std::error::Error, "replaced network back end");
        }
        self.backend.cut();
    }

    /// The back end failed: the guest keeps a NIC without a link.
    fn fail(&self, link: &Link, error: &ExchangeError) {
        self.backend.cut();
        tracing::warn!(error = error as &dyn std::error::Error, "network back end lost");
        link.lose();
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
        1 << VIRTIO_NET_F_MAC | 1 << VIRTIO_NET_F_STATUS | self.core.offered
    }

    fn read_config(&self, offset: u32, data: &mut [u8]) {
        super::read_config_bytes(&self.config(), offset, data);
    }

    /// Never fails for the back end's sake: without one the guest sees a link that is down.
    fn activate(&mut self, activation: Activation) -> io::Result<()> {
        self.reset();
        let core = &*self.core;
        let State { connection, active } = &mut *core.lock();
        core.link.set_driver(Some(Arc::clone(&activation.interrupt)));
        // From here on the back end may hold rings, whatever it answers.
        let activation = active.insert(activation);
        if core.link.is_up() {
            let started =
                connection.backend.start(&core.regions, activation, Begin::Fresh, &connection.failed);
            if let Err(error) = started {
                connection.fail(&core.link, &error);
            }
        }
        Ok(())
    }

    fn reset(&mut self) {
        let core = &*self.core;
        let State { connection, active } = &mut *core.lock();
        core.link.set_driver(None);
        if let Some(active) = active.take()
            && core.link.is_up()
            && let Err(error) = connection.backend.stop(&active.queues)
        {
            connection.fail(&core.link, &error);
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.reset();
        // Whoever holds a `NetControl` keeps no back end alive.
        self.core.lock().connection.end(&self.core.link, None);
    }
}

fn event() -> io::Result<EventFd> {
    EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)
}

/// Waits for the back end to hang up, or to give up a ring.
fn watch(hangup: &Hangup, failed: &EventFd, link: &Link, stop: &Stop) -> io::Result<()> {
    const HANGUP: u64 = 0;
    const FAILED: u64 = 1;
    let waiter = Waiter::new(stop)?;
    waiter.add(hangup.descriptor(), HANGUP, EventSet::READ_HANG_UP)?;
    waiter.add(failed.as_raw_fd(), FAILED, EventSet::IN)?;
    while let Some(ready) = waiter.wait()? {
        for (token, _) in ready.iter() {
            if token == HANGUP {
                waiter.remove(hangup.descriptor())?;
                if link.is_up() {
                    tracing::warn!("network back end hung up");
                    link.lose();
                }
            } else {
                let _count = failed.read();
                tracing::debug!("network back end gave a ring up");
                if let Some(driver) = link.driver() {
                    driver.needs_reset();
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "tests choose numbers that fit")]
mod tests;
