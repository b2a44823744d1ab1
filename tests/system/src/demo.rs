//! `./bulkhead run`: the appliance for a person, or without one.
//!
//! With a display it opens a window, without one it serves VNC on the loopback address; it goes on until the host
//! powers off or the user presses Ctrl-C. With `--headless` nobody is needed: a touch starts the zone, the page
//! is fetched, a picture is written, and the exit code says whether all of it happened. That needs the test
//! image, because nothing in the production image tells the outside what a zone sees.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use control_api::Phase;
use gateway::Site;
use harness::machine::NetworkConfig;
use harness::{Machine, MachineConfig, Pointer, Screen, within};

use crate::artifacts::{Artifacts, KERNEL_ARGUMENTS};
use crate::report::{Steps, say};
use crate::world::{BOOT, START, ZONES, boot_test_machine, fetch_own_page, slot, touch_tile};

/// How long an interactive host may run.
const ONE_YEAR: u64 = 365 * 24 * 3600;

/// First port of VNC: display 0.
const VNC_PORT: u16 = 5900;

/// What the user wants.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Without a person.
    pub headless: bool,
    /// The zone to start.
    pub zone: Option<String>,
    /// Where the picture goes.
    pub screenshot: Option<PathBuf>,
    /// Another policy file.
    pub policy: Option<PathBuf>,
}

impl Options {
    /// Reads the words behind `run`.
    ///
    /// # Errors
    /// A sentence that names the word and what is allowed.
    pub fn parse(words: &[String]) -> anyhow::Result<Self> {
        let mut options = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value")).cloned();
            match word.as_str() {
                "--headless" => options.headless = true,
                "--zone" => options.zone = Some(value()?),
                "--screenshot" => options.screenshot = Some(value()?.into()),
                "--policy" => options.policy = Some(value()?.into()),
                other => {
                    bail!("{other:?} is unknown: allowed are --headless, --zone, --screenshot and --policy")
                }
            }
        }
        if !options.headless && (options.zone.is_some() || options.screenshot.is_some()) {
            bail!("--zone and --screenshot go with --headless");
        }
        if let Some(zone) = &options.zone {
            ensure!(
                slot(zone).is_ok(),
                "{zone:?} is no zone of the demo policy: allowed are office, research, vault"
            );
        }
        if options.headless && options.policy.is_some() {
            bail!("--headless knows the demo policy only: leave --policy out");
        }
        if let Some(path) = &options.policy {
            check_policy(path)?;
        }
        Ok(options)
    }
}

/// Refuses a policy that the host would refuse: an answer here comes before a build and a boot.
fn check_policy(path: &Path) -> anyhow::Result<()> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("read the policy {}", path.display()))?;
    match policy::verify(&path.display().to_string(), &text) {
        Ok(_) => Ok(()),
        Err(findings) => bail!("the policy has mistakes; mend them and start again:\n{findings}"),
    }
}

/// Runs the demo.
///
/// # Errors
/// A sentence that says what to do.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let artifacts = Artifacts::find()?;
    if options.headless { headless(&artifacts, options) } else { interactive(&artifacts, options) }
}

fn headless(artifacts: &Artifacts, options: &Options) -> anyhow::Result<ExitCode> {
    let mut steps = Steps::default();
    let mut machine = boot_test_machine(artifacts)?;
    steps.done("the host has booted");
    let zone = options.zone.as_deref().unwrap_or("office");
    machine.look_until("picker", "the picker", machine.within(BOOT), |picture| picture.colours(16) == 16)?;
    steps.done("the picker is on the screen");
    touch_tile(&machine, zone)?;
    let running = machine.zones().wait_for_phase(zone, Phase::Running, machine.within(START))?;
    steps.done(format!("a touch started {zone}, its agent answers"));
    if running.tunnel.is_some() {
        machine.zones().wait_for_tunnel(zone, machine.within(START))?;
        steps.done(format!("the tunnel of {zone} is up"));
        let site = Site::ALL.into_iter().find(|site| site.name() == zone);
        let page = fetch_own_page(&machine, site.context("a zone with a tunnel has a demo network")?)?;
        steps.done(format!("{zone} fetched its page: {}", page.trim().replace('\n', ", ")));
    }
    if let Some(path) = &options.screenshot {
        machine.qmp().screendump(&std::path::absolute(path)?, machine.within(START))?;
        steps.done(format!("the screen is in {}", path.display()));
    }
    machine.zones().power_off(machine.within(START))?;
    let deadline = machine.within(START);
    let status = machine.wait_for_end(deadline).context("the host did not power off in time")?;
    ensure!(status.success(), "QEMU ended with {status}");
    steps.done("the host has powered off");
    Ok(ExitCode::SUCCESS)
}

fn interactive(artifacts: &Artifacts, options: &Options) -> anyhow::Result<ExitCode> {
    let mut config = MachineConfig::for_test(
        artifacts.qemu(),
        artifacts.kernel(),
        vec![artifacts.host_segment()],
        artifacts.logs(),
    );
    KERNEL_ARGUMENTS.clone_into(&mut config.kernel_arguments);
    if let Some(policy) = &options.policy {
        let text = std::fs::read(policy).with_context(|| format!("read the policy {}", policy.display()))?;
        std::fs::create_dir_all(artifacts.logs())?;
        let segment = artifacts.file("policy.cpio");
        std::fs::write(&segment, crate::cpio::single("etc/bulkhead/policy.toml", &text)?)
            .with_context(|| format!("write {}", segment.display()))?;
        config.initramfs.push(segment);
    }
    config.bridge = false;
    config.data_disk = Some(artifacts.data_disk());
    config.tpm = Some(artifacts.tpm());
    config.pointer = Pointer::Tablet;
    config.network = Some(NetworkConfig { keys: artifacts.keys()?, pcap: None, record_bytes: 0 });
    config.screen = screen(artifacts)?;
    let screen = config.screen;
    let mut machine = Machine::boot(config).context("boot the host")?;
    say(format!("The host boots; its console goes to {}.", machine.serial().path().display()));
    if let Screen::Vnc(display) = screen {
        let port = VNC_PORT + display;
        say(format!("There is no display here: connect a VNC viewer to 127.0.0.1:{port}."));
    }
    let names: Vec<&str> = ZONES.iter().map(|(name, _)| *name).collect();
    say(format!("Click a zone ({}) to start it. Ctrl-C ends everything.", names.join(", ")));
    let status = machine.wait_for_end(within(ONE_YEAR)).context("a year has passed")?;
    if !status.success() {
        bail!("QEMU ended with {status}; it said:\n{}", machine.serial().tail(20));
    }
    say("The host has powered off.");
    Ok(ExitCode::SUCCESS)
}

/// A window where there is a display and QEMU has one; otherwise the first free VNC display.
fn screen(artifacts: &Artifacts) -> anyhow::Result<Screen> {
    let display = ["DISPLAY", "WAYLAND_DISPLAY"]
        .iter()
        .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    if display && artifacts.tools().join("usr/lib/x86_64-linux-gnu/qemu/ui-gtk.so").exists() {
        return Ok(Screen::Window);
    }
    free_display(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()).map(Screen::Vnc)
}

/// The first VNC display whose port is free.
fn free_display(is_free: impl Fn(u16) -> bool) -> anyhow::Result<u16> {
    (0..100)
        .find(|display| is_free(VNC_PORT + display))
        .context("ports 5900 to 5999 of 127.0.0.1 are all in use: end one of the VNC servers and start again")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Options, String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        Options::parse(&words).map_err(|error| error.to_string())
    }

    #[test]
    fn options_are_read_and_mistakes_are_named() {
        let options = parse(&["--headless", "--zone", "office", "--screenshot", "out.png"]).unwrap();
        assert!(options.headless && options.zone.as_deref() == Some("office"));
        assert_eq!(parse(&[]).unwrap(), Options::default());
        assert!(parse(&["--zone"]).unwrap_err().contains("needs a value"));
        assert!(parse(&["--headless", "--zone", "ofice"]).unwrap_err().contains("allowed are office"));
        assert!(parse(&["--zone", "office"]).unwrap_err().contains("--headless"));
        assert!(parse(&["--fly"]).unwrap_err().contains("\"--fly\""));
    }

    #[test]
    fn a_port_in_use_is_passed_over_and_no_port_is_a_sentence() {
        let held = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = held.local_addr().unwrap().port();
        assert!(TcpListener::bind(("127.0.0.1", port)).is_err(), "a port in use is seen to be in use");
        assert_eq!(free_display(|port| port > 5902).unwrap(), 3);
        let error = free_display(|_| false).unwrap_err().to_string();
        assert!(error.contains("end one of the VNC servers"), "{error}");
    }

    #[test]
    fn a_policy_with_a_typo_is_refused_before_anything_is_built() {
        let folder = std::env::temp_dir().join(format!("bulkhead-policy-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("policy.toml");
        let check = |text: &str| {
            std::fs::write(&path, text).unwrap();
            parse(&["--policy", path.to_str().unwrap()]).map(drop)
        };
        let demo = include_str!("../../../policy/policy/demo/policy.toml");
        assert_eq!(check(demo), Ok(()));
        let error = check(&demo.replacen("colour", "color", 1)).unwrap_err();
        assert!(error.contains("policy.toml:") && error.contains("color"), "{error}");
        let missing = folder.join("none.toml");
        let error = parse(&["--policy", missing.to_str().unwrap()]).unwrap_err();
        assert!(error.contains("none.toml"), "{error}");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
