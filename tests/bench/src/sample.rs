//! What the launcher inside the host says on the console, one JSON object a line after [`MARK`].

use serde::{Deserialize, Serialize};

/// Begins each line that is ours: the kernel writes to the same console.
pub const MARK: &str = "BENCH ";

/// Parameter on the host's kernel command line: the number of rounds.
pub const ROUNDS_PARAMETER: &str = "bench.rounds=";

/// Parameter on the host's kernel command line: not 0 for a profile instead of rounds.
pub const PROFILE_PARAMETER: &str = "bench.profile=";

/// How many idle zones run side by side for [`Footprint::EighthIdle`].
pub const CROWD: u32 = 8;

/// Who starts the zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contestant {
    /// Our VMM.
    Ours,
    /// QEMU's `microvm` with devices on virtio-mmio, found through ACPI.
    MicrovmMmio,
    /// QEMU's `microvm` with devices on PCIe.
    MicrovmPcie,
    /// QEMU's `q35`.
    Q35,
}

impl Contestant {
    /// All of them; each round begins with another one.
    pub const ALL: [Self; 4] = [Self::Ours, Self::MicrovmMmio, Self::MicrovmPcie, Self::Q35];

    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "bulkhead vmm",
            Self::MicrovmMmio => "QEMU microvm (virtio-mmio)",
            Self::MicrovmPcie => "QEMU microvm (pcie)",
            Self::Q35 => "QEMU q35",
        }
    }
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Line {
    /// How a contestant is run; one line each, before the first round.
    Contestant {
        /// Who.
        who: Contestant,
        /// Version, as the program says it.
        version: String,
        /// Its command line.
        command: String,
    },
    /// One start.
    Sample {
        /// Number of the round, from 0.
        round: u32,
        /// Who.
        who: Contestant,
        /// What was measured.
        measured: Measured,
    },
    /// Memory of a zone whose agent has come.
    Memory {
        /// Of which zone, and what of it.
        what: Footprint,
        /// Who.
        who: Contestant,
        /// Proportional set size, in KiB.
        kib: u32,
    },
    /// Two zones of ours, in microseconds from the first process to the last Hello.
    Pair {
        /// Number of the round, from 0.
        round: u32,
        /// One after the other.
        serial_us: u32,
        /// Together.
        together_us: u32,
    },
    /// Where a start's exits go: one event of it, and how often it came.
    Profile {
        /// Who.
        who: Contestant,
        /// What was counted.
        counted: Counted,
    },
    /// A start without a result.
    Failed {
        /// Number of the round, from 0; the number of rounds for idle zones.
        round: u32,
        /// Who.
        who: Contestant,
        /// Why, with the end of what it wrote.
        reason: String,
    },
    /// Nothing can be measured at all.
    Broken {
        /// Why.
        reason: String,
    },
    /// All rounds are over.
    Done,
}

/// Memory that is looked at once a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Footprint {
    /// The last of [`CROWD`] idle zones: its process, guest memory included.
    EighthIdle,
    /// Every process of a zone, less the guest's memory: ours with a tunnel, the peer without a network.
    WholeZone,
}

impl Footprint {
    /// The name of its row.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::EighthIdle => "eighth-idle-zone",
            Self::WholeZone => "zone-memory",
        }
    }

    /// What ours must not exceed by the peer's.
    #[must_use]
    pub fn target(self) -> Option<f64> {
        match self {
            Self::EighthIdle => None,
            Self::WholeZone => Some(0.2),
        }
    }
}

/// One line of a profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counted {
    /// What its histogram is about.
    pub title: String,
    /// Its keys.
    pub what: String,
    /// How often it came.
    pub count: u32,
}

/// What one start cost, from the start of the process to the agent's Hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// Wall time, in microseconds.
    pub hello_us: u32,
    /// Times that the processor left the guest.
    pub exits: u32,
    /// Of these, for an access to a port.
    pub port_exits: u32,
    /// Of these, for an access to emulated memory.
    pub memory_exits: u32,
    /// Of these, for a page of the guest's memory that the host had not mapped yet, emulated memory included.
    pub fault_exits: u32,
    /// Of these, because the guest waits for an interrupt.
    pub halt_exits: u32,
    /// Of these, because the host got an interrupt.
    pub interrupt_exits: u32,
    /// Proportional set size of the process without the guest's memory, in KiB.
    pub vmm_kib: u32,
    /// Processor time of the process, less its virtual processors, when its guest was first seen to have run, in
    /// microseconds.
    pub before_run_us: u32,
    /// Processor time of the process outside the guest, in milliseconds (the kernel counts it in ticks).
    pub outside_ms: u32,
}

/// Reads a console's text; what is not ours is left out.
///
/// # Errors
/// A line of ours that does not decode.
pub fn read(console: &str) -> serde_json::Result<Vec<Line>> {
    // Kernel and launcher share the console: a line of ours can follow on a started one of the kernel's.
    console
        .lines()
        .filter_map(|line| line.split_once(MARK))
        .map(|(_, text)| serde_json::from_str(text.trim_end()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_survive_a_console() {
        let measured = Measured {
            hello_us: 1,
            exits: 2,
            port_exits: 3,
            memory_exits: 4,
            fault_exits: 5,
            halt_exits: 6,
            interrupt_exits: 7,
            vmm_kib: 8,
            before_run_us: 9,
            outside_ms: 10,
        };
        let lines = [Line::Sample { round: 3, who: Contestant::MicrovmPcie, measured }, Line::Done];
        let mut console = "[    1.2] kernel words\r\n".to_owned();
        for line in &lines {
            console.push_str(&format!("{MARK}{}\r\n", serde_json::to_string(line).unwrap()));
        }
        assert_eq!(read(&console).unwrap(), lines);
        read("BENCH {\"kind\":\"none\"}\n").unwrap_err();
    }
}
