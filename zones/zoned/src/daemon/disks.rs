//! What a user is told of a zone's disks.

use super::Daemon;

impl Daemon {
    /// The host's file behind a zone's disk failed a request of the guest.
    pub(super) fn disk_failed(&mut self, zone: usize, disk: &str, full: bool) {
        if full {
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
}
