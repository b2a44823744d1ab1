//! All of the host's memory is searched for a running zone's secrets: each is where it has to be, and nowhere else.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use control_api::Phase;
use gateway::{Keys, Site};
use harness::{Machine, TpmConfig};
use test_bridge::frames::Frame;
use test_bridge::processes::Process;

use super::pin::{pad, type_on};
use crate::artifacts::Artifacts;
use crate::disk::{self, DataDisk};
use crate::secrets::{SIZE, Secrets, disk_key};
use crate::world::{
    BOOT, SOON, START, World, ensure_stopped, fetch_own_page, rectangle, set_policy, switch_off,
    test_machine, wait_until_still, write_disk, zone,
};

const ZONE: &str = "office";
const COLOUR: &str = "green";
/// As long as one can be: no other number is taken for it.
const PIN: &str = "413752960841";

const MEMORY_MIB: u32 = 1536;

/// Long after the end of every reader of the kernel's (RCU).
const WIPED: Duration = Duration::from_secs(3);

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    Pin,
    StretchedPin,
    Secret,
    State,
    Authorization,
    Tunnel,
    Disk,
    Record,
}

/// Where something must be found, and where it may be, too.
type Row = (Name, &'static [&'static str], &'static [&'static str]);

/// The table of SECURITY.md ("Secrets in memory"): while the zone runs.
const RUNNING: [Row; 8] = [
    (Name::Pin, &[], &[]),
    (Name::StretchedPin, &[], &[]),
    (Name::Secret, &[], &[]),
    (Name::State, &["swtpm"], &[]),
    (Name::Authorization, &["keeper", "swtpm"], &[]),
    (Name::Tunnel, &[MEMORY_FILE, "vpnd"], &[]),
    (Name::Disk, &["kernel"], &[]),
    (Name::Record, &[], &[]),
];

/// While it is locked.
const LOCKED: [Row; 8] = [
    (Name::Pin, &[], &[]),
    (Name::StretchedPin, &[], &[]),
    (Name::Secret, &[], &[]),
    (Name::State, &["swtpm"], &[]),
    (Name::Authorization, &["swtpm"], &[]),
    (Name::Tunnel, &[MEMORY_FILE, "vpnd"], &[]),
    (Name::Disk, &[], &[]),
    (Name::Record, &[], &[]),
];

/// Holders that are no process: memory that nobody has, a page that a processor keeps for its next user, and one that somebody
/// took before it could be said whose it was.
const FREE_MEMORY: &str = "free";
const NO_FLAG: &str = "no flag";
const USED_AGAIN: &str = "used again";

/// After it was stopped: the kernel empties what it gets back.
const STOPPED: [Row; 8] = [
    (Name::Pin, &[], &[]),
    (Name::StretchedPin, &[], &[]),
    (Name::Secret, &[], &[]),
    (Name::State, &[], &[]),
    (Name::Authorization, &[], &[]),
    (Name::Tunnel, &[], &[]),
    (Name::Disk, &[], &[]),
    (Name::Record, &[], &[]),
];

/// Memory of no process's own: the file in which `keeper` hands the tunnel's key over, and who may have a descriptor of it.
const MEMORY_FILE: &str = "memory file";
const KEY_FILE: &str = "/memfd:key";
const KEY_HOLDERS: [&str; 2] = ["init", "zoned"];

/// Flags of a frame (Documentation/admin-guide/mm/pagemap.rst).
const SLAB: u64 = 1 << 7;
const FREE: u64 = 1 << 10;
const ANONYMOUS: u64 = 1 << 12;
const SWAP_BACKED: u64 = 1 << 14;
const LISTED: u64 = 1 << 5;

fn boot(artifacts: &Artifacts, disk: &Path, tpm: &TpmConfig, keys: Keys) -> anyhow::Result<Machine> {
    let path = artifacts.demo.join("policy.toml");
    let policy = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let network = "network = \"tunnel.office\"";
    ensure!(policy.contains(network), "the demo policy says {network} nowhere");
    let policy = policy
        .replace("demo = true", "demo = false")
        .replace(network, &format!("{network}\nlogin = \"pin\""));
    let mut config = test_machine(artifacts)?;
    config.name = "searched".to_owned();
    set_policy(&mut config, artifacts, &policy)?;
    write_disk(&mut config, disk);
    config.more.extend(harness::memory::arguments(MEMORY_MIB));
    config.memory_mib = MEMORY_MIB;
    config.tpm = Some(tpm.clone());
    if let Some(network) = &mut config.network {
        network.keys = keys;
    }
    let machine = Machine::boot(config).context("boot the host")?;
    machine.zones().wait_until("three zones", machine.within(BOOT), |status| status.zones.len() == 3)?;
    Ok(machine)
}

/// Everything that is known of the zone, and the second sector of its disk.
struct Known {
    secrets: Secrets,
    stretched: [u8; SIZE],
    sector: Vec<u8>,
}

impl Known {
    fn of(artifacts: &Artifacts, disk: &Path, recovery_key: &str) -> anyhow::Result<Self> {
        let read = |path: &str| disk::read(artifacts, disk, path);
        let secrets = Secrets::recovered(ZONE, recovery_key, &read(&format!("/keeper/{ZONE}.recovery"))?)?;
        let stretched = secrets.stretched(PIN, &read(&format!("/keeper/{ZONE}.zone"))?)?;
        let image = read(&format!("/zones/{ZONE}/private.img"))?;
        let sector = image.get(1024..1536).context("the disk is short")?.to_vec();
        Ok(Self { secrets, stretched, sector })
    }

    /// What each secret looks like.
    fn forms(&self) -> Vec<(Name, Vec<u8>)> {
        let digits = PIN.bytes().map(|digit| digit - b'0').collect();
        // A key that is clamped (RFC 7748) has other bits at both ends.
        let tunnel = self.secrets.tunnel.iter().copied().skip(1).take(SIZE - 2).collect();
        vec![
            (Name::Pin, PIN.into()),
            (Name::Pin, digits),
            (Name::StretchedPin, self.stretched.into()),
            (Name::Secret, self.secrets.secret.into()),
            (Name::State, self.secrets.state.into()),
            (Name::Authorization, self.secrets.authorization.into()),
            (Name::Tunnel, tunnel),
            // Of any start: magic number and version.
            (Name::Record, b"BHLR\x01\0\0\0".into()),
        ]
    }
}

/// Where a secret was found.
type Found = BTreeMap<Name, BTreeMap<String, Vec<String>>>;

/// The two halves of the disk's key.
type DiskKey = [[u8; SIZE]; 2];

/// Searches the machine, which stands still meanwhile. The disk's key is told by what it opens; where nothing may open it any
/// more (`closed`) by what it was.
fn search(machine: &Machine, known: &Known, closed: Option<DiskKey>) -> anyhow::Result<(Found, DiskKey)> {
    let memory = machine.memory().context("open the machine's memory")?;
    machine.qmp().hold(machine.within(SOON))?;
    let looked = (|| {
        let keys: BTreeSet<[u8; SIZE]> = memory.aes_keys()?.into_iter().map(|(_, key)| key).collect();
        let keys: Vec<_> = keys.into_iter().collect();
        let opens = disk_key(&keys, &known.sector);
        ensure!(closed.is_none() || opens.is_none(), "a key of AES-256 in memory opens the disk");
        let disk = opens.or(closed);
        let disk = disk.with_context(|| format!("none of {} keys of AES-256 opens the disk", keys.len()))?;
        let mut forms = known.forms();
        forms.extend(disk.map(|half| (Name::Disk, half.to_vec())));
        let needles: Vec<&[u8]> = forms.iter().map(|(_, form)| form.as_slice()).collect();
        let places = memory.find(&needles)?;
        let mut looked: Vec<_> = forms.into_iter().zip(places).collect();
        for ((name, _), places) in &mut looked {
            if *name == Name::Record {
                // Programs hold the same numbers; the zone's name stands in a record only.
                let whole = places.iter().map(|place| Ok((*place, memory.at::<64>(*place)?)));
                let whole = whole.collect::<std::io::Result<Vec<_>>>()?;
                let records = whole.iter().filter(|(_, bytes)| bytes[48..].starts_with(b"office\0\0"));
                *places = records.map(|(place, _)| *place).collect();
            }
        }
        anyhow::Ok((looked, disk))
    })();
    machine.qmp().go_on(machine.within(SOON))?;
    let (looked, disk) = looked.context("search the machine's memory")?;
    let frame = |place: &u64| place / harness::memory::FRAME;
    let wanted: BTreeSet<u64> = looked.iter().flat_map(|(_, places)| places.iter().map(frame)).collect();
    let wanted: Vec<u64> = wanted.into_iter().collect();
    let frames = machine.zones().frames(&wanted, machine.within(START))?;
    let frames: BTreeMap<u64, Frame> = frames.into_iter().map(|frame| (frame.number, frame)).collect();
    let mut found = Found::new();
    for ((name, form), places) in looked {
        for place in places {
            let is_there = memory.at::<SIZE>(place)?.starts_with(&form);
            let frame = frames.get(&frame(&place)).context("a frame without an answer")?;
            let mapping = frame.mappings.first();
            let what = mapping.map_or_else(|| format!("{:x}", frame.flags), |mapping| mapping.name.clone());
            let holders = if is_there { holders(frame) } else { BTreeSet::from([USED_AGAIN.to_owned()]) };
            for holder in holders {
                let place = format!("{place:x} {what}");
                found.entry(name).or_default().entry(holder).or_default().push(place);
            }
        }
    }
    Ok((found, disk))
}

fn program(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// Who has a frame.
fn holders(frame: &Frame) -> BTreeSet<String> {
    let mut holders: BTreeSet<String> = frame
        .mappings
        .iter()
        .map(|mapping| {
            if mapping.name.contains("memfd:guest-memory") {
                return "guest".to_owned();
            }
            program(&mapping.program).to_owned()
        })
        .collect();
    if holders.is_empty() {
        let set = |flag: u64| frame.flags & flag != 0;
        let kernel = if set(FREE) {
            FREE_MEMORY
        } else if frame.flags == 0 {
            NO_FLAG
        } else if set(SLAB) {
            "kernel"
        } else if set(SWAP_BACKED) && !set(ANONYMOUS) {
            MEMORY_FILE
        } else if set(ANONYMOUS) {
            "a process that ended"
        } else if set(LISTED) {
            "file"
        } else {
            "kernel"
        };
        holders.insert(kernel.to_owned());
    }
    holders
}

/// What was found, a line for each secret.
fn shown(found: &Found) -> String {
    let mut text = String::new();
    for (name, holders) in found {
        write!(text, "{name:?}:").expect("a string takes everything");
        for (holder, places) in holders {
            let some: Vec<&str> = places.iter().take(6).map(String::as_str).collect();
            write!(text, " {holder} ({} places: {})", places.len(), some.join(", "))
                .expect("a string takes everything");
        }
        text.push('\n');
    }
    text
}

fn compare(found: &Found, table: [Row; 8]) -> anyhow::Result<()> {
    for (name, must, may) in table {
        let holders: BTreeSet<&str> =
            found.get(&name).into_iter().flat_map(|holders| holders.keys().map(String::as_str)).collect();
        for holder in must {
            ensure!(
                holders.contains(holder),
                "{name:?} is not where it must be, {holder}:\n{}",
                shown(found)
            );
        }
        for holder in &holders {
            let allowed = must.contains(holder) || may.contains(holder);
            ensure!(allowed, "{name:?} is in {holder}:\n{}", shown(found));
        }
    }
    Ok(())
}

pub(super) fn table(world: &mut World) -> anyhow::Result<()> {
    let artifacts = &world.artifacts;
    let disk = DataDisk::new(artifacts, "searched")?;
    disk.copy_micro(artifacts, "micro")?;
    let disk = disk.finish_with(artifacts, 448).context("make the data disk")?;
    let (tpm, keys) = (artifacts.kept_tpm("searched-tpm")?, artifacts.keys()?);

    let machine = boot(artifacts, &disk, &tpm, keys.clone())?;
    let recovery_key = machine.zones().new_recovery_key(machine.within(SOON))?;
    machine.zones().note_recovery_key(&recovery_key, machine.within(SOON))?;
    machine.zones().open(ZONE, PIN, machine.within(SOON)).context("choose a PIN")?;
    machine.zones().wait_for_phase(ZONE, Phase::Running, machine.within(START))?;
    let public =
        zone(&machine, ZONE)?.tunnel.and_then(|tunnel| tunnel.public_key).context("no public key")?;
    ensure_stopped(&machine, ZONE)?;
    switch_off(machine)?;
    let known = Known::of(artifacts, &disk, &recovery_key).context("what the user can know")?;

    // Another boot: nothing of how the keys were made is left.
    let keys = keys.with_client(Site::Office, &public).context("what is shown is no public key")?;
    let machine = boot(artifacts, &disk, &tpm, keys)?;
    let digits = pad(&machine, ZONE, 0, COLOUR)?;
    wait_until_still(&machine, "pad-still", rectangle(digits.words)?)?;
    type_on(&machine, &digits, PIN)?;
    machine.zones().wait_for_phase(ZONE, Phase::Running, machine.within(START))?;
    machine.zones().wait_for_tunnel(ZONE, machine.within(START))?;
    fetch_own_page(&machine, Site::Office)?;
    let (found, disk_key) = search(&machine, &known, None)?;
    std::fs::write(artifacts.logs().join("searched.txt"), shown(&found))?;
    compare(&found, RUNNING)?;
    let processes = machine.zones().processes(machine.within(SOON))?;
    let has = |process: &&Process| process.descriptors.iter().any(|(_, target)| target.starts_with(KEY_FILE));
    let holders: BTreeSet<&str> =
        processes.iter().filter(has).map(|process| program(&process.program)).collect();
    ensure!(holders == BTreeSet::from(KEY_HOLDERS), "the file of the tunnel's key is held by {holders:?}");
    machine.zones().lock(ZONE, machine.within(SOON))?;
    machine.zones().wait_for_phase(ZONE, Phase::Locked, machine.within(START))?;
    let (found, _) = search(&machine, &known, Some(disk_key))?;
    std::fs::write(artifacts.logs().join("searched-locked.txt"), shown(&found))?;
    compare(&found, LOCKED).context("a locked zone")?;
    // On the screen: what comes by the bridge stays in its buffers.
    let digits = pad(&machine, ZONE, 0, COLOUR)?;
    wait_until_still(&machine, "pad-locked", rectangle(digits.words)?)?;
    type_on(&machine, &digits, PIN)?;
    machine.zones().wait_for_phase(ZONE, Phase::Running, machine.within(START))?;
    // The kernel wipes a key that was revoked when it comes to it; nothing tells when.
    machine.serial().pause(WIPED);
    let (found, again) = search(&machine, &known, None).context("an unlocked zone")?;
    ensure!(again == disk_key, "it came back with another key");
    compare(&found, RUNNING).context("an unlocked zone")?;
    super::second_opening::refused(artifacts, &machine, ZONE, &known.secrets.authorization)
        .context("a guest that knows what opens its TPM")?;
    ensure_stopped(&machine, ZONE)?;
    let (found, _) = search(&machine, &known, Some(disk_key))?;
    std::fs::write(artifacts.logs().join("searched-after.txt"), shown(&found))?;
    compare(&found, STOPPED).context("after the zone's end")?;
    // A next `zoned` would need what this one knows.
    let console = machine.serial().since(harness::serial::Place::default());
    ensure!(!console.contains("is not stored"), "zoned's state of a zone is not stored");
    switch_off(machine)?;
    std::fs::remove_file(&disk).context("remove the disk")
}
