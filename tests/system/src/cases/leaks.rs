//! Root in `office` sends everything that must not get out; the wire alone says whether it did.

use anyhow::{Context, ensure};
use gateway::network::Silence;
use gateway::observer::{Allowed, Message, Observer};
use gateway::{Direction, Mark, Site};
use harness::Machine;
use harness::command_line::HOST_MAC;

use crate::attack::frames::{PORT, STOLEN_PORT};
use crate::world::{
    PAGE, SOON, START, World, ensure_connected, ensure_no_leak, ensure_running, ensure_stopped,
    fetch_own_page, process_of, wait_for_frame,
};

const ZONE: &str = "office";

/// What the attack plants in everything that it sends.
const MARKER: &str = "BULKHEADLEAKMARKER";

/// Frames of one round of the attack, at least.
const LEAST_FRAMES: u64 = 80;

/// SIGKILL.
const KILL: i32 = 9;

pub(super) fn tunnel_up(world: &mut World) -> anyhow::Result<()> {
    let machine = world.machine()?;
    ensure_connected(machine, ZONE)?;
    let mark = machine.gateway().mark();
    attack(machine)?;
    fetch_own_page(machine, Site::Office)?;
    ensure_no_leak(machine, mark, MARKER)?;
    // The attack did reach the tunnel: what the policy allows came out at the far end, and only there.
    let frames = machine.gateway().frames(mark)?;
    let marked = |site| {
        let inner = frames.iter().filter(move |frame| frame.direction == Direction::Inner(site));
        inner.filter(|frame| contains_marker(&frame.bytes)).count()
    };
    ensure!(marked(Site::Office) > 0, "nothing of the attack went through the tunnel: was it sent at all?");
    ensure!(marked(Site::Research) == 0, "office's packets came out of research's tunnel");
    let from_port = |port| {
        let inner = frames.iter().filter(|frame| frame.direction == Direction::Inner(Site::Office));
        inner.filter(|frame| comes_from(&frame.bytes, port)).count()
    };
    ensure!(from_port(PORT) > 0, "no raw frame of the attack went through the tunnel: was any sent there?");
    let stolen = from_port(STOLEN_PORT);
    ensure!(stolen == 0, "{stolen} packets from addresses that are not office's went through its tunnel");
    Ok(())
}

/// An inner IPv4 packet that a raw frame of the attack carried.
fn comes_from(packet: &[u8], port: u16) -> bool {
    /// Without options.
    const HEADER: u8 = 0x45;
    packet.first() == Some(&HEADER) && packet.get(20..22) == Some(&port.to_be_bytes())
}

pub(super) fn gateway_silent(world: &mut World) -> anyhow::Result<()> {
    let machine = world.machine()?;
    ensure_connected(machine, ZONE)?;
    let mark = machine.gateway().mark();
    let ignored = || machine.gateway().counters().sites[Site::Office.index()].ignored_silent;
    let before = ignored();
    machine.gateway().set_silent(Site::Office, Silence::Silent);
    let outcome = attack(machine).and_then(|()| no_page(machine));
    machine.gateway().set_silent(Site::Office, Silence::Answering);
    outcome?;
    ensure_no_leak(machine, mark, MARKER)?;
    ensure!(ignored() > before, "the silent gateway heard nothing: was the tunnel in use?");
    Ok(())
}

pub(super) fn vpnd_killed(world: &mut World) -> anyhow::Result<()> {
    let machine = world.machine()?;
    ensure_connected(machine, ZONE)?;
    // The next tunnel process comes at once; with a silent gateway its tunnel does not.
    machine.gateway().set_silent(Site::Office, Silence::Silent);
    let outcome = attack_without_vpnd(machine);
    machine.gateway().set_silent(Site::Office, Silence::Answering);
    outcome?;
    // The network comes back by itself.
    machine.zones().wait_for_tunnel(ZONE, machine.within(START))?;
    fetch_own_page(machine, Site::Office)?;
    Ok(())
}

fn attack_without_vpnd(machine: &Machine) -> anyhow::Result<()> {
    let victim = process_of(machine, "vpnd", ZONE)?;
    let numbers = machine.zones().status(machine.within(SOON))?.notices;
    let last = numbers.last().map_or(0, |notice| notice.number);
    machine.zones().kill(victim, KILL, machine.within(SOON))?;
    let mark = machine.gateway().mark();
    machine.zones().wait_until("a notice about office's tunnel process", machine.within(SOON), |status| {
        status.notices.iter().any(|notice| notice.number > last && notice.process == "vpnd office")
    })?;
    attack(machine)?;
    no_page(machine)?;
    ensure_no_leak(machine, mark, MARKER)?;
    let data = data_to_office(machine, mark)?;
    ensure!(data == 0, "{data} data messages went out after office's tunnel process died");
    Ok(())
}

pub(super) fn before_tunnel(world: &mut World) -> anyhow::Result<()> {
    let machine = world.machine()?;
    ensure_stopped(machine, ZONE)?;
    // A tunnel that cannot come up holds the moment before it is up for as long as the attack takes.
    machine.gateway().set_silent(Site::Office, Silence::Silent);
    let outcome = attack_before_tunnel(machine);
    machine.gateway().set_silent(Site::Office, Silence::Answering);
    outcome?;
    machine.zones().wait_for_tunnel(ZONE, machine.within(START))?;
    fetch_own_page(machine, Site::Office)?;
    Ok(())
}

fn attack_before_tunnel(machine: &Machine) -> anyhow::Result<()> {
    let mark = machine.gateway().mark();
    let office = ensure_running(machine, ZONE)?;
    ensure!(
        office.tunnel.is_some_and(|tunnel| !tunnel.up),
        "the tunnel is up although its gateway is silent"
    );
    attack(machine)?;
    no_page(machine)?;
    wait_for_frame(machine, mark, machine.within(SOON), "a handshake with office's gateway", |frame| {
        frame.direction == Direction::FromHost
            && Observer::new(HOST_MAC).judge(&frame.bytes)
                == Ok(Allowed::WireGuard(Site::Office, Message::HandshakeInitiation))
    })?;
    ensure_no_leak(machine, mark, MARKER)?;
    let data = data_to_office(machine, mark)?;
    ensure!(data == 0, "data went into a tunnel that was never up");
    Ok(())
}

/// Runs the attack program in the zone, and makes sure that it ran.
fn attack(machine: &Machine) -> anyhow::Result<()> {
    let mac = HOST_MAC.map(|byte| format!("{byte:02x}")).join(":");
    let result = machine
        .zones()
        .run_check(ZONE, "raw_frames", &["attack", MARKER, &mac, "5"], machine.within(60))
        .context("run the attack in office")?;
    ensure!(result.passed, "the attack was not carried out, or got through: {}", result.output);
    let frames = result.output.lines().find_map(|line| line.strip_prefix("frames: ")?.parse::<u64>().ok());
    ensure!(frames >= Some(LEAST_FRAMES), "the attack sent too little: {}", result.output);
    Ok(())
}

/// Without its tunnel the zone reaches nothing.
fn no_page(machine: &Machine) -> anyhow::Result<()> {
    for url in [PAGE, "http://10.11.0.1/", "http://192.168.77.1/"] {
        let result =
            machine.zones().run_check(ZONE, "fetch", &[url, "1"], machine.within(45)).context(url)?;
        ensure!(!result.passed, "office reached {url} without its tunnel: {}", result.output);
    }
    Ok(())
}

/// Messages with data that went to office's gateway.
fn data_to_office(machine: &Machine, mark: Mark) -> anyhow::Result<usize> {
    let observer = Observer::new(HOST_MAC);
    let frames = machine.gateway().frames(mark)?;
    let sent = frames.iter().filter(|frame| frame.direction == Direction::FromHost);
    let data = Ok(Allowed::WireGuard(Site::Office, Message::Data));
    Ok(sent.filter(|frame| observer.judge(&frame.bytes) == data).count())
}

fn contains_marker(bytes: &[u8]) -> bool {
    bytes.windows(MARKER.len()).any(|window| window == MARKER.as_bytes())
}
