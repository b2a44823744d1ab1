//! How much memory the host has to give, from a descriptor of the kernel's account (`/proc/meminfo`): this
//! process has no /proc.

use std::io;
use std::os::fd::OwnedFd;

/// MiB that new processes can have without anybody losing what he has.
///
/// # Errors
/// The account cannot be read, or does not say.
pub(crate) fn available_mib(account: &OwnedFd) -> io::Result<u64> {
    let mut bytes = [0_u8; 4096];
    let count = rustix::io::pread(account, &mut bytes, 0)?;
    let text = String::from_utf8_lossy(bytes.get(..count).unwrap_or_default());
    parse(&text).ok_or_else(|| io::Error::other("the kernel does not say how much memory is available"))
}

fn parse(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_of_this_machine_is_read() {
        let account = std::fs::File::open("/proc/meminfo").unwrap().into();
        for _ in 0..2 {
            assert!((1..1 << 30).contains(&available_mib(&account).unwrap()));
        }
    }

    #[test]
    fn what_is_no_account_says_nothing() {
        assert_eq!(parse("MemFree:  1 kB\nMemAvailable:    2097152 kB\n"), Some(2048));
        for bad in ["", "MemAvailable:", "MemAvailable: 12 MB", "MemAvailable: x kB", "MemFree: 1 kB"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
