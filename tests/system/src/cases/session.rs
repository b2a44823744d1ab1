//! The login session of a zone's user in `debian`: what the zone's own system says of it, by the agent's check `session`.

use std::time::Instant;

use anyhow::{bail, ensure};
use harness::Machine;

use crate::world::SOON;

/// The policy's user; not the one that a policy without the key means.
pub(super) const USER: &str = "anna-2";

/// Seconds of a fast machine from an agent that is there to an open session.
const OPENS: u32 = 60;

/// What the zone says, a line each.
const SAID: &[&str] = &[
    "logind Name=anna-2",
    "logind User=1000",
    "logind Type=wayland",
    "logind Class=user",
    "logind Active=yes",
    "logind State=active",
    "program /usr/lib/bulkhead/agent session",
    "program Uid: 1000 1000 1000 1000",
    "program Gid: 1000 1000 1000 1000",
    "program CapEff: 0000000000000000",
    "program HOME=/home/anna-2",
    "program USER=anna-2",
    "program XDG_RUNTIME_DIR=/run/user/1000",
    "home /home/anna-2 of 1000, mode 700, on the private disk",
    "password of root: locked",
    "password of anna-2: locked",
    "credential bulkhead.user",
    "credential bulkhead.keep",
    "command line: 0 values",
];

/// Descriptors of the session's program: nothing, the journal and the agent's socket; nothing that root opened.
const DESCRIPTORS: [&str; 2] = ["/dev/null", "socket:["];

/// Waits for the session of office's user and looks at it from inside; says when it was open.
pub(super) fn opens(machine: &Machine, begun: Instant) -> anyhow::Result<u64> {
    let zones = machine.zones();
    let open = |state: &control_api::State| state.session.as_deref() == Some(USER);
    zones.wait_until("an open session in office", machine.within(OPENS), |status| {
        status.zones.iter().any(|zone| zone.name == "office" && open(&zone.state))
    })?;
    let after = begun.elapsed().as_secs();
    let status = zones.status(machine.within(SOON))?;
    let others = status.zones.iter().filter(|zone| zone.name != "office");
    ensure!(others.clone().all(|zone| zone.state.session.is_none()), "a session without a zone: {status:?}");
    let check = zones.run_check("office", "session", &[], machine.within(SOON))?;
    let text = check.output;
    ensure!(check.passed, "no session in the zone:\n{text}");
    for line in SAID {
        ensure!(text.lines().any(|said| said == *line), "the zone does not say {line:?}:\n{text}");
    }
    one_session(&text)?;
    for line in text.lines() {
        if let Some(descriptor) = line.strip_prefix("descriptor ") {
            let known = DESCRIPTORS.iter().any(|start| descriptor.starts_with(start));
            ensure!(known, "the session's program holds {descriptor}:\n{text}");
        }
        ensure!(!line.ends_with(": usable"), "somebody has a password:\n{text}");
    }
    ensure!(text.contains("\njournal: 0 values in "), "the journal holds a credential's value:\n{text}");
    Ok(after)
}

/// The user's session is the only one, and the program is in it.
fn one_session(text: &str) -> anyhow::Result<()> {
    let sessions: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("session ")).collect();
    let of_class: Vec<&str> =
        sessions.iter().filter_map(|line| line.strip_suffix(" of anna-2, class user")).collect();
    let [name] = of_class[..] else { bail!("sessions of the class user: {of_class:?}:\n{text}") };
    // Beside it logind lists the user's own service manager.
    ensure!(sessions.iter().all(|line| line.contains(" of anna-2, ")), "sessions of others:\n{text}");
    let place = format!("program group 0::/user.slice/user-1000.slice/session-{name}.scope");
    let variable = format!("program XDG_SESSION_ID={name}");
    for line in [place, variable] {
        ensure!(text.lines().any(|said| said == line), "the zone does not say {line:?}:\n{text}");
    }
    Ok(())
}
