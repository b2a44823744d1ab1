//! What the children say: their stdout and stderr, line by line, to the console.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::Pid;

use crate::console::Console;
use crate::lines::{Cutter, Passage, Ration};

/// Bytes read at once.
const CHUNK: usize = 4096;
/// Chunks of one process in a turn: a flood must not hold up the others.
const CHUNKS: u8 = 16;

/// The pipe of one process.
#[derive(Debug)]
pub(crate) struct Output {
    pipe: OwnedFd,
    pid: Pid,
    label: String,
    cutter: Cutter,
    ration: Ration,
    open: bool,
}

/// Makes a pipe: init's end and the child's.
pub(crate) fn pipe() -> Result<(OwnedFd, OwnedFd), Errno> {
    let (ours, theirs) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    rustix::fs::fcntl_setfl(&ours, OFlags::NONBLOCK)?;
    Ok((ours, theirs))
}

impl Output {
    /// The output of a child that runs now.
    pub(crate) fn new(pipe: OwnedFd, pid: Pid, label: String, now: Duration) -> Self {
        Self { pipe, pid, label, cutter: Cutter::default(), ration: Ration::new(now), open: true }
    }

    /// Whose it is.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Whether more can come.
    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// Prints what is there.
    pub(crate) fn pump(&mut self, console: &Console, now: Duration) {
        let mut bytes = [0; CHUNK];
        for _ in 0..CHUNKS {
            match rustix::io::read(&self.pipe, &mut bytes) {
                Ok(0) => {
                    self.open = false;
                    let last = self.cutter.finish();
                    self.print(console, now, last);
                    return;
                }
                Ok(length) => {
                    let lines = self.cutter.push(bytes.get(..length).unwrap_or(&bytes));
                    self.print(console, now, lines);
                }
                Err(Errno::INTR) => {}
                Err(_nothing_there) => return,
            }
        }
    }

    fn print(&mut self, console: &Console, now: Duration, lines: impl IntoIterator<Item = String>) {
        for line in lines {
            if let Passage::Print { dropped } = self.ration.line(now) {
                if dropped > 0 {
                    console.line(&self.label, &format!("[{dropped} lines dropped]"));
                }
                console.line(&self.label, &line);
            }
        }
    }
}

impl AsFd for Output {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}
