//! All processes of the host: which run, how they are started, what follows when they end.

mod provide;

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use init_protocol::restarts::{Restarts, Verdict};
use init_protocol::{Event, ExitCause};
use ipc::Channel;
use jail::host::Proc;
use jail::{Folder, Instance, Network, Profile};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};

use crate::console::{Console, show_on_screen};
use crate::groups::{Group, Groups};
use crate::link::Link;
use crate::nic::Nic;
use crate::outputs::{self, Output};
use crate::stored::Stored;
use crate::table::{SERVICES, Service};
use crate::tpm::Keeper;
use crate::zone_disks::ZoneDisks;
use crate::{audit, devices, disk, mounts, spawn, table};

/// How long the desktop waits for a display and an input device.
const DEVICES_DEADLINE: Duration = Duration::from_secs(15);
/// Dead processes whose names are remembered for the kernel's word about them.
const REMEMBERED: usize = 16;
/// What every zone begins with: `keeper` measures it.
const FIRMWARE: &str = "/etc/bulkhead/zone_fw";
/// Who signs templates: `keeper` checks their manifests.
const TEMPLATES: &str = "/etc/bulkhead/templates.toml";
/// What TPMs open secrets for, signed by the image's maker.
const APPROVALS: &str = "/etc/bulkhead/approvals";

/// Time since the machine started.
pub(crate) fn now() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::try_from(time).unwrap_or_default()
}

/// Where a service is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Its program is not in the image, or init gave it up.
    Off,
    /// It waits for its devices until this time.
    WaitsForDevices(Duration),
    /// It starts at this time.
    Due(Duration),
    /// It runs.
    Runs(Pid),
}

#[derive(Debug)]
struct ServiceState {
    service: Service,
    phase: Phase,
    restarts: Restarts,
    /// What bounds it while it runs.
    group: Option<Group>,
}

/// A process of a zone.
#[derive(Debug)]
pub(crate) struct ZoneProcess {
    /// The number that `zoned` chose.
    pub(crate) process: u32,
    /// Its user.
    pub(crate) user: u32,
    label: String,
}

/// Everything that lives.
#[derive(Debug)]
pub(crate) struct Host {
    /// Where to speak.
    pub(crate) console: Console,
    /// The way to `zoned`.
    pub(crate) link: Link,
    /// Pipes of the children.
    pub(crate) outputs: Vec<Output>,
    services: Vec<ServiceState>,
    zones: Vec<(Pid, ZoneProcess)>,
    proc: Proc,
    groups: Groups,
    /// Groups of zones that have a process, by slot.
    zone_groups: BTreeMap<u8, Group>,
    /// Memory of the zones' guests in MiB, by slot.
    guests: BTreeMap<u8, u32>,
    disks: ZoneDisks,
    /// What `zoned` keeps here for the next one.
    pub(crate) stored: Stored,
    dead: VecDeque<(Pid, String)>,
    nic: Option<Nic>,
    varlink: UnixListener,
    uplink_end: Channel,
    zoned_end: Channel,
    /// The way to `keeper`, and what the next one needs.
    keeper: Keeper,
    /// What `keeper` and `zoned` speak over, both ends.
    keeper_ends: (Channel, Channel),
    ending: bool,
}

impl Host {
    /// The services are due at once; nothing runs yet.
    pub(crate) fn new(console: Console, nic: Option<Nic>, varlink: UnixListener) -> anyhow::Result<Self> {
        let (uplink_end, zoned_end) = Channel::pair().context("make the uplink's channel")?;
        let keeper_ends = Channel::pair().context("make keeper's channel")?;
        let proc = Proc::private().context("mount a proc file system of init's own")?;
        let groups = Groups::mount()?;
        let now = now();
        let services = SERVICES
            .map(|service| {
                let phase = match service {
                    _ if !Path::new(service.profile().program).exists() => Phase::Off,
                    Service::Desktop => Phase::WaitsForDevices(now.saturating_add(DEVICES_DEADLINE)),
                    Service::Uplink | Service::Keeper | Service::Zoned | Service::TestBridge => {
                        Phase::Due(now)
                    }
                };
                ServiceState { service, phase, restarts: Restarts::default(), group: None }
            })
            .into();
        Ok(Self {
            console,
            link: Link::default(),
            outputs: Vec::new(),
            services,
            zones: Vec::new(),
            proc,
            groups,
            zone_groups: BTreeMap::new(),
            guests: BTreeMap::new(),
            disks: ZoneDisks::default(),
            stored: Stored::default(),
            dead: VecDeque::new(),
            nic,
            varlink,
            uplink_end,
            zoned_end,
            keeper: Keeper::default(),
            keeper_ends,
            ending: false,
        })
    }

    /// When [`Host::start_due`] has something to do next.
    pub(crate) fn next_start(&self) -> Option<Duration> {
        let times = self.services.iter().filter_map(|state| match state.phase {
            Phase::Due(at) | Phase::WaitsForDevices(at) => Some(at),
            Phase::Off | Phase::Runs(_) => None,
        });
        if self.ending { None } else { times.min() }
    }

    /// Starts the services whose time has come.
    pub(crate) fn start_due(&mut self) {
        for place in 0..self.services.len() {
            let (now, Some(state)) = (now(), self.services.get(place)) else { return };
            let due = match state.phase {
                Phase::Due(at) => at <= now,
                Phase::WaitsForDevices(at) => at <= now || devices::desktop_ready(),
                Phase::Off | Phase::Runs(_) => false,
            };
            if !due || self.ending {
                continue;
            }
            let service = state.service;
            match self.start_service(service) {
                Ok(pid) => {
                    self.console.say(format_args!("{} started (pid {pid})", service.profile().name));
                    self.set_phase(service, Phase::Runs(pid));
                }
                Err(error) => {
                    let why = format!("not started: {error:#}");
                    self.console.say(format_args!("{} {why}", service.profile().name));
                    self.service_ended(service, ExitCause::Code(127), &why);
                }
            }
        }
    }

    fn set_phase(&mut self, service: Service, phase: Phase) {
        if let Some(state) = self.services.iter_mut().find(|state| state.service == service) {
            state.phase = phase;
        }
    }

    fn start_service(&mut self, service: Service) -> anyhow::Result<Pid> {
        let copy = |channel: &Channel| channel.as_fd().try_clone_to_owned();
        let mut descriptors: Vec<(String, OwnedFd)> = Vec::new();
        let mut named = |name: &str, descriptor| descriptors.push((name.to_owned(), descriptor));
        match service {
            Service::Uplink => {
                if let Some(nic) = &self.nic {
                    named("packet0", nic.packet_socket()?);
                    named("mac0", nic.mac_file()?);
                    named("carrier0", nic.carrier_file()?);
                }
                named("control", copy(&self.uplink_end)?);
            }
            Service::Keeper => {
                named("init", self.keeper.renew()?);
                for (name, path) in
                    [("firmware", FIRMWARE), ("approvals", APPROVALS), ("templates", TEMPLATES)]
                {
                    named(name, File::open(path).with_context(|| format!("open {path}"))?.into());
                }
                named("zoned", copy(&self.keeper_ends.0)?);
            }
            Service::Zoned => {
                named("init", self.link.renew().context("make zoned's channel")?);
                self.hand_over().context("copy what zoned stored")?;
                named("uplink", copy(&self.zoned_end)?);
                named("keeper", copy(&self.keeper_ends.1)?);
                named("varlink", self.varlink.as_fd().try_clone_to_owned()?);
                named("meminfo", devices::memory_state()?);
                if let Some(file) = disk::audit_log() {
                    named("audit", file?);
                }
            }
            Service::Desktop => descriptors = devices::for_desktop()?,
            Service::TestBridge => descriptors = devices::for_test_bridge()?,
        }
        let profile = service.profile();
        let borrowed: Vec<_> = descriptors.iter().map(|(name, fd)| (name.clone(), fd.as_fd())).collect();
        let network = match (&self.nic, service) {
            (Some(nic), Service::Uplink) => Network::Joined(nic.namespace().as_fd()),
            _ => Network::Empty,
        };
        let group = self.groups.make(profile.name, table::service_limits(service))?;
        let jail = Jail { user: service.user(), network, folder: None, group: &group, proc: &self.proc };
        let pid = start(&mut self.outputs, profile, &jail, &borrowed, profile.name)?;
        if let Some(state) = self.services.iter_mut().find(|state| state.service == service) {
            state.group = Some(group);
        }
        Ok(pid)
    }

    /// The way to `keeper`.
    pub(crate) fn keeper(&self) -> &Keeper {
        &self.keeper
    }

    /// The same, to take what came.
    pub(crate) fn keeper_mut(&mut self) -> &mut Keeper {
        &mut self.keeper
    }

    /// The zones' processes.
    pub(crate) fn zones(&self) -> &[(Pid, ZoneProcess)] {
        &self.zones
    }

    /// Starts a process of a zone.
    pub(crate) fn start_zone_process(
        &mut self,
        profile: &Profile,
        row: ZoneProcess,
        descriptors: &[(String, BorrowedFd<'_>)],
        folder: Option<&str>,
    ) -> anyhow::Result<Pid> {
        let slot = spawn::slot(row.user);
        let group = match self.zone_groups.remove(&slot) {
            Some(group) => group,
            None => {
                let guest = self.guests.get(&slot).context("nobody said how much memory the zone has")?;
                let made = self.groups.make(&format!("zone-{slot}"), table::zone_limits(*guest));
                made.context(NoGroup)?
            }
        };
        let folder = folder.map(|source| Folder { source, place: mounts::SWTPM_STATE });
        let (network, proc) = (Network::Empty, &self.proc);
        let jail = Jail { user: row.user, network, folder, group: &group, proc };
        let started = start(&mut self.outputs, profile, &jail, descriptors, &row.label);
        if let Ok(pid) = started {
            self.zones.push((pid, row));
        }
        // Without any process of the zone the group goes at once.
        if self.has_process(slot) {
            self.zone_groups.insert(slot, group);
        }
        started
    }

    /// Whether a zone's process is left.
    fn has_process(&self, slot: u8) -> bool {
        self.zones.iter().any(|(_, zone)| spawn::slot(zone.user) == slot)
    }

    /// Tells a new `zoned` of what runs and what was stored.
    fn hand_over(&mut self) -> anyhow::Result<()> {
        for (event, descriptors) in self.stored.tell()? {
            self.link.hand(event, descriptors);
        }
        for (pid, zone) in &self.zones {
            self.link.tell(Event::Lives {
                process: zone.process,
                profile: spawn::profile(zone.user),
                slot: spawn::slot(zone.user),
                zone: zone.label.split_once(' ').map(|(_, name)| name.to_owned()).unwrap_or_default(),
                pid: pid.as_raw_nonzero().get().unsigned_abs(),
            });
        }
        self.link.tell(Event::HandedOver);
        Ok(())
    }

    /// Collects every child that ended.
    pub(crate) fn reap(&mut self) {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => self.ended(pid, cause(status)),
                Err(rustix::io::Errno::INTR) => {}
                Ok(None) | Err(_) => return,
            }
        }
    }

    fn ended(&mut self, pid: Pid, cause: ExitCause) {
        // Its last words come before the notice of its end.
        for output in self.outputs.iter_mut().filter(|output| output.pid() == pid) {
            output.pump(&self.console, now());
        }
        if let Some(place) = self.zones.iter().position(|(zone_pid, _)| *zone_pid == pid) {
            let (_, zone) = self.zones.remove(place);
            self.note_end(pid, &zone.label, cause);
            self.clean_up(&zone);
            self.stored.note_exit(zone.user, zone.process, cause);
            // Without a `zoned`, the next one hears of it when it takes over.
            if self.link.channel().is_some() {
                self.link.tell(Event::Exited { process: zone.process, cause });
            }
        } else if let Some(service) =
            self.services.iter().find(|state| state.phase == Phase::Runs(pid)).map(|state| state.service)
        {
            self.note_end(pid, service.profile().name, cause);
            self.service_ended(service, cause, &cause.to_string());
        }
    }

    fn note_end(&mut self, pid: Pid, label: &str, cause: ExitCause) {
        self.console.say(format_args!("{label} (pid {pid}) {cause}"));
        self.dead.push_back((pid, label.to_owned()));
        if self.dead.len() > REMEMBERED {
            self.dead.pop_front();
        }
    }

    fn service_ended(&mut self, service: Service, cause: ExitCause, why: &str) {
        if service == Service::Zoned {
            // Its zones run on: the next one takes them over.
            self.link.cut();
        }
        let Some(state) = self.services.iter_mut().find(|state| state.service == service) else { return };
        state.group = None;
        if self.ending {
            state.phase = Phase::Off;
            return;
        }
        let verdict = state.restarts.died(now());
        state.phase = match verdict {
            Verdict::At(time) => Phase::Due(time),
            Verdict::GiveUp => Phase::Off,
        };
        let name = service.profile().name;
        if verdict == Verdict::GiveUp {
            let text = format!("{name} is given up after too many restarts. The last time: {name} {why}");
            self.console.say(&text);
            match service {
                Service::Desktop => show_on_screen(&format!("{text}. Press the power button.")),
                Service::Zoned => show_on_screen(&format!(
                    "{text}. Zones that run stay as they are, and nothing can start or stop one. Save your work, \
                     then press the power button."
                )),
                Service::Uplink | Service::Keeper | Service::TestBridge => {}
            }
        }
        let restarts = verdict != Verdict::GiveUp;
        self.link.tell(Event::ServiceExited { service: name.to_owned(), cause, restarts });
    }

    /// Names the system call for which a process was killed.
    pub(crate) fn name_violation(&self, violation: audit::Violation) {
        let dead = self.dead.iter().rev().map(|(pid, label)| (*pid, label.as_str()));
        let alive = self.zones.iter().map(|(pid, zone)| (*pid, zone.label.as_str()));
        let services = self.services.iter().filter_map(|state| match state.phase {
            Phase::Runs(pid) => Some((pid, state.service.profile().name)),
            Phase::Off | Phase::WaitsForDevices(_) | Phase::Due(_) => None,
        });
        let mut known = alive.chain(services).chain(dead);
        if let Some((_, label)) = known.find(|(pid, _)| pid.as_raw_nonzero().get() == violation.pid) {
            let name = audit::name(violation.call);
            self.console
                .say(format_args!("{label}: made a forbidden system call ({} {name})", violation.call));
        }
    }

    /// No service is started from now on.
    pub(crate) fn begin_end(&mut self) {
        self.ending = true;
    }

    /// Sends a signal to every process of a zone.
    pub(crate) fn signal_zones(&self, signal: Signal) {
        for (pid, _) in &self.zones {
            self.signal(*pid, signal);
        }
    }

    /// Sends a signal to every service.
    pub(crate) fn signal_services(&self, signal: Signal) {
        for state in &self.services {
            if let Phase::Runs(pid) = state.phase {
                self.signal(pid, signal);
            }
        }
    }

    fn signal(&self, pid: Pid, signal: Signal) {
        // The first process of a namespace never gets a signal that it does not handle: waiting for it would
        // be waiting for nothing.
        let signal = if signal == Signal::TERM && !handles_term(pid) { Signal::KILL } else { signal };
        if let Err(error) = rustix::process::kill_process(pid, signal) {
            self.console.say(format_args!("cannot signal pid {pid}: {error}"));
        }
    }

    /// Whether a service runs.
    pub(crate) fn service_runs(&self) -> bool {
        self.services.iter().any(|state| matches!(state.phase, Phase::Runs(_)))
    }
}

impl ZoneProcess {
    /// A process that is about to start.
    pub(crate) fn new(process: u32, user: u32, label: String) -> Self {
        Self { process, user, label }
    }
}

/// Who a process is, and what bounds it.
struct Jail<'a> {
    user: u32,
    network: Network<'a>,
    folder: Option<Folder<'a>>,
    group: &'a Group,
    proc: &'a Proc,
}

/// Starts a program and listens to what it says.
fn start(
    outputs: &mut Vec<Output>,
    profile: &Profile,
    jail: &Jail<'_>,
    descriptors: &[(String, BorrowedFd<'_>)],
    label: &str,
) -> anyhow::Result<Pid> {
    let (ours, theirs) = outputs::pipe().context("make an output pipe")?;
    let instance = Instance {
        user: jail.user,
        network: jail.network,
        descriptors,
        folder: jail.folder,
        output: theirs.as_fd(),
        group: Some(jail.group.as_fd()),
        proc: jail.proc,
        environment: table::environment(profile),
    };
    let pid = jail::start(profile, &instance)?;
    outputs.push(Output::new(ours, pid, label.to_owned(), now()));
    Ok(pid)
}

/// A control group could not be made.
#[derive(Debug, thiserror::Error)]
#[error("no control group")]
struct NoGroup;

/// Whether a process was not started because a wall of its jail could not be built.
pub(crate) fn wall_failed(error: &anyhow::Error) -> bool {
    error.downcast_ref::<NoGroup>().is_some()
        || error.downcast_ref::<jail::StartError>().is_some_and(jail::StartError::is_containment)
}

fn cause(status: WaitStatus) -> ExitCause {
    /// `SIGSYS`.
    const BAD_SYSTEM_CALL: i32 = 31;
    match (status.terminating_signal(), status.exit_status()) {
        (Some(BAD_SYSTEM_CALL), _) => ExitCause::ForbiddenSystemCall,
        (Some(signal), _) => ExitCause::Signal(signal),
        (None, code) => ExitCause::Code(code.unwrap_or_default()),
    }
}

/// Whether a process catches or collects SIGTERM.
fn handles_term(pid: Pid) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let sets =
        status.lines().filter_map(|line| line.strip_prefix("SigCgt:").or(line.strip_prefix("SigBlk:")));
    let mut sets = sets.filter_map(|set| u64::from_str_radix(set.trim(), 16).ok());
    sets.any(|set| set & (1 << 14) != 0)
}
