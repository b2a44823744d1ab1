//! Machines come and go, and leave nothing behind.

use devices::virtio::rng::Rng;

use super::*;

/// What this process holds: descriptors, threads, mappings.
fn held() -> [usize; 3] {
    ["fd", "task", "map_files"]
        .map(|folder| std::fs::read_dir(format!("/proc/self/{folder}")).unwrap().count())
}

/// Runs a tiny guest with devices on a machine of its own, and through some resets.
fn cycle(content: &[u8], file: &File) -> Option<()> {
    let mut machine = machine("cycles", &[])?;
    let block = Block::new(file.try_clone().unwrap(), Access::ReadOnly, "test").unwrap();
    machine.attach(Box::new(block)).unwrap();
    machine.attach(Box::new(Rng::new())).unwrap();
    prepare_reader(&machine.vm.ram().memory);
    check_reader(&machine, content);
    Some(())
}

/// Its own process, by the name of this test: other tests' threads and descriptors would be counted otherwise.
#[test]
fn native_machines_that_come_and_go_leave_nothing_behind() {
    const CHILD: &str = "BULKHEAD_CYCLES";
    if std::env::var_os(CHILD).is_none() {
        let test = std::thread::current();
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test.name().unwrap(), "--test-threads=1", "--nocapture"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}");
        assert!(text.contains("1 passed"), "{text}");
        return;
    }
    let (file, content) = two_sectors();
    let (few, all) = (10, if soak() { 1000 } else { 50 });
    for _ in 0..few {
        if cycle(&content, &file).is_none() {
            return;
        }
    }
    // The allocator and the threads' stacks have settled.
    let before = held();
    for _ in few..all {
        cycle(&content, &file);
    }
    assert_eq!(held(), before);

    let mut machine = machine("resets", &[]).unwrap();
    machine.attach(Box::new(Block::new(file, Access::ReadOnly, "test").unwrap())).unwrap();
    let mut before = None;
    for number in 0..all {
        prepare_reader(&machine.vm.ram().memory);
        check_reader(&machine, &content);
        machine.reset().unwrap();
        if number == few {
            before = Some(held());
        }
    }
    assert_eq!(Some(held()), before);
}
