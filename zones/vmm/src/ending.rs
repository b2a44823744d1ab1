//! How the machine ends: whoever comes first says why, everybody else is too late.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use rustix::event::{EventfdFlags, eventfd};
use vm_kvm::VcpuExitReason;
use zone_protocol::vmm::End;

/// The first reason, and the event that wakes the main thread.
#[derive(Debug)]
pub(crate) struct Ending {
    first: OnceLock<End>,
    event: OwnedFd,
}

impl Ending {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            first: OnceLock::new(),
            event: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?,
        })
    }

    /// The machine ends because of this, unless it ends already.
    pub(crate) fn end(&self, reason: End) {
        if self.first.set(reason).is_ok() {
            // The counter is empty, so it takes one.
            let _woken = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
        }
    }

    /// The reason, once there is one.
    pub(crate) fn reason(&self) -> Option<&End> {
        self.first.get()
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
    fn the_first_reason_wins() {
        let ending = Ending::new().unwrap();
        assert_eq!(ending.reason(), None);
        ending.processor_ended(&VcpuExitReason::Handled);
        assert_eq!(ending.reason(), None);
        ending.end(End::Panic);
        ending.end(End::Reset);
        ending.processor_ended(&VcpuExitReason::TripleFault);
        assert_eq!(ending.reason(), Some(&End::Panic));
        let mut count = [0; 8];
        assert_eq!(rustix::io::read(ending.event(), &mut count), Ok(8));
        assert_eq!(u64::from_ne_bytes(count), 1);
    }
}
