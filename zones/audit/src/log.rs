//! Which bytes go into which segment, and which segment goes.
//!
//! ```text
//! append(event) ── within its budget? ── no ──> counted, named by a later record
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

use crate::budgets::{Budgets, Key};
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
    /// Some thousand events: with the one segment more that [`crate::area`] needs it is a file of one MiB.
    fn default() -> Self {
        Self { segment_bytes: 64 * 1024, segments: 15 }
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
    said: Vec<Key>,
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
    strangers: Budgets,
    lost: u64,
}

/// Events of the host at once, and seconds for each one more.
const HOST_RATION: (u64, u64) = (256, 60);

/// The most counts that come with one event.
const MAX_COUNTS: usize = 16;

/// No step writes more bytes: three records with texts and [`MAX_COUNTS`] short ones.
const MAX_STEP: usize = 16 * 1024;

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
            strangers: Budgets::default(),
            lost: 0,
        };
        let mut actions = Vec::new();
        let (mut through, mut again, mut torn, mut foreign) = (0, false, None, None);
        for (index, (number, bytes)) in found.iter().enumerate() {
            let (mut length, mut kept) = (length(bytes), bytes.as_slice());
            match tail(bytes) {
                Tail::Whole => {}
                Tail::Torn(whole) if index + 1 == found.len() => {
                    torn = Some(length.saturating_sub(count(whole)));
                    length = count(whole);
                    kept = bytes.get(..whole).unwrap_or(kept);
                    actions.push(Action::Truncate { segment: *number, length });
                }
                // No write of the log leaves this. Nothing is written behind it.
                Tail::Torn(_) | Tail::Foreign => {
                    length = limits.segment_bytes;
                    foreign = Some(index);
                }
            }
            for (record, head) in lines(kept).filter_map(|line| read(line).ok()) {
                through = dropped(&record.event).map_or(through, |last| last.position.max(through));
                again = record.boot == boot;
                log.head = head;
            }
            log.segments.push_back(Segment { number: *number, length, last: log.head.clone() });
        }
        let mut events = vec![Event::ZonedStarted { again }];
        events.extend(torn.map(|bytes| Event::RecordTorn { bytes }));
        // A new segment of which nothing arrived.
        log.segments.pop_back_if(|last| last.length == 0);
        let mut gone = 0;
        // A crash came between the record of a drop and the drop; or somebody made segments.
        while log.segments.len() > limits.segments
            && let Some(oldest) = log.segments.pop_front()
        {
            gone += 1;
            actions.push(Action::Remove { segment: oldest.number });
            if oldest.last.position > through {
                let hash = oldest.last.hash.as_str().to_owned();
                events.push(Event::RecordsDropped { through: oldest.last.position, hash });
            }
        }
        let torn_bytes = torn.map_or(0, |torn| usize::try_from(torn).unwrap_or(usize::MAX));
        let all = found.iter().enumerate().skip(gone).flat_map(|(index, (_, bytes))| {
            // Only the last one found was cut, even when nothing of it was left.
            let cut = if index + 1 == found.len() { torn_bytes } else { 0 };
            lines(bytes.get(..bytes.len().saturating_sub(cut)).unwrap_or(bytes))
        });
        if let Err(fault) = verify(all, None, None) {
            events.push(Event::ChainBroken { fault: fault.to_string() });
        } else if foreign.is_some_and(|index| index >= gone) {
            let last = log.head.position;
            let fault =
                format!("behind record {last}: expected nothing, found more than one torn write leaves");
            events.push(Event::ChainBroken { fault });
        }
        (log, actions, events)
    }

    /// An event. Nothing is to be done when it is one too many: it is counted.
    pub fn append(&mut self, now: Stamp, zone: Option<&str>, event: &Event) -> Option<Step> {
        let own = (zone.map(str::to_owned), event.kind());
        match event.origin() {
            Origin::Host if self.host.take(now.steady) => {}
            Origin::Host => {
                self.lose();
                return None;
            }
            Origin::Stranger if self.strangers.take(zone, event.kind(), now.steady) => {}
            Origin::Stranger => return None,
        }
        let mut writer =
            Writer { head: self.head.clone(), bytes: Vec::new(), time: now.time, boot: &self.boot };
        let mut segments = self.segments.clone();
        let mut actions = Vec::new();
        let mut events = Vec::new();
        if self.lost > 0 {
            events.push((None, Event::EventsLost { count: self.lost }));
        }
        let down = matches!(event, Event::PowerOff { .. });
        let counts = self.strangers.due(Some(&own), now.steady, down, MAX_COUNTS);
        let said: Vec<Key> = counts.iter().map(|(key, _)| key.clone()).collect();
        events.extend(counts.into_iter().map(|((zone, _), event)| (zone, event)));
        events.push((own.0, event.clone()));
        let expected: usize = writer.measure(&events);
        let room = |last: &Segment| last.length.saturating_add(count(expected)) <= self.limits.segment_bytes;
        let (number, length) = match segments.back().filter(|last| room(last)) {
            Some(last) => (last.number, last.length),
            None => (segments.back().map_or(1, |last| last.number.saturating_add(1)), 0),
        };
        if segments.back().is_none_or(|last| last.number != number) {
            segments.push_back(Segment { number, length: 0, last: self.head.clone() });
        }
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
            writer.add(zone.as_deref(), event);
        }
        let Writer { head, bytes, .. } = writer;
        if let Some(last) = segments.back_mut() {
            last.length = last.length.saturating_add(count(bytes.len()));
            last.last = head.clone();
        }
        actions.insert(0, Action::Write { segment: number, length, bytes });
        Some(Step { actions, segments, head, said })
    }

    /// The step's write is done. A segment that could not be removed is found again when the log is opened.
    pub fn commit(&mut self, step: Step) {
        self.segments = step.segments;
        self.head = step.head;
        self.lost = 0;
        self.strangers.said(&step.said);
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
    fn measure(&self, events: &[(Option<String>, Event)]) -> usize {
        let lines =
            events.iter().map(|(zone, event)| line(&self.head, self.time, self.boot, zone.as_deref(), event));
        // A later position may have one digit more.
        lines.map(|(bytes, _)| bytes.len() + 1).sum()
    }
}

/// How the last segment ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    /// With a complete line.
    Whole,
    /// In the middle of a write: everything from here on goes.
    Torn(usize),
    /// With more bytes that are no lines than one write has.
    Foreign,
}

/// Looks at the last segment's end. Where a disk lost part of a write there are zeros, in the middle of it too.
pub(crate) fn tail(bytes: &[u8]) -> Tail {
    let before_zeros = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let head = bytes.get(..before_zeros).unwrap_or(bytes);
    let whole = head.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    match bytes.len().saturating_sub(whole) {
        0 => Tail::Whole,
        torn if torn <= MAX_STEP => Tail::Torn(whole),
        _ => Tail::Foreign,
    }
}

/// The complete lines of a segment, without their ends.
pub fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split_inclusive(|byte| *byte == b'\n').filter_map(|line| line.strip_suffix(b"\n"))
}

/// The lines of a segment from the record at `position` on, as text, each with its place. What stands there altered comes
/// along, in the place that its neighbours leave it, so that whoever verifies finds it.
pub fn records_from(bytes: &[u8], position: u64) -> impl Iterator<Item = (u64, String)> {
    let own = |line: &[u8]| read(line).ok().map(|(_, head)| head.position);
    let known = (0..).zip(lines(bytes)).find_map(|(index, line)| Some(own(line)?.saturating_sub(index)));
    let mut place = known.unwrap_or(position).saturating_sub(1);
    let placed = lines(bytes).map(move |line| {
        place = own(line).unwrap_or(place.saturating_add(1));
        (place, line)
    });
    placed
        .skip_while(move |(place, _)| *place < position)
        .map(|(place, line)| (place, String::from_utf8_lossy(line).into_owned()))
}

fn length(bytes: &[u8]) -> u64 {
    count(bytes.len())
}

fn count(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
