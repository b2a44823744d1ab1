//! What a start hands to a zone's system: the credentials of its login record, which the zone's firmware writes as
//! SMBIOS strings (systemd's smbios-type-11(7)).
//!
//! In `debian`, Debian's own parts read them: systemd-sysusers makes the user's account, with a locked password,
//! systemd-tmpfiles its first home, and PID 1 takes a drop-in that says whose session `bulkhead-session.service` opens;
//! without [`USER`] that unit does not start. The agent's first process reads [`KEEP`] in every template; other
//! templates leave the rest alone.
//!
//! None of it is secret, and there is no token: root of the zone can read SMBIOS for as long as the zone runs, and
//! whoever says to the agent that the session is open is known by what the kernel and logind say of its process, which
//! no value that it holds could better.
//!
//! The names go into files of several formats, so they are checked here again, whatever the policy checked.

use crate::keep;

/// The credential with the user's name.
pub const USER: &str = "bulkhead.user";

/// The credential with the folders that are kept ([`keep::value`]).
pub const KEEP: &str = "bulkhead.keep";

/// The user's number in every zone: what lies on a private disk stays its own.
pub const UID: u32 = 1000;

/// The longest name of a user.
pub const LONGEST_USER: usize = 31;

/// Credentials of systemd-sysusers, systemd-tmpfiles and of systemd's generator for drop-ins.
const ACCOUNT: &str = "sysusers.extra";
const HOME: &str = "tmpfiles.extra";
const SESSION: &str = "systemd.unit-dropin.bulkhead-session.service";

/// One credential: name and value.
pub type Credential = (&'static str, String);

/// A user's name that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name of a user")]
pub struct NoUser(pub String);

/// The credentials of a start: for the session of `user`, when there is to be one, and for the folders of `keep`.
///
/// # Errors
/// [`NoUser`].
pub fn credentials(user: Option<&str>, keep: &[String]) -> Result<Vec<Credential>, NoUser> {
    let mut all = Vec::new();
    if let Some(user) = user {
        if !is_user(user) {
            return Err(NoUser(user.to_owned()));
        }
        all.push((USER, user.to_owned()));
        all.push((ACCOUNT, format!("u {user} {UID} - /home/{user} /bin/bash\n")));
        all.push((HOME, format!("C /home/{user} 0700 {user} {user} - /etc/skel\n")));
        all.push((SESSION, format!("[Service]\nUser={user}\n")));
    }
    if !keep.is_empty() {
        all.push((KEEP, keep::value(keep)));
    }
    Ok(all)
}

/// Whether a text is written as a user's name: `[a-z][a-z0-9-]{0,30}`.
#[must_use]
pub fn is_user(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|byte| byte.is_ascii_lowercase())
        && text.len() <= LONGEST_USER
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

#[cfg(test)]
mod tests;
