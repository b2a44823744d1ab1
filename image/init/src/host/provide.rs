//! What a zone is given beside its processes: limits and a disposable disk; and how both go again.

use init_protocol::{Event, MAX_ZONES, Request, ZoneProfile};

use super::{Host, ZoneProcess};
use crate::spawn::{self, Order};
use crate::tpm;

impl Host {
    /// Carries out a request that starts no process.
    pub(crate) fn provide(&mut self, request: Request) {
        match request {
            Request::Limit { slot, memory_mib } if slot < MAX_ZONES => {
                self.guests.insert(slot, memory_mib);
            }
            Request::OpenDisposable { slot, zone, size_mib } => self.open_disk(slot, &zone, size_mib),
            Request::CloseDisk { slot } => {
                self.disks.close(slot);
            }
            Request::Limit { .. }
            | Request::Spawn { .. }
            | Request::Kill { .. }
            | Request::Store { .. }
            | Request::Discard { .. }
            | Request::PowerOff => {}
        }
    }

    fn open_disk(&mut self, slot: u8, zone: &str, size_mib: u32) {
        // A name reaches the console only as far as it is one.
        let zone = if spawn::is_name(zone) { zone } else { "?" };
        let opened = if self.ending {
            Err(anyhow::anyhow!("the machine is going down"))
        } else if self.has_process(slot) {
            Err(anyhow::anyhow!("a process of the zone is left"))
        } else {
            self.disks.open(slot, size_mib)
        };
        match opened {
            Ok(device) => {
                self.console.say(format_args!("disposable disk of {zone} made"));
                self.link.hand(Event::DiskOpened { slot }, vec![device]);
            }
            Err(error) => {
                let reason = format!("{error:#}");
                self.console.say(format_args!("disposable disk of {zone} not made: {reason}"));
                self.link.tell(Event::DiskRefused { slot, reason });
            }
        }
    }

    /// What a zone's virtual TPM is started with.
    pub(crate) fn prepare_tpm(&mut self, order: &Order) -> anyhow::Result<tpm::Given> {
        let zone = order.label.split_once(' ').map(|(_, zone)| zone).unwrap_or_default();
        self.keeper.prepare(spawn::slot(order.user), zone, order.user)
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
            self.console.say(format_args!("{}: its disposable disk is gone", gone.label));
        }
    }
}
