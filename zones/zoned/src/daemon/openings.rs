//! What a user has to open: `keeper` is asked before anything of a start is made, so that a wrong PIN, or a TPM that gives
//! nothing out, leaves the zone as it was.
//!
//! A disposable zone has nothing to open. A locked zone is opened in the same way, and a PIN is changed by opening with the
//! old one; the display's lock has no zone behind it ([`super::screen`]). The recovery key is made and noted here, too: it passes through and is not kept.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use control_api::wire::{CallError, Reply};
use control_api::{Login, Phase, Pin, Recovery};
use policy::Zone as OfPolicy;
use zone_protocol::keeper::{self, Digits, PinState, Purpose, RecoveryAnswer, SCREEN, ToKeeper};

use super::calls::refused;
use super::screen::SCREEN_SLOT;
use super::{Daemon, PowerOff};
use crate::lifecycle::Event;
use crate::server::ClientId;
use crate::steps::Steps;

/// How long `keeper` may take: the TPM of an old machine needs seconds to make its first key.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a user brings to open a zone.
#[derive(Debug, Default)]
pub(super) struct Brought {
    pub(super) pin: Option<Pin>,
    pub(super) recovery: Option<Pin>,
}

/// A client that waits for an answer about the recovery key.
#[derive(Debug)]
pub(super) struct Waiting {
    client: ClientId,
    request: &'static str,
    deadline: Instant,
}

/// An opening that is under way.
#[derive(Debug)]
pub(super) struct Opening {
    client: ClientId,
    request: &'static str,
    number: u32,
    deadline: Instant,
    wanted: Wanted,
}

/// What follows once it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Start,
    Unlock,
    NewPin,
    UnlockScreen,
}

impl Daemon {
    /// Asks what is known of every zone's PIN: a status shows it before anything starts.
    pub(super) fn ask_for_pins(&mut self) {
        let zones = self.policy().map_or(&[][..], |policy| &policy.zones);
        let asked: Vec<_> = (0_u8..)
            .zip(zones)
            .filter(|(_, zone)| !zone.disposable || matches!(zone.network, policy::Network::Tunnel(_)))
            .map(|(slot, zone)| ToKeeper::AskPin { slot, zone: zone.name.clone() })
            .chain([ToKeeper::AskPin { slot: SCREEN_SLOT, zone: SCREEN.to_owned() }, ToKeeper::AskRecovery])
            .collect();
        for ask in asked {
            if let Err(error) = self.keeper.send(&ask, &[]) {
                tracing::warn!("ask keeper for a PIN's state: {error}");
            }
        }
    }

    /// A user wants a zone; `None`: the answer comes later.
    pub(super) fn open(
        &mut self,
        (client, request): (ClientId, &'static str),
        name: &str,
        brought: Brought,
        now: Instant,
    ) -> anyhow::Result<Option<Reply>> {
        let index = match self.index_of(name) {
            Ok(index) => index,
            Err(error) => return Ok(Some(Reply::Error(error))),
        };
        let phase = self.life(index).map(|life| life.phase);
        let impossible = self.is_impossible(index);
        let Some(zone) = self.policy().and_then(|policy| policy.zones.get(index)) else { return Ok(None) };
        if zone.disposable && (brought.pin.is_some() || brought.recovery.is_some()) {
            return Ok(Some(refused(format!("Zone {name} is disposable: there is nothing to open."))));
        }
        // What runs says by itself what it refuses; a disposable zone is opened for its tunnel's key alone.
        let wanted = match phase {
            Some(Phase::Stopped | Phase::Failed) if !impossible => Some(Wanted::Start),
            Some(Phase::Locked) => Some(Wanted::Unlock),
            _ => None,
        };
        let tunnel = self.wants_key(zone);
        let wanted = wanted.filter(|_| self.power_off == PowerOff::No && (!zone.disposable || tunnel));
        let Some(wanted) = wanted else { return self.order(name, Event::Start, now).map(Some) };
        let purpose = match wanted {
            Wanted::Unlock => Purpose::Unlock,
            Wanted::Start | Wanted::NewPin | Wanted::UnlockScreen => Purpose::Start { tunnel },
        };
        let login = zone.login;
        if let Some(zone) = self.zones.get_mut(index).filter(|_| wanted == Wanted::Start) {
            zone.steps = Steps::asked(now);
        }
        Ok(self.ask_to_open((client, request), (index, name), login, brought, (wanted, purpose), now))
    }

    /// A user wants another PIN for a zone; `None`: the answer comes later.
    pub(super) fn change_pin(
        &mut self,
        from: (ClientId, &'static str),
        name: &str,
        [pin, new]: [Pin; 2],
        now: Instant,
    ) -> Option<Reply> {
        let index = match self.index_of(name) {
            Ok(index) => index,
            Err(error) => return Some(Reply::Error(error)),
        };
        let login = self.policy().and_then(|policy| policy.zones.get(index)).map(|zone| zone.login)?;
        let chosen = self.zones.get(index).and_then(|zone| zone.pin).is_some_and(|pin| pin.chosen);
        if login == policy::Login::Touch || !chosen {
            return Some(refused(format!("Zone {name} has no PIN that could be changed.")));
        }
        let brought = Brought { pin: Some(pin), recovery: None };
        let wanted = (Wanted::NewPin, Purpose::NewPin(digits(&new)));
        self.ask_to_open(from, (index, name), login, brought, wanted, now)
    }

    /// Asks `keeper` to open something; the answer comes later, unless it cannot be asked.
    pub(super) fn ask_to_open(
        &mut self,
        (client, request): (ClientId, &'static str),
        (index, name): (usize, &str),
        login: policy::Login,
        brought: Brought,
        (wanted, purpose): (Wanted, Purpose),
        now: Instant,
    ) -> Option<Reply> {
        if self.openings.contains_key(&index) {
            return Some(refused(match wanted {
                Wanted::UnlockScreen => "The display's lock is being opened already.".to_owned(),
                Wanted::Start | Wanted::Unlock | Wanted::NewPin => {
                    format!("Zone {name} is being opened already.")
                }
            }));
        }
        let slot = u8::try_from(index).ok()?;
        let factor = match login {
            policy::Login::Touch => keeper::Factor::Touch,
            policy::Login::Pin { tries, .. } => keeper::Factor::Pin { tries },
        };
        let number = self.next_opening;
        self.next_opening = number.wrapping_add(1);
        let [pin, recovery] = [brought.pin, brought.recovery].map(|typed| typed.as_ref().map(digits));
        let open = ToKeeper::Open { slot, number, zone: name.to_owned(), factor, pin, purpose, recovery };
        if let Err(error) = self.keeper.send(&open, &[]) {
            return Some(refused(format!("The host's key service takes no orders: {error}.")));
        }
        let deadline = now + PATIENCE;
        self.openings.insert(index, Opening { client, request, number, deadline, wanted });
        None
    }

    /// Whether its tunnel's key is not the demonstration's.
    fn wants_key(&self, zone: &OfPolicy) -> bool {
        matches!(&zone.network, policy::Network::Tunnel(name) if !self.settings.keys.contains_key(name))
    }

    /// What stopped needs its tunnel's key no more.
    pub(super) fn forget_keys(&mut self) {
        let over =
            |zone: &&mut crate::zone::Zone| matches!(zone.life.view().phase, Phase::Stopped | Phase::Failed);
        for zone in self.zones.iter_mut().filter(over) {
            zone.tunnel_key = None;
        }
    }

    /// `keeper` has said what is known of a zone's PIN.
    pub(super) fn pin_told(&mut self, slot: u8, pin: PinState) {
        if slot == SCREEN_SLOT {
            self.screen.pin = Some(pin);
        } else if let Some(zone) = self.zones.get_mut(usize::from(slot)) {
            zone.pin = Some(pin);
        }
    }

    /// `keeper` has opened it, or says why not.
    pub(super) fn opened(
        &mut self,
        (slot, number): (u8, u32),
        outcome: Result<Option<OwnedFd>, (keeper::Cause, String)>,
        pin: PinState,
        now: Instant,
    ) -> anyhow::Result<()> {
        self.pin_told(slot, pin);
        let index = usize::from(slot);
        let Some(opening) = self.openings.get(&index).filter(|opening| opening.number == number) else {
            // What it opened closes by itself.
            tracing::info!(zone = self.zone_name(index), "opened too late");
            return Ok(());
        };
        let (client, request, wanted) = (opening.client, opening.request, opening.wanted);
        self.openings.remove(&index);
        let zone = self.zone_name(index);
        let reply = match (outcome, wanted) {
            (Ok(_), Wanted::NewPin) => Reply::Done,
            (Ok(_), Wanted::UnlockScreen) => self.screen_opened(),
            // What `keeper` has given out again must not be for nothing: it unlocks whoever waits for it.
            (Ok(_), Wanted::Unlock) => {
                self.event(index, Event::Unlock, now)?;
                Reply::Done
            }
            // Nobody waits for the zone any more.
            (Ok(_), Wanted::Start) if !self.server.is_connected(client) => return Ok(()),
            (Ok(key), Wanted::Start) => {
                if let Some(zone) = self.zones.get_mut(index) {
                    zone.tunnel_key = key;
                }
                self.order(&zone, Event::Start, now)?
            }
            (Err((cause, reason)), _) => {
                let of_user = matches!(
                    cause,
                    keeper::Cause::PinNeeded
                        | keeper::Cause::BadPin
                        | keeper::Cause::WrongPin
                        | keeper::Cause::BadRecoveryKey
                        | keeper::Cause::WrongRecoveryKey
                );
                if !of_user {
                    let what = match wanted {
                        Wanted::UnlockScreen => "The display was not unlocked".to_owned(),
                        Wanted::NewPin if zone.is_empty() => "The display's PIN was not changed".to_owned(),
                        Wanted::NewPin => format!("The PIN of zone {zone} was not changed"),
                        Wanted::Start | Wanted::Unlock => format!("Zone {zone} was not opened"),
                    };
                    self.notices.add("keeper", format!("{what}. {reason}"));
                }
                Reply::Error(CallError::NotOpened {
                    zone,
                    cause: shown(cause),
                    reason,
                    tries_left: pin.tries_left,
                })
            }
        };
        self.audit_reply(request, &reply);
        self.server.reply(client, &reply, now);
        Ok(())
    }

    /// A user wants a recovery key, or has noted one; `None`: the answer comes later.
    pub(super) fn ask_about_recovery(
        &mut self,
        (client, request): (ClientId, &'static str),
        noted: Option<&Pin>,
        now: Instant,
    ) -> Option<Reply> {
        let number = self.next_opening;
        self.next_opening = number.wrapping_add(1);
        let ask = match noted {
            None => ToKeeper::NewRecoveryKey { number },
            Some(key) => ToKeeper::NoteRecoveryKey { number, key: digits(key) },
        };
        if let Err(error) = self.keeper.send(&ask, &[]) {
            return Some(refused(format!("The host's key service takes no orders: {error}.")));
        }
        self.waiting.insert(number, Waiting { client, request, deadline: now + PATIENCE });
        None
    }

    /// `keeper` said something about the recovery key.
    pub(super) fn recovery_told(
        &mut self,
        number: u32,
        state: keeper::Recovery,
        answer: RecoveryAnswer,
        now: Instant,
    ) {
        self.recovery = state;
        let Some(Waiting { client, request, .. }) = self.waiting.remove(&number) else { return };
        let reply = match answer {
            RecoveryAnswer::Key(Digits(digits)) => Reply::Key(Pin::new(digits.to_string())),
            RecoveryAnswer::Noted | RecoveryAnswer::State => Reply::Done,
            RecoveryAnswer::Refused(reason) => refused(reason),
        };
        self.audit_reply(request, &reply);
        self.server.reply(client, &reply, now);
    }

    /// What is shown of it.
    pub(super) fn recovery(&self) -> Recovery {
        match self.recovery {
            keeper::Recovery::None => Recovery::None,
            keeper::Recovery::Shown => Recovery::Shown,
            keeper::Recovery::Noted => Recovery::Noted,
        }
    }

    /// Openings that took too long.
    pub(super) fn expire_openings(&mut self, now: Instant) {
        let expired = self.openings.extract_if(.., |_, opening| opening.deadline <= now);
        for (index, opening) in expired.collect::<Vec<_>>() {
            let what = match opening.wanted {
                Wanted::UnlockScreen => "The display was not unlocked".to_owned(),
                Wanted::NewPin => "The PIN was not changed".to_owned(),
                Wanted::Start | Wanted::Unlock => format!("Zone {} was not opened", self.zone_name(index)),
            };
            let reply = refused(format!("{what}: the host's key service did not answer."));
            self.audit_reply(opening.request, &reply);
            self.server.reply(opening.client, &reply, now);
        }
        let expired = self.waiting.extract_if(.., |_, waiting| waiting.deadline <= now);
        for (_, Waiting { client, request, .. }) in expired.collect::<Vec<_>>() {
            let reply = refused("The host's key service did not answer.".to_owned());
            self.audit_reply(request, &reply);
            self.server.reply(client, &reply, now);
        }
    }

    /// When the next of them is too late.
    pub(super) fn opening_deadline(&self) -> Option<Instant> {
        let waiting = self.waiting.values().map(|waiting| waiting.deadline);
        self.openings.values().map(|opening| opening.deadline).chain(waiting).min()
    }
}

/// What a user has to do for a zone, or for the display's lock. As long as `keeper` has not spoken a PIN is asked for once,
/// not chosen.
pub(super) fn login(wanted: policy::Login, pin: Option<PinState>) -> Login {
    let (asks, shuffle) = match wanted {
        policy::Login::Touch => (false, false),
        policy::Login::Pin { shuffle, .. } => (true, shuffle),
    };
    let chosen = pin.map_or(asks, |pin| pin.chosen);
    // One that the policy does not ask for any more is needed once.
    let factor = if asks || chosen { control_api::Factor::Pin } else { control_api::Factor::Touch };
    Login { factor, chosen, shuffle, tries_left: pin.and_then(|pin| pin.tries_left) }
}

pub(super) fn digits(typed: &Pin) -> Digits {
    Digits(typed.digits().to_owned().into())
}

fn shown(cause: keeper::Cause) -> control_api::Cause {
    use control_api::Cause;
    match cause {
        keeper::Cause::PinNeeded => Cause::PinNeeded,
        keeper::Cause::BadPin => Cause::BadPin,
        keeper::Cause::WrongPin => Cause::WrongPin,
        keeper::Cause::LockedOut => Cause::LockedOut,
        keeper::Cause::NotApproved => Cause::NotApproved,
        keeper::Cause::TpmMissing => Cause::TpmMissing,
        keeper::Cause::TpmCleared => Cause::TpmCleared,
        keeper::Cause::TpmForeign => Cause::TpmForeign,
        keeper::Cause::TpmOwned => Cause::TpmOwned,
        keeper::Cause::TpmBusy => Cause::TpmBusy,
        keeper::Cause::Damaged => Cause::Damaged,
        keeper::Cause::BadRecoveryKey => Cause::BadRecoveryKey,
        keeper::Cause::WrongRecoveryKey => Cause::WrongRecoveryKey,
        keeper::Cause::NoRecovery => Cause::NoRecovery,
        keeper::Cause::Other => Cause::Other,
    }
}
