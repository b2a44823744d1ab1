use super::*;

#[test]
fn this_process_is_in_the_snapshot() {
    let list = snapshot(Path::new("/proc")).unwrap();
    let id = i32::try_from(std::process::id()).unwrap();
    let this = list.iter().find(|process| process.pid == id).unwrap();
    assert_eq!(Path::new(&this.program), std::env::current_exe().unwrap());
    assert!(this.network.starts_with("net:["));
    assert!(this.namespaces.iter().zip(NAMESPACES).all(|(link, name)| link.starts_with(name)));
    assert!(this.maps.iter().all(|map| map.split(' ').count() >= 3), "{:?}", this.maps);
    assert!(this.threads >= 1 && this.resident_kib > 0);
    assert!(this.descriptors.iter().any(|(number, _)| *number == 0));
    assert!(list.is_sorted_by_key(|process| process.pid));
}

#[test]
fn a_jailed_process_reads_as_one() {
    let status = "Name:\tvmm\nPid:\t77\nPPid:\t1\nUid:\t2000\t2000\t2000\t2000\nGid:\t2000\t2000\t2000\t2000\n\
                  VmRSS:\t    1234 kB\nThreads:\t3\nCapInh:\t0000000000000001\nCapAmb:\t0000000000000002\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n\
                  CapBnd:\t00000000000000ff\nNoNewPrivs:\t1\nSeccomp:\t2\n";
    let process = parse_status(status).unwrap();
    assert_eq!((process.pid, process.parent, process.user, process.group), (77, 1, 2000, 2000));
    assert!(process.no_new_privileges);
    assert_eq!((process.seccomp, process.effective, process.bounding), (2, 0, 0xff));
    assert_eq!((process.inheritable, process.ambient), (1, 2));
    assert_eq!((process.threads, process.resident_kib), (3, 1234));
    assert_eq!(parse_status("Name:\tvmm\n"), None, "half a status is none");
}
