//! Starts a real program in a jail on this machine and lets it try what it must not do.
//!
//! Needs root (namespaces, users) and Landlock; without either each test says so and ends.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests, which clippy cannot tell")]

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use jail::calls::{BASIC, Call, OPEN_PATHS, THREADS};
use jail::host::Proc;
use jail::{Instance, Isolation, Network, PathAccess, PathRule, Profile, StartError};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};

const USER: u32 = 2965;

/// The compiled probe and the folders around it.
struct Ground {
    program: &'static str,
    empty: &'static str,
    root: &'static str,
    allowed: &'static str,
}

fn leak(path: &Path) -> &'static str {
    Box::leak(path.to_str().unwrap().to_owned().into_boxed_str())
}

fn ground() -> Option<&'static Ground> {
    static GROUND: OnceLock<Option<Ground>> = OnceLock::new();
    GROUND
        .get_or_init(|| {
            if !rustix::process::getuid().is_root() {
                eprintln!("skipped: needs root");
                return None;
            }
            if jail::landlock_version() == 0 {
                eprintln!("skipped: this kernel has no Landlock");
                return None;
            }
            let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("jail");
            let root = folder.join("root");
            let allowed = root.join("allowed");
            std::fs::create_dir_all(folder.join("empty")).unwrap();
            std::fs::create_dir_all(root.join("etc")).unwrap();
            std::fs::create_dir_all(&allowed).unwrap();
            std::fs::write(root.join("etc/passwd"), "x").unwrap();
            std::fs::write(allowed.join("file"), "x").unwrap();
            let _absent = std::fs::remove_file(allowed.join("new"));
            rustix::fs::chown(&allowed, rustix::fs::Uid::from_raw(USER).into(), None).unwrap();
            let program = folder.join("probe");
            let compiled = std::process::Command::new("rustc")
                .args(["--edition=2024", "--target=x86_64-unknown-linux-musl", "-Cpanic=abort", "-o"])
                .arg(&program)
                .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("probe/probe.rs"))
                .status()
                .unwrap();
            assert!(compiled.success());
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o711)).unwrap();
            Some(Ground {
                program: leak(&program),
                empty: leak(&folder.join("empty")),
                root: leak(&root),
                allowed: leak(&allowed),
            })
        })
        .as_ref()
}

fn profile(ground: &'static Ground, calls: &'static [&'static [Call]]) -> Profile {
    Profile {
        name: "probe",
        program: ground.program,
        arguments: &[],
        root: ground.empty,
        isolation: Isolation::Full,
        paths: &[],
        calls,
        capabilities: &[],
        threads: 16,
        files: 100,
    }
}

/// Starts the probe; returns its id and the pipe with what it says.
fn begin(
    profile: &Profile,
    attempt: &str,
    message: Option<&str>,
) -> Result<(Pid, std::fs::File), StartError> {
    begin_as(USER, profile, attempt, message)
}

fn begin_as(
    user: u32,
    profile: &Profile,
    attempt: &str,
    message: Option<&str>,
) -> Result<(Pid, std::fs::File), StartError> {
    let (output, write_end) = rustix::pipe::pipe().unwrap();
    let (passed, source) = rustix::pipe::pipe().unwrap();
    std::fs::File::from(source).write_all(message.unwrap_or_default().as_bytes()).unwrap();
    let proc = Proc::private().unwrap();
    let named = [("message".to_owned(), passed.as_fd())];
    let instance = Instance {
        user,
        network: Network::Empty,
        descriptors: if message.is_some() { &named } else { &[] },
        folder: None,
        output: write_end.as_fd(),
        group: None,
        proc: &proc,
        environment: &[("TRY", attempt)],
    };
    Ok((jail::start(profile, &instance)?, output.into()))
}

fn end(pid: Pid, mut output: std::fs::File) -> (WaitStatus, String) {
    let mut said = String::new();
    output.read_to_string(&mut said).unwrap();
    let (_, status) = rustix::process::waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap();
    (status, said.trim().to_owned())
}

fn attempt(profile: &Profile, what: &str) -> (WaitStatus, String) {
    let (pid, output) = begin(profile, what, None).unwrap();
    end(pid, output)
}

/// The probe must be killed by the filter.
fn killed(ground: &'static Ground, what: &str) {
    let (status, said) = attempt(&profile(ground, &[BASIC, THREADS]), what);
    assert_eq!(status.terminating_signal(), Some(libc::SIGSYS), "{what}: {status:?} {said:?}");
}

#[test]
fn forbidden_calls_kill() {
    let Some(ground) = ground() else { return };
    for what in [
        "open",
        "fork",
        "clone",
        "socket_inet",
        "ptrace_attach",
        "mount",
        "set_user",
        "io_uring",
        "execve",
        "mmap_exec",
        "type_into_terminal",
        "raise_limit_64",
        "user_namespace",
        "x32_call",
    ] {
        killed(ground, what);
    }
}

#[test]
fn the_program_cannot_be_executed_twice() {
    let Some(ground) = ground() else { return };
    let (_, said) = attempt(&profile(ground, &[BASIC, THREADS]), "execveat");
    assert_eq!(said, format!("errno {}", libc::EBADF));
}

#[test]
fn clone3_is_absent_and_threads_work() {
    let Some(ground) = ground() else { return };
    let profile = profile(ground, &[BASIC, THREADS]);
    assert_eq!(attempt(&profile, "clone3").1, format!("errno {}", libc::ENOSYS));
    assert_eq!(attempt(&profile, "thread").1, "thread ran");
}

#[test]
fn threads_need_their_group() {
    let Some(ground) = ground() else { return };
    let (status, said) = attempt(&profile(ground, &[BASIC]), "thread");
    assert_eq!(status.terminating_signal(), Some(libc::SIGSYS), "{status:?} {said:?}");
}

#[test]
fn only_named_descriptors_and_variables_arrive() {
    let Some(ground) = ground() else { return };
    let leaked = std::fs::File::open("/etc/passwd").unwrap();
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
    let (pid, output) = begin(&profile(ground, &[BASIC]), "status", Some("hello")).unwrap();
    let (status, said) = end(pid, output);
    assert_eq!(status.exit_status(), Some(0));
    assert_eq!(said, "pid 1 open 0,1,2,3 names message passed hello keys BULKHEAD_FDS,TRY");
}

#[test]
fn a_panic_is_told_from_a_violation() {
    let Some(ground) = ground() else { return };
    let (status, said) = attempt(&profile(ground, &[BASIC]), "panic");
    // The first process of a namespace cannot abort itself by a signal; the C library ends it by a trap.
    let ended = status.terminating_signal();
    assert!(matches!(ended, Some(libc::SIGABRT | libc::SIGSEGV | libc::SIGILL)), "{status:?}");
    assert!(said.contains("on purpose"), "{said}");
}

#[test]
fn landlock_bounds_paths_where_the_filter_does_not() {
    let Some(ground) = ground() else { return };
    let mut profile = profile(ground, &[BASIC, OPEN_PATHS]);
    assert_eq!(attempt(&profile, "open").1, format!("errno {}", libc::ENOENT), "empty root");
    profile.root = ground.root;
    assert_eq!(attempt(&profile, "open").1, format!("errno {}", libc::EACCES), "no rule");
    profile.paths = vec![PathRule { path: ground.allowed, access: PathAccess::Read }].leak();
    assert_eq!(attempt(&profile, "open").1, format!("errno {}", libc::EACCES), "rule for another path");
    assert_eq!(attempt(&profile, "open_allowed").1, "done");
    assert_eq!(attempt(&profile, "write_allowed").1, format!("errno {}", libc::EACCES), "read only");
    profile.paths = vec![PathRule { path: ground.allowed, access: PathAccess::ReadWrite }].leak();
    assert_eq!(attempt(&profile, "write_allowed").1, "done");
}

#[test]
fn the_running_process_has_no_rights() {
    let Some(ground) = ground() else { return };
    let (pid, mut output) = begin(&profile(ground, &[BASIC, THREADS]), "hold", None).unwrap();
    let mut said = [0; 8];
    output.read_exact(&mut said).unwrap();
    let process = format!("/proc/{}", pid.as_raw_nonzero());
    let status = std::fs::read_to_string(format!("{process}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(&format!("{name}:"))).unwrap_or_default();
        line.split_once(':').unwrap().1.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    assert_eq!(field("Uid"), format!("{USER} {USER} {USER} {USER}"));
    assert_eq!(field("Gid"), format!("{USER} {USER} {USER} {USER}"));
    assert_eq!(field("Groups"), "");
    assert_eq!((field("NoNewPrivs").as_str(), field("Seccomp").as_str()), ("1", "2"));
    assert_eq!((field("SigBlk").as_str(), field("Umask").as_str()), ("0000000000000000", "0077"));
    let limits = std::fs::read_to_string(format!("{process}/limits")).unwrap();
    let limit = |name: &str| {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().rev().nth(1).unwrap_or_default().to_owned()
    };
    assert_eq!((limit("Max open files").as_str(), limit("Max processes").as_str()), ("100", "16"));
    assert!(limits.lines().any(|line| line.starts_with("Max core file size") && line.contains(" 0 ")));
    // Its user namespace knows its user and nobody else, and nothing changes that.
    for map in ["uid_map", "gid_map"] {
        let map = std::fs::read_to_string(format!("{process}/{map}")).unwrap();
        assert_eq!(map.split_whitespace().collect::<Vec<_>>(), [&USER.to_string(), &USER.to_string(), "1"]);
    }
    // Not dumpable: what /proc shows of it belongs to root.
    let owner = std::fs::metadata(format!("{process}/environ")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&owner), 0);
    for namespace in ["net", "ipc", "uts", "mnt", "pid", "cgroup", "user"] {
        let of = |whose: &str| std::fs::read_link(format!("{whose}/ns/{namespace}")).unwrap();
        assert_ne!(of(&process), of("/proc/self"), "{namespace}");
    }
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
    end(pid, output);
}

#[test]
fn a_failed_step_comes_back_with_its_reason() {
    let Some(ground) = ground() else { return };
    let mut wrong = profile(ground, &[BASIC]);
    wrong.root = "/nonexistent";
    let Err(StartError::Step { step, cause }) = begin(&wrong, "status", None) else { panic!("it started") };
    assert_eq!((step.as_str(), cause.raw_os_error()), ("enter the root folder", Some(libc::ENOENT)));

    let mut text = profile(ground, &[BASIC]);
    text.program = leak(&Path::new(ground.root).join("etc/passwd"));
    std::fs::set_permissions(text.program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let Err(StartError::Step { step, cause }) = begin(&text, "status", None) else { panic!("it started") };
    assert_eq!((step.as_str(), cause.raw_os_error()), ("execute the program", Some(libc::ENOEXEC)));

    let mut absent = profile(ground, &[BASIC]);
    absent.paths = &[PathRule { path: "/nonexistent", access: PathAccess::Read }];
    assert!(matches!(begin(&absent, "status", None), Err(StartError::Landlock(_))));
}

/// The tests' bridge keeps what its row names, and nothing beside it.
#[test]
fn kept_capabilities_are_exactly_the_rows() {
    const CAP_KILL: u8 = 5;
    let Some(ground) = ground() else { return };
    let mut row = profile(ground, &[BASIC, THREADS]);
    row.isolation = Isolation::SeesProcesses;
    row.root = "/";
    row.capabilities = &[CAP_KILL];
    let (pid, mut output) = begin_as(0, &row, "hold", None).unwrap();
    output.read_exact(&mut [0; 8]).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap();
    let sets =
        ["CapPrm:", "CapEff:", "CapBnd:"].map(|set| status.lines().find_map(|line| line.strip_prefix(set)));
    assert_eq!(sets.map(|set| set.unwrap().trim()), ["0000000000000020"; 3]);
    let network = |whose: &str| std::fs::read_link(format!("/proc/{whose}/ns/net")).unwrap();
    assert_ne!(network(&pid.as_raw_nonzero().to_string()), network("self"));
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
    end(pid, output);

    // A user other than root keeps no capability: the row is refused, not weakened.
    let Err(StartError::Step { step, .. }) = begin(&row, "hold", None) else { panic!("it started") };
    assert_eq!(step, "set capabilities");
}
