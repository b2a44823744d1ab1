//! The zone firmware's decisions: start information, mailbox, vTPM and kernel of the input's choice.

use handover::failure::Failure;
use handover::place::{SMBIOS, SMBIOS_END};
use handover::record::{self, Record};
use preauth::memory::{Memory, Range};
use preauth::{Desk, Machine};

use crate::cursor::Cursor;

/// Memory of the machine: one piece from zero.
const MEMORY: u64 = 0x4_0000;

/// What the firmware occupies.
const OWN: Range = Range { start: 0x1_0000, end: 0x1_8000 };

/// Start information, its lists, the command line, and the kernel's file.
const START: usize = 0x1000;
const MODULES: u64 = 0x1100;
const MAP: u64 = 0x1200;
const LINE: u64 = 0x2000;
const KERNEL: u64 = 0x2_0000;

/// More commands than any conversation has.
const MOST_COMMANDS: usize = 2000;

struct Fake<'a> {
    memory: Vec<u8>,
    mailbox: Vec<u8>,
    answers: Cursor<'a>,
    commands: usize,
}

fn place(range: Range) -> std::ops::Range<usize> {
    let index = |address: u64| usize::try_from(address).expect("an address in memory");
    index(range.start)..index(range.end)
}

impl Memory for Fake<'_> {
    fn read(&self, address: u64, out: &mut [u8]) -> bool {
        let size = u64::try_from(out.len()).expect("a length");
        let Some(range) = Range::sized(address, size).filter(|range| range.end <= MEMORY) else {
            return false;
        };
        out.copy_from_slice(&self.memory[place(range)]);
        true
    }
}

impl Machine for Fake<'_> {
    fn mailbox(&mut self, offset: usize) -> [u8; 8] {
        let word = self.mailbox[offset..].first_chunk_mut::<8>().expect("inside of the mailbox");
        std::mem::take(word)
    }

    fn transact(&mut self, command: &[u8], response: &mut [u8]) -> Result<usize, Failure> {
        self.commands += 1;
        assert!(command.len() >= 10 && self.commands < MOST_COMMANDS, "the conversation has an end");
        if self.answers.is_empty() {
            return Err(Failure::TpmSilent);
        }
        let body = self.answers.some_bytes(64);
        let size = u32::try_from(body.len() + 10).expect("short").to_be_bytes();
        let code = match self.answers.u8() {
            0..=199 => 0,
            200..=219 => 0x922,
            220..=239 => 0x100,
            _ => self.answers.u32(),
        };
        let tag = if self.answers.flag() { 0x8002_u16 } else { 0x8001 };
        let answer = [&tag.to_be_bytes()[..], &size, &code.to_be_bytes(), body].concat();
        response.get_mut(..answer.len()).ok_or(Failure::TpmAnswer)?.copy_from_slice(&answer);
        Ok(answer.len())
    }

    fn release_tpm(&mut self) {}

    fn write_smbios(&mut self, address: u64, bytes: &[u8]) {
        let end = address + u64::try_from(bytes.len()).expect("a length");
        assert!(address >= SMBIOS && end <= SMBIOS_END);
    }

    fn relocate(&mut self, from: u64, to: u64, length: u64) {
        let target = Range::sized(to, length).expect("a range");
        assert!(target.end <= MEMORY && !target.overlaps(OWN), "{target:x?}");
        let source = place(Range::sized(from, length).expect("a range"));
        self.memory.copy_within(source, place(target).start);
    }

    fn clear(&mut self, range: Range) {
        assert!(range.end <= MEMORY && !range.overlaps(OWN), "{range:x?}");
        self.memory[place(range)].fill(0);
    }
}

/// A kernel near one that could be: an ELF file or a bzImage.
fn kernel(cursor: &mut Cursor<'_>) -> Vec<u8> {
    let mut file = vec![0; 0x400];
    let put = |file: &mut Vec<u8>, at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    let near = [KERNEL, KERNEL + 0x400, 0x1000, OWN.start, OWN.end, 0x3_0000, MEMORY, LINE];
    if cursor.flag() {
        put(&mut file, 0, b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0");
        put(&mut file, 24, &cursor.number(&near).to_le_bytes());
        put(&mut file, 32, &cursor.number(&[64, 64, 64, 0]).to_le_bytes());
        let count = u16::from(cursor.u8() % 8);
        put(&mut file, 54, &[56, 0]);
        put(&mut file, 56, &count.to_le_bytes());
        for number in 0..usize::from(count) {
            let at = 64 + number * 56;
            put(&mut file, at, &[1, 0, 0, 0, 7, 0, 0, 0]);
            put(&mut file, at + 8, &cursor.number(&[0x400, 0x300, 0x200, 0]).to_le_bytes());
            put(&mut file, at + 24, &cursor.number(&near).to_le_bytes());
            put(&mut file, at + 32, &cursor.number(&[0x100, 0x200, 0, 0x400]).to_le_bytes());
            put(&mut file, at + 40, &cursor.number(&[0x200, 0x400, 0x1000, 0]).to_le_bytes());
        }
    } else {
        put(&mut file, 0x1F1, &[cursor.u8() % 4]);
        put(&mut file, 0x1FE, &[0x55, 0xAA, 0xEB, cursor.u8()]);
        put(&mut file, 0x202, b"HdrS\x0f\x02");
        put(&mut file, 0x236, &[1, 0]);
        put(&mut file, 0x258, &cursor.number(&near).to_le_bytes());
        put(&mut file, 0x260, &cursor.number(&[0x1000, 0x2000, 0x8000]).to_le_bytes());
    }
    if cursor.u8() > 200 {
        let at = cursor.below(200) * 4;
        put(&mut file, at, &cursor.array::<4>());
    }
    file.extend(cursor.some_bytes(0x800));
    file
}

/// A record near one that could be.
fn mailbox(cursor: &mut Cursor<'_>) -> Vec<u8> {
    let mut bytes = b"BHLR\x01\0\0\0".to_vec();
    let credentials = cursor.some_bytes(400);
    bytes.extend(u32::try_from(80 + credentials.len()).expect("short").to_le_bytes());
    bytes.extend([cursor.u8() & 1, 0, 0, 0]);
    bytes.extend([7; 64]);
    bytes.extend(credentials);
    if cursor.u8() > 200 {
        let at = cursor.below(16);
        bytes[at] = cursor.u8();
    }
    bytes.resize(4096, 0);
    bytes
}

/// The firmware on a machine of the input's choice. It ends, writes to nothing but memory that is free, and leaves no
/// record behind.
pub(crate) fn firmware(bytes: &[u8]) {
    let mut cursor = Cursor::new(bytes);
    let mailbox = mailbox(&mut cursor);
    let file = kernel(&mut cursor);
    let mut memory = vec![0xEE; usize::try_from(MEMORY).expect("small")];
    let longs = |words: &[u64]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let size = u64::try_from(file.len()).expect("short");
    let start = [
        &[0x78, 0xC5, 0x6E, 0x33, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0],
        &longs(&[MODULES, LINE, 0xE_0000, MAP, 1])[..],
    ];
    let initrd = cursor.number(&[0x3_8000, 0x3_8000, 0x3_F000, KERNEL]);
    let parts = [
        (START, start.concat()),
        (0x1100, longs(&[KERNEL, size, 0, 0, initrd, cursor.number(&[0x1000, 0x1000, 0, 1]), 0, 0])),
        (0x1200, longs(&[0, MEMORY, 1])),
        (0x2000, b"quiet\0".to_vec()),
        (0x2_0000, file),
    ];
    for (at, part) in parts {
        memory[at..at + part.len()].copy_from_slice(&part);
    }
    for _ in 0..cursor.u8() & 3 {
        let at = START + usize::from(cursor.u16()) % 0x300;
        memory[at] = cursor.u8();
    }
    let mut machine = Fake { memory, mailbox, answers: cursor, commands: 0 };
    let mut desk = Desk::new();
    let result = preauth::run(&mut machine, &mut desk, 0x1000, OWN);
    assert!(desk.is_clean());
    match result {
        Ok(jump) => assert!(jump.kernel.start <= jump.entry && jump.entry < jump.kernel.end),
        Err(failure) => assert_eq!(Failure::from_code(failure.code()), Some(failure)),
    }
}

/// Bytes as a record: refused, or all of it is inside of itself; and what a host would write is read back.
pub(crate) fn login_record(bytes: &[u8]) {
    if let Ok(record) = Record::decode(bytes) {
        let inside: usize = record.credentials().map(|(name, value)| 4 + name.len() + value.len()).sum();
        assert_eq!(record::HEADER + inside, record.bytes().len());
        let credentials: Vec<_> = record.credentials().collect();
        let mut out = [0; record::LONGEST];
        let header = record::Header {
            no_vtpm_yet: record.no_vtpm_yet(),
            nonce: *bytes[16..].first_chunk().expect("a header"),
            identity: *bytes[48..].first_chunk().expect("a header"),
        };
        let length = record::encode(&header, &credentials, &mut out).expect("it fitted before");
        assert_eq!(&out[..length], record.bytes());
    }
}
