//! Where a start's exits and time go: the kernel's own histograms of what KVM and system calls did.
//!
//! Counting slows the start down, so that these starts are no samples.

use std::path::Path;

use anyhow::Context as _;
use rustix::mount::MountFlags;

use crate::sample::Counted;

use super::system;

/// Where the kernel traces.
const TRACING: &str = "/sys/kernel/tracing";

/// What is counted: the title of the histogram, the event, and its keys.
const HISTOGRAMS: &[(&str, &str, &str)] = &[
    ("exits by reason", "kvm/kvm_exit", "hist:keys=exit_reason"),
    ("emulated memory: type, address", "kvm/kvm_mmio", "hist:keys=type,gpa.hex:size=8192"),
    ("ports: write, port", "kvm/kvm_pio", "hist:keys=rw,port.hex"),
    ("CPUID: leaf, index", "kvm/kvm_cpuid", "hist:keys=function.hex,index.hex:size=8192"),
    ("model registers: write, number", "kvm/kvm_msr", "hist:keys=write,ecx.hex"),
    ("control registers: write, number", "kvm/kvm_cr", "hist:keys=rw,cr"),
    ("host interrupts: vector", "irq_vectors/local_timer_entry", "hist:keys=common_pid"),
    ("page faults of guest memory: error", "kvm/kvm_page_fault", "hist:keys=error_code.hex"),
];

/// Counting of everything in [`HISTOGRAMS`].
pub(super) struct Profile(());

impl Profile {
    /// Begins counting.
    pub(super) fn begin() -> anyhow::Result<Self> {
        if !Path::new(TRACING).join("events").is_dir() {
            system::attach("tracefs", TRACING, "tracefs", MountFlags::empty())?;
        }
        for (_, event, keys) in HISTOGRAMS {
            set(event, keys)?;
        }
        Ok(Self(()))
    }

    /// What was counted, most frequent first, and ends counting.
    pub(super) fn end(self) -> anyhow::Result<Vec<Counted>> {
        let mut all = Vec::new();
        for (title, event, keys) in HISTOGRAMS {
            let path = Path::new(TRACING).join("events").join(event).join("hist");
            let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            let mut rows: Vec<(u32, String)> = text.lines().filter_map(row).collect();
            rows.sort_by(|one, other| other.cmp(one));
            all.extend(rows.into_iter().map(|(count, what)| Counted {
                title: (*title).to_owned(),
                what,
                count,
            }));
            set(event, &format!("!{keys}"))?;
        }
        Ok(all)
    }
}

/// Writes one event's trigger.
fn set(event: &str, trigger: &str) -> anyhow::Result<()> {
    let path = Path::new(TRACING).join("events").join(event).join("trigger");
    std::fs::write(&path, trigger).with_context(|| format!("{trigger} to {}", path.display()))
}

/// One line of a histogram: `{ exit_reason: npf } hitcount: 833`.
fn row(line: &str) -> Option<(u32, String)> {
    let (keys, rest) = line.strip_prefix('{')?.split_once('}')?;
    let count = rest.trim().strip_prefix("hitcount:")?.trim().parse().ok()?;
    Some((count, keys.split_whitespace().collect::<Vec<_>>().join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_from_the_kernels_text() {
        let text =
            "# event histogram\n\n{ type:          2, gpa: e0080004 } hitcount:         12\n\nTotals:\n";
        let rows: Vec<_> = text.lines().filter_map(row).collect();
        assert_eq!(rows, [(12, "type: 2, gpa: e0080004".to_owned())]);
    }
}
