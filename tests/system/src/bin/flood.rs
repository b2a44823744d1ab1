//! `flood`: a check of the test template. `flood WRITERS KIB SECONDS` lets so many threads write to the private disk at once,
//! each KIB before it waits until they are on the disk, and prints how many KiB were confirmed.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// How much of the disk a writer goes through before it begins anew, in KiB.
const FILE_KIB: usize = 4096;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (text, code) = match run(&arguments) {
        Ok(confirmed) => (confirmed.to_string(), ExitCode::SUCCESS),
        Err(error) => (format!("{error:#}"), ExitCode::FAILURE),
    };
    // The agent reads it; if it is gone nobody does.
    let _gone = writeln!(std::io::stdout(), "{text}");
    code
}

fn run(arguments: &[String]) -> anyhow::Result<usize> {
    let numbers: Result<Vec<usize>, _> = arguments.iter().map(|word| word.parse()).collect();
    let [writers, kib, seconds] = numbers.context("numbers")?[..] else {
        bail!("usage: flood WRITERS KIB SECONDS");
    };
    let end = Instant::now() + Duration::from_secs(seconds.try_into()?);
    let threads: Vec<_> = (0..writers).map(|number| thread::spawn(move || write(number, kib, end))).collect();
    let mut confirmed = 0;
    for thread in threads {
        confirmed += thread.join().map_err(|_panic| anyhow::anyhow!("a writer panicked"))??;
    }
    Ok(confirmed)
}

/// Writes until the time is over; returns the KiB that were confirmed.
fn write(number: usize, kib: usize, end: Instant) -> anyhow::Result<usize> {
    let file: File = OpenOptions::new().create(true).write(true).open(format!("/home/flood-{number}"))?;
    let bytes = vec![0xA5; kib * 1024];
    let (mut place, mut confirmed) = (0, 0);
    while Instant::now() < end {
        file.write_all_at(&bytes, u64::try_from(place * 1024)?).context("write")?;
        file.sync_data().context("fdatasync")?;
        confirmed += kib;
        place = if place + 2 * kib > FILE_KIB { 0 } else { place + kib };
    }
    Ok(confirmed)
}
