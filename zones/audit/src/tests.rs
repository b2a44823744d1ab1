//! A log in memory that lives through whole disks, crashes and attackers.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::log::{Action, lines, records_from};
use super::record::Hash;
use super::*;

const SMALL: Limits = Limits { segment_bytes: 2000, segments: 3 };
const BOOT: &str = "0e1c-boot";

/// A log and the disk under it.
struct World {
    limits: Limits,
    log: Log,
    disk: BTreeMap<u64, Vec<u8>>,
    steady: u64,
}

impl World {
    fn new(limits: Limits) -> Self {
        let mut world = Self {
            limits,
            log: Log::open(limits, BOOT, &[], Stamp { time: 0, steady: 0 }).0,
            disk: BTreeMap::new(),
            steady: 0,
        };
        world.reopen();
        world
    }

    fn now(&self) -> Stamp {
        Stamp { time: 1_790_000_000 + self.steady, steady: self.steady }
    }

    /// As after a restart; the events with which it began.
    fn reopen(&mut self) -> Vec<Event> {
        let found: Vec<(u64, Vec<u8>)> = self.disk.clone().into_iter().collect();
        let (log, actions, events) = Log::open(self.limits, BOOT, &found, self.now());
        self.log = log;
        for action in &actions {
            self.act(action);
        }
        for event in &events {
            self.append(event);
        }
        events
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Write { segment, length, bytes } => {
                let file = self.disk.entry(*segment).or_default();
                assert_eq!(file.len() as u64, *length, "the log knows its files");
                file.extend_from_slice(bytes);
            }
            Action::Truncate { segment, length } => {
                self.disk.get_mut(segment).unwrap().truncate(usize::try_from(*length).unwrap());
            }
            Action::Remove { segment } => assert!(self.disk.remove(segment).is_some()),
        }
    }

    fn append(&mut self, event: &Event) {
        self.steady += 1;
        if let Some(step) = self.log.append(self.now(), Some("office"), event) {
            for action in &step.actions {
                self.act(action);
            }
            self.log.commit(step);
        }
    }

    fn all(&self) -> Vec<Vec<u8>> {
        self.disk.values().flat_map(|file| lines(file)).map(<[u8]>::to_vec).collect()
    }

    fn verify(&self) -> Result<verify::Verified, Fault> {
        check(&self.all(), Some(self.log.head()))
    }

    fn assert_invariants(&self) {
        let verified = self.verify().unwrap();
        assert_eq!(verified.head, *self.log.head());
        // A segment of which nothing is left has no place in the one file.
        let segments = self.disk.values().filter(|file| !file.is_empty()).count();
        assert!(segments <= self.limits.segments, "{segments} segments");
        for file in self.disk.values() {
            assert!(file.len() as u64 <= self.limits.segment_bytes, "{} bytes", file.len());
        }
    }
}

fn check(all: &[Vec<u8>], known: Option<&Head>) -> Result<verify::Verified, Fault> {
    verify(all.iter().map(Vec::as_slice), None, known)
}

fn died() -> Event {
    Event::ProcessDied { process: "vmm".to_owned(), cause: "was killed".to_owned() }
}

#[test]
fn a_record_is_a_line_that_a_person_can_read() {
    let mut world = World::new(Limits::default());
    world.append(&died());
    let text = String::from_utf8(world.all().pop().unwrap()).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["position"], 2);
    assert_eq!(value["time"], 1_790_000_002_u64);
    assert_eq!(value["boot"], BOOT);
    assert_eq!(value["zone"], "office");
    assert_eq!(
        value["event"],
        serde_json::json!({"kind": "process_died", "process": "vmm", "cause": "was killed"})
    );
    assert_eq!(value["hash"], world.log.head().hash.as_str());
}

#[test]
fn an_old_log_stays_bounded_and_proves_what_was_dropped() {
    let mut world = World::new(SMALL);
    for _ in 0..200 {
        // Slowly enough to be written each time.
        world.steady += 1800;
        world.append(&died());
        world.assert_invariants();
    }
    let verified = world.verify().unwrap();
    assert!(verified.first > 100, "{verified:?}");
    // Without the record of the drop the beginning is not believed.
    let kept: Vec<Vec<u8>> = world.all().into_iter().take(3).collect();
    assert_eq!(check(&kept, None), Err(Fault::BeginningRemoved { first: verified.first }));
    // Nor is a beginning that was removed by somebody else.
    let rest: Vec<Vec<u8>> = world.all().into_iter().skip(1).collect();
    assert_eq!(check(&rest, None), Err(Fault::BeginningRemoved { first: verified.first + 1 }));
}

#[test]
fn a_log_in_parts_is_verified_part_by_part() {
    let mut world = World::new(Limits::default());
    for _ in 0..5 {
        world.append(&died());
    }
    let all = world.all();
    let (one, two) = all.split_at(2);
    let middle = check(one, None).unwrap().head;
    let after = |head: &Head| verify(two.iter().map(Vec::as_slice), Some(head), Some(world.log.head()));
    assert_eq!(after(&middle).unwrap().first, 3);
    let other = after(&Head { hash: Hash::none(), ..middle });
    assert!(matches!(other, Err(Fault::Foreign { line: 1, record: 3, .. })), "{other:?}");
}

#[test]
fn a_known_end_cannot_be_cut_off_or_rewritten() {
    let mut world = World::new(Limits::default());
    world.append(&died());
    world.append(&Event::ZoneStarted);
    let known = world.log.head().clone();
    let mut all = world.all();
    all.pop();
    assert_eq!(check(&all, Some(&known)), Err(Fault::EndRemoved { expected: 3, found: 2 }));
    // Another log, whole in itself.
    let mut other = World::new(Limits::default());
    other.append(&Event::ZoneStarted);
    other.append(&Event::ZoneStarted);
    assert!(check(&other.all(), None).is_ok());
    let replaced = check(&other.all(), Some(&known));
    assert!(matches!(replaced, Err(Fault::EndReplaced { position: 3, .. })), "{replaced:?}");
}

#[test]
fn a_torn_record_is_cut_off_and_reported() {
    let mut world = World::new(Limits::default());
    world.append(&died());
    let whole = world.disk[&1].len();
    world.append(&died());
    let file = world.disk.get_mut(&1).unwrap();
    file.pop();
    let bytes = (file.len() - whole) as u64;
    assert_eq!(world.reopen(), [Event::ZonedStarted { again: true }, Event::RecordTorn { bytes }]);
    world.assert_invariants();
}

#[test]
fn more_than_a_torn_write_is_no_torn_write() {
    let mut world = World::new(Limits::default());
    world.append(&died());
    world.disk.get_mut(&1).unwrap().extend_from_slice(&[b'x'; 20_000]);
    let events = world.reopen();
    let [Event::ZonedStarted { .. }, Event::ChainBroken { fault }] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert!(fault.contains("behind record 2: expected nothing"), "{fault}");
    assert!(world.disk[&1].len() > 20_000, "what was found is kept");
}

#[test]
fn altered_records_are_reported_once_the_log_is_opened_and_it_goes_on() {
    let mut world = World::new(Limits::default());
    world.append(&died());
    world.append(&died());
    let file = world.disk.get_mut(&1).unwrap();
    let at = file.windows(6).position(|part| part == b"killed").unwrap();
    file[at] = b'K';
    let events = world.reopen();
    let [Event::ZonedStarted { .. }, Event::ChainBroken { fault }] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert!(fault.contains("record 2 (line 2) was altered: expected hash "), "{fault}");
    assert!(fault.contains(", found hash "), "{fault}");
    assert!(matches!(world.verify(), Err(Fault::Altered { line: 2, record: 2, .. })));
    assert_eq!(world.all().len(), 5);
}

#[test]
fn a_full_disk_loses_events_and_says_how_many() {
    let mut world = World::new(Limits::default());
    for _ in 0..3 {
        let step = world.log.append(world.now(), None, &died());
        assert!(step.is_some());
        // The write fails: nothing is committed.
        world.log.lose();
    }
    world.append(&died());
    world.assert_invariants();
    let text = world.all().concat();
    assert!(String::from_utf8(text).unwrap().contains(r#""kind":"events_lost","count":3"#));
}

#[test]
fn what_a_guest_repeats_is_counted_and_pushes_nothing_out() {
    let mut world = World::new(Limits::default());
    world.append(&Event::PolicyFinding { finding: "keep me".into() });
    // Two days, and a bit, in which a guest dies every second.
    for _ in 0..172_900 {
        world.append(&died());
    }
    let text = String::from_utf8(world.all().concat()).unwrap();
    assert!(text.contains("keep me"), "the host's own record was pushed out");
    let records = world.all().len();
    assert!((150..300).contains(&records), "{records} records");
    assert!(text.contains(r#""kind":"more_of_the_same","of":"process_died","count":1799"#), "{text}");
    world.assert_invariants();
    // Another kind, and another zone, are not silenced by it; nor is the last count lost when the host goes down.
    world.append(&Event::ForbiddenSystemCall { process: "vmm".into() });
    world.append(&Event::PowerOff { by: "client".into() });
    let text = String::from_utf8(world.all().concat()).unwrap();
    assert!(text.contains("forbidden_system_call") && text.contains("power_off"), "{text}");
    let last: Vec<Record> =
        world.all().iter().rev().take(2).map(|line| Record::parse(line).unwrap()).collect();
    assert!(matches!(last[1].event, Some(Event::MoreOfTheSame { .. })), "{last:?}");
    let said: u64 = world.all().iter().filter_map(|line| Record::parse(line)?.json["count"].as_u64()).sum();
    let written = text.matches("process_died").count() - text.matches("\"of\":\"process_died\"").count();
    assert_eq!(said + written as u64, 172_900, "every one is written or counted");
}

#[test]
fn a_flood_of_the_host_itself_is_counted_too() {
    let mut world = World::new(Limits::default());
    for _ in 0..1000 {
        // All at the same time.
        if let Some(step) = world.log.append(world.now(), None, &Event::ZoneTakenOver) {
            step.actions.iter().for_each(|action| world.act(action));
            world.log.commit(step);
        }
    }
    let records = world.all().len();
    assert!(records <= 256, "{records}");
    world.steady += 60;
    world.append(&Event::ZoneTakenOver);
    assert!(String::from_utf8(world.all().concat()).unwrap().contains(r#""kind":"events_lost","count":7"#));
    world.assert_invariants();
}

#[test]
fn the_segments_in_one_file_are_the_segments() {
    let limits = SMALL;
    let mut world = World::new(limits);
    let mut file = vec![0_u8; usize::try_from(limits.file_bytes()).unwrap()];
    let carry = |file: &mut Vec<u8>, actions: &[Action]| {
        for action in actions {
            let (offset, bytes) = area::write(limits, action);
            let offset = usize::try_from(offset).unwrap();
            file[offset..offset + bytes.len()].copy_from_slice(&bytes);
        }
    };
    let (mut log, actions, _) = Log::open(limits, BOOT, &[], world.now());
    carry(&mut file, &actions);
    for number in 0..200_u64 {
        world.steady += 3600;
        let step = log.append(world.now(), Some("office"), &died()).unwrap();
        carry(&mut file, &step.actions);
        log.commit(step);
        let (lines, torn) = area::records(limits, &file);
        let verified = check(&lines, Some(log.head())).unwrap();
        assert_eq!((verified.head, torn), (log.head().clone(), 0));
        if number % 7 == 0 {
            let found = area::segments(limits, &file);
            let (again, actions, events) = Log::open(limits, BOOT, &found, world.now());
            assert_eq!(events.len(), 1, "{events:?}");
            carry(&mut file, &actions);
            assert_eq!(again.head(), log.head());
            log = again;
        }
    }
    // A disk that lost the first half of a write.
    let step = log.append(world.now(), None, &died()).unwrap();
    let before = file.clone();
    carry(&mut file, &step.actions[..1]);
    let first = (0..file.len()).find(|at| file[*at] != before[*at]).unwrap();
    file[first..first + 40].fill(0);
    let (lines, torn) = area::records(limits, &file);
    assert!(torn > 40, "{torn}");
    check(&lines, None).unwrap();
    let (_, _, events) = Log::open(limits, BOOT, &area::segments(limits, &file), world.now());
    assert!(
        matches!(events.as_slice(), [Event::ZonedStarted { .. }, Event::RecordTorn { .. }]),
        "{events:?}"
    );
}

#[test]
fn a_crash_between_the_record_of_a_drop_and_the_drop_is_repaired() {
    let mut world = World::new(SMALL);
    loop {
        let before = world.disk.clone();
        world.append(&died());
        if world.disk.len() == before.len() && !world.disk.contains_key(before.keys().next().unwrap()) {
            let (oldest, bytes) = before.into_iter().next().unwrap();
            world.disk.insert(oldest, bytes);
            break;
        }
    }
    assert_eq!(world.disk.len(), 4);
    world.verify().unwrap();
    world.reopen();
    world.assert_invariants();
}

#[test]
fn a_page_begins_at_its_position_and_hides_nothing() {
    let mut world = World::new(Limits::default());
    for _ in 0..3 {
        world.append(&died());
    }
    let file = world.disk[&1].clone();
    let count = u64::try_from(lines(&file).count()).unwrap();
    let places = |file: &[u8], from| records_from(file, from).map(|(place, _)| place).collect::<Vec<_>>();
    // Whichever record is altered: it keeps its place, at the beginning of a page, too.
    for altered in 0..=count {
        let mut file = file.clone();
        let ends: Vec<usize> = (0..file.len()).filter(|at| file[*at] == b'\n').collect();
        if let Some(end) = usize::try_from(altered).ok().and_then(|altered| ends.get(altered)) {
            file[end - 5] ^= 1;
        }
        for from in 1..=count + 1 {
            assert_eq!(places(&file, from), (from..=count).collect::<Vec<_>>(), "{altered} {from}");
        }
    }
    assert_eq!(places(b"one\ntwo\n", 7), [7, 8]);
}

#[test]
fn texts_of_events_are_printable_and_short() {
    assert_eq!(event::text("a\u{1b}[31m\nb"), "a [31m b");
    assert_eq!(event::text(&"x".repeat(1000)).len(), 300);
}

/// What happens to a log.
#[derive(Clone, Debug)]
enum Operation {
    Append(u8),
    Reopen,
    /// The machine loses power while it writes: this many bytes of the record arrive.
    Tear(usize),
    FullDisk,
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        8 => any::<u8>().prop_map(Operation::Append),
        1 => Just(Operation::Reopen),
        1 => (0_usize..400).prop_map(Operation::Tear),
        1 => Just(Operation::FullDisk),
    ]
}

fn some_event(choice: u8) -> Event {
    match choice % 4 {
        0 => Event::ZoneStarted,
        1 => Event::ZoneFailed { cause: "x\"\\\u{7f}ü".repeat(usize::from(choice)) },
        2 => Event::PowerOff { by: "client".to_owned() },
        _ => died(),
    }
}

proptest! {
    #[test]
    fn property_a_log_holds_through_crashes_and_full_disks(operations in prop::collection::vec(operation(), 1..80)) {
        let mut world = World::new(Limits { segment_bytes: 4000, segments: 3 });
        for operation in operations {
            match operation {
                Operation::Append(choice) => {
                    let before = world.log.head().position;
                    world.append(&some_event(choice));
                    prop_assert!(world.log.head().position > before);
                }
                Operation::Reopen => {
                    let events = world.reopen();
                    prop_assert!(matches!(events.as_slice(), [Event::ZonedStarted { .. }]), "{:?}", events);
                }
                Operation::Tear(arrived) => {
                    let step = world.log.append(world.now(), None, &died()).unwrap();
                    let Some(Action::Write { segment, bytes, .. }) = step.actions.first() else { unreachable!() };
                    let arrived = &bytes[..arrived.min(bytes.len())];
                    world.disk.entry(*segment).or_default().extend_from_slice(arrived);
                    let events = world.reopen();
                    prop_assert!(!events.iter().any(|event| matches!(event, Event::ChainBroken { .. })), "{:?}", events);
                }
                Operation::FullDisk => {
                    let _refused = world.log.append(world.now(), None, &died());
                    world.log.lose();
                }
            }
            world.steady += 1;
            world.assert_invariants();
        }
    }

    #[test]
    fn property_no_change_goes_unseen(
        count in 2_usize..30, line: prop::sample::Index, at: prop::sample::Index, bit in 0_u8..8, how in 0..4,
    ) {
        let mut world = World::new(Limits { segment_bytes: 2000, segments: 30 });
        for number in 0..count {
            world.append(&some_event(u8::try_from(number).unwrap()));
        }
        let known = world.log.head().clone();
        let mut all = world.all();
        prop_assert!(check(&all, Some(&known)).is_ok());
        let line = line.index(all.len());
        match how {
            0 => {
                let at = at.index(all[line].len());
                all[line][at] ^= 1 << bit;
            }
            1 => drop(all.remove(line)),
            2 => {
                let other = at.index(all.len());
                prop_assume!(all[line] != all[other]);
                all.swap(line, other);
            }
            _ => {
                let copy = all[line].clone();
                all.insert(at.index(all.len()), copy);
            }
        }
        prop_assert!(check(&all, Some(&known)).is_err());
    }

    #[test]
    fn property_any_files_are_opened(files in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..6)) {
        let mut world = World::new(SMALL);
        world.disk = (1..).zip(files).collect();
        world.reopen();
        let position = world.log.head().position;
        prop_assert!(position >= 1);
        world.append(&died());
        prop_assert_eq!(world.log.head().position, position + 1);
    }
}
