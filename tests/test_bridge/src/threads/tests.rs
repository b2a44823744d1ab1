use std::sync::mpsc::channel;

use super::*;

#[test]
fn a_waiting_thread_and_an_event_that_nobody_took_are_seen() {
    let event = rustix::event::eventfd(3, rustix::event::EventfdFlags::CLOEXEC).unwrap();
    let (go_on, wait) = channel::<()>();
    let thread =
        std::thread::Builder::new().name("a) waiter (".to_owned()).spawn(move || wait.recv()).unwrap();
    let own = i32::try_from(std::process::id()).unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&event);
    let seen = loop {
        let all = snapshot(Path::new("/proc")).unwrap();
        let own = all.into_iter().find(|process| process.pid == own).unwrap();
        // It may not have taken its name yet, or come to its wait.
        if own.threads.iter().any(|thread| thread.name == "a) waiter (" && thread.state() == "S") {
            break own;
        }
    };
    assert!(!seen.program.is_empty());
    assert!(seen.events.contains(&(number, "3".to_owned())), "{:?}", seen.events);
    let runs = seen.threads.iter().find(|thread| thread.state() == "R").unwrap();
    assert!(runs.ticks().0 < 1_000_000);
    drop(go_on);
    assert!(thread.join().unwrap().is_err());
}
