//! A processor's thread: runs the guest, hands its port and memory accesses to a handler, ends cleanly.
//!
//! ```text
//!   running --pause--> parked between two instructions --resume--> running
//!      |                  |
//!      +------ kick ------+--> ended, for good
//! ```
//! The first reason to leave the guest for good wins. [`VcpuThread::kick`] and [`VcpuThread::pause`] can come
//! at any moment: they set a flag in the page shared with the kernel, then interrupt the thread by a signal.
//! Before `KVM_RUN` the flag makes it return at once, inside the signal does; there is no gap between the two.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::thread::JoinHandle;

use kvm_bindings::kvm_run;
use kvm_ioctls::{VcpuExit, VcpuFd};
use vmm_sys_util::signal::{Killable, SIGRTMIN, register_signal_handler};

use crate::GuestRam;

/// What to do after an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Back into the guest.
    Continue,
    /// This processor has run its last instruction.
    Stop,
}

/// Answers a guest's accesses to ports and to addresses without memory. Called on every processor's thread.
/// Reads must fill all of `data`; string instructions come as one access with several elements in `data`.
pub trait ExitHandler: Send + Sync {
    /// IN.
    fn port_read(&self, port: u16, data: &mut [u8]);
    /// OUT.
    fn port_write(&self, port: u16, data: &[u8]) -> Next;
    /// Load, at most 8 bytes.
    fn memory_read(&self, address: u64, data: &mut [u8]);
    /// Store, at most 8 bytes.
    fn memory_write(&self, address: u64, data: &[u8]) -> Next;
}

/// Why a processor ran its last instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VcpuExitReason {
    /// [`VcpuThread::kick`].
    Kicked,
    /// The handler said [`Next::Stop`].
    Handled,
    /// Triple fault.
    TripleFault,
    /// KVM cannot go on: what it said.
    Failed(String),
}

/// How often a processor left the guest for our process. Exits that the kernel handles are not among them.
#[derive(Debug, Default)]
pub struct ExitCounters {
    /// Accesses to ports.
    pub port: AtomicU64,
    /// Accesses to addresses without memory.
    pub memory: AtomicU64,
    /// Anything else.
    pub other: AtomicU64,
}

/// What a processor does: to be run on a thread of its own.
pub type Work = Box<dyn FnOnce() + Send>;

/// A processor that has not run yet.
#[derive(Debug)]
pub struct Vcpu {
    index: u8,
    descriptor: VcpuFd,
    ram: GuestRam,
}

/// What the thread and its handle share. The handle keeps the page that the flag lies in mapped.
#[derive(Debug)]
struct Shared {
    descriptor: Mutex<VcpuFd>,
    /// KVM's memory slots point into it.
    _ram: GuestRam,
    /// Something in `gate` is for the thread to see; it looks at this flag after every exit.
    attention: AtomicBool,
    gate: Mutex<Gate>,
    changed: Condvar,
    counters: Arc<ExitCounters>,
}

/// What is wanted of the thread, and what it says about itself.
#[derive(Debug)]
struct Gate {
    wish: Wish,
    parked: bool,
    ended: Option<VcpuExitReason>,
}

/// What is wanted of a processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Run,
    Pause,
    Stop,
}

/// `immediate_exit` in the page shared with the kernel.
#[derive(Debug)]
struct ImmediateExit(*mut u8);

// SAFETY: it is only used as an atomic byte, and `Shared` keeps the page mapped.
unsafe impl Send for ImmediateExit {}
// SAFETY: as above.
unsafe impl Sync for ImmediateExit {}

/// A running processor.
#[derive(Debug)]
pub struct VcpuThread {
    thread: JoinHandle<()>,
    shared: Arc<Shared>,
    immediate_exit: ImmediateExit,
}

impl Vcpu {
    pub(crate) fn new(index: u8, descriptor: VcpuFd, ram: GuestRam) -> Self {
        Self { index, descriptor, ram }
    }

    /// Starts the thread, which `spawn` makes, given its name. `ended` is called on it when the processor has run its
    /// last instruction.
    ///
    /// # Errors
    /// What making a thread reports.
    pub fn start(
        mut self,
        handler: Arc<dyn ExitHandler>,
        spawn: impl FnOnce(String, Work) -> io::Result<JoinHandle<()>>,
        ended: impl FnOnce(&VcpuExitReason) + Send + 'static,
    ) -> io::Result<VcpuThread> {
        install_signal_handler()?;
        let immediate_exit = ImmediateExit(&raw mut self.descriptor.get_kvm_run().immediate_exit);
        let shared = Arc::new(Shared {
            descriptor: Mutex::new(self.descriptor),
            _ram: self.ram,
            attention: AtomicBool::new(false),
            gate: Mutex::new(Gate { wish: Wish::Run, parked: false, ended: None }),
            changed: Condvar::new(),
            counters: Arc::default(),
        });
        let of_thread = Arc::clone(&shared);
        let work = move || {
            let reason = of_thread.run(&*handler);
            of_thread.gate().ended = Some(reason.clone());
            of_thread.changed.notify_all();
            ended(&reason);
        };
        let thread = spawn(format!("vcpu{}", self.index), Box::new(work))?;
        Ok(VcpuThread { thread, shared, immediate_exit })
    }
}

impl Shared {
    /// Runs until something ends it.
    fn run(&self, handler: &dyn ExitHandler) -> VcpuExitReason {
        let mut vcpu = self.descriptor.lock().unwrap_or_else(PoisonError::into_inner);
        while !self.attention.load(Ordering::Acquire) || self.wait_at_gate(&vcpu) {
            let counters = &self.counters;
            let (counter, next) = match vcpu.run() {
                Ok(VcpuExit::IoIn(port, data)) => {
                    handler.port_read(port, data);
                    (&counters.port, Ok(Next::Continue))
                }
                Ok(VcpuExit::IoOut(port, data)) => (&counters.port, Ok(handler.port_write(port, data))),
                Ok(VcpuExit::MmioRead(address, data)) => {
                    handler.memory_read(address, data);
                    (&counters.memory, Ok(Next::Continue))
                }
                Ok(VcpuExit::MmioWrite(address, data)) => {
                    (&counters.memory, Ok(handler.memory_write(address, data)))
                }
                Ok(VcpuExit::Intr) => (&counters.other, Ok(Next::Continue)),
                Ok(VcpuExit::Shutdown) => (&counters.other, Err(VcpuExitReason::TripleFault)),
                Ok(VcpuExit::InternalError) => {
                    let details = internal_error(vcpu.get_kvm_run());
                    (&counters.other, Err(VcpuExitReason::Failed(details)))
                }
                Ok(exit) => (&counters.other, Err(VcpuExitReason::Failed(format!("{exit:?}")))),
                Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {
                    (&counters.other, Ok(Next::Continue))
                }
                Err(error) => (&counters.other, Err(VcpuExitReason::Failed(error.to_string()))),
            };
            counter.fetch_add(1, Ordering::Relaxed);
            match next {
                Ok(Next::Continue) => {}
                Ok(Next::Stop) => return VcpuExitReason::Handled,
                Err(reason) => return reason,
            }
        }
        VcpuExitReason::Kicked
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Parks while the processor is paused. Whether it may run on.
    fn wait_at_gate(&self, vcpu: &VcpuFd) -> bool {
        let mut gate = self.gate();
        if gate.wish == Wish::Pause {
            // The guest learns that it did not run, so that its watchdogs do not blame it. A guest without
            // kvmclock cannot be told.
            let _no_clock = vcpu.kvmclock_ctrl();
        }
        while gate.wish == Wish::Pause {
            if !gate.parked {
                gate.parked = true;
                self.changed.notify_all();
            }
            gate = self.changed.wait(gate).unwrap_or_else(PoisonError::into_inner);
        }
        gate.parked = false;
        gate.wish == Wish::Run
    }
}

impl VcpuThread {
    /// Gets the processor out of the guest for good. It does not wait: [`VcpuThread::join`] does.
    pub fn kick(&self) {
        self.want(Wish::Stop);
    }

    /// Asks the processor to stop between two instructions until [`VcpuThread::resume`]. It does not wait:
    /// [`VcpuThread::wait_until_parked`] does, so that several processors stop at about the same time.
    pub fn pause(&self) {
        self.want(Wish::Pause);
    }

    /// Waits until a processor that was asked to pause does not run, be it because it has ended.
    pub fn wait_until_parked(&self) {
        let mut gate = self.shared.gate();
        while gate.wish == Wish::Pause && !gate.parked && gate.ended.is_none() {
            gate = self.shared.changed.wait(gate).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets a paused processor go on; without effect on any other one.
    pub fn resume(&self) {
        let mut gate = self.shared.gate();
        if gate.wish == Wish::Pause {
            gate.wish = Wish::Run;
            self.shared.attention.store(false, Ordering::Release);
            self.set_immediate_exit(0);
            self.shared.changed.notify_all();
        }
    }

    /// Says what is wanted and gets the processor out of the guest, so that it sees it.
    fn want(&self, wish: Wish) {
        let mut gate = self.shared.gate();
        if gate.wish == Wish::Stop {
            return;
        }
        gate.wish = wish;
        self.shared.attention.store(true, Ordering::Release);
        self.set_immediate_exit(1);
        self.shared.changed.notify_all();
        drop(gate);
        // A thread that has ended needs no signal, and any other failure shows when joining.
        let _ended = self.thread.kill(SIGRTMIN());
    }

    /// While set, `KVM_RUN` returns before the guest's next instruction.
    fn set_immediate_exit(&self, value: u8) {
        // SAFETY: the byte lies in the kvm_run page, which `self.shared` keeps mapped; the kernel only reads
        // it, and this process touches it through this atomic alone.
        let flag = unsafe { AtomicU8::from_ptr(self.immediate_exit.0) };
        flag.store(value, Ordering::SeqCst);
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// When the handler panicked.
    #[must_use]
    pub fn join(self) -> VcpuExitReason {
        if let Err(panic) = self.thread.join() {
            std::panic::resume_unwind(panic);
        }
        self.shared.gate().ended.take().expect("a processor's thread says why it ended, or panics")
    }

    /// How often it left the guest so far.
    #[must_use]
    pub fn counters(&self) -> Arc<ExitCounters> {
        Arc::clone(&self.shared.counters)
    }
}

/// What KVM says about an error of its own: its kind, and data that only its source explains.
fn internal_error(run: &kvm_run) -> String {
    // SAFETY: KVM_EXIT_INTERNAL_ERROR fills this member, and plain integers are valid whatever they hold.
    let error = unsafe { run.__bindgen_anon_1.internal };
    let count = usize::try_from(error.ndata).unwrap_or(usize::MAX).min(error.data.len());
    let data = error.data.get(..count).unwrap_or_default();
    format!("internal error {}, data {data:x?}", error.suberror)
}

/// The signal has to interrupt a system call, nothing else.
fn install_signal_handler() -> io::Result<()> {
    extern "C" fn interrupt(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}
    static ONCE: Once = Once::new();
    let mut result = Ok(());
    ONCE.call_once(|| {
        result = register_signal_handler(SIGRTMIN(), interrupt)
            .map_err(|error| io::Error::from_raw_os_error(error.errno()));
    });
    result
}
