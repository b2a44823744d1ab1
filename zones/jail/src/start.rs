//! Starting a process in its profile.
//!
//! Everything is prepared before the fork: strings, filters, the Landlock ruleset and a [`Plan`], which is
//! nothing but a list of system calls with their arguments. The child makes them in order, allocates
//! nothing, and at the first that fails reports its place and errno through a pipe and ends. The last one
//! executes the program, which closes the pipe.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, WaitOptions};

use crate::filter::CompileFilterError;
use crate::inherited;
use crate::plan::{EXECUTE, MAP_ME_PLACE, Plan};
use crate::profile::{Instance, Isolation, Network, PROGRAM_DESCRIPTOR, Profile};
use crate::rules::MakeRulesetError;

/// Why a process was not started. Nothing is left of it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The program, /dev/null or the report pipe cannot be opened.
    #[error("open {what}")]
    Open {
        /// What it was.
        what: String,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A name or variable cannot be passed to a program.
    #[error("{0:?} contains a null byte or a comma")]
    Text(String),
    /// The profile's system calls make no filter.
    #[error(transparent)]
    Filter(#[from] CompileFilterError),
    /// The profile's paths make no ruleset.
    #[error(transparent)]
    Landlock(#[from] MakeRulesetError),
    /// A descriptor's number collides with those that the start itself uses.
    #[error("descriptor {0} is not below {PROGRAM_DESCRIPTOR}: too many files are open")]
    TooManyFiles(i32),
    /// The kernel made no process.
    #[error("make a process")]
    Fork(#[source] io::Error),
    /// The row's limit of open files is above [`PROGRAM_DESCRIPTOR`]: the program could be executed again.
    #[error("limit of {0} descriptors is above {PROGRAM_DESCRIPTOR}")]
    Files(u16),
    /// The process's one user cannot be mapped into its namespace.
    #[error("map the user")]
    Map(#[source] io::Error),
    /// A step of the start failed in the new process.
    #[error("{step}")]
    Step {
        /// Which one.
        step: String,
        /// Why.
        #[source]
        cause: io::Error,
    },
}

impl StartError {
    /// Whether a wall around the process could not be built; otherwise the host lacks something.
    #[must_use]
    pub fn is_containment(&self) -> bool {
        match self {
            Self::Filter(_) | Self::Landlock(_) | Self::Files(_) | Self::Map(_) => true,
            Self::Step { step, .. } => step != EXECUTE,
            Self::Open { .. } | Self::Text(_) | Self::TooManyFiles(_) | Self::Fork(_) => false,
        }
    }
}

/// Starts `profile`'s program and returns its process id. The caller reaps it.
///
/// Blocks for the few milliseconds until the program is executed. Meant for a process with one thread; the
/// child touches no lock and no allocator, so other threads only cost memory.
///
/// # Errors
/// [`StartError`]; the process does not exist then and was reaped.
pub fn start(profile: &Profile, instance: &Instance<'_>) -> Result<Pid, StartError> {
    if i32::from(profile.files) > PROGRAM_DESCRIPTOR {
        return Err(StartError::Files(profile.files));
    }
    let program = open(profile.program, OFlags::PATH)?;
    let null = open("/dev/null", OFlags::RDWR)?;
    let (report, write_end) = pipe("report pipe")?;
    let (waits, answers) = pipe("mapping pipe")?;
    let ruleset = crate::rules::make(profile, program.as_fd(), instance.folder)?;
    let filters = crate::filter::compile(profile.calls)?;
    let environment = environment(instance)?;
    let name = text(profile.name)?;
    let root = text(profile.root)?;
    let folder =
        instance.folder.map(|folder| Ok::<_, StartError>([text(folder.source)?, text(folder.place)?]));
    let folder = folder.transpose()?;
    let arguments = profile.arguments.iter().map(|word| text(word)).collect::<Result<Vec<_>, _>>()?;

    let passed = instance.descriptors.iter().map(|(_, descriptor)| descriptor.as_raw_fd());
    let ours = [&report, &write_end, &waits, &answers].map(AsRawFd::as_raw_fd);
    let more = [program.as_raw_fd(), ruleset.as_raw_fd(), null.as_raw_fd()];
    let group = instance.group.map(|group| group.as_raw_fd());
    if let Some(high) =
        passed.chain(ours).chain(more).chain(group).find(|number| *number >= PROGRAM_DESCRIPTOR)
    {
        return Err(StartError::TooManyFiles(high));
    }
    let mut plan = Plan::new(&write_end);
    plan.leave_the_host(profile, instance, (&root, folder.as_ref()), [&waits, &answers]);
    plan.place_descriptors(&null, instance, &program, &ruleset);
    plan.drop_rights(profile, instance);
    plan.confine(profile, &filters);
    plan.execute(&name, &arguments, &environment);

    let pid = crate::plan::fork(namespaces(profile, instance), &plan)
        .map_err(|cause| StartError::Fork(cause.into()))?;
    drop((write_end, waits));
    let failure = match read_report(&report) {
        Some((MAP_ME_PLACE, _)) => match map_user(instance, pid, &answers) {
            Ok(()) => read_report(&report),
            Err(cause) => {
                // It waits for an answer that cannot be given.
                let _gone = rustix::process::kill_process(pid, Signal::KILL);
                reap(pid);
                return Err(StartError::Map(cause));
            }
        },
        other => other,
    };
    let Some((place, errno)) = failure else { return Ok(pid) };
    // It ends right after its report.
    reap(pid);
    let step = usize::try_from(place).map_or("unknown step", |place| plan.step_name(place)).to_owned();
    Err(StartError::Step { step, cause: io::Error::from_raw_os_error(errno) })
}

/// Gives the process, which waits, its one user and group, and lets it go on.
fn map_user(instance: &Instance<'_>, pid: Pid, answers: &OwnedFd) -> io::Result<()> {
    let user = instance.user;
    let map = format!("{user} {user} 1");
    for file in ["gid_map", "uid_map"] {
        instance.proc.write(&format!("{}/{file}", pid.as_raw_nonzero()), &map)?;
    }
    rustix::io::write(answers, &[1])?;
    Ok(())
}

/// Collects a child of this start; nobody else waits for it.
fn reap(pid: Pid) {
    while matches!(rustix::process::waitpid(Some(pid), WaitOptions::empty()), Err(rustix::io::Errno::INTR)) {}
}

fn pipe(what: &str) -> Result<(OwnedFd, OwnedFd), StartError> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|cause| StartError::Open { what: what.to_owned(), cause: cause.into() })
}

fn open(path: &str, flags: OFlags) -> Result<OwnedFd, StartError> {
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())
        .map_err(|cause| StartError::Open { what: path.to_owned(), cause: cause.into() })
}

fn text(value: &str) -> Result<CString, StartError> {
    CString::new(value).map_err(|_null| StartError::Text(value.to_owned()))
}

fn environment(instance: &Instance<'_>) -> Result<Vec<CString>, StartError> {
    let names: Vec<&str> = instance.descriptors.iter().map(|(name, _)| name.as_str()).collect();
    if let Some(bad) = names.iter().find(|name| name.is_empty() || name.contains(',')) {
        return Err(StartError::Text((*bad).to_owned()));
    }
    let mut variables = vec![text(&format!("{}={}", inherited::VARIABLE, names.join(",")))?];
    for (key, value) in instance.environment {
        variables.push(text(&format!("{key}={value}"))?);
    }
    Ok(variables)
}

fn namespaces(profile: &Profile, instance: &Instance<'_>) -> libc::c_int {
    let own = match profile.isolation {
        Isolation::Full => {
            // Those of cgroups and users the process makes itself, later.
            libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS
        }
        Isolation::SeesProcesses => libc::CLONE_NEWIPC | libc::CLONE_NEWUTS,
    };
    match instance.network {
        Network::Empty => own | libc::CLONE_NEWNET,
        Network::Joined(_) => own,
    }
}

/// The child's next word: a place and an errno; `None` when the pipe closed without one.
fn read_report(report: &OwnedFd) -> Option<(u32, i32)> {
    let mut bytes = [0_u8; 8];
    loop {
        // Eight bytes are written at once, and a pipe keeps them together.
        match rustix::io::read(report, &mut bytes) {
            Ok(8) => break,
            Ok(_) => return None,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return None,
        }
    }
    let [a, b, c, d, rest @ ..] = bytes;
    Some((u32::from_ne_bytes([a, b, c, d]), i32::from_ne_bytes(rest)))
}

/// The number under which the child knows a descriptor of the parent.
pub(crate) fn number(descriptor: impl AsFd) -> usize {
    usize::try_from(descriptor.as_fd().as_raw_fd()).expect("an open descriptor has a number >= 0")
}
