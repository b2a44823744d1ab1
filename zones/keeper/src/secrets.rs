//! Zones' secrets: each is sealed in the machine's TPM, and given out as long as the machine is in an approved state.
//!
//! The TPM is taken into use when the first zone needs it. It is spoken to by this process alone, one request after the
//! other; while it thinks, everything here waits.

use approval::{Approval, ApprovalKey, HOST};
use hw_tpm::{Machine, OpenTpmError, ProvisionError, SealError, Secret, Tpm, UnsealError};

use crate::keys::random;
use crate::store::{Store, StoreError, StoredZone};

/// The machine's TPM, through the kernel's resource manager.
pub(crate) const DEVICE: &str = "device:/dev/tpmrm0";

/// Why a zone's secret is not to be had: a fragment that says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    /// There is no TPM to ask.
    #[error("{0}. {advice}", advice = open_advice(.0))]
    Open(#[from] OpenTpmError),
    /// The TPM cannot be taken into use.
    #[error("{0}")]
    Provision(#[from] ProvisionError),
    /// It seals nothing.
    #[error("the machine's TPM cannot be used: {0}")]
    Seal(#[from] SealError),
    /// It opens nothing.
    #[error("{0}. {advice}", advice = unseal_advice(.0))]
    Unseal(#[from] UnsealError),
    /// Our own files.
    #[error("what the host keeps of its TPM cannot be used: {0}; check the data disk")]
    Store(#[from] StoreError),
    /// The kernel has no random numbers.
    #[error("there are no random numbers: {0}")]
    Random(#[from] std::io::Error),
}

fn open_advice(error: &OpenTpmError) -> &'static str {
    match error {
        OpenTpmError::Missing(_) => {
            "Switch it on in the machine's setup; without it only disposable zones start"
        }
        OpenTpmError::Cleared | OpenTpmError::Foreign => "Zones open only on the machine that made them",
        OpenTpmError::Refused(..) => "Start the machine again",
    }
}

fn unseal_advice(error: &UnsealError) -> &'static str {
    match error {
        UnsealError::NotApproved | UnsealError::BadApproval => "Install an image whose maker you trust",
        UnsealError::NotOurs => "Put the data disk's own files back",
        UnsealError::WrongPin
        | UnsealError::LockedOut
        | UnsealError::PinNeeded
        | UnsealError::PinGone
        | UnsealError::Refused(..) => "Start the machine again",
    }
}

/// A source of secrets.
pub(crate) trait Secrets {
    /// A zone's secret; made, if there is none yet. With it: whether the zone's own TPM keeps something already.
    ///
    /// # Errors
    /// [`SecretError`].
    fn open(&mut self, zone: &str) -> Result<(Secret, bool), SecretError>;

    /// From now on the zone's own TPM keeps something.
    ///
    /// # Errors
    /// [`SecretError::Store`].
    fn made(&mut self, zone: &str) -> Result<(), SecretError>;
}

/// The machine's TPM as the source.
pub(crate) struct Hardware {
    device: String,
    store: Store,
    key: ApprovalKey,
    approvals: Vec<Approval>,
    tpm: Option<Tpm>,
}

impl Hardware {
    /// Nothing is asked yet. `device` is in the words of the TSS.
    pub(crate) fn new(device: &str, store: Store, key: ApprovalKey, approvals: Vec<Approval>) -> Self {
        Self { device: device.to_owned(), store, key, approvals, tpm: None }
    }

    fn tpm(&mut self) -> Result<Tpm, SecretError> {
        if let Some(tpm) = self.tpm.take() {
            return Ok(tpm);
        }
        if let Some(machine) = self.store.machine()? {
            return Ok(Tpm::open(&self.device, &machine)?);
        }
        let keep = |machine: &Machine| Ok::<_, SecretError>(self.store.keep_machine(machine)?);
        let (tpm, _) = Tpm::provision(&self.device, self.key, HOST, keep)?;
        tracing::info!("took the machine's TPM into use");
        Ok(tpm)
    }

    fn secret(&mut self, tpm: &mut Tpm, zone: &str) -> Result<(Secret, bool), SecretError> {
        if let Some(stored) = self.store.zone(zone)? {
            let secret = tpm.unseal(&stored.secret, self.key, &self.approvals, None)?;
            return Ok((secret, stored.made));
        }
        let secret = Secret::new(*random()?);
        let sealed = tpm.seal(&secret, self.key, HOST, None)?;
        self.store.keep_zone(zone, &StoredZone { secret: sealed, made: false })?;
        Ok((secret, false))
    }
}

impl Secrets for Hardware {
    fn open(&mut self, zone: &str) -> Result<(Secret, bool), SecretError> {
        let mut tpm = self.tpm()?;
        let opened = self.secret(&mut tpm, zone);
        // After a refusal the connection is made anew: whatever the TPM holds for it is given back.
        self.tpm = opened.is_ok().then_some(tpm);
        opened
    }

    fn made(&mut self, zone: &str) -> Result<(), SecretError> {
        match self.store.zone(zone)? {
            Some(stored) if !stored.made => {
                Ok(self.store.keep_zone(zone, &StoredZone { made: true, ..stored })?)
            }
            Some(_) | None => Ok(()),
        }
    }
}
