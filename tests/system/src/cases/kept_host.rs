//! A machine whose disk and TPM stay: its power can be cut, and it can be switched on again.

use std::path::Path;

use anyhow::Context;
use harness::{Machine, TpmConfig};

use crate::artifacts::Artifacts;
use crate::world::{BOOT, set_policy, test_machine, write_disk};

/// The machine while it is off.
pub(super) struct KeptHost<'a> {
    pub(super) artifacts: &'a Artifacts,
    pub(super) name: &'a str,
    pub(super) policy: &'a str,
    pub(super) disk: &'a Path,
    pub(super) tpm: TpmConfig,
}

impl KeptHost<'_> {
    /// Switches it on, and waits for the policy's three zones.
    pub(super) fn boot(&self) -> anyhow::Result<Machine> {
        let mut config = test_machine(self.artifacts)?;
        config.name = self.name.to_owned();
        set_policy(&mut config, self.artifacts, self.policy)?;
        write_disk(&mut config, self.disk);
        config.tpm = Some(self.tpm.clone());
        config.memory_mib = 1536;
        config.network = None;
        let machine = Machine::boot(config).context("boot the host")?;
        machine.zones().wait_until("three zones", machine.within(BOOT), |status| status.zones.len() == 3)?;
        Ok(machine)
    }
}
