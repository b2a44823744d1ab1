//! What a user is told of a zone's disks.

use super::Daemon;

/// Less than this is no room: the data disk is full.
const ROOM: u64 = 1024 * 1024;

impl Daemon {
    /// The host's file behind a zone's disk failed a request of the guest.
    pub(super) fn disk_failed(&mut self, zone: usize, disk: &str, full: bool) {
        // Behind encryption the VMM's disk is a block device, whose failures have no reason.
        if full || self.data_disk_is_full() {
            self.about_disk(
                zone,
                "the host's data disk is full, so the zone cannot write. Remove files in a zone or end a disposable \
                 one, then restart this zone: its disk is checked at the start.",
            );
        } else {
            let disk = crate::console::printable(disk, 20);
            self.about_disk(
                zone,
                &format!(
                    "the host cannot read or write its {disk} disk. What it wrote last may be lost; restart the zone, \
                     and replace the data disk if that comes again."
                ),
            );
        }
    }

    /// Tells something about a zone's disk.
    pub(super) fn about_disk(&mut self, zone: usize, text: &str) {
        let name = self.zone_name(zone);
        self.notices.add(&format!("vmm {name}"), format!("Zone {name}: {text}"));
    }

    fn data_disk_is_full(&self) -> bool {
        let facts = rustix::fs::statvfs(self.paths.data.join("zones"));
        facts.is_ok_and(|facts| facts.f_bavail.saturating_mul(facts.f_frsize) < ROOM)
    }
}
