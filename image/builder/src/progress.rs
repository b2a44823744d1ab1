//! What the user sees while something is built.

use std::io::{Write, stderr};
use std::time::Instant;

/// Prints one line.
pub(crate) fn say(text: &str) {
    // A closed terminal is no reason to stop a build.
    let _closed = writeln!(stderr(), "{text}");
}

/// Prints a failure with its causes, once.
pub(crate) fn failure(error: &anyhow::Error) {
    say(&format!("bulkhead: {error:#}"));
}

/// A step with its name and, at the end, its time.
pub(crate) struct Step {
    name: String,
    start: Instant,
}

impl Step {
    /// Says what begins.
    pub(crate) fn begin(name: impl Into<String>) -> Self {
        let name = name.into();
        say(&format!("==> {name}"));
        Self { name, start: Instant::now() }
    }

    /// Says that it is done, and how long it took.
    pub(crate) fn done(self) {
        say(&format!("    {} ({:.1} s)", self.name, self.start.elapsed().as_secs_f64()));
    }
}
