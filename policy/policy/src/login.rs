//! The rules of `login`, `pin_tries` and `pin_shuffle` in `[zone.NAME]` and `[screen]`.

use crate::finding::Report;
use crate::read::Place;
use crate::types::Login;

/// Wrong PINs that a zone bears when the file does not say.
const TRIES: u8 = 5;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Touch,
    Pin,
}

const WORDS: &[(&str, Word)] = &[("touch", Word::Touch), ("pin", Word::Pin)];

/// Reads all three.
pub(crate) fn read(report: &mut Report, place: &Place<'_>, disposable: bool) -> Option<Login> {
    let word = place.field("login").map_or(Some(Word::Touch), |field| {
        let word = field.word(report, WORDS)?;
        if word == Word::Pin && disposable {
            let allowed =
                "\"touch\" in a disposable zone: its disk is empty at each start, a PIN would guard nothing";
            report.add(field.at, &field.path, field.show(), allowed);
            return None;
        }
        Some(word)
    });
    let tries = place.field("pin_tries");
    let shuffle = place.field("pin_shuffle");
    if word == Some(Word::Touch) {
        for field in [&tries, &shuffle].into_iter().flatten() {
            let found = format!("{}, and no PIN is asked for", field.show());
            report.add(field.at, &field.path, found, "this key only beside login = \"pin\"");
        }
        return if tries.is_some() || shuffle.is_some() { None } else { Some(Login::Touch) };
    }
    let tries = tries.map_or(Some(TRIES), |field| field.number(report, 3..=16));
    let shuffle = shuffle.map_or(Some(false), |field| field.truth(report));
    word?;
    Some(Login::Pin { tries: tries?, shuffle: shuffle? })
}
