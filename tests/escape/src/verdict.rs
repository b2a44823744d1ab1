//! What came of an attempt, and whether that is as it should be.

use std::fmt;

/// Error numbers that mean "you may not": EPERM, EACCES, ENOSYS.
const REFUSALS: [i32; 3] = [1, 13, 38];
/// Signals.
const KILLED: i32 = 9;
const FAULT: i32 = 11;
const BAD_CALL: i32 = 31;

/// How a probe ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// By this signal.
    Signal(i32),
    /// With an error of this number.
    Error(i32),
    /// With these words; "done" is the attempt's success.
    Said(String),
}

impl Outcome {
    /// Out of a process's end.
    pub(crate) fn of(signal: Option<i32>, said: &[u8]) -> Self {
        let said = String::from_utf8_lossy(said).trim().to_owned();
        match (signal, said.strip_prefix("errno ").and_then(|number| number.parse().ok())) {
            (Some(signal), _) => Self::Signal(signal),
            (None, Some(number)) => Self::Error(number),
            (None, None) => Self::Said(said),
        }
    }

    /// The attempt did what it wanted.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self, Self::Said(said) if said == "done")
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(signal) => write!(f, "signal {signal}"),
            Self::Error(number) => write!(f, "errno {number}"),
            Self::Said(said) => write!(f, "{said}"),
        }
    }
}

/// Whether an outcome is as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Refused, or granted as the row says.
    AsItShould,
    /// Not refused, or refused in a way that nobody meant.
    Breach,
    /// A row that is meant to allow it does not.
    Missing,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AsItShould => "ok",
            Self::Breach => "BREACH",
            Self::Missing => "MISSING",
        })
    }
}

/// Judges an outcome; `granted`: the row is meant to allow the attempt.
pub(crate) fn judge(attempt: &str, outcome: &Outcome, granted: bool) -> Verdict {
    let refused = match outcome {
        Outcome::Signal(BAD_CALL) => true,
        Outcome::Signal(KILLED) => attempt == "much_memory",
        // The kernel has no door for 32-bit programs at all.
        Outcome::Signal(FAULT) => attempt == "call_of_32_bit",
        Outcome::Error(number) => REFUSALS.contains(number) || also_refused(attempt).contains(number),
        Outcome::Signal(_) | Outcome::Said(_) => false,
    };
    match (granted, outcome.is_done(), refused) {
        (true, true, _) | (false, _, true) => Verdict::AsItShould,
        (true, false, _) => Verdict::Missing,
        (false, _, false) => Verdict::Breach,
    }
}

/// Other errors that are a refusal of this attempt.
fn also_refused(attempt: &str) -> &'static [i32] {
    match attempt {
        // There is nothing of that name in the process's root: ENOENT.
        name if name.starts_with("open_") || name.starts_with("proc_") => &[2],
        // There is no such process in its namespace: ESRCH.
        "tkill" | "tgkill" | "limit_of_victim" | "scheduler_of_victim" => &[3],
        // Nobody listens in its network namespace: ECONNREFUSED.
        "abstract_socket" => &[111],
        // No descriptor can have the program's number: EBADF.
        "execveat" => &[9],
        // EMFILE, EAGAIN, ENOMEM.
        "many_files" => &[24],
        "many_threads" => &[11],
        "much_memory" => &[12],
        _ => &[],
    }
}
