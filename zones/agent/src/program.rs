//! Programs of the template that the agent runs: checks, with limits on time and output.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, kill_process_group};

/// The most output that is kept, in bytes.
pub(crate) const MAX_OUTPUT: usize = 32 * 1024;

/// Why a program did not say whether its check holds.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// No such program, or not executable.
    #[error("{path}: {source}")]
    Start { path: String, source: io::Error },
    /// It could not be watched.
    #[error("watch a check")]
    Watch(#[source] io::Error),
}

/// Runs a program to its end or to the deadline: whether it succeeded, and what it printed.
///
/// # Errors
/// [`RunError`].
pub(crate) fn run(path: &Path, arguments: &[String], patience: Duration) -> Result<(bool, String), RunError> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| RunError::Watch(error.into()))?;
    let other = write.try_clone().map_err(RunError::Watch)?;
    let mut child = Command::new(path)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(write)
        .stderr(other)
        .process_group(0)
        .spawn()
        .map_err(|source| RunError::Start { path: path.display().to_string(), source })?;
    let (mut output, ended) = capture(read, Instant::now() + patience);
    if !ended {
        kill_group(&child);
        output.push_str("\n(stopped: too much output or too slow)");
    }
    let status = child.wait().map_err(RunError::Watch)?;
    Ok((ended && status.success(), output))
}

fn kill_group(child: &Child) {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(group) = group {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// Reads until the end, the limit or the deadline; `true` when it was the end.
fn capture(pipe: OwnedFd, deadline: Instant) -> (String, bool) {
    let mut pipe = File::from(pipe);
    let mut output = Vec::new();
    let mut bytes = [0_u8; 4096];
    let ended = loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).ok();
        let mut watched = [PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN)];
        match poll(&mut watched, timeout.as_ref()) {
            Ok(0) => break false,
            Err(rustix::io::Errno::INTR) => continue,
            Ok(_) | Err(_) => {}
        }
        match pipe.read(&mut bytes) {
            Ok(0) | Err(_) => break true,
            Ok(count) => output.extend_from_slice(bytes.get(..count).unwrap_or_default()),
        }
        if output.len() > MAX_OUTPUT {
            break false;
        }
    };
    (cut(&output), ended)
}

/// Text of at most [`MAX_OUTPUT`] bytes.
pub(crate) fn cut(bytes: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(bytes.get(..MAX_OUTPUT).unwrap_or(bytes)).into_owned();
    text.truncate(text.floor_char_boundary(MAX_OUTPUT));
    text
}

/// Asks the zone's own init to power off.
///
/// # Errors
/// It has none that we know.
pub(crate) fn power_off_by_system() -> io::Result<()> {
    let status = Command::new("systemctl").arg("poweroff").status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(status.to_string())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, patience: Duration) -> (bool, String) {
        run(Path::new("/bin/sh"), &["-c".to_owned(), script.to_owned()], patience).unwrap()
    }

    #[test]
    fn output_and_result_come_back() {
        let patience = Duration::from_secs(20);
        assert_eq!(shell("echo out; echo err >&2", patience), (true, "out\nerr\n".to_owned()));
        assert_eq!(shell("echo no; exit 3", patience), (false, "no\n".to_owned()));
        let missing = run(Path::new("/nowhere"), &[], patience).unwrap_err().to_string();
        assert_eq!(missing, "/nowhere: No such file or directory (os error 2)");
    }

    #[test]
    fn a_program_without_end_is_stopped() {
        let (passed, output) = shell("echo begun; sleep 1000 & wait", Duration::from_millis(300));
        assert!(!passed && output.starts_with("begun\n"), "{output}");
        let (passed, output) = shell("yes", Duration::from_secs(20));
        assert!(!passed && output.len() < MAX_OUTPUT + 100);
    }
}
