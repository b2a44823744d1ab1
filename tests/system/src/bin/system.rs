//! `system`: what `./bulkhead test` and `./bulkhead run` start once everything is built.
//!
//! `system list` prints one test a line, its name first, then its kind. `system test [--soak] [--seed N] [NAME]...`
//! runs the tests whose name contains one of the names; `--soak` runs random series in full, `--seed` repeats one.
//! `system run ...` starts the demo, see `demo`; `system check-run ...` only says what is wrong with its words.

use std::process::ExitCode;

use anyhow::bail;
use system::artifacts::Artifacts;
use system::plan::Plan;
use system::registry::select;
use system::report::say;
use system::{cases, demo, runner};

fn main() -> ExitCode {
    match dispatch() {
        Ok(code) => code,
        Err(error) => {
            say(format!("bulkhead: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn dispatch() -> anyhow::Result<ExitCode> {
    let mut words = std::env::args().skip(1);
    let verb = words.next().unwrap_or_default();
    let rest: Vec<String> = words.collect();
    match verb.as_str() {
        "list" => {
            for test in cases::ALL {
                say(format!("{} {}", test.name, test.kind.name()));
            }
            Ok(ExitCode::SUCCESS)
        }
        "test" => test(&rest),
        "check-run" => demo::Options::parse(&rest).map(|_| ExitCode::SUCCESS),
        "run" => demo::run(&demo::Options::parse(&rest)?),
        other => bail!("system does {other:?} not: allowed are list, test, check-run and run"),
    }
}

fn test(words: &[String]) -> anyhow::Result<ExitCode> {
    let plan = Plan::parse(words)?;
    let tests = select(cases::ALL, &plan.names);
    if tests.is_empty() {
        bail!("no system test has a name with {:?} in it", plan.names);
    }
    let seed = plan.seed;
    let failed = runner::run(Artifacts::find()?, plan, &tests);
    if failed.is_empty() {
        say(format!("{} system tests passed, seed {seed}", tests.len()));
        return Ok(ExitCode::SUCCESS);
    }
    say(format!(
        "{} of {} system tests failed, seed {seed}: {}",
        failed.len(),
        tests.len(),
        failed.join(", ")
    ));
    Ok(ExitCode::FAILURE)
}
