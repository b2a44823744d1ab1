//! What the threads of a process may do: one allow-list for each role.
//!
//! A row of `init`'s table bounds the whole process; a thread that serves somebody hostile needs much less of it.
//! Such a thread enters its [`Role`] before it does anything else, and every call that the role does not name ends
//! the process from then on. The kernel keeps all filters of a thread and takes the strictest answer, and a thread
//! begins with those of the thread that made it: so whoever makes threads must be allowed whatever they are, and a
//! process with roles has one thread for that and nothing else.
//!
//! The lists were found with `strace` under the native tests and confirmed by the system tests, in which a missing
//! call is named on the console. A call more is a decision: a test counts them, and SECURITY.md names the numbers.

use std::collections::BTreeMap;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

use crate::calls::{BASIC, FILE_IO, KVM, PROT_EXEC, SOCKET_IO, THREADS};
use crate::calls::{Call, Condition, NARROW, always, equal, ioctl, masked};
use crate::filter::{CompileFilterError, rules};

/// A thread's system calls.
#[derive(Clone, Copy, Debug)]
pub struct Role {
    /// What it is called, in reasons and tests.
    pub name: &'static str,
    /// What it may do. Whatever the process's own row forbids stays forbidden.
    pub calls: &'static [&'static [Call]],
}

/// A thread did not get its role: it must not go on.
#[derive(Debug, thiserror::Error)]
pub enum EnterRoleError {
    /// The calls make no filter.
    #[error(transparent)]
    Filter(#[from] CompileFilterError),
    /// The kernel did not take the filter.
    #[error("narrow the system calls to those of {role}")]
    Install {
        /// Whose.
        role: &'static str,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
}

/// `F_GETFD`.
const F_GETFD: u32 = 1;
/// `MAP_ANONYMOUS`.
const MAP_ANONYMOUS: u32 = 0x20;

/// What every thread needs: memory of its own without a file behind it and never executable, locks, time, an event
/// or a line of the log, its end.
const THREAD: &[Call] = &[
    always(libc::SYS_read),
    always(libc::SYS_write),
    always(libc::SYS_close),
    // How the standard library checks that what it closes is open.
    equal(libc::SYS_fcntl, 1, F_GETFD),
    always(libc::SYS_futex),
    always(libc::SYS_brk),
    Call {
        number: libc::SYS_mmap,
        condition: Condition::All(&[
            Condition::Masked { argument: 2, mask: PROT_EXEC, value: 0 },
            Condition::Masked { argument: 3, mask: MAP_ANONYMOUS, value: MAP_ANONYMOUS },
        ]),
    },
    masked(libc::SYS_mprotect, 2, PROT_EXEC, 0),
    always(libc::SYS_munmap),
    always(libc::SYS_mremap),
    always(libc::SYS_madvise),
    always(libc::SYS_sched_yield),
    always(libc::SYS_clock_gettime),
    always(libc::SYS_sigaltstack),
    always(libc::SYS_rt_sigprocmask),
    always(libc::SYS_rt_sigreturn),
    always(libc::SYS_restart_syscall),
    // Abort sends the signal to itself; other processes are out of reach (process namespace, Landlock).
    always(libc::SYS_gettid),
    always(libc::SYS_tkill),
    always(libc::SYS_exit),
    always(libc::SYS_exit_group),
];

/// Waiting for several descriptors.
const EPOLL: &[Call] = &[
    always(libc::SYS_epoll_create1),
    always(libc::SYS_epoll_ctl),
    always(libc::SYS_epoll_wait),
    always(libc::SYS_epoll_pwait),
];

/// What only a processor needs.
const VCPU_CALLS: &[Call] = &[
    // KVM_RUN, KVM_KVMCLOCK_CTRL, KVM_SET_USER_MEMORY_REGION, KVM_SET_GSI_ROUTING, KVM_IRQFD.
    ioctl(0xae80),
    ioctl(0xaead),
    ioctl(0x4020_ae46),
    ioctl(0x4008_ae6a),
    ioctl(0x4020_ae76),
    // Events of queues, duplicated for whoever serves them; whether one came.
    always(libc::SYS_eventfd2),
    // (This C library sets the flag again on the duplicate.)
    equal(libc::SYS_fcntl, 1, F_DUPFD_CLOEXEC),
    equal(libc::SYS_fcntl, 1, F_SETFD),
    always(libc::SYS_poll),
    always(libc::SYS_sendmsg),
    always(libc::SYS_recvmsg),
    always(libc::SYS_recvfrom),
    always(libc::SYS_shutdown),
];

/// A processor. Beside running the guest it carries out the guest's accesses to registers: interrupts are routed,
/// pages of configuration space shown, devices' queues handed to their threads or, in a conversation, to the NIC's
/// back end.
pub const VCPU: Role = Role { name: "vcpu", calls: &[THREAD, VCPU_CALLS] };

/// `F_SETFD`.
const F_SETFD: u32 = 2;
/// `F_DUPFD_CLOEXEC`.
const F_DUPFD_CLOEXEC: u32 = 1030;

/// What only a disk needs.
const DISK_CALLS: &[Call] = &[
    always(libc::SYS_pread64),
    always(libc::SYS_pwrite64),
    always(libc::SYS_preadv),
    always(libc::SYS_pwritev),
    always(libc::SYS_fsync),
    always(libc::SYS_fdatasync),
    always(libc::SYS_fallocate),
];

/// A queue of a disk.
pub const DISK: Role = Role { name: "disk", calls: &[THREAD, EPOLL, DISK_CALLS] };

/// Random numbers for the guest.
pub const RANDOM: Role = Role { name: "random", calls: &[THREAD, EPOLL, &[always(libc::SYS_getrandom)]] };

/// The guest's console.
pub const CONSOLE: Role = Role { name: "console", calls: &[THREAD, EPOLL] };

/// What only the way to `zoned` needs.
const VSOCK_CALLS: &[Call] = &[
    equal(libc::SYS_socketpair, 0, AF_UNIX),
    ioctl(FIONBIO),
    always(libc::SYS_sendto),
    always(libc::SYS_recvfrom),
    always(libc::SYS_sendmsg),
    always(libc::SYS_shutdown),
];

/// The way between guest and `zoned`: a pair of sockets for each connection, one of which is sent.
pub const VSOCK: Role = Role { name: "vsock", calls: &[THREAD, EPOLL, VSOCK_CALLS] };

/// `AF_UNIX`.
const AF_UNIX: u32 = 1;
/// `FIONBIO`.
const FIONBIO: u32 = 0x5421;

/// Pages that the guest gives back.
pub const BALLOON: Role = Role { name: "balloon", calls: &[THREAD, EPOLL, &[always(libc::SYS_fallocate)]] };

/// Whoever notices that the NIC's back end is gone.
pub const NET_WATCH: Role = Role { name: "net", calls: &[THREAD, EPOLL] };

/// Whoever cuts a conversation that takes too long.
pub const DEADLINE: Role = Role { name: "deadline", calls: &[THREAD, &[always(libc::SYS_shutdown)]] };

/// The way to the zone's TPM: one socket, and what waits for it is made before.
pub const TPM: Role =
    Role { name: "tpm", calls: &[THREAD, &[always(libc::SYS_epoll_wait), always(libc::SYS_epoll_pwait)]] };

/// The VMM's first thread: builds machines, obeys `zoned`. It makes no thread.
pub const MAIN: Role = Role { name: "main", calls: &[BASIC, SOCKET_IO, FILE_IO, KVM] };

/// The VMM's maker of threads: all that they may do, and the making of them. It reads nothing that anybody sent.
pub const MAKER: Role = Role {
    name: "maker",
    calls: &[
        THREAD,
        EPOLL,
        VCPU_CALLS,
        DISK_CALLS,
        VSOCK_CALLS,
        THREADS,
        NARROW,
        // How a thread begins.
        &[
            always(libc::SYS_getrandom),
            equal(libc::SYS_prctl, 0, PR_SET_NAME),
            always(libc::SYS_set_robust_list),
            always(libc::SYS_sched_getaffinity),
        ],
    ],
};

/// Every role of the VMM.
pub const VMM: &[Role] =
    &[MAIN, MAKER, VCPU, DISK, RANDOM, CONSOLE, VSOCK, BALLOON, NET_WATCH, DEADLINE, TPM];

/// `PR_SET_NAME`.
const PR_SET_NAME: u32 = 15;

impl Role {
    /// This thread, and all that it makes from now on, may do what the role names and nothing else. The process's
    /// row needs [`NARROW`].
    ///
    /// # Errors
    /// [`EnterRoleError`]; everything is allowed as before then.
    pub fn enter(&self) -> Result<(), EnterRoleError> {
        let filter = self.compile()?;
        let program = libc::sock_fprog {
            len: u16::try_from(filter.len()).expect("the compiler limits programs to 4096 instructions"),
            filter: filter.as_ptr().cast_mut().cast(),
        };
        let failed = |cause| EnterRoleError::Install { role: self.name, cause };
        // Set already in a jail; a process outside one cannot narrow itself without it.
        rustix::thread::set_no_new_privs(true).map_err(|cause| failed(cause.into()))?;
        // SAFETY: the operation takes no flags and reads `program`, whose pointer and length are those of `filter`;
        // both live until the call returns.
        let done = unsafe {
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0_usize, &raw const program)
        };
        if done == 0 { Ok(()) } else { Err(failed(std::io::Error::last_os_error())) }
    }

    /// The filter as the kernel takes it, eight bytes an instruction: for a test program that enters the role
    /// without this crate.
    ///
    /// # Errors
    /// The calls make no filter.
    pub fn instructions(&self) -> Result<Vec<[u8; 8]>, CompileFilterError> {
        let encode = |code: u16, when: [u8; 2], value: u32| {
            let ([a, b], [c, d], [e, f, g, h]) = (code.to_ne_bytes(), when, value.to_ne_bytes());
            [a, b, c, d, e, f, g, h]
        };
        Ok(self.compile()?.iter().map(|step| encode(step.code, [step.jt, step.jf], step.k)).collect())
    }

    fn compile(&self) -> Result<BpfProgram, CompileFilterError> {
        let mut allowed: BTreeMap<i64, _> = BTreeMap::new();
        rules(self.calls.iter().copied().flatten(), &mut allowed)?;
        let (kill, allow) = (SeccompAction::KillProcess, SeccompAction::Allow);
        Ok(SeccompFilter::new(allowed, kill, allow, TargetArch::x86_64)?.try_into()?)
    }
}

#[cfg(test)]
mod tests;
