//! What trust costs a start: firmware, the zone's TPM and the machine's, measured beside the rest of the same start.
//!
//! A zone of the demonstration is started again and again on the test image, by `zoned`, with everything that a user has: jails, the
//! machine's TPM (swtpm), an encrypted disk. `zoned` says where each start's time went (`zones/zoned/src/steps.rs`). What
//! a start without trust would need is its direct part: making processes, loading kernel and initrd, and the guest from its
//! kernel's first tick to the agent's word.

use std::io::{Write, stderr, stdout};
use std::path::Path;

use anyhow::{Context, ensure};
use control_api::Phase;
use harness::Machine;
use serde::Serialize;
use system::artifacts::Artifacts;
use system::world::{SOON, START, boot_test_machine, ensure_stopped};

use crate::report::{FEWEST_ROUNDS, Row};
use crate::statistics::{median, ratio};
use crate::{Form, Options};

/// Name of this benchmark.
const NAME: &str = "trusted-start";
/// One without a network: no tunnel is waited for.
const ZONE: &str = "vault";
/// What trust may add, as a part of the direct start (DESIGN.md, "Numbers to hold").
const TARGET: f64 = 0.25;

/// Milliseconds of each part of a start.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Parts {
    opening: f64,
    loading: f64,
    tpm: f64,
    disk: f64,
    firmware: f64,
    guest: f64,
}

/// A part's name, whether a start without trust has it, too, and its value.
type Part = (&'static str, bool, fn(&Parts) -> f64);

/// Every part.
const PARTS: [Part; 6] = [
    ("the machine's TPM unseals", false, |parts| parts.opening),
    ("processes, kernel and initrd", true, |parts| parts.loading),
    ("the zone's TPM measures and opens", false, |parts| parts.tpm),
    ("the disk is opened", false, |parts| parts.disk),
    ("firmware", false, |parts| parts.firmware),
    ("kernel to agent", true, |parts| parts.guest),
];

impl Parts {
    /// Reads `zoned`'s line.
    fn read(line: &str) -> Option<Self> {
        let part = |name: &str| -> Option<f64> {
            let (_, rest) = line.split_once(&format!(" {name}_ms="))?;
            rest.split_whitespace().next()?.parse().ok()
        };
        Some(Self {
            opening: part("opening")?,
            loading: part("loading")?,
            tpm: part("tpm")?,
            disk: part("disk")?,
            firmware: part("firmware")?,
            guest: part("guest")?,
        })
    }

    /// What a start without trust has, or what trust adds.
    fn sum(&self, direct: bool) -> f64 {
        PARTS.iter().filter(|(_, part, _)| *part == direct).map(|(_, _, value)| value(self)).sum()
    }
}

/// Measures and prints.
///
/// # Errors
/// A file is missing, or the machine did not do its part.
pub fn trusted_start(_build_folder: &Path, options: &Options) -> anyhow::Result<()> {
    let artifacts = Artifacts::find()?;
    let machine = boot_test_machine(&artifacts).context("boot the host")?;
    // The first start takes the TPMs into use, and has keys and a disk made.
    let first = start(&machine).context("the first start")?;
    remark(&format!(
        "first start, TPMs taken into use: {:.0} ms direct, {:.0} ms added",
        first.sum(true),
        first.sum(false)
    ));
    let mut rounds = Vec::new();
    for round in 1..=options.rounds {
        let parts = start(&machine).with_context(|| format!("round {round}"))?;
        remark(&format!("round {round}: {:.0} ms direct, {:.0} ms added", parts.sum(true), parts.sum(false)));
        rounds.push(parts);
    }
    let rows = [row(&rounds)?];
    let mut output = stdout().lock();
    match options.form {
        Form::Json => crate::report::json(&rows, &mut output),
        Form::Table => {
            crate::report::table(&rows, &[], &mut output).and_then(|()| shown(&rounds, &mut output))
        }
    }
    .context("print the result")
}

/// One start, and the stop behind it.
fn start(machine: &Machine) -> anyhow::Result<Parts> {
    let before = machine.serial().end();
    machine.zones().start(ZONE, machine.within(SOON))?;
    machine.zones().wait_for_phase(ZONE, Phase::Running, machine.within(START))?;
    let end = machine.serial().wait_for_since(before, "it has started", machine.within(SOON))?;
    machine.serial().wait_for_since(end, "guest_ms=", machine.within(SOON))?;
    machine.serial().wait_for_since(end, "\n", machine.within(SOON))?;
    let said = machine.serial().since(before);
    let line =
        said.lines().find(|line| line.contains("it has started")).context("zoned says nothing of it")?;
    let parts = Parts::read(line).with_context(|| format!("zoned said {line:?}"))?;
    ensure_stopped(machine, ZONE)?;
    Ok(parts)
}

fn row(rounds: &[Parts]) -> anyhow::Result<Row> {
    let pairs: Vec<(f64, f64)> = rounds.iter().map(|parts| (parts.sum(false), parts.sum(true))).collect();
    let found = ratio(&pairs).context("no round")?;
    let middle = |direct| median(&rounds.iter().map(|parts| parts.sum(direct)).collect::<Vec<_>>());
    let (ours, peer) = (middle(false).context("no round")?, middle(true).context("no round")?);
    ensure!(peer > 0.0, "a start took no time");
    Ok(Row {
        bench: NAME,
        metric: "trust-adds",
        unit: "ms",
        ours,
        peer,
        peer_version: "our direct start".to_owned(),
        ratio: Some(found.value),
        target: Some(TARGET),
        holds: Some(rounds.len() >= FEWEST_ROUNDS && found.high <= TARGET),
        interval: Some((found.low, found.high)),
    })
}

/// The medians of the parts.
fn shown(rounds: &[Parts], output: &mut dyn Write) -> std::io::Result<()> {
    for (name, direct, value) in PARTS {
        let middle = median(&rounds.iter().map(value).collect::<Vec<_>>()).unwrap_or_default();
        writeln!(output, "{middle:8.0} ms  {} {name}", if direct { "direct" } else { "added " })?;
    }
    writeln!(
        output,
        "\nMedians of {} starts of {ZONE} in one boot, by zoned's own clock. The guest's part is what its kernel says that it ran; \
         `firmware` is the rest from its first instruction on, and so holds what its kernel did before it counted time.",
        rounds.len()
    )
}

/// Writes to standard error: standard output is for the result.
fn remark(text: &str) {
    // A closed terminal hears nothing; the result goes elsewhere.
    let _closed = writeln!(stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "zoned:  INFO zoned::daemon: it has started zone=\"vault\" opening_ms=80 loading_ms=400 tpm_ms=300 \
                        disk_ms=20 firmware_ms=100 guest_ms=1600\r";

    #[test]
    fn a_line_is_read_and_divided() {
        let parts = Parts::read(LINE).unwrap();
        assert_eq!((parts.sum(true), parts.sum(false)), (2000.0, 500.0));
        assert_eq!(Parts::read(&LINE.replace(" tpm_ms", " tmp_ms")), None);
        let found = row(&[parts; 3]).unwrap();
        assert_eq!((found.ratio, found.holds), (Some(0.25), Some(true)));
        assert_eq!(row(&[parts; 2]).unwrap().holds, Some(false));
        assert!(row(&[]).is_err());
    }
}
