//! The log in a real file.

use std::os::fd::AsFd;

use super::*;
use crate::launch::tests::Data;

fn died() -> Event {
    Event::ProcessDied { process: "vmm".to_owned(), cause: "killed by signal 9".to_owned() }
}

/// A file as `init` gives it.
pub(crate) fn file() -> OwnedFd {
    let file = rustix::fs::memfd_create("audit", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&file, init_protocol::AUDIT_LOG_BYTES).unwrap();
    file
}

fn again(file: &OwnedFd) -> Option<OwnedFd> {
    Some(file.try_clone().unwrap())
}

fn content(file: &OwnedFd) -> Vec<u8> {
    read(&File::from(file.try_clone().unwrap()), 0, 1 << 20).unwrap()
}

fn put(file: &OwnedFd, bytes: &[u8]) {
    File::from(file.try_clone().unwrap()).write_all_at(bytes, 0).unwrap();
}

pub(crate) fn verified(page: &AuditPage) -> Result<audit::verify::Verified, audit::Fault> {
    let head = audit::Head { position: page.head.position, hash: page.head.hash.as_str().into() };
    audit::verify(page.records.iter().map(String::as_bytes), None, Some(&head))
}

#[test]
fn events_are_read_back_in_pages_and_verify_after_a_restart() {
    let data = Data::new("audit");
    let file = file();
    fs::write(data.0.join(BOOT_ID), "one-boot\n").unwrap();
    let mut log = Audit::open(again(&file), Some(&data.0));
    assert_eq!(log.complaint(), None);
    for _ in 0..5 {
        log.record(Some("office"), &died());
    }
    assert_eq!(log.take_earlier(), []);
    drop(log);
    let mut log = Audit::open(again(&file), Some(&data.0));
    let page = log.page(0, 1000).unwrap();
    assert_eq!((page.records.len(), page.next), (7, 8));
    assert!(page.records.iter().all(|record| record.contains("\"boot\":\"one-boot\"")));
    assert!(
        page.records[0].contains("\"again\":false") && page.records[6].contains("\"again\":true"),
        "{page:?}"
    );
    assert_eq!(verified(&page).unwrap().first, 1);
    let first = log.page(1, 3).unwrap();
    assert_eq!((first.records.len(), first.next), (3, 4));
    assert_eq!(log.page(first.next, 9).unwrap().records, page.records[3..]);
    assert_eq!(log.page(8, 9).unwrap().records, Vec::<String>::new());
    // What happened before is still to be told, and only in the same boot.
    let earlier = log.take_earlier();
    assert_eq!(earlier.len(), 5);
    assert!(earlier[0].1.contains("vmm of zone office") && earlier[0].0 == "vmm office", "{earlier:?}");
    fs::write(data.0.join(BOOT_ID), "another-boot\n").unwrap();
    assert_eq!(Audit::open(again(&file), Some(&data.0)).take_earlier(), []);
}

#[test]
fn the_log_fills_the_file_that_init_makes() {
    assert_eq!(Limits::default().file_bytes(), init_protocol::AUDIT_LOG_BYTES);
}

#[test]
fn pages_of_a_full_log_are_bounded_and_join_to_the_whole() {
    let file = file();
    let mut log = Audit::open(again(&file), None);
    let long = "x".repeat(290);
    for number in 0..5000 {
        // Each zone has a budget of its own.
        let event = Event::StartRefused { reason: long.clone() };
        log.record(Some(&format!("zone-{}", number / 20)), &event);
    }
    let (mut position, mut all) = (0, Vec::new());
    loop {
        let page = log.page(position, u64::MAX).unwrap();
        assert!(
            page.records.len() <= 256 && page.records.iter().map(String::len).sum::<usize>() <= PAGE_BYTES
        );
        if page.records.is_empty() {
            assert_eq!(page.head.position + 1, position);
            break;
        }
        position = page.next;
        all.extend(page.records);
    }
    let verified = audit::verify(all.iter().map(String::as_bytes), None, Some(log.log.head())).unwrap();
    assert!(verified.first > 1, "the oldest were dropped");
    assert_eq!(content(&file).len(), 1 << 20);
    // As whoever takes the disk reads it.
    let (lines, torn) = area::records(Limits::default(), &content(&file));
    assert_eq!((lines.len(), torn), (all.len(), 0));
}

#[test]
fn an_altered_byte_is_seen_by_the_next_start_and_in_the_page() {
    let file = file();
    let mut log = Audit::open(again(&file), None);
    log.record(None, &died());
    let mut bytes = content(&file);
    let at = bytes.windows(8).position(|window| window == b"signal 9").unwrap();
    bytes[at + 7] = b'8';
    put(&file, &bytes);
    let found = verified(&log.page(1, 9).unwrap());
    assert!(matches!(found, Err(audit::Fault::Altered { line: 2, record: 2, .. })), "{found:?}");
    let mut log = Audit::open(again(&file), None);
    let records = log.page(1, 9).unwrap().records;
    assert!(records.last().unwrap().contains("chain_broken"), "{records:?}");
    let said = log.take_earlier();
    assert!(said.iter().any(|(_, text)| text.contains("audit log was altered: record 2")), "{said:?}");
}

#[test]
fn a_torn_end_is_cut_off_and_the_log_goes_on() {
    let file = file();
    let mut log = Audit::open(again(&file), None);
    log.record(None, &died());
    let mut bytes = content(&file);
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[end - 20..].fill(0);
    put(&file, &bytes);
    let page = Audit::open(again(&file), None).page(1, 9).unwrap();
    assert!(page.records.last().unwrap().contains("record_torn"), "{page:?}");
    verified(&page).unwrap();
}

#[test]
fn a_log_that_cannot_be_written_is_said_once_and_counts() {
    let file = file();
    let mut log = Audit::open(again(&file), None);
    let whole = log.file.take();
    log.record(None, &died());
    let complaint = log.complaint().unwrap();
    assert!(complaint.contains("audit log cannot be written"), "{complaint}");
    log.record(None, &died());
    assert_eq!(log.complaint(), None);
    log.file = whole;
    log.record(None, &Event::PowerOff { by: "client".into() });
    let page = log.page(1, 9).unwrap();
    assert!(page.records[1].contains(r#""kind":"events_lost","count":2"#), "{page:?}");
    verified(&page).unwrap();
    assert!(file.as_fd().try_clone_to_owned().is_ok());
}

#[test]
fn a_host_without_data_disk_says_so_and_serves_empty_pages() {
    let mut log = Audit::open(None, None);
    assert!(log.complaint().unwrap().contains("no data disk"));
    log.record(None, &died());
    let page = log.page(1, 9).unwrap();
    assert_eq!((page.records.len(), page.head.position), (0, 0));
}
