//! What is wrong with a file, in words for the person who wrote it.

use std::fmt;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The file's name, as the caller gave it.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// Path of the key, such as `zone.office.memory`; empty for the file as a whole.
    pub key: String,
    /// What is there.
    pub found: String,
    /// What may be there.
    pub allowed: String,
    /// What was probably meant.
    pub hint: Option<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file, self.line)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "found {}, allowed {}", self.found, self.allowed)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

/// Everything that is wrong with a file, in the order of its lines; at least one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Findings(Vec<Finding>);

impl Findings {
    /// The findings.
    pub fn iter(&self) -> std::slice::Iter<'_, Finding> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a Findings {
    type Item = &'a Finding;
    type IntoIter = std::slice::Iter<'a, Finding>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, finding) in self.0.iter().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            write!(f, "{finding}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Findings {}

/// Collects findings while a file is read.
pub(crate) struct Report {
    file: String,
    /// Offset of each line's first byte.
    lines: Vec<usize>,
    findings: Vec<Finding>,
}

impl Report {
    pub(crate) fn new(file: &str, text: &str) -> Self {
        let starts = text.match_indices('\n').map(|(at, _)| at.saturating_add(1));
        Self {
            file: file.to_owned(),
            lines: std::iter::once(0).chain(starts).collect(),
            findings: Vec::new(),
        }
    }

    /// The line, from 1, of a byte.
    pub(crate) fn line(&self, at: usize) -> usize {
        self.lines.partition_point(|&start| start <= at)
    }

    pub(crate) fn add(&mut self, at: usize, key: &str, found: impl Into<String>, allowed: impl Into<String>) {
        self.add_with_hint(at, key, found, allowed, None);
    }

    pub(crate) fn add_with_hint(
        &mut self,
        at: usize,
        key: &str,
        found: impl Into<String>,
        allowed: impl Into<String>,
        hint: Option<String>,
    ) {
        self.findings.push(Finding {
            file: self.file.clone(),
            line: self.line(at),
            key: key.to_owned(),
            found: found.into(),
            allowed: allowed.into(),
            hint,
        });
    }

    /// The findings, sorted by line; `None` when there are none.
    pub(crate) fn finish(mut self) -> Option<Findings> {
        self.findings.sort_by_key(|finding| finding.line);
        (!self.findings.is_empty()).then_some(Findings(self.findings))
    }
}

/// The candidate that was probably meant by `word`, as a hint.
pub(crate) fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let word = word.to_ascii_lowercase();
    // Beyond a third of its letters it is another word.
    let limit = (word.chars().count() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .map(|candidate| (distance(&word, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| format!("did you mean {candidate:?}?"))
}

/// Letters to insert, delete, replace or swap with their neighbour to make one word of the other (optimal
/// string alignment). Letters beyond the 64th are not looked at: no key of ours is as long.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut next = vec![i.saturating_add(1)];
        for (j, y) in b.iter().enumerate() {
            let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX);
            let replaced = at(&row, j).saturating_add(usize::from(x != y));
            let deleted = at(&row, j.saturating_add(1)).saturating_add(1);
            let inserted = at(&next, j).saturating_add(1);
            let swapped = match (i.checked_sub(1), j.checked_sub(1)) {
                (Some(i), Some(j)) if a.get(i) == Some(y) && b.get(j) == Some(x) => {
                    at(&before, j).saturating_add(1)
                }
                _ => usize::MAX,
            };
            next.push(replaced.min(deleted).min(inserted).min(swapped));
        }
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().unwrap_or(0)
}
