//! What the tests share: one booted machine, made when the first test wants it, and helpers to bring its zones
//! into a state.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use control_api::{Phase, Zone};
use desktop_model::geometry::{Rect, Size};
use desktop_model::layout::Layout;
use desktop_model::scale::Scale;
use gateway::observer::Observer;
use gateway::{Mark, Site};
use harness::command_line::HOST_MAC;
use harness::machine::NetworkConfig;
use harness::picture::Rectangle;
use harness::{Machine, MachineConfig};

use crate::artifacts::{Artifacts, KERNEL_ARGUMENTS};
use crate::plan::Plan;

/// Zones of the demo policy, in its order, with their colours.
pub const ZONES: [(&str, &str); 3] = [("office", "green"), ("research", "blue"), ("vault", "grey")];

/// Seconds of a fast machine in which a host boots.
pub const BOOT: u32 = 60;

/// Seconds of a fast machine in which a zone starts.
pub const START: u32 = 30;

/// Seconds of a fast machine in which a tunnel comes up or a small thing happens.
pub const SOON: u32 = 15;

/// The page in each intranet.
pub const PAGE: &str = "http://intranet.example/";

/// The tests' world.
#[derive(Debug)]
pub struct World {
    /// What machines boot from.
    pub artifacts: Artifacts,
    /// What the user wants.
    pub plan: Plan,
    machine: Option<Machine>,
    odd: Option<(&'static str, Machine)>,
    remark: Option<String>,
}

impl World {
    /// A world without a machine.
    #[must_use]
    pub fn new(artifacts: Artifacts, plan: Plan) -> Self {
        Self { artifacts, plan, machine: None, odd: None, remark: None }
    }

    /// Something that belongs beside a test's result, as the length of a random series.
    pub fn remark(&mut self, text: String) {
        self.remark = Some(text);
    }

    /// Takes the last test's remark.
    pub fn take_remark(&mut self) -> Option<String> {
        self.remark.take()
    }

    /// The shared machine; boots it when there is none.
    ///
    /// # Errors
    /// It does not boot.
    pub fn machine(&mut self) -> anyhow::Result<&mut Machine> {
        if self.machine.is_none() {
            let machine = boot_test_machine(&self.artifacts)?;
            return Ok(self.machine.insert(machine));
        }
        self.machine.as_mut().context("a machine is there")
    }

    /// A second machine, for tests of a host that is not as it should be; `boot` makes it when there is none for this purpose.
    /// One that was booted for another purpose ends first.
    ///
    /// # Errors
    /// It does not boot.
    pub fn odd_machine(
        &mut self,
        purpose: &'static str,
        boot: fn(&Artifacts) -> anyhow::Result<Machine>,
    ) -> anyhow::Result<&mut Machine> {
        if self.odd.as_ref().is_none_or(|(booted_for, _)| *booted_for != purpose) {
            self.drop_odd_machine();
            self.odd = Some((purpose, boot(&self.artifacts)?));
        }
        self.odd.as_mut().map(|(_, machine)| machine).context("a machine is there")
    }

    /// Ends the second machine.
    pub fn drop_odd_machine(&mut self) {
        self.odd = None;
    }

    /// Ends every machine; the next test gets new ones.
    pub fn drop_machines(&mut self) {
        (self.machine, self.odd) = (None, None);
    }

    /// The machine that the last test used: the second one, if there is one.
    #[must_use]
    pub fn last_machine(&self) -> Option<&Machine> {
        self.odd.as_ref().map(|(_, machine)| machine).or(self.machine.as_ref())
    }
}

/// A machine with the test image, its data disk and the demo network.
///
/// # Errors
/// A file of the build is not as it should be.
pub fn test_machine(artifacts: &Artifacts) -> anyhow::Result<MachineConfig> {
    let mut config = MachineConfig::for_test(
        artifacts.qemu(),
        artifacts.kernel(),
        vec![artifacts.host_segment(), artifacts.test_segment()],
        artifacts.logs(),
    );
    KERNEL_ARGUMENTS.clone_into(&mut config.kernel_arguments);
    // Each machine of a run keeps its own log: the one that failed is looked at last.
    static BOOTED: AtomicU32 = AtomicU32::new(1);
    config.name = format!("host-{}", BOOTED.fetch_add(1, Ordering::Relaxed));
    config.data_disk = Some(artifacts.test_data_disk());
    config.tpm = Some(artifacts.tpm());
    config.network = Some(NetworkConfig {
        keys: artifacts.keys()?,
        pcap: Some(artifacts.logs().join(format!("{}.pcap", config.name))),
        record_bytes: gateway::Config::TEST_RECORD_BYTES,
    });
    std::fs::create_dir_all(artifacts.logs()).context("make the folder for logs")?;
    Ok(config)
}

/// Gives a machine a data disk that stays as the machine leaves it.
pub fn write_disk(config: &mut MachineConfig, disk: &Path) {
    config.data_disk = None;
    // QEMU reads a doubled comma as one.
    let file = disk.display().to_string().replace(',', ",,");
    let drive = format!("if=none,id=data,format=raw,file={file}");
    config
        .more
        .extend(["-drive", &drive, "-device", "virtio-blk-pci,drive=data,serial=data"].map(Into::into));
}

/// Powers a machine off in order.
///
/// # Errors
/// It does not go off in time.
pub fn switch_off(mut machine: Machine) -> anyhow::Result<()> {
    machine.zones().power_off(machine.within(START))?;
    let deadline = machine.within(START);
    machine.wait_for_end(deadline).context("the host did not power off in time").map(drop)
}

/// Gives a machine another policy.
///
/// # Errors
/// The file cannot be written.
pub fn set_policy(config: &mut MachineConfig, artifacts: &Artifacts, policy: &str) -> anyhow::Result<()> {
    let segment = artifacts.logs().join(format!("{}-policy.cpio", config.name));
    std::fs::write(&segment, crate::cpio::single("etc/bulkhead/policy.toml", policy.as_bytes())?)
        .with_context(|| format!("write {}", segment.display()))?;
    config.initramfs.push(segment);
    Ok(())
}

/// Boots the test image and waits until `zoned` answers with the demo's zones.
///
/// # Errors
/// It does not boot, or not in time; the console's end is part of the message.
pub fn boot_test_machine(artifacts: &Artifacts) -> anyhow::Result<Machine> {
    let machine = Machine::boot(test_machine(artifacts)?).context("boot the host")?;
    let deadline = machine.within(BOOT);
    let booted = machine
        .zones()
        .wait_until("a status with the demo's zones", deadline, |status| status.zones.len() == ZONES.len());
    if let Err(error) = booted {
        let seen = evidence(&machine, &error.to_string());
        let tail = machine.serial().tail(60);
        return Err(anyhow::Error::new(error)
            .context(format!("boot the host ({seen}); the console ends so:\n{tail}")));
    }
    Ok(machine)
}

/// Writes down what the machine looks like; says where that is.
#[must_use]
pub fn evidence(machine: &Machine, why: &str) -> String {
    match harness::evidence::gather(machine, why) {
        Ok(path) => format!("what the machine looked like then: {}", path.display()),
        Err(error) => format!("what the machine looked like then cannot be written: {error}"),
    }
}

/// Where the picker's tiles are on this machine's screen.
///
/// # Errors
/// The screen's size is absurd.
pub fn layout(machine: &Machine) -> anyhow::Result<Layout> {
    layout_of(machine, ZONES.len())
}

/// Where everything is on this machine's screen when there are so many zones.
///
/// # Errors
/// The screen's size is absurd.
pub fn layout_of(machine: &Machine, zones: usize) -> anyhow::Result<Layout> {
    let (width, height) = machine.size();
    let size = Size { width: i32::try_from(width)?, height: i32::try_from(height)? };
    Ok(Layout::new(size, Scale::choose(size, None), zones, 0))
}

/// The place of a zone in the demo policy.
///
/// # Errors
/// There is no such zone.
pub fn slot(zone: &str) -> anyhow::Result<usize> {
    ZONES.iter().position(|(name, _)| *name == zone).with_context(|| format!("no zone {zone}"))
}

/// A rectangle of the layout as one of a picture.
///
/// # Errors
/// It lies outside any picture.
pub fn rectangle(rect: Rect) -> anyhow::Result<Rectangle> {
    Ok(Rectangle {
        x: u32::try_from(rect.x)?,
        y: u32::try_from(rect.y)?,
        width: u32::try_from(rect.width)?,
        height: u32::try_from(rect.height)?,
    })
}

/// For how long a tile does not change before it counts as still: longer than zoned coalesces its news.
const STILL: Duration = Duration::from_secs(1);

/// Waits until nothing has moved for a while in a part of the screen.
///
/// # Errors
/// It never stands still.
pub fn wait_until_still(machine: &Machine, name: &str, part: Rectangle) -> anyhow::Result<()> {
    let (mut last, mut since) = (Vec::new(), Instant::now());
    machine.look_until(name, "a picture that stands still", machine.within(SOON), |picture| {
        let pixels = (part.y..part.y + part.height)
            .flat_map(|y| (part.x..part.x + part.width).map(move |x| (x, y)))
            .map(|(x, y)| picture.at(x, y))
            .collect();
        if pixels != last {
            (last, since) = (pixels, Instant::now());
        }
        since.elapsed() >= STILL
    })?;
    Ok(())
}

/// Touches the middle of a zone's tile, once the tile shows the zone's last state and nothing moves in it: what
/// a touch means depends on what the user sees.
///
/// # Errors
/// The tile never stands still, or QEMU does not take the touch.
pub fn touch_tile(machine: &Machine, zone: &str) -> anyhow::Result<()> {
    let layout = layout(machine)?;
    let tile = layout.tiles.get(slot(zone)?).context("the zone's tile is not on the first page")?;
    let tile = rectangle(*tile)?;
    wait_until_still(machine, "tile-to-touch", tile)?;
    machine.tap(tile.x + tile.width / 2, tile.y + tile.height / 2).context("touch the tile")?;
    Ok(())
}

/// The zone as `zoned` sees it now.
///
/// # Errors
/// `zoned` does not answer.
pub fn zone(machine: &Machine, name: &str) -> anyhow::Result<Zone> {
    let status = machine.zones().status(machine.within(SOON))?;
    status.zones.into_iter().find(|zone| zone.name == name).with_context(|| format!("no zone {name}"))
}

/// Stops a zone if it runs, and waits until it is stopped or failed.
///
/// # Errors
/// It does not stop in time.
pub fn ensure_stopped(machine: &Machine, name: &str) -> anyhow::Result<()> {
    let rests = |phase| matches!(phase, Phase::Stopped | Phase::Failed);
    if rests(zone(machine, name)?.state.phase) {
        return Ok(());
    }
    machine.zones().stop(name, machine.within(SOON)).context("stop the zone")?;
    machine.zones().wait_until(&format!("zone {name} at rest"), machine.within(START), |status| {
        status.zones.iter().any(|zone| zone.name == name && rests(zone.state.phase))
    })?;
    Ok(())
}

/// Starts a zone if it does not run, and waits until its agent answered.
///
/// # Errors
/// It does not start in time.
pub fn ensure_running(machine: &Machine, name: &str) -> anyhow::Result<Zone> {
    let rests = |phase| matches!(phase, Phase::Stopped | Phase::Stopping | Phase::Failed);
    if rests(zone(machine, name)?.state.phase) {
        machine.zones().start(name, machine.within(SOON)).with_context(|| format!("start {name}"))?;
    }
    Ok(machine.zones().wait_for_phase(name, Phase::Running, machine.within(START))?)
}

/// Starts a zone if it does not run, and waits until its tunnel is up.
///
/// # Errors
/// It does not come up in time.
pub fn ensure_connected(machine: &Machine, name: &str) -> anyhow::Result<Zone> {
    ensure_running(machine, name)?;
    Ok(machine.zones().wait_for_tunnel(name, machine.within(START))?)
}

/// Runs the template's check `file` in a zone: what it printed.
///
/// # Errors
/// It did not do what it should.
pub fn file(machine: &Machine, zone: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let result = machine.zones().run_check(zone, "file", arguments, machine.within(2 * START))?;
    ensure!(result.passed, "file {arguments:?} in {zone}: {}", result.output);
    Ok(result.output.trim().to_owned())
}

/// Waits for a notice with these words that is newer than `last`.
///
/// # Errors
/// None comes in time.
pub fn wait_for_notice(machine: &Machine, last: u64, words: &[&str]) -> anyhow::Result<()> {
    machine.zones().wait_until(&format!("a notice with {words:?}"), machine.within(SOON), |status| {
        let says = |text: &str| words.iter().all(|word| text.contains(word));
        status.notices.iter().any(|notice| notice.number > last && says(&notice.text))
    })?;
    Ok(())
}

/// The number of the newest notice.
///
/// # Errors
/// `zoned` does not answer.
pub fn last_notice(machine: &Machine) -> anyhow::Result<u64> {
    Ok(machine.zones().status(machine.within(SOON))?.notices.last().map_or(0, |notice| notice.number))
}

/// The process id of a zone's `vmm`, `vpnd` or `swtpm`.
///
/// # Errors
/// There is none.
pub fn process_of(machine: &Machine, program: &str, zone: &str) -> anyhow::Result<i32> {
    let user = user_of(program, zone)?;
    let processes = machine.zones().processes(machine.within(SOON))?;
    processes
        .iter()
        .find(|process| process.user == user)
        .map(|process| process.pid)
        .with_context(|| format!("no process of {program} {zone} (user {user})"))
}

/// For how many seconds a zone's guest has run, by its own clock.
///
/// # Errors
/// It does not say.
pub fn uptime(machine: &Machine, zone: &str) -> anyhow::Result<f64> {
    let result = machine.zones().run_check(zone, "uptime", &[], machine.within(SOON))?;
    let first = result.output.split_whitespace().next().unwrap_or_default();
    first.parse().with_context(|| format!("the uptime of {zone}: {:?}", result.output))
}

/// Services of the host and their users (ARCHITECTURE.md, "Processes").
pub const SERVICES: [(&str, u32); 4] = [("uplink", 100), ("zoned", 101), ("desktop", 102), ("keeper", 103)];

/// The process id of a service.
///
/// # Errors
/// It does not run.
pub fn service_of(machine: &Machine, service: &str) -> anyhow::Result<i32> {
    let user = SERVICES.iter().find(|(name, _)| *name == service).map(|(_, user)| *user);
    let user = user.with_context(|| format!("no service {service}"))?;
    let processes = machine.zones().processes(machine.within(SOON))?;
    processes
        .iter()
        .find(|process| process.user == user)
        .map(|process| process.pid)
        .with_context(|| format!("no {service} runs"))
}

/// The user of a zone's process (ARCHITECTURE.md, "Processes").
///
/// # Errors
/// There is no such zone or program.
pub fn user_of(program: &str, zone: &str) -> anyhow::Result<u32> {
    let base = 2000 + 16 * u32::try_from(slot(zone)?)?;
    match program {
        "vmm" => Ok(base),
        "vpnd" => Ok(base + 1),
        "swtpm" => Ok(base + 2),
        other => bail!("no per-zone program {other}"),
    }
}

/// Fetches the intranet's page in a zone and checks that it names this zone's network and a client address that
/// belongs to it.
///
/// # Errors
/// It does not come, or names another network.
pub fn fetch_own_page(machine: &Machine, site: Site) -> anyhow::Result<String> {
    let result = machine
        .zones()
        .run_check(site.name(), "fetch", &[PAGE, "30"], machine.within(45))
        .with_context(|| format!("fetch {PAGE} in {}", site.name()))?;
    ensure!(result.passed, "{} did not get {PAGE}: {}", site.name(), result.output);
    let network = format!("network: {}\n", site.name());
    ensure!(
        result.output.contains(&network),
        "{} got a page of another network: {}",
        site.name(),
        result.output
    );
    let own = site.client().iter().any(|address| result.output.contains(&format!("client: {address}\n")));
    ensure!(own, "the page names an address that is not {}'s: {}", site.name(), result.output);
    Ok(result.output)
}

/// Judges everything that the host sent since `mark`; `marker` is what was planted in a zone.
///
/// The judge itself is tried on each record: with one planted leak in it, it must find exactly that.
///
/// # Errors
/// A leak, or a record with holes.
pub fn ensure_no_leak(machine: &Machine, mark: Mark, marker: &str) -> anyhow::Result<()> {
    let frames = machine.gateway().frames(mark).context("the record of the wire has holes")?;
    let observer = Observer { host_mac: HOST_MAC, markers: vec![marker.to_owned()] };
    let leaks = observer.leaks(&frames);
    if let Some(first) = leaks.first() {
        bail!("{} of {} frames are leaks; the first: {first}", leaks.len(), frames.len());
    }
    let mut planted = frames;
    let bytes = crate::attack::frames::planted_leak(HOST_MAC, marker);
    let direction = gateway::Direction::FromHost;
    planted.push(gateway::Frame { time: Duration::ZERO, direction, bytes });
    ensure!(observer.leaks(&planted).len() == 1, "the observer did not find the planted leak");
    Ok(())
}

/// Waits for a frame from the host since `mark`.
///
/// # Errors
/// None comes in time.
pub fn wait_for_frame(
    machine: &Machine,
    mark: Mark,
    deadline: Instant,
    what: &str,
    mut wanted: impl FnMut(&gateway::Frame) -> bool,
) -> anyhow::Result<()> {
    let found = machine
        .gateway()
        .wait_for(mark, deadline, |frame| wanted(frame))
        .context("the record of the wire has holes")?;
    found.map(drop).with_context(|| format!("{what} was not seen on the wire in time"))
}
