use super::*;

#[test]
fn messages_survive_any_cut_and_empty_ones_are_skipped() {
    let stream = b"\0one\0\0two\0three";
    for step in 1..stream.len() {
        let mut splitter = Splitter::default();
        let mut seen = Vec::new();
        for piece in stream.chunks(step) {
            splitter.push(piece);
            while let Some(message) = splitter.next_message() {
                seen.push(String::from_utf8(message).unwrap());
            }
        }
        assert_eq!(seen, ["one", "two"], "step {step}");
    }
}

#[test]
fn an_endless_message_is_dropped_and_the_next_one_is_read() {
    let mut splitter = Splitter::default();
    for _ in 0..5 {
        splitter.push(&vec![b'x'; MAX_MESSAGE / 2]);
        assert_eq!(splitter.next_message(), None);
        assert!(splitter.buffer.len() <= MAX_MESSAGE);
    }
    splitter.push(b"end\0next\0");
    assert_eq!(splitter.next_message().unwrap(), b"next");
}

#[test]
fn a_call_goes_to_zoned_without_its_id_and_the_reply_comes_back_with_it() {
    let call: Call = serde_json::from_str(
        r#"{"id":7,"method":"org.bulkhead.Zones.Start","parameters":{"zone":"office"},"more":true}"#,
    )
    .unwrap();
    let forwarded: Value = serde_json::from_slice(for_zoned(&call).strip_suffix(&[0]).unwrap()).unwrap();
    assert_eq!(
        forwarded,
        json!({ "method": "org.bulkhead.Zones.Start", "parameters": { "zone": "office" }, "more": true })
    );
    let (reply, continues) =
        from_zoned(7, br#"{"error":"org.bulkhead.Zones.UnknownZone","continues":true}"#).unwrap();
    let reply: Reply = serde_json::from_slice(reply.strip_suffix(&[0]).unwrap()).unwrap();
    assert!(continues && reply.continues);
    assert_eq!((reply.id, reply.error.as_deref()), (7, Some("org.bulkhead.Zones.UnknownZone")));
    assert_eq!(from_zoned(7, b"[1]"), None);
}
