use super::*;

#[test]
fn the_kernels_line_is_understood() {
    let record = "5,615,7012345,-;audit: type=1326 audit(1700000000.123:2): auid=4294967295 uid=2000 gid=2000 \
                  ses=4294967295 subj=kernel pid=93 comm=\"vmm\" exe=\"/bin/vmm\" sig=31 arch=c000003e syscall=41 \
                  compat=0 ip=0x4a5b code=0x80000000\n SUBSYSTEM=x\n";
    let violation = parse(record).unwrap();
    assert_eq!(violation, Violation { pid: 93, call: 41 });
    assert_eq!(name(violation.call), "socket");
}

#[test]
fn other_lines_are_not() {
    for record in [
        "",
        "6,1,2,-;usb 1-1: new device pid=1 syscall=2",
        "5,1,2,-;audit: type=1400 audit(1.1:1): pid=1 syscall=2",
        "5,1,2,-;audit: type=1326 audit(1.1:1): pid=x syscall=2",
    ] {
        assert_eq!(parse(record), None, "{record}");
    }
}
