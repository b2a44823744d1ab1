//! The row of two zones that start together: ours is together, its peer one after the other.

use super::{FEWEST_ROUNDS, Row};
use crate::sample::Line;
use crate::statistics::{median, ratio};

/// Together must take no longer than one after the other.
const TARGET: f64 = 1.0;

/// The row, when there is a round with both.
pub(super) fn row(bench: &'static str, lines: &[Line]) -> Option<Row> {
    let milliseconds = |us: u32| f64::from(us) / 1000.0;
    let rounds: Vec<(f64, f64)> = lines
        .iter()
        .filter_map(|line| {
            let Line::Pair { serial_us, together_us, .. } = *line else { return None };
            Some((milliseconds(together_us), milliseconds(serial_us)))
        })
        .collect();
    let side = |pick: fn(&(f64, f64)) -> f64| median(&rounds.iter().map(pick).collect::<Vec<_>>());
    let found = ratio(&rounds);
    Some(Row {
        bench,
        metric: "two-zones-together",
        unit: "ms",
        ours: side(|round| round.0)?,
        peer: side(|round| round.1)?,
        peer_version: "the same two, one after the other".to_owned(),
        ratio: found.map(|found| found.value),
        target: Some(TARGET),
        holds: Some(rounds.len() >= FEWEST_ROUNDS && found.is_some_and(|found| found.high <= TARGET)),
        interval: found.map(|found| (found.low, found.high)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn together_is_held_against_one_after_the_other() {
        let lines = |rounds: &[(u32, u32)]| -> Vec<Line> {
            let line = |(round, (serial_us, together_us)): (u32, &(u32, u32))| Line::Pair {
                round,
                serial_us: *serial_us,
                together_us: *together_us,
            };
            (0..).zip(rounds).map(line).collect()
        };
        let holds = |rounds| row("b", &lines(rounds)).unwrap().holds;
        assert_eq!(holds(&[(2000, 1200), (2000, 1400), (2000, 2000)]), Some(true));
        assert_eq!(holds(&[(2000, 1200), (2000, 1400), (2000, 2001)]), Some(false));
        assert_eq!(holds(&[(2000, 1200), (2000, 1400)]), Some(false));
        let found = row("b", &lines(&[(4000, 1000)])).unwrap();
        assert_eq!((found.ours, found.peer, found.ratio), (1.0, 4.0, Some(0.25)));
        assert_eq!(row("b", &[Line::Done]), None);
    }
}
