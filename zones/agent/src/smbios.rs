//! Credentials that the zone's firmware wrote as SMBIOS strings `io.systemd.credential.binary:NAME=BASE64`, for what
//! runs before systemd or without it.
//!
//! The tables are walked as DMTF DSP0134 (6.1.2, 6.1.3) lays them out: a header of four bytes, the structure, its
//! strings, each with a zero behind it, and one more zero. What does not fit ends the walk: every step goes forward,
//! nothing outside of the bytes is read.

use std::fs::File;
use std::io::{self, Read};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The tables as the kernel found them. Only root can read them.
const TABLES: &str = "/sys/firmware/dmi/tables/DMI";

/// The most bytes of tables that are looked at: what is below 1 MiB has no room for more.
const LONGEST: u64 = 64 * 1024;

/// OEM strings (7.12), and the end of the tables (7.45).
const OEM_STRINGS: u8 = 11;
const END: u8 = 127;

const PREFIX: &[u8] = b"io.systemd.credential.binary:";

/// The value of this machine's credential of this name; `None` when it has none.
///
/// # Errors
/// The tables are there and cannot be read.
pub(crate) fn credential(name: &str) -> io::Result<Option<Vec<u8>>> {
    let mut tables = Vec::new();
    match File::open(TABLES) {
        Ok(file) => file.take(LONGEST).read_to_end(&mut tables)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(find(&tables, name))
}

/// The value of the first credential of this name.
fn find(tables: &[u8], name: &str) -> Option<Vec<u8>> {
    let value = strings(tables).find_map(|text| {
        text.strip_prefix(PREFIX)?.strip_prefix(name.as_bytes())?.strip_prefix(b"=").map(<[u8]>::to_vec)
    })?;
    STANDARD.decode(value).ok()
}

/// Every OEM string.
fn strings(tables: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = tables;
    let structures = std::iter::from_fn(move || {
        let (kind, strings, behind) = structure(rest)?;
        rest = if kind == END { &[] } else { behind };
        Some((kind, strings))
    });
    let oem = structures.filter(|(kind, _)| *kind == OEM_STRINGS);
    oem.flat_map(|(_, strings)| strings.split(|byte| *byte == 0).filter(|text| !text.is_empty()))
}

/// The first structure: its kind, its strings with the zeros between them, and what is behind it.
fn structure(tables: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let [kind, length, _, _] = *tables.first_chunk()?;
    let strings = tables.get(usize::from(length.max(4))..)?;
    let end = strings.windows(2).position(|two| two == [0, 0])?;
    Some((kind, strings.get(..end)?, strings.get(end + 2..)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table(kind: u8, body: &[u8], strings: &[&str]) -> Vec<u8> {
        let mut bytes = vec![kind, u8::try_from(4 + body.len()).unwrap(), 0, 0];
        bytes.extend(body);
        bytes.extend(strings.iter().flat_map(|text| text.bytes().chain([0])));
        bytes.extend(if strings.is_empty() { &[0, 0][..] } else { &[0] });
        bytes
    }

    fn tables() -> Vec<u8> {
        [
            table(0, &[1, 2], &["Bulkhead", "io.systemd.credential.binary:a=bm8="]),
            table(3, &[0; 9], &[]),
            table(
                11,
                &[3],
                &["io.systemd.credential.binary:a=eWVz", "io.systemd.credential.binary:bad=e", "x"],
            ),
            table(11, &[1], &["io.systemd.credential.binary:b="]),
            table(127, &[], &[]),
            table(11, &[1], &["io.systemd.credential.binary:late=eWVz"]),
        ]
        .concat()
    }

    #[test]
    fn a_credential_is_found_by_its_name() {
        let tables = tables();
        assert_eq!(find(&tables, "a"), Some(b"yes".to_vec()));
        assert_eq!(find(&tables, "b"), Some(Vec::new()));
        for name in ["bad", "late", "", "x", "a=eWVz"] {
            assert_eq!(find(&tables, name), None, "{name}");
        }
    }

    #[test]
    fn half_a_table_is_no_table() {
        let whole = table(11, &[1], &["io.systemd.credential.binary:a=eWVz"]);
        for length in 0..whole.len() {
            assert_eq!(find(&whole[..length], "a"), None, "{length}");
        }
        // A length below the header's own, and one beyond the end.
        for length in [0, 3, 255] {
            let mut odd = whole.clone();
            odd[1] = length;
            assert_ne!(find(&odd, "b"), Some(Vec::new()));
        }
    }

    proptest! {
        #[test]
        fn property_any_bytes_are_walked_to_an_end(
            bytes in prop::collection::vec(prop_oneof![Just(0_u8), Just(11), Just(4), any::<u8>()], 0..512),
        ) {
            prop_assert!(strings(&bytes).map(<[u8]>::len).sum::<usize>() <= bytes.len());
        }
    }
}
