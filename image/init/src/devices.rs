//! Device files that services are given, opened afresh for each start.

use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;

/// The display.
const CARD: &str = "/dev/dri/card0";
/// Bytes of one `struct input_event`.
const EVENT: usize = 24;
const EV_KEY: u16 = 1;
const KEY_POWER: u16 = 116;

fn open(path: &str) -> anyhow::Result<OwnedFd> {
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).context("flag")?;
    let file = OpenOptions::new().read(true).write(true).custom_flags(nonblocking).open(path);
    Ok(file.with_context(|| format!("open {path}"))?.into())
}

/// Whether the desktop can start.
pub(crate) fn desktop_ready() -> bool {
    Path::new(CARD).exists() && input_names().is_ok_and(|inputs| inputs.iter().any(|(_, power)| !power))
}

/// `card0`, `input0`, ...
pub(crate) fn for_desktop() -> anyhow::Result<Vec<(String, OwnedFd)>> {
    let mut descriptors = vec![("card0".to_owned(), open(CARD)?)];
    for (name, _) in input_names()?.iter().filter(|(_, power)| !power) {
        let number = descriptors.len() - 1;
        descriptors.push((format!("input{number}"), open(&format!("/dev/input/{name}"))?));
    }
    Ok(descriptors)
}

/// The power buttons: init's own.
pub(crate) fn power_buttons() -> anyhow::Result<Vec<OwnedFd>> {
    let names = input_names()?;
    names.iter().filter(|(_, power)| *power).map(|(name, _)| open(&format!("/dev/input/{name}"))).collect()
}

/// Event devices in the order of their numbers, and whether each is a power button.
fn input_names() -> anyhow::Result<Vec<(String, bool)>> {
    let folder = Path::new("/sys/class/input");
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).context("list input devices")? {
        let name = entry?.file_name().into_string().unwrap_or_default();
        let Some(number) = name.strip_prefix("event").and_then(|number| number.parse::<u32>().ok()) else {
            continue;
        };
        let label = std::fs::read_to_string(folder.join(&name).join("device/name")).unwrap_or_default();
        found.push((number, (name, label.trim() == "Power Button")));
    }
    found.sort();
    Ok(found.into_iter().map(|(_, device)| device).collect())
}

/// Whether the power key goes down in these events.
pub(crate) fn power_pressed(events: &[u8]) -> bool {
    events.chunks_exact(EVENT).any(|event| {
        let word = |place: usize| event.get(place..place + 2).map(|bytes| [bytes[0], bytes[1]]);
        word(16) == Some(EV_KEY.to_ne_bytes())
            && word(18) == Some(KEY_POWER.to_ne_bytes())
            && word(20) == Some(1_u16.to_ne_bytes())
    })
}

/// The port of the tests: `port`.
pub(crate) fn for_test_bridge() -> anyhow::Result<Vec<(String, OwnedFd)>> {
    for entry in std::fs::read_dir("/sys/class/virtio-ports").context("list virtio ports")? {
        let entry = entry?;
        let name = std::fs::read_to_string(entry.path().join("name")).unwrap_or_default();
        if name.trim() == "org.bulkhead.test" {
            let path = format!("/dev/{}", entry.file_name().to_string_lossy());
            let file = OpenOptions::new().read(true).write(true).open(&path);
            return Ok(vec![("port".to_owned(), file.with_context(|| format!("open {path}"))?.into())]);
        }
    }
    anyhow::bail!("no virtio port is named org.bulkhead.test")
}

/// The kernel's account of memory, for `zoned`, which sees no /proc.
pub(crate) fn memory_state() -> anyhow::Result<OwnedFd> {
    Ok(std::fs::File::open("/proc/meminfo").context("open /proc/meminfo")?.into())
}

/// /dev/kvm.
pub(crate) fn kvm() -> anyhow::Result<OwnedFd> {
    let file = OpenOptions::new().read(true).write(true).open("/dev/kvm");
    Ok(file.context("open /dev/kvm")?.into())
}

#[cfg(test)]
mod tests;
