//! What follows a build: checks of the source, and the runner of `tests/system` for what boots a machine.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};

use crate::arguments::Test;
use crate::programs::{cargo, run, target};
use crate::progress::{self, Step};
use crate::workspace::Workspace;

/// Hands over to the runner: `run` or `test`, with the built files in its environment.
pub(crate) fn machine(workspace: &Workspace, verb: &str, arguments: &[OsString]) -> Result<ExitCode> {
    let mut command = runner(workspace)?;
    command.arg(verb).args(arguments);
    let status = command.status().context("start the runner")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Hands over to the benchmarks.
pub(crate) fn bench(workspace: &Workspace, arguments: &[OsString]) -> Result<ExitCode> {
    let mut build = cargo(workspace);
    build.args(["build", "--quiet", "--locked", "--package", "bench", "--bin", "bench"]);
    run(build, "the benchmarks do not compile")?;
    let mut command = Command::new(target(workspace).join("debug/bench"));
    command.env("BULKHEAD_BUILD", workspace.built("")).args(arguments);
    let status = command.status().context("start the benchmarks")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The runner's program, built, with the place of everything that a machine boots from.
fn runner(workspace: &Workspace) -> Result<Command> {
    let mut build = cargo(workspace);
    build.args(["build", "--quiet", "--locked", "--package", "system", "--bin", "system"]);
    run(build, "the runner of the system tests does not compile")?;
    let mut command = Command::new(target(workspace).join("debug/system"));
    command.env("BULKHEAD_BUILD", workspace.built(""));
    Ok(command)
}

/// Cases that a property test tries in a soak; otherwise proptest's own 256.
const SOAK_CASES: &str = "20000";

/// What CI runs, in the order in which a mistake shows soonest. Tests chosen by name run without the lints.
pub(crate) fn test(
    workspace: &Workspace,
    test: &Test,
    build: impl FnOnce(&Workspace) -> Result<()>,
) -> Result<ExitCode> {
    if test.names.is_empty() {
        let step = Step::begin("format and lints");
        let mut format = cargo(workspace);
        format.args(["fmt", "--all", "--check"]);
        run(format, "the source is not formatted: cargo fmt --all")?;
        let mut lints = cargo(workspace);
        lints.args(["clippy", "--quiet", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"]);
        run(lints, "clippy found something")?;
        step.done();
    }
    let step = Step::begin("unit and property tests");
    let mut units = cargo(workspace);
    units.args(["test", "--quiet", "--locked", "--workspace", "--no-fail-fast", "--"]).args(&test.names);
    if test.soak {
        units.env("PROPTEST_CASES", SOAK_CASES);
    }
    run(units, "a unit or property test failed")?;
    step.done();
    let wanted = |name: &str| test.names.iter().any(|part| name.contains(&*part.to_string_lossy()));
    if !test.names.is_empty() && !system_tests(workspace)?.iter().any(|(name, _)| wanted(name)) {
        return Ok(ExitCode::SUCCESS);
    }
    build(workspace)?;
    let mut arguments = test.names.clone();
    arguments.extend(test.soak.then(|| "--soak".into()));
    arguments.extend(test.seed.iter().flat_map(|seed| ["--seed".into(), seed.clone()]));
    machine(workspace, "test", &arguments)
}

/// Prints every test: its name, then its kind.
pub(crate) fn list(workspace: &Workspace) -> Result<ExitCode> {
    let mut tests = unit_tests(workspace)?;
    tests.extend(system_tests(workspace)?);
    let mut output = std::io::stdout().lock();
    for (name, kind) in tests {
        // A closed pipe (`| head`) ends the list.
        if writeln!(output, "{name} {kind}").is_err() {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn unit_tests(workspace: &Workspace) -> Result<Vec<(String, String)>> {
    let mut command = cargo(workspace);
    command.args(["test", "--quiet", "--locked", "--workspace", "--", "--list", "--format=terse"]);
    let output = command.stderr(Stdio::inherit()).output().context("start cargo")?;
    if !output.status.success() {
        bail!("the tests do not compile (the messages above say where)");
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut tests = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_suffix(": test") {
            tests.push((name.to_owned(), unit_kind(name).to_owned()));
        }
    }
    Ok(tests)
}

/// A unit test's kind is said by its name.
fn unit_kind(name: &str) -> &'static str {
    let last = name.rsplit("::").next().unwrap_or(name);
    if name.contains("native") {
        "native-kvm"
    } else if last.starts_with("replay") {
        "fuzz-replay"
    } else if last.starts_with("property") || name.contains("random") || name.contains("hostile") {
        "property"
    } else {
        "unit"
    }
}

fn system_tests(workspace: &Workspace) -> Result<Vec<(String, String)>> {
    let output = runner(workspace)?.arg("list").output().context("start the runner")?;
    let text = String::from_utf8(output.stdout).context("the runner's list is no text")?;
    Ok(text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
        .collect())
}

/// Asks `policyctl`.
pub(crate) fn policy(workspace: &Workspace, arguments: &[OsString]) -> Result<ExitCode> {
    let mut command = cargo(workspace);
    command.args(["run", "--quiet", "--locked", "--package", "policyctl", "--"]).args(arguments);
    let status = command.status().context("start cargo")?;
    if !status.success() {
        progress::say("bulkhead: the policy was not accepted");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
