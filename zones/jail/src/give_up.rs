//! Fewer system calls from now on: what a process needs only to set itself up, it gives up when that is done.
//!
//! The kernel keeps every filter of a thread and takes the strictest answer, so this can only narrow what the
//! row allows, and nothing brings a call back.

use std::collections::BTreeMap;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

use crate::calls::Call;
use crate::filter::{CompileFilterError, rules};

/// The calls were not given up: the process must not go on.
#[derive(Debug, thiserror::Error)]
pub enum GiveUpError {
    /// They make no filter.
    #[error(transparent)]
    Filter(#[from] CompileFilterError),
    /// The kernel did not take the filter.
    #[error("narrow the system calls")]
    Install(#[source] std::io::Error),
}

/// Gives `calls` up, for this thread and all that it makes from now on: each of them ends the process. The row
/// needs [`crate::calls::NARROW`].
///
/// # Errors
/// [`GiveUpError`]; everything is allowed as before then.
pub fn give_up(calls: &[Call]) -> Result<(), GiveUpError> {
    let compile = || -> Result<BpfProgram, CompileFilterError> {
        let mut forbidden: BTreeMap<i64, _> = BTreeMap::new();
        rules(calls.iter(), &mut forbidden)?;
        let (allow, kill) = (SeccompAction::Allow, SeccompAction::KillProcess);
        Ok(SeccompFilter::new(forbidden, allow, kill, TargetArch::x86_64)?.try_into()?)
    };
    let filter = compile()?;
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).expect("the compiler limits programs to 4096 instructions"),
        filter: filter.as_ptr().cast_mut().cast(),
    };
    // Set already in a jail; a process outside one cannot narrow itself without it.
    rustix::thread::set_no_new_privs(true).map_err(|cause| GiveUpError::Install(cause.into()))?;
    // SAFETY: the operation takes no flags and reads `program`, whose pointer and length are those of `filter`;
    // both live until the call returns.
    let done = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0_usize, &raw const program)
    };
    if done == 0 { Ok(()) } else { Err(GiveUpError::Install(std::io::Error::last_os_error())) }
}
