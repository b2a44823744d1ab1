//! Passes a call to `zoned` and its replies back, unchanged but for the `id`.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::Failure;
use crate::message::{Call, Reply, Splitter, encode, for_zoned, from_zoned};

/// The most calls that are on their way at the same time.
const MAX_CALLS: usize = 32;

/// The calls that are on their way to the server at one socket.
#[derive(Clone, Debug)]
pub struct Forwarder {
    socket: PathBuf,
    calls: Arc<Mutex<BTreeMap<u64, UnixStream>>>,
}

impl Forwarder {
    /// A forwarder to the server at `socket`.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned(), calls: Arc::default() }
    }

    /// Calls the server on a connection of its own and hands every reply, as it belongs on the port, to
    /// `deliver`. It returns after the last reply or when the connection ended.
    pub fn forward(&self, call: &Call, mut deliver: impl FnMut(&[u8])) {
        if let Err(error) = self.relay(call, &mut deliver) {
            let failure = Failure::new("Disconnected", format!("{}: {error}", self.socket.display()));
            deliver(&encode(&Reply::of(call.id, Err(failure))));
        }
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).remove(&call.id);
    }

    /// Ends the call with this id; one that has ended already stays as it is.
    pub fn cancel(&self, id: u64) {
        if let Some(stream) = self.calls.lock().unwrap_or_else(PoisonError::into_inner).get(&id) {
            // The server may have closed it in this moment.
            let _closed = stream.shutdown(Shutdown::Both);
        }
    }

    fn relay(&self, call: &Call, deliver: &mut impl FnMut(&[u8])) -> io::Result<()> {
        let mut stream = UnixStream::connect(&self.socket)?;
        {
            let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
            if calls.len() >= MAX_CALLS {
                return Err(io::Error::other(format!("{MAX_CALLS} calls are on their way")));
            }
            calls.insert(call.id, stream.try_clone()?);
        }
        stream.write_all(&for_zoned(call))?;
        let mut splitter = Splitter::default();
        let mut bytes = vec![0; 64 * 1024];
        loop {
            let length = stream.read(&mut bytes)?;
            if length == 0 {
                return Err(io::Error::other("closed before its last reply"));
            }
            splitter.push(bytes.get(..length).unwrap_or_default());
            while let Some(reply) = splitter.next_message() {
                let Some((reply, continues)) = from_zoned(call.id, &reply) else {
                    return Err(io::Error::other("sent what is no JSON object"));
                };
                deliver(&reply);
                if !continues {
                    return Ok(());
                }
            }
        }
    }
}
