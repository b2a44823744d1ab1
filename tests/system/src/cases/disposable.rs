//! A disposable zone: what it writes is nowhere, and gone.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use harness::Machine;

use crate::artifacts::Artifacts;
use crate::disk::DataDisk;
use crate::world::{BOOT, SOON, START, World, ensure_running, ensure_stopped, set_policy, test_machine};

/// What the disposable zone writes, what an ordinary one does, and what lies on the data disk in clear.
const SECRET: &str = "BULKHEAD-WRITTEN-BY-A-DISPOSABLE-ZONE";
const SEALED: &str = "BULKHEAD-WRITTEN-BY-AN-ORDINARY-ZONE";
const PLAIN: &str = "BULKHEAD-A-TEXT-THAT-NOBODY-HIDES";

/// Bytes of noise that the check writes beside its text.
const WRITTEN: u64 = 16 << 20;

const POLICY: &str = r#"
schema = 1
version = 1
name = "Disposable"

[zone.once]
colour = "red"
template = "micro"
memory = "128 MiB"
vcpus = 1
disk = "64 MiB"
disposable = true
network = "none"

[zone.kept]
colour = "green"
template = "micro"
memory = "128 MiB"
vcpus = 1
disk = "64 MiB"
network = "none"
"#;

/// The data disk in MiB: as small as it may be, because all of it is searched, three times.
const DISK: u32 = 320;
/// Nothing takes space for so long: then nothing will.
const STILL: Duration = Duration::from_secs(3);

/// A data disk that keeps what is written, removed at the end.
struct Disk(PathBuf);

impl Disk {
    fn new(artifacts: &Artifacts) -> anyhow::Result<Self> {
        let disk = DataDisk::new(artifacts, "disposable")?;
        let folder = disk.copy_micro(artifacts, "micro")?;
        std::fs::write(folder.join("note"), PLAIN).context("leave a note")?;
        Ok(Self(disk.finish_with(artifacts, DISK).context("make the data disk")?))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

fn boot(artifacts: &Artifacts, disk: &Path) -> anyhow::Result<Machine> {
    let mut config = test_machine(artifacts)?;
    config.name = "disposable".to_owned();
    set_policy(&mut config, artifacts, POLICY)?;
    // The harness's own disk forgets what is written; this one is looked at.
    config.data_disk = None;
    let drive = format!("if=none,id=kept,format=raw,discard=unmap,file={}", disk.display());
    config.more = ["-drive", &drive, "-device", "virtio-blk-pci,drive=kept"].map(Into::into).to_vec();
    config.network = None;
    Machine::boot(config).context("boot the host")
}

/// Free space, once nothing takes any: the guest's file system goes on with its tables after it was made.
fn settled_space(machine: &Machine) -> anyhow::Result<u64> {
    let deadline = machine.within(START);
    let mut last = space(machine)?;
    loop {
        machine.serial().pause(STILL);
        let now = space(machine)?;
        if now == last {
            return Ok(now);
        }
        ensure!(Instant::now() < deadline, "the zone takes more and more space: {now} bytes free");
        last = now;
    }
}

pub(super) fn leaves_nothing(world: &mut World) -> anyhow::Result<()> {
    let disk = Disk::new(&world.artifacts)?;
    let mut machine = boot(&world.artifacts, &disk.0)?;
    machine.zones().wait_until("two zones", machine.within(BOOT), |status| status.zones.len() == 2)?;
    ensure_running(&machine, "kept")?;
    home(&machine, "kept", &["write", SEALED])?;
    let before = settled_space(&machine)?;

    ensure_running(&machine, "once")?;
    home(&machine, "once", &["write", SECRET])?;
    let names = home(&machine, "once", &["list"])?;
    ensure!(names.contains("marker") && names.contains("noise"), "/home holds {names:?}");
    let with = space(&machine)?;
    ensure!(with + WRITTEN <= before, "{with} bytes free, {before} before: nothing was written");
    ensure!(mapped(&machine)? == 2, "a disk is no mapped device");
    ensure!(contains(&disk.0, PLAIN)?, "the look at the disk does not even find what lies there in clear");
    for text in [SECRET, SEALED] {
        ensure!(!contains(&disk.0, text)?, "{text} is on the disk while the zones run");
    }

    ensure_stopped(&machine, "once")?;
    let deadline = machine.within(SOON);
    // The kernel gives space back when it comes to it; nothing tells when.
    while space(&machine)? + (1 << 20) < before {
        ensure!(Instant::now() < deadline, "{} bytes free, {before} before", space(&machine)?);
        std::thread::park_timeout(Duration::from_millis(200));
    }
    ensure!(mapped(&machine)? == 1, "a mapped device is left");
    let groups = machine.zones().files("/sys/fs/cgroup", machine.within(SOON))?;
    let left = |zone: &str| groups.iter().any(|entry| entry.path == format!("/sys/fs/cgroup/{zone}"));
    ensure!(!left("zone-0") && left("zone-1"), "groups of zones that run, and no others");
    ensure!(!contains(&disk.0, SECRET)?, "the text is on the disk after the zone's end");

    ensure_running(&machine, "once")?;
    let names = home(&machine, "once", &["list"])?;
    ensure!(names.trim() == "lost+found", "a new start's /home holds {names:?}");

    // The machine ends with the disk in use: it does not hold up the data disk.
    machine.zones().power_off(machine.within(SOON))?;
    let deadline = machine.within(START);
    machine.wait_for_end(deadline).context("the host did not power off in time")?;
    let console = machine.serial().tail(400);
    ensure!(console.contains("reboot: Power down"), "the host did not end in order:\n{console}");
    ensure!(!console.contains("data disk not released"), "the data disk was still in use");
    Ok(())
}

/// Runs the template's check `home`.
fn home(machine: &Machine, zone: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let result = machine.zones().run_check(zone, "home", arguments, machine.within(2 * SOON))?;
    ensure!(result.passed, "home {arguments:?} in {zone}: {}", result.output);
    Ok(result.output)
}

fn space(machine: &Machine) -> anyhow::Result<u64> {
    Ok(machine.zones().space("/data", machine.within(SOON))?)
}

/// Number of mapped devices on the host.
fn mapped(machine: &Machine) -> anyhow::Result<usize> {
    let devices = machine.zones().files("/dev", machine.within(SOON))?;
    Ok(devices.iter().filter(|entry| entry.path.starts_with("/dev/dm-")).count())
}

/// Whether a file contains a text anywhere.
fn contains(path: &Path, text: &str) -> anyhow::Result<bool> {
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    Ok(search(file, text.as_bytes(), 4 << 20)?)
}

/// Searches a stream for a pattern, a buffer at a time (Horspool's algorithm): where the pattern's last byte would be,
/// the byte that is there says how far the next place is.
fn search(mut source: impl Read, pattern: &[u8], buffer: usize) -> std::io::Result<bool> {
    let mut steps = [pattern.len(); 256];
    for (byte, left) in pattern.iter().zip((1..pattern.len()).rev()) {
        if let Some(step) = steps.get_mut(usize::from(*byte)) {
            *step = left;
        }
    }
    let mut bytes = Vec::new();
    loop {
        let before = bytes.len();
        let more = u64::try_from(buffer).unwrap_or(u64::MAX);
        source.by_ref().take(more).read_to_end(&mut bytes)?;
        let mut end = pattern.len();
        while let Some(last) = end.checked_sub(1).and_then(|at| bytes.get(at)) {
            if bytes.get(end - pattern.len()..end) == Some(pattern) {
                return Ok(true);
            }
            end += steps.get(usize::from(*last)).copied().unwrap_or(1);
        }
        if bytes.len() == before {
            return Ok(false);
        }
        // The pattern may lie across two buffers.
        bytes.drain(..bytes.len().saturating_sub(pattern.len() - 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_wherever_it_lies() {
        let pattern = b"needle-needle";
        for at in 0..200 {
            let mut bytes = vec![b'n'; at];
            assert!(!search(&*bytes, pattern, 16).unwrap());
            bytes.extend_from_slice(pattern);
            for buffer in [1, 7, 16, 64, 1000] {
                assert!(search(&*bytes, pattern, buffer).unwrap(), "at {at}, buffers of {buffer}");
            }
            bytes.pop();
            assert!(!search(&*bytes, pattern, 16).unwrap());
            bytes.extend_from_slice(b"needle-needl");
            assert_eq!(
                search(&*bytes, pattern, 16).unwrap(),
                bytes.windows(13).any(|window| window == pattern)
            );
        }
    }
}
