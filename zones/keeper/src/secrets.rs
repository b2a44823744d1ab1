//! Zones' secrets: each is sealed in the machine's TPM, and given out as long as the machine is in an approved state.
//!
//! The TPM is taken into use when the first zone needs it. It is spoken to by this process alone, one request after the
//! other; while it thinks, everything here waits.

mod epochs;

use approval::{Approval, ApprovalKey, HOST};
use hw_tpm::{
    Machine, NewPin, OpenTpmError, PinIndex, Point, ProvisionError, SealError, Secret, Tpm, UnsealError,
    set_lockout,
};
use zeroize::Zeroizing;
use zone_protocol::keeper::{Cause, Factor, PinState, Recovery};

use crate::certificate;
use crate::epochs::{EpochError, Epochs};
use crate::keys::{ZoneKeys, random};
use crate::pin::{is_pin, stretch};
use crate::recovery::{BadKeyError, PublicKey, RecoveryKey, WrapError};
use crate::store::{RecoveryKeys, Store, StoreError, StoredZone};

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
    /// The maker has revoked what is here.
    #[error("{0}. Install the newer one again")]
    Epoch(#[from] EpochError),
    /// What the user typed is no PIN.
    #[error("a PIN has 6 to 12 digits")]
    BadPin,
    /// What the user typed is no recovery key.
    #[error("{0}")]
    BadKey(#[from] BadKeyError),
    /// It is another one.
    #[error("this is another recovery key")]
    WrongKey,
    /// There was no recovery key when the zone was opened for the last time.
    #[error("the zone was kept for no recovery key")]
    NoRecovery,
    /// Nothing was kept for it.
    #[error("the zone's secret was not kept for the recovery key: {0}")]
    Wrap(#[from] WrapError),
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
        OpenTpmError::Cleared | OpenTpmError::Foreign => {
            "Zones open only on the machine that made them, or with the recovery key"
        }
        OpenTpmError::Refused(..) => "Start the machine again",
    }
}

fn unseal_advice(error: &UnsealError) -> &'static str {
    match error {
        UnsealError::NotApproved | UnsealError::BadApproval => "Install an image whose maker you trust",
        UnsealError::NotOurs => "Put the data disk's own files back, or open it with the recovery key",
        UnsealError::WrongPin => "Try again",
        UnsealError::LockedOut => "It is asked for instead of the PIN",
        UnsealError::PinNeeded => "Open the zone with it",
        UnsealError::PinGone => "Only the recovery key opens it now",
        UnsealError::Refused(..) => "Start the machine again",
    }
}

impl SecretError {
    /// What a user can do about it follows from this.
    pub(crate) fn cause(&self) -> Cause {
        match self {
            Self::Open(OpenTpmError::Missing(_)) | Self::Provision(ProvisionError::Missing(_)) => {
                Cause::TpmMissing
            }
            Self::Open(OpenTpmError::Cleared) => Cause::TpmCleared,
            Self::Open(OpenTpmError::Foreign) => Cause::TpmForeign,
            Self::Provision(ProvisionError::Owned) => Cause::TpmOwned,
            Self::Provision(ProvisionError::LockedOut) => Cause::TpmBusy,
            Self::Seal(SealError::Owner(error)) => of_unsealing(error),
            Self::Unseal(error) => of_unsealing(error),
            Self::Epoch(_) => Cause::NotApproved,
            Self::BadPin => Cause::BadPin,
            Self::BadKey(_) => Cause::BadRecoveryKey,
            Self::WrongKey => Cause::WrongRecoveryKey,
            Self::NoRecovery => Cause::NoRecovery,
            Self::Store(StoreError::Damaged(_)) => Cause::Damaged,
            Self::Open(OpenTpmError::Refused(..))
            | Self::Provision(ProvisionError::Refused(..))
            | Self::Seal(SealError::Refused(..))
            | Self::Store(StoreError::File(..))
            | Self::Wrap(_)
            | Self::Random(_) => Cause::Other,
        }
    }
}

fn of_unsealing(error: &UnsealError) -> Cause {
    match error {
        UnsealError::NotApproved | UnsealError::BadApproval => Cause::NotApproved,
        UnsealError::WrongPin => Cause::WrongPin,
        UnsealError::LockedOut => Cause::LockedOut,
        UnsealError::PinNeeded => Cause::PinNeeded,
        UnsealError::NotOurs => Cause::Damaged,
        UnsealError::PinGone => Cause::TpmCleared,
        UnsealError::Refused(..) => Cause::Other,
    }
}

/// How a zone is to be opened.
#[derive(Clone, Copy, Debug)]
pub(crate) enum How<'a> {
    /// By nobody: one that asks for no PIN.
    Alone,
    /// By a user, as the policy wants it. A zone that is sealed otherwise is sealed anew once it opened.
    User {
        /// What the policy asks for.
        factor: Factor,
        /// What was typed.
        typed: Option<&'a str>,
    },
    /// By its user, who wants another PIN.
    NewPin {
        /// What the policy asks for.
        factor: Factor,
        /// The PIN until now.
        typed: Option<&'a str>,
        /// The PIN from now on.
        new: &'a str,
    },
    /// By a user with the recovery key: it is sealed anew, in the TPM that is there, with the PIN that was typed.
    Recovery {
        /// What the policy asks for.
        factor: Factor,
        /// The new PIN.
        typed: Option<&'a str>,
        /// The recovery key.
        key: &'a str,
    },
}

/// A source of secrets.
pub(crate) trait Secrets {
    /// A zone's secret; made, if there is none yet. With it: whether the zone's own TPM keeps something already.
    ///
    /// # Errors
    /// [`SecretError`].
    fn open(&mut self, zone: &str, how: How<'_>) -> Result<(Secret, bool), SecretError>;

    /// What is known of its PIN.
    fn pin(&mut self, zone: &str) -> PinState;

    /// A new recovery key, to be shown. It takes the place of an earlier one when its user has noted it ([`Secrets::note`]).
    ///
    /// # Errors
    /// [`SecretError`].
    fn new_recovery_key(&mut self) -> Result<Zeroizing<String>, SecretError>;

    /// The user typed the recovery key that was shown.
    ///
    /// # Errors
    /// [`SecretError`]; another one was shown.
    fn note(&mut self, typed: &str) -> Result<(), SecretError>;

    /// Whether there is a recovery key.
    fn recovery(&mut self) -> Recovery;

    /// A certificate for the endorsement key of a zone's TPM, by this device's authority.
    ///
    /// # Errors
    /// [`SecretError`].
    fn certify(&mut self, endorsement: &Point) -> Result<Vec<u8>, SecretError>;

    /// Whether the epochs of these approvals count.
    ///
    /// # Errors
    /// [`SecretError::Epoch`].
    fn check_epochs(&mut self, approvals: &[Approval]) -> Result<(), SecretError>;

    /// These approvals were used: older ones count no more.
    fn used(&mut self, approvals: &[Approval]);

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
    /// The highest epochs that were used, once they were read; and those that the TPM knows, once it was asked.
    epochs: Option<Epochs>,
    learned: Option<Epochs>,
}

impl Hardware {
    /// Nothing is asked yet. `device` is in the words of the TSS.
    pub(crate) fn new(device: &str, store: Store, key: ApprovalKey, approvals: Vec<Approval>) -> Self {
        Self { device: device.to_owned(), store, key, approvals, tpm: None, epochs: None, learned: None }
    }

    fn tpm(&mut self) -> Result<Tpm, SecretError> {
        if let Some(tpm) = self.tpm.take() {
            return Ok(tpm);
        }
        let mut tpm = self.connect()?;
        self.learn_epochs(&mut tpm)?;
        Ok(tpm)
    }

    fn connect(&self) -> Result<Tpm, SecretError> {
        let Some(machine) = self.store.machine()? else { return self.new_tpm() };
        let mut tpm = Tpm::open(&self.device, &machine)?;
        if machine.owned {
            return Ok(tpm);
        }
        let owner = tpm.unseal(&machine.owner, self.key, &self.approvals, None)?;
        self.own(tpm, machine, &owner)
    }

    /// Takes the TPM into use, whatever was remembered of another one.
    fn new_tpm(&self) -> Result<Tpm, SecretError> {
        if let Err(error) = set_lockout(&self.device) {
            tracing::warn!("the TPM's lockout {error}");
        }
        let (tpm, machine, owner) = Tpm::provision(&self.device, self.key, HOST)?;
        // Another key's certificate is not ours: it goes before anything says whose machine this is.
        self.store.forget_authority()?;
        self.store.keep_machine(&machine)?;
        self.own(tpm, machine, &owner)
    }

    fn own(&self, mut tpm: Tpm, mut machine: Machine, owner: &Secret) -> Result<Tpm, SecretError> {
        // A power cut before the next line leaves a record that brings the next `keeper` here.
        tpm.own(owner)?;
        machine.owned = true;
        self.store.keep_machine(&machine)?;
        tracing::info!("took the machine's TPM into use");
        Ok(tpm)
    }

    fn owner(&self, tpm: &mut Tpm) -> Result<Secret, SecretError> {
        let machine = self.store.machine()?.ok_or(OpenTpmError::Cleared)?;
        Ok(tpm.unseal(&machine.owner, self.key, &self.approvals, None)?)
    }

    /// Seals a zone's secret and keeps it. What was sealed before stays good until then: a PIN is counted elsewhere.
    fn keep(&self, tpm: &mut Tpm, zone: &str, secret: &Secret, new: New<'_>) -> Result<(), SecretError> {
        let salt = *random()?;
        let pin = match (new.factor, new.typed) {
            (Factor::Pin { tries }, Some(typed)) => Some((stretch(typed, &salt), tries)),
            (Factor::Pin { .. }, None) => return Err(UnsealError::PinNeeded.into()),
            (Factor::Touch, _) => None,
        };
        let sealed = match &pin {
            Some((pin, tries)) => {
                let owner = self.owner(tpm)?;
                let new = NewPin { pin, place: self.free_place()?, limit: u32::from(*tries) };
                tpm.seal(secret, self.key, HOST, Some((new, &owner)))?
            }
            None => tpm.seal(secret, self.key, HOST, None)?,
        };
        let tries = pin.map_or(0, |(_, tries)| tries);
        let public_key = ZoneKeys::of(secret.as_bytes()).tunnel_public();
        let stored = StoredZone { secret: sealed, salt, public_key, tries, made: new.made };
        Ok(self.store.keep_zone(zone, &stored)?)
    }

    /// Where no PIN is counted.
    fn free_place(&self) -> Result<u16, SecretError> {
        let zones = self.store.zones()?;
        let taken: Vec<u16> =
            zones.iter().filter_map(|zone| zone.secret.pin.as_ref().and_then(PinIndex::place)).collect();
        let free = (0..u16::MAX).find(|place| !taken.contains(place));
        Ok(free.expect("the folder has fewer files"))
    }

    fn secret(&self, tpm: &mut Tpm, zone: &str, how: How<'_>) -> Result<(Secret, bool), SecretError> {
        let (factor, typed) = match how {
            How::Alone => (None, None),
            How::User { factor, typed }
            | How::NewPin { factor, typed, .. }
            | How::Recovery { factor, typed, .. } => (Some(factor), typed),
        };
        let new = match how {
            How::NewPin { new, .. } => Some(new),
            How::Alone | How::User { .. } | How::Recovery { .. } => None,
        };
        if typed.into_iter().chain(new).any(|typed| !is_pin(typed)) {
            return Err(SecretError::BadPin);
        }
        if matches!(factor, Some(Factor::Pin { .. })) && typed.is_none() {
            return Err(UnsealError::PinNeeded.into());
        }
        let Some(stored) = self.store.zone(zone)? else {
            let secret = Secret::new(*random()?);
            let factor = factor.unwrap_or(Factor::Touch);
            self.keep(tpm, zone, &secret, New { factor, typed, made: false })?;
            return Ok((secret, false));
        };
        let asks = stored.secret.pin.is_some();
        let pin = typed.filter(|_| asks).map(|typed| stretch(typed, &stored.salt));
        let secret = tpm.unseal(&stored.secret, self.key, &self.approvals, pin.as_ref())?;
        let now = if asks { Factor::Pin { tries: stored.tries } } else { Factor::Touch };
        if let Some(factor) = factor.filter(|factor| *factor != now || new.is_some()) {
            self.keep(tpm, zone, &secret, New { factor, typed: new.or(typed), made: stored.made })?;
            tracing::info!(zone, ?factor, "sealed anew, as the policy or its user wants it now");
            if asks
                && let Err(error) = self.owner(tpm).and_then(|owner| Ok(tpm.forget(&stored.secret, &owner)?))
            {
                tracing::warn!(zone, %error, "the TPM goes on counting for a PIN that nobody has any more");
            }
        }
        Ok((secret, stored.made))
    }

    /// With the recovery key: whatever the machine's TPM says, a zone opens with it. It is sealed anew where that is possible.
    fn recover(&mut self, zone: &str, new: New<'_>, key: &str) -> Result<(Secret, bool), SecretError> {
        if new.typed.is_some_and(|typed| !is_pin(typed)) {
            return Err(SecretError::BadPin);
        }
        if matches!(new.factor, Factor::Pin { .. }) && new.typed.is_none() {
            return Err(UnsealError::PinNeeded.into());
        }
        let key = RecoveryKey::parse(key)?;
        let wrapped = self.store.wrapped(zone)?;
        if wrapped.is_empty() {
            return Err(SecretError::NoRecovery);
        }
        let secret = wrapped.iter().find_map(|wrapped| key.unwrap(zone, wrapped));
        let secret = secret.ok_or(SecretError::WrongKey)?;
        let old = self.store.zone(zone).unwrap_or(None);
        // A zone that was wrapped has begun, unless its file says that it has not.
        let made = old.as_ref().is_none_or(|old| old.made);
        match self.seal_anew(zone, &secret, New { made, ..new }, old) {
            Ok(()) => tracing::info!(zone, "sealed anew with the recovery key"),
            Err(error) => tracing::warn!(zone, %error, "opened with the recovery key, and sealed nowhere"),
        }
        Ok((secret, made))
    }

    fn seal_anew(
        &mut self,
        zone: &str,
        secret: &Secret,
        new: New<'_>,
        old: Option<StoredZone>,
    ) -> Result<(), SecretError> {
        let mut tpm = match self.tpm() {
            Err(SecretError::Open(OpenTpmError::Cleared | OpenTpmError::Foreign)) => self.new_tpm()?,
            other => other?,
        };
        self.keep(&mut tpm, zone, secret, new)?;
        if let Some(old) = old.filter(|old| old.secret.pin.is_some()) {
            let owner = self.owner(&mut tpm)?;
            tpm.forget(&old.secret, &owner)?;
        }
        self.tpm = Some(tpm);
        Ok(())
    }

    /// Wraps a zone's secret for every recovery key that somebody may have.
    fn wrap(&self, zone: &str, secret: &Secret) -> Result<(), SecretError> {
        let keys = self.store.recovery_keys()?;
        let wanted: Vec<PublicKey> = keys.noted.into_iter().chain(keys.shown).collect();
        // What is damaged is made anew.
        let there = self.store.wrapped(zone).unwrap_or_default();
        if there.iter().map(|wrapped| wrapped.key).eq(wanted.iter().copied()) {
            return Ok(());
        }
        let wrapped = wanted.iter().map(|key| Ok(key.wrap(zone, secret)?));
        let wrapped = wrapped.collect::<Result<Vec<_>, SecretError>>()?;
        Ok(self.store.keep_wrapped(zone, &wrapped)?)
    }

    /// A certificate of the authority's, whose own one is made by the way.
    fn certificate(&self, tpm: &mut Tpm, endorsement: &Point) -> Result<Vec<u8>, SecretError> {
        let machine = self.store.machine()?.ok_or(OpenTpmError::Cleared)?;
        let authority = Point::of(&machine.authority).ok_or(UnsealError::NotOurs)?;
        let sign = |tpm: &mut Tpm, part: Vec<u8>| -> Result<Vec<u8>, SecretError> {
            let digest = approval::sha256(&[&part]);
            let signature = tpm.sign(&machine.authority, self.key, &self.approvals, &digest)?;
            Ok(certificate::signed(&part, &signature))
        };
        if self.store.authority()?.is_none() {
            let own = sign(tpm, certificate::of_authority(&authority, *random()?))?;
            self.store.keep_authority(&own)?;
        }
        sign(tpm, certificate::of_endorsement(endorsement, &authority, *random()?))
    }

    fn tries(&self, tpm: &mut Tpm, stored: &StoredZone) -> Result<Option<u32>, SecretError> {
        let owner = self.owner(tpm)?;
        let tries = tpm.tries(&stored.secret, &owner)?;
        Ok(tries.map(|tries| tries.limit.saturating_sub(tries.wrong)))
    }
}

impl Hardware {
    fn unseal(&mut self, zone: &str, how: How<'_>) -> Result<(Secret, bool), SecretError> {
        let mut tpm = self.tpm()?;
        let opened = self.secret(&mut tpm, zone, how);
        // After any other refusal the connection is made anew: whatever the TPM holds for it is given back.
        let good = matches!(
            opened,
            Ok(_) | Err(SecretError::Unseal(UnsealError::WrongPin | UnsealError::LockedOut))
        );
        self.tpm = good.then_some(tpm);
        if opened.is_ok() {
            self.used_host();
        }
        opened
    }
}

/// What a seal is to be.
#[derive(Clone, Copy)]
struct New<'a> {
    factor: Factor,
    typed: Option<&'a str>,
    made: bool,
}

impl Secrets for Hardware {
    fn open(&mut self, zone: &str, how: How<'_>) -> Result<(Secret, bool), SecretError> {
        let opened = match how {
            How::Recovery { factor, typed, key } => {
                self.recover(zone, New { factor, typed, made: false }, key)
            }
            How::Alone | How::User { .. } | How::NewPin { .. } => self.unseal(zone, how),
        };
        if let Ok((secret, _)) = &opened
            && let Err(error) = self.wrap(zone, secret)
        {
            tracing::error!(zone, %error, "the recovery key does not open it");
        }
        opened
    }

    fn new_recovery_key(&mut self) -> Result<Zeroizing<String>, SecretError> {
        let key = RecoveryKey::new()?;
        let keys = self.store.recovery_keys().unwrap_or_default();
        self.store.keep_recovery_keys(&RecoveryKeys { shown: Some(key.public()), ..keys })?;
        Ok(key.digits())
    }

    fn note(&mut self, typed: &str) -> Result<(), SecretError> {
        let key = RecoveryKey::parse(typed)?.public();
        let keys = self.store.recovery_keys()?;
        if keys.noted == Some(key) {
            return Ok(());
        }
        if keys.shown != Some(key) {
            return Err(SecretError::WrongKey);
        }
        Ok(self.store.keep_recovery_keys(&RecoveryKeys { noted: Some(key), shown: None })?)
    }

    fn recovery(&mut self) -> Recovery {
        match self.store.recovery_keys() {
            Ok(RecoveryKeys { noted: Some(_), .. }) => Recovery::Noted,
            Ok(RecoveryKeys { shown: Some(_), .. }) => Recovery::Shown,
            Ok(_) | Err(_) => Recovery::None,
        }
    }

    fn pin(&mut self, zone: &str) -> PinState {
        let stored = match self.store.zone(zone) {
            Ok(Some(stored)) => stored,
            Ok(None) | Err(_) => return PinState::default(),
        };
        let public_key = Some(stored.public_key);
        if stored.secret.pin.is_none() {
            return PinState { public_key, ..PinState::default() };
        }
        let tries = self.tpm().and_then(|mut tpm| {
            let tries = self.tries(&mut tpm, &stored)?;
            self.tpm = Some(tpm);
            Ok(tries)
        });
        if let Err(error) = &tries {
            tracing::warn!(zone, %error, "how many tries are left");
        }
        PinState { chosen: true, tries_left: tries.unwrap_or(None), public_key }
    }

    fn certify(&mut self, endorsement: &Point) -> Result<Vec<u8>, SecretError> {
        let mut tpm = self.tpm()?;
        let certificate = self.certificate(&mut tpm, endorsement)?;
        self.tpm = Some(tpm);
        Ok(certificate)
    }

    fn check_epochs(&mut self, approvals: &[Approval]) -> Result<(), SecretError> {
        self.judge_epochs(approvals)
    }

    fn used(&mut self, approvals: &[Approval]) {
        self.note_epochs(approvals);
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

#[cfg(test)]
mod tests;
