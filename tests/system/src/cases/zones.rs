//! What a user sees and does: the picker, a touch, two zones side by side, a zone without network.

use anyhow::{Context, ensure};
use control_api::Phase;
use desktop_model::status::Colour as ZoneColour;
use gateway::Site;
use harness::{Colour, Machine, Picture};

use crate::world::{
    PAGE, SOON, START, World, ZONES, ensure_connected, ensure_running, ensure_stopped, fetch_own_page,
    layout, process_of, rectangle, touch_tile, zone,
};

/// Components of a colour may differ so much from what was meant: edges are smoothed.
const NEAR: u8 = 12;

/// Pixels of its own colour that a tile has at least.
const OWN: u64 = 300;

pub(super) fn listed_and_drawn(world: &mut World) -> anyhow::Result<()> {
    let machine = world.machine()?;
    let status = machine.zones().status(machine.within(SOON))?;
    ensure!(status.demo, "the demo policy says that it is one");
    let listed: Vec<(&str, &str)> =
        status.zones.iter().map(|zone| (zone.name.as_str(), zone.colour.as_str())).collect();
    ensure!(listed == ZONES, "zoned lists {listed:?}");
    let tunnels: Vec<bool> = status.zones.iter().map(|zone| zone.tunnel.is_some()).collect();
    ensure!(tunnels == [true, true, false], "tunnels: {tunnels:?}");

    let deadline = machine.within(SOON);
    let picture = machine
        .look_until("picker", "the picker's three tiles", deadline, |picture| drawn(machine, picture))?;
    ensure!(
        (picture.width, picture.height) == machine.size(),
        "the screen is {}x{}",
        picture.width,
        picture.height
    );
    Ok(())
}

/// Every tile has its own zone's colour, and hardly any of the others': text has smooth edges, which can come
/// close to grey.
pub(super) fn drawn(machine: &Machine, picture: &Picture) -> bool {
    let Ok(layout) = layout(machine) else { return false };
    layout.tiles.iter().zip(ZONES).all(|(tile, (_, own))| {
        let Ok(tile) = rectangle(*tile) else { return false };
        let count = |colour| {
            let [red, green, blue] = ZoneColour::named(colour).rgb();
            picture.count(tile, |pixel| pixel.distance(Colour(red, green, blue)) <= NEAR)
        };
        let others = ZONES.iter().filter(|(_, colour)| *colour != own).map(|(_, colour)| count(colour));
        count(own) >= OWN.max(8 * others.max().unwrap_or(0))
    })
}

pub(super) fn touch_office(world: &mut World) -> anyhow::Result<()> {
    let machine = world.machine()?;
    ensure_stopped(machine, "office")?;
    let requests = machine.gateway().counters().sites[Site::Office.index()].requests;
    let mark = machine.gateway().mark();
    let deadline = machine.within(SOON);
    machine.look_until("before-touch", "the picker's tiles", deadline, |picture| drawn(machine, picture))?;
    touch_tile(machine, "office")?;
    let zones = machine.zones();
    zones.wait_until("office starting by the touch", machine.within(SOON), |status| {
        status
            .zones
            .iter()
            .any(|zone| zone.name == "office" && matches!(zone.state.phase, Phase::Starting | Phase::Running))
    })?;
    let office = zones.wait_for_phase("office", Phase::Running, machine.within(START))?;
    ensure!(office.state.agent.is_some(), "a running zone names its agent's version");
    zones.wait_for_tunnel("office", machine.within(START))?;
    fetch_own_page(machine, Site::Office)?;
    let arguments = ["http://[fd00:11::1]/", "30"];
    let six =
        zones.run_check("office", "fetch", &arguments, machine.within(45)).context("fetch over IPv6")?;
    let own = six.output == "network: office\nclient: fd00:11::2\n";
    ensure!(six.passed && own, "office did not get its page over IPv6: {}", six.output);
    let after = machine.gateway().counters().sites[Site::Office.index()].requests;
    ensure!(after > requests, "the page did not come from office's intranet");
    zones.wait_until("bytes moving in office's tunnel", machine.within(SOON), |status| {
        let tunnel =
            status.zones.iter().find(|zone| zone.name == "office").and_then(|zone| zone.tunnel.as_ref());
        tunnel.is_some_and(|tunnel| tunnel.sent_bytes > 0 && tunnel.received_bytes > 0)
    })?;
    crate::world::ensure_no_leak(machine, mark, "network: office")?;
    machine.look("office-running")?;
    Ok(())
}

pub(super) fn research_too(world: &mut World) -> anyhow::Result<()> {
    let machine = world.machine()?;
    ensure_connected(machine, "office")?;
    ensure_stopped(machine, "research")?;
    touch_tile(machine, "research")?;
    machine.zones().wait_for_phase("research", Phase::Running, machine.within(START))?;
    machine.zones().wait_for_tunnel("research", machine.within(START))?;
    let research = fetch_own_page(machine, Site::Research)?;
    let office = fetch_own_page(machine, Site::Office)?;
    ensure!(research != office, "both zones got the same page:\n{research}");
    for name in ["office", "research"] {
        let phase = zone(machine, name)?.state.phase;
        ensure!(phase == Phase::Running, "{name} is {phase:?} while both should run");
    }
    machine.look("two-zones")?;
    Ok(())
}

pub(super) fn vault_has_no_nic(world: &mut World) -> anyhow::Result<()> {
    let machine = world.machine()?;
    let vault = ensure_running(machine, "vault")?;
    ensure!(vault.tunnel.is_none(), "zoned shows a tunnel: {:?}", vault.tunnel);
    process_of(machine, "vmm", "vault")?;
    ensure!(process_of(machine, "vpnd", "vault").is_err(), "a tunnel process runs for vault");
    let zones = machine.zones();
    let result = zones.run_check("vault", "interfaces", &[], machine.within(SOON))?;
    ensure!(result.passed, "vault cannot list its interfaces: {}", result.output);
    let names: Vec<&str> = result.output.lines().filter_map(|line| line.split_whitespace().next()).collect();
    ensure!(names == ["lo"], "vault has the interfaces {names:?}");
    for url in [PAGE, "http://10.11.0.1/", "http://192.168.77.1/"] {
        let result = zones.run_check("vault", "fetch", &[url, "0"], machine.within(SOON)).context(url)?;
        ensure!(!result.passed, "vault reached {url}: {}", result.output);
    }
    Ok(())
}
