//! The end of the kernel's log.

use std::collections::VecDeque;
use std::io;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, read};

/// The most lines that are returned.
const MAX_LINES: usize = 1000;

/// The last lines of the kernel's log, oldest first.
///
/// # Errors
/// `/dev/kmsg` cannot be read.
pub fn tail() -> io::Result<String> {
    let log = open("/dev/kmsg", OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
    let mut lines: VecDeque<String> = VecDeque::new();
    // One read is one record (Documentation/ABI/testing/dev-kmsg); records are below 8 KiB.
    let mut record = vec![0; 8192];
    loop {
        match read(&log, &mut record) {
            Ok(0) | Err(Errno::AGAIN) => break,
            Ok(length) => {
                if lines.len() == MAX_LINES {
                    lines.pop_front();
                }
                lines.push_back(readable(record.get(..length).unwrap_or_default()));
            }
            // The oldest records were overwritten meanwhile.
            Err(Errno::PIPE | Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(lines.into_iter().collect())
}

/// `6,339,5140900,-;text` with what follows becomes `[5.140900] text`, a line.
fn readable(record: &[u8]) -> String {
    let record = String::from_utf8_lossy(record);
    let (prefix, text) = record.split_once(';').unwrap_or(("", &record));
    let microseconds: u64 = prefix.split(',').nth(2).and_then(|time| time.parse().ok()).unwrap_or(0);
    let line = text.lines().next().unwrap_or_default();
    format!("[{}.{:06}] {line}\n", microseconds / 1_000_000, microseconds % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_become_lines() {
        let record = b"6,339,5140900,-;NET: Registered PF_INET6\n SUBSYSTEM=net\n";
        assert_eq!(readable(record), "[5.140900] NET: Registered PF_INET6\n");
        assert_eq!(readable(b"odd"), "[0.000000] odd\n");
    }
}
