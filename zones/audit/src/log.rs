//! Which bytes go into which segment, and which segment goes.
//!
//! ```text
//! append(event) ── within its ration? ── no ──> counted as lost, named by the next record
//!       │ yes
//!       v
//! room in the last segment? ── yes ──> Write
//!       │ no
//!       v
//! new segment; too many now? ── yes ──> Write (records_dropped first), then Remove the oldest
//! ```
//!
//! A [`Step`] is carried out first and made true by [`Log::commit`] afterwards, so that a full disk leaves the log
//! as it was. One step writes into one segment only, so that a crash tears at most the end of the last segment.

use std::collections::VecDeque;

use crate::event::{Event, Origin};
use crate::ration::Ration;
use crate::record::{Head, Stamp, line, read};
use crate::verify::{dropped, verify};

/// The size of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one segment; a record has at most about 2 KiB.
    pub segment_bytes: u64,
    /// Segments that are kept, at least two.
    pub segments: usize,
}

impl Default for Limits {
    /// One MiB: some thousand events.
    fn default() -> Self {
        Self { segment_bytes: 64 * 1024, segments: 16 }
    }
}

/// What is to be done with the segments, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write at the end of a segment, which begins with this if it is new, and make it durable.
    Write {
        /// The segment's number.
        segment: u64,
        /// Its length before.
        length: u64,
        /// What to add.
        bytes: Vec<u8>,
    },
    /// Cut a segment off.
    Truncate {
        /// The segment's number.
        segment: u64,
        /// Its length from now on.
        length: u64,
    },
    /// Remove a segment.
    Remove {
        /// Its number.
        segment: u64,
    },
}

/// What becomes true when its actions are done.
#[derive(Debug)]
pub struct Step {
    /// To do, in this order.
    pub actions: Vec<Action>,
    segments: VecDeque<Segment>,
    head: Head,
}

/// A segment that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its number; numbers rise.
    pub number: u64,
    /// Its length in bytes.
    pub length: u64,
    /// Its last record, or the one before it while it has none.
    pub last: Head,
}

/// The log's state.
#[derive(Debug)]
pub struct Log {
    limits: Limits,
    boot: String,
    segments: VecDeque<Segment>,
    head: Head,
    host: Ration,
    client: Ration,
    lost: u64,
}

/// Events of the host at once, and seconds for each one more.
const HOST_RATION: (u64, u64) = (128, 1);
/// Events that clients cause.
const CLIENT_RATION: (u64, u64) = (16, 10);

impl Log {
    /// Takes up a log: its segments by rising number, with all that they contain. The actions come first; the
    /// events say what was found, and are to be appended at once.
    #[must_use]
    pub fn open(
        limits: Limits,
        boot: &str,
        found: &[(u64, Vec<u8>)],
        now: Stamp,
    ) -> (Self, Vec<Action>, Vec<Event>) {
        let limits = Limits { segments: limits.segments.max(2), ..limits };
        let mut log = Self {
            limits,
            boot: boot.to_owned(),
            segments: VecDeque::new(),
            head: Head::start(),
            host: Ration::new(HOST_RATION.0, HOST_RATION.1, now.steady),
            client: Ration::new(CLIENT_RATION.0, CLIENT_RATION.1, now.steady),
            lost: 0,
        };
        let mut actions = Vec::new();
        let mut events = vec![Event::LogOpened];
        let mut through = 0;
        for (index, (number, bytes)) in found.iter().enumerate() {
            let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            let mut length = length(bytes);
            if index + 1 == found.len() && whole < bytes.len() {
                events.push(Event::RecordTorn { bytes: length.saturating_sub(count(whole)) });
                length = count(whole);
                actions.push(Action::Truncate { segment: *number, length });
            }
            for (record, head) in lines(bytes).filter_map(read) {
                through = dropped(&record.event).map_or(through, |last| last.position.max(through));
                log.head = head;
            }
            log.segments.push_back(Segment { number: *number, length, last: log.head.clone() });
        }
        let all = found.iter().flat_map(|(_, bytes)| lines(bytes));
        if let Err(fault) = verify(all, None, None) {
            events.push(Event::ChainBroken { fault: fault.to_string() });
        }
        // A crash came between the record of a drop and the drop.
        while log.segments.len() > limits.segments
            && let Some(oldest) = log.segments.pop_front_if(|oldest| oldest.last.position <= through)
        {
            actions.push(Action::Remove { segment: oldest.number });
        }
        (log, actions, events)
    }

    /// An event. Nothing is to be done when it is one too many: it is counted.
    pub fn append(&mut self, now: Stamp, zone: Option<&str>, event: &Event) -> Option<Step> {
        let ration = match event.origin() {
            Origin::Host => &mut self.host,
            Origin::Client => &mut self.client,
        };
        if !ration.take(now.steady) {
            self.lose();
            return None;
        }
        let mut writer =
            Writer { head: self.head.clone(), bytes: Vec::new(), time: now.time, boot: &self.boot };
        let mut segments = self.segments.clone();
        let mut actions = Vec::new();
        let mut events = Vec::new();
        if self.lost > 0 {
            events.push((None, Event::EventsLost { count: self.lost }));
        }
        events.push((zone, event.clone()));
        let expected: usize = writer.measure(&events);
        let room = |last: &Segment| last.length.saturating_add(count(expected)) <= self.limits.segment_bytes;
        let (number, length) = match segments.back().filter(|last| room(last)) {
            Some(last) => (last.number, last.length),
            None => (segments.back().map_or(1, |last| last.number.saturating_add(1)), 0),
        };
        if segments.back().is_none_or(|last| last.number != number) {
            segments.push_back(Segment { number, length: 0, last: self.head.clone() });
        }
        // Also after a crash that left a new segment empty before the drop was recorded.
        let mut last_dropped = None;
        while segments.len() > self.limits.segments
            && let Some(oldest) = segments.pop_front()
        {
            actions.push(Action::Remove { segment: oldest.number });
            last_dropped = Some(oldest.last);
        }
        if let Some(Head { position, hash }) = last_dropped {
            let hash = hash.as_str().to_owned();
            writer.add(None, &Event::RecordsDropped { through: position, hash });
        }
        for (zone, event) in &events {
            writer.add(*zone, event);
        }
        let Writer { head, bytes, .. } = writer;
        if let Some(last) = segments.back_mut() {
            last.length = last.length.saturating_add(count(bytes.len()));
            last.last = head.clone();
        }
        actions.insert(0, Action::Write { segment: number, length, bytes });
        Some(Step { actions, segments, head })
    }

    /// The step's write is done. A segment that could not be removed is found again when the log is opened.
    pub fn commit(&mut self, step: Step) {
        self.segments = step.segments;
        self.head = step.head;
        self.lost = 0;
    }

    /// An event could not be written.
    pub fn lose(&mut self) {
        self.lost = self.lost.saturating_add(1);
    }

    /// The last record.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The segments that hold records from `position` on.
    pub fn segments_from(&self, position: u64) -> impl Iterator<Item = &Segment> {
        self.segments.iter().filter(move |segment| segment.length > 0 && segment.last.position >= position)
    }
}

/// Makes lines that follow each other.
struct Writer<'a> {
    head: Head,
    bytes: Vec<u8>,
    time: u64,
    boot: &'a str,
}

impl Writer<'_> {
    fn add(&mut self, zone: Option<&str>, event: &Event) {
        let (bytes, head) = line(&self.head, self.time, self.boot, zone, event);
        self.bytes.extend_from_slice(&bytes);
        self.head = head;
    }

    /// Bytes that these events take.
    fn measure(&self, events: &[(Option<&str>, Event)]) -> usize {
        let lines = events.iter().map(|(zone, event)| line(&self.head, self.time, self.boot, *zone, event));
        // A later position may have one digit more.
        lines.map(|(bytes, _)| bytes.len() + 1).sum()
    }
}

/// The complete lines of a segment, without their ends.
pub fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split_inclusive(|byte| *byte == b'\n').filter_map(|line| line.strip_suffix(b"\n"))
}

/// The lines of a segment from the record at `position` on, as text. What stands there altered comes along, so that
/// whoever verifies finds it.
pub fn records_from(bytes: &[u8], position: u64) -> impl Iterator<Item = String> {
    let before = move |line: &&[u8]| read(line).is_none_or(|(_, head)| head.position < position);
    lines(bytes).skip_while(before).map(|line| String::from_utf8_lossy(line).into_owned())
}

fn length(bytes: &[u8]) -> u64 {
    count(bytes.len())
}

fn count(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
