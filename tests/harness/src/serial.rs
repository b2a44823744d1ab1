//! The host's console: a file, and a live view that tests wait on.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::left;

/// The newest bytes of the console that stay in memory; the file has all.
const KEPT: usize = 8 * 1024 * 1024;

/// The text did not come.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// The deadline passed.
    #[error("{pattern:?} did not appear on the console in {waited:?}; the log is {}", log.display())]
    Deadline {
        /// What was waited for.
        pattern: String,
        /// How long.
        waited: Duration,
        /// The console's log.
        log: PathBuf,
    },
    /// QEMU ended first.
    #[error("QEMU ended before {pattern:?} appeared on the console; the log is {}", log.display())]
    Ended {
        /// What was waited for.
        pattern: String,
        /// The console's log.
        log: PathBuf,
    },
}

/// The console of one machine.
#[derive(Clone, Debug)]
pub struct Serial {
    path: PathBuf,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    text: Mutex<Text>,
    grown: Condvar,
}

#[derive(Debug, Default)]
struct Text {
    bytes: Vec<u8>,
    /// Number of bytes that are no longer kept.
    dropped: usize,
    /// Streams that still write.
    writers: usize,
}

/// A place in the console's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place(usize);

impl Serial {
    /// A console whose log goes to `path`, with the streams that write to it.
    ///
    /// # Errors
    /// The log cannot be made.
    pub fn start(path: &Path, streams: Vec<Box<dyn Read + Send>>) -> std::io::Result<Self> {
        let file = Arc::new(Mutex::new(File::create(path)?));
        let shared = Arc::new(Shared::default());
        shared.text.lock().unwrap_or_else(PoisonError::into_inner).writers = streams.len();
        for mut stream in streams {
            let (shared, file) = (Arc::clone(&shared), Arc::clone(&file));
            std::thread::Builder::new().name("console".to_owned()).spawn(move || {
                let mut bytes = vec![0; 16 * 1024];
                while let Ok(length @ 1..) = stream.read(&mut bytes) {
                    let bytes = bytes.get(..length).unwrap_or_default();
                    // A full disk loses the file, not the test: the text in memory goes on.
                    let _full = file.lock().unwrap_or_else(PoisonError::into_inner).write_all(bytes);
                    shared.append(bytes);
                }
                shared.text.lock().unwrap_or_else(PoisonError::into_inner).writers -= 1;
                shared.grown.notify_all();
            })?;
        }
        Ok(Self { path: path.to_owned(), shared })
    }

    /// Where the log is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The end of the text as it is now.
    #[must_use]
    pub fn end(&self) -> Place {
        Place(self.shared.text.lock().unwrap_or_else(PoisonError::into_inner).end())
    }

    /// The text since `place`, as far as it is kept.
    #[must_use]
    pub fn since(&self, place: Place) -> String {
        let text = self.shared.text.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(text.since(place)).into_owned()
    }

    /// The last `lines` lines.
    #[must_use]
    pub fn tail(&self, lines: usize) -> String {
        let text = self.since(Place(0));
        let all: Vec<&str> = text.lines().collect();
        all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
    }

    /// Waits until `pattern` stands on the console, anywhere since boot.
    ///
    /// # Errors
    /// [`WaitError`].
    pub fn wait_for(&self, pattern: &str, deadline: Instant) -> Result<Place, WaitError> {
        self.wait_for_since(Place(0), pattern, deadline)
    }

    /// Waits until `pattern` stands on the console after `place`; returns the place behind it.
    ///
    /// # Errors
    /// [`WaitError`].
    pub fn wait_for_since(&self, place: Place, pattern: &str, deadline: Instant) -> Result<Place, WaitError> {
        let began = Instant::now();
        let mut text = self.shared.text.lock().unwrap_or_else(PoisonError::into_inner);
        let mut from = place.0;
        loop {
            let kept = text.since(Place(from));
            if let Some(at) = find(kept, pattern.as_bytes()) {
                return Ok(Place(text.end() - kept.len() + at + pattern.len()));
            }
            // A pattern can lie across two pieces.
            from = from.max(text.end().saturating_sub(pattern.len()));
            if text.writers == 0 {
                return Err(WaitError::Ended { pattern: pattern.to_owned(), log: self.path.clone() });
            }
            let left = left(deadline);
            if left.is_zero() {
                return Err(WaitError::Deadline {
                    pattern: pattern.to_owned(),
                    waited: began.elapsed(),
                    log: self.path.clone(),
                });
            }
            text = self.shared.grown.wait_timeout(text, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until nothing writes any more: QEMU ended. False when the deadline passed first.
    #[must_use]
    pub fn wait_for_end(&self, deadline: Instant) -> bool {
        let text = self.shared.text.lock().unwrap_or_else(PoisonError::into_inner);
        let (text, _) = self
            .shared
            .grown
            .wait_timeout_while(text, left(deadline), |text| text.writers > 0)
            .unwrap_or_else(PoisonError::into_inner);
        text.writers == 0
    }

    /// Waits for the next text or for `pause`, whichever comes first: for things that have no event to wait
    /// for, as the screen.
    pub fn pause(&self, pause: Duration) {
        let text = self.shared.text.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.shared.grown.wait_timeout(text, pause));
    }
}

impl Shared {
    fn append(&self, bytes: &[u8]) {
        let mut text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        text.bytes.extend_from_slice(bytes);
        let over = text.bytes.len().saturating_sub(KEPT);
        if over > KEPT / 2 {
            text.bytes.drain(..over);
            text.dropped += over;
        }
        drop(text);
        self.grown.notify_all();
    }
}

impl Text {
    fn end(&self) -> usize {
        self.dropped + self.bytes.len()
    }

    fn since(&self, place: Place) -> &[u8] {
        self.bytes.get(place.0.saturating_sub(self.dropped)..).unwrap_or_default()
    }
}

fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    if pattern.is_empty() {
        return Some(0);
    }
    bytes.windows(pattern.len()).position(|window| window == pattern)
}

#[cfg(test)]
mod tests;
