//! A zone and its neighbour: no address leads from one to the other.

use anyhow::{Context, ensure};
use gateway::{Direction, Site};
use harness::Machine;
use harness::command_line::HOST_MAC;

use crate::world::{SOON, World, ensure_connected, ensure_no_leak, fetch_own_page};

/// What the attack plants.
const MARKER: &str = "BULKHEADCROSSMARKER";

pub(super) fn zone_to_zone(world: &mut World) -> anyhow::Result<()> {
    let machine = world.machine()?;
    ensure_connected(machine, "office")?;
    ensure_connected(machine, "research")?;
    // A tunnel can be up before the guest has its address by DHCP.
    for site in Site::ALL {
        fetch_own_page(machine, site)?;
    }
    let victim = interface(machine, "research")?;
    let mark = machine.gateway().mark();

    // Research listens longer than office attacks.
    let listener = machine.zones().begin_check("research", "raw_frames", &["listen", MARKER, "20"])?;
    let host = HOST_MAC.map(|byte| format!("{byte:02x}")).join(":");
    let arguments = ["attack", MARKER, &host, "8", &victim, "10.12.0.2", &victim, "10.12.0.1"];
    let attack = machine.zones().run_check("office", "raw_frames", &arguments, machine.within(60))?;
    ensure!(attack.passed, "the attack was not carried out, or got through: {}", attack.output);
    for url in ["http://10.12.0.1/", "http://10.12.0.2/"] {
        let result =
            machine.zones().run_check("office", "fetch", &[url, "1"], machine.within(45)).context(url)?;
        ensure!(!result.passed, "office reached {url}: {}", result.output);
    }
    let heard = listener.result(machine.within(60)).context("research listens")?;
    ensure!(heard.passed, "research: {}", heard.output);

    ensure_no_leak(machine, mark, MARKER)?;
    let frames = machine.gateway().frames(mark)?;
    let strayed = frames
        .iter()
        .filter(|frame| frame.direction == Direction::Inner(Site::Research))
        .filter(|frame| frame.bytes.windows(MARKER.len()).any(|window| window == MARKER.as_bytes()));
    ensure!(strayed.count() == 0, "office's packets came out of research's tunnel");
    Ok(())
}

/// The MAC address of a zone's NIC, as the zone sees it.
fn interface(machine: &Machine, zone: &str) -> anyhow::Result<String> {
    let result = machine.zones().run_check(zone, "interfaces", &[], machine.within(SOON))?;
    let line = result.output.lines().find(|line| line.starts_with("eth0 "));
    let mac = line.and_then(|line| line.split_whitespace().nth(1));
    mac.map(str::to_owned).with_context(|| format!("{zone} has no eth0: {}", result.output))
}
