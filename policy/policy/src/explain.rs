//! Which line of a policy grants what.

use toml_edit::Document;

use crate::finding::{Findings, Report, did_you_mean};
use crate::read::{Field, Place};
use crate::types::Network;

/// A line of the file, and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The line, from 1.
    pub line: usize,
    /// Path of the key.
    pub key: String,
    /// Its value as it is written.
    pub value: String,
}

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExplainError {
    /// The policy has mistakes; its questions wait for them.
    #[error("{0}")]
    Findings(#[from] Findings),
    /// The question is not understood.
    #[error("found the question {0:?}, allowed \"zone NAME KEY\", such as \"zone office network\"")]
    Question(String),
    /// There is no such zone.
    #[error("found no zone {name:?}, allowed {zones}{hint}")]
    NoZone {
        /// The name asked for.
        name: String,
        /// The names that there are.
        zones: String,
        /// What was probably meant.
        hint: String,
    },
    /// The zone does not say.
    #[error("zone {zone} has no line for {key:?}: what the file does not grant does not exist")]
    NoLine {
        /// The zone.
        zone: String,
        /// The key asked for.
        key: String,
    },
}

/// Answers `zone NAME KEY`: the line that says it and, for a network, the lines of its tunnel that say where
/// the packets may go.
///
/// # Errors
/// [`ExplainError`]
pub fn explain(file_name: &str, text: &str, question: &str) -> Result<Vec<Line>, ExplainError> {
    let policy = crate::policy::check(file_name, text)?;
    let words: Vec<&str> = question.split_whitespace().collect();
    let ["zone", name, key] = words.as_slice() else {
        return Err(ExplainError::Question(question.to_owned()));
    };
    let Some(zone) = policy.zones.iter().find(|zone| zone.name == *name) else {
        let names: Vec<&str> = policy.zones.iter().map(|zone| zone.name.as_str()).collect();
        let hint = did_you_mean(name, names.iter().copied());
        return Err(ExplainError::NoZone {
            name: (*name).to_owned(),
            zones: names.join(", "),
            hint: hint.map(|hint| format!(" ({hint})")).unwrap_or_default(),
        });
    };
    let mut report = Report::new(file_name, text);
    let no_line = || ExplainError::NoLine { zone: (*name).to_owned(), key: (*key).to_owned() };
    let document = Document::parse(text).map_err(|_checked_above| no_line())?;
    let root = Place::root(document.as_table());
    let places = root.tables(&mut report, "zone");
    let place = places.iter().find(|(zone, _)| zone == name).map(|(_, place)| place);
    let field = place.and_then(|place| place.field(key)).ok_or_else(no_line)?;
    let mut lines = vec![line(&report, text, &field)];
    if let (Network::Tunnel(tunnel), "network") = (&zone.network, *key) {
        let places = root.tables(&mut report, "tunnel");
        let place = places.iter().find(|(name, _)| name == tunnel).map(|(_, place)| place);
        let peers = place.and_then(|place| place.field("peer"));
        let peers =
            peers.and_then(|peers| peers.list(&mut report, 1..=usize::MAX, "peers")).unwrap_or_default();
        for peer in peers.iter().filter_map(|peer| peer.as_table(&mut report)).collect::<Vec<_>>() {
            let fields = ["endpoint", "allowed_ips"].into_iter().filter_map(|key| peer.field(key));
            lines.extend(fields.map(|field| line(&report, text, &field)));
        }
    }
    Ok(lines)
}

fn line(report: &Report, text: &str, field: &Field<'_>) -> Line {
    let written = field.span().and_then(|span| text.get(span)).map(|value| {
        // A list may run over several lines.
        value.split_whitespace().collect::<Vec<_>>().join(" ")
    });
    Line {
        line: report.line(field.at),
        key: field.path.clone(),
        value: written.unwrap_or_else(|| field.show()),
    }
}
