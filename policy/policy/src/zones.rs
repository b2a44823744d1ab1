//! The rules of `[zone.NAME]`.

use std::collections::BTreeMap;

use crate::finding::{Report, did_you_mean};
use crate::read::{Field, Place};
use crate::types::{Colour, Network, Zone};
use crate::values::{self, NAME};

const KEYS: &[&str] = &[
    "label",
    "colour",
    "template",
    "memory",
    "vcpus",
    "disk",
    "disposable",
    "keep",
    "user",
    "login",
    "pin_tries",
    "pin_shuffle",
    "network",
];

const COLOURS: &[(&str, Colour)] = &[
    ("red", Colour::Red),
    ("orange", Colour::Orange),
    ("yellow", Colour::Yellow),
    ("green", Colour::Green),
    ("blue", Colour::Blue),
    ("purple", Colour::Purple),
    ("brown", Colour::Brown),
    ("grey", Colour::Grey),
];

/// The most zones of a policy: each has a colour of its own.
const MAX_ZONES: usize = COLOURS.len();

const MEMORY_MIB: std::ops::RangeInclusive<u32> = 64..=65536;
const MEMORY: &str = "a size from \"64 MiB\" to \"64 GiB\"";
const DISK_MIB: std::ops::RangeInclusive<u32> = 16..=1_048_576;
const DISK: &str = "a size from \"16 MiB\" to \"1024 GiB\"";
const NETWORK: &str = "\"none\" or \"tunnel.NAME\"";

/// What only one zone may have, and where it has it.
#[derive(Default)]
struct Taken {
    colours: BTreeMap<Colour, usize>,
    tunnels: BTreeMap<String, usize>,
}

/// Reads all zones. `tunnels` are the names of the tunnels in the file, good and bad.
pub(crate) fn read(report: &mut Report, root: &Place<'_>, tunnels: &[String]) -> Vec<Zone> {
    let places = root.tables(report, "zone");
    if places.is_empty() || places.len() > MAX_ZONES {
        let at = root.field("zone").map_or(0, |field| field.at);
        report.add(
            at,
            "zone",
            format!("{} zones", places.len()),
            format!("1 to {MAX_ZONES} zones, each with a colour of its own"),
        );
        return Vec::new();
    }
    let mut taken = Taken::default();
    places.into_iter().filter_map(|(name, place)| zone(report, &name, &place, tunnels, &mut taken)).collect()
}

fn zone(
    report: &mut Report,
    name: &str,
    place: &Place<'_>,
    tunnels: &[String],
    taken: &mut Taken,
) -> Option<Zone> {
    place.only(report, KEYS);
    let good_name = values::name(name);
    if good_name.is_none() {
        report.add(place.at, &place.path, format!("the name {:?}", crate::read::clip(name)), NAME);
    }
    let label = match place.field("label") {
        None => Some(name.to_owned()),
        Some(field) => {
            field.text(report, "1 to 32 printable ASCII characters", |text| values::printable(text, 32))
        }
    };
    let colour = place.required(report, "colour", &one_colour());
    let colour = colour.and_then(|field| {
        let colour = field.word(report, COLOURS)?;
        unique(report, &field, &mut taken.colours, colour, "a colour that no other zone has")
    });
    let template = place.required(report, "template", NAME);
    let template = template.and_then(|field| field.text(report, NAME, values::name));
    let memory_mib = place.required(report, "memory", MEMORY).and_then(|field| {
        field.text(report, MEMORY, |text| values::mebibytes(text).filter(|size| MEMORY_MIB.contains(size)))
    });
    let vcpus = place.required(report, "vcpus", "a whole number from 1 to 8");
    let vcpus = vcpus.and_then(|field| field.number(report, 1..=8));
    let disk_mib = place.required(report, "disk", DISK).and_then(|field| {
        field.text(report, DISK, |text| values::mebibytes(text).filter(|size| DISK_MIB.contains(size)))
    });
    let disposable = place.field("disposable").map_or(Some(false), |field| field.truth(report));
    let keep = place.field("keep");
    let keep =
        keep.map_or(Some(Vec::new()), |field| crate::keep::read(report, &field, disposable == Some(true)));
    let user = place.field("user");
    let user = user.map_or(Some(crate::user::DEFAULT.to_owned()), |field| crate::user::read(report, &field));
    let login = crate::login::read(report, place, disposable == Some(true));
    let network = place.required(report, "network", NETWORK);
    let network = network.and_then(|field| network_of(report, &field, tunnels, taken));
    Some(Zone {
        name: good_name?,
        label: label?,
        colour: colour?,
        template: template?,
        memory_mib: memory_mib?,
        vcpus: vcpus?,
        disk_mib: disk_mib?,
        disposable: disposable?,
        keep: keep?,
        user: user?,
        login: login?,
        network: network?,
    })
}

fn network_of(
    report: &mut Report,
    field: &Field<'_>,
    tunnels: &[String],
    taken: &mut Taken,
) -> Option<Network> {
    let name = field.text(report, NETWORK, |text| match text {
        "none" => Some(None),
        text => {
            text.strip_prefix("tunnel.").filter(|name| !name.is_empty()).map(|name| Some(name.to_owned()))
        }
    })?;
    let Some(name) = name else {
        return Some(Network::None);
    };
    if !tunnels.contains(&name) {
        let meant: Vec<String> = tunnels.iter().map(|name| format!("tunnel.{name}")).collect();
        let hint = did_you_mean(&format!("tunnel.{name}"), meant.iter().map(String::as_str));
        report.add_with_hint(field.at, &field.path, field.show(), "a tunnel that this file has", hint);
        return None;
    }
    unique(report, field, &mut taken.tunnels, name, "a tunnel that no other zone uses").map(Network::Tunnel)
}

/// Lets a value pass that no earlier zone has.
fn unique<T: Ord + Clone>(
    report: &mut Report,
    field: &Field<'_>,
    taken: &mut BTreeMap<T, usize>,
    value: T,
    allowed: &str,
) -> Option<T> {
    if let Some(&at) = taken.get(&value) {
        let found = format!("{}, as in line {}", field.show(), report.line(at));
        report.add(field.at, &field.path, found, allowed);
        return None;
    }
    taken.insert(value.clone(), field.at);
    Some(value)
}

fn one_colour() -> String {
    let words: Vec<&str> = COLOURS.iter().map(|(word, _)| *word).collect();
    format!("one of {}", words.join(", "))
}
