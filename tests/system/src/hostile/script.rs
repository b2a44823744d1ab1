//! What the hostile zone's processors do: an honest beginning, then whatever a seed says.

use super::PROCESSORS;
use super::guest::{COUNTER, ENDED, POINTERS};
use crate::plan::Dice;

/// Functions of the zone's machine, in the order in which the VMM attaches them; a private disk comes last.
const CONSOLE: u32 = 2;
const ROOT_DISK: u32 = 3;
const RANDOM: u32 = 4;
const VSOCK: u32 = 5;
const NETWORK: u32 = 6;
const BALLOON: u32 = 7;
const PRIVATE_DISK: u32 = 8;
/// The same in a machine without a network.
pub(super) const LONELY_DISK: u32 = PRIVATE_DISK - 1;
/// Where nothing is.
const BEHIND: u32 = 9;
/// The panic device: a write to it ends the machine.
const PANIC: u32 = 1;

/// Where a seed's scripts and material lie: on the root disk, and in memory.
const SCRIPTS: u32 = 0x20_0000;
const SCRIPT_SIZE: u32 = 0x8000;
const ENTRIES: usize = 2000;
const MATERIAL: u32 = SCRIPTS + SCRIPT_SIZE * PROCESSORS as u32;
const MATERIAL_PAGES: u32 = 32;
const SEED_SIZE: u32 = SCRIPT_SIZE * PROCESSORS as u32 + MATERIAL_PAGES * 4096;
const SECTOR: u32 = 512;

/// The honest driver's ring and request.
const TABLE: u32 = 0x40_0000;
const AVAILABLE: u32 = 0x40_1000;
const USED: u32 = 0x40_2000;
const HEADER: u32 = 0x40_3000;
const STATUS: u32 = 0x40_4000;

/// What the pages of material hold, in turn.
const KINDS: u32 = 3;
const DESCRIPTORS: u32 = 0;
const HEADERS: u32 = 1;
const RINGS: u32 = 2;

/// Vsock ports: `zone_protocol::agent`.
const AGENT_PORT: u64 = 1024;

/// Where configuration space and BAR of a function are.
fn places(function: u32) -> (u32, u32) {
    (0xE000_0000 + function * 0x8000, 0xD000_0000 + function * 0x1_0000)
}

/// Entries for the machine code.
#[derive(Default)]
pub(super) struct Script(Vec<[u32; 3]>);

impl Script {
    pub(super) fn push(&mut self, what: u32, address: u32, value: u32) {
        self.0.push([what, address, value]);
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.0.iter().flatten().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// Brings a disk up as a driver does, without interrupts.
    fn open_disk(&mut self, function: u32) {
        let (ecam, bar) = places(function);
        self.push(2, ecam + 4, 6);
        for status in [0, 1, 3] {
            self.push(1, bar + 0x14, status);
        }
        for (select, features) in [(0, 0), (1, 1)] {
            self.push(4, bar + 8, select);
            self.push(4, bar + 0xC, features);
        }
        self.push(1, bar + 0x14, 0xB);
        self.push(2, bar + 0x16, 0);
        self.push(2, bar + 0x18, 8);
        for (register, address) in [(0x20, TABLE), (0x28, AVAILABLE), (0x30, USED)] {
            self.push(4, bar + register, address);
            self.push(4, bar + register + 4, 0);
        }
        self.push(2, bar + 0x1C, 1);
        self.push(1, bar + 0x14, 0xF);
    }

    /// Makes the one request of an open disk and waits for it. The header's sector is there already.
    fn request(&mut self, function: u32, writes: bool, buffer: u32, size: u32) {
        let (_, bar) = places(function);
        // Header, data, status; 1: another follows, 2: the device writes.
        let data = if writes { 1 } else { 3 };
        for (place, address, length, flags) in
            [(0, HEADER, 16, 1 | 1 << 16), (1, buffer, size, data | 2 << 16), (2, STATUS, 1, 2)]
        {
            let entry = TABLE + place * 16;
            self.push(4, entry, address);
            self.push(4, entry + 4, 0);
            self.push(4, entry + 8, length);
            self.push(4, entry + 12, flags);
        }
        self.push(4, HEADER, u32::from(writes));
        self.push(2, AVAILABLE + 2, 1);
        self.push(2, bar + 0x3000, 0);
        self.push(7, USED + 2, 1);
    }

    fn close_disk(&mut self, function: u32) {
        self.push(1, places(function).1 + 0x14, 0);
        // The ring begins anew.
        self.push(4, AVAILABLE, 0);
        self.push(4, USED, 0);
    }
}

impl Script {
    /// Powers off after so many starts of the machine, which the private disk counts.
    pub(super) fn begin(&mut self, disk: u32, starts: u32) {
        self.open_disk(disk);
        self.request(disk, false, COUNTER, SECTOR);
        self.push(10, COUNTER, starts);
        self.close_disk(disk);
    }

    /// Counts this start.
    pub(super) fn count(&mut self, disk: u32) {
        self.push(9, COUNTER, 0);
        self.push(4, HEADER + 8, 0);
        self.open_disk(disk);
        self.request(disk, true, COUNTER, SECTOR);
        self.close_disk(disk);
    }
}

/// The boot script of a kernel with so many seeds.
pub(super) fn boot(seeds: u32) -> Vec<u8> {
    let mut script = Script::default();
    script.begin(PRIVATE_DISK, seeds);
    script.open_disk(ROOT_DISK);
    script.push(8, HEADER + 8, SEED_SIZE / SECTOR);
    script.request(ROOT_DISK, false, SCRIPTS, SEED_SIZE);
    script.close_disk(ROOT_DISK);
    // The next start has the next seed, whatever becomes of this one.
    script.count(PRIVATE_DISK);
    for processor in 0..u32::from(PROCESSORS) {
        script.push(4, POINTERS + 4 * processor, SCRIPTS + processor * SCRIPT_SIZE);
    }
    script.push(4, ENDED, 0);
    script.push(11, 0, 0);
    script.push(12, 0, SCRIPTS);
    script.bytes()
}

/// Scripts and material of a seed, as they lie on the root disk.
pub(super) fn of_seed(seed: u64) -> Vec<u8> {
    let mut dice = Attack(Dice::new(seed));
    let mut bytes = Vec::new();
    for processor in 0..PROCESSORS {
        let mut script = Script::default();
        while script.0.len() < ENTRIES {
            if dice.below(12) == 0 { dice.driver(&mut script) } else { dice.access(&mut script) }
        }
        if processor == 0 && dice.below(4) == 0 {
            script.push(1, places(PANIC).1 + dice.below(4), dice.value());
        }
        script.push(0, 0, 0);
        let mut script = script.bytes();
        script.resize(script.len().max(SCRIPT_SIZE as usize), 0);
        bytes.extend(script);
    }
    bytes.extend(dice.material());
    bytes
}

/// Hostile choices.
struct Attack(Dice);

impl Attack {
    fn any(&mut self) -> u32 {
        self.0.number() ^ self.0.number() << 1
    }

    fn below(&mut self, end: u32) -> u32 {
        self.any() % end
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        self.0.pick(choices)
    }

    /// What breaks things, or anything.
    fn value(&mut self) -> u32 {
        let any = self.any();
        self.one_of(&[0, 1, 2, 3, 0xF, 0xFF, 0x8000, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, u32::MAX, any, any])
    }

    /// A page of the material.
    fn page(&mut self, kind: u32) -> u32 {
        MATERIAL + (self.below(MATERIAL_PAGES / KINDS) * KINDS + kind) * 4096
    }

    /// Where a driver could put a ring: in the material, sometimes off by a little, sometimes nowhere.
    fn ring(&mut self) -> u32 {
        let page = MATERIAL + self.below(MATERIAL_PAGES) * 4096;
        let odd = page + self.below(4096);
        self.one_of(&[page, page, page, odd, 0x3FF_F000, 0x3FF_FFF0, 0x400_0000, 0xFEE0_0000, u32::MAX])
    }

    fn device(&mut self) -> u32 {
        // The network and the way to the host are other processes' business, too.
        self.one_of(&[CONSOLE, ROOT_DISK, PRIVATE_DISK, RANDOM, VSOCK, VSOCK, NETWORK, NETWORK, BALLOON])
    }

    /// One random access to something.
    fn access(&mut self, script: &mut Script) {
        let anywhere = self.device();
        let function = self.one_of(&[0, anywhere, anywhere, anywhere, anywhere, BEHIND]);
        let (ecam, bar) = places(function);
        let offset = self.below(0x40);
        let address = match self.below(10) {
            0 => ecam + self.below(0x100),
            1 => ecam + self.below(0x8000),
            2 | 3 => bar + offset,
            4 => bar + 0x2000 + offset,
            5 => bar + 0x3000 + offset,
            6 | 7 => bar + 0x4000 + self.below(8) * 16 + self.one_of(&[0, 4, 8, 12, 13]),
            8 => bar + self.below(0x1_0000),
            _ => MATERIAL + self.below(MATERIAL_PAGES * 4096 - 4),
        };
        let what = self.one_of(&[1, 2, 4, 4, 5]);
        script.push(what, address, self.value());
        if self.below(50) == 0 {
            // The power ports are 0x600 and above.
            script.push(6, self.below(0x600), self.value());
        }
    }

    /// The steps of a driver, with queues of its own kind.
    fn driver(&mut self, script: &mut Script) {
        let (ecam, bar) = places(self.device());
        script.push(2, ecam + 4, 6);
        script.push(2, ecam + 0x42, 0x8000);
        for vector in 0..3 {
            script.push(4, bar + 0x4000 + vector * 16, 0xFEE0_0000);
            script.push(4, bar + 0x4008 + vector * 16, self.one_of(&[0x41, 0x41, 0x1F, 0]));
            script.push(4, bar + 0x400C + vector * 16, 0);
        }
        for status in [0, 1, 3] {
            script.push(1, bar + 0x14, status);
        }
        let any = self.any();
        let low = self.one_of(&[0, 0, 1 << 28, 1 << 29, 1 << 28 | 1 << 29, 0x20, any]);
        for (select, features) in [(0, low), (1, 1)] {
            script.push(4, bar + 8, select);
            script.push(4, bar + 0xC, features);
        }
        script.push(1, bar + 0x14, 0xB);
        // Most rings are where rings can be: what is in them is hostile enough, and only then anybody looks.
        let sane = self.below(4) != 0;
        for queue in 0..self.one_of(&[1, 2, 3, 5]) {
            script.push(2, bar + 0x16, queue);
            let size = if sane { 1 << self.below(7) } else { self.value() };
            script.push(2, bar + 0x18, size);
            script.push(2, bar + 0x1A, self.one_of(&[0, 1, 2, 0xFFFF]));
            for (register, kind) in [(0x20, DESCRIPTORS), (0x28, RINGS), (0x30, RINGS)] {
                let (low, high) =
                    if sane { (self.page(kind), 0) } else { (self.ring(), self.one_of(&[0, 0, 1])) };
                script.push(4, bar + register, low);
                script.push(4, bar + register + 4, high);
            }
            script.push(2, bar + 0x1C, 1);
        }
        script.push(1, bar + 0x14, 0xF);
        for _ in 0..self.below(6) {
            let queue = self.below(6);
            script.push(2, bar + 0x3000 + queue * 4, queue);
        }
    }

    /// What rings and buffers are made of: descriptors that loop, overlap, lead out of memory or to each other's tables,
    /// rings with any index, and headers that the devices know.
    fn material(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for page in 0..MATERIAL_PAGES {
            for _ in 0..256 {
                let entry = self.entry(page % KINDS);
                bytes.extend(entry);
            }
        }
        bytes
    }

    fn entry(&mut self, kind: u32) -> [u8; 16] {
        let of_buffer = self.below(KINDS);
        let address = if self.below(4) == 0 { self.ring() } else { self.page(of_buffer) };
        let any = self.any();
        let length = self.one_of(&[0, 1, 16, 44, 100, 512, 4096, 0x10_0000, u32::MAX, any]);
        let flags = self.one_of(&[0_u16, 1, 1, 2, 3, 4, 5, 6, 7, 0xFFFF]);
        let next = u16::try_from(self.below(20)).expect("below 20");
        let words: [u64; 2] = match kind {
            DESCRIPTORS => {
                [address.into(), u64::from(length) | u64::from(flags) << 32 | u64::from(next) << 48]
            }
            // A vsock header of two entries: from this guest to the host's port, any operation, credit of any size.
            HEADERS if self.below(2) == 0 => [3, 2],
            HEADERS => [AGENT_PORT << 32 | 1000, u64::from(length) | u64::from(next % 9) << 48],
            // A ring's flags and index, and small numbers; block requests begin like this, too.
            _ => {
                let next = u64::from(next);
                [next << 16 | next << 48, 1 | next << 16]
            }
        };
        let mut bytes = [0; 16];
        for (place, byte) in bytes.iter_mut().zip(words.iter().flat_map(|word| word.to_le_bytes())) {
            *place = byte;
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_has_its_size_and_is_the_same_each_time() {
        let bytes = of_seed(7);
        assert_eq!(bytes.len(), SEED_SIZE as usize);
        assert_eq!(bytes, of_seed(7));
        assert_ne!(bytes, of_seed(8));
        assert_eq!(SEED_SIZE % 4096, 0);
    }
}
