//! Messages on the port: JSON objects, each followed by a zero byte.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The longest message of either side, in bytes.
pub const MAX_MESSAGE: usize = 4 * 1024 * 1024;

/// A call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// Comes back in every reply.
    pub id: u64,
    /// `interface.Method`.
    pub method: String,
    /// Its parameters.
    #[serde(default)]
    pub parameters: Value,
    /// More than one reply is wanted.
    #[serde(default)]
    pub more: bool,
}

/// A reply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// The call's.
    pub id: u64,
    /// `interface.Error` when the method did not happen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The result, or what the error says.
    #[serde(default)]
    pub parameters: Value,
    /// More replies to this call follow.
    #[serde(default)]
    pub continues: bool,
}

impl Reply {
    /// The reply to call `id` that carries a method's outcome.
    #[must_use]
    pub fn of(id: u64, outcome: Result<Value, crate::Failure>) -> Self {
        match outcome {
            Ok(parameters) => Self { id, error: None, parameters, continues: false },
            Err(failure) => {
                Self { id, error: Some(failure.error), parameters: failure.parameters, continues: false }
            }
        }
    }
}

/// A message with its zero byte.
///
/// # Panics
/// Never: maps of text keys always serialize.
#[must_use]
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(message).expect("text keys and plain values always serialize");
    bytes.push(0);
    bytes
}

/// The call that `zoned` gets for a caller's call: the same without the `id`.
#[must_use]
pub fn for_zoned(call: &Call) -> Vec<u8> {
    let mut message = Map::new();
    message.insert("method".to_owned(), json!(call.method));
    message.insert("parameters".to_owned(), call.parameters.clone());
    if call.more {
        message.insert("more".to_owned(), json!(true));
    }
    encode(&message)
}

/// Puts the caller's `id` into a reply of `zoned`; `None` when that is no JSON object. Says too whether more
/// replies follow.
#[must_use]
pub fn from_zoned(id: u64, reply: &[u8]) -> Option<(Vec<u8>, bool)> {
    let mut message: Map<String, Value> = serde_json::from_slice(reply).ok()?;
    message.insert("id".to_owned(), json!(id));
    let continues = message.get("continues").and_then(Value::as_bool).unwrap_or(false);
    Some((encode(&message), continues))
}

/// Cuts a stream at its zero bytes. A message longer than [`MAX_MESSAGE`] is dropped up to its zero byte;
/// empty messages are skipped, so that a zero byte alone puts the stream in step.
#[derive(Debug, Default)]
pub struct Splitter {
    buffer: Vec<u8>,
    searched: usize,
    dropping: bool,
}

impl Splitter {
    /// Appends bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, without its zero byte.
    pub fn next_message(&mut self) -> Option<Vec<u8>> {
        loop {
            let unsearched = self.buffer.get(self.searched..).unwrap_or_default();
            let Some(length) = unsearched.iter().position(|byte| *byte == 0) else {
                self.searched = self.buffer.len();
                if self.searched > MAX_MESSAGE {
                    self.buffer.clear();
                    self.searched = 0;
                    self.dropping = true;
                }
                return None;
            };
            let mut message: Vec<u8> = self.buffer.drain(..=self.searched + length).collect();
            message.pop();
            self.searched = 0;
            if !std::mem::take(&mut self.dropping) && !message.is_empty() {
                return Some(message);
            }
        }
    }
}

#[cfg(test)]
mod tests;
