//! The life of one zone, as a pure state machine: events and the time in, actions out.
//!
//! ```text
//!            start                        Hello
//!  Stopped ----------> Starting --------------------------> Running
//!    ^  ^                 | stop, deadline, refused,           | stop, Ended, VMM gone
//!    |  |                 | VMM gone                           |
//!    |  |                 v                                    v
//!    |  +------------- Stopping <------------------------------+
//!    |  all processes     |  |
//!    |  gone              |  +--> Starting   (the guest reset itself)
//!    |                    v
//!    +---- start ----- Failed
//! ```
//!
//! `Stopping` has three steps, each with its deadline: the agent is asked, the VMM is told, the processes are
//! killed. A zone leaves it only when none of its processes is left, so a start never meets an earlier
//! start's process. It never reads a clock and never touches a descriptor.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use control_api::Phase;
use init_protocol::ExitCause;
use zone_protocol::vmm::End;

/// How long a guest may take from the first instruction to the agent's Hello (TCG is slow).
pub(crate) const START_PATIENCE: Duration = Duration::from_secs(60);

/// How long a guest may take to shut down when its agent was asked.
pub(crate) const ASK_PATIENCE: Duration = Duration::from_secs(15);

/// How long a VMM may take to end, and `init` to kill.
pub(crate) const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// A guest that resets itself more often than this within [`RESET_WINDOW`] has failed.
pub(crate) const MAX_RESETS: usize = 4;

/// See [`MAX_RESETS`].
pub(crate) const RESET_WINDOW: Duration = Duration::from_secs(300);

/// A process of a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// The virtual machine monitor.
    Vmm,
    /// The tunnel process.
    Vpnd,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The user wants the zone.
    Start,
    /// The user does not want it any more.
    Stop,
    /// [`Action::Launch`] was not carried out; no process was asked for. The reason is a sentence.
    LaunchFailed(String),
    /// `init` did not start a process.
    Refused(Role, String),
    /// A process is gone.
    Exited(Role, ExitCause),
    /// The VMM says how its machine ended.
    Ended(End),
    /// The agent connected and said its version.
    Hello(String),
    /// Time passed.
    Tick,
}

/// What to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Make the zone's descriptors and ask for its processes.
    Launch,
    /// Ask the agent to shut down, if it is connected.
    AskAgent,
    /// Tell the VMM to end.
    TellVmm,
    /// Have a process killed.
    Kill(Role),
    /// Close everything that belonged to this run of the zone.
    Release,
}

/// A request that makes no sense now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Stop of a zone that is stopped or failed.
    NotRunning,
    /// Start of a zone that is still stopping.
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

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Stopped { reason: Option<String> },
    Starting { deadline: Instant },
    Running { agent: String },
    Stopping { deadline: Instant, step: Step, after: After },
    Failed { reason: String },
}

/// The life of one zone.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    state: State,
    has_vpnd: bool,
    vmm: bool,
    vpnd: bool,
    resets: VecDeque<Instant>,
}

impl Lifecycle {
    /// A stopped zone; `has_vpnd`: it has a tunnel.
    pub(crate) fn new(has_vpnd: bool) -> Self {
        Self {
            state: State::Stopped { reason: None },
            has_vpnd,
            vmm: false,
            vpnd: false,
            resets: VecDeque::new(),
        }
    }

    /// What a user sees: phase, reason, the agent's version.
    pub(crate) fn view(&self) -> control_api::State {
        let view = |phase, reason, agent| control_api::State { phase, reason, agent };
        match &self.state {
            State::Stopped { reason } => view(Phase::Stopped, reason.clone(), None),
            State::Starting { .. } => view(Phase::Starting, None, None),
            State::Running { agent } => view(Phase::Running, None, Some(agent.clone())),
            State::Stopping { .. } => view(Phase::Stopping, None, None),
            State::Failed { reason } => view(Phase::Failed, Some(reason.clone()), None),
        }
    }

    /// When [`Event::Tick`] is due, if nothing else happens before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Starting { deadline } | State::Stopping { deadline, .. } => Some(deadline),
            State::Stopped { .. } | State::Running { .. } | State::Failed { .. } => None,
        }
    }

    /// Whether a process of this role was asked for and is not gone.
    #[cfg(test)]
    fn alive(&self, role: Role) -> bool {
        match role {
            Role::Vmm => self.vmm,
            Role::Vpnd => self.vpnd,
        }
    }

    /// Whether a process of the zone is left.
    fn any_alive(&self) -> bool {
        self.vmm || self.vpnd
    }

    fn gone(&mut self, role: Role) {
        match role {
            Role::Vmm => self.vmm = false,
            Role::Vpnd => self.vpnd = false,
        }
    }

    /// Takes one event.
    ///
    /// # Errors
    /// [`Refusal`] of [`Event::Start`] or [`Event::Stop`]; nothing changed then.
    pub(crate) fn handle(&mut self, event: Event, now: Instant) -> Result<Vec<Action>, Refusal> {
        Ok(match event {
            Event::Start => return self.start(now),
            Event::Stop => return self.stop(now),
            Event::LaunchFailed(reason) => {
                self.vmm = false;
                self.vpnd = false;
                self.wind_down(After::Failed(reason), now)
            }
            Event::Refused(role, reason) => {
                self.gone(role);
                let name = process_name(role);
                self.wind_down(After::Failed(format!("The host did not start {name}: {reason}.")), now)
            }
            Event::Exited(Role::Vmm, cause) => {
                self.vmm = false;
                let reason = format!("The zone's virtual machine process {}.", died(cause));
                self.wind_down(After::Failed(reason), now)
            }
            Event::Exited(Role::Vpnd, _) => {
                self.vpnd = false;
                self.after_exit(now)
            }
            Event::Ended(end) => self.ended(end, now),
            Event::Hello(agent) => self.hello(agent),
            Event::Tick => self.tick(now),
        })
    }

    fn start(&mut self, now: Instant) -> Result<Vec<Action>, Refusal> {
        match self.state {
            State::Stopped { .. } | State::Failed { .. } => {
                self.resets.clear();
                Ok(self.launch(now))
            }
            State::Starting { .. } | State::Running { .. } => Ok(Vec::new()),
            State::Stopping { .. } => Err(Refusal::Stopping),
        }
    }

    fn launch(&mut self, now: Instant) -> Vec<Action> {
        self.vmm = true;
        self.vpnd = self.has_vpnd;
        self.state = State::Starting { deadline: now + START_PATIENCE };
        vec![Action::Launch]
    }

    fn stop(&mut self, now: Instant) -> Result<Vec<Action>, Refusal> {
        match &mut self.state {
            State::Stopped { .. } | State::Failed { .. } => Err(Refusal::NotRunning),
            // Nobody is there yet who could be asked, and nothing that could be lost.
            State::Starting { .. } => Ok(self.wind_down(After::Stopped(None), now)),
            State::Running { .. } => {
                let deadline = now + ASK_PATIENCE;
                self.state = State::Stopping { deadline, step: Step::Asked, after: After::Stopped(None) };
                Ok(vec![Action::AskAgent])
            }
            State::Stopping { after, .. } => {
                if *after == After::Restart {
                    *after = After::Stopped(None);
                }
                Ok(Vec::new())
            }
        }
    }

    /// The machine ended: what the zone becomes is known now, its processes are still to go.
    fn ended(&mut self, end: End, now: Instant) -> Vec<Action> {
        let asked = match &self.state {
            State::Starting { .. } | State::Running { .. } => false,
            State::Stopping { step: Step::Asked, .. } => true,
            State::Stopping { .. } | State::Stopped { .. } | State::Failed { .. } => return Vec::new(),
        };
        let after = match (end, asked) {
            (End::ShutDown | End::Reset, true) => After::Stopped(None),
            (End::ShutDown, false) => After::Stopped(Some("The guest shut itself down.".to_owned())),
            (End::Reset, false) => self.reset(now),
            (End::Panic, _) => After::Failed("The guest's kernel panicked.".to_owned()),
            (End::Failed(reason), _) => After::Failed(format!("The virtual machine failed: {reason}.")),
        };
        // The VMM exits by itself after this message.
        self.state = State::Stopping { deadline: now + KILL_PATIENCE, step: Step::Told, after };
        Vec::new()
    }

    fn reset(&mut self, now: Instant) -> After {
        self.resets.retain(|earlier| now.saturating_duration_since(*earlier) < RESET_WINDOW);
        if self.resets.len() >= MAX_RESETS {
            return After::Failed("The guest resets itself again and again.".to_owned());
        }
        self.resets.push_back(now);
        After::Restart
    }

    fn hello(&mut self, version: String) -> Vec<Action> {
        match &mut self.state {
            State::Starting { .. } => self.state = State::Running { agent: version },
            State::Running { agent } => *agent = version,
            // It reconnected after it was asked: the question may have been lost.
            State::Stopping { step: Step::Asked, .. } => return vec![Action::AskAgent],
            State::Stopping { .. } | State::Stopped { .. } | State::Failed { .. } => {}
        }
        Vec::new()
    }

    fn tick(&mut self, now: Instant) -> Vec<Action> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return Vec::new();
        }
        match &mut self.state {
            State::Starting { .. } => {
                let seconds = START_PATIENCE.as_secs();
                let reason =
                    format!("The zone's agent did not answer within {seconds} seconds of the start.");
                self.wind_down(After::Failed(reason), now)
            }
            State::Stopping { deadline, step, .. } if *step == Step::Asked && self.vmm => {
                *step = Step::Told;
                *deadline = now + KILL_PATIENCE;
                vec![Action::TellVmm]
            }
            State::Stopping { deadline, step, .. } => {
                *step = Step::Killed;
                *deadline = now + KILL_PATIENCE;
                self.kills()
            }
            State::Stopped { .. } | State::Running { .. } | State::Failed { .. } => Vec::new(),
        }
    }

    /// Kills what is left; the first reason stays.
    fn wind_down(&mut self, after: After, now: Instant) -> Vec<Action> {
        let after = match &self.state {
            State::Stopped { .. } | State::Failed { .. } => return Vec::new(),
            State::Stopping { after, .. } => after.clone(),
            State::Starting { .. } | State::Running { .. } => after,
        };
        self.state = State::Stopping { deadline: now + KILL_PATIENCE, step: Step::Killed, after };
        if self.any_alive() { self.kills() } else { self.after_exit(now) }
    }

    fn kills(&self) -> Vec<Action> {
        let roles = [(self.vmm, Role::Vmm), (self.vpnd, Role::Vpnd)];
        roles.into_iter().filter(|(alive, _)| *alive).map(|(_, role)| Action::Kill(role)).collect()
    }

    /// Leaves `Stopping` when nothing is left.
    fn after_exit(&mut self, now: Instant) -> Vec<Action> {
        if self.any_alive() {
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

/// A process in words.
fn process_name(role: Role) -> &'static str {
    match role {
        Role::Vmm => "the zone's virtual machine process",
        Role::Vpnd => "the zone's tunnel process",
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
