//! Benchmarks: Bulkhead side by side with the named peers, in one run.
//!
//! [`zone_start`] boots a host in QEMU whose first process ([`inside`], the program `zone_start_launcher`)
//! starts the same zone again and again, by our VMM and by QEMU's machines in turn. [`sample`] is what
//! crosses the console between both halves; [`statistics`] and [`report`] make rows of it.
//!
//! A benchmark never fails because a target is missed: the row says `holds: false` and the exit code stays 0.
//! It never reports a number that was not measured in this run.

pub mod inside;
pub mod report;
pub mod sample;
pub mod statistics;
pub mod zone_start;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use lexopt::Arg::{Long, Short, Value};
use lexopt::ValueExt as _;

pub use zone_start::zone_start;

/// Rounds when the user says nothing.
const ROUNDS: u32 = 5;

/// With fewer, a median says nothing.
const FEWEST_ROUNDS: u32 = 3;

/// How to measure and what to print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How often each contestant starts its zone.
    pub rounds: u32,
    /// The form of the result.
    pub form: Form,
}

/// The form of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Table,
    /// One JSON object a row.
    Json,
}

/// `./bulkhead bench`: `[zone-start] [--rounds N] [--json]`, with the folder of everything that was built.
///
/// # Errors
/// A sentence about a wrong argument, a missing file, or a machine that did not do its part.
pub fn main(build_folder: &Path, arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    let options = parse(arguments)?;
    zone_start(build_folder, &options)?;
    Ok(ExitCode::SUCCESS)
}

/// Reads the arguments.
fn parse(arguments: &[OsString]) -> anyhow::Result<Options> {
    let mut options = Options { rounds: ROUNDS, form: Form::Table };
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Value(name) if name == "zone-start" => {}
            Value(name) => bail!("there is no benchmark {name:?}: allowed is zone-start"),
            Long("json") => options.form = Form::Json,
            Long("rounds") => options.rounds = parser.value()?.parse()?,
            other @ (Long(_) | Short(_)) => {
                bail!("{}; allowed are --json and --rounds N", other.unexpected())
            }
        }
    }
    if options.rounds < FEWEST_ROUNDS {
        bail!("--rounds {}: a median needs at least {FEWEST_ROUNDS}", options.rounds);
    }
    Ok(options)
}

#[cfg(test)]
mod tests;
