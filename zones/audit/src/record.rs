//! One event as one line.
//!
//! `{"position":7,"time":1790000000,"boot":"...","zone":"office","event":{...},"previous":"<hash>","hash":"<hash>"}`.
//! The hash is SHA-256 over a fixed prefix and the line's bytes without `,"hash":"..."`: nothing is parsed and
//! written again before it is checked, so that every byte counts.

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use crate::event::Event;

/// SHA-256 of bytes, in lower-case hexadecimal: for what an event names by its hash.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    hexadecimal(ring::digest::digest(&SHA256, bytes).as_ref())
}

fn hexadecimal(bytes: &[u8]) -> String {
    let digits = |byte: u8| [byte >> 4, byte & 15];
    let digit = |half: u8| char::from_digit(u32::from(half), 16).expect("half a byte is a digit");
    bytes.iter().copied().flat_map(digits).map(digit).collect()
}

/// Before everything that is hashed, so that no other hash of the same bytes can stand for this one.
const DOMAIN: &[u8] = b"bulkhead audit 1\n";

/// Between a record's content and its hash.
const BEFORE_HASH: &str = ",\"hash\":\"";
/// Behind its hash.
const AFTER_HASH: &str = "\"}";

/// Characters of a hash in hexadecimal.
const HASH_CHARACTERS: usize = 64;

/// A SHA-256 hash in lower-case hexadecimal; as a type, so that it is not any text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hash(String);

impl Hash {
    /// What the first record of a log names as the hash before it.
    #[must_use]
    pub fn none() -> Self {
        Self("0".repeat(HASH_CHARACTERS))
    }

    /// Its characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn of(content: &[&[u8]]) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(DOMAIN);
        for part in content {
            context.update(part);
        }
        Self(hexadecimal(context.finish().as_ref()))
    }
}

impl From<&str> for Hash {
    /// Of what somebody kept: a text that is no hash is equal to none.
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// A place in the chain: a record's position and hash. Position 0 is before the first record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Position of the record.
    pub position: u64,
    /// Its hash.
    pub hash: Hash,
}

impl Head {
    /// Before the first record.
    #[must_use]
    pub fn start() -> Self {
        Self { position: 0, hash: Hash::none() }
    }
}

/// When something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Seconds since 1970.
    pub time: u64,
    /// Seconds on a clock that nobody sets.
    pub steady: u64,
}

/// A record's content as it is written.
#[derive(Serialize)]
struct Written<'a> {
    position: u64,
    time: u64,
    boot: &'a str,
    zone: Option<&'a str>,
    event: &'a Event,
    previous: &'a str,
}

/// What verification needs of it. Kinds of events that this version does not know verify too.
#[derive(Debug, Deserialize)]
pub(crate) struct Read {
    pub(crate) position: u64,
    pub(crate) time: u64,
    pub(crate) boot: String,
    pub(crate) zone: Option<String>,
    pub(crate) previous: Hash,
    pub(crate) event: serde_json::Value,
}

/// The line that follows `head`, with its end, and its own place.
pub(crate) fn line(head: &Head, time: u64, boot: &str, zone: Option<&str>, event: &Event) -> (Vec<u8>, Head) {
    let position = head.position.saturating_add(1);
    let written = Written { position, time, boot, zone, event, previous: head.hash.as_str() };
    let mut line = serde_json::to_vec(&written).expect("text keys and plain values always serialize");
    let hash = Hash::of(&[&line]);
    line.pop();
    for part in [BEFORE_HASH, hash.as_str(), AFTER_HASH, "\n"] {
        line.extend_from_slice(part.as_bytes());
    }
    (line, Head { position, hash })
}

/// Why a line is no record: what should be there, and what is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unread {
    pub(crate) expected: String,
    pub(crate) found: String,
}

/// Reads a line without its end.
pub(crate) fn read(line: &[u8]) -> Result<(Read, Head), Unread> {
    let is_none = || Unread { expected: "a record".to_owned(), found: start(line) };
    let tail = BEFORE_HASH.len() + HASH_CHARACTERS + AFTER_HASH.len();
    let parts = line.len().checked_sub(tail).and_then(|at| line.split_at_checked(at));
    let (content, end) = parts.ok_or_else(is_none)?;
    let end =
        std::str::from_utf8(end).ok().and_then(|end| end.strip_prefix(BEFORE_HASH)?.strip_suffix(AFTER_HASH));
    let named = Hash::from(end.ok_or_else(is_none)?);
    let hash = Hash::of(&[content, b"}"]);
    if hash != named {
        return Err(Unread {
            expected: format!("hash {}", hash.as_str()),
            found: format!("hash {}", named.as_str()),
        });
    }
    let record: Read = serde_json::from_slice(&[content, b"}"].concat()).map_err(|_other| is_none())?;
    let position = record.position;
    Ok((record, Head { position, hash }))
}

/// The beginning of a line that is no record, printable.
fn start(line: &[u8]) -> String {
    const SHOWN: usize = 60;
    let shown: String = String::from_utf8_lossy(line).chars().take(SHOWN).collect();
    format!("{:?}", shown)
}

/// The position of a line without its end, if the line is a record.
#[must_use]
pub fn position(line: &[u8]) -> Option<u64> {
    read(line).ok().map(|(_, head)| head.position)
}

/// A record as people read it. A kind of event that this version does not know has no `event`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place in the chain.
    pub head: Head,
    /// Seconds since 1970.
    pub time: u64,
    /// The kernel's name of the boot.
    pub boot: String,
    /// The zone that it concerns.
    pub zone: Option<String>,
    /// What happened.
    pub event: Option<Event>,
    /// The same, as it is written.
    pub json: serde_json::Value,
}

impl Record {
    /// Reads a line without its end; `None`: it is no record.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<Self> {
        let (read, head) = read(line).ok()?;
        let event = serde_json::from_value(read.event.clone()).ok();
        Some(Self { head, time: read.time, boot: read.boot, zone: read.zone, event, json: read.event })
    }
}
