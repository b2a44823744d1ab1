//! Attacks from inside every jail: the first process of a boot of the test image with `rdinit=/bin/escape`.
//!
//! It prepares the machine as `init` does, from the same source files, and then starts `/bin/probe` (the attack
//! program of the `jail` crate) in place of the real program in each row of `init`'s table: same jail, same
//! user, same limits, once for each attempt, because a forbidden call kills. Before that, outside any jail, the
//! control: the same attempts by root, most of which work, or they would prove nothing. In the VMM's jail they are
//! also made by threads in the roles that serve a guest, together with what only the VMM's other threads may do.
//!
//! The production image contains neither program, and `init` knows nothing of them: this is another first
//! process, not another mode of `init`. It reports on the console and powers the machine off.

#[path = "../../../image/init/src/console.rs"]
#[expect(dead_code, reason = "init uses more of it")]
mod console;
#[path = "../../../image/init/src/groups.rs"]
mod groups;
#[path = "../../../image/init/src/kernel.rs"]
#[expect(dead_code, reason = "init uses more of it")]
mod kernel;
#[path = "../../../image/init/src/mounts.rs"]
#[expect(dead_code, reason = "init uses more of it")]
mod mounts;
#[path = "../../../image/init/src/table.rs"]
#[expect(dead_code, reason = "init uses more of it")]
mod table;
mod verdict;

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::Command;

use anyhow::Context;
use init_protocol::ZoneProfile;
use jail::calls::{Call, always};
use jail::host::{NetworkNamespace, Proc};
use jail::roles::Role;
use jail::{Folder, Instance, Network, Profile};
use rustix::process::{Pid, Signal, WaitOptions};
use rustix::system::RebootCommand;

use console::Console;
use groups::{Group, Groups, Limits};
use table::Service;
use verdict::{Outcome, Verdict, judge};

/// The attack program.
const PROBE: &str = "/bin/probe";
/// User of the process that is attacked: the VMM of the second slot.
const VICTIM_USER: u32 = 2016;

fn main() -> anyhow::Result<()> {
    anyhow::ensure!(std::process::id() == 1, "escape is the first process of a test machine, nothing else");
    mounts::virtual_file_systems()?;
    let console = Console::open();
    if let Err(error) = attack(&console) {
        console.say(format_args!("escape failed: {error:#}"));
    }
    rustix::system::reboot(RebootCommand::PowerOff).context("power off")
}

/// One row of the table, and who a process of it is.
struct Row {
    profile: Profile,
    user: u32,
    limits: Limits,
    /// Attempts that this row is meant to allow.
    granted: &'static [&'static str],
    /// The role of the thread that makes the attempt; without one it is the process's first thread.
    role: Option<Role>,
}

impl Row {
    fn name(&self) -> &'static str {
        self.role.map_or(self.profile.name, |role| role.name)
    }
}

fn rows() -> Vec<Row> {
    let service = |service: Service, granted| Row {
        profile: Profile { program: PROBE, ..*service.profile() },
        user: service.user(),
        limits: table::service_limits(service),
        granted,
        role: None,
    };
    let zone = |profile, user| Row {
        profile: Profile { program: PROBE, arguments: &[], ..*table::zone_profile(profile) },
        user,
        limits: table::zone_limits(64),
        granted: &[],
        role: None,
    };
    // The processor's, the disk's, and the one with the fewest calls.
    let role = |role| Row { role: Some(role), ..zone(ZoneProfile::Vmm, 2000) };
    vec![
        zone(ZoneProfile::Vmm, 2000),
        zone(ZoneProfile::Vpnd, 2001),
        zone(ZoneProfile::Swtpm, 2002),
        service(Service::Keeper, &[]),
        service(Service::Uplink, &[]),
        // It keeps the policy and makes the zones' disks, by path.
        service(Service::Zoned, &["open_settings", "open_zone_disk"]),
        service(Service::Desktop, &[]),
        role(jail::roles::VCPU),
        role(jail::roles::DISK),
        role(jail::roles::DEADLINE),
    ]
}

/// What starts need.
struct Ground {
    proc: Proc,
    groups: Groups,
    network: NetworkNamespace,
}

fn attack(console: &Console) -> anyhow::Result<()> {
    jail::require_landlock()?;
    kernel::load_modules(console)?;
    // A zone's disk as `zoned` would have made it, and a socket as the desktop's.
    for folder in [mounts::DATA, "/data/templates", "/data/zones", "/data/zones/vault"] {
        mounts::make_folder(folder, 0o755)?;
    }
    std::fs::write("/data/zones/vault/private.img", "secret").context("make a disk")?;
    mounts::give("/data/zones/vault/private.img".as_ref(), table::ZONED_USER, 0o600)?;
    for folder in ["/data/vtpm", "/data/vtpm/vault"] {
        mounts::make_folder(folder, 0o700)?;
    }
    mounts::give("/data/vtpm/vault".as_ref(), 2002, 0o700)?;
    mounts::make_folder("/run/bulkhead", 0o755)?;
    let _varlink = UnixListener::bind(mounts::VARLINK).context("listen")?;
    let name = SocketAddr::from_abstract_name("victim").context("name a socket")?;
    let _abstract = UnixListener::bind_addr(&name).context("listen")?;
    mounts::jail_roots()?;
    mounts::set_owners()?;
    let network = NetworkNamespace::fresh().context("make a network namespace")?;
    let ground = Ground { proc: Proc::private()?, groups: Groups::mount()?, network };

    let victim = Row { user: VICTIM_USER, ..rows().swap_remove(0) };
    let victim_group = ground.groups.make("victim", victim.limits)?;
    let (victim_pid, mut said) = begin(&ground, &victim, &victim_group, "hold", 0)?;
    said.read_exact(&mut [0; 8]).context("wait for the victim")?;
    let number = victim_pid.as_raw_nonzero().get();

    let (list, of_roles) = (by_root("list", number)?, by_root("list_of_roles", number)?);
    let (Outcome::Said(list), Outcome::Said(of_roles)) = (&list, &of_roles) else {
        anyhow::bail!("no list of attempts: {list:?}, {of_roles:?}")
    };
    let attempts: Vec<&str> = list.split_whitespace().collect();
    let of_roles: Vec<&str> = of_roles.split_whitespace().collect();
    let mut possible = 0;
    for attempt in &attempts {
        let outcome = by_root(attempt, number)?;
        possible += u32::from(outcome.is_done());
        console.say(format_args!("escape control {attempt} {outcome}"));
    }

    kernel::set_switches(console)?;
    mounts::freeze()?;
    let mut breaches = 0;
    let mut rows = rows();
    let count = rows.len();
    for row in &rows {
        let group = ground.groups.make(row.name(), row.limits)?;
        let more = if row.role.is_some() { of_roles.as_slice() } else { &[] };
        for attempt in attempts.iter().chain(more) {
            let outcome = from_inside(&ground, row, &group, attempt, number)?;
            let verdict = judge(attempt, &outcome, row.granted.contains(attempt));
            breaches += u32::from(verdict != Verdict::AsItShould);
            console.say(format_args!("escape {} {attempt} {outcome}: {verdict}", row.name()));
        }
    }
    // The walls behind the first one: a VMM's jail whose filter allows every call.
    let every: &'static [Call] = (0..512).map(always).collect::<Vec<_>>().leak();
    let mut open = rows.swap_remove(0);
    open.profile = Profile { name: "unfiltered", calls: vec![every].leak(), ..open.profile };
    let group = ground.groups.make(open.profile.name, open.limits)?;
    for attempt in &attempts {
        let outcome = from_inside(&ground, &open, &group, attempt, number)?;
        console.say(format_args!("escape unfiltered {attempt} {outcome}: seen"));
    }
    rustix::process::kill_process(victim_pid, Signal::KILL)?;
    let attempts = attempts.len();
    console.say(format_args!(
        "escape end: {count} rows, {attempts} attempts, {possible} possible outside, {breaches} breaches"
    ));
    Ok(())
}

/// An attempt outside any jail.
fn by_root(attempt: &str, victim: i32) -> anyhow::Result<Outcome> {
    use std::os::unix::process::ExitStatusExt as _;
    let output = Command::new(PROBE)
        .env("TRY", attempt)
        .env("VICTIM", victim.to_string())
        .output()
        .context("start the probe outside a jail")?;
    Ok(Outcome::of(output.status.signal(), &output.stdout))
}

/// An attempt in a row's jail.
fn from_inside(
    ground: &Ground,
    row: &Row,
    group: &Group,
    attempt: &str,
    victim: i32,
) -> anyhow::Result<Outcome> {
    let (pid, mut output) = begin(ground, row, group, attempt, victim)?;
    let mut said = Vec::new();
    output.read_to_end(&mut said).context("hear the probe")?;
    let ended = rustix::process::waitpid(Some(pid), WaitOptions::empty()).context("wait for the probe")?;
    let signal = ended.and_then(|(_, status)| status.terminating_signal());
    Ok(Outcome::of(signal, &said))
}

/// Starts the probe in a row's jail, with a channel and, for a VMM, KVM.
fn begin(
    ground: &Ground,
    row: &Row,
    group: &Group,
    attempt: &str,
    victim: i32,
) -> anyhow::Result<(Pid, std::fs::File)> {
    let (output, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let (_ours, events) = std::os::unix::net::UnixDatagram::pair()?;
    let mut passed: Vec<(String, OwnedFd)> = vec![("events".to_owned(), events.into())];
    if row.profile.name == "vmm"
        && let Ok(kvm) = std::fs::File::open("/dev/kvm")
    {
        passed.push(("kvm".to_owned(), kvm.into()));
    }
    let descriptors: Vec<(String, BorrowedFd<'_>)> =
        passed.iter().map(|(name, descriptor)| (name.clone(), descriptor.as_fd())).collect();
    let uplink = row.user == Service::Uplink.user();
    let filter = row.role.map_or(Ok(String::new()), |role| {
        Ok::<_, anyhow::Error>(
            role.instructions()?.concat().iter().map(|byte| format!("{byte:02x}")).collect(),
        )
    })?;
    let folder = (row.profile.name == "swtpm")
        .then_some(Folder { source: "/data/vtpm/vault", place: mounts::SWTPM_STATE });
    let instance = Instance {
        user: row.user,
        network: if uplink { Network::Joined(ground.network.as_fd()) } else { Network::Empty },
        descriptors: &descriptors,
        folder,
        output: theirs.as_fd(),
        group: Some(group.as_fd()),
        proc: &ground.proc,
        environment: &[("TRY", attempt), ("VICTIM", &victim.to_string()), ("FILTER", &filter)],
    };
    let pid = jail::start(&row.profile, &instance).with_context(|| format!("start {}", row.profile.name))?;
    Ok((pid, output.into()))
}
