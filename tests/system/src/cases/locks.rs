//! Locked zones, and the display's lock: what is locked opens for its user alone, and loses nothing.

use anyhow::{Context, ensure};
use control_api::Phase;
use desktop_model::pad::PadLayout;
use harness::Machine;
use harness::bridge::CallError;

use super::kept_host::KeptHost;
use super::pin::type_on;
use crate::disk::DataDisk;
use crate::opening::told;
use crate::world::{
    self, SOON, START, World, ensure_running, ensure_stopped, file, last_notice, layout_of, process_of,
    rectangle, service_of, switch_off, wait_for_notice, wait_until_still, zone,
};

const ZONES: &str = r#"
schema = 1
version = 1
name = "Locks"

[zone.guarded]
colour = "green"
template = "micro"
memory = "128 MiB"
vcpus = 1
disk = "32 MiB"
login = "pin"
pin_tries = 4
network = "none"

[zone.free]
colour = "red"
template = "micro"
memory = "128 MiB"
vcpus = 1
disk = "32 MiB"
network = "none"

[zone.once]
colour = "blue"
template = "micro"
memory = "128 MiB"
vcpus = 1
disk = "32 MiB"
disposable = true
network = "none"
"#;

const SCREEN: &str = "[screen]\nlogin = \"pin\"\npin_tries = 3\n";

const PIN: &str = "135790";
const NEW: &str = "24682468";
const WRONG: &str = "000000";

const MINE: &str = "/home/mine";

fn opens(machine: &Machine, name: &str, pin: &str) -> anyhow::Result<()> {
    machine.zones().open(name, pin, machine.within(SOON)).with_context(|| format!("open {name}"))?;
    // Behind a zoned that was started again its agent has to connect once more.
    machine.zones().wait_until("the zone with its agent", machine.within(START), |status| {
        let up = |zone: &control_api::Zone| zone.state.phase == Phase::Running && zone.state.reason.is_none();
        status.zones.iter().any(|zone| zone.name == name && up(zone))
    })?;
    Ok(())
}

fn locks(machine: &Machine, name: &str) -> anyhow::Result<()> {
    machine.zones().lock(name, machine.within(SOON)).with_context(|| format!("lock {name}"))?;
    machine.zones().wait_for_phase(name, Phase::Locked, machine.within(START))?;
    Ok(())
}

/// The sentence of a refusal.
fn refusal(result: Result<(), CallError>) -> anyhow::Result<String> {
    match result {
        Err(CallError::Method { error, parameters, .. }) if error.ends_with(".Refused") => {
            let reason = parameters.get("reason").and_then(|reason| reason.as_str());
            reason.map(str::to_owned).context("a refusal without its reason")
        }
        Ok(()) => anyhow::bail!("it was not refused"),
        Err(error) => Err(error).context("another error than a refusal"),
    }
}

fn put(machine: &Machine, name: &str, text: &str) -> anyhow::Result<()> {
    file(machine, name, &["put", MINE, text])?;
    Ok(())
}

fn has(machine: &Machine, name: &str, text: &str) -> anyhow::Result<()> {
    let found = file(machine, name, &["get", MINE])?;
    ensure!(found == text, "{name} has {found:?} instead of {text:?}");
    Ok(())
}

pub(super) fn zones(world: &mut World) -> anyhow::Result<()> {
    let artifacts = &world.artifacts;
    let disk = DataDisk::new(artifacts, "locks")?;
    disk.copy_micro(artifacts, "micro")?;
    let disk = disk.finish_with(artifacts, 320).context("make the data disk")?;
    let tpm = artifacts.kept_tpm("locks-tpm")?;
    let host = KeptHost { artifacts, name: "locks", policy: ZONES, disk: &disk, tpm };

    let machine = host.boot()?;
    opens(&machine, "guarded", PIN)?;
    ensure_running(&machine, "free")?;
    put(&machine, "guarded", "written before the lock")?;
    locks(&machine, "guarded")?;
    // The other one runs on; the locked one does nothing, and comes back for its PIN alone.
    put(&machine, "free", "written beside a lock")?;
    let check = machine.zones().run_check("guarded", "file", &["get", MINE], machine.within(SOON));
    ensure!(check.is_err(), "a locked zone answers");
    let untyped = told(machine.zones().start("guarded", machine.within(SOON)))?;
    ensure!(untyped.cause == "pin_needed", "a touch alone: {untyped:?}");
    let wrong = told(machine.zones().open("guarded", WRONG, machine.within(SOON)))?;
    ensure!((wrong.cause.as_str(), wrong.tries_left) == ("wrong_pin", Some(3)), "a wrong PIN: {wrong:?}");
    let resumed = refusal(machine.zones().resume("guarded", machine.within(SOON)))?;
    ensure!(resumed == "Zone guarded is locked. Open it to use it.", "resumed: {resumed}");
    ensure!(zone(&machine, "guarded")?.state.phase == Phase::Locked, "it is not locked any more");
    opens(&machine, "guarded", PIN)?;
    has(&machine, "guarded", "written before the lock")?;
    put(&machine, "guarded", "written behind the lock")?;
    // One that asks for nothing comes back for a touch.
    locks(&machine, "free")?;
    machine.zones().start("free", machine.within(SOON))?;
    machine.zones().wait_for_phase("free", Phase::Running, machine.within(SOON))?;
    has(&machine, "free", "written beside a lock")?;
    ensure_running(&machine, "once")?;
    let disposable = refusal(machine.zones().lock("once", machine.within(SOON)))?;
    ensure!(disposable.contains("disposable"), "lock of a disposable zone: {disposable}");

    // Whoever dies in the host: a lock stays, and its zone loses nothing.
    locks(&machine, "guarded")?;
    machine.zones().kill(service_of(&machine, "zoned")?, 9, machine.within(SOON))?;
    machine.zones().wait_for_phase("guarded", Phase::Locked, machine.within(START))?;
    opens(&machine, "guarded", PIN).context("after zoned was killed")?;
    has(&machine, "guarded", "written behind the lock")?;
    locks(&machine, "guarded")?;
    let last = last_notice(&machine)?;
    machine.zones().kill(service_of(&machine, "keeper")?, 9, machine.within(SOON))?;
    wait_for_notice(&machine, last, &["keeper", "started again"])?;
    let lost = told(machine.zones().open("guarded", PIN, machine.within(START)))?;
    ensure!(lost.reason.contains("Stop the zone and open it again"), "after keeper was killed: {lost:?}");
    ensure_stopped(&machine, "guarded").context("a locked zone ends")?;
    opens(&machine, "guarded", PIN)?;
    has(&machine, "guarded", "written behind the lock")?;
    locks(&machine, "guarded")?;
    // A zone's users go by its place in the policy.
    let first = world::ZONES[0].0;
    machine.zones().kill(process_of(&machine, "vmm", first)?, 9, machine.within(SOON))?;
    machine.zones().wait_until("the zone's end", machine.within(SOON), |status| {
        status.zones.iter().any(|zone| zone.name == "guarded" && zone.state.phase == Phase::Failed)
    })?;
    opens(&machine, "guarded", PIN).context("after its VMM was killed")?;
    // Nobody asked for this to be stable: the lock does.
    put(&machine, "guarded", "written before the power went")?;
    locks(&machine, "guarded")?;
    drop(machine);

    let machine = host.boot().context("after a power cut behind a lock")?;
    opens(&machine, "guarded", PIN)?;
    has(&machine, "guarded", "written before the power went")?;
    // Its PIN is changed while it runs.
    let wrong = told(machine.zones().change_pin("guarded", WRONG, NEW, machine.within(SOON)))?;
    ensure!((wrong.cause.as_str(), wrong.tries_left) == ("wrong_pin", Some(3)), "a wrong PIN: {wrong:?}");
    machine.zones().change_pin("guarded", PIN, NEW, machine.within(SOON)).context("change the PIN")?;
    locks(&machine, "guarded")?;
    let old = told(machine.zones().open("guarded", PIN, machine.within(SOON)))?;
    ensure!(old.cause == "wrong_pin", "the old PIN: {old:?}");
    opens(&machine, "guarded", NEW)?;
    // A machine with a locked zone goes off in order.
    locks(&machine, "guarded")?;
    switch_off(machine)?;
    let machine = host.boot()?;
    opens(&machine, "guarded", NEW)?;
    switch_off(machine)?;
    std::fs::remove_file(&disk).context("remove the disk")
}

/// Touches the locked display and waits for its pad.
fn screen_pad(machine: &Machine) -> anyhow::Result<PadLayout> {
    let layout = layout_of(machine, 3)?;
    let pad = PadLayout::new(layout.display, layout.scale);
    let words = rectangle(pad.words)?;
    wait_until_still(machine, "locked", words)?;
    machine.tap(words.x + words.width / 2, words.y + words.height / 2).context("touch the lock")?;
    wait_until_still(machine, "locked-pad", words)?;
    Ok(pad)
}

fn wait_for_lock(machine: &Machine, locked: bool) -> anyhow::Result<()> {
    let what = format!("the display's lock, {locked}");
    machine.zones().wait_until(&what, machine.within(SOON), |status| status.screen.locked == locked)?;
    Ok(())
}

pub(super) fn screen(world: &mut World) -> anyhow::Result<()> {
    let artifacts = &world.artifacts;
    let disk = DataDisk::new(artifacts, "screen")?;
    disk.copy_micro(artifacts, "micro")?;
    let disk = disk.finish_with(artifacts, 320).context("make the data disk")?;
    let tpm = artifacts.kept_tpm("screen-tpm")?;
    let policy = format!("{ZONES}\n{SCREEN}");
    let host = KeptHost { artifacts, name: "screen", policy: &policy, disk: &disk, tpm };
    let locked = |machine: &Machine| anyhow::Ok(machine.zones().status(machine.within(SOON))?.screen.locked);
    let behind = |machine: &Machine| -> anyhow::Result<()> {
        for refused in [
            machine.zones().start("free", machine.within(SOON)),
            machine.zones().open("guarded", PIN, machine.within(SOON)),
            machine.zones().end_now("free", machine.within(SOON)),
            machine.zones().new_recovery_key(machine.within(SOON)).map(drop),
        ] {
            ensure!(refusal(refused)? == "The display is locked.", "it is not behind the lock");
        }
        Ok(())
    };

    let machine = host.boot()?;
    ensure!(locked(&machine)?, "the display is not locked at boot");
    behind(&machine)?;
    // The first PIN, typed twice on the screen, is the machine's from then on.
    let keys = screen_pad(&machine)?;
    type_on(&machine, &keys, PIN)?;
    ensure!(locked(&machine)?, "a PIN that was typed once lifts the lock");
    type_on(&machine, &keys, PIN)?;
    wait_for_lock(&machine, false).context("by touch")?;
    let key = machine.zones().new_recovery_key(machine.within(SOON))?;
    machine.zones().note_recovery_key(&key, machine.within(SOON))?;
    ensure_running(&machine, "free")?;
    machine.zones().lock_screen(machine.within(SOON))?;
    behind(&machine)?;
    // Zones run on.
    put(&machine, "free", "written behind the display's lock")?;
    let wrong = told(machine.zones().unlock_screen(WRONG, machine.within(SOON)))?;
    ensure!((wrong.cause.as_str(), wrong.tries_left) == ("wrong_pin", Some(2)), "a wrong PIN: {wrong:?}");
    drop(machine);

    let machine = host.boot().context("after a wrong PIN and a power cut")?;
    ensure!(locked(&machine)?, "the display is not locked at boot");
    machine.zones().wait_until("two tries", machine.within(SOON), |status| {
        status.screen.login.tries_left == Some(2) && status.screen.login.chosen
    })?;
    let keys = screen_pad(&machine)?;
    type_on(&machine, &keys, WRONG)?;
    machine.zones().wait_until("one try", machine.within(SOON), |status| {
        status.screen.locked && status.screen.login.tries_left == Some(1)
    })?;
    wait_until_still(&machine, "locked-again", rectangle(keys.words)?)?;
    type_on(&machine, &keys, PIN)?;
    wait_for_lock(&machine, false).context("the right PIN by touch")?;
    wait_until_still(&machine, "unlocked", rectangle(keys.words)?)?;
    machine.zones().change_screen_pin(PIN, NEW, machine.within(SOON)).context("change the PIN")?;
    machine.zones().kill(service_of(&machine, "zoned")?, 9, machine.within(SOON))?;
    machine.zones().wait_until("the lock", machine.within(START), |status| status.screen.locked)?;
    for left in [2, 1, 0] {
        let wrong = told(machine.zones().unlock_screen(PIN, machine.within(SOON)))?;
        ensure!(
            (wrong.cause.as_str(), wrong.tries_left) == ("wrong_pin", Some(left)),
            "the old PIN: {wrong:?}"
        );
    }
    let out = told(machine.zones().unlock_screen(NEW, machine.within(SOON)))?;
    ensure!(out.cause == "locked_out" && locked(&machine)?, "after too many wrong ones: {out:?}");
    machine.zones().recover_screen(&key, PIN, machine.within(SOON)).context("the recovery key")?;
    ensure!(!locked(&machine)?, "the recovery key lifted no lock");
    opens(&machine, "guarded", WRONG).context("a zone whose first PIN this is")?;
    switch_off(machine)?;
    std::fs::remove_file(&disk).context("remove the disk")
}
