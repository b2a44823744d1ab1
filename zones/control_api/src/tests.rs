//! The types against the interface's text, calls and replies there and back, and the client against a
//! server that answers by hand.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Duration;

use zlink::idl::Interface;
use zlink::introspect::CustomType;

use super::client::{Client, ClientError};
use super::wire::{Call, CallError, Continues, Frames, Method, Reply, WireError};
use super::*;

fn status() -> Status {
    Status {
        policy: "demo".into(),
        demo: true,
        uplink: Uplink { carrier: true, address: Some("192.168.77.20/24".into()) },
        zones: vec![Zone {
            name: "office".into(),
            label: "Office".into(),
            colour: "green".into(),
            state: State {
                phase: Phase::Running,
                reason: None,
                agent: Some("0.0.0".into()),
                session: Some("user".into()),
            },
            login: Login { factor: Factor::Pin, chosen: true, shuffle: false, tries_left: Some(3) },
            tunnel: Some(Tunnel { up: true, handshake_age_s: Some(3), ..Tunnel::default() }),
        }],
        recovery: Recovery::Shown,
        screen: Screen { locked: true, login: Login { chosen: true, ..Login::default() } },
        notices: vec![Notice { number: 1, process: "uplink".into(), text: "Uplink died.".into() }],
    }
}

#[test]
fn the_text_describes_exactly_these_types() {
    let text = Interface::try_from(DESCRIPTION).unwrap();
    assert_eq!(text.name().as_str(), INTERFACE);
    let types = [
        Status::CUSTOM_TYPE,
        Recovery::CUSTOM_TYPE,
        Screen::CUSTOM_TYPE,
        Uplink::CUSTOM_TYPE,
        Zone::CUSTOM_TYPE,
        State::CUSTOM_TYPE,
        Phase::CUSTOM_TYPE,
        Login::CUSTOM_TYPE,
        Factor::CUSTOM_TYPE,
        Cause::CUSTOM_TYPE,
        Tunnel::CUSTOM_TYPE,
        Notice::CUSTOM_TYPE,
        CheckResult::CUSTOM_TYPE,
        AuditPage::CUSTOM_TYPE,
        AuditHead::CUSTOM_TYPE,
    ];
    assert_eq!(text.custom_types().count(), types.len());
    for (found, expected) in text.custom_types().zip(types) {
        assert_eq!(found, expected);
    }
    let errors: Vec<String> = text.errors().map(|error| error.name().to_string()).collect();
    assert_eq!(errors, ["UnknownZone", "NotRunning", "Refused", "NotOpened"]);
}

#[test]
fn every_method_of_the_text_is_understood_and_no_other() {
    let text = Interface::try_from(DESCRIPTION).unwrap();
    for method in text.methods() {
        let parameters: serde_json::Map<String, serde_json::Value> = method
            .inputs()
            .map(|input| {
                let value: serde_json::Value = if *input.ty() == zlink::idl::Type::String {
                    "x".into()
                } else if *input.ty() == zlink::idl::Type::Int {
                    1.into()
                } else {
                    vec!["y"].into()
                };
                (input.name().to_string(), value)
            })
            .collect();
        let name = format!("{INTERFACE}.{}", method.name());
        let message = serde_json::json!({ "method": name, "parameters": parameters }).to_string();
        Call::decode(message.as_bytes()).unwrap().unwrap();
        for missing in method.inputs() {
            let mut fewer = parameters.clone();
            fewer.remove(missing.name().as_str());
            let message = serde_json::json!({ "method": name, "parameters": fewer }).to_string();
            let expected = CallError::InvalidParameter(missing.name().to_string());
            assert_eq!(Call::decode(message.as_bytes()).unwrap(), Err(expected));
        }
    }
    assert_eq!(text.methods().count(), 21);
}

#[test]
fn calls_go_there_and_back() {
    let methods = [
        Method::Status,
        Method::Monitor,
        Method::Start("office".into()),
        Method::Open { zone: "office".into(), pin: Pin::new("123456".into()) },
        Method::Recover { zone: "office".into(), key: Pin::new("0".into()), pin: Pin::new("1".into()) },
        Method::ChangePin { zone: "office".into(), pin: Pin::new("1".into()), new: Pin::new("2".into()) },
        Method::Lock("office".into()),
        Method::LockScreen,
        Method::UnlockScreen(Pin::new("1".into())),
        Method::ChangeScreenPin { pin: Pin::new("1".into()), new: Pin::new("2".into()) },
        Method::RecoverScreen { key: Pin::new("0".into()), pin: Pin::new("1".into()) },
        Method::NewRecoveryKey,
        Method::NoteRecoveryKey(Pin::new("0".into())),
        Method::Stop("office".into()),
        Method::Kill("office".into()),
        Method::Restart("office".into()),
        Method::Pause("office".into()),
        Method::Resume("office".into()),
        Method::RunCheck { zone: "office".into(), check: "fetch".into(), arguments: vec!["a".into()] },
        Method::Audit { position: 7, limit: 9 },
        Method::PowerOff,
        Method::GetInfo,
        Method::GetInterfaceDescription(INTERFACE.into()),
    ];
    for method in methods {
        let call = Call::new(method);
        let mut frames = Frames::new(1024);
        frames.push(&call.encode());
        let frame = frames.next_frame().unwrap().unwrap();
        assert_eq!(Call::decode(&frame).unwrap(), Ok(call));
        assert!(frames.next_frame().unwrap().is_none());
    }
}

#[test]
fn replies_go_there_and_back() {
    let replies = [
        Reply::Status(status()),
        Reply::Check(CheckResult { passed: false, output: "no \"route\"\n".into() }),
        Reply::Audit(AuditPage {
            records: vec!["{}".into()],
            next: 2,
            head: AuditHead { position: 1, hash: "0".into() },
        }),
        Reply::Key(Pin::new("000011".into())),
        Reply::Done,
        Reply::Error(CallError::UnknownZone("x".into())),
        Reply::Error(CallError::NotRunning("x".into())),
        Reply::Error(CallError::Refused("The disk is full.".into())),
        Reply::Error(CallError::NotOpened {
            zone: "x".into(),
            cause: Cause::WrongPin,
            reason: "Wrong PIN.".into(),
            tries_left: Some(4),
        }),
        Reply::Error(CallError::NotOpened {
            zone: "x".into(),
            cause: Cause::TpmMissing,
            reason: "No TPM.".into(),
            tries_left: None,
        }),
        Reply::Error(CallError::InvalidParameter("zone".into())),
        Reply::Error(CallError::MethodNotFound("m".into())),
        Reply::Error(CallError::InterfaceNotFound("i".into())),
    ];
    for reply in replies {
        for continues in [Continues::Yes, Continues::No] {
            let mut bytes = reply.encode(continues);
            assert_eq!(bytes.pop(), Some(0));
            assert_eq!(Reply::decode(&bytes).unwrap(), (reply.clone(), continues));
        }
    }
}

#[test]
fn a_stream_is_cut_at_any_place_and_bounded() {
    let mut bytes = Call::new(Method::Status).encode();
    bytes.extend_from_slice(&Call::new(Method::PowerOff).encode());
    let mut frames = Frames::new(256);
    let mut calls = Vec::new();
    for byte in bytes.iter().copied() {
        frames.push(&[byte]);
        while let Some(frame) = frames.next_frame().unwrap() {
            calls.push(Call::decode(&frame).unwrap().unwrap().method);
        }
    }
    assert_eq!(calls, [Method::Status, Method::PowerOff]);
    frames.push(&[b'a'; 257]);
    assert!(matches!(frames.next_frame(), Err(WireError::TooLong(256))));
}

#[test]
fn unknown_calls_are_answered_and_garbage_is_not() {
    let decode = |text: &str| Call::decode(text.as_bytes());
    let answer = decode(r#"{"method":"org.bulkhead.Zones.Nothing"}"#).unwrap();
    assert_eq!(answer, Err(CallError::MethodNotFound("org.bulkhead.Zones.Nothing".into())));
    let answer = decode(r#"{"method":"com.example.Other.Do"}"#).unwrap();
    assert_eq!(answer, Err(CallError::InterfaceNotFound("com.example.Other".into())));
    assert!(decode("hello").is_err());
}

/// A socket in a folder of its own.
fn socket(name: &str) -> (PathBuf, UnixListener) {
    let folder = std::env::temp_dir().join(format!("control_api-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("zones");
    drop(std::fs::remove_file(&path));
    let listener = UnixListener::bind(&path).unwrap();
    (path, listener)
}

#[test]
fn the_client_calls_monitors_and_notices_the_end() {
    let (path, listener) = socket("client");
    let server = std::thread::spawn(move || {
        let (mut calls, _) = listener.accept().unwrap();
        let mut bytes = [0_u8; 1024];
        let count = calls.read(&mut bytes).unwrap();
        assert_eq!(bytes[..count], Call::new(Method::Start("nowhere".into())).encode()[..]);
        let reply = Reply::Error(CallError::UnknownZone("nowhere".into())).encode(Continues::No);
        let (first, second) = reply.split_at(7);
        calls.write_all(first).unwrap();
        calls.write_all(second).unwrap();
        let (mut monitor, _) = listener.accept().unwrap();
        // A server that closed before it had read would take its own replies back.
        assert!(monitor.read(&mut bytes).unwrap() > 0);
        for _ in 0..2 {
            monitor.write_all(&Reply::Status(status()).encode(Continues::Yes)).unwrap();
        }
    });
    let mut client = Client::connect(&path).unwrap();
    assert!(client.read_events().unwrap().is_empty());
    let refused = client.call(Method::Start("nowhere".into()), Duration::from_secs(10)).unwrap_err();
    assert_eq!(refused.to_string(), "there is no zone \"nowhere\"");
    let mut seen = 0;
    let end = Client::connect(&path).unwrap().monitor(|got| {
        assert_eq!(got, status());
        seen += 1;
        std::ops::ControlFlow::Continue(())
    });
    assert!(matches!(end, Err(ClientError::Closed)));
    assert_eq!(seen, 2);
    server.join().unwrap();
    assert!(matches!(client.call(Method::Status, Duration::from_secs(10)), Err(ClientError::Closed)));
}
