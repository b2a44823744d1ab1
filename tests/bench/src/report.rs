//! Rows of a result, as a table or as JSON.

mod pair;

use std::io::{self, Write};

use serde::Serialize;

use crate::sample::{Contestant, Footprint, Line, Measured};
use crate::statistics::{Ratio, median, ratio};

/// With fewer rounds an interval says nothing, and no target holds.
pub const FEWEST_ROUNDS: usize = 3;

/// A quantity, and the ratio to each peer that is wanted of it.
struct Metric {
    name: &'static str,
    unit: &'static str,
    value: fn(&Measured) -> f64,
    target: Option<f64>,
}

/// What is measured, with DESIGN.md's "Numbers to hold".
const METRICS: &[Metric] = &[
    Metric {
        name: "exec-to-hello",
        unit: "ms",
        value: |measured| f64::from(measured.hello_us) / 1000.0,
        target: Some(0.9),
    },
    Metric {
        name: "vm-exits",
        unit: "count",
        value: |measured| f64::from(measured.exits),
        target: Some(1.0 / 3.0),
    },
    Metric {
        name: "vm-exits-port",
        unit: "count",
        value: |measured| f64::from(measured.port_exits),
        target: None,
    },
    Metric {
        name: "vm-exits-mmio",
        unit: "count",
        value: |measured| f64::from(measured.memory_exits),
        target: None,
    },
    Metric {
        name: "vm-exits-fault",
        unit: "count",
        value: |measured| f64::from(measured.fault_exits),
        target: None,
    },
    Metric {
        name: "vm-exits-halt",
        unit: "count",
        value: |measured| f64::from(measured.halt_exits),
        target: None,
    },
    Metric {
        name: "vm-exits-interrupt",
        unit: "count",
        value: |measured| f64::from(measured.interrupt_exits),
        target: None,
    },
    Metric {
        name: "vmm-memory",
        unit: "KiB",
        value: |measured| f64::from(measured.vmm_kib),
        target: Some(1.0 / 20.0),
    },
    Metric {
        name: "cpu-before-run",
        unit: "ms",
        value: |measured| f64::from(measured.before_run_us) / 1000.0,
        target: Some(0.1),
    },
    Metric { name: "vmm-cpu", unit: "ms", value: |measured| f64::from(measured.outside_ms), target: None },
];

/// One comparison with one peer. Against several peers each row stands for itself: a number holds when all
/// its rows do, which is when it holds against the best peer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Name of the benchmark.
    pub bench: &'static str,
    /// What was measured.
    pub metric: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// Our median.
    pub ours: f64,
    /// The peer's median.
    pub peer: f64,
    /// Who the peer is.
    pub peer_version: String,
    /// Ours by the peer's; less is better.
    pub ratio: Option<f64>,
    /// What the ratio must not exceed.
    pub target: Option<f64>,
    /// Whether it does not, with the whole 95 % interval over [`FEWEST_ROUNDS`] or more; `None` without a target.
    pub holds: Option<bool>,
    /// The ratio's interval.
    #[serde(skip)]
    pub interval: Option<(f64, f64)>,
}

/// Makes the rows of everything that was sampled. A peer without samples has no row.
#[must_use]
pub fn rows(bench: &'static str, lines: &[Line]) -> Vec<Row> {
    let mut rows = Vec::new();
    for metric in METRICS {
        for peer in Contestant::ALL.into_iter().filter(|who| *who != Contestant::Ours) {
            let rounds = rounds(lines, peer, metric.value);
            let side = |pick: fn(&(f64, f64)) -> f64| median(&rounds.iter().map(pick).collect::<Vec<_>>());
            let (Some(ours), Some(theirs)) = (side(|round| round.0), side(|round| round.1)) else { continue };
            let found: Option<Ratio> = ratio(&rounds);
            rows.push(Row {
                bench,
                metric: metric.name,
                unit: metric.unit,
                ours,
                peer: theirs,
                peer_version: version(lines, peer),
                ratio: found.map(|found| found.value),
                target: metric.target,
                holds: metric.target.map(|target| {
                    rounds.len() >= FEWEST_ROUNDS && found.is_some_and(|found| found.high <= target)
                }),
                interval: found.map(|found| (found.low, found.high)),
            });
        }
    }
    rows.extend(
        [Footprint::EighthIdle, Footprint::WholeZone]
            .into_iter()
            .filter_map(|what| memory_row(bench, lines, what)),
    );
    rows.extend(pair::row(bench, lines));
    rows
}

/// Memory that was looked at once of each, if both were seen: one value, so there is no interval.
fn memory_row(bench: &'static str, lines: &[Line], what: Footprint) -> Option<Row> {
    let of = |wanted: Contestant| {
        lines.iter().find_map(|line| match line {
            Line::Memory { what: found, who, kib } if *found == what && *who == wanted => {
                Some(f64::from(*kib))
            }
            Line::Memory { .. }
            | Line::Contestant { .. }
            | Line::Sample { .. }
            | Line::Pair { .. }
            | Line::Profile { .. }
            | Line::Failed { .. }
            | Line::Broken { .. }
            | Line::Done => None,
        })
    };
    let (ours, peer) = (of(Contestant::Ours)?, of(Contestant::MicrovmMmio)?);
    let ratio = (peer > 0.0).then(|| ours / peer);
    let target = what.target();
    Some(Row {
        bench,
        metric: what.name(),
        unit: "KiB",
        ours,
        peer,
        peer_version: version(lines, Contestant::MicrovmMmio),
        ratio,
        target,
        holds: target.map(|target| ratio.is_some_and(|ratio| ratio <= target)),
        interval: None,
    })
}

/// The values of the rounds in which both came to a result.
fn rounds(lines: &[Line], peer: Contestant, value: fn(&Measured) -> f64) -> Vec<(f64, f64)> {
    let of = |wanted_round: u32, wanted: Contestant| {
        lines.iter().find_map(|line| match line {
            Line::Sample { round, who, measured } if *round == wanted_round && *who == wanted => {
                Some(value(measured))
            }
            Line::Contestant { .. }
            | Line::Sample { .. }
            | Line::Memory { .. }
            | Line::Pair { .. }
            | Line::Failed { .. }
            | Line::Profile { .. }
            | Line::Broken { .. }
            | Line::Done => None,
        })
    };
    let all: std::collections::BTreeSet<u32> = lines
        .iter()
        .filter_map(|line| if let Line::Sample { round, .. } = line { Some(*round) } else { None })
        .collect();
    all.into_iter().filter_map(|round| Some((of(round, Contestant::Ours)?, of(round, peer)?))).collect()
}

/// A contestant's name with the version that it said of itself.
fn version(lines: &[Line], wanted: Contestant) -> String {
    let said = lines.iter().find_map(|line| {
        if let Line::Contestant { who, version, .. } = line {
            (*who == wanted).then_some(version)
        } else {
            None
        }
    });
    format!("{}, {}", wanted.name(), said.map_or("version unknown", String::as_str))
}

/// Writes one JSON object a row.
///
/// # Errors
/// What the writer reports.
pub fn json(rows: &[Row], output: &mut dyn Write) -> io::Result<()> {
    for row in rows {
        writeln!(output, "{}", serde_json::to_string(row)?)?;
    }
    Ok(())
}

/// Writes a table, how the contestants were run, and what went wrong.
///
/// # Errors
/// What the writer reports.
pub fn table(rows: &[Row], lines: &[Line], output: &mut dyn Write) -> io::Result<()> {
    let number = |value: f64| {
        if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.1}") }
    };
    let heads = ["metric", "unit", "ours", "peer", "peer version", "ratio (95 %)", "target", "holds"];
    let mut cells: Vec<[String; 8]> = vec![heads.map(str::to_owned)];
    for row in rows {
        let ratio = match (row.ratio, row.interval) {
            (Some(ratio), Some((low, high))) => format!("{ratio:.3} ({low:.3}..{high:.3})"),
            (Some(ratio), None) => format!("{ratio:.3}"),
            _ => "-".to_owned(),
        };
        let holds = match row.holds {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "-",
        };
        cells.push([
            row.metric.to_owned(),
            row.unit.to_owned(),
            number(row.ours),
            number(row.peer),
            row.peer_version.clone(),
            ratio,
            row.target.map_or_else(|| "-".to_owned(), |target| format!("<= {target:.3}")),
            holds.to_owned(),
        ]);
    }
    let widths: [usize; 8] = std::array::from_fn(|column| {
        cells.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0)
    });
    for row in &cells {
        let padded: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(output, "{}", padded.join("  ").trim_end())?;
    }
    writeln!(output)?;
    for line in lines {
        match line {
            Line::Contestant { who, command, .. } => writeln!(output, "{}: {command}", who.name())?,
            Line::Failed { round, who, reason } => {
                writeln!(output, "round {round}, {}: no result: {reason}", who.name())?;
            }
            Line::Profile { who, counted } => {
                writeln!(output, "{}: {}: {} {}", who.name(), counted.title, counted.count, counted.what)?;
            }
            Line::Sample { .. }
            | Line::Memory { .. }
            | Line::Pair { .. }
            | Line::Broken { .. }
            | Line::Done => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
