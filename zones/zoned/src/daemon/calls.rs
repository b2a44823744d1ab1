//! The interface's calls, and the checks that agents run for them.

use std::time::{Duration, Instant};

use control_api::CheckResult;
use control_api::wire::{CallError, Method, Reply};
use control_api::{Phase, Pin};
use rustix::event::PollFlags;
use zone_protocol::agent::{Answer, Ask};

use super::openings::Brought;
use super::{Daemon, PowerOff};
use crate::agent_link::LinkError;
use crate::lifecycle::{Event, Refusal};
use crate::server::ClientId;
use crate::zone::Check;

/// How long a check may take; the agent's own limit is shorter.
const CHECK_PATIENCE: Duration = Duration::from_secs(160);

/// The most checks at the same time in one zone.
const MAX_CHECKS: usize = 16;

impl Daemon {
    /// Carries on with a client; carries out its next call.
    pub(super) fn client(&mut self, client: ClientId, flags: PollFlags, now: Instant) -> anyhow::Result<()> {
        let call = self.server.ready(client, flags, now);
        if !self.server.is_connected(client) {
            self.forget(client);
        }
        let Some(method) = call else { return Ok(()) };
        let request = crate::audit::request(&method);
        let reply = if self.is_behind_lock(&method) {
            Some(refused("The display is locked.".to_owned()))
        } else {
            self.carry_out((client, request), method, now)?
        };
        // Otherwise the answer comes later.
        if let Some(reply) = reply {
            self.audit_reply(request, &reply);
            self.server.reply(client, &reply, now);
        }
        Ok(())
    }

    /// Carries a call out; `None`: the answer comes later.
    fn carry_out(
        &mut self,
        from: (ClientId, &'static str),
        method: Method,
        now: Instant,
    ) -> anyhow::Result<Option<Reply>> {
        let some = |pin: Pin| Some(pin).filter(|pin| !pin.digits().is_empty());
        Ok(Some(match method {
            Method::Status => Reply::Status(self.status()),
            Method::Start(zone) => return self.open(from, &zone, Brought::default(), now),
            Method::Open { zone, pin } => {
                return self.open(from, &zone, Brought { pin: Some(pin), recovery: None }, now);
            }
            Method::Recover { zone, key, pin } => {
                return self.open(from, &zone, Brought { pin: some(pin), recovery: Some(key) }, now);
            }
            Method::ChangePin { zone, pin, new } => return Ok(self.change_pin(from, &zone, [pin, new], now)),
            Method::LockScreen => self.lock_screen(),
            Method::UnlockScreen(pin) => {
                return Ok(self.unlock_screen(from, Brought { pin: some(pin), recovery: None }, now));
            }
            Method::RecoverScreen { key, pin } => {
                return Ok(self.unlock_screen(from, Brought { pin: some(pin), recovery: Some(key) }, now));
            }
            Method::ChangeScreenPin { pin, new } => return Ok(self.change_screen_pin(from, [pin, new], now)),
            Method::NewRecoveryKey => return Ok(self.ask_about_recovery(from, None, now)),
            Method::NoteRecoveryKey(key) => return Ok(self.ask_about_recovery(from, Some(&key), now)),
            Method::Lock(zone) => self.lock(&zone, now)?,
            Method::Stop(zone) => self.order(&zone, Event::Stop, now)?,
            Method::Kill(zone) => self.order(&zone, Event::Kill, now)?,
            Method::Restart(zone) => return self.restart(from, &zone, now),
            Method::Pause(zone) => self.order(&zone, Event::Pause, now)?,
            Method::Resume(zone) => self.order(&zone, Event::Resume, now)?,
            Method::RunCheck { zone, check, arguments } => {
                let ask = Ask::RunCheck { name: check, arguments };
                return Ok(self.begin_check(from.0, &zone, ask, now).err().map(Reply::Error));
            }
            Method::Audit { position, limit } => match self.audit.page(position, limit) {
                Ok(page) => Reply::Audit(page),
                Err(error) => refused(format!("The audit log cannot be read: {error}.")),
            },
            Method::PowerOff => {
                self.power_off("client", now)?;
                Reply::Done
            }
            // The server answers these itself.
            Method::Monitor | Method::GetInfo | Method::GetInterfaceDescription(_) => return Ok(None),
        }))
    }

    /// Begins to lock a zone.
    fn lock(&mut self, zone: &str, now: Instant) -> anyhow::Result<Reply> {
        let of_policy = self.policy().and_then(|policy| policy.zones.iter().find(|known| known.name == zone));
        if of_policy.is_some_and(|zone| zone.disposable) {
            let why = "the key of its disk is kept nowhere, so nothing could unlock it";
            return Ok(refused(format!("Zone {zone} is disposable: {why}. Stop it, or lock the display.")));
        }
        self.order(zone, Event::Lock, now)
    }

    pub(super) fn index_of(&self, zone: &str) -> Result<usize, CallError> {
        let zones = self.policy().map_or(&[][..], |policy| &policy.zones);
        let index = zones.iter().position(|candidate| candidate.name == zone);
        index.ok_or_else(|| CallError::UnknownZone(zone.to_owned()))
    }

    /// One that does not run is opened; one that runs starts again without its user, so it cannot ask for a PIN.
    fn restart(
        &mut self,
        from: (ClientId, &'static str),
        zone: &str,
        now: Instant,
    ) -> anyhow::Result<Option<Reply>> {
        let index = match self.index_of(zone) {
            Ok(index) => index,
            Err(error) => return Ok(Some(Reply::Error(error))),
        };
        let phase = self.life(index).map(|life| life.phase);
        if matches!(phase, Some(Phase::Stopped | Phase::Failed)) {
            return self.open(from, zone, Brought::default(), now);
        }
        if self.zones.get(index).is_some_and(|zone| zone.pin.is_some_and(|pin| pin.chosen)) {
            let why = format!("Zone {zone} asks for its PIN at each start. Stop it, then open it.");
            return Ok(Some(refused(why)));
        }
        self.order(zone, Event::Restart, now).map(Some)
    }

    /// What a user wants of a zone.
    pub(super) fn order(&mut self, zone: &str, event: Event, now: Instant) -> anyhow::Result<Reply> {
        let index = match self.index_of(zone) {
            Ok(index) => index,
            Err(error) => return Ok(Reply::Error(error)),
        };
        let start = matches!(event, Event::Start | Event::Restart);
        if start && self.power_off != PowerOff::No {
            return Ok(refused("The host is powering off.".to_owned()));
        }
        let outcome = self.request(index, event, now)?;
        let view = self.zones.get(index).map(|state| state.life.view());
        Ok(match (outcome, view) {
            (Err(Refusal::NotRunning), _) => Reply::Error(CallError::NotRunning(zone.to_owned())),
            (Err(Refusal::Starting), _) => refused(format!("Zone {zone} is starting already.")),
            (Err(Refusal::Running), _) => refused(format!("Zone {zone} is running already.")),
            (Err(Refusal::Paused), _) => refused(format!("Zone {zone} is paused. Resume it to use it.")),
            (Err(Refusal::Locked), _) => refused(format!("Zone {zone} is locked. Open it to use it.")),
            (Err(Refusal::Stopping), _) => refused(format!("Zone {zone} is still stopping.")),
            // The start failed at once: whoever asked hears it in the answer too.
            (Ok(()), Some(view)) if start && view.phase == Phase::Failed => {
                refused(view.reason.unwrap_or_default())
            }
            (Ok(()), _) => Reply::Done,
        })
    }

    /// Stops every zone, as `by` wants; `init` is asked when the last one is gone.
    pub(super) fn power_off(&mut self, by: &str, now: Instant) -> anyhow::Result<()> {
        if self.power_off != PowerOff::No {
            return Ok(());
        }
        self.power_off = PowerOff::Wanted;
        self.audit.record(None, &audit::Event::PowerOff { by: by.to_owned() });
        for zone in 0..self.zones.len() {
            self.event(zone, Event::Stop, now)?;
        }
        Ok(())
    }

    fn begin_check(&mut self, client: ClientId, zone: &str, ask: Ask, now: Instant) -> Result<(), CallError> {
        let index = self.index_of(zone)?;
        let running = |phase| phase == Phase::Running;
        let state = self.zones.get_mut(index).filter(|state| running(state.life.view().phase));
        let run = state.and_then(|state| state.run.as_mut());
        let run = run.ok_or_else(|| CallError::NotRunning(zone.to_owned()))?;
        if run.checks.len() >= MAX_CHECKS {
            return Err(CallError::Refused(format!("Zone {zone} runs {MAX_CHECKS} checks already.")));
        }
        let gone = || CallError::Refused(format!("The agent of zone {zone} is not connected just now."));
        let link = run.link.as_mut().filter(|link| link.greeted()).ok_or_else(gone)?;
        match link.ask(ask) {
            Ok(number) => {
                run.checks.insert(number, Check { client, deadline: now + CHECK_PATIENCE });
                Ok(())
            }
            Err(LinkError::Frame(_)) => {
                Err(CallError::Refused("The check's arguments are too long.".to_owned()))
            }
            Err(error) => {
                tracing::info!(zone, "{error}");
                run.link = None;
                self.drop_checks(index, now);
                Err(gone())
            }
        }
    }

    /// An agent's answer.
    pub(super) fn answered(&mut self, zone: usize, number: u32, answer: Answer, now: Instant) {
        let Some(check) = self.run_mut(zone).and_then(|run| run.checks.remove(&number)) else {
            // The answer to a shutdown, or to a check whose client left.
            tracing::debug!(zone = self.zone_name(zone), number, "answer that nobody awaits");
            return;
        };
        let reply = match answer {
            Answer::Check { passed, output } => Reply::Check(CheckResult { passed, output }),
            Answer::Refused(reason) => refused(format!("The zone's agent refused: {reason}")),
            Answer::Status(_) | Answer::ShuttingDown | Answer::Synced => {
                refused("The zone's agent gave an answer to another question.".to_owned())
            }
        };
        self.server.reply(check.client, &reply, now);
    }

    /// Nobody will answer these checks any more.
    pub(super) fn drop_checks(&mut self, zone: usize, now: Instant) {
        let checks = self.run_mut(zone).map(|run| std::mem::take(&mut run.checks)).unwrap_or_default();
        for check in checks.into_values() {
            let reply = refused("The connection to the zone's agent broke.".to_owned());
            self.server.reply(check.client, &reply, now);
        }
    }

    /// Checks that took too long.
    pub(super) fn expire_checks(&mut self, zone: usize, now: Instant) {
        let Some(run) = self.run_mut(zone) else { return };
        let expired: Vec<u32> =
            run.checks.iter().filter(|(_, check)| check.deadline <= now).map(|(number, _)| *number).collect();
        for number in expired {
            let answer = Answer::Refused("the check took too long".to_owned());
            self.answered(zone, number, answer, now);
        }
    }

    /// The client left: nobody waits for its checks.
    fn forget(&mut self, client: ClientId) {
        for run in self.zones.iter_mut().filter_map(|zone| zone.run.as_mut()) {
            run.checks.retain(|_, check| check.client != client);
        }
    }
}

pub(super) fn refused(reason: String) -> Reply {
    Reply::Error(CallError::Refused(reason))
}
