//! System calls, in groups by purpose.
//!
//! A profile's filter allows the union of its groups; every other call kills the process. Entries of the
//! same call in several places are alternatives. Keep a group as small as its users allow: a call that one
//! process needs goes into that profile's own list, not into a group.

/// One allowed system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its number on x86-64.
    pub number: libc::c_long,
    /// What its arguments must look like.
    pub condition: Condition,
}

/// What an argument must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Any arguments.
    Always,
    /// The lower 32 bits of an argument, masked, equal a value.
    Masked {
        /// Number of the argument, from 0.
        argument: u8,
        /// Bits that are compared.
        mask: u32,
        /// What they must be.
        value: u32,
    },
    /// All 64 bits of an argument are zero.
    Null {
        /// Number of the argument, from 0.
        argument: u8,
    },
    /// All of these, which are not lists themselves.
    All(&'static [Condition]),
}

/// A call with any arguments.
#[must_use]
pub const fn always(number: libc::c_long) -> Call {
    Call { number, condition: Condition::Always }
}

/// A call whose `argument` is exactly `value` (its lower 32 bits).
#[must_use]
pub const fn equal(number: libc::c_long, argument: u8, value: u32) -> Call {
    masked(number, argument, u32::MAX, value)
}

/// A call whose `argument` is `value` where `mask` has bits.
#[must_use]
pub const fn masked(number: libc::c_long, argument: u8, mask: u32, value: u32) -> Call {
    Call { number, condition: Condition::Masked { argument, mask, value } }
}

/// An ioctl whose request belongs to the type (magic byte) `kind`.
const fn ioctl_of(kind: u8) -> Call {
    // The cast widens; `From` is not usable in a constant.
    masked(libc::SYS_ioctl, 1, 0xff00, (kind as u32) << 8)
}

/// An ioctl with exactly this request.
pub(crate) const fn ioctl(request: u32) -> Call {
    equal(libc::SYS_ioctl, 1, request)
}

/// `CLONE_NEW*`: no thread may come with a namespace of its own.
const CLONE_NAMESPACES: u32 = 0x7e02_0000;
/// `CLONE_THREAD`.
const CLONE_THREAD: u32 = 0x0001_0000;
/// `PROT_EXEC`.
pub(crate) const PROT_EXEC: u32 = 4;
/// `PR_SET_NAME`.
const PR_SET_NAME: u32 = 15;
/// `PR_SET_NO_NEW_PRIVS`.
const PR_SET_NO_NEW_PRIVS: u32 = 38;
/// `PR_GET_AUXV`.
const PR_GET_AUXV: u32 = 0x4155_5856;
/// `AF_UNIX`.
const AF_UNIX: u32 = 1;

/// The number of different system calls that these groups allow, whatever their arguments.
#[must_use]
pub fn count(groups: &[&[Call]]) -> usize {
    let numbers: std::collections::BTreeSet<_> =
        groups.iter().copied().flatten().map(|call| call.number).collect();
    numbers.len()
}

/// What every static Rust program needs: start, memory (never executable), waiting, time, random numbers,
/// reading and writing descriptors that it has, ending.
pub const BASIC: &[Call] = &[
    always(libc::SYS_read),
    always(libc::SYS_write),
    always(libc::SYS_readv),
    always(libc::SYS_writev),
    always(libc::SYS_pread64),
    always(libc::SYS_pwrite64),
    always(libc::SYS_close),
    always(libc::SYS_poll),
    always(libc::SYS_ppoll),
    always(libc::SYS_epoll_create1),
    always(libc::SYS_epoll_ctl),
    always(libc::SYS_epoll_wait),
    always(libc::SYS_epoll_pwait),
    always(libc::SYS_epoll_pwait2),
    always(libc::SYS_eventfd2),
    always(libc::SYS_timerfd_create),
    always(libc::SYS_timerfd_settime),
    always(libc::SYS_timerfd_gettime),
    always(libc::SYS_pipe2),
    always(libc::SYS_dup),
    always(libc::SYS_fcntl),
    always(libc::SYS_brk),
    masked(libc::SYS_mmap, 2, PROT_EXEC, 0),
    masked(libc::SYS_mprotect, 2, PROT_EXEC, 0),
    always(libc::SYS_munmap),
    always(libc::SYS_mremap),
    always(libc::SYS_madvise),
    always(libc::SYS_memfd_create),
    always(libc::SYS_ftruncate),
    always(libc::SYS_lseek),
    always(libc::SYS_fstat),
    // How the standard library asks for the size of an open file; by path they reach the root folder only.
    always(libc::SYS_statx),
    always(libc::SYS_newfstatat),
    always(libc::SYS_futex),
    always(libc::SYS_set_tid_address),
    always(libc::SYS_set_robust_list),
    always(libc::SYS_arch_prctl),
    equal(libc::SYS_prctl, 0, PR_SET_NAME),
    // How rustix finds the kernel's clock functions.
    equal(libc::SYS_prctl, 0, PR_GET_AUXV),
    always(libc::SYS_rt_sigaction),
    always(libc::SYS_rt_sigprocmask),
    always(libc::SYS_rt_sigreturn),
    always(libc::SYS_sigaltstack),
    always(libc::SYS_restart_syscall),
    // Abort sends the signal to itself; other processes are out of reach (process namespace, Landlock).
    always(libc::SYS_tkill),
    always(libc::SYS_tgkill),
    always(libc::SYS_getpid),
    always(libc::SYS_gettid),
    always(libc::SYS_getuid),
    always(libc::SYS_geteuid),
    always(libc::SYS_getgid),
    always(libc::SYS_getegid),
    always(libc::SYS_uname),
    always(libc::SYS_sched_yield),
    always(libc::SYS_sched_getaffinity),
    always(libc::SYS_clock_gettime),
    always(libc::SYS_clock_getres),
    always(libc::SYS_clock_nanosleep),
    always(libc::SYS_nanosleep),
    always(libc::SYS_gettimeofday),
    always(libc::SYS_getrandom),
    // Limits may be read, never written.
    Call { number: libc::SYS_prlimit64, condition: Condition::Null { argument: 2 } },
    // Is it a terminal, how wide, how much is there to read, non-blocking, close-on-exec.
    ioctl(0x5401),
    ioctl(0x5413),
    ioctl(0x541b),
    ioctl(0x5421),
    ioctl(0x5451),
    always(libc::SYS_exit),
    always(libc::SYS_exit_group),
];

/// Threads, but no processes.
pub const THREADS: &[Call] = &[
    masked(libc::SYS_clone, 0, CLONE_THREAD | CLONE_NAMESPACES, CLONE_THREAD),
    // The second filter answers it with ENOSYS, and the C library falls back to `clone`, whose flags a
    // filter can see.
    always(libc::SYS_clone3),
    always(libc::SYS_rseq),
    always(libc::SYS_membarrier),
    always(libc::SYS_sched_setaffinity),
];

/// Sockets and pairs that the process already has, and pairs within itself.
pub const SOCKET_IO: &[Call] = &[
    always(libc::SYS_sendto),
    always(libc::SYS_recvfrom),
    always(libc::SYS_sendmsg),
    always(libc::SYS_recvmsg),
    always(libc::SYS_sendmmsg),
    always(libc::SYS_recvmmsg),
    always(libc::SYS_shutdown),
    always(libc::SYS_getsockopt),
    always(libc::SYS_setsockopt),
    always(libc::SYS_getsockname),
    always(libc::SYS_getpeername),
    equal(libc::SYS_socketpair, 0, AF_UNIX),
];

/// Sending signals to other processes.
pub const KILL: &[Call] = &[always(libc::SYS_kill)];

/// Accepting on a listening socket that was passed.
pub const ACCEPT: &[Call] = &[always(libc::SYS_accept), always(libc::SYS_accept4)];

/// Connecting to a Unix socket by path.
pub const UNIX_CONNECT: &[Call] = &[equal(libc::SYS_socket, 0, AF_UNIX), always(libc::SYS_connect)];

/// Regular files that were passed: block devices of a zone, images.
pub const FILE_IO: &[Call] = &[
    always(libc::SYS_preadv),
    always(libc::SYS_pwritev),
    always(libc::SYS_preadv2),
    always(libc::SYS_pwritev2),
    always(libc::SYS_fsync),
    always(libc::SYS_fdatasync),
    always(libc::SYS_fallocate),
];

/// Opening paths, within what root folder, permissions and Landlock leave.
pub const OPEN_PATHS: &[Call] = &[
    always(libc::SYS_open),
    always(libc::SYS_openat),
    always(libc::SYS_stat),
    always(libc::SYS_lstat),
    always(libc::SYS_access),
    always(libc::SYS_faccessat),
    always(libc::SYS_faccessat2),
    always(libc::SYS_readlink),
    always(libc::SYS_readlinkat),
    always(libc::SYS_getdents64),
    always(libc::SYS_getcwd),
    always(libc::SYS_statfs),
    always(libc::SYS_fstatfs),
];

/// Making, renaming and removing files under a writable path.
pub const CHANGE_PATHS: &[Call] = &[
    always(libc::SYS_mkdir),
    always(libc::SYS_mkdirat),
    always(libc::SYS_unlink),
    always(libc::SYS_unlinkat),
    always(libc::SYS_rmdir),
    always(libc::SYS_rename),
    always(libc::SYS_renameat),
    always(libc::SYS_renameat2),
    always(libc::SYS_fchmod),
    always(libc::SYS_umask),
    always(libc::SYS_flock),
];

/// How much memory the host has.
pub const MEMORY_SIZE: &[Call] = &[always(libc::SYS_sysinfo)];

/// A mapping of a library's code: of a file, and not to be written. (Files that can be written lie on a mount that
/// forbids it.)
const MAP_CODE: Call = Call {
    number: libc::SYS_mmap,
    condition: Condition::All(&[
        Condition::Masked { argument: 2, mask: PROT_EXEC | PROT_WRITE, value: PROT_EXEC },
        Condition::Masked { argument: 3, mask: MAP_ANONYMOUS, value: 0 },
    ]),
};

/// A program with libraries: its loader maps their code.
pub const LOADER: &[Call] = &[MAP_CODE, always(libc::SYS_rseq)];

/// `PROT_WRITE`.
const PROT_WRITE: u32 = 2;
/// `MAP_ANONYMOUS`.
const MAP_ANONYMOUS: u32 = 0x20;

/// swtpm, as `strace` saw it: its loader, its state's files, its two sockets. No socket can be made, no memory becomes
/// executable.
pub const SWTPM: &[Call] = &[
    MAP_CODE,
    masked(libc::SYS_mmap, 2, PROT_EXEC, 0),
    masked(libc::SYS_mprotect, 2, PROT_EXEC, 0),
    always(libc::SYS_munmap),
    always(libc::SYS_mremap),
    always(libc::SYS_madvise),
    always(libc::SYS_brk),
    always(libc::SYS_openat),
    always(libc::SYS_access),
    always(libc::SYS_newfstatat),
    always(libc::SYS_fstat),
    always(libc::SYS_read),
    always(libc::SYS_pread64),
    always(libc::SYS_write),
    always(libc::SYS_writev),
    always(libc::SYS_lseek),
    always(libc::SYS_close),
    always(libc::SYS_fcntl),
    always(libc::SYS_fchmod),
    always(libc::SYS_fsync),
    always(libc::SYS_rename),
    always(libc::SYS_unlink),
    always(libc::SYS_pipe2),
    always(libc::SYS_poll),
    always(libc::SYS_recvmsg),
    always(libc::SYS_futex),
    always(libc::SYS_arch_prctl),
    always(libc::SYS_set_tid_address),
    always(libc::SYS_set_robust_list),
    always(libc::SYS_rseq),
    always(libc::SYS_rt_sigaction),
    always(libc::SYS_rt_sigprocmask),
    always(libc::SYS_rt_sigreturn),
    always(libc::SYS_getpid),
    always(libc::SYS_gettid),
    always(libc::SYS_tgkill),
    always(libc::SYS_getrandom),
    always(libc::SYS_clock_gettime),
    Call { number: libc::SYS_prlimit64, condition: Condition::Null { argument: 2 } },
    always(libc::SYS_exit),
    always(libc::SYS_exit_group),
];

/// KVM and guest memory.
pub const KVM: &[Call] = &[ioctl_of(0xae), always(libc::SYS_mlock), always(libc::SYS_munlock)];

/// Threads that enter roles ([`crate::roles`]): a further filter, without flags.
pub const NARROW: &[Call] = &[equal(libc::SYS_seccomp, 1, 0), equal(libc::SYS_prctl, 0, PR_SET_NO_NEW_PRIVS)];

/// Displays.
pub const DRM: &[Call] = &[ioctl_of(b'd')];

/// Input devices.
pub const EVDEV: &[Call] = &[ioctl_of(b'E')];

/// Questions about a network interface on a socket that was passed (`SIOCGIF*`).
pub const INTERFACE_STATE: &[Call] = &[
    // Flags, address, MTU, hardware address, index, link state.
    ioctl(0x8913),
    ioctl(0x8915),
    ioctl(0x8921),
    ioctl(0x8927),
    ioctl(0x8933),
    ioctl(0x8946),
];
