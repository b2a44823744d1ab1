//! A machine with 64 KiB of what lies below 1 MiB, and some memory above.

use std::vec;
use std::vec::Vec;

use handover::place::{SMBIOS, SMBIOS_END};
use handover::record::{Header, LONGEST, encode};

use super::vtpm::Vtpm;
use crate::*;

/// Start information, its parts, and the command line.
pub(crate) const START: u64 = 0x1000;
pub(crate) const MODULES: u64 = 0x1100;
pub(crate) const MAP: u64 = 0x1200;
pub(crate) const LINE: u64 = 0x2000;
/// Conventional memory ends here, extended memory begins and ends there.
pub(crate) const LOW_END: u64 = 0x1_0000;
pub(crate) const HIGH: u64 = 0x10_0000;
pub(crate) const HIGH_END: u64 = 0x30_0000;
/// What the firmware occupies.
pub(crate) const OWN: Range = Range { start: HIGH, end: HIGH + 0x2_0000 };
/// Kernel's file and initrd.
pub(crate) const KERNEL: u64 = 0x20_0000;
pub(crate) const INITRD: Range = Range { start: 0x2F_0000, end: 0x2F_8000 };

/// The machine.
pub(crate) struct Fake {
    pub(crate) low: Vec<u8>,
    pub(crate) high: Vec<u8>,
    pub(crate) smbios: Vec<u8>,
    pub(crate) mailbox: Vec<u8>,
    /// The mailbox forgets nothing.
    pub(crate) mailbox_keeps: bool,
    pub(crate) vtpm: Vtpm,
    /// Everything that was written.
    pub(crate) written: Vec<Range>,
}

impl Memory for Fake {
    fn read(&self, address: u64, out: &mut [u8]) -> bool {
        let size = u64::try_from(out.len()).unwrap();
        let Some(range) = Range::sized(address, size) else { return false };
        let (part, start) = if range.end <= LOW_END { (&self.low, 0) } else { (&self.high, HIGH) };
        if range.start < start || range.end - start > u64::try_from(part.len()).unwrap() {
            return false;
        }
        let at = usize::try_from(range.start - start).unwrap();
        out.copy_from_slice(&part[at..at + out.len()]);
        true
    }
}

impl Machine for Fake {
    fn mailbox(&mut self, offset: usize) -> [u8; 8] {
        assert!(offset.is_multiple_of(8));
        let word = self.mailbox[offset..].first_chunk_mut::<8>().unwrap();
        let value = *word;
        if !self.mailbox_keeps {
            *word = [0; 8];
        }
        value
    }

    fn transact(&mut self, command: &[u8], response: &mut [u8]) -> Result<usize, Failure> {
        assert!(!self.vtpm.released);
        let answer = self.vtpm.execute(command).ok_or(Failure::TpmSilent)?;
        response.get_mut(..answer.len()).ok_or(Failure::TpmAnswer)?.copy_from_slice(&answer);
        Ok(answer.len())
    }

    fn release_tpm(&mut self) {
        self.vtpm.released = true;
    }

    fn write_smbios(&mut self, address: u64, bytes: &[u8]) {
        let at = usize::try_from(address - SMBIOS).unwrap();
        self.smbios[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn relocate(&mut self, from: u64, to: u64, length: u64) {
        self.written.push(Range::sized(to, length).unwrap());
        let mut bytes = vec![0; usize::try_from(length).unwrap()];
        assert!(self.read(from, &mut bytes));
        self.place(to).get_mut(..bytes.len()).unwrap().copy_from_slice(&bytes);
    }

    fn clear(&mut self, range: Range) {
        self.written.push(range);
        let size = usize::try_from(range.size()).unwrap();
        self.place(range.start).get_mut(..size).unwrap().fill(0);
    }
}

/// Things as bytes.
pub(crate) fn longs(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

pub(crate) fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

pub(crate) fn record(no_vtpm_yet: bool, credentials: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = [0; LONGEST];
    let header = Header { no_vtpm_yet, nonce: [0xA5; 32], identity: [0x5A; 32] };
    let length = encode(&header, credentials, &mut out).unwrap();
    out[..length].to_vec()
}

impl Fake {
    /// A machine that starts `kernel` with this record.
    pub(crate) fn new(kernel: &[u8], record: &[u8]) -> Self {
        let mut fake = Self {
            low: vec![0; usize::try_from(LOW_END).unwrap()],
            high: vec![0xEE; usize::try_from(HIGH_END - HIGH).unwrap()],
            smbios: vec![0; usize::try_from(SMBIOS_END - SMBIOS).unwrap()],
            mailbox: vec![0; 4096],
            mailbox_keeps: false,
            vtpm: Vtpm::new(record),
            written: Vec::new(),
        };
        fake.mailbox[..record.len()].copy_from_slice(record);
        let size = u64::try_from(kernel.len()).unwrap();
        let start = [words(&[0x336E_C578, 1, 0, 2]), longs(&[MODULES, LINE, 0xE_0000, MAP]), words(&[3, 0])];
        fake.put(START, &start.concat());
        fake.put(MODULES, &longs(&[KERNEL, size, 0, 0, INITRD.start, INITRD.size(), 0, 0]));
        let ranges = [(0, LOW_END, 1), (0xF_0000, 0x1_0000, 2), (HIGH, HIGH_END - HIGH, 1)];
        let map: Vec<u8> =
            ranges.into_iter().flat_map(|(start, size, kind)| longs(&[start, size, kind])).collect();
        fake.put(MAP, &map);
        fake.put(LINE, b"console=hvc0\0");
        fake.put(KERNEL, kernel);
        fake
    }

    /// What lies at an address and behind it.
    pub(crate) fn place(&mut self, address: u64) -> &mut [u8] {
        if address < LOW_END {
            &mut self.low[usize::try_from(address).unwrap()..]
        } else {
            &mut self.high[usize::try_from(address - HIGH).unwrap()..]
        }
    }

    pub(crate) fn put(&mut self, address: u64, bytes: &[u8]) {
        self.place(address)[..bytes.len()].copy_from_slice(bytes);
    }

    pub(crate) fn bytes(&self, range: Range) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(range.size()).unwrap()];
        assert!(self.read(range.start, &mut bytes));
        bytes
    }

    pub(crate) fn run(&mut self) -> (Result<Jump, Failure>, Desk) {
        let mut desk = Desk::new();
        let result = run(self, &mut desk, START, OWN);
        assert!(desk.is_clean());
        (result, desk)
    }
}

/// A program header: what is loaded from `offset` of the file to `to`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    pub(crate) offset: u64,
    pub(crate) to: u64,
    pub(crate) length: u64,
    pub(crate) size: u64,
}

/// An ELF file with these segments and `body` behind its headers (from 0x1000 on).
pub(crate) fn elf(entry: u64, segments: &[Segment], body: &[u8]) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    file.extend(longs(&[entry, 64, 0]));
    let count = u16::try_from(segments.len()).unwrap();
    file.extend([0_u16, 0, 64, 56, count, 64, 0, 0].iter().flat_map(|half| half.to_le_bytes()));
    for segment in segments {
        file.extend(words(&[1, 7]));
        let Segment { offset, to, length, size } = *segment;
        file.extend(longs(&[offset, to.wrapping_add(0xFFFF_FFFF_8000_0000), to, length, size, 4096]));
    }
    file.resize(0x1000, 0);
    file.extend(body);
    file
}
