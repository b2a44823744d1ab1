//! The end of a guest's console, kept to explain a failure.
//!
//! Bounded: the guest writes as much as it likes and an old line falls out for each new one. Nothing of it
//! is shown as it came: control characters never reach a log.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

/// How much of a console is kept, in bytes.
const KEPT: usize = 64 * 1024;

/// How much of a line is quoted, in characters.
const QUOTED: usize = 200;

/// How Linux begins the line that says why it panics; a trace of calls follows.
const PANIC: &[u8] = b"Kernel panic - ";

/// Read end of a guest's console.
#[derive(Debug)]
pub(crate) struct Console {
    pipe: OwnedFd,
    tail: VecDeque<u8>,
}

/// Whether more may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    Open,
    Ended,
}

impl Console {
    /// Takes the read end; it is non-blocking.
    pub(crate) fn new(pipe: OwnedFd) -> Self {
        Self { pipe, tail: VecDeque::new() }
    }

    /// Reads what is there, at most one pipe's capacity, so that a guest that never stops does not hold us.
    pub(crate) fn read(&mut self) -> Flow {
        let mut bytes = [0_u8; 16 * 1024];
        for _ in 0..4 {
            match rustix::io::read(&self.pipe, &mut bytes) {
                Ok(0) => return Flow::Ended,
                Ok(count) => self.push(bytes.get(..count).unwrap_or_default()),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Flow::Open,
                Err(_) => return Flow::Ended,
            }
        }
        Flow::Open
    }

    fn push(&mut self, bytes: &[u8]) {
        self.tail.extend(bytes);
        let excess = self.tail.len().saturating_sub(KEPT);
        self.tail.drain(..excess);
    }

    /// What explains the end best, fit for a log: the kernel's own reason for its last panic, or else the last
    /// line that is not empty.
    pub(crate) fn last_words(&self) -> Option<String> {
        let (first, second) = self.tail.as_slices();
        let text = [first, second].concat();
        let is_blank = |line: &&[u8]| line.iter().all(u8::is_ascii_whitespace);
        let is_panic = |line: &&[u8]| line.windows(PANIC.len()).any(|part| part == PANIC);
        let lines = || text.split(|byte| *byte == b'\n');
        let line = lines().rfind(is_panic).or_else(|| lines().rfind(|line| !is_blank(line)))?;
        Some(printable(&String::from_utf8_lossy(line), QUOTED))
    }
}

impl AsFd for Console {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

/// Text of a guest, fit for a log line or a label: at most `limit` characters, printable ASCII only.
pub(crate) fn printable(text: &str, limit: usize) -> String {
    let clean = |character: char| if matches!(character, ' '..='~') { character } else { '?' };
    text.trim_end().chars().take(limit).map(clean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console(text: &[u8]) -> Console {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
        let mut console = Console::new(read);
        for part in text.chunks(4096) {
            rustix::io::write(&write, part).unwrap();
            assert_eq!(console.read(), Flow::Open);
        }
        drop(write);
        assert_eq!(console.read(), Flow::Ended);
        console
    }

    #[test]
    fn the_panic_or_the_last_line_explains_and_is_clean() {
        let line = |text: &[u8]| console(text).last_words();
        assert_eq!(line(b"one\r\n\x1b[31mpanic: \xff\r\n\r\n").as_deref(), Some("?[31mpanic: ?"));
        let panic = b"[1.0] Kernel panic - not syncing: why\n[1.0] Call Trace:\n[1.0] </TASK>\n";
        assert_eq!(line(panic).as_deref(), Some("[1.0] Kernel panic - not syncing: why"));
        assert_eq!(line(b"no end"), Some("no end".to_owned()));
        assert_eq!(line(b"\n \n"), None);
        assert_eq!(line(&[b'x'; 1000]).unwrap().len(), QUOTED);
    }

    #[test]
    fn a_console_is_bounded() {
        let console = console(&b"0123456789abcde\n".repeat(10_000));
        assert_eq!(console.tail.len(), KEPT);
        assert_eq!(console.last_words().as_deref(), Some("0123456789abcde"));
    }
}
