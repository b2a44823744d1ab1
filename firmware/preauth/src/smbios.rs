//! System credentials as SMBIOS strings (DMTF DSP0134 3.7; systemd's smbios-type-11(7)).
//!
//! A system without EFI finds the 3.0 entry point (section 5.2.2) by a search below 1 MiB. The tables behind it name the
//! machine and carry the record's credentials as strings `io.systemd.credential.binary:NAME=BASE64`.

use handover::failure::Failure;
use handover::place::{SMBIOS, SMBIOS_END};
use handover::record::Record;

use crate::Machine;

/// The entry point's length, and where the tables begin behind it.
const ENTRY: u8 = 24;
const TABLES: u64 = SMBIOS + 32;

const PREFIX: &[u8] = b"io.systemd.credential.binary:";

/// Most strings of a structure.
const MOST_STRINGS: usize = 255;

/// Firmware (7.1): no segment, "characteristics are not supported", and that this is a virtual machine. Its date is
/// compared with years by kernels.
#[rustfmt::skip]
const FIRMWARE: &[u8] = &[
    0, 26, 0, 0, 1, 2, 0, 0, 3, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0,
];
const FIRMWARE_STRINGS: &[u8] = b"Bulkhead\x001\x0001/01/2026\0\0";

/// System (7.2): manufacturer and product, no identity of its own.
#[rustfmt::skip]
const SYSTEM: &[u8] = &[
    1, 27, 1, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0,
];
const SYSTEM_STRINGS: &[u8] = b"Bulkhead\0Zone\0\0";

/// Enclosure (7.4): "other", states safe.
#[rustfmt::skip]
const ENCLOSURE: &[u8] = &[
    3, 22, 2, 0, 1, 1, 0, 0, 0, 3, 3, 3, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];
const ENCLOSURE_STRINGS: &[u8] = b"Bulkhead\0\0";

/// End of the tables (7.45).
const END: &[u8] = &[127, 4, 4, 0, 0, 0];

/// Writes entry point and tables.
///
/// # Errors
/// [`Failure::Credentials`]: they are too many or too long. There is no entry point then.
pub(crate) fn write(machine: &mut impl Machine, record: &Record<'_>) -> Result<(), Failure> {
    let mut writer = Writer { machine, at: TABLES };
    for part in [FIRMWARE, FIRMWARE_STRINGS, SYSTEM, SYSTEM_STRINGS, ENCLOSURE, ENCLOSURE_STRINGS] {
        writer.put(part)?;
    }
    let count = record.credentials().count();
    if count > MOST_STRINGS {
        return Err(Failure::Credentials);
    }
    if let Ok(strings @ 1..) = u8::try_from(count) {
        writer.put(&[11, 5, 3, 0, strings])?;
        for (name, value) in record.credentials() {
            writer.put(PREFIX)?;
            writer.put(name.as_bytes())?;
            writer.put(b"=")?;
            writer.put_base64(value)?;
            writer.put(&[0])?;
        }
        writer.put(&[0])?;
    }
    writer.put(END)?;
    let size = u32::try_from(writer.at.saturating_sub(TABLES)).map_err(|_too_long| Failure::Credentials)?;
    writer.at = SMBIOS;
    writer.put(&entry_point(size))
}

/// The 64-bit entry point (5.2.2): all its bytes sum to zero.
fn entry_point(size: u32) -> [u8; 24] {
    let mut entry = [0; 24];
    let parts: [&[u8]; 4] = [b"_SM3_\0", &[ENTRY, 3, 7, 0, 1, 0], &size.to_le_bytes(), &TABLES.to_le_bytes()];
    for (place, byte) in entry.iter_mut().zip(parts.into_iter().flatten()) {
        *place = *byte;
    }
    let sum = entry.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    let [_, _, _, _, _, checksum, ..] = &mut entry;
    *checksum = sum.wrapping_neg();
    entry
}

/// Writes from [`TABLES`] on, and never beyond the range.
struct Writer<'a, M> {
    machine: &'a mut M,
    at: u64,
}

impl<M: Machine> Writer<'_, M> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let length = u64::try_from(bytes.len()).map_err(|_too_long| Failure::Credentials)?;
        let end = self.at.saturating_add(length);
        if end > SMBIOS_END {
            return Err(Failure::Credentials);
        }
        self.machine.write_smbios(self.at, bytes);
        self.at = end;
        Ok(())
    }

    /// RFC 4648, section 4.
    fn put_base64(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        for group in bytes.chunks(3) {
            let mut three = [0; 3];
            for (place, byte) in three.iter_mut().zip(group) {
                *place = *byte;
            }
            let [a, b, c] = three;
            let word = u32::from_be_bytes([0, a, b, c]);
            let digit = |shift: u32| base64_digit(word.wrapping_shr(shift) & 63);
            let four = match group.len() {
                1 => [digit(18), digit(12), b'=', b'='],
                2 => [digit(18), digit(12), digit(6), b'='],
                _ => [digit(18), digit(12), digit(6), digit(0)],
            };
            self.put(&four)?;
        }
        Ok(())
    }
}

fn base64_digit(six: u32) -> u8 {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let index = usize::try_from(six).unwrap_or_default();
    DIGITS.get(index).copied().unwrap_or_default()
}
