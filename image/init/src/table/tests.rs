use super::*;

/// SECURITY.md names these numbers: a call more is a decision, and stands there.
#[test]
fn rows_allow_so_many_calls() {
    let rows = [&UPLINK, &KEEPER, &ZONED, &DESKTOP, &VMM, &VPND, &SWTPM];
    let counts = rows.map(|row| (row.name, jail::calls::count(row.calls)));
    let expected = [
        ("uplink", 76),
        ("keeper", 108),
        ("zoned", 110),
        ("desktop", 78),
        ("vmm", 91),
        ("vpnd", 83),
        ("swtpm", 40),
    ];
    assert_eq!(counts, expected);
}

/// Of some three hundred and fifty calls, these open what a jail is for.
#[test]
fn no_row_allows_what_no_process_needs() {
    // execve, fork, vfork, ptrace, mount, umount2, chroot, pivot_root, init_module, finit_module, setuid, setgid,
    // setns, unshare, bpf, perf_event_open, keyctl, add_key, io_uring_setup, userfaultfd, process_vm_readv,
    // process_vm_writev, pidfd_getfd, kexec_load, open_by_handle_at, mknod, mknodat, personality.
    let never = [
        59, 57, 58, 101, 165, 166, 161, 155, 175, 313, 105, 106, 308, 272, 321, 298, 250, 248, 425, 323, 310,
        311, 438, 246, 304, 133, 259, 135,
    ];
    let everyone = [&UPLINK, &KEEPER, &ZONED, &DESKTOP, &VMM, &VPND, &SWTPM, &TEST_BRIDGE];
    for row in everyone {
        let found = row.calls.iter().copied().flatten().find(|call| never.contains(&call.number));
        assert_eq!(found, None, "{}", row.name);
        assert!(row.files <= 1000, "{}: the program could be executed again", row.name);
    }
    // Only the VMM has more than one thread.
    for row in [&UPLINK, &KEEPER, &ZONED, &DESKTOP, &VPND, &SWTPM] {
        let clones = row.calls.iter().copied().flatten().find(|call| matches!(call.number, 56 | 435));
        assert_eq!(clones, None, "{}", row.name);
    }
    // Whatever a thread's role names, its process may do: otherwise the list says more than is so.
    for role in jail::roles::VMM {
        for call in role.calls.iter().copied().flatten() {
            let known = VMM.calls.iter().copied().flatten().any(|of_row| of_row.number == call.number);
            assert!(known, "{}: {}", role.name, call.number);
        }
    }
    // Only the tests' bridge may signal another process, and only it keeps a capability.
    for row in [&UPLINK, &KEEPER, &ZONED, &DESKTOP, &VMM, &VPND, &SWTPM] {
        assert!(row.capabilities.is_empty() && row.isolation == Isolation::Full, "{}", row.name);
        assert!(row.calls.iter().copied().flatten().all(|call| call.number != 62), "{}: kill", row.name);
    }
}

#[test]
fn a_zone_gets_its_memory_and_a_bounded_rest() {
    assert_eq!(zone_limits(256).memory_mib, 256 + 8 + 64);
    assert_eq!(zone_limits(65536).memory_mib, 65536 + 2048 + 64);
    // Nothing that a request can say overflows.
    assert!(zone_limits(u32::MAX).memory_mib < u64::MAX / (1024 * 1024));
}
