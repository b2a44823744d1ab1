//! Wire types of `zoned` to the model's types, and a PIN or a recovery key to its wire type.

use control_api::{Cause, Factor, Login, Notice, Phase, Pin, Recovery, State, Status, Tunnel, Zone};
use desktop_model::pad::recovery::{GROUP_DIGITS, GROUPS};
use desktop_model::pad::{self, Digits, RecoveryKey};
use desktop_model::status as model;

/// The most of a list that is shown; `zoned` promises fewer.
const MOST: usize = 64;

// The pad takes exactly what can be a PIN.
const _: () = assert!(pad::FEWEST_DIGITS == control_api::FEWEST_DIGITS);
const _: () = assert!(pad::MOST_DIGITS == control_api::MOST_DIGITS);

/// A PIN for the wire.
#[must_use]
pub fn pin(digits: &Digits) -> Pin {
    // A text that grew would leave copies behind.
    let mut text = String::with_capacity(pad::MOST_DIGITS);
    text.extend(digits.characters());
    Pin::new(text)
}

/// A recovery key for the wire, as it is written on its paper.
#[must_use]
pub fn key(key: &RecoveryKey) -> Pin {
    let mut text = String::with_capacity(GROUPS * (GROUP_DIGITS + 1));
    text.extend(key.characters());
    Pin::new(text)
}

/// Why a zone was not opened.
#[must_use]
pub fn cause(cause: Cause) -> pad::Cause {
    match cause {
        Cause::PinNeeded => pad::Cause::PinNeeded,
        Cause::BadPin => pad::Cause::BadPin,
        Cause::WrongPin => pad::Cause::WrongPin,
        Cause::LockedOut => pad::Cause::LockedOut,
        Cause::NotApproved => pad::Cause::NotApproved,
        Cause::TpmMissing => pad::Cause::TpmMissing,
        Cause::TpmCleared => pad::Cause::TpmCleared,
        Cause::TpmForeign => pad::Cause::TpmForeign,
        Cause::TpmOwned => pad::Cause::TpmOwned,
        Cause::TpmBusy => pad::Cause::TpmBusy,
        Cause::Damaged => pad::Cause::Damaged,
        Cause::BadRecoveryKey => pad::Cause::BadRecoveryKey,
        Cause::WrongRecoveryKey => pad::Cause::WrongRecoveryKey,
        Cause::NoRecovery => pad::Cause::NoRecovery,
        Cause::Other => pad::Cause::Other,
    }
}

/// A status as the model knows it.
#[must_use]
pub fn status(status: Status) -> model::Status {
    model::Status {
        policy: status.policy,
        demo: status.demo,
        uplink: model::Uplink { carrier: status.uplink.carrier, address: status.uplink.address },
        zones: status.zones.into_iter().take(MOST).map(zone).collect(),
        recovery: match status.recovery {
            Recovery::None => model::Recovery::None,
            Recovery::Shown => model::Recovery::Shown,
            Recovery::Noted => model::Recovery::Noted,
        },
        screen: model::Screen { locked: status.screen.locked, login: login(status.screen.login) },
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
            Phase::Locking => model::Phase::Locking,
            Phase::Locked => model::Phase::Locked,
            Phase::Stopping => model::Phase::Stopping,
            Phase::Failed => model::Phase::Failed,
        },
        reason,
        login: login(zone.login),
        tunnel: zone.tunnel.map(tunnel),
    }
}

fn login(login: Login) -> model::Login {
    let Login { factor, chosen, shuffle, tries_left } = login;
    match factor {
        Factor::Touch => model::Login::Touch,
        Factor::Pin => model::Login::Pin(model::PinLogin { chosen, shuffle, tries_left }),
    }
}

fn tunnel(tunnel: Tunnel) -> model::Tunnel {
    model::Tunnel {
        up: tunnel.up,
        sent_bytes: tunnel.sent_bytes,
        received_bytes: tunnel.received_bytes,
        reason: tunnel.reason,
        public_key: tunnel.public_key,
    }
}

fn notice(notice: Notice) -> model::Notice {
    model::Notice { number: notice.number, process: notice.process, text: notice.text }
}
