//! The steps from fork to execution, as data.

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::process::Pid;
use seccompiler::BpfProgram;

use crate::inherited::FIRST;
use crate::profile::{Instance, Isolation, Network, PROGRAM_DESCRIPTOR, Profile};
use crate::start::number;

/// What the child reports when it waits for the mapping of its user: the place of no step, no errno.
const MAP_ME: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
/// The place in [`MAP_ME`].
pub(crate) const MAP_ME_PLACE: u32 = u32::MAX;
/// Where the report pipe and the ruleset lie while the plan runs; closed by the execution.
const REPORT: RawFd = PROGRAM_DESCRIPTOR + 1;
const RULESET: RawFd = PROGRAM_DESCRIPTOR + 2;
/// Where descriptors wait until their final numbers are free.
const WAITING: RawFd = PROGRAM_DESCRIPTOR + 8;
/// Signals of Linux, from 1.
const SIGNALS: usize = 64;
/// Bytes of the kernel's signal set, and of its `struct sigaction` on x86-64.
const SIGNAL_SET: usize = 8;
const SIGNAL_ACTION: usize = 32;

/// Numbers of resource limits (the C libraries disagree about their type).
mod limits {
    pub(super) const CORE: usize = 4;
    pub(super) const NPROC: usize = 6;
    pub(super) const NOFILE: usize = 7;
    pub(super) const SIGPENDING: usize = 11;
    pub(super) const MSGQUEUE: usize = 12;
    pub(super) const NICE: usize = 13;
    pub(super) const RTPRIO: usize = 14;
}

/// Name of the last step; a program that cannot be executed is no missing wall.
pub(crate) const EXECUTE: &str = "execute the program";

/// One system call.
#[derive(Debug)]
struct Step {
    name: &'static str,
    number: libc::c_long,
    arguments: [usize; 5],
}

/// The list, with what its pointers point to.
pub(crate) struct Plan<'a> {
    steps: Vec<Step>,
    /// Boxed one by one, so that their addresses, which are in `steps`, stay.
    kept: Kept,
    /// What else `steps` point to must outlive the plan.
    borrowed: std::marker::PhantomData<&'a ()>,
}

/// Memory that steps point to.
#[derive(Default)]
struct Kept {
    limits: Vec<Box<[libc::rlimit]>>,
    words: Vec<Box<[u32]>>,
    zeros: Option<Box<[u8; SIGNAL_ACTION]>>,
    programs: Vec<Box<[libc::sock_fprog]>>,
    pointers: Vec<Box<[*const libc::c_char]>>,
    /// Written to by the kernel, in the child's copy of the memory.
    answer: Box<std::cell::UnsafeCell<u8>>,
}

fn address<T: ?Sized>(value: &T) -> usize {
    std::ptr::from_ref(value).cast::<u8>().addr()
}

fn small(value: RawFd) -> usize {
    usize::try_from(value).expect("constants here are >= 0")
}

/// The bits of a C flag word as an argument.
fn flags(value: u32) -> usize {
    usize::try_from(value).expect("usize has 64 bits here")
}

impl<'a> Plan<'a> {
    /// An empty plan that reports to `write_end`.
    pub(crate) fn new(write_end: &OwnedFd) -> Self {
        let mut plan = Self {
            steps: Vec::with_capacity(192),
            kept: Kept::default(),
            borrowed: std::marker::PhantomData,
        };
        // Numbers above the final limit are needed for a moment; init's own limit is that of the kernel.
        plan.limit("raise the limit of open files", limits::NOFILE, 4096);
        plan.duplicate("keep the report pipe", write_end.as_raw_fd(), REPORT, true);
        plan
    }

    /// The name of the step at `place`.
    pub(crate) fn step_name(&self, place: usize) -> &'static str {
        self.steps.get(place).map_or("unknown step", |step| step.name)
    }

    fn step<const N: usize>(&mut self, name: &'static str, number: libc::c_long, given: [usize; N]) {
        let mut arguments = [0; 5];
        for (to, from) in arguments.iter_mut().zip(given) {
            *to = from;
        }
        self.steps.push(Step { name, number, arguments });
    }

    fn limit(&mut self, name: &'static str, resource: usize, value: u64) {
        let limit: Box<[_]> = Box::new([libc::rlimit { rlim_cur: value, rlim_max: value }]);
        self.step(name, libc::SYS_prlimit64, [0, resource, address(limit.as_ref()), 0]);
        self.kept.limits.push(limit);
    }

    fn duplicate(&mut self, name: &'static str, from: RawFd, to: RawFd, close_on_exec: bool) {
        let mode = if close_on_exec { libc::O_CLOEXEC } else { 0 };
        self.step(name, libc::SYS_dup3, [small(from), small(to), small(mode)]);
    }

    /// Signals as in a fresh process, an own session, the network, the control group, own mounts, own users,
    /// the root folder with the process's own in it. `mapping` is the pipe, its reading end first, on which the child waits for its user.
    pub(crate) fn leave_the_host(
        &mut self,
        profile: &Profile,
        instance: &'a Instance<'a>,
        (root, folder): (&'a CString, Option<&'a [CString; 2]>),
        mapping: [&OwnedFd; 2],
    ) {
        let zeros = Box::new([0; SIGNAL_ACTION]);
        let zero = address(zeros.as_ref());
        self.kept.zeros = Some(zeros);
        let untouchable = [libc::SIGKILL, libc::SIGSTOP].map(small);
        for signal in (1..=SIGNALS).filter(|signal| !untouchable.contains(signal)) {
            self.step("reset signals", libc::SYS_rt_sigaction, [signal, zero, 0, SIGNAL_SET]);
        }
        let set_mask = small(libc::SIG_SETMASK);
        self.step("unblock signals", libc::SYS_rt_sigprocmask, [set_mask, zero, 0, SIGNAL_SET]);
        self.step("make a session", libc::SYS_setsid, []);
        if let Network::Joined(namespace) = instance.network {
            let kind = small(libc::CLONE_NEWNET);
            self.step("join the network namespace", libc::SYS_setns, [number(namespace), kind]);
        }
        if let Some(group) = instance.group {
            // The kernel reads 0 as "whoever writes this".
            self.step("enter the control group", libc::SYS_write, [number(group), address(c"0"), 1]);
        }
        if profile.isolation == Isolation::Full {
            let private = usize::try_from(libc::MS_REC | libc::MS_PRIVATE).expect("usize has 64 bits here");
            self.step("make mounts private", libc::SYS_mount, [0, address(c"/"), 0, private, 0]);
            if let Some([source, place]) =
                folder.map(|paths| paths.each_ref().map(|path| path.as_ptr().addr()))
            {
                let word = |flags: libc::c_ulong| usize::try_from(flags).expect("usize has 64 bits here");
                self.step("bind its folder", libc::SYS_mount, [source, place, 0, word(libc::MS_BIND), 0]);
                let barred = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
                let flags = word(libc::MS_REMOUNT | libc::MS_BIND | barred);
                self.step("restrict its folder", libc::SYS_mount, [0, place, 0, flags, 0]);
            }
            // Only now, so that the group that it entered is the root of what it could ever see.
            let groups = [small(libc::CLONE_NEWCGROUP)];
            self.step("make a cgroup namespace", libc::SYS_unshare, groups);
            // The last namespace: the others belong to the host's, so that even a process with every
            // capability in its own could do nothing to them. Not possible any more behind chroot.
            self.step("make a user namespace", libc::SYS_unshare, [small(libc::CLONE_NEWUSER)]);
            let [our_end, far_end] = mapping.map(number);
            self.step("close the far end", libc::SYS_close, [far_end]);
            let request = [small(REPORT), address(&MAP_ME), MAP_ME.len()];
            self.step("ask for the user", libc::SYS_write, request);
            let answer = self.kept.answer.get().addr();
            self.step("wait for the user", libc::SYS_read, [our_end, answer, 1]);
        }
        self.step("enter the root folder", libc::SYS_chroot, [root.as_ptr().addr()]);
        self.step("enter the root folder", libc::SYS_chdir, [address(c"/")]);
        self.step("set the file mask", libc::SYS_umask, [0o077]);
    }

    /// Every descriptor to its number, and nothing else stays open.
    pub(crate) fn place_descriptors(
        &mut self,
        null: &'a OwnedFd,
        instance: &'a Instance<'a>,
        program: &'a OwnedFd,
        ruleset: &'a OwnedFd,
    ) {
        self.duplicate("place the program", program.as_raw_fd(), PROGRAM_DESCRIPTOR, true);
        self.duplicate("place the ruleset", ruleset.as_raw_fd(), RULESET, true);
        let standard = [null.as_raw_fd(), instance.output.as_raw_fd(), instance.output.as_raw_fd()];
        let passed = instance.descriptors.iter().map(|(_, descriptor): &(String, BorrowedFd<'_>)| descriptor);
        let wanted: Vec<RawFd> = standard.into_iter().chain(passed.map(AsRawFd::as_raw_fd)).collect();
        for (place, from) in (WAITING..).zip(&wanted) {
            self.duplicate("collect descriptors", *from, place, true);
        }
        for (to, place) in (0..).zip(WAITING..).take(wanted.len()) {
            self.duplicate("place descriptors", place, to, false);
        }
        let behind = instance.descriptors.len() + small(FIRST);
        let close = "close other descriptors";
        self.step(close, libc::SYS_close_range, [behind, small(PROGRAM_DESCRIPTOR) - 1, 0]);
        self.step(close, libc::SYS_close_range, [small(RULESET) + 1, flags(u32::MAX), 0]);
    }

    /// Limits, user, groups, capabilities.
    pub(crate) fn drop_rights(&mut self, profile: &Profile, instance: &Instance<'_>) {
        self.limit("limit core dumps", limits::CORE, 0);
        self.limit("limit message queues", limits::MSGQUEUE, 0);
        self.limit("limit pending signals", limits::SIGPENDING, 64);
        self.limit("limit priority", limits::RTPRIO, 0);
        self.limit("limit priority", limits::NICE, 0);
        self.limit("limit threads", limits::NPROC, u64::from(profile.threads));
        self.limit("limit open files", limits::NOFILE, u64::from(profile.files));

        let ambient = [small(libc::PR_CAP_AMBIENT), small(libc::PR_CAP_AMBIENT_CLEAR_ALL)];
        self.step("clear ambient capabilities", libc::SYS_prctl, ambient);
        let dropped = (0..=last_capability()).filter(|capability| !profile.capabilities.contains(capability));
        for capability in dropped {
            let drop = [small(libc::PR_CAPBSET_DROP), usize::from(capability)];
            self.step("drop bounding capabilities", libc::SYS_prctl, drop);
        }
        if profile.capabilities.is_empty() {
            // NOROOT, NO_SETUID_FIXUP off, KEEP_CAPS off, NO_CAP_AMBIENT_RAISE, each locked.
            let bits = [small(libc::PR_SET_SECUREBITS), 0b1110_1011];
            self.step("lock capabilities", libc::SYS_prctl, bits);
        }
        self.step("clear groups", libc::SYS_setgroups, [0, 0]);
        let user = flags(instance.user);
        self.step("set the group", libc::SYS_setresgid, [user, user, user]);
        self.step("set the user", libc::SYS_setresuid, [user, user, user]);

        let kept = profile.capabilities.iter().fold(0_u64, |set, capability| set | (1 << capability));
        let low = u32::try_from(kept & u64::from(u32::MAX)).expect("masked to 32 bits");
        let high = u32::try_from(kept >> 32).expect("shifted to 32 bits");
        // _LINUX_CAPABILITY_VERSION_3, this process; then effective, permitted, inheritable, twice.
        let header: Box<[u32]> = Box::new([0x2008_0522, 0]);
        let sets: Box<[u32]> = Box::new([low, low, 0, high, high, 0]);
        self.step("set capabilities", libc::SYS_capset, [address(header.as_ref()), address(sets.as_ref())]);
        self.kept.words.extend([header, sets]);
    }

    /// No new privileges, Landlock, system-call filters: in this order, the last ones forbid the others.
    pub(crate) fn confine(&mut self, profile: &Profile, filters: &'a [BpfProgram]) {
        let no_new = [small(libc::PR_SET_NO_NEW_PRIVS), 1];
        self.step("forbid new privileges", libc::SYS_prctl, no_new);
        self.step("forbid core dumps", libc::SYS_prctl, [small(libc::PR_SET_DUMPABLE), 0]);
        if profile.isolation == Isolation::Full {
            self.step("enter Landlock", libc::SYS_landlock_restrict_self, [small(RULESET), 0]);
        }
        for filter in filters {
            let program: Box<[_]> = Box::new([libc::sock_fprog {
                len: u16::try_from(filter.len()).expect("the compiler limits programs to 4096 instructions"),
                filter: filter.as_ptr().cast_mut().cast(),
            }]);
            let install = [flags(libc::SECCOMP_SET_MODE_FILTER), 0, address(program.as_ref())];
            self.step("enter the system-call filter", libc::SYS_seccomp, install);
            self.kept.programs.push(program);
        }
    }

    /// The program itself.
    pub(crate) fn execute(
        &mut self,
        name: &'a CString,
        arguments: &'a [CString],
        environment: &'a [CString],
    ) {
        let list = |texts: &[&CString]| -> Box<[*const libc::c_char]> {
            texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
        };
        let arguments = list(&[name].into_iter().chain(arguments).collect::<Vec<_>>());
        let variables = list(&environment.iter().collect::<Vec<_>>());
        let execute = [
            small(PROGRAM_DESCRIPTOR),
            address(c""),
            address(arguments.as_ref()),
            address(variables.as_ref()),
            small(libc::AT_EMPTY_PATH),
        ];
        self.step(EXECUTE, libc::SYS_execveat, execute);
        self.kept.pointers.extend([arguments, variables]);
    }
}

/// The highest capability of the running kernel.
fn last_capability() -> u8 {
    let known = |capability: &u8| {
        // SAFETY: this operation reads one number and writes no memory.
        let read = unsafe { libc::prctl(libc::PR_CAPBSET_READ, libc::c_ulong::from(*capability)) };
        read >= 0
    };
    (0..64).take_while(known).last().unwrap_or(63)
}

/// Forks with the namespaces of `flags`; the child carries the plan out.
pub(crate) fn fork(namespaces: libc::c_int, plan: &Plan<'_>) -> Result<Pid, Errno> {
    let flags = small(namespaces | libc::SIGCHLD);
    // SAFETY: without CLONE_VM and with stack 0 this is fork(2): the child owns a copy of the memory. It
    // calls `carry_out` only, which neither returns nor allocates nor takes a lock.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0_usize, 0_usize, 0_usize, 0_usize) };
    match pid {
        0 => carry_out(&plan.steps),
        pid => i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(last_errno),
    }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

fn carry_out(steps: &[Step]) -> ! {
    for (place, step) in (0_u32..).zip(steps) {
        let [a, b, c, d, e] = step.arguments;
        // SAFETY: `Plan` built the call: its pointers lead to memory that the plan keeps or borrows (copied
        // by the fork), with the sizes that the call expects.
        if unsafe { libc::syscall(step.number, a, b, c, d, e) } < 0 {
            // SAFETY: returns the address of this thread's errno.
            let location = unsafe { libc::__errno_location() };
            // SAFETY: that address is valid for the thread's life.
            let errno = unsafe { location.read() };
            let mut report = [0; 8];
            let (first, second) = report.split_at_mut(4);
            first.copy_from_slice(&place.to_ne_bytes());
            second.copy_from_slice(&errno.to_ne_bytes());
            // SAFETY: the buffer has 8 bytes. Whether it was written cannot be reported to anybody.
            unsafe { libc::syscall(libc::SYS_write, small(REPORT), report.as_ptr(), report.len()) };
            break;
        }
    }
    // SAFETY: ends the process without running anything of the parent's.
    unsafe { libc::_exit(127) }
}
