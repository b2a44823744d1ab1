//! Lines for the user: what happens, and how long it took.

use std::io::Write;
use std::time::{Duration, Instant};

/// Writes one line to standard output. A closed output hears nothing.
pub fn say(line: impl AsRef<str>) {
    let mut output = std::io::stdout().lock();
    let _closed = writeln!(output, "{}", line.as_ref()).and_then(|()| output.flush());
}

/// One line a step, with its time.
#[derive(Debug)]
pub struct Steps {
    last: Instant,
}

impl Default for Steps {
    fn default() -> Self {
        Self { last: Instant::now() }
    }
}

impl Steps {
    /// Says that a step is done.
    pub fn done(&mut self, step: impl AsRef<str>) {
        let now = Instant::now();
        say(format!("{:>7} {}", seconds(now - self.last), step.as_ref()));
        self.last = now;
    }
}

/// A duration as people read it.
#[must_use]
pub fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
