use std::io::Write;

use init_protocol::ExitCause;

use super::*;

/// Asks a fake `init` that says `events`, the ones with `true` with a descriptor.
fn ask(events: Vec<(Event, bool)>) -> (Result<OwnedFd, LaunchError>, VecDeque<Event>) {
    let text = crate::launch::tests::POLICY.replace("vcpus = 2", "vcpus = 2\ndisposable = true");
    let policy = policy::verify("policy.toml", &text).unwrap();
    let zone = policy.zones.iter().find(|zone| zone.disposable).unwrap();
    let (ours, theirs) = Channel::pair().unwrap();
    ours.set_nonblocking().unwrap();
    let init = std::thread::spawn(move || {
        let (request, _) = theirs.receive::<Request>().unwrap();
        let wanted = Request::OpenDisposable { slot: 1, zone: "vault".to_owned(), size_mib: 16 };
        assert_eq!(request, wanted);
        for (event, with) in events {
            let (read, write) = rustix::pipe::pipe().unwrap();
            std::fs::File::from(write).write_all(b"disk").unwrap();
            let disk = [read.as_fd()];
            theirs.send(&event, if with { &disk } else { &[] }).unwrap();
        }
    });
    let mut earlier = VecDeque::new();
    let result = open(&ours, 1, zone, &mut earlier);
    init.join().unwrap();
    (result, earlier.into_iter().map(|(event, _)| event).collect())
}

#[test]
fn the_disk_comes_and_other_news_wait_in_order() {
    let gone = |process| Event::Exited { process, cause: ExitCause::Code(0) };
    let other = Event::DiskRefused { slot: 0, reason: "of another zone".to_owned() };
    let events = vec![
        (gone(1), false),
        (other.clone(), false),
        (gone(2), false),
        (Event::DiskOpened { slot: 1 }, true),
    ];
    let (disk, earlier) = ask(events);
    assert_eq!(std::io::read_to_string(std::fs::File::from(disk.unwrap())).unwrap(), "disk");
    assert_eq!(earlier, [gone(1), other, gone(2)]);
}

#[test]
fn no_disk_is_a_sentence() {
    let said = |events| ask(events).0.unwrap_err().to_string();
    let refused = Event::DiskRefused { slot: 1, reason: "the data disk is full".to_owned() };
    assert_eq!(said(vec![(refused, false)]), "the host made no disposable disk: the data disk is full");
    let empty = said(vec![(Event::DiskOpened { slot: 1 }, false)]);
    assert_eq!(empty, "the host made no disposable disk: init sent no descriptor");
    assert_eq!(said(Vec::new()), "the host made no disposable disk: peer closed the channel");
}
