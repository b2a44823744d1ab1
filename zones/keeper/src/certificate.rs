//! Certificates of the zones' TPMs, as bytes: X.509 in DER, after RFC 5280 and the TCG's EK Credential Profile.
//!
//! Two forms, both fixed but for keys and serial numbers: the device's authority, which signs itself, and the endorsement
//! key of a zone's TPM. Nothing is parsed here, and no clock is asked: what is said holds as long as the keys do. Who signs
//! is the caller's part.

use hw_tpm::Point;

/// Bytes of a serial number.
pub(crate) const SERIAL: usize = 16;

/// Tags of DER.
mod tag {
    pub(super) const BOOLEAN: u8 = 0x01;
    pub(super) const INTEGER: u8 = 0x02;
    pub(super) const BIT_STRING: u8 = 0x03;
    pub(super) const OCTET_STRING: u8 = 0x04;
    pub(super) const OBJECT: u8 = 0x06;
    pub(super) const UTF8: u8 = 0x0C;
    pub(super) const UTC_TIME: u8 = 0x17;
    pub(super) const TIME: u8 = 0x18;
    pub(super) const SEQUENCE: u8 = 0x30;
    pub(super) const SET: u8 = 0x31;
    /// Context-specific: a primitive one, and constructed ones.
    pub(super) const IMPLICIT_0: u8 = 0x80;
    pub(super) const EXPLICIT_0: u8 = 0xA0;
    pub(super) const EXPLICIT_3: u8 = 0xA3;
    pub(super) const EXPLICIT_4: u8 = 0xA4;
}

/// Object identifiers, encoded.
mod object {
    pub(super) const ECDSA_SHA256: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 4, 3, 2];
    pub(super) const EC_KEY: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 2, 1];
    pub(super) const P256: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 3, 1, 7];
    pub(super) const COMMON_NAME: &[u8] = &[0x55, 4, 3];
    pub(super) const DIRECTORY_ATTRIBUTES: &[u8] = &[0x55, 0x1D, 0x09];
    pub(super) const SUBJECT_KEY: &[u8] = &[0x55, 0x1D, 0x0E];
    pub(super) const KEY_USAGE: &[u8] = &[0x55, 0x1D, 0x0F];
    pub(super) const ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1D, 0x11];
    pub(super) const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1D, 0x13];
    pub(super) const AUTHORITY_KEY: &[u8] = &[0x55, 0x1D, 0x23];
    pub(super) const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1D, 0x25];
    /// The TCG's: 2.23.133.2.1 to 3, .2.16 and .8.1.
    pub(super) const TPM_MANUFACTURER: &[u8] = &[0x67, 0x81, 5, 2, 1];
    pub(super) const TPM_MODEL: &[u8] = &[0x67, 0x81, 5, 2, 2];
    pub(super) const TPM_VERSION: &[u8] = &[0x67, 0x81, 5, 2, 3];
    pub(super) const TPM_SPECIFICATION: &[u8] = &[0x67, 0x81, 5, 2, 16];
    pub(super) const ENDORSEMENT_KEY: &[u8] = &[0x67, 0x81, 5, 8, 1];
}

/// What libtpms says of itself: `TPM_PT_MANUFACTURER`, and the first half of its firmware's version.
const MANUFACTURER: &str = "id:49424D00";
const MODEL: &str = "swtpm";
const VERSION: &str = "id:20191023";
/// The specification that it follows: family, level, revision.
const FAMILY: &str = "2.0";
const LEVEL: u8 = 0;
const REVISION: u8 = 164;

/// Whose certificate it is, and what it may do.
enum Form {
    Authority,
    Endorsement,
}

/// The part of the authority's own certificate that it signs.
pub(crate) fn of_authority(authority: &Point, serial: [u8; SERIAL]) -> Vec<u8> {
    to_be_signed(&Form::Authority, authority, authority, serial)
}

/// The part of an endorsement key's certificate that the authority signs.
pub(crate) fn of_endorsement(endorsement: &Point, authority: &Point, serial: [u8; SERIAL]) -> Vec<u8> {
    to_be_signed(&Form::Endorsement, endorsement, authority, serial)
}

/// A whole certificate: what was signed, and the signature.
pub(crate) fn signed(part: &[u8], (r, s): &([u8; 32], [u8; 32])) -> Vec<u8> {
    let signature = sequence(&[&unsigned(r), &unsigned(s)]);
    sequence(&[part, &algorithm(), &bits(0, &signature)])
}

fn to_be_signed(form: &Form, key: &Point, authority: &Point, mut serial: [u8; SERIAL]) -> Vec<u8> {
    // Positive, and as long as it is.
    if let Some(first) = serial.first_mut() {
        *first = *first & 0x3F | 0x40;
    }
    let issuer = name(authority);
    let empty = sequence(&[]);
    let usage = |bit: u8| bits(7 - bit, &[0x80 >> bit]);
    let constraints = |content: &[&[u8]]| extension(object::BASIC_CONSTRAINTS, true, &sequence(content));
    let (subject, extensions) = match form {
        Form::Authority => (
            &issuer,
            [
                // A certificate authority, with none below it.
                constraints(&[&der(tag::BOOLEAN, &[&[0xFF]]), &der(tag::INTEGER, &[&[0]])]),
                extension(object::KEY_USAGE, true, &usage(5)),
                extension(object::SUBJECT_KEY, false, &der(tag::OCTET_STRING, &[&key_identifier(key)])),
            ]
            .concat(),
        ),
        Form::Endorsement => (
            &empty,
            [
                extension(object::ALTERNATIVE_NAME, true, &sequence(&[&which_tpm()])),
                constraints(&[]),
                extension(object::KEY_USAGE, true, &usage(4)),
                extension(object::EXTENDED_KEY_USAGE, false, &sequence(&[&oid(object::ENDORSEMENT_KEY)])),
                extension(object::DIRECTORY_ATTRIBUTES, false, &sequence(&[&specification()])),
                extension(
                    object::AUTHORITY_KEY,
                    false,
                    &sequence(&[&der(tag::IMPLICIT_0, &[&key_identifier(authority)])]),
                ),
            ]
            .concat(),
        ),
    };
    let version_3 = der(tag::EXPLICIT_0, &[&der(tag::INTEGER, &[&[2]])]);
    let from = der(tag::UTC_TIME, &[b"260101000000Z"]);
    let for_ever = der(tag::TIME, &[b"99991231235959Z"]);
    sequence(&[
        &version_3,
        &der(tag::INTEGER, &[&serial]),
        &algorithm(),
        &issuer,
        &sequence(&[&from, &for_ever]),
        subject,
        &public_key(key),
        &der(tag::EXPLICIT_3, &[&sequence(&[&extensions])]),
    ])
}

/// The name of this machine's authority.
fn name(authority: &Point) -> Vec<u8> {
    let number: String = key_identifier(authority).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    sequence(&[&attribute(object::COMMON_NAME, &format!("Bulkhead device {number}"))])
}

/// Which TPM it is (EK Credential Profile, 3.2.9), as a directory's name.
fn which_tpm() -> Vec<u8> {
    let parts = [
        attribute(object::TPM_MANUFACTURER, MANUFACTURER),
        attribute(object::TPM_MODEL, MODEL),
        attribute(object::TPM_VERSION, VERSION),
    ];
    der(tag::EXPLICIT_4, &[&sequence(&[&parts.concat()])])
}

/// The specification that it follows (3.2.10).
fn specification() -> Vec<u8> {
    let revision = der(tag::INTEGER, &[&[0, REVISION]]);
    let said = sequence(&[&der(tag::UTF8, &[FAMILY.as_bytes()]), &der(tag::INTEGER, &[&[LEVEL]]), &revision]);
    sequence(&[&oid(object::TPM_SPECIFICATION), &der(tag::SET, &[&said])])
}

/// The first 160 bits of a key's SHA-256 (RFC 7093).
fn key_identifier(key: &Point) -> [u8; 20] {
    let digest = approval::sha256(&[&[4], &key.x, &key.y]);
    let mut identifier = [0; 20];
    identifier.iter_mut().zip(digest).for_each(|(place, byte)| *place = byte);
    identifier
}

fn public_key(key: &Point) -> Vec<u8> {
    let kind = sequence(&[&oid(object::EC_KEY), &oid(object::P256)]);
    sequence(&[&kind, &bits(0, &[&[4][..], &key.x, &key.y].concat())])
}

fn algorithm() -> Vec<u8> {
    sequence(&[&oid(object::ECDSA_SHA256)])
}

fn attribute(kind: &[u8], text: &str) -> Vec<u8> {
    der(tag::SET, &[&sequence(&[&oid(kind), &der(tag::UTF8, &[text.as_bytes()])])])
}

fn extension(kind: &[u8], critical: bool, content: &[u8]) -> Vec<u8> {
    let critical = if critical { der(tag::BOOLEAN, &[&[0xFF]]) } else { Vec::new() };
    sequence(&[&oid(kind), &critical, &der(tag::OCTET_STRING, &[content])])
}

fn oid(encoded: &[u8]) -> Vec<u8> {
    der(tag::OBJECT, &[encoded])
}

fn bits(unused: u8, content: &[u8]) -> Vec<u8> {
    der(tag::BIT_STRING, &[&[unused], content])
}

/// A number that is not negative, as short as can be.
fn unsigned(bytes: &[u8]) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count().min(bytes.len().saturating_sub(1));
    let bytes = bytes.get(zeros..).unwrap_or_default();
    let sign: &[u8] = if bytes.first().is_some_and(|first| *first >= 0x80) { &[0] } else { &[] };
    der(tag::INTEGER, &[sign, bytes])
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    der(tag::SEQUENCE, parts)
}

/// A value behind its tag and its length, which is written as short as can be.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = u16::try_from(content.len()).expect("certificates are short").to_be_bytes();
    let length: &[u8] = match length {
        [0, short @ 0..0x80] => &[short],
        [0, short] => &[0x81, short],
        [high, low] => &[0x82, high, low],
    };
    [&[tag], length, &content].concat()
}

#[cfg(test)]
pub(crate) mod tests;
