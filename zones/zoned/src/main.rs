//! `zoned`: the lifecycle of zones, and the only interface to it.
//!
//! It decides when a zone starts and ends, gives each of its processes exactly the descriptors it needs, and
//! says over Varlink (`control_api`) how everything is. The parts: [`lifecycle`] (pure state machine),
//! [`template`] (what may run), [`launch`] (a start's descriptors), [`agent_link`] and [`console`] (what comes from a
//! guest), [`server`] (clients), [`audit`]
//! (what happened, in a chain of hashes), [`daemon`] (the loop that joins them; its part `adopt` is how zones outlive this
//! process).
//!
//! It never creates a process (`init` does), never opens a network socket, never reads a guest's memory or
//! disk, and believes nothing that comes from a zone.

mod agent_link;
mod audit;
mod console;
mod daemon;
mod launch;
mod lifecycle;
mod memory;
mod private_disk;
mod server;
mod settings;
mod status;
mod steps;
mod template;
mod zone;

use anyhow::Context;
use ipc::Channel;
use rustix::time::{ClockId, clock_gettime};

use crate::daemon::{Daemon, Inherited};
use crate::settings::Paths;

fn main() -> anyhow::Result<()> {
    let mut passed = jail::inherited::Inherited::from_environment();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).without_time().init();
    let inherited = Inherited {
        init: Channel::from_descriptor(passed.take("init").context("start")?),
        uplink: Channel::from_descriptor(passed.take("uplink").context("start")?),
        keeper: Channel::from_descriptor(passed.take("keeper").context("start")?),
        varlink: passed.take("varlink").context("start")?,
        meminfo: passed.take("meminfo").context("start")?,
        // Absent without a data disk; then the user is told.
        audit: passed.take("audit").ok(),
    };
    let mut daemon = Daemon::new(Paths::default(), inherited, first_process())?;
    loop {
        daemon.turn(None)?;
    }
}

/// A number above all that an earlier `zoned` of this boot gave out: hundredths of a second since the boot.
/// No zone starts so often that two processes an hundredth of a second would not be enough.
fn first_process() -> u32 {
    let now = clock_gettime(ClockId::Boottime);
    let hundredths = now.tv_sec.saturating_mul(100).saturating_add(now.tv_nsec / 10_000_000);
    u32::try_from(hundredths).unwrap_or(0)
}
