//! When something that died is started again: `init`'s services, and the tunnel processes of `zoned`'s zones.
//!
//! Pure: time is an argument, counted from any fixed point.

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
pub enum Verdict {
    /// Start it again at this time.
    At(Duration),
    /// Not again.
    GiveUp,
}

/// The recent deaths of one process.
#[derive(Clone, Debug, Default)]
pub struct Restarts {
    deaths: VecDeque<Duration>,
}

impl Restarts {
    /// Notes a death, or a start that failed.
    pub fn died(&mut self, now: Duration) -> Verdict {
        self.deaths.retain(|death| now.saturating_sub(*death) < WINDOW);
        if self.deaths.len() == MOST {
            return Verdict::GiveUp;
        }
        let doublings = u32::try_from(self.deaths.len()).expect("fewer than MOST");
        self.deaths.push_back(now);
        Verdict::At(now.saturating_add(FIRST_WAIT.saturating_mul(1 << doublings)))
    }

    /// How many deaths are remembered.
    #[must_use]
    pub fn count(&self) -> usize {
        self.deaths.len()
    }

    /// As after so many deaths at this time, at most as many as are ever remembered.
    #[must_use]
    pub fn after(deaths: usize, now: Duration) -> Self {
        Self { deaths: std::iter::repeat_n(now, deaths.min(MOST)).collect() }
    }
}

#[cfg(test)]
mod tests;
