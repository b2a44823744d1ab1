//! A vTPM as far as the firmware needs one, written from Part 3 of the specification for itself.

use std::vec;
use std::vec::Vec;

use handover::place::RECORD_INDEX;
use sha2::{Digest as _, Sha256};

/// Its state, and how it misbehaves.
pub(crate) struct Vtpm {
    started: bool,
    pub(crate) index: [u8; 32],
    pub(crate) cap: [u8; 32],
    pub(crate) platform: Option<Vec<u8>>,
    /// Bytes that it gives at once.
    pub(crate) random_at_once: usize,
    /// The command with this code gets this response in place of its own.
    pub(crate) instead: Option<(u32, Vec<u8>)>,
    /// How often it asks to try again before it obeys.
    pub(crate) busy: u32,
    pub(crate) released: bool,
    /// Codes of all commands.
    pub(crate) seen: Vec<u32>,
}

fn response(parameters: &[u8], sessions: bool) -> Vec<u8> {
    let mut body = Vec::new();
    if sessions {
        body.extend(u32::try_from(parameters.len()).unwrap().to_be_bytes());
    }
    body.extend(parameters);
    if sessions {
        body.extend([0, 0, 1, 0, 0]);
    }
    let tag: u16 = if sessions { 0x8002 } else { 0x8001 };
    let size = u32::try_from(body.len() + 10).unwrap();
    [&tag.to_be_bytes()[..], &size.to_be_bytes(), &[0; 4], &body].concat()
}

/// A response that is only a code.
pub(crate) fn refusal(code: u32) -> Vec<u8> {
    [&0x8001_u16.to_be_bytes()[..], &10_u32.to_be_bytes(), &code.to_be_bytes()].concat()
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(*bytes[at..].first_chunk().unwrap())
}

/// The password of a command's only session, and what follows it.
fn password(bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let size = usize::try_from(number(bytes, 0)).unwrap();
    let (session, rest) = bytes[4..].split_at(size);
    assert_eq!(number(session, 0), 0x4000_0009);
    assert_eq!(session[4..7], [0, 0, 0]);
    let length = usize::from(u16::from_be_bytes([session[7], session[8]]));
    assert_eq!(session.len(), 9 + length);
    (session[9..].to_vec(), rest.to_vec())
}

impl Vtpm {
    /// One that holds this record's hash.
    pub(crate) fn new(record: &[u8]) -> Self {
        Self {
            started: false,
            index: Sha256::digest(record).into(),
            cap: [0; 32],
            platform: Some(Vec::new()),
            random_at_once: 32,
            instead: None,
            busy: 0,
            released: false,
            seen: Vec::new(),
        }
    }

    /// Carries a command out.
    pub(crate) fn execute(&mut self, command: &[u8]) -> Option<Vec<u8>> {
        let code = number(command, 6);
        assert_eq!(usize::try_from(number(command, 2)).unwrap(), command.len());
        self.seen.push(code);
        if self.busy > 0 {
            self.busy -= 1;
            return Some(refusal(0x922));
        }
        if let Some((of, response)) = &self.instead
            && *of == code
        {
            return (!response.is_empty()).then(|| response.clone());
        }
        let body = &command[10..];
        let platform = |auth: &[u8]| self.platform.as_deref() == Some(auth);
        // Its answer to a wrong password; the firmware knows the right one unless it was lied to.
        let wrong = || Some(refusal(0x9A2));
        Some(match code {
            0x144 if self.started => refusal(0x100),
            0x144 => {
                assert_eq!(body, [0, 0]);
                self.started = true;
                response(&[], false)
            }
            0x14E => {
                assert_eq!((number(body, 0), number(body, 4)), (0x4000_000C, RECORD_INDEX));
                let (auth, rest) = password(&body[8..]);
                assert!(platform(&auth) && rest == [0, 32, 0, 0]);
                response(&[&[0, 32], &self.index[..]].concat(), true)
            }
            0x13C => {
                let (auth, rest) = password(&body[4..]);
                let length = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
                assert!(number(body, 0) == 11 && auth.is_empty() && rest.len() == 2 + length);
                let digest = Sha256::digest(&rest[2..]);
                self.cap = Sha256::digest([&self.cap[..], &digest].concat()).into();
                response(&[&[0, 0, 0, 1, 0, 11], &digest[..]].concat(), true)
            }
            0x17B => {
                let wanted = usize::from(u16::from_be_bytes([body[0], body[1]]));
                let count = wanted.min(self.random_at_once);
                let bytes = vec![u8::try_from(self.seen.len()).unwrap(); count];
                response(&[&u16::try_from(count).unwrap().to_be_bytes()[..], &bytes].concat(), false)
            }
            0x129 => {
                let (auth, rest) = password(&body[4..]);
                assert!(number(body, 0) == 0x4000_000C && rest[..2] == [0, 32]);
                if !platform(&auth) {
                    return wrong();
                }
                self.platform = Some(rest[2..].to_vec());
                response(&[], true)
            }
            0x121 => {
                let (auth, rest) = password(&body[4..]);
                assert!(number(body, 0) == 0x4000_000C && rest == [0x40, 0, 0, 0x0C, 0]);
                if !platform(&auth) {
                    return wrong();
                }
                self.platform = None;
                response(&[], true)
            }
            other => panic!("command {other:#x}"),
        })
    }
}
