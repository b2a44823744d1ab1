//! The tunnel process in a zone's life: it dies and comes back while the zone runs on, within limits.
//!
//! Without it the zone has no network: nothing here ever gives it another way.

use std::time::Instant;

use init_protocol::ExitCause;
use init_protocol::restarts::Verdict;

use super::{Action, Lifecycle, Role, died};

/// The tunnel process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Vpnd {
    /// The zone has none, or does not run.
    Off,
    /// Asked for and not gone. `died`: how the one before ended, until this one has a session.
    Lives { died: Option<String>, hung_up: HungUp },
    /// It is started again then.
    Waits { at: Instant, died: String },
    /// It died too often.
    GivenUp { died: String },
}

/// Whether the VMM lost its connection to a tunnel process that lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HungUp {
    No,
    /// It is killed then, if it is not gone by itself.
    Since {
        deadline: Instant,
    },
    Killed,
}

impl HungUp {
    pub(super) fn is_over(self, now: Instant) -> bool {
        matches!(self, Self::Since { deadline } if deadline <= now)
    }
}

impl Lifecycle {
    /// Why the zone has no tunnel for the moment or for the rest of its run: sentences.
    pub(crate) fn tunnel_reason(&self) -> Option<String> {
        match &self.vpnd {
            Vpnd::Off | Vpnd::Lives { died: None, .. } => None,
            Vpnd::Lives { died: Some(died), .. } | Vpnd::Waits { died, .. } => {
                Some(format!("The tunnel process {died}. The tunnel is restarting."))
            }
            Vpnd::GivenUp { died } => Some(format!(
                "The tunnel process {died}, again and again. The zone has no network until it is restarted."
            )),
        }
    }

    pub(super) fn vpnd_exited(&mut self, cause: ExitCause, now: Instant) -> Vec<Action> {
        let killed = matches!(self.vpnd, Vpnd::Lives { hung_up: HungUp::Killed, .. });
        let died = if killed { "hung up".to_owned() } else { died(cause) };
        let mut actions = self.vpnd_gone(&died, now);
        // So it ends when its VMM is gone, which is told anyway.
        if cause == ExitCause::Code(0) {
            actions.retain(|action| !matches!(action, Action::Notice(..)));
        }
        actions
    }

    /// The tunnel process is gone, or did not come.
    pub(super) fn vpnd_gone(&mut self, died: &str, now: Instant) -> Vec<Action> {
        self.vpnd = Vpnd::Off;
        if !self.is_on() {
            return self.after_exit(now);
        }
        let died = died.to_owned();
        let then = match self.vpnd_deaths.died(now.saturating_duration_since(self.epoch)) {
            Verdict::At(time) => {
                let text = format!("the tunnel process {died}. It is started again.");
                self.vpnd = Vpnd::Waits { at: self.epoch + time, died };
                text
            }
            Verdict::GiveUp => {
                let text = format!(
                    "the tunnel process {died}, again and again. The zone runs on without network until it is \
                     restarted."
                );
                self.vpnd = Vpnd::GivenUp { died };
                text
            }
        };
        vec![Action::Notice(Role::Vpnd, then)]
    }

    pub(super) fn tick_vpnd(&mut self, now: Instant) -> Vec<Action> {
        match &mut self.vpnd {
            Vpnd::Waits { at, died } if *at <= now => {
                self.vpnd = Vpnd::Lives { died: Some(std::mem::take(died)), hung_up: HungUp::No };
                vec![Action::LaunchVpnd]
            }
            Vpnd::Lives { hung_up, .. } if hung_up.is_over(now) => {
                *hung_up = HungUp::Killed;
                vec![Action::Kill(Role::Vpnd)]
            }
            Vpnd::Off | Vpnd::Lives { .. } | Vpnd::Waits { .. } | Vpnd::GivenUp { .. } => Vec::new(),
        }
    }
}
