//! What a user sees: the notices of late, and each tunnel's state in words. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use control_api::{Notice, Phase, Tunnel, Uplink};
use policy::Colour;
use vpn_protocol::{Endpoint, FromUplink, Host, VpndStatus};
use zone_protocol::keeper::PinState;

use crate::settings::Settings;

/// How long a tunnel may take to come up before its user is told what is wrong.
pub(crate) const TUNNEL_PATIENCE: Duration = Duration::from_secs(5);

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
    /// For how long the zone has run without it.
    pub(crate) waited: Duration,
}

/// The public half of a tunnel's key, as WireGuard's tools write it. The demonstration's are known.
pub(crate) fn public_key(
    zone: &policy::Zone,
    settings: &Settings,
    known: Option<PinState>,
) -> Option<String> {
    match &zone.network {
        policy::Network::Tunnel(name) if !settings.keys.contains_key(name) => {
            known.and_then(|known| known.public_key).map(|key| BASE64_STANDARD.encode(key))
        }
        policy::Network::Tunnel(_) | policy::Network::None => None,
    }
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
        public_key: None,
    }
}

/// What is wrong and what to do, in sentences; the nearest cause, since nothing behind it can be known.
fn reason(facts: &TunnelFacts<'_>, uplink: &FromUplink) -> Option<String> {
    match facts.phase {
        Phase::Stopped | Phase::Failed | Phase::Stopping => return None,
        Phase::Starting | Phase::Running | Phase::Paused | Phase::Locking | Phase::Locked => {}
    }
    if let Some(dead) = facts.dead {
        return Some(dead.to_owned());
    }
    if facts.phase != Phase::Running || facts.waited < TUNNEL_PATIENCE {
        return None;
    }
    if !uplink.carrier {
        return Some("The cable or radio is not connected. Connect this machine to a network.".to_owned());
    }
    if uplink.address.is_none() {
        return Some(
            "This network gives the machine no address: DHCP does not answer. Check the network, or use another."
                .to_owned(),
        );
    }
    let Some((_, places)) = uplink.tunnels.iter().find(|(number, _)| *number == facts.number) else {
        return Some(
            "The host's network service does not carry this tunnel. Stop the zone and start it again."
                .to_owned(),
        );
    };
    let mut pairs = facts.endpoints.iter().zip(places);
    let found = pairs.clone().find(|(_, place)| place.is_some()).or_else(|| pairs.next());
    Some(match found {
        Some((endpoint, Some(_))) => silent(endpoint, facts.status.unwrap_or_default()),
        Some((Endpoint { host: Host::Name(name), .. }, None)) => format!(
            "The gateway's name {name} cannot be resolved. Check this network's DNS and the endpoint in the policy."
        ),
        Some((Endpoint { host: Host::Address(address), .. }, None)) => format!(
            "The gateway {address} cannot be reached from this network. Use another network, or check the \
             endpoint in the policy."
        ),
        None => "The tunnel has no gateway. Check its endpoints in the policy.".to_owned(),
    })
}

/// A gateway whose address is known and who says nothing.
fn silent(endpoint: &Endpoint, status: VpndStatus) -> String {
    let host = match &endpoint.host {
        Host::Name(name) => name.clone(),
        Host::Address(address) => address.to_string(),
    };
    let does = if status.handshake_age_s.is_some() { "no longer answers" } else { "does not answer" };
    let port = endpoint.port;
    format!("The gateway {host} {does}. Check that it runs and that UDP port {port} gets through.")
}

#[cfg(test)]
mod tests;
