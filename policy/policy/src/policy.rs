//! The file as a whole.

use toml_edit::Document;

use crate::finding::{Findings, Report};
use crate::keys::refuse_private;
use crate::read::Place;
use crate::types::{Login, Policy};
use crate::values;
use crate::{login, tunnels, zones};

/// The largest policy, in bytes.
pub const MAX_TEXT: usize = 256 * 1024;

const KEYS: &[&str] = &["schema", "version", "name", "demo", "screen", "zone", "tunnel"];
const SCREEN_KEYS: &[&str] = &["login", "pin_tries", "pin_shuffle"];
const NAME: &str = "1 to 64 printable ASCII characters";

/// Reads a policy; `file_name` is what findings call the file.
///
/// # Errors
/// Everything that is wrong with it. Wrong syntax hides the rest: there is one finding then.
pub fn check(file_name: &str, text: &str) -> Result<Policy, Findings> {
    let mut report = Report::new(file_name, text);
    let policy = parse(&mut report, text).and_then(|document| read(&mut report, &document));
    match (report.finish(), policy) {
        (Some(findings), _) => Err(findings),
        (None, Some(policy)) => Ok(policy),
        (None, None) => {
            // Every reader that gives nothing reports why. Should one not, nothing is granted all the same.
            let mut report = Report::new(file_name, text);
            report.add(0, "", "a policy that cannot be read", "a policy");
            Err(report.finish().expect("a report with a finding has findings"))
        }
    }
}

/// The text as TOML.
pub(crate) fn parse<'a>(report: &mut Report, text: &'a str) -> Option<Document<&'a str>> {
    if text.len() > MAX_TEXT {
        report.add(0, "", format!("{} bytes", text.len()), format!("at most {MAX_TEXT} bytes"));
        return None;
    }
    match Document::parse(text) {
        Ok(document) => Some(document),
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start);
            let message = error.message().lines().next().unwrap_or_default();
            report.add(at, "", format!("wrong syntax: {message}"), "TOML 1.0");
            None
        }
    }
}

fn read(report: &mut Report, document: &Document<&str>) -> Option<Policy> {
    let root = Place::root(document.as_table());
    refuse_private(report, root.table, "");
    root.only(report, KEYS);
    let schema = root.required(report, "schema", "1").and_then(|field| field.number::<u8>(report, 1..=1));
    let version = root.required(report, "version", "a whole number from 1 to 4294967295");
    let version = version.and_then(|field| field.number(report, 1..=4_294_967_295));
    let name = root.required(report, "name", NAME);
    let name = name.and_then(|field| field.text(report, NAME, |text| values::printable(text, 64)));
    let demo = root.field("demo").map_or(Some(false), |field| field.truth(report));
    let screen = screen(report, &root);
    let tunnel_places = root.tables(report, "tunnel");
    let tunnel_names: Vec<String> = tunnel_places.iter().map(|(name, _)| name.clone()).collect();
    let zones = zones::read(report, &root, &tunnel_names);
    let tunnels = tunnels::read(report, &tunnel_places);
    schema?;
    Some(Policy { version: version?, name: name?, demo: demo?, screen: screen?, zones, tunnels })
}

/// What lifts the display's lock.
fn screen(report: &mut Report, root: &Place<'_>) -> Option<Login> {
    let Some(field) = root.field("screen") else { return Some(Login::Touch) };
    let place = field.as_table(report)?;
    place.only(report, SCREEN_KEYS);
    login::read(report, &place, false)
}
