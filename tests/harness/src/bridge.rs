//! The test bridge's client: calls with a deadline, and calls with many replies.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde_json::{Value, json};
use test_bridge::message::{Call, Reply, Splitter, encode};

use crate::left;

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No reply in time.
    #[error("no reply to {0} in time")]
    Deadline(String),
    /// The machine is gone.
    #[error("the bridge's connection ended")]
    Closed,
    /// The socket failed.
    #[error("write to the bridge")]
    Io(#[source] io::Error),
    /// The method's own error.
    #[error("{method}: {error} {parameters}")]
    Method {
        /// What was called.
        method: String,
        /// The error's name.
        error: String,
        /// What it says.
        parameters: Value,
    },
    /// The result has not the expected form.
    #[error("result of {method}")]
    Form {
        /// What was called.
        method: String,
        /// Why.
        source: serde_json::Error,
    },
}

/// The bridge of one machine.
#[derive(Clone, Debug)]
pub struct Bridge {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    stream: Mutex<UnixStream>,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    next_id: u64,
    callers: BTreeMap<u64, Sender<Reply>>,
    closed: bool,
}

/// The replies to one call. Dropping it tells the bridge that no more are wanted.
#[derive(Debug)]
pub struct Replies {
    shared: Arc<Shared>,
    id: u64,
    method: String,
    receiver: Receiver<Reply>,
}

impl Bridge {
    /// Takes the connection that QEMU made for the port. What is called before the bridge runs waits.
    ///
    /// # Errors
    /// What the socket reports.
    pub fn start(mut stream: UnixStream) -> io::Result<Self> {
        let reader = stream.try_clone()?;
        // Puts the other side in step if a machine before this one left half a message.
        stream.write_all(&[0])?;
        let shared = Arc::new(Shared { stream: Mutex::new(stream), waiting: Mutex::default() });
        let for_reader = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("bridge".to_owned())
            .spawn(move || read(reader, &for_reader.waiting))?;
        Ok(Self { shared })
    }

    /// Calls a method and returns its result.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn call(&self, method: &str, parameters: Value, deadline: Instant) -> Result<Value, CallError> {
        self.begin_call(method, parameters)?.next(deadline)
    }

    /// Calls a method whose result is of type `T`, in the field `field`.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn get<T: serde::de::DeserializeOwned>(
        &self,
        method: &str,
        parameters: Value,
        field: &str,
        deadline: Instant,
    ) -> Result<T, CallError> {
        let mut result = self.call(method, parameters, deadline)?;
        let value = result.get_mut(field).map(Value::take).unwrap_or_default();
        serde_json::from_value(value).map_err(|source| CallError::Form { method: method.to_owned(), source })
    }

    /// Calls a method that replies again and again.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn monitor(&self, method: &str, parameters: Value) -> Result<Replies, CallError> {
        self.begin(method, parameters, Wanted::Many)
    }

    /// Calls a method with one reply, which is awaited later.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn begin_call(&self, method: &str, parameters: Value) -> Result<Replies, CallError> {
        self.begin(method, parameters, Wanted::One)
    }

    fn begin(&self, method: &str, parameters: Value, wanted: Wanted) -> Result<Replies, CallError> {
        let (sender, receiver) = channel();
        let id = {
            let mut waiting = self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.closed {
                return Err(CallError::Closed);
            }
            let id = waiting.new_id();
            waiting.callers.insert(id, sender);
            id
        };
        let replies = Replies { shared: Arc::clone(&self.shared), id, method: method.to_owned(), receiver };
        let call = Call { id, method: method.to_owned(), parameters, more: wanted == Wanted::Many };
        self.shared.send(&call).map_err(CallError::Io)?;
        Ok(replies)
    }
}

impl Shared {
    fn send(&self, call: &Call) -> io::Result<()> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner).write_all(&encode(call))
    }
}

impl Waiting {
    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

impl Drop for Replies {
    fn drop(&mut self) {
        let mut waiting = self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.callers.remove(&self.id).is_none() {
            return;
        }
        let id = waiting.new_id();
        drop(waiting);
        let method = format!("{}.Cancel", test_bridge::INTERFACE);
        let call = Call { id, method, parameters: json!({ "id": self.id }), more: false };
        // A bridge that is gone has nothing to cancel.
        let _gone = self.shared.send(&call);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    One,
    Many,
}

impl Replies {
    /// Waits for the next reply.
    ///
    /// # Errors
    /// [`CallError`]; after [`CallError::Deadline`] it can be asked again.
    pub fn next(&self, deadline: Instant) -> Result<Value, CallError> {
        match self.receiver.recv_timeout(left(deadline)) {
            Ok(Reply { error: None, parameters, .. }) => Ok(parameters),
            Ok(Reply { error: Some(error), parameters, .. }) => {
                Err(CallError::Method { method: self.method.clone(), error, parameters })
            }
            Err(RecvTimeoutError::Timeout) => Err(CallError::Deadline(self.method.clone())),
            Err(RecvTimeoutError::Disconnected) => Err(CallError::Closed),
        }
    }
}

fn read(mut stream: UnixStream, waiting: &Mutex<Waiting>) {
    let mut splitter = Splitter::default();
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = stream.read(&mut bytes) {
        splitter.push(bytes.get(..length).unwrap_or_default());
        while let Some(message) = splitter.next_message() {
            let Ok(reply) = serde_json::from_slice::<Reply>(&message) else { continue };
            let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let (id, last) = (reply.id, !reply.continues);
            let heard = waiting.callers.get(&id).is_some_and(|caller| caller.send(reply).is_ok());
            if last || !heard {
                waiting.callers.remove(&id);
            }
        }
    }
    let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
    waiting.closed = true;
    waiting.callers.clear();
}

#[cfg(test)]
mod tests;
