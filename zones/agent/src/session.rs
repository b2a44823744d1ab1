//! Whether the login session of the zone's user is open, as the agent's root part knows it.
//!
//! The session's program ([`crate::user`]) says so by connecting to [`SOCKET`], for as long as it stays connected. Root
//! reads no byte from it. Who connects is checked by what the kernel says of the process (its user, its control group)
//! and logind of the session: it is open, active, of the user that the login record names, and this process leads it.
//! A program of the same user outside of the session, a service that the user left on the private disk for example, is
//! a stranger.
//!
//! Without the credential that names a user there is no socket, and no session is ever said to be open.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use zone_protocol::login::{USER, is_user};

use crate::kmsg::log;

/// Where the session's program connects. Everybody may: see above.
pub(crate) const SOCKET: &str = "/run/bulkhead/session";

/// Where systemd keeps what it found in SMBIOS, and logind the state of its sessions (sd_session_is_active(3) reads it).
const CREDENTIALS: &str = "/run/credentials/@system";
const SESSIONS: &str = "/run/systemd/sessions";

/// Why a connection says nothing about the session.
#[derive(Debug, thiserror::Error)]
enum Stranger {
    /// The process ended, or logind forgot its session.
    #[error("{0} cannot be read: {1}")]
    Gone(String, io::Error),
    /// The process is in no session of its user.
    #[error("user {uid} in control group {group:?}")]
    Elsewhere { uid: u32, group: String },
    /// The session is not what it should be.
    #[error("session {session} has {key}={found:?}, not {wanted:?}")]
    Session { session: String, key: &'static str, found: String, wanted: String },
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Peer {
    process: i32,
    uid: u32,
}

/// Waits for the session's program, and tells whenever the session opened or ended. Returns when there is nothing to
/// wait for.
pub(crate) fn watch(told: impl FnMut(bool)) {
    let Some(user) = wanted(Path::new(CREDENTIALS)) else { return };
    let error = match listen(Path::new(SOCKET)) {
        Ok(listener) => attend(&listener, |stream| admit(stream, &user), told),
        Err(error) => error,
    };
    log(&format!("the user's session cannot be watched: {error:#}"));
}

/// Whose session is to be opened.
fn wanted(credentials: &Path) -> Option<String> {
    fs::read_to_string(credentials.join(USER)).ok().filter(|name| is_user(name))
}

fn listen(path: &Path) -> anyhow::Result<UnixListener> {
    let folder = path.parent().context("a socket without a folder")?;
    fs::create_dir_all(folder).context("make the socket's folder")?;
    // An agent that was started again finds the socket of the one before.
    drop(fs::remove_file(path));
    let listener = UnixListener::bind(path).context("make the socket")?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o666)).context("open the socket to all")?;
    listener.set_nonblocking(true).context("watch the socket")?;
    Ok(listener)
}

/// Takes connections; returns when that does not work any more.
fn attend(
    listener: &UnixListener,
    admit: impl Fn(&UnixStream) -> Result<(), Stranger>,
    mut told: impl FnMut(bool),
) -> anyhow::Error {
    let (mut current, mut strangers) = (None::<UnixStream>, 0_u64);
    loop {
        let mut watched = vec![PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN)];
        // Its end is always said; what it writes is of no interest.
        watched.extend(
            current.iter().map(|stream| PollFd::from_borrowed_fd(stream.as_fd(), PollFlags::empty())),
        );
        match poll(&mut watched, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return anyhow::Error::from(error).context("wait"),
        }
        if watched.get(1).is_some_and(|session| !session.revents().is_empty()) {
            current = None;
            told(false);
        }
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            // The other end gave up, or there is no room now: neither is worth an end.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => return anyhow::Error::from(error).context("accept"),
        };
        match admit(&stream) {
            Ok(()) => {
                if current.replace(stream).is_none() {
                    told(true);
                }
            }
            Err(reason) => {
                strangers += 1;
                // The first, then at each doubling: anybody in the zone can connect at will.
                if strangers.is_power_of_two() {
                    log(&format!("stranger {strangers} at the session's socket: {reason}"));
                }
            }
        }
    }
}

/// Whether the process at the other end leads the session of this user.
fn admit(stream: &UnixStream, user: &str) -> Result<(), Stranger> {
    let read = |path: String| fs::read_to_string(&path).map_err(|error| Stranger::Gone(path, error));
    let peer = rustix::net::sockopt::socket_peercred(stream)
        .map_err(|error| Stranger::Gone("the peer".to_owned(), error.into()))?;
    let peer = Peer { process: peer.pid.as_raw_nonzero().get(), uid: peer.uid.as_raw() };
    let session = session_of(&read(format!("/proc/{}/cgroup", peer.process))?, peer.uid)?;
    let state = read(format!("{SESSIONS}/{session}"))?;
    verify(&session, &state, peer, user)
}

/// The session in whose control group a process of this user is.
fn session_of(groups: &str, uid: u32) -> Result<String, Stranger> {
    let group = groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default();
    let session = group
        .strip_prefix(&format!("/user.slice/user-{uid}.slice/session-"))
        .and_then(|rest| rest.strip_suffix(".scope"))
        .filter(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric()))
        // Root has its own way to say what it wants.
        .filter(|_| uid != 0);
    session.map(str::to_owned).ok_or_else(|| Stranger::Elsewhere { uid, group: group.to_owned() })
}

/// What logind says of a session.
pub(crate) fn value<'a>(state: &'a str, key: &str) -> &'a str {
    let mut values = state.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    values.next().unwrap_or_default()
}

fn verify(session: &str, state: &str, peer: Peer, user: &str) -> Result<(), Stranger> {
    let (process, uid) = (peer.process.to_string(), peer.uid.to_string());
    for (key, wanted) in [
        ("USER", user),
        ("UID", &uid),
        ("LEADER", &process),
        ("CLASS", "user"),
        ("STATE", "active"),
        ("ACTIVE", "1"),
    ] {
        let found = value(state, key);
        if found != wanted {
            let (found, wanted) = (found.to_owned(), wanted.to_owned());
            return Err(Stranger::Session { session: session.to_owned(), key, found, wanted });
        }
    }
    Ok(())
}

/// The sessions that logind has: name and state.
pub(crate) fn all() -> io::Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(SESSIONS)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            all.push((entry.file_name().to_string_lossy().into_owned(), fs::read_to_string(entry.path())?));
        }
    }
    all.sort();
    Ok(all)
}

/// What systemd found in SMBIOS: names and values.
pub(crate) fn credentials() -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(CREDENTIALS)? {
        let entry = entry?;
        all.push((entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?));
    }
    all.sort();
    Ok(all)
}

#[cfg(test)]
mod tests;
