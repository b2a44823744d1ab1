use serde_json::json;

use super::*;
use crate::within;

/// Reads calls until there are `count`, then writes what the function makes of them.
fn fake(count: usize, answer: impl FnOnce(Vec<Call>) -> Vec<Reply> + Send + 'static) -> UnixStream {
    let (client, mut server) = UnixStream::pair().unwrap();
    std::thread::spawn(move || {
        let mut splitter = Splitter::default();
        let mut calls = Vec::new();
        while calls.len() < count {
            let mut bytes = [0; 1000];
            let length = server.read(&mut bytes).unwrap();
            splitter.push(&bytes[..length]);
            while let Some(call) = splitter.next_message() {
                calls.push(serde_json::from_slice(&call).unwrap());
            }
        }
        for reply in answer(calls) {
            server.write_all(&encode(&reply)).unwrap();
        }
    });
    client
}

fn reply(id: u64, parameters: Value, continues: bool) -> Reply {
    Reply { id, error: None, parameters, continues }
}

#[test]
fn replies_find_their_callers_in_any_order() {
    let stream = fake(2, |calls| {
        let of = |name: &str| calls.iter().find(|call| call.method.ends_with(name)).unwrap().clone();
        let (monitor, status) = (of("Monitor"), of("Status"));
        assert!(monitor.more && !status.more);
        vec![
            reply(monitor.id, json!({ "n": 1 }), true),
            reply(status.id, json!({ "x": [7] }), false),
            reply(monitor.id, json!({ "n": 2 }), true),
        ]
    });
    let bridge = Bridge::start(stream).unwrap();
    let monitor = bridge.monitor("org.bulkhead.Zones.Monitor", json!({})).unwrap();
    let list: Vec<u8> = bridge.get("org.bulkhead.Zones.Status", json!({}), "x", within(20)).unwrap();
    assert_eq!(list, [7]);
    assert_eq!(monitor.next(within(20)).unwrap()["n"], 1);
    assert_eq!(monitor.next(within(20)).unwrap()["n"], 2);
    assert!(matches!(monitor.next(within(20)), Err(CallError::Closed)), "the fake ended");
}

#[test]
fn errors_deadlines_and_wrong_forms_are_told_apart() {
    let stream = fake(2, |calls| {
        vec![
            Reply {
                id: calls[0].id,
                error: Some("a.B".to_owned()),
                parameters: json!({ "zone": "x" }),
                continues: false,
            },
            reply(calls[1].id, json!({ "x": "text" }), false),
        ]
    });
    let bridge = Bridge::start(stream).unwrap();
    let waiting = bridge.monitor("one", json!({})).unwrap();
    assert!(matches!(waiting.next(Instant::now()), Err(CallError::Deadline(_))));
    assert!(matches!(bridge.get::<u8>("two", json!({}), "x", within(20)), Err(CallError::Form { .. })));
    let error = waiting.next(within(20)).unwrap_err().to_string();
    assert_eq!(error, "one: a.B {\"zone\":\"x\"}");
}

#[test]
fn replies_that_nobody_wants_are_cancelled() {
    let (sender, cancelled) = channel();
    let stream = fake(2, move |calls| {
        sender.send((calls[0].id, calls[1].clone())).unwrap();
        Vec::new()
    });
    let bridge = Bridge::start(stream).unwrap();
    drop(bridge.monitor("org.bulkhead.Zones.Monitor", json!({})).unwrap());
    let (id, cancel) = cancelled.recv().unwrap();
    assert_eq!(cancel.method, "org.bulkhead.Test.Cancel");
    assert_eq!(cancel.parameters, json!({ "id": id }));
}
