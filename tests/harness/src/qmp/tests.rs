use super::*;
use crate::within;

/// A QEMU that greets, and answers each line by the function.
fn fake(answer: impl Fn(&Value) -> Vec<Value> + Send + 'static) -> UnixStream {
    let (client, mut server) = UnixStream::pair().unwrap();
    std::thread::spawn(move || {
        server.write_all(b"{\"QMP\":{\"version\":{},\"capabilities\":[]}}\n").unwrap();
        let lines = BufReader::new(server.try_clone().unwrap()).lines();
        for line in lines {
            let message: Value = serde_json::from_str(&line.unwrap()).unwrap();
            for answer in answer(&message) {
                server.write_all(format!("{answer}\n").as_bytes()).unwrap();
            }
        }
    });
    client
}

#[test]
fn answers_are_told_from_events_and_late_answers() {
    let qmp = Qmp::start(
        fake(|message| {
            let id = message["id"].as_u64().unwrap();
            vec![
                json!({ "event": "RESET" }),
                json!({ "return": "late", "id": id - 1 }),
                json!({ "return": message["execute"], "id": id }),
            ]
        }),
        within(20),
    )
    .unwrap();
    assert_eq!(qmp.command("query-status", &json!({}), within(20)).unwrap(), "query-status");
}

#[test]
fn refusal_silence_and_end_are_told_apart() {
    let qmp = Qmp::start(
        fake(|message| {
            let id = &message["id"];
            match message["execute"].as_str().unwrap() {
                "qmp_capabilities" => vec![json!({ "return": {}, "id": id })],
                "refused" => vec![json!({ "error": { "class": "GenericError", "desc": "no" }, "id": id })],
                "silence" => vec![],
                other => panic!("{other}"),
            }
        }),
        within(20),
    )
    .unwrap();
    let refused = qmp.command("refused", &json!({}), within(20)).unwrap_err();
    assert_eq!(refused.to_string(), "QEMU refused refused: no");
    let silent = qmp.command("silence", &json!({}), Instant::now()).unwrap_err();
    assert!(matches!(silent, QmpError::Deadline(_)));
    let (client, server) = UnixStream::pair().unwrap();
    drop(server);
    assert!(Qmp::start(client, within(20)).is_err());
}

#[test]
fn pixels_survive_the_way_over_the_axis() {
    for size in [320, 800, 1280, 3840] {
        for pixel in [0, 1, size / 3, size / 2, size - 1] {
            let axis = to_axis(pixel, size);
            // As the guest computes it: value * (size - 1) / max, rounded.
            assert_eq!((axis * (size - 1) + AXIS_MAX / 2) / AXIS_MAX, pixel, "{pixel} of {size}");
        }
    }
    assert_eq!(to_axis(5000, 800), AXIS_MAX);
}
