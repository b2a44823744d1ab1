use super::*;

fn allows(role: &Role, number: libc::c_long) -> bool {
    role.calls.iter().copied().flatten().any(|call| call.number == number)
}

/// SECURITY.md names these numbers: a call more is a decision, and stands there.
#[test]
fn roles_allow_so_many_calls() {
    let counts: Vec<(&str, usize)> =
        VMM.iter().map(|role| (role.name, crate::calls::count(role.calls))).collect();
    let expected: [(&str, usize); 11] = [
        ("main", 85),
        ("maker", 51),
        ("vcpu", 28),
        ("disk", 32),
        ("random", 26),
        ("console", 25),
        ("vsock", 31),
        ("balloon", 26),
        ("net", 25),
        ("deadline", 22),
        ("tpm", 23),
    ];
    assert_eq!(counts, expected);
}

#[test]
fn only_the_maker_makes_threads_and_nobody_who_serves_a_guest_narrows_itself_again() {
    for role in VMM {
        let makes = allows(role, libc::SYS_clone) || allows(role, libc::SYS_clone3);
        assert_eq!(makes, role.name == "maker", "{}", role.name);
        for call in [libc::SYS_openat, libc::SYS_open, libc::SYS_socket, libc::SYS_execve, libc::SYS_ptrace] {
            assert!(!allows(role, call), "{}: {call}", role.name);
        }
        let narrows = allows(role, libc::SYS_seccomp);
        assert_eq!(narrows, role.name == "maker", "{}", role.name);
    }
}

/// A thread begins with its maker's filters: what the maker may not do, nobody may.
#[test]
fn the_maker_may_do_whatever_its_threads_may() {
    let made = VMM.iter().filter(|role| role.name != "main" && role.name != "maker");
    for role in made {
        for call in role.calls.iter().copied().flatten() {
            let found = MAKER.calls.iter().copied().flatten().any(|of_maker| of_maker == call);
            assert!(found, "{}: {call:?}", role.name);
        }
    }
}

/// No request of KVM but those that a processor needs, and no executable memory anywhere.
#[test]
fn threads_of_a_running_guest_make_no_machine() {
    for role in VMM.iter().filter(|role| role.name != "main") {
        for call in role.calls.iter().copied().flatten() {
            if call.number == libc::SYS_ioctl {
                let exact = matches!(call.condition, Condition::Masked { argument: 1, mask: u32::MAX, .. });
                assert!(exact, "{}: {call:?}", role.name);
            }
            if matches!(call.number, libc::SYS_mmap | libc::SYS_mprotect) {
                assert_ne!(call.condition, Condition::Always, "{}", role.name);
            }
        }
    }
}

/// This test program again, as a process of its own one thread of which enters a role and then makes a call.
#[test]
fn what_a_role_does_not_name_kills_and_the_rest_works() {
    use std::os::unix::process::ExitStatusExt as _;
    const VARIABLE: &str = "ROLE_MAKES";
    if let Ok(what) = std::env::var(VARIABLE) {
        let thread = std::thread::spawn(move || {
            CONSOLE.enter().unwrap();
            let mapped = |flags: i32, protection: i32| {
                // SAFETY: a new mapping at an address that the kernel chooses; nobody uses it.
                let address = unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0) };
                assert_ne!(address, libc::MAP_FAILED);
            };
            let anonymous = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            match what.as_str() {
                "allowed" => mapped(anonymous, libc::PROT_READ),
                "executable" => mapped(anonymous, libc::PROT_READ | libc::PROT_EXEC),
                "file" => mapped(libc::MAP_PRIVATE, libc::PROT_READ),
                "thread" => drop(std::thread::spawn(|| ()).join()),
                "socket" => drop(rustix::net::socket(
                    rustix::net::AddressFamily::UNIX,
                    rustix::net::SocketType::STREAM,
                    None,
                )),
                "open" => drop(std::fs::File::open("/dev/null")),
                // It cannot enter another role either.
                "role" => drop(DISK.enter()),
                _ => panic!("unknown"),
            }
        });
        thread.join().unwrap();
        return;
    }
    let ends = |what: &str| {
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        again
            .args(["--exact", "roles::tests::what_a_role_does_not_name_kills_and_the_rest_works"])
            .env(VARIABLE, what);
        again.output().unwrap().status
    };
    assert_eq!(ends("allowed").code(), Some(0));
    for what in ["executable", "file", "thread", "socket", "open", "role"] {
        assert_eq!(ends(what).signal(), Some(libc::SIGSYS), "{what}");
    }
}
