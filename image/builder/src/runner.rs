//! What follows a build: checks of the source, and the runner of `tests/system` for what boots a machine.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use rustix::fs::Access;

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

/// Hands over to the benchmarks; `--list` alone needs nothing that they boot.
pub(crate) fn bench(
    workspace: &Workspace,
    arguments: &[OsString],
    build_images: impl FnOnce(&Workspace) -> Result<()>,
) -> Result<ExitCode> {
    if !arguments.iter().any(|word| word == "--list") {
        build_images(workspace)?;
    }
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
        // What is compiled for the machine without an operating system alone.
        let mut lints = cargo(workspace);
        lints.args([
            "clippy",
            "--quiet",
            "--locked",
            "--package",
            "zone_fw",
            "--target",
            "x86_64-unknown-none",
        ]);
        lints.args(["--", "-D", "warnings"]);
        run(lints, "clippy found something in the firmware")?;
        step.done();
    }
    let step = Step::begin("unit, property, replay and native tests");
    let units: Vec<String> = chosen(unit_tests(workspace)?, &test.names);
    let systems: Vec<String> = chosen(system_tests(workspace)?, &test.names);
    if units.is_empty() && systems.is_empty() {
        bail!("no test has a name with {:?} in it: see ./bulkhead test --list", test.names);
    }
    let mut command = cargo(workspace);
    command.args(["test", "--quiet", "--locked", "--workspace", "--no-fail-fast", "--"]).args(&test.names);
    if test.soak {
        command.env("PROPTEST_CASES", SOAK_CASES);
    }
    if let Err(reason) = rustix::fs::access(KVM, Access::READ_OK | Access::WRITE_OK) {
        for name in units.iter().filter(|name| kind(name) == NATIVE) {
            progress::say(&format!("    skipped {name}: {KVM}: {reason}"));
        }
        command.args(["--skip", NATIVE_PREFIX]);
    }
    run(command, "a test failed")?;
    step.done();
    if systems.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    build(workspace)?;
    let mut arguments = test.names.clone();
    arguments.extend(test.soak.then(|| "--soak".into()));
    arguments.extend(test.seed.iter().flat_map(|seed| ["--seed".into(), seed.clone()]));
    machine(workspace, "test", &arguments)
}

/// The names of the tests that the user wants: those with one of `parts` in them, all when there are none.
fn chosen(tests: Vec<(String, String)>, parts: &[OsString]) -> Vec<String> {
    let wanted = |name: &str| parts.iter().any(|part| name.contains(&*part.to_string_lossy()));
    tests.into_iter().map(|(name, _)| name).filter(|name| parts.is_empty() || wanted(name)).collect()
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
            tests.push((name.to_owned(), kind(name).to_owned()));
        }
    }
    Ok(tests)
}

/// What the machine's own KVM is needed for.
const NATIVE: &str = "native-kvm";
const NATIVE_PREFIX: &str = "native_";
const KVM: &str = "/dev/kvm";

/// A test's kind is said by its name; a test of `tests/tidy` keeps the names true.
fn kind(name: &str) -> &'static str {
    let last = name.rsplit("::").next().unwrap_or(name);
    let kinds = [(NATIVE_PREFIX, NATIVE), ("replay_", "fuzz-replay"), ("property_", "property")];
    kinds.into_iter().find(|(prefix, _)| last.starts_with(prefix)).map_or("unit", |(_, kind)| kind)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_read_from_the_last_word_of_a_name() {
        let check = |name: &str, expected: &str| assert_eq!(kind(name), expected, "{name}");
        check("tests::adds", "unit");
        check("property_adds", "property");
        check("a::tests::property_adds", "property");
        check("tests::native_boots", "native-kvm");
        check("replay_block", "fuzz-replay");
        check("property_tests::adds", "unit");
        check("tests::wireguard::replayed_messages_are_refused", "unit");
    }

    #[test]
    fn parts_of_names_choose() {
        let tests = || vec![("leak_a".to_owned(), String::new()), ("touch".to_owned(), String::new())];
        let check = |parts: &[&str], expected: &[&str]| {
            let parts: Vec<OsString> = parts.iter().map(OsString::from).collect();
            assert_eq!(chosen(tests(), &parts), expected);
        };
        check(&[], &["leak_a", "touch"]);
        check(&["leak"], &["leak_a"]);
        check(&["fly"], &[]);
    }
}
