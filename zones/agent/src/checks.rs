//! The checks that every agent has, and the way to those that a template adds.
//!
//! A check waits for what it needs (a route, an answer) until its deadline, so that whoever runs it needs no
//! waiting of its own.

mod session;
mod tpm;

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::netlink::{Changes, addresses};
use crate::program::{self, MAX_OUTPUT, cut};

/// Where a template keeps its own checks.
const FOLDER: &str = "/usr/lib/bulkhead/checks";

/// How long a check may take when its arguments say nothing.
const PATIENCE: Duration = Duration::from_secs(60);

/// The most fetches of a check of latency.
const MAX_TIMES: usize = 1000;

/// The longest that a check may be told to take: less than the host waits.
const MAX_PATIENCE: u64 = 150;

/// Result of a check: whether it holds, and what it printed. `Err`: it cannot be run.
type Outcome = Result<(bool, String), String>;

/// Runs a check by name.
pub(crate) fn run(name: &str, arguments: &[String]) -> Outcome {
    let first = || arguments.first().map(String::as_str);
    match name {
        "resolve" => {
            let name = first().ok_or("usage: resolve NAME [SECONDS]")?.to_owned();
            Ok(retry(patience(arguments.get(1))?, || resolve(&name)))
        }
        "fetch" => {
            let url = Url::parse(first().ok_or("usage: fetch http://HOST[:PORT]/PATH [SECONDS]")?)?;
            Ok(retry(patience(arguments.get(1))?, || fetch(&url)))
        }
        "latency" => {
            let url = Url::parse(first().ok_or("usage: latency http://HOST[:PORT]/PATH [TIMES]")?)?;
            latency(&url, arguments.get(1))
        }
        "interfaces" => Ok((true, interfaces().map_err(|error| error.to_string())?)),
        "mounts" => {
            let mounts = std::fs::read("/proc/self/mounts").map_err(|error| error.to_string())?;
            Ok((true, cut(&mounts)))
        }
        "dmesg" => Ok((true, dmesg().map_err(|error| error.to_string())?)),
        "session" => session::run(),
        "tpm" => tpm::run(arguments),
        "uptime" => Ok((true, format!("{} ms\n", uptime_ms()))),
        other if is_program_name(other) => {
            let path = Path::new(FOLDER).join(other);
            program::run(&path, arguments, Duration::from_secs(MAX_PATIENCE))
                .map_err(|error| error.to_string())
        }
        other => Err(format!("{other:?} is no name of a check: it has only a-z, 0-9, - and _")),
    }
}

fn is_program_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(allowed)
}

fn patience(argument: Option<&String>) -> Result<Duration, String> {
    let Some(text) = argument else { return Ok(PATIENCE) };
    let seconds = text.parse().ok().filter(|seconds| (0..=MAX_PATIENCE).contains(seconds));
    let seconds = seconds.ok_or_else(|| format!("{text:?} is no number of seconds up to {MAX_PATIENCE}"))?;
    Ok(Duration::from_secs(seconds))
}

/// Tries until it works or the time is over; at least once. The last error is the output.
fn retry(patience: Duration, attempt: impl Fn() -> io::Result<String>) -> (bool, String) {
    let changes = Changes::of_network();
    let deadline = Instant::now() + patience;
    loop {
        let error = match attempt() {
            Ok(output) => return (true, output),
            Err(error) => error,
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return (false, format!("{error}\n"));
        }
        // A new address or route ends the wait early; a far end that came up is noticed within a second.
        changes.wait(left.min(Duration::from_secs(1)));
    }
}

/// The addresses of a name, one a line.
fn resolve(name: &str) -> io::Result<String> {
    let mut found: Vec<String> =
        (name, 0).to_socket_addrs()?.map(|address| address.ip().to_string()).collect();
    found.sort();
    found.dedup();
    Ok(found.join("\n") + "\n")
}

/// How long it takes to fetch a page, several times one after the other: half of them, and the slowest.
fn latency(url: &Url, times: Option<&String>) -> Outcome {
    let number = times.map_or(Some(10), |text| text.parse().ok());
    let times: usize = number
        .filter(|times| (1..=MAX_TIMES).contains(times))
        .ok_or_else(|| format!("{times:?} is no number from 1 to {MAX_TIMES}"))?;
    let mut taken = Vec::new();
    for _ in 0..times {
        let start = Instant::now();
        if let Err(error) = fetch(url) {
            return Ok((false, format!("{error}\n")));
        }
        taken.push(start.elapsed().as_micros());
    }
    taken.sort_unstable();
    let at = |index: usize| taken.get(index).copied().unwrap_or_default();
    Ok((true, format!("median {} us, slowest {} us\n", at(times / 2), at(times - 1))))
}

/// An address of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Url {
    host: String,
    port: u16,
    path: String,
}

impl Url {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no http://HOST[:PORT]/PATH");
        let rest = text.strip_prefix("http://").ok_or_else(wrong)?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                (host, port.parse().map_err(|_no_number| wrong())?)
            }
            Some(_) | None => (authority, 80),
        };
        let clean = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if host.is_empty() || !clean(host) || !clean(path) {
            return Err(wrong());
        }
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self { host: host.to_owned(), port, path: path.to_owned() })
    }
}

/// The body of a page that answers 200.
fn fetch(url: &Url) -> io::Result<String> {
    let host = url.host.trim_start_matches('[').trim_end_matches(']');
    let mut last = io::Error::other("the name has no address");
    for address in (host, url.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, Duration::from_secs(5)) {
            Ok(stream) => return get(stream, url),
            Err(error) => last = io::Error::new(error.kind(), format!("{address}: {error}")),
        }
    }
    Err(last)
}

fn get(mut stream: TcpStream, url: &Url) -> io::Result<String> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    let Url { host, path, .. } = url;
    // One write: one segment for whoever looks at the other end.
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let limit = u64::try_from(2 * MAX_OUTPUT).expect("a constant");
    stream.take(limit).read_to_end(&mut answer)?;
    let (head, body) = split_answer(&answer).ok_or_else(|| io::Error::other("no HTTP answer"))?;
    let mut words = head.split(|byte| *byte == b' ');
    let ok =
        words.next().is_some_and(|version| version.starts_with(b"HTTP/1.")) && words.next() == Some(b"200");
    if !ok {
        let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
        return Err(io::Error::other(format!("answer {:?}", String::from_utf8_lossy(line))));
    }
    Ok(cut(body))
}

fn split_answer(answer: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let (head, rest) = answer.split_at(end);
    Some((head, rest.get(4..)?))
}

/// Names, MACs, states and addresses, one link a line.
fn interfaces() -> io::Result<String> {
    let addresses = addresses()?;
    let mut names = Vec::new();
    for entry in std::fs::read_dir("/sys/class/net")? {
        names.push(entry?.file_name());
    }
    names.sort();
    let mut text = String::new();
    for name in names {
        let folder = Path::new("/sys/class/net").join(&name);
        let read =
            |file: &str| std::fs::read_to_string(folder.join(file)).unwrap_or_default().trim().to_owned();
        let index: u32 = read("ifindex").parse().unwrap_or(0);
        let own = addresses.iter().filter(|(of, _, _)| *of == index);
        let own: Vec<String> = own.map(|(_, address, prefix)| format!("{address}/{prefix}")).collect();
        let (mac, state) = (read("address"), read("operstate"));
        let line = format!("{} {mac} {state} {}", name.to_string_lossy(), own.join(" "));
        writeln!(text, "{}", line.trim_end()).map_err(io::Error::other)?;
    }
    Ok(cut(text.as_bytes()))
}

/// The end of the kernel's log.
fn dmesg() -> io::Result<String> {
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).map_err(io::Error::other)?;
    let mut kmsg = OpenOptions::new().read(true).custom_flags(flags).open("/dev/kmsg")?;
    let mut log = Vec::new();
    let mut record = [0_u8; 8192];
    loop {
        match kmsg.read(&mut record) {
            Ok(0) => break,
            Ok(count) => log.extend_from_slice(text_of(record.get(..count).unwrap_or_default())),
            // Overwritten while we read: the next one is there.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    let begin = log.len().saturating_sub(MAX_OUTPUT);
    Ok(cut(log.get(begin..).unwrap_or_default()))
}

/// The first line of a record, with its end, without the numbers before it and the tags after it.
fn text_of(record: &[u8]) -> &[u8] {
    let text = record.iter().position(|byte| *byte == b';').and_then(|at| record.get(at + 1..));
    let text = text.unwrap_or(record);
    let end = text.iter().position(|byte| *byte == b'\n').map_or(text.len(), |at| at + 1);
    text.get(..end).unwrap_or_default()
}

/// Time since the kernel started.
pub(crate) fn uptime_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let milliseconds = now.tv_sec.saturating_mul(1000).saturating_add(now.tv_nsec / 1_000_000);
    u64::try_from(milliseconds).unwrap_or(0)
}

#[cfg(test)]
mod tests;
