//! `./bulkhead run`: the appliance with its demo network, for a person or for a script.

use std::ffi::OsString;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use control_api::Phase;
use harness::machine::NetworkConfig;
use harness::{Machine, MachineConfig, Pointer, Screen, within};

use crate::artifacts::Artifacts;
use crate::picker;

/// Where each site's intranet answers.
const PAGE: &str = "http://intranet.example/";

/// What `./bulkhead run` was asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    headless: bool,
    zone: Option<String>,
    screenshot: Option<PathBuf>,
}

fn options(arguments: &[OsString]) -> Result<Options> {
    let mut options = Options::default();
    let mut parser = lexopt::Parser::from_args(arguments.iter().cloned());
    while let Some(argument) = parser.next()? {
        match argument {
            lexopt::Arg::Long("headless") => options.headless = true,
            lexopt::Arg::Long("zone") => {
                options.zone = Some(parser.value()?.to_string_lossy().into_owned());
            }
            lexopt::Arg::Long("screenshot") => options.screenshot = Some(parser.value()?.into()),
            other => {
                bail!("{}; allowed are --headless, --zone NAME, --screenshot FILE", other.unexpected())
            }
        }
    }
    if !options.headless && (options.zone.is_some() || options.screenshot.is_some()) {
        bail!("--zone and --screenshot are for --headless: without it, you touch the tile");
    }
    Ok(options)
}

/// Runs the appliance until the user ends it, or until everything that a headless run promises happened.
///
/// # Errors
/// What did not happen, in words.
pub fn run(artifacts: &Artifacts, arguments: &[OsString]) -> Result<ExitCode> {
    let options = options(arguments)?;
    let keys = gateway::Keys::from_folder(&artifacts.demo())?;
    let network = NetworkConfig { keys, pcap: None, record_bytes: 0 };
    if options.headless {
        let mut config = artifacts.test();
        config.network = Some(network);
        config.name = "headless".to_owned();
        headless(config, &options)
    } else {
        let mut config = artifacts.production();
        config.network = Some(network);
        config.name = "run".to_owned();
        config.pointer = Pointer::Tablet;
        interactive(config)
    }
}

fn say(text: &str) {
    // A closed terminal is no reason to stop.
    let _closed = writeln!(std::io::stderr(), "{text}");
}

fn interactive(mut config: MachineConfig) -> Result<ExitCode> {
    let display = ["DISPLAY", "WAYLAND_DISPLAY"]
        .iter()
        .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    if display {
        config.screen = Screen::Window;
        say("The appliance opens in a window. Click a tile to start its zone; Ctrl-C here ends everything.");
    } else {
        let number = free_vnc_display()?;
        config.screen = Screen::Vnc(number);
        say(&format!(
            "There is no display here. Connect a VNC viewer to 127.0.0.1:{} (display 127.0.0.1:{number}) \
             and click a tile to start its zone; Ctrl-C here ends everything.",
            5900 + number
        ));
    }
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted)).context("catch Ctrl-C")?;
    }
    let mut machine = Machine::boot(config)?;
    say(&format!("The host's console is in {}", machine.serial().path().display()));
    loop {
        if let Some(status) = machine.wait_for_end(within(1)) {
            say("The machine is off.");
            return Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        if interrupted.load(Ordering::Relaxed) {
            drop(machine);
            say("Everything is stopped.");
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// The first VNC display whose port nobody uses.
fn free_vnc_display() -> Result<u16> {
    (0..100_u16)
        .find(|number| TcpListener::bind(("127.0.0.1", 5900 + number)).is_ok())
        .context("the ports 5900 to 5999 of 127.0.0.1 are all in use: end a program that listens there")
}

/// Prints one line a step, with the time since the start and what the step took.
struct Steps {
    start: Instant,
    last: Instant,
}

impl Steps {
    fn done(&mut self, what: &str) {
        let now = Instant::now();
        let took = now.duration_since(self.last).as_secs_f64();
        say(&format!("[{:7.2} s] {what} ({took:.2} s)", now.duration_since(self.start).as_secs_f64()));
        self.last = now;
    }
}

fn headless(config: MachineConfig, options: &Options) -> Result<ExitCode> {
    let start = Instant::now();
    let mut steps = Steps { start, last: start };
    let machine = Machine::boot(config)?;
    steps.done("QEMU runs, the demo network is up");
    let status = machine
        .zones()
        .wait_until("a policy with zones", machine.within(60), |status| !status.zones.is_empty())
        .with_context(|| format!("the host did not come up; see {}", machine.serial().path().display()))?;
    steps.done(&format!("the host is up, policy {:?}", status.policy));
    picker::wait_for_tiles(&machine, &status)?;
    steps.done("the picker is drawn");
    if let Some(zone) = &options.zone {
        start_by_touch(&machine, zone, &mut steps)?;
    }
    if let Some(path) = &options.screenshot {
        machine.qmp().screendump(path, machine.within(30)).context("take the screenshot")?;
        steps.done(&format!("screenshot written to {}", path.display()));
    }
    drop(machine);
    steps.done("everything is stopped");
    Ok(ExitCode::SUCCESS)
}

fn start_by_touch(machine: &Machine, zone: &str, steps: &mut Steps) -> Result<()> {
    let zones = machine.zones();
    picker::touch_tile(machine, zone)?;
    zones.wait_until("zone starting", machine.within(20), |status| {
        status.zones.iter().any(|found| found.name == zone && found.state.phase != Phase::Stopped)
    })?;
    steps.done(&format!("the tile {zone:?} was touched, the zone starts"));
    let running = zones.wait_for_phase(zone, Phase::Running, machine.within(60))?;
    steps.done(&format!("the agent answers, version {}", running.state.agent.unwrap_or_default()));
    if running.tunnel.is_none() {
        steps.done("the policy gives this zone no network: no page to fetch");
        return Ok(());
    }
    zones.wait_for_tunnel(zone, machine.within(60))?;
    steps.done("the tunnel is up");
    let page = zones.run_check(zone, "fetch", &[PAGE], machine.within(60))?;
    if !page.passed || !page.output.contains(&format!("network: {zone}")) {
        bail!("the page of {zone} did not come: {}", page.output);
    }
    steps.done(&format!("fetched {PAGE}: {}", page.output.trim().replace('\n', ", ")));
    // The picture is to show what the user would see now: running, tunnel up.
    picker::wait_for_running(machine, zone)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_strangers_named() {
        let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        let parsed = options(&words(&["--headless", "--zone", "office"])).unwrap();
        assert_eq!(parsed, Options { headless: true, zone: Some("office".to_owned()), screenshot: None });
        assert!(options(&words(&["--fly"])).unwrap_err().to_string().contains("allowed are"));
        assert!(options(&words(&["--zone", "office"])).is_err());
    }
}
