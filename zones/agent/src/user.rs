//! The part of the agent that runs as the zone's user, inside the user's login session: `agent session`, which
//! `bulkhead-session.service` starts once PAM and logind opened the session.
//!
//! It is where the user's screen will be made. It never runs as root and never outside of a session, it gets nothing
//! from the root part, and it tells that part one thing, by being connected to it: the session is open
//! ([`crate::session`]).

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::session::SOCKET;

/// The word that makes the program this part.
pub(crate) const WORD: &str = "session";

/// How long after a connection that ended another one is made. The root part may be starting again.
const PAUSE: Duration = Duration::from_millis(500);

/// Why this is no session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum NoSession {
    /// It would be root's.
    #[error("this part of the agent does not run as root")]
    Root,
    /// PAM opened none, so logind set nothing.
    #[error("{0} is not set: logind opened no session")]
    Unset(&'static str),
}

/// Runs for as long as the session lasts.
pub(crate) fn run() -> ExitCode {
    let root = rustix::process::geteuid().is_root() || rustix::process::getuid().is_root();
    match check(root, |name| std::env::var_os(name).is_some_and(|value| !value.is_empty())) {
        Ok(()) => stay(),
        Err(error) => {
            // The journal's; there is nobody else to tell.
            drop(writeln!(io::stderr(), "{error}"));
            ExitCode::FAILURE
        }
    }
}

/// Whether this is a session of somebody who is not root.
fn check(root: bool, is_set: impl Fn(&str) -> bool) -> Result<(), NoSession> {
    if root {
        return Err(NoSession::Root);
    }
    let missing = ["XDG_SESSION_ID", "XDG_RUNTIME_DIR", "HOME"].into_iter().find(|name| !is_set(name));
    missing.map_or(Ok(()), |name| Err(NoSession::Unset(name)))
}

/// Stays connected to the root part until this process is ended.
fn stay() -> ExitCode {
    loop {
        if let Ok(stream) = UnixStream::connect(SOCKET) {
            let _ = wait(Some(&stream), None);
        }
        let pause = Timespec::try_from(PAUSE).ok();
        if let Err(error) = wait(None, pause.as_ref()) {
            drop(writeln!(io::stderr(), "wait: {error}"));
            return ExitCode::FAILURE;
        }
    }
}

/// Waits for the end of a connection, or for some time.
fn wait(stream: Option<&UnixStream>, timeout: Option<&Timespec>) -> Result<(), Errno> {
    let watched = stream.map(|stream| PollFd::from_borrowed_fd(stream.as_fd(), PollFlags::IN));
    match poll(&mut watched.into_iter().collect::<Vec<_>>(), timeout) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_runs_in_a_session_of_a_user_only() {
        assert_eq!(check(false, |_| true), Ok(()));
        assert_eq!(check(true, |_| true), Err(NoSession::Root));
        for name in ["XDG_SESSION_ID", "XDG_RUNTIME_DIR", "HOME"] {
            assert_eq!(check(false, |set| set != name), Err(NoSession::Unset(name)));
        }
    }
}
