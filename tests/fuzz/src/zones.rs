//! What `zoned` and `init` read of guests, processes and clients.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use control_api::wire::{Continues, Frames, MAX_REPLY, Reply};
use control_api::{Notice, Phase, State, Status, Uplink, Zone};
use rustix::pipe::{PipeFlags, pipe_with};
use zoned::{AgentLink, Server};

use crate::cursor::Cursor;

/// A stream of an agent. Nothing that could be shown is longer than promised, and the host never waits.
pub(crate) fn agent_link(bytes: &[u8]) {
    let mut cursor = Cursor::new(bytes);
    let (ours, theirs) = UnixStream::pair().expect("a socket pair");
    theirs.set_nonblocking(true).expect("a socket");
    let Ok(mut link) = AgentLink::new(OwnedFd::from(ours)) else { return };
    let mut greeted = false;
    while !cursor.is_empty() {
        if cursor.u8() < 32 && link.ask().is_err() {
            return;
        }
        let piece = cursor.some_bytes(600);
        let _gone = (&theirs).write(piece);
        let Ok(said) = link.read() else { return };
        assert!(said.len() <= bytes.len(), "{} messages of {} bytes", said.len(), bytes.len());
        for text in said {
            if !greeted {
                greeted = true;
                assert!(
                    text.len() <= 32 && text.chars().all(|c| matches!(c, ' '..='~')),
                    "the version {text:?}"
                );
            }
            assert!(text.len() <= 32 * 1024, "an answer of {} bytes", text.len());
        }
    }
}

fn status() -> Status {
    let state = State { phase: Phase::Running, reason: None, agent: Some("1".to_owned()), session: None };
    Status {
        policy: "demo".to_owned(),
        demo: true,
        uplink: Uplink::default(),
        zones: vec![Zone {
            name: "office".to_owned(),
            label: "Office".to_owned(),
            colour: "blue".to_owned(),
            state,
            login: control_api::Login::default(),
            tunnel: None,
        }],
        recovery: control_api::Recovery::None,
        screen: control_api::Screen::default(),
        notices: vec![Notice { number: 1, process: "zoned".to_owned(), text: "a notice".to_owned() }],
    }
}

/// Several clients at once, in pieces. Every reply is one, and no client's bytes hold up another's.
pub(crate) fn varlink(bytes: &[u8]) {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("bulkhead-fuzz-{}-{number}", std::process::id());
    let address = SocketAddr::from_abstract_name(name.as_bytes()).expect("a short name");
    let listener = UnixListener::bind_addr(&address).expect("a listening socket");
    let mut server = Server::new(OwnedFd::from(listener)).expect("a server");
    let mut cursor = Cursor::new(bytes);
    let mut clients: Vec<(UnixStream, Frames)> = Vec::new();
    let status = status();
    let mut now = Instant::now();
    let mut calls = 0;
    while !cursor.is_empty() {
        let choice = cursor.u8();
        if clients.is_empty() || (choice < 16 && clients.len() < 20) {
            let client = UnixStream::connect_addr(&address).expect("the socket listens");
            client.set_nonblocking(true).expect("a socket");
            clients.push((client, Frames::new(MAX_REPLY)));
        }
        let index = cursor.below(clients.len());
        match choice {
            16..=23 => drop(clients.swap_remove(index)),
            24..=39 => now += Duration::from_millis(u64::from(cursor.u16())),
            40..=79 => {
                // A plausible call.
                let method = ["Status", "Monitor", "Start", "Stop", "RunCheck", "PowerOff"][cursor.below(6)];
                let zone = ["office", "", "none"][cursor.below(3)];
                let flags = ["", ",\"more\":true", ",\"oneway\":true"][cursor.below(3)];
                let call = format!(
                    "{{\"method\":\"org.bulkhead.Zones.{method}\",\"parameters\":{{\"zone\":\"{zone}\"}}{flags}}}\0"
                );
                let _gone = clients[index].0.write(call.as_bytes());
            }
            _ => {
                let mut piece = cursor.some_bytes(200).to_vec();
                if choice & 1 == 0 {
                    piece.push(0);
                }
                let _gone = clients[index].0.write(&piece);
            }
        }
        calls += server.turn(&status, now);
        for (client, frames) in &mut clients {
            let mut reply = [0; 4096];
            while let Ok(size @ 1..) = client.read(&mut reply) {
                frames.push(&reply[..size]);
                while let Some(frame) = frames.next_frame().expect("a reply within its limit") {
                    let (reply, continues) = Reply::decode(&frame).expect("the server's replies are replies");
                    assert!(continues == Continues::No || matches!(reply, Reply::Status(_)), "{reply:?}");
                }
            }
        }
    }
    assert!(calls <= bytes.len(), "{calls} calls out of {} bytes", bytes.len());
}

/// Replies as a desktop reads them: decoded, encoded and decoded to the same.
pub(crate) fn varlink_reply(bytes: &[u8]) {
    let mut frames = Frames::new(4096);
    frames.push(bytes);
    while let Ok(Some(frame)) = frames.next_frame() {
        let Ok((reply, continues)) = Reply::decode(&frame) else { continue };
        let again = reply.encode(continues);
        let decoded = Reply::decode(again.strip_suffix(&[0]).expect("the end"));
        let (other, _) = decoded.expect("what was encoded decodes");
        assert_eq!(other, reply);
    }
    if let Ok(Ok(call)) = control_api::wire::Call::decode(bytes) {
        let again = call.encode();
        let decoded = control_api::wire::Call::decode(again.strip_suffix(&[0]).expect("the end"));
        assert_eq!(decoded.expect("what was encoded decodes"), Ok(call));
    }
}

/// A guest's console and a process's output: what a log shows of them is bounded and harmless.
pub(crate) fn console_text(bytes: &[u8]) {
    let mut cursor = Cursor::new(bytes);
    let mut pieces = Vec::new();
    while !cursor.is_empty() {
        pieces.push(cursor.some_bytes(900));
    }
    let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).expect("a pipe");
    for piece in &pieces {
        let _full = rustix::io::write(&write, piece);
    }
    if let Some(line) = zoned::last_words(read) {
        assert!(line.len() <= 200 && line.chars().all(|c| matches!(c, ' '..='~')), "the line {line:?}");
    }
    let printed = init::printed(&pieces);
    assert!(printed.len() <= 201 + pieces.len(), "{} lines", printed.len());
    for line in printed {
        assert!(line.chars().count() <= 512, "a line of {} characters", line.chars().count());
        assert!(!line.chars().any(|c| c.is_control() && c != '\t'), "control characters in {line:?}");
    }
    if let Some((_, name)) = init::violation(&String::from_utf8_lossy(bytes)) {
        assert!(!name.is_empty());
    }
}
