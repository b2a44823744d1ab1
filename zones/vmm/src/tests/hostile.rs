//! A guest that writes random and adversarial values to everything it can reach, from several processors at once.
//!
//! The machine survives or ends with a reason; after a reset a well-behaved guest finds it as at power-on. What is
//! tried follows from a seed, which a failure names.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use devices::virtio::balloon::Balloon;
use devices::virtio::console::Console;
use devices::virtio::counters::Counters;
use devices::virtio::rng::Rng;
use devices::virtio::vsock::Vsock;
use devices::virtio::{SharedRegion, VirtioDevice};
use tracing::span;

use super::*;
use crate::tpm::Tpm;

/// Processors, entries of each one's script, and where the scripts lie.
const PROCESSORS: u8 = 4;
const ENTRIES: u32 = 4000;
const SCRIPTS: u32 = 0x10_0000;
const SCRIPT_SIZE: u32 = 0x1_0000;

/// Where each processor says that it was there.
const MARKS: u32 = 0x7080;
const MARK: u32 = 0x1357_9BDF;

/// Rings, descriptors, headers and data: pages of it are given to devices as whatever they ask for.
const MATERIAL: u64 = 0x20_0000;
const MATERIAL_PAGES: u64 = 64;

/// What the pages hold, in turn.
const KINDS: u32 = 3;
const DESCRIPTORS: u32 = 0;
const HEADERS: u32 = 1;
const RING: u32 = 2;

/// The TPM's page.
const TPM: u32 = 0xFED4_0000;

/// The first function without a device.
const BEHIND: u8 = FIRST_DEVICE + 5;

/// Lines that one run may log, whatever the guest does.
const LINES: usize = 100;

/// A small generator of random numbers (SplitMix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn any(&mut self) -> u32 {
        u32::try_from(self.next() >> 32).unwrap()
    }

    fn below(&mut self, end: u32) -> u32 {
        u32::try_from(self.next() % u64::from(end)).unwrap()
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.below(u32::try_from(choices.len()).unwrap())).unwrap()]
    }

    /// What breaks things, or anything.
    fn value(&mut self) -> u32 {
        let any = u32::try_from(self.next() >> 32).unwrap();
        self.one_of(&[
            0,
            1,
            2,
            3,
            0xF,
            0xFF,
            0x7FFF,
            0x8000,
            0xFFFF,
            0x7FFF_FFFF,
            0x8000_0000,
            u32::MAX,
            any,
            any,
        ])
    }

    /// A page of the material.
    fn page(&mut self, kind: u32) -> u32 {
        let number = self.below(u32::try_from(MATERIAL_PAGES).unwrap() / KINDS) * KINDS + kind;
        u32::try_from(MATERIAL).unwrap() + number * 4096
    }

    /// Where a driver could put a ring: in the material, sometimes off by a little, sometimes nowhere.
    fn ring(&mut self) -> u32 {
        let page =
            u32::try_from(MATERIAL).unwrap() + self.below(u32::try_from(MATERIAL_PAGES).unwrap()) * 4096;
        let odd = page + self.below(4096);
        self.one_of(&[
            page,
            page,
            page,
            odd,
            0x7F_F000,
            0x7F_FFF0,
            0x80_0000,
            0xFEE0_0000,
            u32::MAX,
            0xA_0000,
        ])
    }
}

/// Entries of a processor's script.
struct Script(Vec<[u32; 3]>);

impl Script {
    fn push(&mut self, what: u32, address: u32, value: u32) {
        self.0.push([what, address, value]);
    }

    /// One random access to something.
    fn access(&mut self, dice: &mut Dice) {
        let number = dice.one_of(&[0, 2, 3, 4, 5, 6, BEHIND]);
        let (ecam, bar) = places(number);
        let width = dice.one_of(&[1, 2, 4, 4, 5]);
        let offset = dice.below(0x40);
        let address = match dice.below(10) {
            0 => ecam + dice.below(0x100),
            1 => ecam + dice.below(0x8000),
            2 | 3 => bar + offset,
            4 => bar + 0x2000 + offset,
            5 => bar + 0x3000 + offset,
            6 | 7 => bar + 0x4000 + dice.below(8) * 16 + dice.one_of(&[0, 4, 8, 12, 13]),
            8 => bar + dice.below(0x1_0000),
            9 if dice.below(4) == 0 => {
                TPM + dice.one_of(&[8, 0x40, 0x48, 0x4C, 0x80, 0x84, 0xFFC]) + dice.below(4)
            }
            _ => dice.ring() & 0x7F_FFFF | 0x20_0000,
        };
        self.push(width, address, dice.value());
        if dice.below(50) == 0 {
            // The power ports are 0x600 and above.
            self.push(6, dice.below(0x600), dice.value());
        }
    }

    /// The steps of a TPM's driver, with a length that may be none.
    fn tpm(&mut self, dice: &mut Dice) {
        let length = dice.one_of(&[10, 10, 12, 3968, 3969, 9, 0]);
        let [a, b] = u16::try_from(length).unwrap().to_be_bytes().map(u32::from);
        let start = [(8, 1), (0x40, 1), (0x80, 0x0180), (0x84, a | b << 8), (0x4C, 1)];
        for (register, value) in start {
            self.push(4, TPM + register, value);
        }
        if dice.below(3) == 0 {
            self.push(4, TPM + 8, 2);
        }
    }

    /// The steps of a driver, with queues of its own kind.
    fn driver(&mut self, dice: &mut Dice) {
        let number = dice.one_of(&[2, 3, 4, 5, 6]);
        let (ecam, bar) = places(number);
        self.push(2, ecam + 4, 6);
        self.push(2, ecam + 0x42, 0x8000);
        for vector in 0..3 {
            self.push(4, bar + 0x4000 + vector * 16, 0xFEE0_0000);
            self.push(4, bar + 0x4008 + vector * 16, dice.one_of(&[0x41, 0x41, 0x1F, 0]));
            self.push(4, bar + 0x400C + vector * 16, 0);
        }
        for status in [0, 1, 3] {
            self.push(1, bar + 0x14, status);
        }
        let any = dice.any();
        let low = dice.one_of(&[0, 0, 1 << 28, 1 << 29, 1 << 28 | 1 << 29, 0x20, any]);
        for (select, features) in [(0, low), (1, 1)] {
            self.push(4, bar + 8, select);
            self.push(4, bar + 0xC, features);
        }
        self.push(1, bar + 0x14, 0xB);
        // Most rings are where rings can be: what is in them is hostile enough, and only then anybody looks.
        let sane = dice.below(4) != 0;
        for queue in 0..dice.one_of(&[1, 2, 3, 5]) {
            self.push(2, bar + 0x16, queue);
            let size = if sane { 1 << dice.below(7) } else { dice.value() };
            self.push(2, bar + 0x18, size);
            self.push(2, bar + 0x1A, dice.one_of(&[0, 1, 2, 0xFFFF]));
            for (register, kind) in [(0x20, DESCRIPTORS), (0x28, RING), (0x30, RING)] {
                let (low, high) =
                    if sane { (dice.page(kind), 0) } else { (dice.ring(), dice.one_of(&[0, 0, 1])) };
                self.push(4, bar + register, low);
                self.push(4, bar + register + 4, high);
            }
            self.push(2, bar + 0x1C, 1);
        }
        self.push(1, bar + 0x14, 0xF);
        for _ in 0..dice.below(6) {
            let queue = dice.below(6);
            self.push(2, bar + 0x3000 + queue * 4, queue);
        }
    }
}

/// What rings and buffers are made of: descriptors that loop, overlap, lead out of memory or to each other's tables,
/// rings with any index, and headers that the devices know.
fn material(dice: &mut Dice) -> Vec<u8> {
    let mut bytes = Vec::new();
    for page in 0..u32::try_from(MATERIAL_PAGES).unwrap() {
        let kind = page % KINDS;
        for _ in 0..256 {
            let kind_of_buffer = dice.below(KINDS);
            let address = if dice.below(4) == 0 { dice.ring() } else { dice.page(kind_of_buffer) };
            let address = u64::from(address);
            let any = dice.any();
            let length = dice.one_of(&[0, 1, 16, 44, 100, 512, 4096, 0x10_0000, u32::MAX, any]);
            let flags = dice.one_of(&[0_u16, 1, 1, 2, 3, 4, 5, 6, 7, 0xFFFF]);
            let next = u16::try_from(dice.below(20)).unwrap();
            let entry = match kind {
                DESCRIPTORS => [
                    &address.to_le_bytes()[..],
                    &length.to_le_bytes(),
                    &flags.to_le_bytes(),
                    &next.to_le_bytes(),
                ]
                .concat(),
                // A vsock header from this guest to the host's port, any operation, credit of any size.
                HEADERS => {
                    [3_u64, 2, u64::from(PORT) << 32 | 1000, u64::from(length) | u64::from(next % 9) << 48]
                        .iter()
                        .flat_map(|word| word.to_le_bytes())
                        .take(16)
                        .collect()
                }
                // A ring's flags and index, and small numbers; block requests begin like this, too.
                _ => [0_u16, next, 0, next, 1, next, 0, 0].map(u16::to_le_bytes).concat(),
            };
            bytes.extend(entry);
        }
    }
    bytes
}

/// The machine with one device of each kind, and their counters; the disk comes first.
fn machine_with_everything() -> Option<(Machine, Vec<Arc<Counters>>)> {
    let mut machine = machine("hostile guest", &[])?;
    let (file, _) = two_sectors();
    let sink = File::options().write(true).open("/dev/null").unwrap();
    let file_of_memory = machine.vm.ram().file.try_clone().unwrap();
    let region = SharedRegion { guest_address: 0, size: MEMORY, offset: 0, file: file_of_memory };
    let block = Block::new(file, Access::ReadWrite, "test").unwrap();
    let console = Console::new(sink.into()).unwrap();
    let rng = Rng::new();
    let vsock = Vsock::new(3, &[PORT], Box::new(|_, _| true));
    let balloon = Balloon::new(vec![region]);
    let counters =
        vec![block.counters(), console.counters(), rng.counters(), vsock.counters(), balloon.counters()];
    let devices: [Box<dyn VirtioDevice>; 5] =
        [Box::new(block), Box::new(console), Box::new(rng), Box::new(vsock), Box::new(balloon)];
    for device in devices {
        machine.attach(device).unwrap();
    }
    machine.attach_tpm(Arc::new(Tpm::new().unwrap()));
    Some((machine, counters))
}

/// A TPM that refuses every command; how many came whole.
fn refusing_tpm(mut socket: UnixStream) -> JoinHandle<usize> {
    std::thread::spawn(move || {
        let mut commands = 0;
        let mut header = [0; 10];
        while socket.read_exact(&mut header).is_ok() {
            let length = u32::from_be_bytes(header[2..6].try_into().unwrap());
            let mut rest = vec![0; usize::try_from(length).unwrap() - header.len()];
            socket.read_exact(&mut rest).unwrap();
            commands += 1;
            // Whoever asked may be gone.
            let _gone = socket.write_all(&[0x80, 1, 0, 0, 0, 10, 0, 0, 1, 1]);
        }
        commands
    })
}

/// Counts lines.
struct Counter;

static COUNT: AtomicUsize = AtomicUsize::new(0);

impl tracing::Subscriber for Counter {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::INFO
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {
        COUNT.fetch_add(1, Ordering::Relaxed);
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// Fills the memory from the seed.
fn prepare(memory: &GuestMemoryMmap<()>, dice: &mut Dice) {
    memory.write_slice(guest::SCRIPT, GuestAddress(CODE)).unwrap();
    memory.write_slice(guest::SCRIPT_OTHERS, GuestAddress(0x8000)).unwrap();
    write_descriptor_tables(memory);
    memory.write_slice(&material(dice), GuestAddress(MATERIAL)).unwrap();
    for processor in 0..u32::from(PROCESSORS) {
        let mut script = Script(Vec::new());
        script.push(4, MARKS + 4 * processor, MARK);
        while script.0.len() < usize::try_from(ENTRIES).unwrap() {
            match dice.below(36) {
                0..=2 => script.driver(dice),
                3 => script.tpm(dice),
                _ => script.access(dice),
            }
        }
        let start = SCRIPTS + processor * SCRIPT_SIZE;
        memory.write_obj(start, GuestAddress(u64::from(0x7040 + 4 * processor))).unwrap();
        let bytes: Vec<u8> = script.0.iter().flatten().flat_map(|word| word.to_le_bytes()).collect();
        assert!(bytes.len() < usize::try_from(SCRIPT_SIZE).unwrap());
        memory.write_slice(&bytes, GuestAddress(start.into())).unwrap();
    }
}

#[test]
fn native_a_hostile_guest_harms_nothing_but_itself() {
    // Alone in this process that sets one; another test's lines would only be counted with these.
    let _only = tracing::subscriber::set_global_default(Counter);
    let Some((mut machine, counters)) = machine_with_everything() else { return };
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let (first, runs) = match std::env::var("BULKHEAD_SEED") {
        Ok(seed) => (seed.parse().unwrap(), 1),
        Err(_) => (u64::from(clock.subsec_nanos()), if soak() { 500 } else { 8 }),
    };
    let mut ends = String::new();
    let mut commands = 0;
    let mut seen = [false; PROCESSORS as usize];
    for seed in first..first + runs {
        println!("BULKHEAD_SEED={seed}");
        prepare(&machine.vm.ram().memory, &mut Dice(seed));
        let before = COUNT.load(Ordering::Relaxed);
        // A guest that destroyed its own code may never end: then we end it.
        let limit = Timespec { tv_sec: 3, tv_nsec: 0 };
        let (data, far_end) = UnixStream::pair().unwrap();
        let tpm = refusing_tpm(far_end);
        let connected = machine.connect_tpm(data.into()).unwrap().unwrap();
        let end = run_processors(&machine, PROCESSORS, &limit);
        connected.end(machine.board.tpm.as_ref().unwrap());
        commands += tpm.join().unwrap();
        // It kept to the rules, so its end has another reason.
        assert!(!format!("{end:?}").contains("TPM"), "{end:?}");
        let lines = COUNT.load(Ordering::Relaxed) - before;
        for (mark, seen) in (MARKS..).step_by(4).zip(&mut seen) {
            let memory = &machine.vm.ram().memory;
            *seen |= memory.read_obj::<u32>(GuestAddress(mark.into())).unwrap() == MARK;
        }
        assert!(lines <= LINES, "{lines} lines logged");
        write!(ends, "{end:?} ").unwrap();
        machine.reset().unwrap();
        // The disk's two sectors are whatever the guest wrote.
        let memory = &machine.vm.ram().memory;
        prepare_reader(memory);
        assert_eq!(run(&machine), End::ShutDown);
        assert_eq!(memory.read_obj::<u8>(GuestAddress(0xD300)).unwrap(), 0, "the disk does not work");
        machine.reset().unwrap();
    }
    println!("{ends}{commands} commands to the TPM");
    assert!(commands > 0 || runs == 1, "no command reached the TPM");
    // A device may have written over one run's marks, where the guest told it to; not over all.
    assert!(runs == 1 || seen == [true; PROCESSORS as usize], "processors did nothing: {seen:?}");
    // The values reach the devices: each one found fault with something.
    for (number, counters) in counters.iter().enumerate() {
        let found = counters.malformed.get() + counters.refused.get();
        println!(
            "device {number}: {} malformed, {} refused",
            counters.malformed.get(),
            counters.refused.get()
        );
        assert!(found > 0 || runs == 1, "device {number} saw nothing hostile");
    }
}
