//! Bytes that become types: messages between processes, configurations, the policy.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use ipc::{Channel, MAX_DESCRIPTORS, ReceiveError};
use rustix::fs::OFlags;
use rustix::pipe::{PipeFlags, pipe_with};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zone_protocol::agent::{Decoder, FromAgent, MAX_FRAME, Request, encode};

use crate::cursor::Cursor;
use crate::devices::file_of;
use crate::packets::send_with;

/// Receives one packet as a message. Whatever came with it is closed when it is refused.
fn receive<T: DeserializeOwned + Serialize>(packet: &[u8], count: usize) {
    let (sender, receiver) = Channel::pair().expect("a channel");
    receiver.set_nonblocking().expect("a channel");
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
    rustix::fs::fcntl_setfl(&read, OFlags::NONBLOCK).expect("a pipe");
    let descriptors = vec![write.as_fd(); count];
    let sent = send_with(sender.as_fd(), packet, &descriptors).is_ok();
    drop((write, sender));
    match receiver.receive::<T>() {
        Ok((message, descriptors)) => {
            assert!(descriptors.len() <= MAX_DESCRIPTORS, "{} descriptors", descriptors.len());
            let size = postcard::to_stdvec(&message).map(|bytes| bytes.len()).unwrap_or_default();
            assert!(size <= 16 * packet.len() + 64, "{} bytes became a message of {size}", packet.len());
        }
        Err(error) => {
            assert!(!(sent && matches!(error, ReceiveError::WouldBlock)), "the packet vanished");
        }
    }
    drop(receiver);
    let mut byte = [0];
    let end = File::from(read).read(&mut byte);
    assert!(end.is_ok_and(|size| size == 0), "a descriptor of a message is still open");
}

/// Packets on every channel between our processes.
pub(crate) fn ipc(bytes: &[u8]) {
    let mut cursor = Cursor::new(bytes);
    let (kind, count) = (cursor.u8(), cursor.below(24));
    let packet = cursor.rest();
    match kind % 13 {
        0 => receive::<init_protocol::Request>(packet, count),
        1 => receive::<init_protocol::Event>(packet, count),
        2 => receive::<vpn_protocol::ToUplink>(packet, count),
        3 => receive::<vpn_protocol::FromUplink>(packet, count),
        4 => receive::<vpn_protocol::VpndStatus>(packet, count),
        5 => receive::<zone_protocol::vmm::Event>(packet, count),
        6 => receive::<zone_protocol::vmm::Command>(packet, count),
        7 => receive::<zone_protocol::vmm::Connected>(packet, count),
        8 => receive::<Vec<(u32, Vec<String>)>>(packet, count),
        9 => receive::<zone_protocol::keeper::ToKeeper>(packet, count),
        10 => receive::<zone_protocol::keeper::FromKeeper>(packet, count),
        11 => receive::<init_protocol::ToKeeper>(packet, count),
        _ => drop(vpn_protocol::datagram::parse(packet)),
    }
}

/// Configurations in their memory files.
pub(crate) fn configs(bytes: &[u8]) {
    let mut cursor = Cursor::new(bytes);
    if cursor.flag() {
        let _refused = vpnd::is_config(OwnedFd::from(file_of(cursor.rest())));
    } else if let Ok((config, _)) = postcard::take_from_bytes::<zone_protocol::vmm::Config>(cursor.rest()) {
        assert!(config.disks.len() <= bytes.len(), "more disks than bytes");
    }
}

/// The messages at the beginning of a stream, found in the plainest way.
fn expected<T: for<'a> serde::Deserialize<'a>>(mut stream: &[u8]) -> Vec<T> {
    let mut messages = Vec::new();
    while let Some((length, rest)) = stream.split_first_chunk::<4>() {
        let Ok(length @ 1..=MAX_FRAME) = usize::try_from(u32::from_le_bytes(*length)) else { break };
        let Some((body, next)) = rest.split_at_checked(length) else { break };
        let Ok((message, [])) = postcard::take_from_bytes(body) else { break };
        messages.push(message);
        stream = next;
    }
    messages
}

/// Takes a stream in pieces: the messages are those of the whole stream, and each is encoded to what is decoded.
fn decode<T>(cursor: &mut Cursor<'_>)
where
    T: for<'a> serde::Deserialize<'a> + Serialize + PartialEq + std::fmt::Debug,
{
    let mut decoder = Decoder::default();
    let mut stream = Vec::new();
    let mut messages = Vec::new();
    'stream: while !cursor.is_empty() {
        let piece = cursor.some_bytes(600);
        decoder.push(piece);
        stream.extend_from_slice(piece);
        loop {
            match decoder.next_message::<T>() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(_) => break 'stream,
            }
        }
    }
    assert_eq!(messages, expected(&stream));
    for message in messages {
        let again = encode(&message).expect("what was decoded fits a frame");
        assert!(again.len() <= MAX_FRAME + 4, "a frame of {} bytes", again.len());
        let mut other = Decoder::default();
        other.push(&again);
        assert_eq!(other.next_message::<T>(), Ok(Some(message)));
    }
}

/// Frames of the agent's protocol, as each side reads them.
pub(crate) fn zone_protocol(bytes: &[u8]) {
    let mut cursor = Cursor::new(bytes);
    if cursor.flag() {
        decode::<FromAgent>(&mut cursor);
    } else {
        decode::<Request>(&mut cursor);
    }
}

/// A policy's text, a question about it, and the demonstration's keys.
pub(crate) fn policy(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match policy::verify("policy.toml", &text) {
        Ok(policy) => {
            assert!(policy.zones.len() <= 64, "{} zones", policy.zones.len());
            for zone in &policy.zones {
                let question = format!("zone {} network", zone.name);
                drop(policy::explain("policy.toml", &text, &question));
            }
        }
        Err(findings) => {
            let mut count = 0;
            for finding in findings.iter() {
                count += 1;
                let sentence = finding.to_string();
                assert!(sentence.len() < 4000, "a finding of {} bytes", sentence.len());
                assert!(
                    !sentence.chars().any(char::is_control),
                    "a finding with control characters: {sentence:?}"
                );
            }
            assert!(count > 0, "refused without a reason");
        }
    }
    drop(policy::demo_keys("keys.toml", &text));
}
