use std::sync::atomic::{AtomicBool, Ordering};

use jail::calls::{Call, always};

use super::*;

/// A role that no thread can enter: its calls make more instructions than a filter may have.
fn absurd() -> Role {
    let calls: Vec<Call> = (0..5000).map(always).collect();
    Role { name: "absurd", calls: vec![&*calls.leak()].leak() }
}

#[test]
fn a_thread_without_its_role_does_no_work_and_says_why() {
    static WORKED: AtomicBool = AtomicBool::new(false);
    let maker = crate::tests::maker();
    let worked = maker.start(absurd(), "absurd", Box::new(|| WORKED.store(true, Ordering::Relaxed)));
    assert!(worked.is_err() && !WORKED.load(Ordering::Relaxed));
    // The maker makes the next one.
    let thread = maker.start(roles::CONSOLE, "next", Box::new(|| WORKED.store(true, Ordering::Relaxed)));
    thread.unwrap().join().unwrap();
    assert!(WORKED.load(Ordering::Relaxed));
}

#[test]
fn a_machine_without_a_device_s_thread_ends_with_the_reason() {
    let maker = crate::tests::maker();
    // As if it had died.
    *maker.orders.lock().unwrap() = None;
    let threads = DeviceThreads { maker, ending: Arc::new(Ending::new().unwrap()) };
    threads.start(threads::Role::Disk, Box::new(|| {})).unwrap_err();
    let reason = End::Failed("thread block: the maker of threads is gone".to_owned());
    assert_eq!(threads.ending.take(), Some(reason));
}
