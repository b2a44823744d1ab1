//! The zones' virtual TPMs: `keeper` begins them, the VMMs get their data channels and, with the first one, the private
//! disk that it opened.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use anyhow::Context;
use init_protocol::Request;
use ipc::ReceiveError;
use zone_protocol::keeper::{FromKeeper, ToKeeper};
use zone_protocol::vmm::Command;

use super::Daemon;
use crate::launch::private_file;
use crate::lifecycle::Event;
use crate::steps::Step;

impl Daemon {
    /// Asks `keeper` for a zone's TPM.
    ///
    /// # Errors
    /// It takes no question: what follows "the virtual TPM".
    pub(super) fn begin_tpm(&mut self, zone: usize) -> Result<(), String> {
        let disk = self.wants_disk(zone);
        let Some((number, start)) = self.run_mut(zone).map(|run| run.tpm.clone()) else { return Ok(()) };
        let Ok(slot) = u8::try_from(zone) else { return Ok(()) };
        let sent = self.keeper.send(&ToKeeper::Begin { slot, number, start, disk }, &[]);
        sent.map_err(|error| format!("has nobody who begins it: {error}"))
    }

    /// Has `keeper` forget what opens a zone; then `init` is to forget its disk's key.
    ///
    /// # Errors
    /// It takes no order: a fragment.
    pub(super) fn lock_disk(&mut self, zone: usize) -> Result<(), String> {
        let slot = u8::try_from(zone).map_err(|error| error.to_string())?;
        let sent = self.keeper.send(&ToKeeper::Lock { slot, number: 0 }, &[]);
        sent.map_err(|error| format!("the host's key service takes no orders: {error}"))
    }

    /// `keeper` has forgotten it, or a fragment says why not.
    fn keeper_locked(&mut self, slot: u8, refused: Option<String>, now: Instant) -> anyhow::Result<()> {
        let zone = usize::from(slot);
        // An answer that comes a second time must not lock a disk that works again.
        if !self.zones.get(zone).is_some_and(|zone| zone.life.waits_for_its_lock()) {
            return Ok(());
        }
        match refused {
            None => self.init.send(&Request::LockDisk { slot }, &[]).context("ask init to lock a disk"),
            Some(reason) => self.event(zone, Event::Closed(Some(reason)), now),
        }
    }

    /// Takes an answer of `keeper`.
    pub(super) fn keeper_ready(&mut self, now: Instant) -> anyhow::Result<()> {
        let (answer, descriptors) = match self.keeper.receive::<FromKeeper>() {
            Ok(message) => message,
            Err(ReceiveError::WouldBlock) => return Ok(()),
            Err(ReceiveError::Malformed) => {
                tracing::warn!("malformed message from keeper");
                return Ok(());
            }
            Err(error) => return Err(error).context("receive from keeper (init keeps both ends open)"),
        };
        let (slot, number, began) = match answer {
            FromKeeper::Ready { slot, number } => (slot, number, Ok(())),
            FromKeeper::Failed { slot, number, reason } => (slot, number, Err(reason)),
            FromKeeper::Opened { slot, number, pin } => {
                return self.opened((slot, number), Ok(descriptors.into_iter().next()), pin, now);
            }
            FromKeeper::NotOpened { slot, number, cause, reason, pin } => {
                return self.opened((slot, number), Err((cause, reason)), pin, now);
            }
            FromKeeper::Locked { slot, number: _, refused } => {
                return self.keeper_locked(slot, refused, now);
            }
            FromKeeper::Recovery { number, state, answer } => {
                self.recovery_told(number, state, answer, now);
                return Ok(());
            }
            FromKeeper::Pin { slot, pin } => {
                self.pin_told(slot, pin);
                return Ok(());
            }
        };
        let zone = usize::from(slot);
        // An answer for an earlier run is too late, and a machine that does not wait needs none.
        let awaited = self.run_mut(zone).is_some_and(|run| run.tpm.0 == number)
            && self.zones.get(zone).is_some_and(|zone| zone.life.waits_for_tpm());
        if !awaited {
            tracing::info!(zone = self.zone_name(zone), "late answer about a TPM");
            return Ok(());
        }
        match began {
            Ok(()) => {
                self.step(zone, Step::Begun, now);
                let Ok([data, record]) = <[OwnedFd; 2]>::try_from(descriptors) else {
                    return self.event(zone, Event::TpmFailed("came without its channels".to_owned()), now);
                };
                if !self.wants_disk(zone) {
                    self.tell_vmm(zone, &Command::Tpm, &[data.as_fd(), record.as_fd()]);
                    return Ok(());
                }
                if let Some(run) = self.run_mut(zone) {
                    run.ready = Some([data, record]);
                }
                let refused = self.ask_for_disk(zone).err().map(Event::DiskRefused);
                refused.map_or(Ok(()), |event| self.event(zone, event, now))
            }
            Err(reason) => self.event(zone, Event::TpmFailed(reason), now),
        }
    }

    /// Whether the zone's machine waits for its private disk, too.
    fn wants_disk(&self, zone: usize) -> bool {
        let disposable =
            self.policy().and_then(|policy| policy.zones.get(zone)).is_some_and(|zone| zone.disposable);
        !disposable && self.zones.get(zone).is_some_and(|zone| !zone.life.has_booted())
    }

    /// Has `init` open the private disk; a fragment when that cannot be asked for.
    fn ask_for_disk(&mut self, zone: usize) -> Result<(), String> {
        let waiting = self.run_mut(zone).and_then(|run| run.private.take());
        let Some(of_policy) = self.policy().and_then(|policy| policy.zones.get(zone)) else { return Ok(()) };
        let file = match waiting {
            Some(file) => file,
            // An earlier `zoned` had it.
            None => private_file(&self.paths.data, of_policy).map_err(|error| error.to_string())?,
        };
        let slot = u8::try_from(zone).map_err(|error| error.to_string())?;
        let request = Request::OpenPrivate { slot, zone: of_policy.name.clone() };
        self.init.send(&request, &[file.as_fd()]).map_err(|error| error.to_string())
    }

    /// The private disk is there, or a fragment says why not: the machine gets it with the TPM that waited for it.
    pub(super) fn disk_answered(
        &mut self,
        slot: u8,
        disk: Result<OwnedFd, String>,
        now: Instant,
    ) -> anyhow::Result<()> {
        let zone = usize::from(slot);
        let Some([data, record]) = self.run_mut(zone).and_then(|run| run.ready.take()) else {
            // It came too late: nobody waits for it any more.
            tracing::warn!(slot, "late answer about a disk");
            return self.init.send(&Request::CloseDisk { slot }, &[]).context("close a disk");
        };
        match disk {
            Ok(disk) => {
                self.step(zone, Step::Disk, now);
                self.tell_vmm(zone, &Command::Tpm, &[data.as_fd(), record.as_fd(), disk.as_fd()]);
                Ok(())
            }
            Err(reason) => self.event(zone, Event::DiskRefused(reason), now),
        }
    }
}
