//! Every frame on the wire and every inner packet, with its time, in memory and optionally in a pcap file.
//!
//! Memory is bounded: past the limit the oldest entries go, and whoever asks for them is told so, because a
//! leak test that does not see every frame proves nothing.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::addresses::Site;

/// Where a recorded packet was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// A frame that the host put on the wire.
    FromHost,
    /// A frame for the host.
    ToHost,
    /// An IP packet that a gateway took out of its tunnel.
    Inner(Site),
}

/// One recorded packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Time since the gateway started.
    pub time: Duration,
    /// Where it was seen.
    pub direction: Direction,
    /// The whole frame or packet.
    pub bytes: Vec<u8>,
}

/// A point in the record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(u64);

/// Frames were asked for that are no longer kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{lost} frames since the mark were not kept: the record is full")]
pub struct RecordLost {
    /// How many.
    pub lost: u64,
}

/// The record, shared by the gateway's thread and whoever looks.
#[derive(Debug)]
pub struct Recorder {
    limit: usize,
    record: Mutex<Record>,
    grown: Condvar,
}

#[derive(Debug, Default)]
struct Record {
    frames: VecDeque<Frame>,
    /// Number of the first kept frame.
    first: u64,
    bytes: usize,
    pcap: Option<BufWriter<File>>,
}

/// What an entry costs beside its bytes.
const OVERHEAD: usize = size_of::<Frame>();

impl Recorder {
    /// Keeps up to `limit` bytes, and writes to `pcap` when given.
    ///
    /// # Errors
    /// The pcap file cannot be made.
    pub fn new(limit: usize, pcap: Option<&Path>) -> io::Result<Self> {
        let pcap = pcap.map(create_pcap).transpose()?;
        Ok(Self { limit, record: Mutex::new(Record { pcap, ..Record::default() }), grown: Condvar::new() })
    }

    /// Records one packet.
    pub fn add(&self, frame: Frame) {
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pcap) = &mut record.pcap
            && !matches!(frame.direction, Direction::Inner(_))
            && write_pcap(pcap, &frame.bytes).is_err()
        {
            // A full disk must not take the network down; the record in memory goes on.
            record.pcap = None;
        }
        record.bytes += frame.bytes.len() + OVERHEAD;
        record.frames.push_back(frame);
        while record.bytes > self.limit {
            let Some(oldest) = record.frames.pop_front() else { break };
            record.bytes -= oldest.bytes.len() + OVERHEAD;
            record.first += 1;
        }
        drop(record);
        self.grown.notify_all();
    }

    /// Hands what is buffered for the pcap file to the file.
    pub fn flush(&self) {
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pcap) = &mut record.pcap
            && pcap.flush().is_err()
        {
            record.pcap = None;
        }
    }

    /// The end of the record as it is now.
    #[must_use]
    pub fn mark(&self) -> Mark {
        let record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        Mark(record.end())
    }

    /// Every packet since `mark`.
    ///
    /// # Errors
    /// [`RecordLost`] when some are no longer kept.
    pub fn since(&self, mark: Mark) -> Result<Vec<Frame>, RecordLost> {
        let record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(record.since(mark)?.cloned().collect())
    }

    /// Waits until a packet since `mark` satisfies `wanted`, and returns it; `None` when the deadline passed.
    ///
    /// # Errors
    /// [`RecordLost`] when some packets since the mark are no longer kept.
    pub fn wait_for(
        &self,
        mark: Mark,
        deadline: Instant,
        mut wanted: impl FnMut(&Frame) -> bool,
    ) -> Result<Option<Frame>, RecordLost> {
        let mut mark = mark;
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(found) = record.since(mark)?.find(|frame| wanted(frame)) {
                return Ok(Some(found.clone()));
            }
            mark = Mark(record.end());
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            record = self.grown.wait_timeout(record, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Record {
    fn end(&self) -> u64 {
        self.first + u64::try_from(self.frames.len()).expect("the record fits memory")
    }

    fn since(&self, mark: Mark) -> Result<impl Iterator<Item = &Frame>, RecordLost> {
        let lost = self.first.saturating_sub(mark.0);
        if lost > 0 {
            return Err(RecordLost { lost });
        }
        let skip = usize::try_from(mark.0 - self.first).expect("the record fits memory");
        Ok(self.frames.iter().skip(skip))
    }
}

/// Starts a pcap file, link type Ethernet (draft-ietf-opsawg-pcap, section 4).
fn create_pcap(path: &Path) -> io::Result<BufWriter<File>> {
    let mut file = BufWriter::new(File::create(path)?);
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 262_144, 1] {
        file.write_all(&word.to_le_bytes())?;
    }
    Ok(file)
}

fn write_pcap(file: &mut BufWriter<File>, bytes: &[u8]) -> io::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // The format has 32 bits of seconds, unsigned: good until 2106.
    let seconds = u32::try_from(now.as_secs()).unwrap_or(u32::MAX);
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    for word in [seconds, now.subsec_micros(), length, length] {
        file.write_all(&word.to_le_bytes())?;
    }
    file.write_all(bytes)
}
