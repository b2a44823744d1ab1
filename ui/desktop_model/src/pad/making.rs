//! The making of the machine's recovery key, which covers the whole display.
//!
//! ```text
//!  line in the picker's bar -> Ask -> Waiting -> Shown <-> Check -> Noting -> Done
//!                               |        |                            |
//!                               v        +-----------> Failed <-------+
//!                             closed
//! ```
//!
//! The key is here from [`Making::made`] until it is sent back, and wiped when this is closed, by whatever: a touch,
//! [`WRITING`] or [`KEY_IDLE`] without one, a lost link. It counts only when three of its groups were typed from the
//! paper; a wrong one leads back to the key, and other groups are asked for then.

use super::recovery::{GROUP_DIGITS, GROUPS, KEY_IDLE, RecoveryKey};
use super::{ARMING, Digits, Order, PadLayout, Place, Target};
use crate::geometry::Rect;
use crate::picker::{BEAT, Link, Millis};

mod render;

/// A key that is shown is closed after so long without a touch: somebody writes it down.
pub const WRITING: Millis = 600_000;
/// So many groups are typed back.
pub const ASKED: usize = 3;

/// What follows from a touch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum MakingStep {
    Stay,
    Close,
    /// Have a key made.
    Make,
    /// It was written down.
    Note(RecoveryKey),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    Ask,
    Waiting,
    Shown {
        key: RecoveryKey,
        /// The group that was typed wrong just before.
        wrong: Option<usize>,
    },
    Check(Check),
    Noting,
    Done,
    Failed {
        reason: String,
    },
}

/// Groups are typed from the paper.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Check {
    key: RecoveryKey,
    /// The places of the groups that are asked for.
    groups: [usize; ASKED],
    /// So many of them were right.
    right: usize,
    typed: Digits<GROUP_DIGITS>,
}

/// The way to a recovery key.
#[derive(Clone, Debug)]
pub(crate) struct Making {
    stage: Stage,
    since: Millis,
    touched: Millis,
}

impl Making {
    /// Asks whether to make one.
    pub(crate) fn new(now: Millis) -> Self {
        Self { stage: Stage::Ask, since: now, touched: now }
    }

    /// What has just appeared takes no touches: they may have been meant for what was there before.
    pub(crate) fn is_shielded(&self, now: Millis) -> bool {
        now < self.since.saturating_add(ARMING)
    }

    /// Everything that can be touched now. `online`: requests can be made.
    pub(crate) fn targets(&self, layout: &PadLayout, online: bool) -> Vec<(Rect, Target)> {
        let leave = (layout.leave, Target::Leave);
        match &self.stage {
            Stage::Ask | Stage::Failed { .. } if online => vec![leave, (layout.retry, Target::Retry)],
            Stage::Ask | Stage::Failed { .. } | Stage::Waiting | Stage::Noting | Stage::Done => vec![leave],
            Stage::Shown { .. } => vec![leave, (written(layout), Target::Go)],
            Stage::Check(_) => {
                let places = layout.places.iter().enumerate();
                let mut targets: Vec<_> =
                    places.map(|(place, rect)| (*rect, Target::Place(Place(place)))).collect();
                targets.push((layout.back, Target::Back));
                targets.push((layout.go, Target::Go));
                targets.push((layout.cancel, Target::Cancel));
                targets
            }
        }
    }

    /// A finger is on it: somebody is there.
    pub(crate) fn touched(&mut self, now: Millis) {
        self.touched = now;
    }

    /// A target was touched. The seed chooses the groups that are asked for.
    pub(crate) fn touch(&mut self, now: Millis, target: Target, seed: u64) -> MakingStep {
        self.touched = now;
        match (target, &mut self.stage) {
            (Target::Leave | Target::Cancel, _) => return MakingStep::Close,
            (Target::Retry, Stage::Ask | Stage::Failed { .. }) => {
                self.enter(now, Stage::Waiting);
                return MakingStep::Make;
            }
            (Target::Go, Stage::Shown { key, .. }) => {
                let check =
                    Check { key: key.take(), groups: chosen(seed), right: 0, typed: Digits::default() };
                self.enter(now, Stage::Check(check));
            }
            (Target::Go, Stage::Check(check)) if check.right == ASKED => {
                let key = check.key.take();
                self.enter(now, Stage::Noting);
                return MakingStep::Note(key);
            }
            (Target::Place(Place(place)), Stage::Check(check)) => {
                if let Some(digit) = Order::PLAIN.digit(place)
                    && let Some(wrong) = check.push(digit)
                {
                    let key = check.key.take();
                    self.enter(now, Stage::Shown { key, wrong: Some(wrong) });
                }
            }
            (Target::Back, Stage::Check(check)) => check.typed.pop(),
            _ => {}
        }
        MakingStep::Stay
    }

    /// A key was made. `None`: what came is none. One that nobody waits for is dropped.
    pub(crate) fn made(&mut self, now: Millis, key: Option<RecoveryKey>) {
        if self.stage != Stage::Waiting {
            return;
        }
        match key {
            Some(key) => self.enter(now, Stage::Shown { key, wrong: None }),
            None => self.fail(now, "What zoned gave out is no recovery key."),
        }
    }

    /// It was noted.
    pub(crate) fn noted(&mut self, now: Millis) {
        if self.stage == Stage::Noting {
            self.enter(now, Stage::Done);
        }
    }

    /// It was not made, or not noted.
    pub(crate) fn failed(&mut self, now: Millis, why: &str) {
        if matches!(self.stage, Stage::Waiting | Stage::Noting) {
            self.fail(now, why);
        }
    }

    /// The link to `zoned` is in another state. `false`: close it.
    #[must_use]
    pub(crate) fn set_link(&mut self, link: Link) -> bool {
        match (&self.stage, link) {
            // A zoned that is silent for a moment takes nobody's key off the screen.
            (_, Link::Up | Link::Silent) | (Stage::Done | Stage::Failed { .. }, _) => true,
            (Stage::Waiting | Stage::Noting, _) => {
                self.fail(self.since, "zoned went away before it answered.");
                true
            }
            (Stage::Ask | Stage::Shown { .. } | Stage::Check(_), Link::Lost | Link::Connecting) => false,
        }
    }

    /// Everything moved: what was typed is forgotten.
    pub(crate) fn display_changed(&mut self) {
        if let Stage::Check(check) = &mut self.stage {
            check.typed.clear();
        }
    }

    /// Whether nobody has touched it for too long.
    pub(crate) fn is_idle(&self, now: Millis) -> bool {
        self.idle_at().is_some_and(|at| now >= at)
    }

    /// When it next changes by itself.
    pub(crate) fn deadline(&self, now: Millis) -> Option<Millis> {
        self.is_busy().then(|| (now / BEAT + 1) * BEAT).or(self.idle_at())
    }

    fn is_busy(&self) -> bool {
        matches!(self.stage, Stage::Waiting | Stage::Noting)
    }

    fn idle_at(&self) -> Option<Millis> {
        let patience = match self.stage {
            Stage::Waiting | Stage::Noting | Stage::Done | Stage::Failed { .. } => return None,
            Stage::Shown { .. } => WRITING,
            Stage::Ask | Stage::Check(_) => KEY_IDLE,
        };
        Some(self.touched.saturating_add(patience))
    }

    fn fail(&mut self, now: Millis, why: &str) {
        self.enter(now, Stage::Failed { reason: why.to_owned() });
    }

    fn enter(&mut self, now: Millis, stage: Stage) {
        self.stage = stage;
        self.since = now;
        self.touched = now;
    }
}

impl Check {
    /// The place of the group that is asked for; `None`: all were right.
    fn group(&self) -> Option<usize> {
        self.groups.get(self.right).copied()
    }

    /// Takes a digit; the answer is the group that is whole now and not what was shown.
    fn push(&mut self, digit: u8) -> Option<usize> {
        let group = self.group()?;
        self.typed.push(digit);
        if self.typed.count() < GROUP_DIGITS {
            return None;
        }
        if self.typed.typed() != self.key.digits(group) {
            return Some(group);
        }
        self.typed.clear();
        self.right += 1;
        None
    }
}

/// Three of the groups, each choice as likely as any other, in the paper's order.
fn chosen(seed: u64) -> [usize; ASKED] {
    let mut left: Vec<usize> = (0..GROUPS).collect();
    let mut rest = seed;
    let mut chosen = std::array::from_fn(|_| {
        let choices = u64::try_from(left.len()).unwrap_or(1);
        let index = usize::try_from(rest % choices).unwrap_or(0);
        rest /= choices;
        left.remove(index)
    });
    chosen.sort_unstable();
    chosen
}

/// The button for who has written the key down: it has long words.
fn written(layout: &PadLayout) -> Rect {
    Rect::from_edges(layout.retry.x, layout.retry.y, layout.card.right(), layout.retry.bottom())
}
