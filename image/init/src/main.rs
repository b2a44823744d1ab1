//! PID 1 of the host.
//!
//! It prepares the machine (file systems, clock, modules, switches of the kernel, data disk, NIC), starts the
//! services of a fixed table, starts a zone's processes when `zoned` asks, and takes all of it down in
//! order. It alone creates processes; each runs in its jail (see the `jail` crate).
//!
//! ```text
//! prepare --> run: start, watch, restart, spawn --> end zones --> end services --> release disk --> power off
//!    |                     |
//!    +--- sentence on screen and console, restart <--- (panic)
//! ```
//!
//! It never runs a shell, never takes a path or a command from anybody, never gives the kernel's network stack
//! an address, and never goes on when a protection cannot be set up.

mod audit;
mod console;
mod devices;
mod disk;
mod emulator;
mod groups;
mod host;
mod kernel;
mod kernel_log;
mod lines;
mod link;
mod mounts;
mod netlink;
mod nic;
mod outputs;
mod runtime;
mod spawn;
mod stored;
mod table;
mod tpm;
mod zone_disks;

use std::os::unix::net::UnixListener;
use std::path::Path;

use anyhow::Context;
use jail::host::Signals;
use rustix::event::{Timespec, poll};
use rustix::fs::{Gid, Mode, Uid};
use rustix::process::Signal;
use rustix::system::RebootCommand;

use console::{Console, show_on_screen};
use host::Host;
use runtime::{Ending, Runtime};

/// How long a sentence about a failed start stays on the screen.
const READING_TIME: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };

fn main() -> anyhow::Result<()> {
    anyhow::ensure!(std::process::id() == 1, "init is the first process of a Bulkhead host, nothing else");
    std::panic::set_hook(Box::new(|panic| {
        despair(&format!("init failed: {panic}"));
    }));
    match live() {
        Ok(ending) => finish(ending),
        Err(error) => despair(&format!("this machine cannot run: {error:#}")),
    }
    Ok(())
}

fn live() -> anyhow::Result<Ending> {
    mounts::virtual_file_systems()?;
    let console = Console::open();
    console.say(format_args!("Bulkhead {}", env!("CARGO_PKG_VERSION")));
    let signals = [Signal::CHILD, Signal::TERM, Signal::INT].map(Signal::as_raw);
    let signals = Signals::collect(&signals).context("collect signals")?;
    jail::require_landlock().context("the sandbox of every process")?;
    // Before the modules: no device may appear unnoticed.
    let device_events = runtime::device_events()?;
    kernel::raise_clock(&console)?;
    kernel::load_modules(&console)?;
    let _held_keys = emulator::hold_keys(&console);
    disk::mount(&console)?;
    let nic = nic::Nic::seclude(&console).unwrap_or_else(|error| {
        console.say(format_args!("no uplink: {error:#}"));
        None
    });
    kernel::allow_huge_guest_memory(&console);
    kernel::set_switches(&console)?;
    mounts::set_owners()?;
    let varlink = varlink_socket()?;
    mounts::jail_roots()?;
    mounts::freeze()?;
    Runtime::new(Host::new(console, nic, varlink)?, signals, device_events).run()
}

/// The socket on which `zoned` will serve: the desktop may connect, and root's group (the tests' bridge).
fn varlink_socket() -> anyhow::Result<UnixListener> {
    mounts::make_folder("/run/bulkhead", 0o755)?;
    let path = Path::new(mounts::VARLINK);
    let socket = UnixListener::bind(path).with_context(|| format!("listen at {}", path.display()))?;
    rustix::fs::chown(path, Some(Uid::from_raw(table::DESKTOP_USER)), Some(Gid::ROOT))
        .and_then(|()| rustix::fs::chmod(path, Mode::from_raw_mode(0o660)))
        .with_context(|| format!("protect {}", path.display()))?;
    Ok(socket)
}

/// The machine's orderly end.
fn finish(ending: Ending) {
    let console = Console::open();
    if let Err(error) = mounts::release_data() {
        console.say(format_args!("data disk not released: {error}"));
    }
    rustix::fs::sync();
    let (command, word) = match ending {
        Ending::PowerOff => (RebootCommand::PowerOff, "power off"),
        Ending::Restart => (RebootCommand::Restart, "restart"),
    };
    console.say(word);
    if let Err(error) = rustix::system::reboot(command) {
        console.say(format_args!("{word}: {error}"));
    }
}

/// Says why the machine cannot go on, lets the user read it, and starts again.
fn despair(text: &str) {
    let console = Console::open();
    console.say(text);
    show_on_screen(text);
    rustix::fs::sync();
    let _interrupted = poll(&mut [], Some(&READING_TIME));
    let _refused = rustix::system::reboot(RebootCommand::Restart);
}
