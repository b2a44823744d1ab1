//! Where the time of a zone's start goes, from its user's wish to the agent's first word: one line of the log.
//!
//! How long the guest's kernel has run is its own word; nothing follows from it.

use std::time::{Duration, Instant};

/// A step that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The machine's TPM gave out what the zone needs, and its processes are asked for.
    Opened,
    /// The machine is loaded.
    Loaded,
    /// The zone's TPM holds what was measured, and gave out what it keeps.
    Begun,
    /// The private disk is open.
    Disk,
    /// The first instruction.
    Started,
}

/// The steps of one start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Steps {
    asked: Option<Instant>,
    over: [Option<Instant>; 5],
}

/// How long each part took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    /// Until the machine's TPM had spoken.
    pub(crate) opening: Duration,
    /// Until the machine was loaded: processes, kernel, initrd.
    pub(crate) loading: Duration,
    /// Until the zone's TPM had spoken.
    pub(crate) tpm: Duration,
    /// Until its private disk was there.
    pub(crate) disk: Duration,
    /// From the first instruction until its kernel counted time.
    pub(crate) firmware: Duration,
    /// From there to the agent's first word.
    pub(crate) guest: Duration,
}

impl Steps {
    /// A start that its user wants now.
    pub(crate) fn asked(now: Instant) -> Self {
        Self { asked: Some(now), ..Self::default() }
    }

    /// A step is over. One that comes again belongs to a guest's reset.
    pub(crate) fn mark(&mut self, step: Step, now: Instant) {
        if step == Step::Opened {
            self.asked.get_or_insert(now);
        }
        // A machine without a private disk has it with its TPM.
        let places = if step == Step::Begun { &[step, Step::Disk][..] } else { &[step][..] };
        for place in places {
            if let Some(over) = self.over.get_mut(index(*place)) {
                match step {
                    Step::Disk => *over = Some(now),
                    Step::Opened | Step::Loaded | Step::Begun | Step::Started => {
                        over.get_or_insert(now);
                    }
                }
            }
        }
    }

    /// The agent spoke, when its kernel had run for so long. What is told is told once.
    pub(crate) fn hello(&mut self, uptime: Duration, now: Instant) -> Option<Parts> {
        let Self { asked, over } = std::mem::take(self);
        let [Some(opened), Some(loaded), Some(begun), Some(disk), Some(started)] = over else { return None };
        let whole = now.saturating_duration_since(started);
        let guest = uptime.min(whole);
        Some(Parts {
            opening: opened.saturating_duration_since(asked?),
            loading: loaded.saturating_duration_since(opened),
            tpm: begun.saturating_duration_since(loaded),
            disk: disk.saturating_duration_since(begun),
            firmware: whole.saturating_sub(guest),
            guest,
        })
    }
}

fn index(step: Step) -> usize {
    match step {
        Step::Opened => 0,
        Step::Loaded => 1,
        Step::Begun => 2,
        Step::Disk => 3,
        Step::Started => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_is_told_once() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let seconds = Duration::from_secs;
        let mut steps = Steps::asked(at(0));
        assert_eq!(steps.hello(seconds(1), at(1)), None);
        let mut steps = Steps::asked(at(0));
        for (step, time) in
            [(Step::Opened, 1), (Step::Loaded, 3), (Step::Begun, 6), (Step::Disk, 7), (Step::Started, 9)]
        {
            steps.mark(step, at(time));
        }
        // A reset's steps are not the start's.
        steps.mark(Step::Loaded, at(10));
        let parts = Parts {
            opening: seconds(1),
            loading: seconds(2),
            tpm: seconds(3),
            disk: seconds(1),
            firmware: seconds(4),
            guest: seconds(5),
        };
        assert_eq!(steps.hello(seconds(5), at(18)), Some(parts));
        assert_eq!(steps.hello(seconds(5), at(18)), None);
        // Nobody is asked for anything, there is no disk to open, and the guest exaggerates.
        let mut steps = Steps::default();
        for (step, time) in [(Step::Opened, 1), (Step::Loaded, 3), (Step::Begun, 6), (Step::Started, 9)] {
            steps.mark(step, at(time));
        }
        let parts = steps.hello(seconds(500), at(10)).unwrap();
        assert_eq!((parts.opening, parts.disk, parts.firmware), Default::default());
        assert_eq!(parts.guest, seconds(1));
    }
}
