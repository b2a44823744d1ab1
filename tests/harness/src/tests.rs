use std::path::PathBuf;

use crate::command_line::QemuProgram;
use crate::machine::{BootError, Machine, MachineConfig};

#[test]
fn a_qemu_that_ends_at_once_says_why_and_leaves_nothing_behind() {
    let logs = std::env::temp_dir().join(format!("bulkhead-harness-{}", std::process::id()));
    let script = "echo no such machine >&2; exit 3";
    let qemu = QemuProgram { command: ["sh", "-c", script].map(Into::into).into(), environment: Vec::new() };
    let config = MachineConfig::for_test(qemu, PathBuf::from("/kernel"), Vec::new(), logs.clone());
    match Machine::boot(config) {
        Err(BootError::Qemu { said, .. }) => assert_eq!(said, "no such machine"),
        other => panic!("{other:?}"),
    }
    std::fs::remove_dir_all(logs).unwrap();
}

#[test]
fn a_missing_segment_is_named() {
    let logs = std::env::temp_dir().join(format!("bulkhead-harness-segment-{}", std::process::id()));
    let segments = vec![PathBuf::from("/no/such/segment.cpio")];
    let config =
        MachineConfig::for_test(QemuProgram::default(), PathBuf::from("/kernel"), segments, logs.clone());
    match Machine::boot(config) {
        Err(BootError::Prepare { source, .. }) => {
            assert!(source.to_string().starts_with("/no/such/segment.cpio"), "{source}");
        }
        other => panic!("{other:?}"),
    }
    std::fs::remove_dir_all(logs).unwrap();
}
