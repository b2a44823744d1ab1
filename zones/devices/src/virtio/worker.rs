//! The threads of one active device: each starts with the activation and has ended when its [`Worker`] is
//! dropped.
//!
//! A worker waits in [`Waiter`] and never anywhere else, so that the stop always reaches it; long requests ask
//! [`Stop::asked`] between their pieces.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::counters::Counters;
use super::ring::{BrokenRing, Chain, serve_rings};
use super::threads::{Role, Threads};
use super::{Activation, Interrupt};

/// Why a worker gave up before it was told to stop.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkerError {
    /// The guest left a queue in a state that cannot be served.
    #[error("queue {0}")]
    Ring(#[from] BrokenRing),
    /// The host refused a wait.
    #[error("waiting for events")]
    Io(#[from] io::Error),
}

/// Tells a worker to end.
#[derive(Clone)]
pub(crate) struct Stop(Arc<StopState>);

struct StopState {
    asked: AtomicBool,
    event: EventFd,
}

impl Stop {
    /// A stop that nobody has asked for yet.
    pub(crate) fn new() -> io::Result<Self> {
        let event = EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?;
        Ok(Self(Arc::new(StopState { asked: AtomicBool::new(false), event })))
    }

    /// Whether the worker has to end.
    pub(crate) fn asked(&self) -> bool {
        self.0.asked.load(Ordering::Acquire)
    }

    fn ask(&self) {
        self.0.asked.store(true, Ordering::Release);
        // A full counter is as readable as a fresh one.
        let _already_signalled = self.0.event.write(1);
    }
}

/// A running worker. To drop it is to end it, and to wait until it has ended.
pub(crate) struct Worker {
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts `body` on a thread of its own. When it fails, the device needs a reset.
    pub(crate) fn start(
        threads: &dyn Threads,
        role: Role,
        stop: Stop,
        interrupt: Arc<dyn Interrupt>,
        body: impl FnOnce() -> Result<(), WorkerError> + Send + 'static,
    ) -> io::Result<Self> {
        Self::start_with(threads, role, stop, body, move || interrupt.needs_reset())
    }

    /// The same for a worker that outlives activations: `gave_up` is called when it fails.
    pub(crate) fn start_with(
        threads: &dyn Threads,
        role: Role,
        stop: Stop,
        body: impl FnOnce() -> Result<(), WorkerError> + Send + 'static,
        gave_up: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        let work = move || {
            if let Err(error) = body() {
                // Once per activation, and an activation costs the guest a whole reset.
                tracing::debug!(
                    device = role.name(),
                    error = &error as &dyn std::error::Error,
                    "worker gave up"
                );
                gave_up();
            }
        };
        Ok(Self { stop, thread: Some(threads.start(role, Box::new(work))?) })
    }

    /// Starts a worker that serves these queues of `activation`, and nothing else, with `serve`, which is told
    /// the queue's number and says how many bytes it wrote.
    pub(crate) fn serve_queues(
        role: Role,
        activation: &mut Activation,
        queues: &[u16],
        counters: &Arc<Counters>,
        serve: impl FnMut(u16, &mut Chain) -> u32 + Send + 'static,
    ) -> io::Result<Self> {
        let rings = queues.iter().map(|index| activation.take_ring(*index, counters));
        let rings = rings.collect::<io::Result<_>>()?;
        let (stop, interrupt) = (Stop::new()?, Arc::clone(&activation.interrupt));
        Self::start(&*activation.threads, role, stop.clone(), Arc::clone(&interrupt), move || {
            serve_rings(rings, &stop, &*interrupt, serve)
        })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.ask();
        let ended = self.thread.take().map_or(Ok(()), JoinHandle::join);
        if let Err(panic) = ended
            && !std::thread::panicking()
        {
            // Our bug: it must not look like an orderly end.
            std::panic::resume_unwind(panic);
        }
    }
}

/// What a worker waits for.
pub(crate) struct Waiter {
    epoll: Epoll,
    stop: Stop,
}

/// The tokens of the descriptors that are ready.
pub(crate) struct Ready {
    events: [EpollEvent; Waiter::BATCH],
    count: usize,
}

impl Ready {
    /// Token and state of each ready descriptor.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, EventSet)> {
        self.events.iter().take(self.count).map(|event| (event.data(), event.event_set()))
    }
}

impl Waiter {
    const BATCH: usize = 16;
    const STOP: u64 = u64::MAX;

    /// Waits for `stop`.
    pub(crate) fn new(stop: &Stop) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        epoll.ctl(
            ControlOperation::Add,
            stop.0.event.as_raw_fd(),
            EpollEvent::new(EventSet::IN, Self::STOP),
        )?;
        Ok(Self { epoll, stop: stop.clone() })
    }

    /// Also waits for `descriptor`, which must stay open until it is removed or the waiter is dropped.
    pub(crate) fn add(&self, descriptor: RawFd, token: u64, events: EventSet) -> io::Result<()> {
        self.epoll.ctl(ControlOperation::Add, descriptor, EpollEvent::new(events, token))
    }

    /// No longer waits for `descriptor`.
    pub(crate) fn remove(&self, descriptor: RawFd) -> io::Result<()> {
        self.epoll.ctl(ControlOperation::Delete, descriptor, EpollEvent::default())
    }

    /// Waits until something is ready; `None` when the worker has to stop.
    pub(crate) fn wait(&self) -> io::Result<Option<Ready>> {
        self.wait_for(-1)
    }

    /// What is ready now; `None` when the worker has to stop.
    pub(crate) fn look(&self) -> io::Result<Option<Ready>> {
        self.wait_for(0)
    }

    fn wait_for(&self, milliseconds: i32) -> io::Result<Option<Ready>> {
        let mut events = [EpollEvent::default(); Self::BATCH];
        loop {
            match self.epoll.wait(milliseconds, &mut events) {
                Ok(_) if self.stop.asked() => return Ok(None),
                Ok(count) => return Ok(Some(Ready { events, count })),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
