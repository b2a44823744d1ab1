//! Private keys have no place in a policy: every key of that name is reported, wherever it is.

use toml_edit::{Item, TableLike, Value};

use crate::finding::Report;
use crate::read::join;

/// Whether a key's name says that its value is a private key.
pub(crate) fn is_private(key: &str) -> bool {
    let letters: String = key.chars().filter(char::is_ascii_alphabetic).collect();
    letters.eq_ignore_ascii_case("privatekey")
}

/// Reports every private key in a table and below it. Never shows the value.
pub(crate) fn refuse_private(report: &mut Report, table: &dyn TableLike, path: &str) {
    for (key, item) in table.iter() {
        let path = join(path, key);
        if is_private(key) {
            let at = table.get_key_value(key).and_then(|(key, _)| key.span()).map_or(0, |span| span.start);
            let allowed = "public keys only: private keys have no place in a policy";
            let hint = Some("take it out, and make a new one: whoever saw this file may know it".to_owned());
            report.add_with_hint(at, &path, "a private key", allowed, hint);
        } else {
            refuse_in_item(report, item, &path);
        }
    }
}

fn refuse_in_item(report: &mut Report, item: &Item, path: &str) {
    match item {
        Item::None => {}
        Item::Value(value) => refuse_in_value(report, value, path),
        Item::Table(table) => refuse_private(report, table, path),
        Item::ArrayOfTables(tables) => {
            for (index, table) in tables.iter().enumerate() {
                refuse_private(report, table, &format!("{path}[{index}]"));
            }
        }
    }
}

fn refuse_in_value(report: &mut Report, value: &Value, path: &str) {
    if let Some(table) = value.as_inline_table() {
        refuse_private(report, table, path);
    }
    for (index, element) in value.as_array().into_iter().flatten().enumerate() {
        refuse_in_value(report, element, &format!("{path}[{index}]"));
    }
}
