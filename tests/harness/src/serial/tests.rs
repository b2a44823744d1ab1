use std::os::unix::net::UnixStream;

use super::*;
use crate::within;

fn console(name: &str) -> (UnixStream, Serial, PathBuf) {
    let path = std::env::temp_dir().join(format!("bulkhead-console-{name}-{}", std::process::id()));
    let (guest, reader) = UnixStream::pair().unwrap();
    let serial = Serial::start(&path, vec![Box::new(reader)]).unwrap();
    (guest, serial, path)
}

#[test]
fn a_pattern_is_found_across_pieces_and_after_a_place() {
    let (mut guest, serial, path) = console("pieces");
    guest.write_all(b"zone off").unwrap();
    let waiting = serial.clone();
    let waiter = std::thread::spawn(move || waiting.wait_for("zone office", within(20)));
    serial.wait_for("zone off", within(20)).unwrap();
    guest.write_all(b"ice runs\n").unwrap();
    let place = waiter.join().unwrap().unwrap();
    assert_eq!(serial.since(place).trim_end(), " runs");
    let end = serial.end();
    guest.write_all(b"zone office again\n").unwrap();
    serial.wait_for_since(end, "zone office", within(20)).unwrap();
    assert_eq!(serial.tail(1), "zone office again");
    assert!(std::fs::read_to_string(&path).unwrap().starts_with("zone office runs\n"));
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_deadline_and_an_end_are_told_apart() {
    let (guest, serial, path) = console("end");
    let error = serial.wait_for("never", Instant::now()).unwrap_err();
    assert!(matches!(error, WaitError::Deadline { .. }));
    assert!(!serial.wait_for_end(Instant::now()));
    drop(guest);
    assert!(serial.wait_for_end(within(20)));
    let error = serial.wait_for("never", within(20)).unwrap_err();
    assert!(matches!(error, WaitError::Ended { .. }));
    std::fs::remove_file(path).unwrap();
}
