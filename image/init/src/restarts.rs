//! When a dead service is started again. Pure: time is an argument.

use std::collections::VecDeque;
use std::time::Duration;

/// Deaths are counted within this span.
const WINDOW: Duration = Duration::from_secs(60);
/// So many restarts within the span, then no more.
const MOST: usize = 5;
/// The wait before the first restart; doubled for each further one.
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// What to do about a death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Start it again at this time.
    At(Duration),
    /// Not again in this boot.
    GiveUp,
}

/// The recent deaths of one service.
#[derive(Debug, Default)]
pub(crate) struct Restarts {
    deaths: VecDeque<Duration>,
}

impl Restarts {
    /// Notes a death, or a start that failed.
    pub(crate) fn died(&mut self, now: Duration) -> Verdict {
        self.deaths.retain(|death| now.saturating_sub(*death) < WINDOW);
        if self.deaths.len() == MOST {
            return Verdict::GiveUp;
        }
        let doublings = u32::try_from(self.deaths.len()).expect("fewer than MOST");
        self.deaths.push_back(now);
        Verdict::At(now.saturating_add(FIRST_WAIT.saturating_mul(1 << doublings)))
    }
}

#[cfg(test)]
mod tests;
