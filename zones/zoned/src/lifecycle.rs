//! The life of one zone, as a pure state machine: events and the time in, actions out.
//!
//! ```text
//!            start, restart             Hello              pause, Paused
//!  Stopped ----------------> Starting --------> Running <===============> Paused
//!    ^  ^                     |   ^                |  |   Resumed, resume    |
//!    |  |                     |   +----------------+  |                      |
//!    |  |                     |   guest reset itself  |                      |
//!    |  |                     |                       | stop, restart, Ended, VMM gone, kill
//!    |  |                     | the same, deadline,   |                      |
//!    |  |                     | refused               |                      |
//!    |  |                     v                       v                      |
//!    |  +----------------- Stopping <----------------------------------------+
//!    |  all processes gone   |  |
//!    |                       |  +--> Starting   (restart was asked for)
//!    |                       v
//!    +------ start ------- Failed
//!
//!  Running and Paused zones can be locked: see `lock`.
//!
//!  The tunnel process beside it, while the zone is Starting, Running or Paused:
//!
//!    Lives --- exited, refused, not made ---> Waits --- its time ---> Lives
//!      | hung up: killed a second later         | too many deaths of late
//!      v                                        v
//!    (exited)                                GivenUp   (until the zone starts again)
//! ```
//!
//! `Stopping` has three steps, each with its deadline: the agent is asked, the VMM is told, the processes are
//! killed. A zone leaves it only when none of its processes is left, so a start never meets an earlier
//! start's process. A VMM that does not pause, or not resume, in time loses nothing: the zone stays what it was
//! and its user is told. What [`saved`] keeps of all this lets the next `zoned` go on. It never reads a clock
//! and never touches a descriptor.

mod lock;
mod mode;
mod requests;
mod saved;
mod tpm;
mod tunnel;

use std::time::{Duration, Instant};

use control_api::Phase;
use init_protocol::ExitCause;
use init_protocol::restarts::Restarts;
use zone_protocol::vmm::{Command, End};

use mode::Mode;
pub(crate) use saved::SavedLife;
use tunnel::{HungUp, Vpnd};

/// How long a guest may take from the first instruction to the agent's Hello (TCG is slow).
pub(crate) const START_PATIENCE: Duration = Duration::from_secs(180);

/// How long a guest may take to shut down when its agent was asked.
pub(crate) const ASK_PATIENCE: Duration = Duration::from_secs(15);

/// How long a VMM may take to end, and `init` to kill.
pub(crate) const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// How long a VMM may take to pause or to resume.
pub(crate) const PAUSE_PATIENCE: Duration = Duration::from_secs(5);

/// How long a tunnel process may live on without its VMM's connection: its death is on the way, or it hangs.
pub(crate) const HANG_UP_PATIENCE: Duration = Duration::from_secs(1);

/// A guest that resets itself more often than this without its agent's Hello in between has failed.
pub(crate) const MAX_RESETS: u8 = 4;

/// A process of a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// The virtual machine monitor.
    Vmm,
    /// The tunnel process.
    Vpnd,
    /// The virtual TPM.
    Tpm,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The user wants the zone.
    Start,
    /// The user does not want it any more: its guest is asked first.
    Stop,
    /// The user wants it gone now.
    Kill,
    /// The user wants it anew.
    Restart,
    /// The user wants it held.
    Pause,
    /// The user wants it to go on.
    Resume,
    /// The user wants it locked.
    Lock,
    /// The agent wrote everything to the disks, or nobody is there who could.
    Synced,
    /// The key of its disk is forgotten, or a fragment says why not.
    Closed(Option<String>),
    /// Its user brought what unlocks it.
    Unlock,
    /// Its disk has its key again, or a fragment says why not.
    Unlocked(Option<String>),
    /// [`Action::Launch`] was not carried out; no process was asked for. The reason is a sentence.
    LaunchFailed(String),
    /// [`Action::LaunchVpnd`] was not carried out: a fragment.
    VpndFailed(String),
    /// `init` did not start a process.
    Refused(Role, String),
    /// A process is gone.
    Exited(Role, ExitCause),
    /// The VMM's machine is loaded and waits for a TPM that began anew: at the start, and whenever the guest reset itself.
    TpmWanted,
    /// The TPM cannot be begun: follows "the virtual TPM".
    TpmFailed(String),
    /// The private disk cannot be opened: a fragment.
    DiskRefused(String),
    /// The VMM is about to run the first instruction: at the start, and whenever the guest reset itself.
    Booted,
    /// The VMM's processors stand still.
    Paused,
    /// The VMM's processors run again.
    Resumed,
    /// The VMM lost its connection to the tunnel process.
    NetworkLost,
    /// The tunnel process has a session.
    TunnelUp,
    /// The VMM says how its machine ended.
    Ended(End),
    /// The agent connected and said its version.
    Hello(String),
    /// The agent's connection broke.
    AgentLost,
    /// Time passed.
    Tick,
}

/// What to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Make the zone's descriptors and ask for its processes.
    Launch,
    /// Make a tunnel's descriptors, ask for its process and connect the VMM to it.
    LaunchVpnd,
    /// Have the TPM begun anew, with what is measured, and give it to the VMM.
    BeginTpm,
    /// Ask the agent to shut down, if it is connected.
    AskAgent,
    /// Ask the agent to write everything to the disks.
    SyncAgent,
    /// Have `keeper` and `init` forget the key of its disk.
    LockDisk,
    /// Have `init` give the disk the key that `keeper` brought.
    UnlockDisk,
    /// Forget the agent's connection: its guest is gone.
    DropAgent,
    /// Tell the VMM.
    Tell(Command),
    /// Have a process killed.
    Kill(Role),
    /// Tell the user: which process, and what follows "Zone office: ".
    Notice(Role, String),
    /// Close everything that belonged to this run of the zone.
    Release,
}

/// A request that makes no sense now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The zone is stopped or failed, or not up yet.
    NotRunning,
    /// It starts already.
    Starting,
    /// It runs already.
    Running,
    /// It is held already.
    Paused,
    /// It is locked, or about to be.
    Locked,
    /// It is still stopping.
    Stopping,
}

/// What a zone becomes when its processes are gone.
#[derive(Clone, Debug, PartialEq, Eq)]
enum After {
    Stopped(Option<String>),
    Failed(String),
    Restart,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Asked,
    Told,
    Killed,
}

impl Step {
    fn patience(self) -> Duration {
        match self {
            Self::Asked => ASK_PATIENCE,
            Self::Told | Self::Killed => KILL_PATIENCE,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Stopped { reason: Option<String> },
    Starting { deadline: Instant },
    Up { agent: String, lost: bool, mode: Mode },
    Stopping { deadline: Instant, step: Step, after: After },
    Failed { reason: String },
}

/// The life of one zone.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    state: State,
    has_vpnd: bool,
    vmm: bool,
    tpm: bool,
    /// The machine waits for it.
    tpm_wanted: bool,
    vpnd: Vpnd,
    vpnd_deaths: Restarts,
    /// From here the deaths' times are counted.
    epoch: Instant,
    /// The VMM has begun to run its guest: the next beginning is a reset.
    booted: bool,
    /// Resets since the agent last said Hello.
    resets: u8,
}

impl Lifecycle {
    /// A stopped zone; `has_vpnd`: it has a tunnel.
    pub(crate) fn new(has_vpnd: bool, now: Instant) -> Self {
        Self {
            state: State::Stopped { reason: None },
            has_vpnd,
            vmm: false,
            tpm: false,
            tpm_wanted: false,
            vpnd: Vpnd::Off,
            vpnd_deaths: Restarts::default(),
            epoch: now,
            booted: false,
            resets: 0,
        }
    }

    /// What a user sees: phase, reason, the agent's version.
    pub(crate) fn view(&self) -> control_api::State {
        let view = |phase, reason, agent| control_api::State { phase, reason, agent, session: None };
        match &self.state {
            State::Stopped { reason } => view(Phase::Stopped, reason.clone(), None),
            State::Starting { .. } => view(Phase::Starting, None, None),
            State::Up { agent, mode: Mode::Paused | Mode::Resuming { .. }, .. } => {
                view(Phase::Paused, None, Some(agent.clone()))
            }
            State::Up {
                agent,
                mode: Mode::Syncing { .. } | Mode::Halting { .. } | Mode::Closing { .. },
                ..
            } => view(Phase::Locking, None, Some(agent.clone())),
            State::Up { agent, mode: Mode::Locked | Mode::Opening { .. }, .. } => {
                view(Phase::Locked, None, Some(agent.clone()))
            }
            State::Up { agent, lost, .. } => {
                let reason = lost.then(|| "The zone's agent hung up; the zone itself goes on.".to_owned());
                view(Phase::Running, reason, Some(agent.clone()))
            }
            State::Stopping { .. } => view(Phase::Stopping, None, None),
            State::Failed { reason } => view(Phase::Failed, Some(reason.clone()), None),
        }
    }

    /// When [`Event::Tick`] is due, if nothing else happens before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let own = match self.state {
            State::Starting { deadline } | State::Stopping { deadline, .. } => Some(deadline),
            State::Up { mode, .. } => mode.deadline(),
            State::Stopped { .. } | State::Failed { .. } => None,
        };
        let vpnd = match self.vpnd {
            Vpnd::Waits { at: due, .. } | Vpnd::Lives { hung_up: HungUp::Since { deadline: due }, .. } => {
                Some(due)
            }
            Vpnd::Off | Vpnd::Lives { .. } | Vpnd::GivenUp { .. } => None,
        };
        own.into_iter().chain(vpnd).min()
    }

    /// Whether a process of this role was asked for and is not gone.
    fn alive(&self, role: Role) -> bool {
        match role {
            Role::Vmm => self.vmm,
            Role::Vpnd => matches!(self.vpnd, Vpnd::Lives { .. }),
            Role::Tpm => self.tpm,
        }
    }

    /// Whether the zone is to have its processes.
    fn is_on(&self) -> bool {
        matches!(self.state, State::Starting { .. } | State::Up { .. })
    }

    /// Takes one event.
    ///
    /// # Errors
    /// [`Refusal`] of a user's request; nothing changed then.
    pub(crate) fn handle(&mut self, event: Event, now: Instant) -> Result<Vec<Action>, Refusal> {
        Ok(match event {
            Event::Start => return self.start(now),
            Event::Stop => return self.stop(now),
            Event::Kill => return self.kill(now),
            Event::Restart => return Ok(self.restart(now)),
            Event::Pause => return self.pause(now),
            Event::Resume => return self.resume(now),
            Event::Lock => return self.lock(now),
            Event::Synced => self.synced(now),
            Event::Closed(refused) => self.closed(refused, now),
            Event::Unlock => self.unlock(now),
            Event::Unlocked(refused) => self.unlocked(refused.as_deref(), now),
            Event::LaunchFailed(reason) => {
                (self.vmm, self.tpm) = (false, false);
                self.vpnd = Vpnd::Off;
                self.wind_down(After::Failed(reason), now)
            }
            Event::VpndFailed(reason) => self.vpnd_gone(&format!("could not be started: {reason}"), now),
            Event::Refused(Role::Vpnd, reason) if matches!(self.vpnd, Vpnd::Lives { died: Some(_), .. }) => {
                self.vpnd_gone(&format!("was not started by the host: {reason}"), now)
            }
            Event::Refused(role, reason) => {
                match role {
                    Role::Vmm => self.vmm = false,
                    Role::Vpnd => self.vpnd = Vpnd::Off,
                    Role::Tpm => self.tpm = false,
                }
                let name = process_name(role);
                self.wind_down(After::Failed(format!("The host did not start {name}: {reason}.")), now)
            }
            Event::Exited(Role::Vmm, cause) => {
                self.vmm = false;
                let reason = format!("The zone's virtual machine process {}.", died(cause));
                self.wind_down(After::Failed(reason), now)
            }
            Event::Exited(Role::Vpnd, cause) => self.vpnd_exited(cause, now),
            Event::Exited(Role::Tpm, cause) => self.tpm_exited(cause, now),
            Event::TpmWanted => self.tpm_wanted(now),
            Event::TpmFailed(reason) => self.tpm_failed(&reason, now),
            Event::DiskRefused(reason) => self
                .wind_down(After::Failed(format!("The zone's private disk was not opened: {reason}.")), now),
            Event::Booted => self.booted(now),
            Event::Paused => self.paused(now),
            Event::Resumed => self.resumed(),
            Event::NetworkLost => {
                if self.is_on()
                    && let Vpnd::Lives { hung_up: hung_up @ HungUp::No, .. } = &mut self.vpnd
                {
                    *hung_up = HungUp::Since { deadline: now + HANG_UP_PATIENCE };
                }
                Vec::new()
            }
            Event::TunnelUp => {
                if let Vpnd::Lives { died, .. } = &mut self.vpnd {
                    *died = None;
                }
                Vec::new()
            }
            Event::Ended(end) => self.ended(end, now),
            Event::Hello(agent) => self.hello(agent),
            Event::AgentLost => {
                if let State::Up { lost, .. } = &mut self.state {
                    *lost = true;
                }
                self.synced(now)
            }
            Event::Tick => self.tick(now),
        })
    }

    fn launch(&mut self, now: Instant) -> Vec<Action> {
        self.resets = 0;
        self.vpnd_deaths = Restarts::default();
        (self.booted, self.tpm_wanted) = (false, false);
        (self.vmm, self.tpm) = (true, true);
        self.vpnd = if self.has_vpnd { Vpnd::Lives { died: None, hung_up: HungUp::No } } else { Vpnd::Off };
        self.state = State::Starting { deadline: now + START_PATIENCE };
        vec![Action::Launch]
    }

    fn stopping(&mut self, step: Step, after: After, now: Instant) {
        // A tunnel process that is gone is not started again for an end, and one that lives goes with the rest.
        match &mut self.vpnd {
            Vpnd::Lives { hung_up, .. } => *hung_up = HungUp::No,
            gone @ (Vpnd::Off | Vpnd::Waits { .. } | Vpnd::GivenUp { .. }) => *gone = Vpnd::Off,
        }
        self.state = State::Stopping { deadline: now + step.patience(), step, after };
    }

    /// The machine begins: again, when the guest reset itself inside its VMM.
    fn booted(&mut self, now: Instant) -> Vec<Action> {
        self.tpm_wanted = false;
        if !std::mem::replace(&mut self.booted, true) {
            return Vec::new();
        }
        match &mut self.state {
            State::Starting { .. } | State::Up { .. } => {
                if self.resets >= MAX_RESETS {
                    return self.wind_down(After::Failed(RESETS.to_owned()), now);
                }
                self.resets += 1;
                let lost = self.lock_is_lost();
                self.state = State::Starting { deadline: now + START_PATIENCE };
                lost.into_iter().chain([Action::DropAgent]).collect()
            }
            // It ended in order, and would only begin anew.
            State::Stopping { deadline, step, .. } if *step == Step::Asked => {
                *step = Step::Told;
                *deadline = now + KILL_PATIENCE;
                vec![Action::Tell(Command::Kill)]
            }
            State::Stopping { .. } | State::Stopped { .. } | State::Failed { .. } => Vec::new(),
        }
    }

    /// The machine ended: what the zone becomes is known now, its processes are still to go.
    fn ended(&mut self, end: End, now: Instant) -> Vec<Action> {
        let asked = match &self.state {
            State::Starting { .. } | State::Up { .. } => None,
            State::Stopping { step: Step::Asked, after, .. } => Some(after.clone()),
            State::Stopping { .. } | State::Stopped { .. } | State::Failed { .. } => return Vec::new(),
        };
        let after = match (end, asked) {
            (End::ShutDown | End::Reset, Some(after)) => after,
            (End::ShutDown, None) => After::Stopped(Some("The guest shut itself down.".to_owned())),
            // A VMM carries a reset out itself; one that cannot is started anew.
            (End::Reset, None) => After::Restart,
            (End::Panic, _) => After::Failed("The guest's kernel panicked.".to_owned()),
            (End::Failed(reason), _) => After::Failed(format!("The virtual machine failed: {reason}.")),
        };
        // The VMM exits by itself after this message.
        self.stopping(Step::Told, after, now);
        Vec::new()
    }

    fn hello(&mut self, version: String) -> Vec<Action> {
        self.resets = 0;
        match &mut self.state {
            State::Starting { .. } => {
                self.state = State::Up { agent: version, lost: false, mode: Mode::Runs };
            }
            State::Up { agent, lost, .. } => (*agent, *lost) = (version, false),
            // It reconnected after it was asked: the question may have been lost.
            State::Stopping { step: Step::Asked, .. } => return vec![Action::AskAgent],
            State::Stopping { .. } | State::Stopped { .. } | State::Failed { .. } => {}
        }
        Vec::new()
    }

    fn tick(&mut self, now: Instant) -> Vec<Action> {
        // A zone that ends now needs no tunnel process any more.
        let mut actions = self.tick_state(now);
        actions.extend(self.tick_vpnd(now));
        actions
    }

    fn tick_state(&mut self, now: Instant) -> Vec<Action> {
        let seconds = PAUSE_PATIENCE.as_secs();
        match &mut self.state {
            State::Starting { deadline } if *deadline <= now => {
                let seconds = START_PATIENCE.as_secs();
                let reason =
                    format!("The zone's agent did not answer within {seconds} seconds of the start.");
                self.wind_down(After::Failed(reason), now)
            }
            State::Up { mode, .. } if mode.deadline().is_some_and(|deadline| deadline <= now) => {
                match *mode {
                    Mode::Pausing { .. } => {
                        *mode = Mode::Runs;
                        let text = format!("it did not pause within {seconds} seconds and runs on.");
                        vec![Action::Notice(Role::Vmm, text)]
                    }
                    Mode::Resuming { .. } => {
                        *mode = Mode::Paused;
                        let text = format!("it did not go on within {seconds} seconds and stays paused.");
                        vec![Action::Notice(Role::Vmm, text)]
                    }
                    late @ (Mode::Runs
                    | Mode::Paused
                    | Mode::Locked
                    | Mode::Syncing { .. }
                    | Mode::Halting { .. }
                    | Mode::Closing { .. }
                    | Mode::Opening { .. }) => self.lock_is_late(late, now),
                }
            }
            State::Stopping { deadline, step, .. } if *deadline <= now => {
                *deadline = now + KILL_PATIENCE;
                if *step == Step::Asked && self.vmm {
                    *step = Step::Told;
                    return vec![Action::Tell(Command::Kill)];
                }
                *step = Step::Killed;
                self.kills()
            }
            State::Starting { .. }
            | State::Up { .. }
            | State::Stopping { .. }
            | State::Stopped { .. }
            | State::Failed { .. } => Vec::new(),
        }
    }

    /// Kills what is left; the first reason stays.
    fn wind_down(&mut self, after: After, now: Instant) -> Vec<Action> {
        let after = match &self.state {
            State::Stopped { .. } | State::Failed { .. } => return Vec::new(),
            State::Stopping { after, .. } => after.clone(),
            State::Starting { .. } | State::Up { .. } => after,
        };
        self.stopping(Step::Killed, after, now);
        let kills = self.kills();
        if kills.is_empty() { self.after_exit(now) } else { kills }
    }

    fn kills(&self) -> Vec<Action> {
        let roles = [Role::Vmm, Role::Vpnd, Role::Tpm].into_iter();
        roles.filter(|role| self.alive(*role)).map(Action::Kill).collect()
    }

    /// Leaves `Stopping` when nothing is left.
    fn after_exit(&mut self, now: Instant) -> Vec<Action> {
        if [Role::Vmm, Role::Vpnd, Role::Tpm].into_iter().any(|role| self.alive(role)) {
            return Vec::new();
        }
        let State::Stopping { after, .. } = &self.state else { return Vec::new() };
        let mut actions = vec![Action::Release];
        match after.clone() {
            After::Stopped(reason) => self.state = State::Stopped { reason },
            After::Failed(reason) => self.state = State::Failed { reason },
            After::Restart => actions.extend(self.launch(now)),
        }
        actions
    }
}

/// Why a guest that begins anew for ever is not let.
const RESETS: &str = "The guest resets itself again and again.";

/// A process in words.
fn process_name(role: Role) -> &'static str {
    match role {
        Role::Vmm => "the zone's virtual machine process",
        Role::Vpnd => "the zone's tunnel process",
        Role::Tpm => "the zone's virtual TPM",
    }
}

/// How a process died, to follow its name in a sentence.
pub(crate) fn died(cause: ExitCause) -> String {
    match cause {
        ExitCause::Code(0) => "ended without saying why".to_owned(),
        ExitCause::Signal(_) => format!("was {cause}"),
        ExitCause::Code(_) | ExitCause::ForbiddenSystemCall => cause.to_string(),
    }
}

#[cfg(test)]
mod tests;
