//! What a zone is given beside its processes: limits and an encrypted disk; and how both go again.

use std::os::fd::OwnedFd;

use init_protocol::{Event, MAX_ZONES, Request, ZoneProfile};

use super::{Host, ZoneProcess};
use crate::spawn::{self, Order};
use crate::tpm;

impl Host {
    /// Carries out a request that starts no process.
    pub(crate) fn provide(&mut self, request: Request, given: Vec<OwnedFd>) {
        match request {
            Request::Limit { slot, memory_mib } if slot < MAX_ZONES => {
                self.guests.insert(slot, memory_mib);
            }
            Request::OpenDisposable { slot, zone, size_mib } => self.open_disposable(slot, &zone, size_mib),
            Request::OpenPrivate { slot, zone } => self.open_private(slot, &zone, given),
            Request::CloseDisk { slot } => {
                self.disks.close(slot);
            }
            Request::LockDisk { slot } => {
                let refused = self.disks.lock(slot).err().map(|error| format!("{error:#}"));
                self.link.tell(Event::DiskLocked { slot, refused });
            }
            Request::UnlockDisk { slot } => {
                let key = self.keeper.disk_key(slot);
                let unlocked = self.disks.unlock(slot, key.as_ref());
                let refused = unlocked.err().map(|error| format!("{error:#}"));
                self.link.tell(Event::DiskUnlocked { slot, refused });
            }
            Request::Limit { .. }
            | Request::Spawn { .. }
            | Request::Kill { .. }
            | Request::Store { .. }
            | Request::Discard { .. }
            | Request::PowerOff => {}
        }
    }

    fn open_disposable(&mut self, slot: u8, zone: &str, size_mib: u32) {
        let opened = if self.ending {
            Err(anyhow::anyhow!("the machine is going down"))
        } else if self.has_process(slot) {
            Err(anyhow::anyhow!("a process of the zone is left"))
        } else {
            self.disks.open_disposable(slot, size_mib)
        };
        self.disk_opened(slot, zone, opened);
    }

    fn open_private(&mut self, slot: u8, zone: &str, given: Vec<OwnedFd>) {
        let key = self.keeper.disk_key(slot);
        let opened = match (given.into_iter().next(), key) {
            _ if self.ending => Err(anyhow::anyhow!("the machine is going down")),
            (Some(file), Some(key)) => self.disks.open_private(slot, file, &key),
            (None, _) => Err(anyhow::anyhow!("no file came")),
            (_, None) => Err(anyhow::anyhow!("keeper gave no key")),
        };
        self.disk_opened(slot, zone, opened);
    }

    fn disk_opened(&mut self, slot: u8, zone: &str, opened: anyhow::Result<OwnedFd>) {
        // A name reaches the console only as far as it is one.
        let zone = if spawn::is_name(zone) { zone } else { "?" };
        match opened {
            Ok(device) => {
                self.console.say(format_args!("disk of {zone} opened"));
                self.link.hand(Event::DiskOpened { slot }, vec![device]);
            }
            Err(error) => {
                let reason = format!("{error:#}");
                self.console.say(format_args!("disk of {zone} not opened: {reason}"));
                self.link.tell(Event::DiskRefused { slot, reason });
            }
        }
    }

    /// What a zone's virtual TPM is started with.
    pub(crate) fn prepare_tpm(&mut self, order: &Order) -> anyhow::Result<tpm::Given> {
        let zone = order.label.split_once(' ').map(|(_, zone)| zone).unwrap_or_default();
        let slot = spawn::slot(order.user);
        // `zoned` asks for the disk of a disposable zone before any process of it.
        self.keeper.prepare(slot, zone, order.user, self.disks.is_open(slot))
    }

    /// A process of this user is about to be killed: one that waits for a locked disk would not end.
    pub(crate) fn unblock(&mut self, user: u32) {
        if spawn::is_vmm(user) {
            self.disks.give_up(spawn::slot(user));
        }
    }

    /// The same before all are.
    pub(crate) fn unblock_all(&mut self) {
        (0..MAX_ZONES).for_each(|slot| self.disks.give_up(slot));
    }

    /// What a zone's process leaves behind goes: the group with the last one, the disk with the VMM.
    pub(super) fn clean_up(&mut self, gone: &ZoneProcess) {
        let slot = spawn::slot(gone.user);
        if !self.has_process(slot) {
            self.zone_groups.remove(&slot);
        }
        if spawn::profile(gone.user) == ZoneProfile::Swtpm {
            self.keeper.forget(slot);
        }
        if spawn::is_vmm(gone.user) && self.disks.close(slot) {
            self.console.say(format_args!("{}: its disk is closed", gone.label));
        }
    }
}
