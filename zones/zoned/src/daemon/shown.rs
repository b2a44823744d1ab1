//! What a user sees of the host: one status, sent whole.

use control_api::Status;

use super::{Daemon, openings};
use crate::status::TunnelFacts;
use crate::zone::Zone;

impl Daemon {
    /// All that a user can see.
    pub(super) fn status(&self) -> Status {
        let mut status = Status {
            policy: String::new(),
            demo: false,
            uplink: crate::status::uplink(&self.uplink_state),
            zones: Vec::new(),
            recovery: self.recovery(),
            screen: self.screen.show(self.policy()),
            notices: self.notices.list(),
        };
        let Some(policy) = self.policy() else { return status };
        status.policy.clone_from(&policy.name);
        status.demo = policy.demo;
        let zones = (0_u32..).zip(policy.zones.iter().zip(&self.zones));
        status.zones = zones.map(|(number, (zone, state))| self.show(number, zone, state)).collect();
        status
    }

    fn show(&self, number: u32, zone: &policy::Zone, state: &Zone) -> control_api::Zone {
        let mut life = state.life.view();
        let run = state.run.as_ref();
        let endpoints = run.and_then(|run| run.uplink.as_ref()).map_or(&[][..], |(_, endpoints)| endpoints);
        let dead = state.life.tunnel_reason();
        let facts = TunnelFacts {
            phase: life.phase,
            dead: dead.as_deref(),
            status: run.map(|run| run.vpnd_status),
            number,
            endpoints,
            waited: state.waited(),
        };
        // The policy's name for it: what the guest says is one bit, of a zone that is up.
        let session =
            run.and_then(|run| run.link.as_ref()).is_some_and(crate::agent_link::AgentLink::session);
        life.session = (session && life.agent.is_some()).then(|| zone.user.clone());
        let has_tunnel = matches!(zone.network, policy::Network::Tunnel(_));
        control_api::Zone {
            name: zone.name.clone(),
            label: zone.label.clone(),
            colour: crate::status::colour(zone.colour).to_owned(),
            state: life,
            login: openings::login(zone.login, state.pin),
            tunnel: has_tunnel.then(|| control_api::Tunnel {
                public_key: crate::status::public_key(zone, &self.settings, state.pin),
                ..crate::status::tunnel(&facts, &self.uplink_state)
            }),
        }
    }
}
