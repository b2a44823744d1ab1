//! What the main thread does while processors run: it obeys `zoned`, and tells it what it must know.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use anyhow::Context;
use devices::virtio::block::Trouble;
use devices::virtio::net::NetControl;
use ipc::{Channel, ReceiveError};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;
use zone_protocol::vmm::{Command, End, Event};

use crate::machine::{Machine, Running};

/// What the main thread waits for.
const ENDING: u64 = 0;
const COMMAND: u64 = 1;
const NETWORK_LOST: u64 = 2;
const DISK_FAILED: u64 = 3;

/// The main thread's view of a zone.
pub(crate) struct Controlled<'a> {
    pub(crate) machine: &'a Machine,
    pub(crate) network: Option<&'a NetControl>,
    /// Each disk's serial, and what tells that its file failed.
    pub(crate) disks: &'a [(String, Trouble)],
    pub(crate) running: &'a Running,
    pub(crate) events: &'a Channel,
    /// Whether `zoned` holds the guest: a reset of its own has to wait, too.
    pub(crate) paused: Cell<bool>,
}

impl Controlled<'_> {
    /// Serves `zoned` until something ends the machine; `early` are commands that came before it ran.
    ///
    /// # Errors
    /// The main thread cannot do its part any more: the machine has to end.
    pub(crate) fn until_end(&self, early: Vec<(Command, Vec<OwnedFd>)>) -> anyhow::Result<()> {
        let lost = self.network.map(NetControl::lost).transpose().context("watch the network")?;
        let waiter = self.waiter(lost.as_ref()).context("watch events")?;
        let mut ready = [EpollEvent::default(); 4];
        early.into_iter().try_for_each(|(command, descriptors)| self.carry_out(command, descriptors))?;
        // Events are looked at in every run: a guest that resets itself at once must not keep `zoned` from being heard.
        loop {
            let patience = if self.is_over() { 0 } else { -1 };
            let count = match waiter.wait(patience, &mut ready) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("wait for events"),
            };
            for event in ready.iter().take(count) {
                match (event.data(), &lost) {
                    (COMMAND, _) => self.obey()?,
                    // When another back end came meanwhile there is nothing to tell.
                    (NETWORK_LOST, Some(lost)) if lost.read().is_ok() => self.say(&Event::NetworkLost)?,
                    (DISK_FAILED, _) => self.disks_failed()?,
                    _ => {}
                }
            }
            if self.is_over() {
                return Ok(());
            }
        }
    }

    fn is_over(&self) -> bool {
        let ending = self.machine.ending();
        ending.is_over() && !(self.paused.get() && ending.is_reset())
    }

    fn waiter(&self, lost: Option<&EventFd>) -> io::Result<Epoll> {
        let waiter = Epoll::new()?;
        let add_as = |set, descriptor, token| {
            waiter.ctl(ControlOperation::Add, descriptor, EpollEvent::new(set, token))
        };
        let add = |descriptor, token| add_as(EventSet::IN, descriptor, token);
        // Once is enough: it stays readable while a reset waits for the end of a pause.
        let once = EventSet::IN | EventSet::EDGE_TRIGGERED;
        add_as(once, self.machine.ending().event().as_raw_fd(), ENDING)?;
        add(self.events.as_fd().as_raw_fd(), COMMAND)?;
        if let Some(lost) = lost {
            add(lost.as_raw_fd(), NETWORK_LOST)?;
        }
        for (_, trouble) in self.disks {
            add(trouble.as_raw_fd(), DISK_FAILED)?;
        }
        Ok(waiter)
    }

    fn disks_failed(&self) -> anyhow::Result<()> {
        let failed = self.disks.iter().filter_map(|(disk, trouble)| Some((disk, trouble.take()?)));
        failed
            .into_iter()
            .try_for_each(|(disk, full)| self.say(&Event::DiskFailed { disk: disk.clone(), full }))
    }

    /// Takes one command.
    fn obey(&self) -> anyhow::Result<()> {
        match self.events.receive::<Command>() {
            Ok((command, descriptors)) => self.carry_out(command, descriptors)?,
            Err(ReceiveError::Closed) => self.machine.ending().insist(gone()),
            Err(error @ ReceiveError::Malformed) => tracing::warn!(%error, "command dropped"),
            Err(ReceiveError::WouldBlock) => {}
            Err(error @ ReceiveError::Io(_)) => return Err(error).context("receive a command"),
        }
        Ok(())
    }

    fn carry_out(&self, command: Command, descriptors: Vec<OwnedFd>) -> anyhow::Result<()> {
        match command {
            Command::Pause => {
                self.running.pause();
                self.paused.set(true);
                self.say(&Event::Paused)?;
            }
            Command::Resume => {
                self.running.resume();
                self.paused.set(false);
                self.say(&Event::Resumed)?;
            }
            Command::Network => self.reconnect(descriptors),
            Command::Kill => self.machine.ending().insist(killed()),
            Command::Tpm => tracing::warn!("a TPM that nobody waits for dropped"),
        }
        Ok(())
    }

    /// Another back end for the NIC. One that is of no use is as good as one that was lost.
    fn reconnect(&self, descriptors: Vec<OwnedFd>) {
        match (self.network, descriptors.into_iter().next()) {
            (Some(network), Some(stream)) => {
                if let Err(error) = network.reconnect(UnixStream::from(stream)) {
                    tracing::warn!(error = &error as &dyn std::error::Error, "network not connected");
                }
            }
            (network, stream) => tracing::warn!(
                nic = network.is_some(),
                stream = stream.is_some(),
                "command to connect a network dropped"
            ),
        }
    }

    fn say(&self, event: &Event) -> anyhow::Result<()> {
        match self.events.send(event, &[]) {
            Ok(()) => Ok(()),
            // The next command will say so, too.
            Err(ipc::SendError::Closed) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("report {event:?}")),
        }
    }
}

fn killed() -> End {
    End::Failed("killed on request".to_owned())
}

fn gone() -> End {
    End::Failed("zoned is gone".to_owned())
}

/// The most commands that are kept while the machine waits for its TPM.
const MOST_EARLY: usize = 8;

/// How the wait for a TPM ended.
#[derive(Debug)]
pub(crate) enum Waited {
    /// Its data channel came with the start's login record and late disks, and these commands before it.
    Tpm { data: OwnedFd, record: OwnedFd, disks: Vec<OwnedFd>, commands: Vec<(Command, Vec<OwnedFd>)> },
    /// The machine ends.
    Over(End),
}

/// Waits for the TPM of the next run. No processor exists: nothing but `zoned` can end this.
///
/// # Errors
/// The channel is of no use.
pub(crate) fn wait_for_tpm(events: &Channel) -> anyhow::Result<Waited> {
    let mut commands = Vec::new();
    loop {
        match events.receive::<Command>() {
            Ok((Command::Tpm, descriptors)) => {
                let mut descriptors = descriptors.into_iter();
                match (descriptors.next(), descriptors.next()) {
                    (Some(data), Some(record)) => {
                        return Ok(Waited::Tpm { data, record, disks: descriptors.collect(), commands });
                    }
                    _ => tracing::warn!("command with a TPM came without it"),
                }
            }
            Ok((Command::Kill, _)) => return Ok(Waited::Over(killed())),
            Ok(other) if commands.len() < MOST_EARLY => commands.push(other),
            Ok((command, _)) => tracing::warn!(?command, "command dropped"),
            Err(ReceiveError::Closed) => return Ok(Waited::Over(gone())),
            Err(error @ ReceiveError::Malformed) => tracing::warn!(%error, "command dropped"),
            Err(ReceiveError::WouldBlock) => {}
            Err(error @ ReceiveError::Io(_)) => return Err(error).context("receive a command"),
        }
    }
}
