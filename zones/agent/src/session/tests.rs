use std::cell::Cell;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::*;

const STATE: &str = "# This is private data. Do not parse.\nUID=1000\nUSER=anna\nACTIVE=1\nSTATE=active\n\
                     CLASS=user\nSCOPE=session-1.scope\nLEADER=77\n";
const PEER: Peer = Peer { process: 77, uid: 1000 };

/// A folder that is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("agent-session-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

#[test]
fn a_start_without_the_credential_has_no_session() {
    let folder = Folder::new("wanted");
    assert_eq!(wanted(&folder.0), None);
    assert_eq!(wanted(&folder.0.join("missing")), None);
    for (value, expected) in [("anna", Some("anna")), ("", None), ("root:x", None), ("anna\n", None)] {
        fs::write(folder.0.join(USER), value).unwrap();
        assert_eq!(wanted(&folder.0).as_deref(), expected, "{value:?}");
    }
}

#[test]
fn only_a_process_in_a_session_of_its_user_has_one() {
    let group = |path: &str, uid| session_of(&format!("0::{path}\n"), uid).ok();
    assert_eq!(group("/user.slice/user-1000.slice/session-1.scope", 1000).as_deref(), Some("1"));
    assert_eq!(group("/user.slice/user-1000.slice/session-c12.scope", 1000).as_deref(), Some("c12"));
    for (path, uid) in [
        ("/user.slice/user-1000.slice/session-1.scope", 1001),
        ("/user.slice/user-0.slice/session-1.scope", 0),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/session-1.scope", 1000),
        ("/user.slice/user-1000.slice/user@1000.service/init.scope", 1000),
        ("/user.slice/user-1000.slice/session-1.scope/below", 1000),
        ("/user.slice/user-1000.slice/session-../x.scope", 1000),
        ("/user.slice/user-1000.slice/session-.scope", 1000),
        ("/system.slice/bulkhead-session.service", 1000),
        ("/", 1000),
    ] {
        assert_eq!(group(path, uid), None, "{path}");
    }
    assert!(session_of("", 1000).is_err());
}

#[test]
fn logind_must_say_that_it_is_this_users_session_and_open() {
    assert!(verify("1", STATE, PEER, "anna").is_ok());
    let wrong = |state: &str, peer, user| verify("1", state, peer, user).unwrap_err().to_string();
    assert_eq!(wrong(STATE, PEER, "otto"), "session 1 has USER=\"anna\", not \"otto\"");
    let other = Peer { process: 78, ..PEER };
    assert_eq!(wrong(STATE, other, "anna"), "session 1 has LEADER=\"77\", not \"78\"");
    let other = Peer { uid: 1001, ..PEER };
    assert_eq!(wrong(STATE, other, "anna"), "session 1 has UID=\"1000\", not \"1001\"");
    for (line, other) in [
        ("CLASS=user", "CLASS=manager"),
        ("STATE=active", "STATE=opening"),
        ("STATE=active", "STATE=closing"),
        ("ACTIVE=1", "ACTIVE=0"),
        ("LEADER=77", "MEMBER=77"),
    ] {
        let (key, _) = line.split_once('=').unwrap();
        let text = wrong(&STATE.replace(line, other), PEER, "anna");
        assert!(text.starts_with(&format!("session 1 has {key}=")), "{text}");
    }
}

/// A watched socket, and what was told.
fn watched(folder: &Folder, admit: fn(u32) -> bool) -> (PathBuf, Receiver<bool>) {
    let path = folder.0.join("run/session");
    let listener = listen(&path).unwrap();
    let (sender, told) = channel();
    std::thread::spawn(move || {
        let number = Cell::new(0);
        let decide = |_: &UnixStream| {
            number.set(number.get() + 1);
            let stranger = Stranger::Elsewhere { uid: 1, group: String::new() };
            if admit(number.get()) { Ok(()) } else { Err(stranger) }
        };
        attend(&listener, decide, |open| sender.send(open).unwrap_or_default())
    });
    (path, told)
}

#[test]
fn a_session_is_open_as_long_as_its_program_is_connected() {
    let folder = Folder::new("open");
    let (path, told) = watched(&folder, |_| true);
    let next = || told.recv_timeout(Duration::from_secs(20)).unwrap();
    for _ in 0..2 {
        let session = UnixStream::connect(&path).unwrap();
        assert!(next());
        // What it says is not read, and changes nothing.
        io::Write::write_all(&mut &session, b"closed").unwrap();
        drop(session);
        assert!(!next());
    }
}

#[test]
fn a_stranger_is_sent_away_and_changes_nothing() {
    let folder = Folder::new("strangers");
    let (path, told) = watched(&folder, |number| number == 2);
    let turned_away = || {
        let mut stream = UnixStream::connect(&path).unwrap();
        io::Read::read(&mut stream, &mut [0]).unwrap_or(0) == 0
    };
    assert!(turned_away());
    let session = UnixStream::connect(&path).unwrap();
    assert!(told.recv_timeout(Duration::from_secs(20)).unwrap());
    assert!(turned_away() && turned_away());
    assert!(told.try_recv().is_err());
    drop(session);
    assert!(!told.recv_timeout(Duration::from_secs(20)).unwrap());
}

/// This process is in no session of logind, or leads none of the name that is asked for.
#[test]
fn a_process_outside_of_the_session_is_a_stranger() {
    let folder = Folder::new("native");
    let listener = UnixListener::bind(folder.0.join("socket")).unwrap();
    let _ours = UnixStream::connect(folder.0.join("socket")).unwrap();
    let (theirs, _) = listener.accept().unwrap();
    assert!(admit(&theirs, "nobody-of-this-name").is_err());
}
