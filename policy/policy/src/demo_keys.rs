//! The demo's private keys, which everybody can read. Findings never show a key.

use std::collections::BTreeMap;

use crate::finding::{Findings, Report};
use crate::read::{Place, join};
use crate::values::{self, NAME};

const KEY: &str = "an X25519 private key: 32 bytes in base64, 44 characters";

/// Reads `demo-keys.toml`: for each tunnel, the private key of the zone's side. Only a policy with
/// `demo = true` may be used with them; that is for the caller to see to.
///
/// # Errors
/// Everything that is wrong with the file.
pub fn demo_keys(file_name: &str, text: &str) -> Result<BTreeMap<String, [u8; 32]>, Findings> {
    read(file_name, text, "tunnel")
}

/// Reads `gateway-keys.toml`: for each tunnel, the private key of the demo network's gateway.
///
/// # Errors
/// Everything that is wrong with the file.
pub fn demo_gateway_keys(file_name: &str, text: &str) -> Result<BTreeMap<String, [u8; 32]>, Findings> {
    read(file_name, text, "gateway")
}

fn read(file_name: &str, text: &str, table: &str) -> Result<BTreeMap<String, [u8; 32]>, Findings> {
    let mut report = Report::new(file_name, text);
    let mut keys = BTreeMap::new();
    if let Some(document) = crate::policy::parse(&mut report, text) {
        let root = Place::root(document.as_table());
        root.only(&mut report, &[table]);
        let place = root.required(&mut report, table, "a table with a private key for each tunnel");
        if let Some(place) = place.and_then(|field| field.as_table(&mut report)) {
            for (name, item) in place.table.iter() {
                let at = place.field(name).map_or(place.at, |field| field.at);
                let path = join(table, name);
                if values::name(name).is_none() {
                    report.add(at, &path, "this name", NAME);
                }
                match item.as_str().and_then(values::key) {
                    Some(key) => drop(keys.insert(name.to_owned(), key)),
                    None => report.add(at, &path, "something else (not shown)", KEY),
                }
            }
        }
    }
    report.finish().map_or(Ok(keys), Err)
}
