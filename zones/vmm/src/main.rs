//! The virtual machine monitor: one process, one zone.
//!
//! ```text
//!   descriptors by name -> machine -> load -> Event::Started -> processors run <--> paused
//!                                      ^                            |
//!                                      |                            | first reason to end: the guest, KVM,
//!                                      |                            | Command::Kill, or zoned is gone
//!                                      |                            v
//!                                      +---- the guest reset --- processors ended, devices as at power-on
//!                                            itself                 | anything else
//!                                                                   v
//!                                                           Event::Ended, exit 0
//! ```
//! A machine with a TPM says Event::TpmWanted once it is loaded, and runs behind Command::Tpm.
//!
//! It runs inside its jail from the first instruction: it opens no file, makes no process, and knows nothing
//! but the descriptors that `zone_protocol::vmm` names. It exits with 0 when it could say how the machine
//! ended, also when the machine failed; with 1 when it could not even say that.

mod acpi;
mod board;
mod config;
mod control;
mod ending;
mod firmware;
mod layout;
mod load;
mod log;
mod machine;
mod roles;
mod tpm;

use std::cell::Cell;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use ipc::Channel;
use jail::inherited::Inherited;
use zone_protocol::vmm::{End, Event};

use crate::config::Zone;
use crate::control::{Controlled, Waited};
use crate::roles::Maker;

fn main() -> ExitCode {
    log::begin();
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

/// Builds the machine, runs it as often as the guest resets itself, and says how it ended.
fn build_and_run(inherited: &mut Inherited, events: &Channel) -> anyhow::Result<End> {
    let maker = Arc::new(Maker::new().context("start the maker of threads")?);
    jail::roles::MAIN.enter()?;
    let config = config::read(inherited)?;
    log::name_zone(&config.zone);
    let mut zone = Zone::new(inherited, config, maker)?;
    let mut resets: u64 = 0;
    loop {
        let vcpus = zone.load()?;
        let (mut tpm, mut early) = (None, Vec::new());
        if zone.machine.board.tpm.is_some() {
            events.send(&Event::TpmWanted, &[]).context("ask for the TPM")?;
            match control::wait_for_tpm(events)? {
                Waited::Tpm { data, record, disks, commands } => {
                    zone.take_record(&record)?;
                    zone.attach_late(disks)?;
                    tpm = zone.machine.connect_tpm(data).context("connect the TPM")?;
                    early = commands;
                }
                Waited::Over(end) => return Ok(end),
            }
        }
        events.send(&Event::Started, &[]).context("report the start")?;
        let running = zone.machine.start(vcpus).context("start processors")?;
        let (network, disks) = (zone.network.as_ref(), zone.disks.as_slice());
        let paused = Cell::new(false);
        let controlled =
            Controlled { machine: &zone.machine, network, disks, running: &running, events, paused }
                .until_end(early);
        let exits = running.stop();
        if let (Some(connected), Some(tpm)) = (tpm, &zone.machine.board.tpm) {
            connected.end(tpm);
        }
        let end = zone.machine.ending().take();
        controlled?;
        match end.context("the machine stopped without a reason")? {
            End::Reset => {
                resets += 1;
                // The guest decides how often that is: the log says it ever more rarely.
                if resets.is_power_of_two() {
                    tracing::info!(resets, ?exits, "the guest reset itself");
                }
                zone.machine.reset().context("reset the machine")?;
            }
            end @ (End::ShutDown | End::Panic | End::Failed(_)) => {
                tracing::info!(?end, ?exits, resets, "machine ended");
                return Ok(end);
            }
        }
    }
}

#[cfg(test)]
mod tests;
