//! The host's memory as whoever opens the machine finds it: every byte, whoever it belongs to.
//!
//! QEMU keeps it in a memory file that others of the same user may open. Up to 2 GiB of it, a place in the file is the physical
//! address.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// Bytes of a frame.
pub const FRAME: u64 = 4096;
/// Bytes that are looked at together.
const PIECE: usize = 1 << 20;
/// The most MiB: above there is a hole.
const MOST_MIB: u32 = 2048;

/// A machine's memory.
#[derive(Debug)]
pub struct Memory(File);

/// QEMU's arguments for a machine whose memory can be read.
///
/// # Panics
/// When it has more memory than can be found again.
#[must_use]
pub fn arguments(mib: u32) -> Vec<OsString> {
    assert!(mib <= MOST_MIB, "{mib} MiB have a hole between them");
    let object = format!("memory-backend-memfd,id=memory,size={mib}M");
    ["-object", &object, "-machine", "memory-backend=memory"].map(Into::into).to_vec()
}

impl Memory {
    /// The memory of the QEMU with this number.
    pub(crate) fn of(process: u32) -> io::Result<Self> {
        let is_it = |path: &PathBuf| {
            let target = std::fs::read_link(path).unwrap_or_default();
            target.to_string_lossy().starts_with("/memfd:memory-backend-memfd")
        };
        let files = std::fs::read_dir(format!("/proc/{process}/fd"))?;
        let path = files.filter_map(|entry| Some(entry.ok()?.path())).find(is_it);
        Ok(Self(File::open(path.ok_or_else(|| io::Error::other("QEMU has no memory file"))?)?))
    }

    /// What lies at a place; zeros behind the end.
    ///
    /// # Errors
    /// The memory cannot be read.
    pub fn at<const N: usize>(&self, place: u64) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.0.read_at(rest, place + u64::try_from(filled).unwrap_or(u64::MAX))? {
                0 => break,
                count => filled += count,
            }
        }
        Ok(bytes)
    }

    /// Where values are: for each needle the places that it was found at.
    ///
    /// # Errors
    /// The memory cannot be read.
    pub fn find(&self, needles: &[&[u8]]) -> io::Result<Vec<Vec<u64>>> {
        let mut places = vec![Vec::new(); needles.len()];
        let overlap = needles.iter().map(|needle| needle.len()).max().unwrap_or(1) - 1;
        self.pieces(overlap, |at, piece, own| {
            for (needle, places) in needles.iter().zip(&mut places) {
                let found = find(piece, needle).take_while(|place| *place < own);
                places.extend(found.filter_map(|place| Some(at + u64::try_from(place).ok()?)));
            }
        })?;
        Ok(places)
    }

    /// Every expanded key of AES-256, by the place that it was found at.
    ///
    /// # Errors
    /// The memory cannot be read.
    pub fn aes_keys(&self) -> io::Result<Vec<(u64, [u8; 32])>> {
        let sbox = sbox();
        let mut keys = Vec::new();
        self.pieces(EXPANDED, |at, piece, own| {
            for place in (0..own.min(piece.len().saturating_sub(EXPANDED - 1))).step_by(4) {
                let expanded = piece.get(place..place + EXPANDED).filter(|words| is_expanded(words, &sbox));
                if let Some(key) = expanded.and_then(|words| words.first_chunk()) {
                    keys.extend(u64::try_from(place).map(|place| (at + place, *key)));
                }
            }
        })?;
        Ok(keys)
    }

    /// Everything that was ever written, piece by piece, each with the first bytes of what follows it.
    fn pieces(&self, overlap: usize, mut look: impl FnMut(u64, &[u8], usize)) -> io::Result<()> {
        let mut buffer = vec![0; PIECE + overlap];
        let mut at = 0;
        loop {
            // What was never touched takes no space.
            let data = match seek(&self.0, SeekFrom::Data(at)) {
                Ok(data) => data,
                Err(Errno::NXIO) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let end = seek(&self.0, SeekFrom::Hole(data))?;
            at = data;
            while at < end {
                let own = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
                let mut filled = 0;
                while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
                    match self.0.read_at(rest, at + u64::try_from(filled).unwrap_or(u64::MAX))? {
                        0 => break,
                        count => filled += count,
                    }
                }
                look(at, buffer.get(..filled).unwrap_or_default(), own);
                at += u64::try_from(own).unwrap_or(u64::MAX);
            }
        }
    }
}

/// Every place of `needle` in `bytes`.
fn find<'a>(bytes: &'a [u8], needle: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let (first, rest) = needle.split_first().expect("a needle has bytes");
    let mut from = 0;
    std::iter::from_fn(move || {
        loop {
            let tail = bytes.get(from..)?;
            let place = from + tail.iter().position(|byte| byte == first)?;
            from = place + 1;
            if bytes.get(from..from + rest.len()) == Some(rest) {
                return Some(place);
            }
        }
    })
}

/// Bytes of an expanded key of AES-256 (FIPS 197, section 5.2): 60 words.
const EXPANDED: usize = 240;

/// Whether these are the 60 words that follow from their first eight.
fn is_expanded(words: &[u8], sbox: &[u8; 256]) -> bool {
    let word = |number: usize| words.get(4 * number..).and_then(|rest| rest.first_chunk::<4>()).copied();
    let substitute = |word: [u8; 4]| word.map(|byte| sbox.get(usize::from(byte)).copied().unwrap_or(0));
    let mut round = 1;
    for number in 8..60 {
        let (Some(before), Some(eighth), Some(this)) = (word(number - 1), word(number - 8), word(number))
        else {
            return false;
        };
        let mut mixed = before;
        if number % 8 == 0 {
            mixed.rotate_left(1);
            mixed = substitute(mixed);
            let [first, ..] = &mut mixed;
            *first ^= round;
            round <<= 1;
        } else if number % 8 == 4 {
            mixed = substitute(mixed);
        }
        if u32::from_ne_bytes(mixed) ^ u32::from_ne_bytes(eighth) != u32::from_ne_bytes(this) {
            return false;
        }
    }
    true
}

/// AES's substitution (FIPS 197, section 5.1.1), from its definition: 3 generates the field's numbers, 0xF6 is its inverse.
fn sbox() -> [u8; 256] {
    let mut table = [0x63; 256];
    let (mut number, mut inverse) = (1_u8, 1_u8);
    loop {
        number ^= number << 1 ^ if number & 0x80 == 0 { 0 } else { 0x1B };
        inverse ^= inverse << 1;
        inverse ^= inverse << 2;
        inverse ^= inverse << 4;
        if inverse & 0x80 != 0 {
            inverse ^= 0x09;
        }
        let rotated = (1..5).fold(inverse, |sum, by| sum ^ inverse.rotate_left(by));
        if let Some(place) = table.get_mut(usize::from(number)) {
            *place = rotated ^ 0x63;
        }
        if number == 1 {
            return table;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    fn memory(bytes: &[u8], at: u64) -> Memory {
        let file = rustix::fs::memfd_create("memory", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let file = File::from(file);
        file.set_len(8 << 20).unwrap();
        file.write_all_at(bytes, at).unwrap();
        Memory(file)
    }

    #[test]
    fn a_value_is_found_wherever_it_lies() {
        // Across the end of a piece, at the end of everything, and after a false beginning.
        for at in [0, 4090, (1 << 20) - 3, (8 << 20) - 8] {
            let memory = memory(b"needneedle", at - if at > 8 { 2 } else { 0 });
            let needles = [&b"needle"[..], b"thread"];
            let found = memory.find(&needles).unwrap();
            assert_eq!(found, [vec![at + if at > 8 { 2 } else { 4 }], vec![]]);
        }
    }

    #[test]
    fn an_expanded_key_is_told_from_other_bytes() {
        // FIPS 197, appendix A.3.
        let key = hex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4");
        let mut words = key.clone();
        let table = sbox();
        assert_eq!((table[0], table[1], table[0x53], table[0xFF]), (0x63, 0x7C, 0xED, 0x16));
        let mut round = 1;
        for number in 8..60 {
            let mut word: [u8; 4] = words[4 * number - 4..].try_into().unwrap();
            if number % 8 == 0 {
                word.rotate_left(1);
                word = word.map(|byte| table[usize::from(byte)]);
                word[0] ^= round;
                round <<= 1;
            } else if number % 8 == 4 {
                word = word.map(|byte| table[usize::from(byte)]);
            }
            for place in 0..4 {
                words.push(word[place] ^ words[4 * number - 32 + place]);
            }
        }
        // The last word of the appendix.
        assert_eq!(words[236..], hex("706c631e"));
        for at in [0, (1 << 20) - 16] {
            let found = memory(&words, at).aes_keys().unwrap();
            assert_eq!(found, [(at, <[u8; 32]>::try_from(key.clone()).unwrap())]);
        }
        words[239] ^= 1;
        assert_eq!(memory(&words, 0).aes_keys().unwrap(), []);
    }
}
