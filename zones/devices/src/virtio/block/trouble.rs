//! That the host's file behind a disk failed, told to whoever can do something about it.
//!
//! A guest may repeat what fails as often as it likes, so not every failure is told: the first one, and then each time
//! that their number has doubled.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// A descriptor that becomes readable when the file failed a request, and what was the matter.
#[derive(Debug)]
pub struct Trouble {
    event: EventFd,
    full: Arc<AtomicBool>,
}

impl Trouble {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { event: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?, full: Arc::default() })
    }

    pub(super) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { event: self.event.try_clone()?, full: Arc::clone(&self.full) })
    }

    pub(super) fn tell(&self, error: &(dyn std::error::Error + 'static)) {
        self.full.store(is_full(error), Ordering::Relaxed);
        // A count that is full says already that something failed.
        let _told = self.event.write(1);
    }

    /// Takes the news: `None` when nothing failed since the last time, otherwise whether there was no room.
    #[must_use]
    pub fn take(&self) -> Option<bool> {
        self.event.read().ok().map(|_count| self.full.load(Ordering::Relaxed))
    }
}

impl AsRawFd for Trouble {
    fn as_raw_fd(&self) -> RawFd {
        self.event.as_raw_fd()
    }
}

/// Whether a failure, or what caused it, is that there is no room.
fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    let no_room = |kind| matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let mut next = Some(error);
    while let Some(error) = next {
        let io = error.downcast_ref::<io::Error>().map(io::Error::kind);
        let errno = error.downcast_ref::<rustix::io::Errno>().map(|errno| errno.kind());
        if io.or(errno).is_some_and(no_room) {
            return true;
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::super::flush::FlushError;
    use super::*;

    #[test]
    fn a_full_disk_is_told_apart_from_a_broken_one() {
        let full = io::Error::from(rustix::io::Errno::NOSPC);
        assert!(is_full(&full) && is_full(&rustix::io::Errno::DQUOT) && is_full(&FlushError::Failed(full)));
        assert!(!is_full(&rustix::io::Errno::IO) && !is_full(&FlushError::Lost));
    }

    #[test]
    fn news_are_taken_once() {
        let trouble = Trouble::new().unwrap();
        let other = trouble.try_clone().unwrap();
        assert_eq!(other.take(), None);
        trouble.tell(&rustix::io::Errno::NOSPC);
        assert_eq!((other.take(), other.take()), (Some(true), None));
        trouble.tell(&rustix::io::Errno::IO);
        assert_eq!(other.take(), Some(false));
    }
}
