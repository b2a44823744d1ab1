//! PINs: the machine's TPM compares them and counts the wrong ones, for each zone by itself.

use anyhow::{Context, ensure};
use control_api::{Factor, Phase};
use desktop_model::pad::PadLayout;
use desktop_model::status::Colour as ZoneColour;
use harness::{Colour, Machine};

use super::kept_host::KeptHost;
use crate::disk::DataDisk;
use crate::opening::told;
use crate::world::{
    SOON, START, World, ensure_running, ensure_stopped, file, layout_of, rectangle, switch_off,
    wait_until_still, zone,
};

const POLICY: &str = r#"
schema = 1
version = 1
name = "PIN"

[zone.guarded]
colour = "green"
template = "micro"
memory = "128 MiB"
vcpus = 1
disk = "32 MiB"
login = "pin"
pin_tries = 4
network = "none"

[zone.other]
colour = "blue"
template = "micro"
memory = "128 MiB"
vcpus = 1
disk = "32 MiB"
login = "pin"
pin_tries = 3
pin_shuffle = true
network = "none"

[zone.free]
colour = "red"
template = "micro"
memory = "128 MiB"
vcpus = 1
disk = "32 MiB"
network = "none"
"#;

const PIN: &str = "135790";
const OTHER: &str = "2468024680";
const WRONG: &str = "000000";

const MINE: &str = "/home/mine";
const TEXT: &str = "what opens with a PIN";

/// Nothing but the cause and the count tells a wrong PIN from another.
fn refused(machine: &Machine, name: &str, pin: &str, expected: (&str, Option<u32>)) -> anyhow::Result<()> {
    let told = told(machine.zones().open(name, pin, machine.within(SOON)))?;
    let found = (told.cause.as_str(), told.tries_left);
    ensure!(found == expected, "{name} with {pin}: expected {expected:?}, found {told:?}");
    let state = zone(machine, name)?.state;
    ensure!(state.phase == Phase::Stopped, "a refused opening left {name} {:?}", state.phase);
    Ok(())
}

fn opens(machine: &Machine, name: &str, pin: &str) -> anyhow::Result<()> {
    machine.zones().open(name, pin, machine.within(SOON)).with_context(|| format!("open {name}"))?;
    machine.zones().wait_for_phase(name, Phase::Running, machine.within(START))?;
    Ok(())
}

/// Touches a zone's tile and waits for the pad in its colour.
pub(super) fn pad(machine: &Machine, name: &str, tile: usize, colour: &str) -> anyhow::Result<PadLayout> {
    let layout = layout_of(machine, 3)?;
    let tile = rectangle(*layout.tiles.get(tile).context("the zone's tile")?)?;
    wait_until_still(machine, "tile-to-touch", tile)?;
    machine.tap(tile.x + tile.width / 2, tile.y + tile.height / 2).context("touch the tile")?;
    let pad = PadLayout::new(layout.display, layout.scale);
    let (band, [red, green, blue]) = (rectangle(pad.band)?, ZoneColour::named(colour).rgb());
    machine.look_until(
        &format!("pad-{name}"),
        "the pad in the zone's colour",
        machine.within(SOON),
        |picture| {
            // The label stands in it.
            picture.count(band, |pixel| pixel.distance(Colour(red, green, blue)) <= 12)
                > u64::from(band.width * band.height / 2)
        },
    )?;
    Ok(pad)
}

/// Types a PIN on the pad with a finger, and sends it.
pub(super) fn type_on(machine: &Machine, pad: &PadLayout, pin: &str) -> anyhow::Result<()> {
    let tap = |rect| {
        let rect = rectangle(rect)?;
        machine.tap(rect.x + rect.width / 2, rect.y + rect.height / 2).context("touch a key")
    };
    for digit in pin.chars() {
        let place = digit.to_digit(10).and_then(|digit| pad.places.get(usize::try_from(digit).ok()?));
        tap(*place.context("a digit")?)?;
    }
    tap(pad.go)
}

/// What is shown before anybody touches anything: `keeper` is asked when `zoned` starts.
fn shows(machine: &Machine, name: &str, chosen: bool, tries_left: Option<u32>) -> anyhow::Result<()> {
    let what = format!("{name}: chosen {chosen}, {tries_left:?} tries left");
    machine.zones().wait_until(&what, machine.within(SOON), |status| {
        status.zones.iter().any(|zone| {
            zone.name == name
                && (zone.login.factor, zone.login.chosen) == (Factor::Pin, chosen)
                && zone.login.tries_left == tries_left
        })
    })?;
    Ok(())
}

pub(super) fn counted(world: &mut World) -> anyhow::Result<()> {
    let artifacts = &world.artifacts;
    let disk = DataDisk::new(artifacts, "pin")?;
    disk.copy_micro(artifacts, "micro")?;
    let disk = disk.finish_with(artifacts, 320).context("make the data disk")?;
    let host =
        KeptHost { artifacts, name: "pin", policy: POLICY, disk: &disk, tpm: artifacts.kept_tpm("pin-tpm")? };

    let machine = host.boot()?;
    shows(&machine, "guarded", false, None)?;
    ensure!(zone(&machine, "other")?.login.shuffle, "the policy's pin_shuffle is not shown");
    ensure!(zone(&machine, "free")?.login.factor == Factor::Touch, "a zone without login asks for a PIN");
    let untyped = told(machine.zones().start("guarded", machine.within(SOON)))?;
    ensure!(untyped.cause == "pin_needed", "a touch alone: {untyped:?}");
    refused(&machine, "guarded", "12345", ("bad_pin", None))?;
    // The first one, typed twice on the screen, is the zone's from then on.
    let keys = pad(&machine, "guarded", 0, "green")?;
    type_on(&machine, &keys, PIN)?;
    type_on(&machine, &keys, PIN)?;
    machine.zones().wait_for_phase("guarded", Phase::Running, machine.within(START))?;
    file(&machine, "guarded", &["put", MINE, TEXT])?;
    ensure_stopped(&machine, "guarded")?;
    opens(&machine, "other", OTHER)?;
    ensure_stopped(&machine, "other")?;
    shows(&machine, "guarded", true, Some(4))?;
    refused(&machine, "guarded", WRONG, ("wrong_pin", Some(3)))?;
    // The power is cut.
    drop(machine);

    let machine = host.boot().context("after a wrong PIN and a power cut")?;
    shows(&machine, "guarded", true, Some(3))?;
    shows(&machine, "other", true, Some(3))?;
    let keys = pad(&machine, "guarded", 0, "green")?;
    type_on(&machine, &keys, OTHER)?;
    shows(&machine, "guarded", true, Some(2))?;
    wait_until_still(&machine, "pad-again", rectangle(keys.words)?)?;
    type_on(&machine, &keys, PIN)?;
    machine.zones().wait_for_phase("guarded", Phase::Running, machine.within(START))?;
    ensure!(file(&machine, "guarded", &["get", MINE])? == TEXT, "it lost what it wrote");
    ensure_running(&machine, "free")?;
    drop(machine);

    let machine = host.boot().context("after a right PIN and a power cut")?;
    shows(&machine, "guarded", true, Some(4))?;
    for left in [2, 1, 0] {
        refused(&machine, "other", WRONG, ("wrong_pin", Some(left)))?;
    }
    refused(&machine, "other", OTHER, ("locked_out", Some(0)))?;
    opens(&machine, "guarded", PIN).context("a zone beside a locked one")?;
    ensure_stopped(&machine, "guarded")?;
    switch_off(machine)?;

    let machine = host.boot().context("after a lockout")?;
    shows(&machine, "other", true, Some(0))?;
    refused(&machine, "other", OTHER, ("locked_out", Some(0)))?;
    opens(&machine, "guarded", PIN)?;
    // No PIN stands in what the host says.
    let console = machine.serial().since(harness::serial::Place::default());
    ensure!(![PIN, OTHER].iter().any(|pin| console.contains(pin)), "a PIN is on the console");
    switch_off(machine)?;
    std::fs::remove_file(&disk).context("remove the disk")
}
