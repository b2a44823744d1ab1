//! The threads of the process, each in the role that `jail::roles` gives it.
//!
//! ```text
//!   main   enters MAIN before it reads anything that is not its own
//!   maker  makes all other threads, on request, and nothing else
//!            +-- vcpuN, and the devices' threads: each enters its role before its work begins
//! ```
//! A thread hands its filters on to those that it makes. So neither the main thread nor a processor can make one,
//! and what makes them listens to nobody outside this process. A thread that cannot enter its role does no work:
//! whoever wanted it gets the reason, and for a device's thread the machine ends with it.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use devices::virtio::threads::{self, Threads};
use jail::roles::{self, Role};
use zone_protocol::vmm::End;

use crate::ending::Ending;

/// What a thread is there for.
type Work = Box<dyn FnOnce() + Send>;

/// A thread that somebody wants.
struct Order {
    role: Role,
    name: String,
    work: Work,
    answer: Sender<io::Result<JoinHandle<()>>>,
}

/// The maker of threads. It ends when this is dropped.
pub(crate) struct Maker {
    orders: Mutex<Option<Sender<Order>>>,
    thread: Option<JoinHandle<()>>,
}

impl Maker {
    /// Starts it, in its role.
    ///
    /// # Errors
    /// It cannot enter its role, or there is no thread.
    pub(crate) fn new() -> io::Result<Self> {
        let (orders, ordered) = channel::<Order>();
        let (entered, answer) = channel();
        let thread = std::thread::Builder::new().name("maker".to_owned()).spawn(move || {
            if confine(roles::MAKER, &entered) {
                make_threads(&ordered);
            }
        })?;
        answer.recv().map_err(io::Error::other)??;
        Ok(Self { orders: Mutex::new(Some(orders)), thread: Some(thread) })
    }

    /// Runs `work` on a thread of its own, in `role`.
    ///
    /// # Errors
    /// There is no such thread, and `work` did not run.
    pub(crate) fn start(&self, role: Role, name: &str, work: Work) -> io::Result<JoinHandle<()>> {
        let (answer, made) = channel();
        let order = Order { role, name: name.to_owned(), work, answer };
        let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = || io::Error::other("the maker of threads is gone");
        orders.as_ref().ok_or_else(gone)?.send(order).map_err(|_not_taken| gone())?;
        drop(orders);
        made.recv().map_err(|_no_answer| gone())?
    }
}

impl Drop for Maker {
    fn drop(&mut self) {
        *self.orders.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let _panicked = self.thread.take().map(JoinHandle::join);
    }
}

/// Carries orders out, one after the other.
fn make_threads(ordered: &Receiver<Order>) {
    for Order { role, name, work, answer } in ordered {
        let (entered, is_in) = channel();
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            if confine(role, &entered) {
                work();
            }
        });
        let made = thread.and_then(|thread| is_in.recv().map_err(io::Error::other)?.map(|()| thread));
        // Whoever wanted it waits for this.
        let _nobody = answer.send(made);
    }
}

/// Enters a role and says how that went; whether the thread may go on.
fn confine(role: Role, entered: &Sender<io::Result<()>>) -> bool {
    let outcome = role.enter().map_err(io::Error::other);
    let confined = outcome.is_ok();
    entered.send(outcome).is_ok() && confined
}

/// Threads for the devices of a machine.
pub(crate) struct DeviceThreads {
    pub(crate) maker: Arc<Maker>,
    pub(crate) ending: Arc<Ending>,
}

impl Threads for DeviceThreads {
    /// A device without its thread could be taken for one that its driver set up wrongly: the machine ends instead.
    fn start(&self, role: threads::Role, work: Work) -> io::Result<JoinHandle<()>> {
        let made = self.maker.start(of_device(role), role.name(), work);
        if let Err(error) = &made {
            self.ending.end(End::Failed(format!("thread {}: {error}", role.name())));
        }
        made
    }
}

/// What a device's thread may do.
fn of_device(role: threads::Role) -> Role {
    match role {
        threads::Role::Disk => roles::DISK,
        threads::Role::Random => roles::RANDOM,
        threads::Role::Console => roles::CONSOLE,
        threads::Role::Vsock => roles::VSOCK,
        threads::Role::Balloon => roles::BALLOON,
        threads::Role::NetWatch => roles::NET_WATCH,
        threads::Role::Deadline => roles::DEADLINE,
    }
}

#[cfg(test)]
mod tests;
