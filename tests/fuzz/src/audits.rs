//! The audit log's file, as an attacker with the disk in hand leaves it.

use audit::log::{Action, lines};
use audit::{Event, Limits, Log, Record, Stamp, area, verify};

/// Small, so that inputs reach every slot.
const LIMITS: Limits = Limits { segment_bytes: 2048, segments: 3 };

/// Whatever stands in the file: the log opens, goes on within its bounds, and what it wrote itself verifies when
/// nothing was wrong before.
pub(crate) fn audit_log(input: &[u8]) {
    let size = usize::try_from(LIMITS.file_bytes()).unwrap_or(usize::MAX);
    let mut file = input.get(..size.min(input.len())).unwrap_or(input).to_vec();
    file.resize(size, 0);
    let now = Stamp { time: 1, steady: 1 };
    let (mut log, actions, events) = Log::open(LIMITS, "boot", &area::segments(LIMITS, &file), now);
    let carry = |file: &mut Vec<u8>, action: &Action| {
        let (offset, bytes) = area::write(LIMITS, action);
        let offset = usize::try_from(offset).expect("within the file");
        let place = file.get_mut(offset..offset + bytes.len()).expect("no write leaves the file");
        place.copy_from_slice(&bytes);
    };
    actions.iter().for_each(|action| carry(&mut file, action));
    let broken = events.iter().any(|event| matches!(event, Event::ChainBroken { .. }));
    for event in events.iter().chain([&Event::ZoneStarted, &Event::PowerOff { by: "x".to_owned() }]) {
        // Larger than a segment here: only what was found wrong.
        if matches!(event, Event::ChainBroken { .. }) {
            continue;
        }
        let Some(step) = log.append(now, Some("office"), event) else { continue };
        step.actions.iter().for_each(|action| carry(&mut file, action));
        log.commit(step);
    }
    let (records, _) = area::records(LIMITS, &file);
    let verified = verify(records.iter().map(Vec::as_slice), None, Some(log.head()));
    assert!(broken || verified.is_ok(), "{verified:?} after {events:?}");
    for (_, bytes) in area::segments(LIMITS, &file) {
        lines(&bytes).for_each(|line| drop(Record::parse(line)));
        assert!(audit::log::records_from(&bytes, 2).count() <= lines(&bytes).count());
    }
}
