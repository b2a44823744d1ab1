//! The check `session`: what the zone's own system says of the user's login session, and where credentials went.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zone_protocol::login::{KEEP, USER};

use crate::program::cut;
use crate::session::{all, credentials, value};

/// What of a session logind is asked for.
const SHOWN: [&str; 9] = ["Name", "User", "Type", "Class", "Active", "State", "Leader", "Service", "Scope"];

/// What of the program's environment is shown.
const VARIABLES: &[&str] = &["HOME", "USER", "XDG_RUNTIME_DIR", "XDG_SESSION_ID", "XDG_SESSION_TYPE"];

/// How long logind may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A line of a credential that is shorter than this stands in every log.
const SHORTEST: usize = 10;

/// Runs it; it holds when a session of the class `user` is there.
pub(super) fn run() -> Result<(bool, String), String> {
    let mut text = String::new();
    match describe(&mut text) {
        Ok(found) => Ok((found, cut(text.as_bytes()))),
        Err(error) => Err(format!("{error}: {text}")),
    }
}

fn describe(text: &mut String) -> io::Result<bool> {
    let mut found = false;
    for (name, state) in all()? {
        let (user, class) = (value(&state, "USER"), value(&state, "CLASS"));
        line(text, &format!("session {name} of {user}, class {class}"))?;
        if class == "user" {
            found = true;
            of_session(text, &name, &state)?;
        }
    }
    for entry in fs::read_to_string("/etc/shadow")?.lines() {
        let mut fields = entry.split(':');
        let (name, password) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        // An empty one opens without any; a locked one begins with what no hash begins with.
        let locked = password.starts_with(['!', '*']);
        line(text, &format!("password of {name}: {}", if locked { "locked" } else { "usable" }))?;
    }
    leaks(text)?;
    Ok(found)
}

fn of_session(text: &mut String, name: &str, state: &str) -> io::Result<()> {
    let shown = SHOWN.map(|property| format!("--property={property}"));
    let arguments: Vec<String> =
        ["show-session".to_owned(), name.to_owned()].into_iter().chain(shown).collect();
    let (_, said) = crate::program::run(Path::new("/usr/bin/loginctl"), &arguments, PATIENCE)
        .map_err(|error| io::Error::other(error.to_string()))?;
    for property in said.lines() {
        line(text, &format!("logind {property}"))?;
    }
    let process = Path::new("/proc").join(value(state, "LEADER"));
    let program = fs::read(process.join("cmdline"))?;
    line(text, &format!("program {}", String::from_utf8_lossy(&program).replace('\0', " ").trim_end()))?;
    let status = fs::read_to_string(process.join("status"))?;
    for key in ["Uid:", "Gid:", "Groups:", "CapEff:"] {
        let found = status.lines().find(|line| line.starts_with(key)).unwrap_or_default();
        line(text, &format!("program {}", found.split_whitespace().collect::<Vec<_>>().join(" ")))?;
    }
    line(text, &format!("program group {}", fs::read_to_string(process.join("cgroup"))?.trim_end()))?;
    for entry in fs::read(process.join("environ"))?.split(|byte| *byte == 0) {
        let entry = String::from_utf8_lossy(entry);
        if entry.split_once('=').is_some_and(|(name, _)| VARIABLES.contains(&name)) {
            line(text, &format!("program {entry}"))?;
        }
    }
    for entry in fs::read_dir(process.join("fd"))? {
        line(text, &format!("descriptor {}", fs::read_link(entry?.path())?.display()))?;
    }
    let home = Path::new("/home").join(value(state, "USER"));
    let (own, disk, root) = (fs::metadata(&home)?, fs::metadata("/home")?, fs::metadata("/")?);
    let place = if own.dev() == disk.dev() && own.dev() != root.dev() { "private" } else { "fresh" };
    let (owner, mode) = (own.uid(), own.mode() & 0o7777);
    line(text, &format!("home {} of {owner}, mode {mode:o}, on the {place} disk", home.display()))
}

/// Where values of credentials are that they should not be. The user's name is none that anybody hides.
fn leaks(text: &mut String) -> io::Result<()> {
    let mut wanted = Vec::new();
    for (name, value) in credentials()? {
        line(text, &format!("credential {name}"))?;
        if name != USER {
            wanted.extend(needles(&value));
        }
    }
    let command_line = fs::read_to_string("/proc/cmdline")?;
    // Where the folders stood once: not even their name is there.
    let on_it = count(&command_line, &wanted) + count(&command_line, &[KEEP.to_owned()]);
    line(text, &format!("command line: {on_it} values"))?;
    let mut journal = Command::new("/usr/bin/journalctl")
        .args(["--no-pager", "--quiet", "--boot", "--output=cat"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = journal.stdout.take().ok_or_else(|| io::Error::other("the journal says nothing"))?;
    let (mut lines, mut values) = (0_u64, 0);
    for entry in BufReader::new(output).split(b'\n') {
        let entry = entry?;
        let entry = String::from_utf8_lossy(&entry);
        lines += 1;
        let found = count(&entry, &wanted);
        values += found;
        if found > 0 {
            line(text, &format!("journal says: {entry}"))?;
        }
    }
    journal.wait()?;
    line(text, &format!("journal: {values} values in {lines} lines"))
}

/// What a log would hold of a value: its lines, and how it stood in SMBIOS.
fn needles(value: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(value);
    let lines = text.lines().filter(|line| line.len() >= SHORTEST).map(str::to_owned);
    lines.chain([STANDARD.encode(value)]).collect()
}

fn count(text: &str, wanted: &[String]) -> usize {
    wanted.iter().filter(|value| text.contains(value.as_str())).count()
}

fn line(text: &mut String, line: &str) -> io::Result<()> {
    writeln!(text, "{line}").map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_as_it_is_and_as_it_stood_in_smbios() {
        let wanted = needles(b"[Service]\nUser=annabella\n");
        assert_eq!(wanted, ["User=annabella", "W1NlcnZpY2VdClVzZXI9YW5uYWJlbGxhCg=="]);
        assert_eq!(count("set User=annabella", &wanted), 1);
        assert_eq!(count("x=W1NlcnZpY2VdClVzZXI9YW5uYWJlbGxhCg==", &wanted), 1);
        assert_eq!(count("[Service] annabella", &wanted), 0);
    }
}
