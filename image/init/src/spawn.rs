//! What `zoned` may ask for. Pure: a request becomes an order or a reason to refuse it.

use init_protocol::{MAX_ZONES, ZoneProfile};

/// The user of the first zone's VMM.
const FIRST_USER: u32 = 2000;
/// Users per zone.
const USERS_PER_ZONE: u32 = 16;
/// The longest zone name.
const LONGEST_NAME: usize = 32;
/// The most disks of a zone.
const MAX_DISKS: u8 = 8;

/// A checked request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    /// The number that `zoned` chose.
    pub(crate) process: u32,
    /// Which row of the table.
    pub(crate) profile: ZoneProfile,
    /// Its user, and whom it belongs to: one process at a time.
    pub(crate) user: u32,
    /// `vmm office`.
    pub(crate) label: String,
    /// Names of the descriptors.
    pub(crate) descriptors: Vec<String>,
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RefuseError {
    /// The slot is not within the table.
    #[error("slot {0} is not below {MAX_ZONES}")]
    Slot(u8),
    /// The zone's name could be mistaken in a log or a message.
    #[error("zone name is not [a-z0-9-]{{1,32}}")]
    Zone,
    /// Names and descriptors differ in number.
    #[error("{names} descriptor names came with {descriptors} descriptors")]
    Count {
        /// Names in the request.
        names: usize,
        /// Descriptors beside it.
        descriptors: usize,
    },
    /// The profile has no such descriptor.
    #[error("{profile} takes no descriptor of that name, or not twice (number {place} of the list)")]
    Descriptor {
        /// The profile.
        profile: &'static str,
        /// Place in the list, from 1.
        place: usize,
    },
    /// The profile cannot work without it.
    #[error("{profile} needs descriptor {name}")]
    Missing {
        /// The profile.
        profile: &'static str,
        /// What it lacks.
        name: &'static str,
    },
}

/// The slot that a per-zone process's user belongs to.
pub(crate) fn slot(user: u32) -> u8 {
    u8::try_from(user.saturating_sub(FIRST_USER) / USERS_PER_ZONE).unwrap_or(MAX_ZONES)
}

/// Whether this is the user of a zone's VMM.
pub(crate) fn is_vmm(user: u32) -> bool {
    user >= FIRST_USER && (user - FIRST_USER).is_multiple_of(USERS_PER_ZONE)
}

/// The profile of a per-zone process's user.
pub(crate) fn profile(user: u32) -> ZoneProfile {
    let rows = [ZoneProfile::Vmm, ZoneProfile::Vpnd, ZoneProfile::Swtpm];
    let place = user.saturating_sub(FIRST_USER) % USERS_PER_ZONE;
    rows.into_iter()
        .find(|profile| row(*profile) == place)
        .expect("every zone's process has the user of a row")
}

/// Whether this can be a zone's name.
pub(crate) fn is_name(zone: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !zone.is_empty() && zone.len() <= LONGEST_NAME && zone.bytes().all(plain)
}

/// The profile's word in labels.
pub(crate) fn word(profile: ZoneProfile) -> &'static str {
    match profile {
        ZoneProfile::Vmm => "vmm",
        ZoneProfile::Vpnd => "vpnd",
        ZoneProfile::Swtpm => "swtpm",
    }
}

/// The profile's place among the users of a zone.
fn row(profile: ZoneProfile) -> u32 {
    match profile {
        ZoneProfile::Vmm => 0,
        ZoneProfile::Vpnd => 1,
        ZoneProfile::Swtpm => 2,
    }
}

/// Checks a spawn request that came with `count` descriptors.
pub(crate) fn check(
    process: u32,
    profile: ZoneProfile,
    slot: u8,
    zone: &str,
    names: Vec<String>,
    count: usize,
) -> Result<Order, RefuseError> {
    if slot >= MAX_ZONES {
        return Err(RefuseError::Slot(slot));
    }
    if !is_name(zone) {
        return Err(RefuseError::Zone);
    }
    if names.len() != count {
        return Err(RefuseError::Count { names: names.len(), descriptors: count });
    }
    for (place, name) in (1..).zip(&names) {
        let twice = names.iter().filter(|other| *other == name).count() > 1;
        if twice || !takes(profile, name) {
            return Err(RefuseError::Descriptor { profile: word(profile), place });
        }
    }
    let needed: &[&'static str] = match profile {
        ZoneProfile::Vmm => &["config", "events"],
        ZoneProfile::Vpnd => &["config", "vhost", "uplink"],
        ZoneProfile::Swtpm => &[],
    };
    if let Some(name) = needed.iter().find(|needed| names.iter().all(|name| name != *needed)) {
        return Err(RefuseError::Missing { profile: word(profile), name });
    }
    Ok(Order {
        process,
        profile,
        user: FIRST_USER + USERS_PER_ZONE * u32::from(slot) + row(profile),
        label: format!("{} {zone}", word(profile)),
        descriptors: names,
    })
}

/// Whether the profile knows a descriptor of this name (`zone_protocol::vmm`, `vpn_protocol`).
fn takes(profile: ZoneProfile, name: &str) -> bool {
    match profile {
        ZoneProfile::Vmm => {
            ["config", "events", "firmware", "kernel", "initrd", "net", "agent", "console"].contains(&name)
                || (0..MAX_DISKS).any(|number| name == format!("disk{number}"))
        }
        ZoneProfile::Vpnd => ["config", "vhost", "uplink", "status", "key"].contains(&name),
        // All that it has is `init`'s.
        ZoneProfile::Swtpm => false,
    }
}

#[cfg(test)]
mod tests;
