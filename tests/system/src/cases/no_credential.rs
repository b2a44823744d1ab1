//! No session without the credential: a `debian` zone whose system gets nothing of the login record comes up, its agent answers,
//! and nobody is logged in. Its template differs in one word of the command line, with which systemd takes no credentials from
//! SMBIOS; everything else is as in the zone beside it, whose session opens.

use anyhow::{Context, ensure};
use control_api::Phase;
use harness::Machine;
use harness::bridge::CallError;

use crate::artifacts::Artifacts;
use crate::disk::{DataDisk, build_keys, sign_anew};
use crate::world::{BOOT, SOON, World, set_policy, test_machine, zone};

/// Systemd's, in both.
const WORD: &str = "systemd.import_credentials=";
const DEAF: &str = "deaf";
const HEARS: &str = "hears";

/// Seconds of a fast machine in which systemd brings the agent up, and in which the session opens then.
const START: u32 = 90;
const OPENS: u32 = 60;

const POLICY: &str = r#"
schema = 1
version = 1
name = "Credentials"

[zone.deaf]
colour = "red"
template = "deaf"
memory = "768 MiB"
vcpus = 1
disk = "32 MiB"
network = "none"

[zone.hears]
colour = "green"
template = "hears"
memory = "768 MiB"
vcpus = 1
disk = "32 MiB"
network = "none"
"#;

fn boot(artifacts: &Artifacts) -> anyhow::Result<Machine> {
    let (disk, keys) = (DataDisk::new(artifacts, "credentials")?, build_keys(artifacts)?);
    for (name, imports) in [(DEAF, "no"), (HEARS, "yes")] {
        let folder = disk.copy(artifacts, "debian", name)?;
        let named = format!("name = \"{name}\"");
        let word = format!("command_line = \"{WORD}{imports} ");
        sign_anew(&folder, &keys, &[("name = \"debian\"", &named), ("command_line = \"", &word)])?;
    }
    let mut config = test_machine(artifacts)?;
    config.name = "credentials".to_owned();
    set_policy(&mut config, artifacts, POLICY)?;
    config.data_disk = Some(disk.finish_with(artifacts, 1200).context("make the data disk")?);
    config.network = None;
    let machine = Machine::boot(config).context("boot the host")?;
    machine.zones().wait_until("two zones", machine.within(BOOT), |status| status.zones.len() == 2)?;
    Ok(machine)
}

pub(super) fn no_session(world: &mut World) -> anyhow::Result<()> {
    let machine = boot(&world.artifacts)?;
    let zones = machine.zones();
    // The one after the other: the one without a session has been up for longer.
    for name in [DEAF, HEARS] {
        zones.start(name, machine.within(SOON)).with_context(|| format!("start {name}"))?;
        zones.wait_for_phase(name, Phase::Running, machine.within(START))?;
    }
    zones.wait_until("an open session", machine.within(OPENS), |status| {
        status.zones.iter().any(|zone| zone.name == HEARS && zone.state.session.is_some())
    })?;
    ensure!(zone(&machine, DEAF)?.state.session.is_none(), "a session without a credential");
    let said = |name: &str| {
        match zones.run_check(name, "session", &[], machine.within(SOON)) {
            Ok(result) => Ok(result.output),
            // Without any credential the check finds no folder of them, and says what it saw until then.
            Err(CallError::Method { parameters, .. }) => {
                Ok(parameters.get("reason").and_then(|reason| reason.as_str()).unwrap_or_default().to_owned())
            }
            Err(error) => Err(error),
        }
    };
    let (deaf, hears) = (said(DEAF)?, said(HEARS)?);
    let has = |text: &str, part: &str| text.lines().any(|line| line.contains(part));
    for (text, opens) in [(&deaf, false), (&hears, true)] {
        ensure!(has(text, "password of root: locked"), "the check did not look: {text}");
        for part in ["session ", "credential bulkhead.user"] {
            ensure!(has(text, part) == opens, "a session is expected: {opens}; {part:?} in: {text}");
        }
    }
    Ok(())
}
