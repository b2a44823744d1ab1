//! What a user sees: the notices of late, and each tunnel's state in words. Pure.

use std::collections::VecDeque;

use control_api::{Notice, Phase, Tunnel, Uplink};
use policy::Colour;
use vpn_protocol::{Endpoint, FromUplink, Host, VpndStatus};

/// How many notices are kept.
const KEPT: usize = 16;

/// The notices of late.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    kept: VecDeque<Notice>,
    count: u64,
}

impl Notices {
    /// Adds one, in the log too; the oldest falls out.
    pub(crate) fn add(&mut self, process: &str, text: String) {
        tracing::warn!(process, "{text}");
        self.count += 1;
        self.kept.push_back(Notice { number: self.count, process: process.to_owned(), text });
        let excess = self.kept.len().saturating_sub(KEPT);
        self.kept.drain(..excess);
    }

    /// All that are kept, newest last.
    pub(crate) fn list(&self) -> Vec<Notice> {
        self.kept.iter().cloned().collect()
    }
}

/// A colour's name on the interface.
pub(crate) fn colour(colour: Colour) -> &'static str {
    match colour {
        Colour::Red => "red",
        Colour::Orange => "orange",
        Colour::Yellow => "yellow",
        Colour::Green => "green",
        Colour::Blue => "blue",
        Colour::Purple => "purple",
        Colour::Brown => "brown",
        Colour::Grey => "grey",
    }
}

/// The uplink's state as the user sees it.
pub(crate) fn uplink(state: &FromUplink) -> Uplink {
    let address = state.address.map(|(address, prefix)| format!("{address}/{prefix}"));
    Uplink { carrier: state.carrier, address }
}

/// What is known about a tunnel.
#[derive(Debug)]
pub(crate) struct TunnelFacts<'a> {
    /// The zone's phase.
    pub(crate) phase: Phase,
    /// Why it is dead for the rest of the run.
    pub(crate) dead: Option<&'a str>,
    /// What its process said; `None`: it has no process.
    pub(crate) status: Option<VpndStatus>,
    /// Its number at the uplink.
    pub(crate) number: u32,
    /// Where its peers are.
    pub(crate) endpoints: &'a [Endpoint],
}

/// A tunnel's state as the user sees it.
pub(crate) fn tunnel(facts: &TunnelFacts<'_>, uplink: &FromUplink) -> Tunnel {
    let status = facts.status.unwrap_or_default();
    let up = status.up && facts.dead.is_none();
    Tunnel {
        up,
        handshake_age_s: status.handshake_age_s,
        sent_bytes: status.sent_bytes,
        received_bytes: status.received_bytes,
        reason: if up { None } else { reason(facts, uplink) },
    }
}

fn reason(facts: &TunnelFacts<'_>, uplink: &FromUplink) -> Option<String> {
    match facts.phase {
        Phase::Stopped | Phase::Failed | Phase::Stopping => return None,
        Phase::Starting | Phase::Running => {}
    }
    if let Some(dead) = facts.dead {
        return Some(dead.to_owned());
    }
    if !uplink.carrier {
        return Some("No network cable or radio is connected.".to_owned());
    }
    if uplink.address.is_none() {
        return Some("The network gave this machine no address yet (DHCP).".to_owned());
    }
    let resolved = uplink.tunnels.iter().find(|(number, _)| *number == facts.number);
    let unresolved = resolved.and_then(|(_, places)| {
        let pairs = facts.endpoints.iter().zip(places);
        pairs.filter(|(_, place)| place.is_none()).map(|(endpoint, _)| endpoint).next()
    });
    match unresolved {
        Some(Endpoint { host: Host::Name(name), .. }) => {
            Some(format!("The gateway's name {name} is not resolved yet (DNS)."))
        }
        Some(Endpoint { host: Host::Address(address), .. }) => {
            Some(format!("The gateway {address} cannot be reached from this network."))
        }
        None => Some("The gateway has not answered yet.".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_are_bounded_and_numbered() {
        let mut notices = Notices::default();
        for number in 0..40 {
            notices.add("uplink", format!("{number}"));
        }
        let list = notices.list();
        assert_eq!(list.len(), KEPT);
        assert_eq!((list[0].number, list[KEPT - 1].number), (25, 40));
        assert_eq!(list[KEPT - 1].text, "39");
    }

    #[test]
    fn a_tunnel_that_is_not_up_says_why() {
        let endpoints = [Endpoint { host: Host::Name("office.gateway.example".into()), port: 51820 }];
        let mut facts = TunnelFacts {
            phase: Phase::Running,
            dead: None,
            status: Some(VpndStatus::default()),
            number: 3,
            endpoints: &endpoints,
        };
        let mut state = FromUplink::default();
        let check = |facts: &TunnelFacts<'_>, state: &FromUplink, expected: Option<&str>| {
            assert_eq!(tunnel(facts, state).reason.as_deref(), expected);
        };
        check(&facts, &state, Some("No network cable or radio is connected."));
        state.carrier = true;
        check(&facts, &state, Some("The network gave this machine no address yet (DHCP)."));
        state.address = Some(("192.168.77.20".parse().unwrap(), 24));
        assert_eq!(uplink(&state).address.as_deref(), Some("192.168.77.20/24"));
        state.tunnels = vec![(3, vec![None])];
        let name = "The gateway's name office.gateway.example is not resolved yet (DNS).";
        check(&facts, &state, Some(name));
        state.tunnels = vec![(3, vec![Some("198.51.100.10:51820".parse().unwrap())])];
        check(&facts, &state, Some("The gateway has not answered yet."));
        facts.status = Some(VpndStatus { up: true, ..VpndStatus::default() });
        check(&facts, &state, None);
        facts.dead = Some("dead");
        check(&facts, &state, Some("dead"));
        assert!(!tunnel(&facts, &state).up);
        facts.phase = Phase::Stopped;
        check(&facts, &state, None);
    }
}
