//! /dev/kmsg, read for the kernel's word about killed processes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, SeekFrom};
use rustix::io::Errno;

use crate::audit::{self, Violation};

/// The longest record that the kernel writes.
const RECORD: usize = 8192;

/// The log from now on.
#[derive(Debug)]
pub(crate) struct KernelLog {
    file: OwnedFd,
}

impl KernelLog {
    /// Opens it at its end.
    pub(crate) fn open() -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::open("/dev/kmsg", flags, Mode::empty())?;
        rustix::fs::seek(&file, SeekFrom::End(0))?;
        Ok(Self { file })
    }

    /// The violations logged since the last call.
    pub(crate) fn violations(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        let mut record = [0; RECORD];
        loop {
            match rustix::io::read(&self.file, &mut record) {
                Ok(length) => {
                    let text = record.get(..length).map(String::from_utf8_lossy).unwrap_or_default();
                    found.extend(audit::parse(&text));
                }
                // Records were overwritten before they were read: go on with the next.
                Err(Errno::PIPE | Errno::INTR) => {}
                Err(_nothing_more) => return found,
            }
        }
    }
}

impl AsFd for KernelLog {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
