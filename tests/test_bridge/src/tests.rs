use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::*;
use crate::forward::Forwarder;
use crate::message::{Call, Splitter};
use crate::port::Port;

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("bulkhead-bridge-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn looks_answer_with_what_is_there() {
    let processes = look("Processes", json!({})).unwrap();
    let list: Vec<processes::Process> = serde_json::from_value(processes["processes"].clone()).unwrap();
    assert!(list.len() > 1);
    let namespaces = look("Network", json!({})).unwrap();
    let list: Vec<network::Namespace> = serde_json::from_value(namespaces["namespaces"].clone()).unwrap();
    let own = processes::link(Path::new("/proc/self/ns/net"));
    let namespace = list.iter().find(|namespace| namespace.name == own).unwrap();
    assert!(namespace.files["dev"].contains("lo:"));

    let folder = folder("files");
    std::fs::create_dir(folder.join("bin")).unwrap();
    std::fs::write(folder.join("bin/sh"), "x").unwrap();
    let files = look("Files", json!({ "path": folder })).unwrap();
    let list: Vec<files::Entry> = serde_json::from_value(files["files"].clone()).unwrap();
    assert_eq!(list.len(), 2);
    assert!(list[1].path.ends_with("/bin/sh") && list[1].size == 1);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn wrong_calls_are_named() {
    let error = |method, parameters| look(method, parameters).unwrap_err().error;
    assert_eq!(error("Dance", json!({})), "org.bulkhead.Test.MethodNotFound");
    assert_eq!(error("Kill", json!({ "pid": "x" })), "org.bulkhead.Test.InvalidParameter");
    assert_eq!(error("Kill", json!({ "pid": 0, "signal": 9 })), "org.bulkhead.Test.InvalidParameter");
    assert_eq!(error("Kill", json!({ "pid": -1, "signal": 9 })), "org.bulkhead.Test.InvalidParameter");
    assert_eq!(error("Kill", json!({ "pid": 1, "signal": 9 })), "org.bulkhead.Test.InvalidParameter");
    assert_eq!(error("Files", json!({ "path": "/nowhere-at-all" })), "org.bulkhead.Test.Failed");
}

#[test]
fn a_killed_process_is_killed() {
    let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
    look("Kill", json!({ "pid": child.id(), "signal": 9 })).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
}

#[test]
fn forwarded_replies_come_back_until_the_last() {
    let folder = folder("forward");
    let socket = folder.join("zones");
    let listener = UnixListener::bind(&socket).unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut splitter = Splitter::default();
        let call = loop {
            let mut bytes = [0; 100];
            let length = stream.read(&mut bytes).unwrap();
            splitter.push(&bytes[..length]);
            if let Some(call) = splitter.next_message() {
                break String::from_utf8(call).unwrap();
            }
        };
        stream
            .write_all(b"{\"parameters\":{\"n\":1},\"continues\":true}\0{\"parameters\":{\"n\":2}}\0")
            .unwrap();
        call
    });
    let call =
        Call { id: 5, method: "org.bulkhead.Zones.Monitor".to_owned(), parameters: json!({}), more: true };
    let mut replies = Vec::new();
    Forwarder::new(&socket).forward(&call, |reply| replies.push(String::from_utf8(reply.to_vec()).unwrap()));
    assert!(!server.join().unwrap().contains("\"id\""));
    assert_eq!(replies.len(), 2);
    assert!(replies[1].contains("\"id\":5") && replies[1].contains("\"n\":2"));
    std::fs::remove_dir_all(&folder).unwrap();
    let mut replies = Vec::new();
    Forwarder::new(&socket).forward(&call, |reply| replies.push(String::from_utf8(reply.to_vec()).unwrap()));
    assert!(replies[0].contains("org.bulkhead.Test.Disconnected"), "{replies:?}");
}

#[test]
fn the_port_carries_whole_messages_of_several_threads() {
    let (host, guest) = UnixStream::pair().unwrap();
    guest.set_nonblocking(true).unwrap();
    let port = Port::new(guest.into());
    let message = vec![b'm'; 300_000];
    let writers: Vec<_> = (0..4)
        .map(|_| {
            let (port, mut message) = (port.clone(), message.clone());
            message.push(0);
            std::thread::spawn(move || port.write(&message).unwrap())
        })
        .collect();
    let mut splitter = Splitter::default();
    let mut seen = 0;
    let mut host = host;
    while seen < 4 {
        let mut bytes = vec![0; 65_536];
        let length = host.read(&mut bytes).unwrap();
        assert_ne!(length, 0);
        splitter.push(&bytes[..length]);
        while let Some(received) = splitter.next_message() {
            assert_eq!(received, message);
            seen += 1;
        }
    }
    for writer in writers {
        writer.join().unwrap();
    }
    host.write_all(b"back").unwrap();
    let mut bytes = [0; 10];
    assert_eq!(port.read(&mut bytes).unwrap(), 4);
}

#[test]
fn a_cancelled_call_ends() {
    let folder = folder("cancel");
    let socket = folder.join("zones");
    let listener = UnixListener::bind(&socket).unwrap();
    let forwarder = Forwarder::new(&socket);
    let (running, call) = (
        forwarder.clone(),
        Call { id: 8, method: "org.bulkhead.Zones.Monitor".to_owned(), parameters: json!({}), more: true },
    );
    let thread = std::thread::spawn(move || {
        let mut replies = Vec::new();
        running.forward(&call, |reply| replies.push(reply.to_vec()));
        replies
    });
    let (mut stream, _) = listener.accept().unwrap();
    stream.read_exact(&mut [0; 10]).unwrap();
    forwarder.cancel(8);
    assert_eq!(thread.join().unwrap().len(), 1, "one last reply says that it ended");
    std::fs::remove_dir_all(folder).unwrap();
}
