//! Brings a disk to stable storage, for all of its queues.
//!
//! A flush that completes with success covers every write that completed before the flush was asked for, in
//! whatever queue. Two rules keep that true when queues race:
//!
//! - One flush may stand for another only if it *began* after the other was asked for.
//! - The kernel reports a lost write to one flush and then forgets it, so after one failure no flush of this
//!   disk succeeds any more, whatever is reset: what a guest believes to be stable must be.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Mutex, PoisonError};

/// Why a flush did not do what it should.
#[derive(Debug, thiserror::Error)]
pub(super) enum FlushError {
    /// This flush failed.
    #[error("bringing the disk to stable storage")]
    Failed(#[from] io::Error),
    /// An earlier one did.
    #[error("writes were lost earlier")]
    Lost,
}

/// The flushes of one disk.
#[derive(Debug, Default)]
pub(super) struct Flusher {
    /// How many have begun.
    begun: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Number of the last one that succeeded: the first has number one.
    succeeded: u64,
    failed: bool,
}

impl Flusher {
    /// Calls `sync`, or waits for another queue's call that covers this one. At most one call runs at a time.
    pub(super) fn flush(&self, sync: impl FnOnce() -> io::Result<()>) -> Result<(), FlushError> {
        // What this queue wrote comes before the look at the number, on every processor.
        fence(Ordering::SeqCst);
        let begun = self.begun.load(Ordering::SeqCst);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.failed {
            return Err(FlushError::Lost);
        }
        if state.succeeded > begun {
            return Ok(());
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst).saturating_add(1);
        sync().inspect_err(|_error| state.failed = true)?;
        state.succeeded = number;
        Ok(())
    }

    /// Keeps every flush waiting, as a slow disk does.
    #[cfg(test)]
    pub(super) fn hold(&self) -> impl Sized + '_ {
        self.state.lock().unwrap()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::sync::mpsc::{Sender, channel};
    use std::thread::JoinHandle;

    use super::*;

    fn failure() -> io::Result<()> {
        Err(io::Error::other("lost"))
    }

    /// A flush that is inside its sync, and goes on when it is released; whether it succeeded.
    fn begin(flusher: &Arc<Flusher>, end: fn() -> io::Result<()>) -> (JoinHandle<bool>, Sender<()>) {
        let flusher = Arc::clone(flusher);
        let (entered, inside) = channel();
        let (release, released) = channel();
        let thread = std::thread::spawn(move || {
            let sync = || {
                entered.send(()).unwrap();
                released.recv().unwrap();
                end()
            };
            flusher.flush(sync).is_ok()
        });
        inside.recv().unwrap();
        (thread, release)
    }

    #[test]
    fn after_a_failure_no_flush_succeeds() {
        let flusher = Flusher::default();
        flusher.flush(|| Ok(())).unwrap();
        assert!(matches!(flusher.flush(failure), Err(FlushError::Failed(_))));
        for _ in 0..3 {
            // The kernel would say that all is well.
            assert!(matches!(flusher.flush(|| Ok(())), Err(FlushError::Lost)));
        }
    }

    #[test]
    fn a_flush_that_waited_for_a_failure_fails() {
        let flusher = Arc::new(Flusher::default());
        let (first, release) = begin(&flusher, failure);
        let second = std::thread::spawn({
            let flusher = Arc::clone(&flusher);
            move || flusher.flush(|| Ok(())).is_ok()
        });
        release.send(()).unwrap();
        assert_eq!((first.join().unwrap(), second.join().unwrap()), (false, false));
    }

    #[test]
    fn a_flush_that_began_earlier_covers_nothing_new() {
        let flusher = Arc::new(Flusher::default());
        let (first, release) = begin(&flusher, || Ok(()));
        // Written while the first one runs: it may not be part of that.
        let synced = Arc::new(AtomicBool::new(false));
        let second = std::thread::spawn({
            let (flusher, synced) = (Arc::clone(&flusher), Arc::clone(&synced));
            move || {
                let sync = || {
                    synced.store(true, Ordering::SeqCst);
                    Ok(())
                };
                flusher.flush(sync).unwrap();
            }
        });
        release.send(()).unwrap();
        assert!(first.join().unwrap());
        second.join().unwrap();
        assert!(synced.load(Ordering::SeqCst));
    }

    /// A disk with a cache: a write goes into the cache, a sync makes stable what was there when it began.
    #[test]
    fn whatever_races_a_completed_flush_is_durable() {
        const QUEUES: usize = 4;
        let flusher = Flusher::default();
        let cache: [AtomicU64; QUEUES] = Default::default();
        let stable: [AtomicU64; QUEUES] = Default::default();
        let syncs = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for queue in 0..QUEUES {
                let (flusher, cache, stable, syncs) = (&flusher, &cache, &stable, &syncs);
                scope.spawn(move || {
                    for number in 1..2000 {
                        cache[queue].store(number, Ordering::SeqCst);
                        let sync = || {
                            syncs.fetch_add(1, Ordering::SeqCst);
                            let taken = cache.each_ref().map(|slot| slot.load(Ordering::SeqCst));
                            // The others get their chance to write and ask meanwhile.
                            std::thread::yield_now();
                            for (slot, value) in stable.iter().zip(taken) {
                                slot.fetch_max(value, Ordering::SeqCst);
                            }
                            Ok(())
                        };
                        flusher.flush(sync).unwrap();
                        assert!(stable[queue].load(Ordering::SeqCst) >= number);
                    }
                });
            }
        });
        let syncs = syncs.into_inner();
        assert!(syncs < 4 * 1999, "no flush stood for another: {syncs}");
    }
}
