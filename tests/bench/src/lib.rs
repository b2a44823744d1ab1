//! Benchmarks: Bulkhead side by side with the named peers, in one run.
//!
//! [`trusted_start`] starts a zone of the booted appliance and says what firmware and TPMs add. [`zone_start`] boots a host in QEMU whose first process ([`inside`], the program `zone_start_launcher`)
//! starts the same zone again and again, by our VMM and by QEMU's machines in turn. [`sample`] is what
//! crosses the console between both halves; [`statistics`] and [`report`] make rows of it.
//!
//! A benchmark never fails because a target is missed: the row says `holds: false` and the exit code stays 0.
//! It never reports a number that was not measured in this run.

pub mod inside;
pub mod report;
pub mod sample;
pub mod statistics;
pub mod trusted_start;
pub mod zone_start;

use std::ffi::OsString;
use std::io::{Write as _, stdout};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use lexopt::Arg::{Long, Short, Value};

pub use trusted_start::trusted_start;
pub use zone_start::zone_start;

/// Rounds when the user says nothing.
const ROUNDS: u32 = 5;

/// Carries a benchmark out, with the folder of everything that was built.
type Measure = fn(&Path, &Options) -> anyhow::Result<()>;

/// Every benchmark, with what it compares.
const BENCHES: &[(&str, &str, Measure)] = &[
    (
        "zone-start",
        "our VMM, QEMU microvm and QEMU q35 start the same zone: time, VM exits, memory, processor",
        zone_start,
    ),
    (
        "trusted-start",
        "a zone of the booted appliance starts: what firmware and TPMs add to the rest",
        trusted_start,
    ),
];

/// What the user asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Request {
    /// The names of the benchmarks.
    List,
    /// Measure: these, all where none is named.
    Measure(Vec<&'static str>, Options),
}

/// How to measure and what to print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How often each contestant starts its zone.
    pub rounds: u32,
    /// The form of the result.
    pub form: Form,
    /// One round of us and the best peer only, and where their exits go.
    pub profile: bool,
}

/// The form of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Table,
    /// One JSON object a row.
    Json,
}

/// `./bulkhead bench`: `--list`, or `[NAME...] [--rounds N] [--json] [--profile]` with the folder of everything that was
/// built.
///
/// # Errors
/// A sentence about a wrong argument, a missing file, or a machine that did not do its part.
pub fn main(build_folder: &Path, arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    match parse(arguments)? {
        Request::List => {
            let mut output = stdout().lock();
            for (name, what, _) in BENCHES {
                writeln!(output, "{name} {what}")?;
            }
        }
        Request::Measure(names, options) => {
            let wanted = |name: &str| names.is_empty() || names.contains(&name);
            for (_, _, measure) in BENCHES.iter().filter(|(name, _, _)| wanted(name)) {
                measure(build_folder, &options)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads the arguments.
fn parse(arguments: &[OsString]) -> anyhow::Result<Request> {
    let mut options = Options { rounds: ROUNDS, form: Form::Table, profile: false };
    let (mut list, mut names) = (false, Vec::new());
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Value(word) => {
                let known: Vec<&str> = BENCHES.iter().map(|(name, _, _)| *name).collect();
                let name = known.iter().find(|name| word == **name);
                let why = || format!("there is no benchmark {word:?}: allowed is {}", known.join(", "));
                names.push(*name.with_context(why)?);
            }
            Long("list") => list = true,
            Long("json") => options.form = Form::Json,
            Long("profile") => options.profile = true,
            Long("rounds") => {
                let word = parser.value()?;
                options.rounds = word
                    .to_str()
                    .and_then(|word| word.parse().ok())
                    .filter(|rounds| *rounds > 0)
                    .with_context(|| format!("--rounds needs a whole number from 1 on, found {word:?}"))?;
            }
            other @ (Long(_) | Short(_)) => {
                bail!("{}; allowed are --list, --json, --profile and --rounds N", other.unexpected())
            }
        }
    }
    Ok(if list { Request::List } else { Request::Measure(names, options) })
}

#[cfg(test)]
mod tests;
