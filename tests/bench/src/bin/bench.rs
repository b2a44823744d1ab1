//! `bench`: what `./bulkhead bench` starts once everything is built.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let outcome = match std::env::var_os("BULKHEAD_BUILD") {
        Some(build) => bench::main(Path::new(&build), &arguments),
        None => Err(anyhow::anyhow!("BULKHEAD_BUILD is not set: start this program by ./bulkhead bench")),
    };
    outcome.unwrap_or_else(|error| {
        // A closed terminal hears nothing.
        let _closed = writeln!(std::io::stderr(), "bulkhead: {error:#}");
        ExitCode::FAILURE
    })
}
