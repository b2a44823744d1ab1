//! Wire types of `zoned` to the model's types.

use control_api::{Notice, Phase, State, Status, Tunnel, Zone};
use desktop_model::status as model;

/// The most of a list that is shown; `zoned` promises fewer.
const MOST: usize = 64;

/// A status as the model knows it.
#[must_use]
pub fn status(status: Status) -> model::Status {
    model::Status {
        policy: status.policy,
        demo: status.demo,
        uplink: model::Uplink { carrier: status.uplink.carrier, address: status.uplink.address },
        zones: status.zones.into_iter().take(MOST).map(zone).collect(),
        notices: status.notices.into_iter().rev().take(MOST).rev().map(notice).collect(),
    }
}

fn zone(zone: Zone) -> model::Zone {
    let State { phase, reason, agent: _, session: _ } = zone.state;
    model::Zone {
        colour: model::Colour::named(&zone.colour),
        name: zone.name,
        label: zone.label,
        phase: match phase {
            Phase::Stopped => model::Phase::Stopped,
            Phase::Starting => model::Phase::Starting,
            Phase::Running => model::Phase::Running,
            Phase::Paused => model::Phase::Paused,
            Phase::Stopping => model::Phase::Stopping,
            Phase::Failed => model::Phase::Failed,
        },
        reason,
        tunnel: zone.tunnel.map(tunnel),
    }
}

fn tunnel(tunnel: Tunnel) -> model::Tunnel {
    model::Tunnel {
        up: tunnel.up,
        sent_bytes: tunnel.sent_bytes,
        received_bytes: tunnel.received_bytes,
        reason: tunnel.reason,
    }
}

fn notice(notice: Notice) -> model::Notice {
    model::Notice { number: notice.number, process: notice.process, text: notice.text }
}
