//! How a run of the machine ends: whoever comes first says why, everybody else is too late.
//!
//! After a reset of the machine the same object waits for the next end.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};
use vm_kvm::VcpuExitReason;
use zone_protocol::vmm::End;

/// The first reason, and the event that wakes the main thread.
#[derive(Debug)]
pub(crate) struct Ending {
    first: Mutex<Option<End>>,
    /// Whether there is a reason: processors look at it after every exit.
    over: AtomicBool,
    event: OwnedFd,
}

impl Ending {
    pub(crate) fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self { first: Mutex::new(None), over: AtomicBool::new(false), event })
    }

    fn first(&self) -> MutexGuard<'_, Option<End>> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The machine ends because of this, unless it ends already.
    pub(crate) fn end(&self, reason: End) {
        let mut first = self.first();
        if first.is_none() {
            *first = Some(reason);
            self.over.store(true, Ordering::Release);
            // The counter is empty, so it takes one.
            let _woken = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
        }
    }

    /// As [`Ending::end`], but a reset that came before does not count: it would have the machine run on against the
    /// host's will, for ever if the guest only resets itself fast enough.
    pub(crate) fn insist(&self, reason: End) {
        let mut first = self.first();
        if matches!(*first, Some(End::Reset)) {
            *first = Some(reason);
        } else {
            drop(first);
            self.end(reason);
        }
    }

    /// Whether there is a reason.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Whether the guest resets itself, and nobody insists on more.
    pub(crate) fn is_reset(&self) -> bool {
        matches!(*self.first(), Some(End::Reset))
    }

    /// The reason, if there is one. From now on the next one counts: no processor runs and no device works.
    pub(crate) fn take(&self) -> Option<End> {
        let mut first = self.first();
        self.over.store(false, Ordering::Release);
        let mut count = [0; 8];
        // Empty is as good as emptied.
        let _count = rustix::io::read(&self.event, &mut count);
        first.take()
    }

    /// Readable once there is a reason.
    pub(crate) fn event(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// A processor has run its last instruction.
    pub(crate) fn processor_ended(&self, reason: &VcpuExitReason) {
        match reason {
            // Whoever stopped it has said why.
            VcpuExitReason::Kicked | VcpuExitReason::Handled => {}
            VcpuExitReason::TripleFault => self.end(End::Failed("triple fault".to_owned())),
            VcpuExitReason::Failed(what) => self.end(End::Failed(format!("KVM: {what}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_does_not_outrun_the_host() {
        let ending = Ending::new().unwrap();
        let killed = || End::Failed("killed".to_owned());
        for (before, expected) in [
            (None, killed()),
            (Some(End::Reset), killed()),
            (Some(End::Panic), End::Panic),
            (Some(End::ShutDown), End::ShutDown),
        ] {
            before.into_iter().for_each(|reason| ending.end(reason));
            ending.insist(killed());
            assert!(ending.is_over());
            assert_eq!(ending.take(), Some(expected));
        }
    }

    #[test]
    fn the_first_reason_wins_each_time() {
        let ending = Ending::new().unwrap();
        let mut count = [0; 8];
        for _ in 0..2 {
            assert!(!ending.is_over());
            ending.processor_ended(&VcpuExitReason::Handled);
            assert!(!ending.is_over());
            rustix::io::read(ending.event(), &mut count).unwrap_err();
            ending.end(End::Panic);
            ending.end(End::Reset);
            ending.processor_ended(&VcpuExitReason::TripleFault);
            assert!(ending.is_over());
            assert_eq!(ending.take(), Some(End::Panic));
        }
        ending.end(End::Reset);
        assert_eq!(rustix::io::read(ending.event(), &mut count), Ok(8));
        assert_eq!(u64::from_ne_bytes(count), 1);
    }
}
