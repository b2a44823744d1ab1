//! A child's output, cut into lines that are safe to print, and rationed. Pure: time is an argument.

use std::time::Duration;

/// Longer lines are cut into pieces.
const LONGEST: usize = 512;
/// Lines that a process may print at once.
const BURST: u32 = 200;
/// Time after which it may print one more.
const PER_LINE: Duration = Duration::from_millis(20);

/// The unfinished line of one process.
#[derive(Debug, Default)]
pub(crate) struct Cutter {
    rest: Vec<u8>,
}

impl Cutter {
    /// Adds bytes; returns the lines that they complete. Whatever a terminal could take for a command is
    /// replaced by a dot.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for byte in bytes {
            if *byte == b'\n' || self.rest.len() == LONGEST {
                lines.extend(self.finish());
            }
            if *byte != b'\n' {
                self.rest.push(*byte);
            }
        }
        lines
    }

    /// The line that lacks its end, if there is one.
    pub(crate) fn finish(&mut self) -> Option<String> {
        if self.rest.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut self.rest);
        let text = bytes.strip_suffix(b"\r").unwrap_or(&bytes);
        let line = String::from_utf8_lossy(text).replace(|c: char| c.is_control() && c != '\t', ".");
        Some(line).filter(|line| !line.is_empty())
    }
}

/// How many more lines a process may print.
#[derive(Debug)]
pub(crate) struct Ration {
    left: u32,
    filled: Duration,
    dropped: u64,
}

/// What happens to a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passage {
    /// It is printed; before it, so many were not.
    Print {
        /// Lines dropped since the last printed one.
        dropped: u64,
    },
    /// It is dropped.
    Drop,
}

impl Ration {
    /// A full ration.
    pub(crate) fn new(now: Duration) -> Self {
        Self { left: BURST, filled: now, dropped: 0 }
    }

    /// Asks to print one line.
    pub(crate) fn line(&mut self, now: Duration) -> Passage {
        let more = now.saturating_sub(self.filled).as_millis() / PER_LINE.as_millis();
        if more > 0 {
            self.left = u32::try_from(more).unwrap_or(BURST).saturating_add(self.left).min(BURST);
            self.filled = now;
        }
        if self.left == 0 {
            self.dropped = self.dropped.saturating_add(1);
            return Passage::Drop;
        }
        self.left -= 1;
        Passage::Print { dropped: std::mem::take(&mut self.dropped) }
    }
}

#[cfg(test)]
mod tests;
