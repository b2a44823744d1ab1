//! Runs a selection of the tests in one world, and reports.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use crate::artifacts::Artifacts;
use crate::registry::Test;
use crate::report::{say, seconds};
use crate::world::World;

/// Lines of the console that a failed test shows.
const SHOWN_LINES: usize = 40;

/// Runs tests in order; returns the names of those that failed.
#[must_use]
pub fn run(artifacts: Artifacts, tests: &[Test]) -> Vec<&'static str> {
    let mut world = World::new(artifacts);
    let mut failed = Vec::new();
    for test in tests {
        let began = Instant::now();
        // A test of ours that panics must not hide the others; what it left behind is thrown away.
        let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| (test.run)(&mut world)))
            .unwrap_or_else(|_panic| Err(anyhow::anyhow!("the test itself panicked")));
        let took = seconds(began.elapsed());
        match outcome {
            Ok(()) => say(format!("ok     {:>8}  {} {}", took, test.kind.name(), test.name)),
            Err(error) => {
                say(format!("FAILED {:>8}  {} {}\n       {error:#}", took, test.kind.name(), test.name));
                if let Some((path, tail)) = world.console(SHOWN_LINES) {
                    say(format!("--- end of the console ({} has all) ---\n{tail}\n---", path.display()));
                }
                // The next test must not inherit what this one broke.
                world.drop_machine();
                failed.push(test.name);
            }
        }
    }
    failed
}
