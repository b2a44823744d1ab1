//! Started in a jail by the tests: tries the one thing that its variable `TRY` names and says what came of it.
//!
//! Not part of the crate: the tests compile it with `rustc` into a static program, because that is what
//! the jail starts. It never links anything but `std`.

use std::ffi::{c_char, c_long};
use std::io::Read;

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
}

/// Makes one system call with plain numbers.
fn call(number: c_long, a: usize, b: usize, c: usize, d: usize, e: usize) -> String {
    // SAFETY: the tests pass numbers or the addresses of static strings.
    let result = unsafe { syscall(number, a, b, c, d, e) };
    if result < 0 {
        format!("errno {}", std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
    } else {
        "done".to_owned()
    }
}

fn path(text: &'static std::ffi::CStr) -> usize {
    text.as_ptr().cast::<c_char>() as usize
}

fn status() -> String {
    let names = std::env::var("BULKHEAD_FDS").unwrap_or_default();
    let mut open = Vec::new();
    for number in 0..2000 {
        if call(72, number, 1, 0, 0, 0) == "done" {
            open.push(number.to_string());
        }
    }
    let mut passed = String::new();
    if names.contains("message") {
        use std::os::fd::FromRawFd;
        // SAFETY: the tests pass one pipe, as descriptor 3.
        let mut file = unsafe { std::fs::File::from_raw_fd(3) };
        file.read_to_string(&mut passed).unwrap();
    }
    let mut keys: Vec<String> = std::env::vars().map(|(key, _)| key).collect();
    keys.sort();
    format!(
        "pid {} open {} names {names} passed {passed} keys {}",
        std::process::id(),
        open.join(","),
        keys.join(",")
    )
}

fn main() {
    let answer = match std::env::var("TRY").unwrap().as_str() {
        "status" => status(),
        "thread" => std::thread::spawn(|| "thread ran".to_owned()).join().unwrap(),
        "panic" => panic!("on purpose"),
        "open" => call(2, path(c"/etc/passwd"), 0, 0, 0, 0),
        "open_allowed" => call(2, path(c"/allowed/file"), 0, 0, 0, 0),
        "write_allowed" => call(2, path(c"/allowed/new"), 0o101, 0o600, 0, 0),
        "fork" => call(57, 0, 0, 0, 0, 0),
        "clone" => call(56, 17, 0, 0, 0, 0),
        "clone3" => call(435, 0, 0, 0, 0, 0),
        "socket" => call(41, 2, 1, 0, 0, 0),
        "ptrace" => call(101, 0, 0, 0, 0, 0),
        "mount" => call(165, path(c"none"), path(c"/"), path(c"tmpfs"), 0, 0),
        "setuid" => call(105, 0, 0, 0, 0, 0),
        "io_uring" => call(425, 1, 0, 0, 0, 0),
        "execve" => call(59, path(c"/bin/probe"), 0, 0, 0, 0),
        "execveat" => call(322, 1000, path(c""), 0, 0, 0x1000),
        "mmap_exec" => call(9, 0, 4096, 7, 0x22, 0),
        "ioctl" => call(16, 1, 0x5412, path(c"x"), 0, 0),
        "setrlimit" => call(302, 0, 4, path(c"0123456789abcdef"), 0, 0),
        "unshare" => call(272, 0x1000_0000, 0, 0, 0, 0),
        "hold" => {
            println!("holding");
            std::thread::park();
            String::new()
        }
        other => format!("unknown {other}"),
    };
    println!("{answer}");
}
