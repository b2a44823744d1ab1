//! `./bulkhead audit verify`: an audit log as a table, and what is wrong with it.
//!
//! The file holds records, one a line, as they were read page by page over `zoned`'s interface; or it is the log's
//! own file, `audit.log` of a data disk. Nothing of it is believed: texts are printed without control characters.

use std::fs;
use std::io::{Read, Write, stdout};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use audit::event::text;
use audit::{Head, Limits, Record, area};

use crate::progress;

/// No log is larger; an export may hold several.
const MAX_FILE: u64 = 64 << 20;

/// Prints the table; failure: something was altered, and what.
pub(crate) fn verify(path: &Path, head: Option<&str>) -> Result<ExitCode> {
    let known = head.map(parse_head).transpose()?;
    let mut bytes = Vec::new();
    let file = fs::File::open(path).with_context(|| format!("open {}", path.display()))?;
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).with_context(|| format!("read {}", path.display()))?;
    if u64::try_from(bytes.len())? > MAX_FILE {
        bail!("{} is larger than any audit log ({MAX_FILE} bytes)", path.display());
    }
    let (table, end) = examine(&bytes, known.as_ref());
    stdout().write_all(table.as_bytes()).context("print the table")?;
    match end {
        Ok(sentence) => {
            stdout().write_all(sentence.as_bytes()).context("print the result")?;
            Ok(ExitCode::SUCCESS)
        }
        Err(fault) => {
            progress::say(&format!("bulkhead: {}: {fault}", path.display()));
            Ok(ExitCode::FAILURE)
        }
    }
}

/// `POSITION:HASH`, as the last line of an earlier check said it.
fn parse_head(text: &str) -> Result<Head> {
    let parts = text.split_once(':').and_then(|(position, hash)| Some((position.parse().ok()?, hash)));
    let (position, hash) = parts.with_context(|| format!("--head takes POSITION:HASH, found {text:?}"))?;
    Ok(Head { position, hash: hash.into() })
}

/// The table, and the result in a sentence.
fn examine(bytes: &[u8], known: Option<&Head>) -> (String, Result<String, audit::Fault>) {
    let (lines, torn) = if bytes.contains(&0) {
        area::records(Limits::default(), bytes)
    } else {
        (bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect(), 0)
    };
    let mut table =
        format!("{:>6}  {:<20} {:<9} {:<12} {}\n", "record", "time (UTC)", "boot", "zone", "event");
    for line in &lines {
        table.push_str(&match Record::parse(line) {
            Some(record) => row(&record),
            None => format!("{:>6}  {}\n", "?", text(&String::from_utf8_lossy(line))),
        });
    }
    let verified = audit::verify(lines.iter().map(Vec::as_slice), None, known);
    let sentence = verified.map(|verified| {
        let torn = if torn > 0 {
            format!(" The last write was torn: {torn} bytes behind it are no record.")
        } else {
            String::new()
        };
        format!(
            "Records {} to {} verify.{torn} Without a head that was kept elsewhere nobody can say that the whole log \
             was not written anew.\nhead {}:{}\n",
            verified.first,
            verified.head.position,
            verified.head.position,
            verified.head.hash.as_str()
        )
    });
    (table, sentence)
}

fn row(record: &Record) -> String {
    let kind = record.json.get("kind").and_then(|kind| kind.as_str()).unwrap_or("?");
    let mut words = text(kind);
    let more = record.json.as_object().into_iter().flatten().filter(|(key, _)| *key != "kind");
    for (key, value) in more {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        words.push_str(&format!("  {}: {}", text(key), text(&value)));
    }
    let boot: String = text(&record.boot).chars().take(8).collect();
    let zone = text(record.zone.as_deref().unwrap_or("-"));
    format!("{:>6}  {:<20} {boot:<9} {zone:<12} {words}\n", record.head.position, time(record.time))
}

/// Seconds since 1970 as a date and a time of day.
fn time(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days since 0000-03-01, in eras of 400 years; years begin in March, so that the odd day is the last one.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{date:02} {:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use audit::{Event, Log, Stamp};

    use super::*;

    /// A file of the log with three records.
    fn file() -> Vec<u8> {
        let limits = Limits::default();
        let mut file = vec![0; usize::try_from(limits.file_bytes()).unwrap()];
        let now = Stamp { time: 1_790_000_000, steady: 0 };
        let (mut log, _, _) = Log::open(limits, "boot-one", &[], now);
        for event in
            [Event::ZoneStarted, Event::ZoneFailed { cause: "disk\u{1b}[2J".into() }, Event::ZoneStarted]
        {
            let step = log.append(now, Some("office"), &event).unwrap();
            let (offset, bytes) = area::write(limits, &step.actions[0]);
            let offset = usize::try_from(offset).unwrap();
            file[offset..offset + bytes.len()].copy_from_slice(&bytes);
            log.commit(step);
        }
        file
    }

    #[test]
    fn a_whole_log_is_a_table_with_its_head() {
        let file = file();
        let (table, sentence) = examine(&file, None);
        assert!(
            table.contains("     2  2026-09-21 14:13:20  boot-one  office       zone_failed  cause: disk"),
            "{table}"
        );
        assert!(!table.contains('\u{1b}'));
        assert!(sentence.unwrap().starts_with("Records 1 to 3 verify."));
        // The same records as they are exported.
        let (lines, _) = area::records(Limits::default(), &file);
        let (exported, _) = examine(&lines.join(&b'\n'), None);
        assert_eq!(exported, table);
    }

    #[test]
    fn an_altered_byte_and_a_missing_end_are_named() {
        let mut altered = file();
        let at = altered.windows(4).position(|window| window == b"disk").unwrap();
        altered[at] = b'D';
        let said = examine(&altered, None).1.unwrap_err().to_string();
        assert!(said.starts_with("record 2 (line 2) was altered: expected hash "), "{said}");
        assert!(said.contains("found hash "), "{said}");
        let head = parse_head("4:00").unwrap();
        let said = examine(&file(), Some(&head)).1.unwrap_err().to_string();
        assert!(said.contains("expected record 4") && said.contains("found 3"), "{said}");
        assert!(parse_head("x").is_err());
    }

    #[test]
    fn dates_are_dates() {
        assert_eq!(time(0), "1970-01-01 00:00:00");
        assert_eq!(time(951_782_399), "2000-02-28 23:59:59");
        assert_eq!(time(951_782_400), "2000-02-29 00:00:00");
        assert_eq!(time(4_107_542_400), "2100-03-01 00:00:00");
    }
}
