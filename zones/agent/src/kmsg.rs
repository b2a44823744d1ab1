//! Log lines, through the kernel's ring buffer: they reach the guest's console and `dmesg` alike.

use std::fs::OpenOptions;
use std::io::Write;

/// Writes one line; a log that cannot be written is no reason to stop.
pub(crate) fn log(text: &str) {
    if let Ok(mut kmsg) = OpenOptions::new().write(true).open("/dev/kmsg") {
        drop(kmsg.write_all(format!("<5>agent: {text}\n").as_bytes()));
    }
}
