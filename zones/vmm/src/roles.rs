//! What the threads of the process may do beside the process's own row.
//!
//! The threads that run a guest's processors, and those that serve its devices (which the former start), need
//! no new machine, processor or device of KVM: they have given that up before the guest's first instruction.

use std::io;

/// Runs `work`; every thread that it makes may only do what a processor's thread may.
///
/// # Errors
/// The system calls cannot be narrowed: nothing was run.
pub(crate) fn as_processors<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        // A thread hands its filters on to those that it makes, so one that does nothing else makes them.
        let starter = scope.spawn(|| {
            jail::give_up(jail::calls::KVM_CREATION).map_err(io::Error::other)?;
            Ok(work())
        });
        starter.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
