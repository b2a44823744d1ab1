//! `records`: a check of the test template. `records write N` appends N records to /home/records, each with an fsync
//! before the next, and prints the last number when all are confirmed. `records count` prints how many are there.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::process::ExitCode;

use anyhow::Context;
use system::records::{FILE, SIZE, count, record};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["write", number] => number.parse().context("N is a number").and_then(write),
        ["count"] => open().map(|(_, count)| count),
        _ => Err(anyhow::anyhow!("usage: records write N | records count")),
    };
    let (text, code) = match outcome {
        Ok(number) => (number.to_string(), ExitCode::SUCCESS),
        Err(error) => (format!("{error:#}"), ExitCode::FAILURE),
    };
    // The agent reads it; if it is gone nobody does.
    let _gone = writeln!(std::io::stdout(), "{text}");
    code
}

/// The file, and how many records are in it.
fn open() -> anyhow::Result<(File, u64)> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(FILE).context(FILE)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).context(FILE)?;
    Ok((file, count(&bytes)))
}

fn write(more: u64) -> anyhow::Result<u64> {
    let (mut file, there) = open()?;
    // What a crash left behind the last whole record.
    file.set_len(there * u64::try_from(SIZE)?).context("cut the file")?;
    File::open("/home").and_then(|folder| folder.sync_all()).context("fsync /home")?;
    for number in there + 1..=there + more {
        file.write_all(&record(number)).context("write")?;
        file.sync_all().context("fsync")?;
    }
    Ok(there + more)
}
