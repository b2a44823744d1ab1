//! What a process costs, as the kernel counts it.

use std::collections::VecDeque;
use std::io::Read;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Where KVM counts; with one machine alive the sums are that machine's.
const KVM: &str = "/sys/kernel/debug/kvm";

/// Milliseconds of one tick in /proc/PID/stat (USER_HZ is 100 on x86).
const TICK_MS: u64 = 10;

/// Bytes of output that are kept.
const KEPT: usize = 2000;

/// Exits of all machines.
pub(super) struct Exits {
    pub(super) all: u32,
    pub(super) port: u32,
    pub(super) memory: u32,
    pub(super) fault: u32,
    pub(super) halt: u32,
    pub(super) interrupt: u32,
}

/// How often [`before_run`] looks.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };

/// How the threads of virtual processors are called, ours and QEMU's. A busy host looks late, and they have run the
/// guest by then.
const PROCESSORS: [&str; 2] = ["vcpu", "CPU "];

/// Waits until a process's guest has run, and gives the processor time so far, in microseconds, of the process's threads
/// that are no virtual processors: what it took to get there, and what they did until the look.
pub(super) fn before_run(process: u32, child: BorrowedFd<'_>, deadline: Instant) -> anyhow::Result<u32> {
    while counter("exits")? == 0 {
        ensure!(Instant::now() < deadline, "the guest never ran");
        let mut ended = [PollFd::from_borrowed_fd(child, PollFlags::IN)];
        ensure!(poll(&mut ended, Some(&LOOK))? == 0, "the process ended");
    }
    let mut nanoseconds: u64 = 0;
    for task in std::fs::read_dir(format!("/proc/{process}/task")).context("threads")? {
        let folder = task?.path();
        let name = std::fs::read_to_string(folder.join("comm")).context("name of a thread")?;
        if PROCESSORS.iter().any(|start| name.starts_with(start)) {
            continue;
        }
        let path = folder.join("schedstat");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let first = text.split_whitespace().next().unwrap_or_default();
        nanoseconds += first.parse::<u64>().with_context(|| format!("schedstat {text:?}"))?;
    }
    Ok(u32::try_from(nanoseconds / 1000)?)
}

/// Proportional set size of a process in KiB, with its guest's memory.
pub(super) fn memory(process: u32) -> anyhow::Result<u32> {
    let text = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup")).context("smaps_rollup")?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let value = line.and_then(|value| value.trim().strip_suffix(" kB"));
    value.with_context(|| format!("smaps_rollup {text:?}"))?.trim().parse().context("Pss")
}

/// One of KVM's counters.
fn counter(name: &str) -> anyhow::Result<u32> {
    let path = Path::new(KVM).join(name);
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    text.trim().parse().with_context(|| format!("{name} {text:?}"))
}

/// Reads KVM's counters.
pub(super) fn exits() -> anyhow::Result<Exits> {
    let machines = std::fs::read_dir(KVM)
        .context(KVM)?
        .filter(|entry| entry.as_ref().is_ok_and(|entry| entry.path().is_dir()))
        .count();
    ensure!(machines == 1, "{machines} machines are alive, the counters are of all of them");
    Ok(Exits {
        all: counter("exits")?,
        port: counter("io_exits")?,
        memory: counter("mmio_exits")?,
        fault: counter("pf_taken")?,
        halt: counter("halt_exits")?,
        interrupt: counter("irq_exits")?,
    })
}

/// Proportional set size of a process in KiB, without the mapping of its guest's memory.
pub(super) fn memory_beside(process: u32, guest_kib: u64) -> anyhow::Result<u32> {
    let maps = std::fs::read_to_string(format!("/proc/{process}/smaps")).context("smaps")?;
    let sum = sum_beside(&maps, guest_kib)
        .with_context(|| format!("not exactly one mapping has the guest's {guest_kib} KiB"))?;
    Ok(u32::try_from(sum)?)
}

/// Sums `Pss` over all mappings but the one of the guest's size; `None` unless there is exactly one such.
fn sum_beside(maps: &str, guest_kib: u64) -> Option<u64> {
    let mut guests = 0;
    let mut inside = false;
    let mut sum = 0;
    for line in maps.lines() {
        let Some((key, value)) = line.split_once(':') else { continue };
        let kib = || value.trim().strip_suffix(" kB")?.parse::<u64>().ok();
        match key {
            "Size" => {
                inside = kib()? == guest_kib;
                guests += u32::from(inside);
            }
            "Pss" if !inside => sum += kib()?,
            _ => {}
        }
    }
    (guests == 1).then_some(sum)
}

/// Processor time of a process outside its guest, in milliseconds.
pub(super) fn outside_ms(process: u32) -> anyhow::Result<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).context("stat")?;
    let ticks = outside_ticks(&stat).with_context(|| format!("stat {stat:?}"))?;
    Ok(u32::try_from(ticks * TICK_MS)?)
}

/// Of /proc/PID/stat: user and system time (fields 14 and 15) less guest time (43), which user time includes.
fn outside_ticks(stat: &str) -> Option<u64> {
    // The name, field 2, stands in parentheses and can hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some((field(14)? + field(15)?).saturating_sub(field(43)?))
}

/// The end of what somebody writes, kept by a thread.
#[derive(Clone, Default)]
pub(super) struct Output(Arc<Mutex<VecDeque<u8>>>);

impl Output {
    /// Follows one more stream to its end.
    pub(super) fn follow(&self, mut stream: impl Read + Send + 'static) {
        let kept = Arc::clone(&self.0);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut bytes) {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend(bytes.get(..count).unwrap_or_default());
                let over = kept.len().saturating_sub(KEPT);
                kept.drain(..over);
            }
        });
    }

    /// What is kept now.
    pub(super) fn tail(&self) -> String {
        let bytes: Vec<u8> = self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
        String::from_utf8_lossy(&bytes).trim().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
7f0000000000-7f0010000000 rw-s 00000000 00:01 4 /memfd:guest-memory (deleted)
Size:             262144 kB
KernelPageSize:        4 kB
Pss:               90000 kB
Pss_Dirty:         90000 kB
7f0020000000-7f0020001000 r-xp 00000000 fe:00 12 /bench/vmm
Size:                  4 kB
Pss:                   3 kB
Pss_Dirty:             0 kB
VmFlags: rd ex mr mw me
7f0030000000-7f0030002000 rw-p 00000000 00:00 0 [heap]
Size:                  8 kB
Pss:                   8 kB
";

    #[test]
    fn guest_memory_does_not_count() {
        assert_eq!(sum_beside(MAPS, 262_144), Some(11));
        assert_eq!(sum_beside(MAPS, 131_072), None);
        assert_eq!(sum_beside(&MAPS.repeat(2), 262_144), None);
    }

    #[test]
    fn guest_time_does_not_count() {
        let mut fields: Vec<String> = (3..=52).map(|number| number.to_string()).collect();
        fields[14 - 3] = "100".to_owned();
        fields[15 - 3] = "20".to_owned();
        fields[43 - 3] = "90".to_owned();
        assert_eq!(outside_ticks(&format!("7 (a) b) {}", fields.join(" "))), Some(30));
        assert_eq!(outside_ticks("7 (a) S 1"), None);
    }
}
