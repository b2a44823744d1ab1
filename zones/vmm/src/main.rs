//! The virtual machine monitor: one process, one zone.
//!
//! ```text
//!   descriptors by name -> machine -> Event::Started -> processors run -> first reason to end
//!                                                             ^                 |
//!                          Command::Kill, or zoned is gone ---+     Event::Ended, exit 0
//! ```
//! It runs inside its jail from the first instruction: it opens no file, makes no process, and knows nothing
//! but the descriptors that `zone_protocol::vmm` names. It exits with 0 when it could say how the machine
//! ended, also when the machine failed; with 1 when it could not even say that.

mod acpi;
mod board;
mod config;
mod ending;
mod layout;
mod load;
mod machine;
mod roles;

use std::os::fd::AsFd;
use std::process::ExitCode;

use anyhow::Context;
use ipc::{Channel, ReceiveError};
use jail::inherited::Inherited;
use rustix::event::{PollFd, PollFlags, poll};
use zone_protocol::vmm::{Command, End, Event};

use crate::machine::Running;

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .without_time()
        .with_max_level(tracing::Level::INFO)
        .init();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// From descriptors to the end of the machine.
fn run() -> anyhow::Result<()> {
    let mut inherited = Inherited::from_environment();
    let events = Channel::from_descriptor(inherited.take("events")?);
    let end = match build_and_run(&mut inherited, &events) {
        Ok(end) => end,
        Err(error) => {
            tracing::error!("{error:#}");
            End::Failed(format!("{error:#}"))
        }
    };
    match events.send(&Event::Ended(end), &[]) {
        // Without zoned there is nobody to tell.
        Ok(()) | Err(ipc::SendError::Closed) => Ok(()),
        Err(error) => Err(error).context("report the end"),
    }
}

/// Builds the machine, runs it, and says how it ended.
fn build_and_run(inherited: &mut Inherited, events: &Channel) -> anyhow::Result<End> {
    let zone = config::read(inherited)?;
    let span = tracing::info_span!("vmm", zone = zone.zone);
    let _inside = span.enter();
    let (machine, vcpus) = config::build(inherited, &zone)?;
    events.send(&Event::Started, &[]).context("report the start")?;
    let running = machine.start(vcpus).context("start processors")?;
    let waited = wait(&running, events);
    let end = running.ending.reason().cloned();
    running.stop();
    waited?;
    let end = end.context("the machine stopped without a reason")?;
    tracing::info!(?end, "machine ended");
    Ok(end)
}

/// Waits until something ends the machine.
fn wait(running: &Running, events: &Channel) -> anyhow::Result<()> {
    while running.ending.reason().is_none() {
        let mut descriptors = [
            PollFd::from_borrowed_fd(running.ending.event(), PollFlags::IN),
            PollFd::from_borrowed_fd(events.as_fd(), PollFlags::IN),
        ];
        match poll(&mut descriptors, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("wait for events"),
        }
        let [_, commands] = &descriptors;
        if commands.revents().is_empty() {
            continue;
        }
        match events.receive::<Command>() {
            Ok((Command::Kill, _)) => running.ending.end(End::Failed("killed on request".to_owned())),
            Err(ReceiveError::Closed) => running.ending.end(End::Failed("zoned is gone".to_owned())),
            Err(error @ ReceiveError::Malformed) => tracing::warn!(%error, "command dropped"),
            Err(ReceiveError::WouldBlock) => {}
            Err(error @ ReceiveError::Io(_)) => return Err(error).context("receive a command"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
