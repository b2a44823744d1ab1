//! Runs a selection of the tests in one world, and reports.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use harness::bridge::CallError;
use harness::machine::LookError;
use harness::zones::StateError;

use crate::artifacts::Artifacts;
use crate::plan::Plan;
use crate::registry::Test;
use crate::report::{say, seconds};
use crate::world::{World, evidence};

/// Lines of the console that a failed test shows.
const SHOWN_LINES: usize = 40;

/// How the emulator's fault with patched code looks from outside (docs/decisions/0012), which soaks do not meet in 200
/// resets in a row. On the console of the host:
const EMULATOR_FAULTS: [&str; 2] = ["Oops: int3", "stack guard page was hit"];
/// And as the reason of a zone that failed: its kernel's code is patched as the host's is.
const TRIPLE_FAULT: &str = "The virtual machine failed: triple fault.";

/// So many tests of a run may meet it: two are no chance any more.
const FAULTS: u8 = 1;

/// Runs tests in order; returns the names of those that failed.
///
/// A test whose machine did not answer in time is run once more, on a new machine, and the report says so: an
/// emulated host on a busy computer can lose minutes. So is, once in a run, a test that met a known fault of the emulator
/// ([`EMULATOR_FAULTS`]). What a test found out (a leak, a wrong page) is final.
#[must_use]
pub fn run(artifacts: Artifacts, plan: Plan, tests: &[Test]) -> Vec<&'static str> {
    let mut world = World::new(artifacts, plan);
    let mut failed = Vec::new();
    // Soaks count such faults: there each is final.
    let mut faults_left = if world.plan.soak { 0 } else { FAULTS };
    for test in tests {
        let mut outcome = attempt(&mut world, test);
        let fault = faults_left > 0 && outcome.as_ref().is_err_and(|error| emulator_failed(&world, error));
        faults_left -= u8::from(fault);
        if fault || outcome.as_ref().is_err_and(ran_out_of_time) {
            report(&mut world, test, &outcome, "SECOND TRY");
            outcome = attempt(&mut world, test);
        }
        report(&mut world, test, &outcome, "FAILED");
        if outcome.is_err() {
            failed.push(test.name);
        }
    }
    failed
}

/// One run of one test, with the time it took.
fn attempt(world: &mut World, test: &Test) -> anyhow::Result<Duration> {
    let began = Instant::now();
    // A test of ours that panics must not hide the others; what it left behind is thrown away.
    std::panic::catch_unwind(AssertUnwindSafe(|| (test.run)(world)))
        .unwrap_or_else(|_panic| Err(anyhow::anyhow!("the test itself panicked")))
        .map(|()| began.elapsed())
}

/// The test has no verdict: the machine was not heard of until a deadline. A machine that ended is a verdict.
fn ran_out_of_time(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        matches!(cause.downcast_ref(), Some(CallError::Deadline(_)))
            || matches!(cause.downcast_ref(), Some(StateError::Deadline { .. }))
            || matches!(cause.downcast_ref(), Some(LookError::Deadline { .. }))
    })
}

/// The test met a fault of the emulator, not of what is tested.
fn emulator_failed(world: &World, error: &anyhow::Error) -> bool {
    let console = |machine: &harness::Machine| {
        let said = machine.serial().since(harness::serial::Place::default());
        EMULATOR_FAULTS.iter().any(|fault| said.contains(fault))
    };
    format!("{error:#}").contains(TRIPLE_FAULT) || world.last_machine().is_some_and(console)
}

fn report(world: &mut World, test: &Test, outcome: &anyhow::Result<Duration>, mishap: &str) {
    let kind = test.kind.name();
    let remark = world.take_remark().map(|remark| format!(" ({remark})")).unwrap_or_default();
    match outcome {
        Ok(took) => say(format!("ok     {:>8}  {kind} {}{remark}", seconds(*took), test.name)),
        Err(error) => {
            say(format!("{mishap} {kind} {}{remark}\n       {error:#}", test.name));
            if let Some(machine) = world.last_machine() {
                say(format!("       {}", evidence(machine, &format!("{}: {error:#}", test.name))));
                let (path, tail) = (machine.serial().path().display(), machine.serial().tail(SHOWN_LINES));
                say(format!("--- end of the console ({path} has all) ---\n{tail}\n---"));
            }
            // The next test must not inherit what this one broke.
            world.drop_machines();
        }
    }
}
