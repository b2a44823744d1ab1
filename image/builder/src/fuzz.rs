//! `bulkhead fuzz`: searches inputs that break a promise, guided by coverage.
//!
//! The engine is libFuzzer in `tests/fuzz`, built by the pinned compiler with its own coverage counters. It works
//! below `build/fuzz/<target>/`; what reaches new code is then merged into the committed corpus, which stays small.
//! An input whose name is not a hash was put there by hand: it stays.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};

use crate::prerequisites;
use crate::programs::{cargo, run, target};
use crate::progress::{self, Step};
use crate::workspace::Workspace;

/// Compiler options that put counters at every edge and report every comparison.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";

/// The engine is built for this machine by name, so that build scripts are built without counters.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Inputs of a target that are kept, and the largest, in bytes.
const KEPT: usize = 48;
const LONGEST: &str = "4095";

/// What the user asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fuzz {
    /// Names of targets; none: all, when `all` is set.
    pub(crate) targets: Vec<OsString>,
    /// Every target.
    pub(crate) all: bool,
    /// Seconds for each target.
    pub(crate) seconds: u64,
}

/// One target's folders.
struct Place {
    name: String,
    committed: PathBuf,
    work: PathBuf,
}

/// Fuzzes one target after the other and prints a line for each.
///
/// # Errors
/// The engine does not build, or a name is no target.
pub(crate) fn fuzz(workspace: &Workspace, fuzz: &Fuzz) -> Result<ExitCode> {
    let places = places(workspace, fuzz)?;
    prerequisites::install_for_fuzzing()?;
    let engine = build(workspace)?;
    let mut broken = false;
    for place in &places {
        fs::create_dir_all(place.work.join("corpus")).context("make the folder of the target")?;
        let before = crashes(place)?.len();
        let log = search(&engine, place, fuzz.seconds)?;
        let found = crashes(place)?.len().saturating_sub(before);
        let clean = account(place, &log, found > 0)?;
        merge(&engine, place)?;
        let result = match (found, log.finished) {
            (0, true) => "clean".to_owned(),
            (0, false) => format!("broke off, see {}", place.work.join("log").display()),
            (found, _) => format!("{found} broken, see {}", place.work.display()),
        };
        broken |= result != "clean";
        progress::say(&format!(
            "{}: {} executions, {} edges, {} s of processor time, {result}; clean for {} s and {} executions",
            place.name, log.executions, log.edges, log.seconds, clean.seconds, clean.executions
        ));
    }
    Ok(if broken { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The chosen targets: each has a folder in the corpus.
fn places(workspace: &Workspace, fuzz: &Fuzz) -> Result<Vec<Place>> {
    let corpus = workspace.source("tests/fuzz/corpus");
    let mut known = BTreeSet::new();
    for folder in fs::read_dir(&corpus).with_context(|| format!("read {}", corpus.display()))? {
        known.insert(folder?.file_name().to_string_lossy().into_owned());
    }
    let list = || known.iter().cloned().collect::<Vec<_>>().join(", ");
    let chosen: Vec<String> = if fuzz.all {
        known.iter().cloned().collect()
    } else {
        fuzz.targets.iter().map(|name| name.to_string_lossy().into_owned()).collect()
    };
    if chosen.is_empty() {
        bail!("name a target or say --all; targets are {}", list());
    }
    if let Some(stranger) = chosen.iter().find(|name| !known.contains(*name)) {
        bail!("{stranger:?} is no target: allowed are {}", list());
    }
    let place = |name: String| {
        let work = workspace.built("fuzz").join(&name);
        Place { committed: corpus.join(&name), work, name }
    };
    Ok(chosen.into_iter().map(place).collect())
}

fn build(workspace: &Workspace) -> Result<PathBuf> {
    let step = Step::begin("building the fuzz targets with coverage");
    let folder = target(workspace).join("fuzz");
    let mut command = cargo(workspace);
    command.args(["build", "--quiet", "--locked", "--package", "fuzz", "--bin", "fuzz_engine"]);
    command.args(["--profile", "fuzz", "--target", TARGET]);
    command.env("RUSTFLAGS", FLAGS).env("CARGO_TARGET_DIR", &folder);
    run(command, "the fuzz targets do not compile")?;
    step.done();
    Ok(folder.join(TARGET).join("fuzz/fuzz_engine"))
}

fn engine(engine: &Path, place: &Place) -> Command {
    let mut command = Command::new(engine);
    command.env("BULKHEAD_FUZZ_TARGET", &place.name).current_dir(&place.work).stdin(Stdio::null());
    command.args([&format!("-max_len={LONGEST}"), "-timeout=30", "-rss_limit_mb=1500"]);
    command
}

/// What a search says of itself.
#[derive(Debug, Default, PartialEq, Eq)]
struct Log {
    executions: u64,
    edges: u64,
    /// Processor time.
    seconds: u64,
    finished: bool,
}

/// Searches for a while.
fn search(program: &Path, place: &Place, seconds: u64) -> Result<Log> {
    let path = place.work.join("log");
    let log = fs::File::create(&path).with_context(|| format!("create {}", path.display()))?;
    let mut command = engine(program, place);
    command.args([format!("-max_total_time={seconds}"), "-artifact_prefix=./".to_owned()]);
    command.args(["-print_final_stats=1", "-reload=0", "-len_control=5"]);
    command.arg("corpus").arg(&place.committed).stderr(log).stdout(Stdio::null());
    let before = time_of_children()?;
    let status = command.status().context("start the engine")?;
    let seconds = time_of_children()?.saturating_sub(before) / TICKS;
    let text = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
    Ok(Log { finished: status.success(), seconds, ..read_log(&text) })
}

/// Ticks of a second in /proc (proc_pid_stat(5); the same on every machine that runs Bulkhead).
const TICKS: u64 = 100;

/// Processor time of all children that ended, in ticks.
fn time_of_children() -> Result<u64> {
    let text = fs::read_to_string("/proc/self/stat").context("read /proc/self/stat")?;
    // The second field is a name in parentheses; 16 and 17 are the children's times.
    let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    Ok(fields.skip(13).take(2).filter_map(|field| field.parse::<u64>().ok()).sum())
}

/// Adds a search to the time that the target was clean; something broken begins it anew.
fn account(place: &Place, log: &Log, broken: bool) -> Result<Log> {
    let path = place.work.join("clean");
    let text = fs::read_to_string(&path).unwrap_or_default();
    let mut words = text.split_whitespace().map(|word| word.parse::<u64>().unwrap_or(0));
    let (seconds, executions) = (words.next().unwrap_or(0), words.next().unwrap_or(0));
    let clean = if broken {
        Log::default()
    } else {
        let executions = executions.saturating_add(log.executions);
        Log { seconds: seconds.saturating_add(log.seconds), executions, ..Log::default() }
    };
    fs::write(&path, format!("{} {}\n", clean.seconds, clean.executions)).context("write what was clean")?;
    Ok(clean)
}

/// Reads libFuzzer's output: `#123 NEW cov: 45 ft: 67 ...`, and its statistics at the end.
fn read_log(text: &str) -> Log {
    let mut log = Log::default();
    for line in text.lines() {
        if let Some(count) = line.strip_prefix("stat::number_of_executed_units:") {
            log.executions = count.trim().parse().unwrap_or(log.executions);
        }
        let after = line.split_once("cov: ").and_then(|(_, rest)| rest.split(' ').next());
        log.edges = after.and_then(|edges| edges.parse().ok()).unwrap_or(log.edges);
    }
    log
}

/// Inputs that broke something: libFuzzer names them so.
fn crashes(place: &Place) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(&place.work)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if ["crash-", "timeout-", "oom-", "leak-"].iter().any(|prefix| name.starts_with(prefix)) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Makes the committed corpus the smallest selection, of all inputs, that reaches most.
fn merge(program: &Path, place: &Place) -> Result<()> {
    let control = place.work.join("merge");
    let empty = place.work.join("merged");
    if empty.exists() {
        fs::remove_dir_all(&empty).context("empty the folder for the merge")?;
    }
    fs::create_dir_all(&empty).context("make the folder for the merge")?;
    if control.exists() {
        fs::remove_file(&control).context("remove the last merge")?;
    }
    let mut command = engine(program, place);
    command.args(["-merge=1", "-merge_control_file=merge"]);
    command.arg("merged").arg(&place.committed).arg("corpus");
    let status = command.stderr(Stdio::null()).stdout(Stdio::null()).status().context("start the engine")?;
    if !status.success() {
        bail!("the inputs of {} cannot be merged: try it by hand in {}", place.name, place.work.display());
    }
    let text = fs::read_to_string(&control).context("read what the merge found")?;
    let all = read_merge(&text);
    let mut contents = Vec::new();
    for path in select(&all, KEPT) {
        let path = place.work.join(path);
        contents.push((path.file_name().unwrap_or_default().to_owned(), fs::read(&path)?));
    }
    for entry in fs::read_dir(&place.committed)? {
        let entry = entry?;
        if is_hash(&entry.file_name().to_string_lossy()) {
            fs::remove_file(entry.path())?;
        }
    }
    for (name, bytes) in contents {
        fs::write(place.committed.join(name), bytes)?;
    }
    Ok(())
}

fn is_hash(name: &str) -> bool {
    name.len() == 40 && name.chars().all(|c| c.is_ascii_hexdigit())
}

/// An input and what it reaches.
#[derive(Debug, PartialEq, Eq)]
struct Reach {
    path: PathBuf,
    size: u64,
    edges: BTreeSet<u32>,
}

/// Reads the control file of a merge: a count of files, a count of them to be kept, the files, then for each
/// `STARTED number size`, `FT number ...` and `COV number ...`.
fn read_merge(text: &str) -> Vec<Reach> {
    let mut lines = text.lines();
    let count: usize = lines.next().and_then(|line| line.trim().parse().ok()).unwrap_or(0);
    let _already_kept = lines.next();
    let paths = lines.by_ref().take(count);
    let mut all: Vec<Reach> =
        paths.map(|path| Reach { path: path.into(), size: 0, edges: BTreeSet::new() }).collect();
    for line in lines {
        let mut words = line.split(' ');
        let kind = words.next().unwrap_or_default();
        let index = words.next().and_then(|word| word.parse::<usize>().ok());
        let Some(reach) = index.and_then(|index| all.get_mut(index)) else { continue };
        match kind {
            "STARTED" => reach.size = words.next().and_then(|word| word.parse().ok()).unwrap_or(0),
            // Features are edges with how often they were passed, so they tell more than edges.
            "FT" => reach.edges.extend(words.filter_map(|word| word.parse::<u32>().ok())),
            _ => {}
        }
    }
    all
}

/// At most `most` inputs that reach as much as possible, chosen one by one; of two equal ones the smaller.
fn select(all: &[Reach], most: usize) -> Vec<&Path> {
    let mut reached = BTreeSet::new();
    let mut kept: Vec<&Path> = Vec::new();
    while kept.len() < most {
        let gain = |reach: &&Reach| reach.edges.difference(&reached).count();
        let best = all.iter().max_by_key(|reach| (gain(reach), std::cmp::Reverse(reach.size)));
        let Some(best) = best.filter(|best| gain(best) > 0) else { break };
        reached.extend(&best.edges);
        kept.push(&best.path);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_tells_executions_and_edges() {
        let text = "#2\tINITED cov: 7 ft: 8 corp: 1/1b\n#9\tDONE   cov: 12 ft: 20\n\
                    stat::number_of_executed_units: 905\n";
        assert_eq!(read_log(text), Log { executions: 905, edges: 12, ..Log::default() });
    }

    #[test]
    fn a_merge_keeps_few_inputs_that_reach_all() {
        let text =
            "3\n0\na\nb\nc\nSTARTED 0 5\nFT 0 1 2\nCOV 0 1\nSTARTED 1 9\nFT 1 1 2 3\nSTARTED 2 4\nFT 2 9\n";
        let all = read_merge(text);
        assert_eq!(all.len(), 3);
        assert_eq!(select(&all, 9), [Path::new("b"), Path::new("c")]);
        assert_eq!(select(&all, 1), [Path::new("b")]);
    }

    #[test]
    fn a_child_s_time_is_counted() {
        let before = time_of_children().unwrap();
        let busy = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
        assert!(Command::new("sh").args(["-c", busy]).status().unwrap().success());
        assert!(time_of_children().unwrap() > before);
    }

    #[test]
    fn names_given_by_hand_are_no_hashes() {
        assert!(is_hash("c144337b8052d3a68b323efa8bce60a670bc69b0"));
        assert!(!is_hash("too-many-descriptors"));
    }
}
