//! What strangers may write: a budget for each zone and kind of event, and a count of what was too much.

use std::collections::BTreeMap;

use crate::event::Event;
use crate::ration::Ration;

/// Events of one zone and kind at once, and seconds for each one more: 48 a day, so that a guest that reboots in a
/// loop leaves the host's own records of many days in the log.
const RATION: (u64, u64) = (32, 1800);

/// Zones and kinds that have a budget of their own; names come from the policy, so there are never so many.
const MAX_BUDGETS: usize = 1024;

/// One budget.
#[derive(Debug)]
struct Budget {
    ration: Ration,
    /// Events that were counted only.
    more: u64,
}

/// A zone, if any, and a kind of event.
pub(crate) type Key = (Option<String>, &'static str);

/// The budgets that were used.
#[derive(Debug, Default)]
pub(crate) struct Budgets(BTreeMap<Key, Budget>);

impl Budgets {
    /// Takes one event from its budget; `false`: it is counted only.
    pub(crate) fn take(&mut self, zone: Option<&str>, kind: &'static str, steady: u64) -> bool {
        let key = (zone.map(str::to_owned), kind);
        if self.0.len() >= MAX_BUDGETS && !self.0.contains_key(&key) {
            return false;
        }
        let fresh = || Budget { ration: Ration::new(RATION.0, RATION.1, steady), more: 0 };
        let budget = self.0.entry(key).or_insert_with(fresh);
        let any = budget.ration.take(steady);
        if !any {
            budget.more = budget.more.saturating_add(1);
        }
        any
    }

    /// What was counted and may be said now, at most `limit` of them: beside an event of the same zone and kind
    /// (`own`), when its budget has room again, or when `all` is wanted.
    pub(crate) fn due(
        &mut self,
        own: Option<&Key>,
        steady: u64,
        all: bool,
        limit: usize,
    ) -> Vec<(Key, Event)> {
        let mut due = Vec::new();
        for (key, budget) in self.0.iter_mut().filter(|(_, budget)| budget.more > 0) {
            if due.len() < limit && (all || own == Some(key) || budget.ration.take(steady)) {
                due.push((key.clone(), Event::MoreOfTheSame { of: key.1.to_owned(), count: budget.more }));
            }
        }
        due
    }

    /// These were written.
    pub(crate) fn said(&mut self, said: &[Key]) {
        for key in said {
            if let Some(budget) = self.0.get_mut(key) {
                budget.more = 0;
            }
        }
    }
}
