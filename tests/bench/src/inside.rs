//! Inside the host: starts the zone by each contestant in turn, and says on the console what it cost.
//!
//! Everything lies on one read-only disk at [`DISK`]: `vmm`, `vpnd`, `zone_fw`, `qemu/`, and the zone's `vmlinux`, `initrd`,
//! `root.img`, `private.img` and `template.toml`. All contestants get the same kernel, initrd, command line
//! and disks, and everything was read once before the first start. A start's private disk is a fresh copy in
//! memory.
//!
//! It never runs on a machine that somebody uses: it is process 1 and ends by powering off.

mod agent;
mod ours;
mod pair;
mod peer;
mod process;
mod profile;
mod system;

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::Context;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use zone_protocol::agent::GUEST_CID;

use crate::sample::{
    CROWD, Contestant, Counted, Footprint, Line, MARK, Measured, PROFILE_PARAMETER, ROUNDS_PARAMETER,
};

/// Where the disk is mounted.
const DISK: &str = "/bench";

/// How long one start may take. Emulated, with neighbours, one takes seconds.
const PATIENCE: Duration = Duration::from_secs(150);

/// Descriptors wait above this number until those that our VMM inherits are free.
const PARKED: i32 = 100;

/// How long zones are left alone before their memory is looked at.
const IDLE: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// Memory of the zone, in MiB: the demo policy's.
const MEMORY_MIB: u32 = 256;

/// Who is looked at where one look costs much.
const COMPARED: [Contestant; 2] = [Contestant::Ours, Contestant::MicrovmMmio];

/// The zone that everybody starts.
struct Zone {
    vmm: PathBuf,
    vpnd: PathBuf,
    qemu: PathBuf,
    firmware: PathBuf,
    kernel: PathBuf,
    initrd: PathBuf,
    root: PathBuf,
    private: PathBuf,
    command_line: String,
}

/// A contestant that runs.
struct Started {
    child: Child,
    /// The zone's other processes.
    helpers: Vec<Child>,
    /// When its process was about to be made.
    began: Instant,
    /// Where the agent will come from; there is one at a time in this host.
    agent: Option<agent::Source>,
    /// The end of what guest and program wrote.
    output: process::Output,
    /// Held open: what program and agent would miss.
    held: Vec<OwnedFd>,
}

/// Measures, then powers the machine off. Process 1 that returned would be a kernel panic.
pub fn run() {
    let line = match system::prepare().and_then(|()| measure()) {
        Ok(()) => Line::Done,
        Err(error) => Line::Broken { reason: format!("{error:#}") },
    };
    // Without a console nobody hears anything; the machine ends all the same.
    let _unheard = say(&line);
    system::power_off();
}

fn measure() -> anyhow::Result<()> {
    let rounds = system::parameter(ROUNDS_PARAMETER)?;
    let zone = Zone::read(Path::new(DISK))?;
    system::read_all(Path::new(DISK)).context("read the disk once")?;
    for who in Contestant::ALL {
        let (version, command) = match who {
            Contestant::Ours => ours::description(),
            Contestant::MicrovmMmio | Contestant::MicrovmPcie | Contestant::Q35 => {
                peer::description(&zone, who)?
            }
        };
        say(&Line::Contestant { who, version, command })?;
    }
    if system::parameter(PROFILE_PARAMETER)? != 0 {
        for who in COMPARED {
            say(&result_of(
                0,
                who,
                sample(&zone, who).map(|measured| Line::Sample { round: 0, who, measured }),
            ))?;
            for counted in profile(&zone, who).with_context(|| format!("profile of {}", who.name()))? {
                say(&Line::Profile { who, counted })?;
            }
            let what = Footprint::WholeZone;
            say(&result_of(0, who, whole(&zone, who).map(|kib| Line::Memory { what, who, kib })))?;
        }
        return Ok(());
    }
    for round in 0..rounds {
        let first = usize::try_from(round)? % Contestant::ALL.len();
        for who in Contestant::ALL.into_iter().cycle().skip(first).take(Contestant::ALL.len()) {
            let outcome = sample(&zone, who).map(|measured| Line::Sample { round, who, measured });
            say(&result_of(round, who, outcome))?;
        }
        say(&pair::measure(&zone, round))?;
    }
    for who in COMPARED {
        for (what, look) in [
            (Footprint::WholeZone, whole as fn(&Zone, Contestant) -> anyhow::Result<u32>),
            (Footprint::EighthIdle, idle),
        ] {
            let outcome = look(&zone, who).map(|kib| Line::Memory { what, who, kib });
            say(&result_of(rounds, who, outcome))?;
        }
    }
    Ok(())
}

/// A start's line, or why it has none.
fn result_of(round: u32, who: Contestant, outcome: anyhow::Result<Line>) -> Line {
    outcome.unwrap_or_else(|error| Line::Failed { round, who, reason: format!("{error:#}") })
}

/// The memory of all processes of a zone less its guest's. Ours has a tunnel, and so one process more; the peer has no
/// network at all.
fn whole(zone: &Zone, who: Contestant) -> anyhow::Result<u32> {
    let private = Path::new("/run/private.img");
    let mut started = match who {
        Contestant::Ours => {
            std::fs::copy(&zone.private, private).context("copy the private disk")?;
            ours::start(zone, private, ours::Network::Tunnel)?
        }
        Contestant::MicrovmMmio | Contestant::MicrovmPcie | Contestant::Q35 => {
            start(zone, private, who, GUEST_CID)?
        }
    };
    let mut look = || -> anyhow::Result<u32> {
        let connection = started.agent()?.hello(&started.child, started.began + PATIENCE)?;
        started.held.push(connection);
        let processes = std::iter::once(&started.child).chain(&started.helpers);
        processes.map(|process| process::memory_beside(process.id(), u64::from(MEMORY_MIB) << 10)).sum()
    };
    let kib = look();
    started.end()?;
    kib.with_context(|| format!("it wrote: {}", started.output.tail()))
}

/// Starts [`CROWD`] zones, lets them be idle, and says what the last one costs: its process, with the memory that
/// its guest really uses.
fn idle(zone: &Zone, who: Contestant) -> anyhow::Result<u32> {
    let mut crowd: Vec<Started> = Vec::new();
    let mut last = || -> anyhow::Result<u32> {
        for number in 0..CROWD {
            let private = PathBuf::from(format!("/run/private-{number}.img"));
            let mut started = start(zone, &private, who, GUEST_CID + number)?;
            let connection = started.agent()?.hello(&started.child, started.began + PATIENCE);
            let connection =
                connection.with_context(|| format!("zone {number}: {}", started.output.tail()))?;
            started.held.push(park(connection)?);
            crowd.push(started);
        }
        let last = crowd.last().context("nobody was started")?;
        let process = pidfd_open(Pid::from_child(&last.child), PidfdFlags::empty())?;
        let mut ended = [PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN)];
        anyhow::ensure!(poll(&mut ended, Some(&IDLE))? == 0, "it ended: {}", last.output.tail());
        process::memory(last.child.id())
    };
    let kib = last();
    for (number, started) in crowd.iter_mut().enumerate() {
        started.end()?;
        std::fs::remove_file(format!("/run/private-{number}.img")).context("remove a private disk")?;
    }
    kib
}

/// Moves a descriptor that outlives a start out of the way of the next one's.
fn park(descriptor: OwnedFd) -> anyhow::Result<OwnedFd> {
    fcntl_dupfd_cloexec(&descriptor, PARKED).context("duplicate a descriptor")
}

/// Starts the zone with a fresh private disk.
fn start(zone: &Zone, private: &Path, who: Contestant, cid: u32) -> anyhow::Result<Started> {
    std::fs::copy(&zone.private, private).context("copy the private disk")?;
    match who {
        Contestant::Ours => ours::start(zone, private, ours::Network::None),
        Contestant::MicrovmMmio | Contestant::MicrovmPcie | Contestant::Q35 => {
            peer::start(zone, private, who, cid)
        }
    }
}

/// One start whose exits are counted one by one.
fn profile(zone: &Zone, who: Contestant) -> anyhow::Result<Vec<Counted>> {
    let counting = profile::Profile::begin()?;
    sample(zone, who)?;
    counting.end()
}

/// One start, from nothing to nothing.
fn sample(zone: &Zone, who: Contestant) -> anyhow::Result<Measured> {
    let mut started = start(zone, Path::new("/run/private.img"), who, GUEST_CID)?;
    let measured = started.measure();
    let status = started.end()?;
    measured.with_context(|| format!("{status}; it wrote: {}", started.output.tail()))
}

impl Started {
    /// Where the agent will come from, once.
    fn agent(&mut self) -> anyhow::Result<agent::Source> {
        self.agent.take().context("the agent came already")
    }

    /// Ends every process; the end of the first.
    fn end(&mut self) -> anyhow::Result<ExitStatus> {
        for process in std::iter::once(&mut self.child).chain(&mut self.helpers) {
            // It may have ended by itself.
            let _ended = process.kill();
            process.wait().context("wait for its end")?;
        }
        self.child.wait().context("wait for its end")
    }

    /// Waits for the Hello and takes all numbers at this moment.
    fn measure(&mut self) -> anyhow::Result<Measured> {
        let deadline = self.began + PATIENCE;
        let process = pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty())?;
        let before_run_us = process::before_run(self.child.id(), process.as_fd(), deadline)?;
        let connection = self.agent()?.hello(&self.child, deadline)?;
        let hello = self.began.elapsed();
        let exits = process::exits()?;
        let id = self.child.id();
        self.held.push(connection);
        Ok(Measured {
            hello_us: u32::try_from(hello.as_micros())?,
            exits: exits.all,
            port_exits: exits.port,
            memory_exits: exits.memory,
            fault_exits: exits.fault,
            halt_exits: exits.halt,
            interrupt_exits: exits.interrupt,
            before_run_us,
            outside_ms: process::outside_ms(id)?,
            vmm_kib: process::memory_beside(id, u64::from(MEMORY_MIB) << 10)?,
        })
    }
}

impl Zone {
    /// The zone on the disk.
    fn read(disk: &Path) -> anyhow::Result<Self> {
        let template = disk.join("template.toml");
        let text =
            std::fs::read_to_string(&template).with_context(|| format!("read {}", template.display()))?;
        let template: toml_edit::DocumentMut = text.parse().context("read template.toml")?;
        let command_line = template.get("command_line").and_then(toml_edit::Item::as_str);
        let command_line = command_line.context("template.toml has no command_line")?.to_owned();
        Ok(Self {
            vmm: disk.join("vmm"),
            vpnd: disk.join("vpnd"),
            qemu: disk.join("qemu"),
            kernel: disk.join("vmlinux"),
            firmware: disk.join("zone_fw"),
            initrd: disk.join("initrd"),
            root: disk.join("root.img"),
            private: disk.join("private.img"),
            command_line,
        })
    }
}

/// Writes one line to the console.
fn say(line: &Line) -> anyhow::Result<()> {
    // One write, so that the kernel's words come before or after.
    let text = format!("\n{MARK}{}\n", serde_json::to_string(line)?);
    io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()).context("console")
}

fn open(path: &Path) -> anyhow::Result<File> {
    File::open(path).with_context(|| format!("open {}", path.display()))
}
