//! Process 1 of a zone: from the initrd to a running system, then, in `micro`, a supervisor and reaper. A template
//! with systemd gets that as process 1 once root and /home are there; the network is its business then.
//!
//! Order: pseudo file systems, modules of [`MODULES`] in their order, the template's disk behind dm-verity, an
//! overlay in memory over it as the new root, the private disk on /home and over the folders that it keeps, the links, the DHCP clients (one for
//! each IP version) when there is a NIC, the agent. What only the user would miss (private disk, network) does
//! not stop the zone: it is logged, and the agent can say so. Without a root there is nothing to run: the machine
//! powers off by panic (process 1 ends).

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_move, unmount};
use rustix::process::{Pid, Signal, WaitOptions, chdir, chroot, kill_process, waitpid};
use rustix::system::{RebootCommand, finit_module, reboot};

use crate::kmsg::log;
use crate::{POWER_OFF, UNDER_INIT, disks, kept, netlink, verity};

/// List of modules in the initrd, one path a line, in the order in which they are loaded.
const MODULES: &str = "/etc/modules-load";

/// Where the agent is in the template.
const AGENT: &str = "/usr/lib/bulkhead/agent";

/// The process 1 of a template with a system of its own, which starts the agent as a service.
const SYSTEMD: &str = "/usr/lib/systemd/systemd";

/// The DHCP clients, and the script that both call.
const BUSYBOX: &str = "/bin/busybox";
const DHCP_SCRIPT: &str = "/usr/lib/bulkhead/udhcpc.script";

/// The zone's NIC.
const NIC: &str = "eth0";

/// A program that ends sooner than this is started again only after this.
const SOON: Duration = Duration::from_secs(2);

/// The longest wait for a client of DHCPv6 that ends again and again: most networks do without it.
const MOST_PAUSE: Duration = Duration::from_secs(64);

/// How long programs may take to end at power-off.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// Brings the zone up and never returns: the machine ends by power-off, or by the kernel's panic when
/// process 1 fails.
pub(crate) fn run() -> ! {
    let error = match start() {
        Ok(()) => Supervisor::new().run(),
        Err(error) => error,
    };
    log(&format!("zone cannot start: {error:#}"));
    // Process 1 that ends is a kernel panic: what the host shows as the reason.
    #[expect(clippy::exit, reason = "process 1 has no caller to return to")]
    std::process::exit(1);
}

fn start() -> anyhow::Result<()> {
    pseudo_file_systems()?;
    load_modules();
    switch_root()?;
    match disks::mount_private(Instant::now) {
        Ok(()) => kept::mount_all(),
        Err(error) => log(&format!("private disk: {error:#}")),
    }
    if Path::new(SYSTEMD).exists() {
        // Returns only when it does not work.
        let error = Command::new(SYSTEMD).arg0("init").exec();
        return Err(error).context(SYSTEMD);
    }
    if let Err(error) = netlink::set_up(1) {
        log(&format!("loopback link: {error}"));
    }
    // Up before the DHCP clients start: DHCPv6 needs the link-local address that comes with it.
    if let Some(index) = nic_index()
        && let Err(error) = netlink::set_up(index)
    {
        log(&format!("link {NIC}: {error}"));
    }
    Ok(())
}

/// The kernel's number of the zone's NIC, when there is one.
fn nic_index() -> Option<u32> {
    std::fs::read_to_string(format!("/sys/class/net/{NIC}/ifindex")).ok()?.trim().parse().ok()
}

fn pseudo_file_systems() -> anyhow::Result<()> {
    let none = MountFlags::empty();
    let quiet = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    for (kind, target, flags) in
        [("devtmpfs", "/dev", none), ("proc", "/proc", quiet), ("sysfs", "/sys", quiet)]
    {
        drop(std::fs::create_dir(target));
        match mount(kind, target, kind, flags, None) {
            // The kernel has mounted it already.
            Ok(()) | Err(Errno::BUSY) => {}
            Err(error) => return Err(error).context(target),
        }
    }
    Ok(())
}

fn load_modules() {
    let list = std::fs::read_to_string(MODULES).unwrap_or_default();
    for path in list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let loaded = File::open(path).map_err(anyhow::Error::from).and_then(|file| {
            match finit_module(&file, c"", 0) {
                Ok(()) | Err(Errno::EXIST) => Ok(()),
                Err(error) => Err(error.into()),
            }
        });
        // Some are for devices that this zone has not; a device that is missed shows by itself.
        if let Err(error) = loaded {
            log(&format!("module {path}: {error:#}"));
        }
    }
}

/// Makes the template under a fresh overlay the root (an initramfs knows no `pivot_root`).
fn switch_root() -> anyhow::Result<()> {
    let template = disks::find("template", Instant::now)?;
    let template = verity::open(&template).context("guard the template")?;
    for folder in ["/template", "/fresh", "/root.new"] {
        drop(std::fs::create_dir(folder));
    }
    let read_only = MountFlags::RDONLY | MountFlags::NODEV;
    mount(&template, "/template", "erofs", read_only, None).context("mount the template")?;
    mount("tmpfs", "/fresh", "tmpfs", MountFlags::NODEV, Some(c"mode=0755")).context("mount memory")?;
    for folder in ["/fresh/upper", "/fresh/work"] {
        std::fs::create_dir(folder).context(folder)?;
    }
    let options = c"lowerdir=/template,upperdir=/fresh/upper,workdir=/fresh/work";
    mount("overlay", "/root.new", "overlay", MountFlags::empty(), Some(options))
        .context("mount the overlay")?;
    for target in ["dev", "proc", "sys"] {
        let (old, new) = (Path::new("/").join(target), Path::new("/root.new").join(target));
        drop(std::fs::create_dir(&new));
        mount_move(&old, &new).with_context(|| format!("move {target}"))?;
    }
    chdir("/root.new").context("enter the new root")?;
    mount_move(".", "/").context("move the root")?;
    chroot(".").context("change the root")?;
    chdir("/").context("enter the root")?;
    for (target, mode) in [("/run", c"mode=0755"), ("/tmp", c"mode=1777")] {
        drop(std::fs::create_dir(target));
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        mount("tmpfs", target, "tmpfs", flags, Some(mode)).context(target)?;
    }
    drop(std::fs::create_dir("/home"));
    Ok(())
}

/// A program that is kept running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Service {
    Agent,
    Dhcp,
    Dhcp6,
}

impl Service {
    /// How long after a short life it is started again.
    fn pause(self, short_lives: u32) -> Duration {
        match self {
            Self::Agent | Self::Dhcp => SOON,
            Self::Dhcp6 => {
                let doubled = 2_u32.saturating_pow(short_lives.saturating_sub(1));
                SOON.saturating_mul(doubled).min(MOST_PAUSE)
            }
        }
    }

    fn command(self) -> Command {
        let mut command = match self {
            Self::Agent => {
                let mut command = Command::new(AGENT);
                command.env(UNDER_INIT, "1");
                command
            }
            // A first try each second until the tunnel's gateway service answers.
            Self::Dhcp => {
                let mut command = Command::new(BUSYBOX);
                command.args(["udhcpc", "-f", "-i", NIC, "-s", DHCP_SCRIPT]);
                command.args(["-t", "5", "-T", "1", "-A", "1", "-O", "mtu"]);
                command
            }
            // A tunnel without IPv6 never answers: after some tries it rests. The route is the kernel's
            // business (router advertisement). The script is the same: FAMILY says who calls.
            Self::Dhcp6 => {
                let mut command = Command::new(BUSYBOX);
                command.args(["udhcpc6", "-f", "-i", NIC, "-s", DHCP_SCRIPT]);
                command.args(["-t", "10", "-T", "1", "-A", "60"]);
                command.env("FAMILY", "6");
                command
            }
        };
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        command.env("PATH", path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }
}

/// Starts services, starts them again when they end, and reaps every orphan.
struct Supervisor {
    running: BTreeMap<i32, (Service, Instant)>,
    /// Services that wait for their next start.
    due: BTreeMap<Service, Instant>,
    /// How often in a row a service ended soon after its start.
    short_lives: BTreeMap<Service, u32>,
    ended: Receiver<(i32, Option<i32>)>,
    spawned: Sender<()>,
}

impl Supervisor {
    fn new() -> Self {
        let (ended_sender, ended) = channel();
        let (spawned, spawned_receiver) = channel();
        std::thread::spawn(move || reap(&ended_sender, &spawned_receiver));
        let now = Instant::now();
        let mut due = BTreeMap::from([(Service::Agent, now)]);
        if Path::new("/sys/class/net").join(NIC).exists() {
            due.extend([(Service::Dhcp, now), (Service::Dhcp6, now)]);
        }
        Self { running: BTreeMap::new(), due, short_lives: BTreeMap::new(), ended, spawned }
    }

    /// Runs until the agent wants the zone to power off; returns only when that does not work.
    fn run(mut self) -> anyhow::Error {
        loop {
            self.start_due(Instant::now());
            let next = self.due.values().min();
            let wait =
                next.map_or(Duration::from_secs(3600), |due| due.saturating_duration_since(Instant::now()));
            match self.ended.recv_timeout(wait) {
                Ok((process, code)) => {
                    if self.has_ended(process, code) {
                        return self.power_off();
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return anyhow::anyhow!("the reaper ended"),
            }
        }
    }

    fn start_due(&mut self, now: Instant) {
        let due: Vec<Service> =
            self.due.iter().filter(|(_, due)| **due <= now).map(|(service, _)| *service).collect();
        for service in due {
            self.due.remove(&service);
            match service.command().spawn() {
                Ok(child) => {
                    let process = i32::try_from(child.id()).expect("process ids are positive i32");
                    self.running.insert(process, (service, now));
                }
                Err(error) => {
                    log(&format!("start {service:?}: {error}"));
                    self.due.insert(service, now + SOON);
                }
            }
            let _ = self.spawned.send(());
        }
    }

    /// Notes an end; `true` when it was the agent that wants the zone to power off.
    fn has_ended(&mut self, process: i32, code: Option<i32>) -> bool {
        let Some((service, since)) = self.running.remove(&process) else { return false };
        if service == Service::Agent && code == Some(i32::from(POWER_OFF)) {
            return true;
        }
        let now = Instant::now();
        let short = now.saturating_duration_since(since) < SOON;
        let lives = self.short_lives.entry(service).or_default();
        *lives = if short { lives.saturating_add(1) } else { 0 };
        let pause = if short { service.pause(*lives) } else { Duration::ZERO };
        log(&format!("{service:?} ended ({code:?}), it is started again in {} s", pause.as_secs()));
        self.due.insert(service, now + pause);
        false
    }

    /// Ends every program, writes everything back, powers off.
    fn power_off(&self) -> anyhow::Error {
        log("the zone powers off");
        for signal in [Signal::TERM, Signal::KILL] {
            for process in processes() {
                let _ = kill_process(process, signal);
            }
            let deadline = Instant::now() + END_PATIENCE;
            while !processes().is_empty() {
                let left = deadline.saturating_duration_since(Instant::now());
                if self.ended.recv_timeout(left).is_err() {
                    break;
                }
            }
        }
        rustix::fs::sync();
        kept::unmount_all();
        if let Err(error) = unmount("/home", UnmountFlags::empty()) {
            // Nothing was mounted, or something is still open: what could be written was written.
            log(&format!("unmount /home: {error}"));
        }
        match reboot(RebootCommand::PowerOff) {
            Ok(()) => anyhow::anyhow!("power off returned"),
            Err(error) => anyhow::Error::from(error).context("power off"),
        }
    }
}

/// Every process but this one and the kernel's threads (those have no command line).
fn processes() -> Vec<Pid> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_program = |number: &i32| {
        *number != 1 && std::fs::read(format!("/proc/{number}/cmdline")).is_ok_and(|line| !line.is_empty())
    };
    numbers.filter(is_program).filter_map(Pid::from_raw).collect()
}

/// Reaps every child, known or orphaned, and reports its number and exit code.
fn reap(ended: &Sender<(i32, Option<i32>)>, spawned: &Receiver<()>) {
    loop {
        let sent = match waitpid(None, WaitOptions::empty()) {
            Ok(Some((process, status))) => {
                ended.send((process.as_raw_nonzero().get(), status.exit_status())).is_ok()
            }
            Ok(None) | Err(Errno::INTR) => true,
            // No child at all: wait until there is one.
            Err(_) => spawned.recv().is_ok(),
        };
        if !sent {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dhcpv6_is_given_up_slowly() {
        let pauses = |service: Service| [1, 2, 3, 6, 99].map(|lives| service.pause(lives).as_secs());
        assert_eq!(pauses(Service::Agent), [2; 5]);
        assert_eq!(pauses(Service::Dhcp), [2; 5]);
        assert_eq!(pauses(Service::Dhcp6), [2, 4, 8, 64, 64]);
    }

    #[test]
    fn each_dhcp_client_says_which_it_is() {
        let environment = |service: Service| {
            let command = service.command();
            let family = command.get_envs().find(|(name, _)| *name == "FAMILY");
            family.and_then(|(_, value)| value.map(|value| value.to_string_lossy().into_owned()))
        };
        assert_eq!(environment(Service::Dhcp), None);
        assert_eq!(environment(Service::Dhcp6).as_deref(), Some("6"));
        let command = Service::Dhcp6.command();
        assert_eq!(command.get_args().next().and_then(|applet| applet.to_str()), Some("udhcpc6"));
    }
}
