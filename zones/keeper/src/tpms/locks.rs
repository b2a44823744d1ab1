//! Locked zones: what opens their TPMs is forgotten, and comes back with their users.

use std::os::fd::AsFd;

use init_protocol::FromKeeper as ToInit;

use super::{Tpms, piped, share};
use crate::keys::ZoneKeys;

impl Tpms {
    /// A zone stands still: what opens its TPM is forgotten, and so is everything of its disk's key but the part that the
    /// zone's TPM has as well. A fragment says why it cannot be.
    pub(super) fn lock(&mut self, slot: u8) -> Result<(), String> {
        let tpm = self.by_slot.get_mut(&slot).ok_or("it has no TPM")?;
        if tpm.disposable {
            return Err("its disk's key is kept nowhere, so nothing could unlock it".to_owned());
        }
        if tpm.work.is_some() {
            return Err("it begins just now".to_owned());
        }
        if tpm.kept.is_none() {
            return Err("the host's key service was started again since it began; stop it instead".to_owned());
        }
        tpm.auth = Err("is locked".to_owned());
        (tpm.disk, tpm.locked) = (None, true);
        tracing::info!(zone = tpm.zone, "locked");
        Ok(())
    }

    /// Its user brought what opens it: `init` gets the key of its disk. A sentence says why not.
    pub(super) fn unlock(&mut self, slot: u8, zone: &str, keys: ZoneKeys) -> Result<(), String> {
        let tpm = self.by_slot.get_mut(&slot).filter(|tpm| tpm.zone == zone);
        let (tpm, kept) = tpm.and_then(|tpm| tpm.kept.clone().map(|kept| (tpm, kept))).ok_or(
            "The host's key service was started again while the zone was locked. Stop the zone and open it again.",
        )?;
        let pipe = piped(&keys.disk.with(share(&kept))[..]);
        let sent = pipe.map_err(|error| error.to_string()).and_then(|pipe| {
            let sent = self.init.send(&ToInit::DiskKey { slot }, &[pipe.as_fd()]);
            sent.map_err(|error| error.to_string())
        });
        sent.map_err(|error| format!("The disk's key cannot be given out: {error}."))?;
        (tpm.auth, tpm.locked) = (Ok(keys.auth), false);
        tracing::info!(zone, "unlocked");
        Ok(())
    }
}
