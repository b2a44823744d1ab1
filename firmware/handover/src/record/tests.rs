use std::format;
use std::string::String;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

fn header() -> Header {
    Header { no_vtpm_yet: false, nonce: [7; 32], identity: [9; 32] }
}

fn encoded(header: &Header, credentials: &[(&str, &[u8])]) -> Result<Vec<u8>, EncodeError> {
    let mut out = [0xAA; LONGEST];
    let length = encode(header, credentials, &mut out)?;
    Ok(out[..length].to_vec())
}

#[test]
fn what_is_written_is_read_back() {
    let credentials: &[(&str, &[u8])] =
        &[("login.noauth", b"yes"), ("agetty.autologin", b"user"), ("x", b"")];
    let bytes = encoded(&header(), credentials).unwrap();
    let record = Record::decode(&bytes).unwrap();
    assert_eq!(record.bytes(), bytes);
    assert!(!record.no_vtpm_yet());
    assert_eq!(record.credentials().collect::<Vec<_>>(), credentials);
    let transitional = encoded(&Header { no_vtpm_yet: true, ..header() }, &[]).unwrap();
    assert_eq!(transitional.len(), HEADER);
    assert!(Record::decode(&transitional).unwrap().no_vtpm_yet());
}

#[test]
fn what_is_none_is_refused_by_name() {
    let good = encoded(&header(), &[("name", b"value")]).unwrap();
    let check = |at: usize, value: u8, expected: DecodeError| {
        let mut bytes = good.clone();
        bytes[at] = value;
        assert_eq!(Record::decode(&bytes).unwrap_err(), expected, "byte {at} = {value}");
    };
    check(0, 0, DecodeError::Unknown);
    check(4, 2, DecodeError::Unknown);
    check(8, 79, DecodeError::Malformed);
    check(8, good[8] + 1, DecodeError::Malformed);
    check(8, good[8] - 1, DecodeError::Malformed);
    check(9, 0xFF, DecodeError::Malformed);
    check(12, 2, DecodeError::Malformed);
    check(15, 0x80, DecodeError::Malformed);
    check(HEADER, 0, DecodeError::Malformed);
    check(HEADER, 200, DecodeError::Malformed);
    check(HEADER + 4, b' ', DecodeError::Malformed);
    check(HEADER + 4, b'.', DecodeError::Malformed);
    check(HEADER + 4, 0xFF, DecodeError::Malformed);
    assert_eq!(Record::decode(&[0; 4096]).unwrap_err(), DecodeError::Empty);
    assert_eq!(Record::decode(&good[..15]).unwrap_err(), DecodeError::Malformed);
}

#[test]
fn what_does_not_fit_or_has_no_name_is_not_written() {
    let long = [0; LONGEST];
    let most = LONGEST - HEADER - 4 - 1;
    assert_eq!(encoded(&header(), &[("a", &long[..most])]).unwrap().len(), LONGEST);
    assert_eq!(encoded(&header(), &[("a", &long[..most + 1])]), Err(EncodeError::TooLong));
    for name in ["", ".a", "a=b", "a:b", "a/b", "a b", "\u{e4}", &"a".repeat(LONGEST_NAME + 1)] {
        assert_eq!(encoded(&header(), &[("ok", b""), (name, b"")]), Err(EncodeError::Name(1)), "{name}");
    }
}

#[test]
fn nothing_of_a_record_is_printed() {
    let bytes = encoded(&header(), &[("secret-name", b"secret-value")]).unwrap();
    let record = Record::decode(&bytes).unwrap();
    for text in [format!("{record:?}"), format!("{:?}", record.credentials())] {
        assert!(!text.contains("secret") && !text.contains('7'), "{text}");
    }
}

proptest! {
    #[test]
    fn property_any_bytes_are_refused_or_stay_within_themselves(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..300),
        length in 0..320_u32,
        flags in 0..3_u32,
    ) {
        for (place, byte) in bytes.iter_mut().zip([MAGIC, VERSION, length, flags].iter().flat_map(|word| word.to_le_bytes())) {
            *place = byte;
        }
        if let Ok(record) = Record::decode(&bytes) {
            let inside: usize = record.credentials().map(|(name, value)| 4 + name.len() + value.len()).sum();
            prop_assert_eq!(HEADER + inside, record.bytes().len());
            prop_assert!(record.credentials().all(|(name, _)| is_name(name.as_bytes())));
        }
    }

    #[test]
    fn property_records_survive_the_way(
        no_vtpm_yet: bool,
        nonce: [u8; 32],
        identity: [u8; 32],
        credentials in proptest::collection::vec(("[a-z][a-z0-9._-]{0,63}", proptest::collection::vec(any::<u8>(), 0..400)), 0..8),
    ) {
        let borrowed: Vec<(&str, &[u8])> =
            credentials.iter().map(|(name, value): &(String, Vec<u8>)| (name.as_str(), value.as_slice())).collect();
        let size = HEADER + borrowed.iter().map(|(name, value)| 4 + name.len() + value.len()).sum::<usize>();
        match encoded(&Header { no_vtpm_yet, nonce, identity }, &borrowed) {
            Ok(bytes) => {
                let record = Record::decode(&bytes).unwrap();
                prop_assert_eq!(record.no_vtpm_yet(), no_vtpm_yet);
                prop_assert_eq!(record.credentials().collect::<Vec<_>>(), borrowed);
                prop_assert_eq!(&bytes[16..48], &nonce[..]);
                prop_assert_eq!(&bytes[48..80], &identity[..]);
            }
            Err(error) => {
                prop_assert_eq!(error, EncodeError::TooLong);
                prop_assert!(size > LONGEST);
            }
        }
    }
}
