//! What a machine looked like when a test waited in vain: one text file and one picture beside the console's log.
//!
//! Every part is asked for with a deadline of its own and may fail; then its reason stands in its place. The
//! host, its zones, QEMU and the wire are asked from the outside in, so that the file shows how far life
//! reaches: QEMU's registers need no host, the bridge needs no `zoned`, `zoned` needs no agent.

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use control_api::Phase;
use serde_json::{Value, json};
use test_bridge::threads::Activity;

use crate::bridge::CallError;
use crate::machine::Machine;
use crate::within;
use crate::zones::RunningCheck;

/// Seconds that the host, and QEMU, have for each answer.
const PATIENCE: u64 = 20;

/// Between two snapshots that are compared.
const BETWEEN: Duration = Duration::from_secs(2);

/// Lines of the console, and of the kernel's log.
const LINES: usize = 200;

/// Looks everywhere; returns the file that says what was seen.
///
/// # Errors
/// The file cannot be written.
pub fn gather(machine: &Machine, why: &str) -> io::Result<PathBuf> {
    let began = Instant::now();
    let (path, picture) = machine.evidence_paths();
    let mut report = Report::default();
    report.part("why", Ok::<_, CallError>(why));
    report.part("registers", registers(machine));
    if machine.has_bridge() {
        inside(machine, &mut report);
    }
    report.part("registers again", registers(machine));
    report.part("wire", Ok::<_, CallError>(machine.network_counters()));
    let looked = machine.qmp().screendump(&picture, within(PATIENCE));
    report.part("screen", looked.map(|()| picture.display().to_string()));
    report.part("console", Ok::<_, CallError>(machine.serial().tail(LINES)));
    report.part("gathered in", Ok::<_, CallError>(format!("{:.1} s", began.elapsed().as_secs_f64())));
    std::fs::write(&path, report.0)?;
    Ok(path)
}

/// What only the bridge sees. Everything is asked at once: what one of them waits for may never come.
fn inside(machine: &Machine, report: &mut Report) {
    let zones = machine.zones();
    let before = zones.threads(within(PATIENCE));
    let status = zones.status(within(PATIENCE));
    let running = status.iter().flat_map(|status| &status.zones);
    let running = running.filter(|zone| zone.state.phase == Phase::Running);
    let checks: Vec<(String, Result<RunningCheck, CallError>)> =
        running.map(|zone| (zone.name.clone(), zones.begin_check(&zone.name, "uptime", &[]))).collect();
    machine.serial().pause(BETWEEN);
    let after = zones.threads(within(PATIENCE));
    report.part("zoned's status", status.map(|status| format!("{status:#?}")));
    let deadline = within(PATIENCE);
    for (zone, check) in checks {
        let uptime = check.and_then(|check| check.result(deadline));
        report.part(&format!("agent of {zone}"), uptime.map(|result| result.output));
    }
    match (before, after) {
        (Ok(before), Ok(after)) => {
            report.part("threads", Ok::<_, CallError>(compare(&before, &after)));
        }
        (Err(error), _) | (_, Err(error)) => report.part("threads", Err::<String, _>(error)),
    }
    report.part("kernel's log", zones.kernel_log(within(PATIENCE)).map(|log| last(&log)));
}

/// Every processor of the host as QEMU has it; in a zone's code these are the zone's registers.
fn registers(machine: &Machine) -> Result<String, crate::qmp::QmpError> {
    let ask = |line: &str| -> Result<String, crate::qmp::QmpError> {
        let arguments = json!({ "command-line": line });
        let text = machine.qmp().command("human-monitor-command", &arguments, within(PATIENCE))?;
        Ok(text.as_str().unwrap_or_default().replace('\r', ""))
    };
    let state = machine.qmp().command("query-status", &json!({}), within(PATIENCE))?;
    let state = state.get("status").and_then(Value::as_str).unwrap_or("unknown").to_owned();
    Ok(format!("QEMU is {state}\n{}\n{}", ask("info cpus")?, ask("info registers -a")?))
}

fn last(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default().join("\n")
}

/// Both snapshots in one: each thread with what it ran between them.
fn compare(before: &[Activity], after: &[Activity]) -> String {
    let mut text = String::new();
    let mut line = |words: std::fmt::Arguments<'_>| {
        writeln!(text, "{words}").expect("a String takes any text");
    };
    for process in after {
        let earlier = before.iter().find(|other| other.pid == process.pid);
        line(format_args!("{} {}", process.pid, process.program));
        for thread in &process.threads {
            let first =
                earlier.and_then(|process| process.threads.iter().find(|other| other.id == thread.id));
            let ran = first.map_or((0, 0), |first| {
                let ((user, system), (user_before, system_before)) = (thread.ticks(), first.ticks());
                (user.saturating_sub(user_before), system.saturating_sub(system_before))
            });
            line(format_args!(
                "  {} {:<16} {} ran {}+{} ticks; {}; {}",
                thread.id,
                thread.name,
                thread.state(),
                ran.0,
                ran.1,
                thread.sleeps_in,
                thread.system_call,
            ));
            for frame in thread.stack.lines() {
                line(format_args!("      {frame}"));
            }
        }
        let waiting: Vec<String> = process
            .events
            .iter()
            .filter(|(_, count)| count != "0")
            .map(|(number, count)| format!("{number}: {count}"))
            .collect();
        if !waiting.is_empty() {
            line(format_args!("  events that nobody took: {}", waiting.join(", ")));
        }
    }
    text
}

/// The file's text.
#[derive(Debug, Default)]
struct Report(String);

impl Report {
    /// One part, or why there is none.
    fn part<T: std::fmt::Display, E: std::error::Error>(&mut self, name: &str, content: Result<T, E>) {
        let written = match content {
            Ok(content) => writeln!(self.0, "=== {name}\n{content}\n"),
            Err(error) => writeln!(self.0, "=== {name}\n(nothing: {error})\n"),
        };
        written.expect("a String takes any text");
    }
}

#[cfg(test)]
mod tests;
