//! The life of the machine after set-up: one loop that waits for everything.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use anyhow::Context;
use init_protocol::{Event, Request, ZoneProfile};
use jail::host::Signals;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};
use rustix::process::Signal;

use crate::host::{Host, ZoneProcess, now};
use crate::kernel_log::KernelLog;
use crate::lines::{Passage, Ration};
use crate::link::Incoming;
use crate::spawn::{self, Order};
use crate::{devices, table};

/// How long `zoned` may take to end its zones in order: their guests are asked first.
const ZONED_GRACE: Duration = Duration::from_secs(25);
/// How long processes of zones, and then services, may take to end by themselves.
const ZONES_GRACE: Duration = Duration::from_secs(5);
const SERVICES_GRACE: Duration = Duration::from_secs(2);
/// Requests of `zoned` in one turn.
const REQUESTS: u8 = 16;

/// How the machine ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Power off.
    PowerOff,
    /// Start again.
    Restart,
}

/// Stages of an orderly end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// `zoned` asks the guests.
    Asked,
    Zones,
    Services,
}

/// What the loop waits for.
#[derive(Clone, Copy, Debug)]
enum Source {
    Signals,
    KernelLog,
    DeviceEvents,
    Button(usize),
    Zoned,
    Keeper,
    Output(usize),
}

/// The loop's state.
#[derive(Debug)]
pub(crate) struct Runtime {
    host: Host,
    signals: Signals,
    kernel_log: Option<KernelLog>,
    device_events: OwnedFd,
    buttons: Vec<OwnedFd>,
    /// How often `zoned` may be complained about.
    complaints: Ration,
    ending: Option<(Ending, Stage, Duration)>,
}

impl Runtime {
    /// Takes over a prepared host.
    pub(crate) fn new(host: Host, signals: Signals, device_events: OwnedFd) -> Self {
        let kernel_log = KernelLog::open()
            .inspect_err(|error| {
                host.console.say(format_args!("/dev/kmsg: {error}; forbidden calls go unnamed"));
            })
            .ok();
        let buttons = devices::power_buttons()
            .inspect_err(|error| host.console.say(format_args!("power button: {error:#}")))
            .unwrap_or_default();
        Self {
            host,
            signals,
            kernel_log,
            device_events,
            buttons,
            complaints: Ration::new(now()),
            ending: None,
        }
    }

    /// Runs until the machine ends; every other process is gone then.
    pub(crate) fn run(mut self) -> anyhow::Result<Ending> {
        loop {
            self.host.start_due();
            self.host.link.flush();
            if let Some(ending) = self.advance_ending() {
                return Ok(ending);
            }
            for source in self.wait()? {
                self.handle(source);
            }
            self.host.outputs.retain(crate::outputs::Output::is_open);
        }
    }

    /// Waits until something is ready or due.
    fn wait(&self) -> anyhow::Result<Vec<Source>> {
        let mut sources = vec![(Source::Signals, self.signals.as_fd(), PollFlags::IN)];
        let mut add = |source, fd, flags| sources.push((source, fd, flags));
        if let Some(log) = &self.kernel_log {
            add(Source::KernelLog, log.as_fd(), PollFlags::IN);
        }
        add(Source::DeviceEvents, self.device_events.as_fd(), PollFlags::IN);
        for (place, button) in self.buttons.iter().enumerate() {
            add(Source::Button(place), button.as_fd(), PollFlags::IN);
        }
        if let Some(channel) = self.host.link.channel() {
            let writable = if self.host.link.is_waiting() { PollFlags::OUT } else { PollFlags::empty() };
            add(Source::Zoned, channel.as_fd(), PollFlags::IN | writable);
        }
        if let Some(channel) = self.host.keeper().channel() {
            add(Source::Keeper, channel.as_fd(), PollFlags::IN);
        }
        for (place, output) in self.host.outputs.iter().enumerate() {
            add(Source::Output(place), output.as_fd(), PollFlags::IN);
        }
        let mut polled: Vec<PollFd<'_>> =
            sources.iter().map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
        let deadline = self.ending.map(|(_, _, deadline)| deadline);
        let wait = [self.host.next_start(), deadline].into_iter().flatten().min();
        let wait = wait.map(|time| time.saturating_sub(now()));
        let timeout = wait.map(|wait| Timespec::try_from(wait).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 }));
        match poll(&mut polled, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("wait for events"),
        }
        let ready = sources.iter().zip(&polled).filter(|(_, polled)| !polled.revents().is_empty());
        Ok(ready.map(|((source, _, _), _)| *source).collect())
    }

    fn handle(&mut self, source: Source) {
        match source {
            Source::Signals => self.take_signals(),
            Source::KernelLog => {
                let violations = self.kernel_log.as_ref().map(KernelLog::violations).unwrap_or_default();
                for violation in violations {
                    self.host.name_violation(violation);
                }
            }
            // The news itself does not matter: `start_due` looks for the devices.
            Source::DeviceEvents => drain(self.device_events.as_fd()),
            Source::Button(place) => self.read_button(place),
            Source::Zoned => self.take_requests(),
            Source::Keeper => self.host.keeper_mut().receive(),
            Source::Output(place) => {
                if let Some(output) = self.host.outputs.get_mut(place) {
                    output.pump(&self.host.console, now());
                }
            }
        }
    }

    fn take_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.next() {
            if signal == Signal::CHILD.as_raw() {
                // What a dead `zoned` still had asked for happened before its death.
                self.take_requests();
                self.host.reap();
            } else if signal == Signal::INT.as_raw() {
                self.end(Ending::Restart, "Ctrl-Alt-Del");
            } else {
                self.end(Ending::PowerOff, "a signal");
            }
        }
    }

    fn read_button(&mut self, place: usize) {
        let mut events = [0; 24 * 16];
        let read = self.buttons.get(place).map(|button| rustix::io::read(button, &mut events));
        match read {
            Some(Ok(length)) if devices::power_pressed(events.get(..length).unwrap_or(&[])) => {
                self.end(Ending::PowerOff, "the power button");
            }
            Some(Ok(0) | Err(Errno::NODEV)) => drop(self.buttons.remove(place)),
            Some(Ok(_) | Err(_)) | None => {}
        }
    }

    fn take_requests(&mut self) {
        for _ in 0..REQUESTS {
            match self.host.link.next() {
                Incoming::Request(
                    Request::Spawn { process, profile, slot, zone, descriptors: names },
                    given,
                ) => {
                    let order = spawn::check(process, profile, slot, &zone, names, given.len());
                    let result =
                        order.map_err(anyhow::Error::from).and_then(|order| self.spawn(order, &given));
                    let event = match result {
                        Ok(pid) => Event::Spawned { process, pid },
                        Err(error) => {
                            let reason = format!("{error:#}");
                            self.complain(&format!("process {process} refused: {reason}"));
                            let containment = crate::host::wall_failed(&error);
                            Event::Refused { process, reason, containment }
                        }
                    };
                    self.host.link.tell(event);
                }
                Incoming::Request(Request::Kill { process }, _) => {
                    let zones = self.host.zones().iter();
                    let mut found = zones.map(|(pid, zone)| (*pid, zone.process, zone.user));
                    if let Some((pid, _, user)) = found.find(|(_, number, _)| *number == process) {
                        self.host.unblock(user);
                        // It cannot be another process: only init's own wait frees the number.
                        let _gone = rustix::process::kill_process(pid, Signal::KILL);
                    }
                }
                Incoming::Request(
                    request @ (Request::Limit { .. }
                    | Request::OpenDisposable { .. }
                    | Request::OpenPrivate { .. }
                    | Request::LockDisk { .. }
                    | Request::UnlockDisk { .. }
                    | Request::CloseDisk { .. }),
                    given,
                ) => self.host.provide(request, given),
                Incoming::Request(Request::Store { slot, state, names }, given) => {
                    if let Err(error) = self.host.stored.store(slot, state, names, given) {
                        self.complain(&format!("zoned's state of slot {slot} is not stored: {error}"));
                    }
                }
                Incoming::Request(Request::Discard { slot }, _) => self.host.stored.discard(slot),
                Incoming::Request(Request::PowerOff, _) => self.end_zones(),
                Incoming::Malformed => self.complain("zoned sent something that is no request"),
                Incoming::Nothing => return,
            }
        }
    }

    fn complain(&mut self, text: &str) {
        if let Passage::Print { dropped } = self.complaints.line(now()) {
            let more =
                if dropped > 0 { format!(" [and {dropped} complaints before]") } else { String::new() };
            self.host.console.say(format_args!("{text}{more}"));
        }
    }

    fn spawn(&mut self, order: Order, given: &[OwnedFd]) -> anyhow::Result<u32> {
        anyhow::ensure!(self.ending.is_none(), "the machine is going down");
        let mut zones = self.host.zones().iter().map(|(_, zone)| zone);
        if zones.any(|zone| zone.process == order.process || zone.user == order.user) {
            anyhow::bail!("{} (or its number {}) is in use", order.label, order.process);
        }
        let mut folder = None;
        let own = match order.profile {
            ZoneProfile::Vmm => vec![("kvm", devices::kvm()?)],
            ZoneProfile::Vpnd => Vec::new(),
            ZoneProfile::Swtpm => {
                let given = self.host.prepare_tpm(&order)?;
                folder = Some(given.folder);
                given.descriptors.into()
            }
        };
        let own = own.iter().map(|(name, descriptor)| ((*name).to_owned(), descriptor.as_fd()));
        let passed = order.descriptors.iter().cloned().zip(given.iter().map(AsFd::as_fd));
        let descriptors: Vec<(String, BorrowedFd<'_>)> = own.chain(passed).collect();
        let row = ZoneProcess::new(order.process, order.user, order.label.clone());
        let profile = table::zone_profile(order.profile);
        let pid = self.host.start_zone_process(profile, row, &descriptors, folder.as_deref())?;
        self.host.console.say(format_args!("{} started (pid {pid})", order.label));
        Ok(pid.as_raw_nonzero().get().unsigned_abs())
    }

    /// Begins the end, in order: `zoned` has the guests asked.
    fn end(&mut self, ending: Ending, who: &str) {
        if self.ending.is_none() {
            self.host.console.say(format_args!("going down, asked by {who}"));
            self.host.begin_end();
            let patience_ms = u32::try_from(ZONED_GRACE.as_millis()).unwrap_or(u32::MAX);
            self.host.link.tell(Event::ShuttingDown { patience_ms });
            self.ending = Some((ending, Stage::Asked, now().saturating_add(ZONED_GRACE)));
        }
    }

    /// `zoned` has ended its zones, or will not.
    fn end_zones(&mut self) {
        let ending = match self.ending {
            None => {
                self.host.console.say("going down, asked by zoned");
                self.host.begin_end();
                Ending::PowerOff
            }
            Some((ending, Stage::Asked, _)) => ending,
            Some((_, Stage::Zones | Stage::Services, _)) => return,
        };
        self.host.unblock_all();
        self.host.signal_zones(Signal::TERM);
        self.ending = Some((ending, Stage::Zones, now().saturating_add(ZONES_GRACE)));
    }

    /// Goes through the stages of the end; returns when nobody is left.
    fn advance_ending(&mut self) -> Option<Ending> {
        let (ending, stage, deadline) = self.ending?;
        let late = deadline <= now();
        match stage {
            Stage::Asked if late || self.host.zones().is_empty() || self.host.link.channel().is_none() => {
                if late {
                    self.host.console.say("the zones did not end in time");
                }
                self.end_zones();
                self.advance_ending()
            }
            Stage::Asked => None,
            Stage::Zones if self.host.zones().is_empty() => {
                self.host.signal_services(Signal::TERM);
                self.ending = Some((ending, Stage::Services, now().saturating_add(SERVICES_GRACE)));
                self.advance_ending()
            }
            Stage::Services if !self.host.service_runs() => Some(ending),
            Stage::Zones | Stage::Services => {
                if late {
                    self.host.signal_zones(Signal::KILL);
                    if stage == Stage::Services {
                        self.host.signal_services(Signal::KILL);
                    }
                    // A process that the kernel cannot end now (it waits for a disk) is waited for.
                    self.ending = Some((ending, stage, now().saturating_add(SERVICES_GRACE)));
                }
                None
            }
        }
    }
}

/// A socket on which the kernel tells of new devices.
pub(crate) fn device_events() -> anyhow::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let kind = Some(netlink::KOBJECT_UEVENT);
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, kind)
        .context("open the socket of device events")?;
    rustix::net::bind(&socket, &SocketAddrNetlink::new(0, 1)).context("listen to device events")?;
    Ok(socket)
}

fn drain(socket: BorrowedFd<'_>) {
    let mut bytes = [0_u8; 4096];
    loop {
        match rustix::net::recv(socket, &mut bytes, RecvFlags::DONTWAIT) {
            // Too many events at once: they are lost, but the devices are there.
            Ok(_) | Err(Errno::NOBUFS | Errno::INTR) => {}
            Err(_nothing_more) => return,
        }
    }
}
