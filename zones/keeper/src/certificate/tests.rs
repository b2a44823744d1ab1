//! Certificates, read by an implementation that is not ours.

use picky_asn1_x509::{Certificate, ExtensionView, GeneralName, PublicKey};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};

use super::*;

/// An authority in memory.
pub(crate) struct Authority(EcdsaKeyPair);

impl Authority {
    pub(crate) fn new() -> Self {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        Self(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pair.as_ref(), &random).unwrap())
    }

    pub(crate) fn point(&self) -> Point {
        let point = self.0.public_key().as_ref();
        Point { x: point[1..33].try_into().unwrap(), y: point[33..].try_into().unwrap() }
    }

    pub(crate) fn certify(&self, endorsement: &Point) -> Vec<u8> {
        self.sign(&of_endorsement(endorsement, &self.point(), [0xFF; SERIAL]))
    }

    fn sign(&self, part: &[u8]) -> Vec<u8> {
        let signature = self.0.sign(&SystemRandom::new(), part).unwrap();
        let half = |range| <[u8; 32]>::try_from(&signature.as_ref()[range]).unwrap();
        signed(part, &(half(0..32), half(32..64)))
    }
}

/// Reads a certificate after its signature was checked; the key that it is about.
pub(crate) fn read(certificate: &[u8], by: &Point) -> Option<(Certificate, Point)> {
    let read: Certificate = picky_asn1_der::from_bytes(certificate).ok()?;
    // Both lengths have two bytes.
    let size = u16::from_be_bytes(certificate[6..8].try_into().unwrap());
    let part = &certificate[4..8 + usize::from(size)];
    assert_eq!((&certificate[..2], &part[..2]), (&[0x30, 0x82][..], &[0x30, 0x82][..]));
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, [&[4][..], &by.x, &by.y].concat());
    key.verify(part, read.signature_value.payload_view()).ok()?;
    let PublicKey::Ec(point) = &read.tbs_certificate.subject_public_key_info.subject_public_key else {
        return None;
    };
    let point = point.payload_view();
    let point = Point { x: point[1..33].try_into().unwrap(), y: point[33..].try_into().unwrap() };
    Some((read, point))
}

/// What one `NV_Write` of a zone's TPM takes.
const LONGEST: usize = 1024;

const ENDORSEMENT: Point = Point { x: [0x11; 32], y: [0x22; 32] };

#[test]
fn an_endorsement_key_is_certified_as_the_profile_says() {
    let authority = Authority::new();
    let bytes = authority.certify(&ENDORSEMENT);
    assert!(bytes.len() <= LONGEST, "{} bytes", bytes.len());
    let (certificate, key) = read(&bytes, &authority.point()).unwrap();
    assert_eq!(key, ENDORSEMENT);
    let part = &certificate.tbs_certificate;
    assert_eq!(part.serial_number.as_signed_bytes_be().len(), SERIAL);
    assert!(part.serial_number.is_positive());
    assert_eq!(part.subject.to_string(), "");
    let usage: Vec<_> = certificate.extensions().iter().map(|extension| extension.critical()).collect();
    assert_eq!(usage, [true, true, true, false, false, false]);
    let mut seen = 0;
    for extension in certificate.extensions() {
        match extension.extn_value() {
            ExtensionView::KeyUsage(usage) => {
                assert!(usage.key_agreement() && !usage.digital_signature() && !usage.key_cert_sign());
            }
            ExtensionView::ExtendedKeyUsage(usage) => {
                let purposes: Vec<String> = usage.iter().map(|purpose| purpose.0.clone().into()).collect();
                assert_eq!(purposes, ["2.23.133.8.1"]);
            }
            ExtensionView::BasicConstraints(constraints) => assert_ne!(constraints.ca(), Some(true)),
            ExtensionView::SubjectAltName(names) => {
                let GeneralName::DirectoryName(name) = &names.0[0] else { panic!("no directory's name") };
                let kinds: Vec<String> = name.0.0.iter().map(|set| set.0[0].ty.0.clone().into()).collect();
                assert_eq!(kinds, ["2.23.133.2.1", "2.23.133.2.2", "2.23.133.2.3"]);
            }
            ExtensionView::AuthorityKeyIdentifier(identifier) => {
                assert_eq!(identifier.key_identifier(), Some(&key_identifier(&authority.point())[..]));
            }
            ExtensionView::SubjectKeyIdentifier(_)
            | ExtensionView::IssuerAltName(_)
            | ExtensionView::Generic(_)
            | ExtensionView::CrlNumber(_) => continue,
        }
        seen += 1;
    }
    assert_eq!(seen, 5);
    // Nobody else made it.
    assert!(read(&bytes, &Authority::new().point()).is_none());
    let mut altered = bytes;
    let place = altered.windows(32).position(|window| window == [0x11; 32]).unwrap();
    altered[place] ^= 1;
    assert!(read(&altered, &authority.point()).is_none());
}

#[test]
fn the_authority_signs_itself_and_what_it_certifies_names_it() {
    let authority = Authority::new();
    let own = authority.sign(&of_authority(&authority.point(), [0; SERIAL]));
    let (own, key) = read(&own, &authority.point()).unwrap();
    assert_eq!(key, authority.point());
    assert!(own.basic_constraints().unwrap().ca() == Some(true));
    assert_eq!(own.basic_constraints().unwrap().pathlen(), Some(0));
    assert_eq!(own.subject_key_identifier(), Some(&key_identifier(&authority.point())[..]));
    let (certified, _) = read(&authority.certify(&ENDORSEMENT), &authority.point()).unwrap();
    let issuer = &certified.tbs_certificate.issuer;
    assert_eq!((issuer, &own.tbs_certificate.issuer), (&own.tbs_certificate.subject, issuer));
    assert!(issuer.to_string().contains("Bulkhead device "), "{issuer}");
}

#[test]
fn numbers_are_written_as_short_as_can_be() {
    for (bytes, written) in [
        (&[0, 0][..], &[2, 1, 0][..]),
        (&[0, 0x7F], &[2, 1, 0x7F]),
        (&[0, 0x80], &[2, 2, 0, 0x80]),
        (&[0x80, 1], &[2, 3, 0, 0x80, 1]),
    ] {
        assert_eq!(unsigned(bytes), written);
    }
    let long = der(4, &[&[7; 300]]);
    assert_eq!((&long[..4], long.len()), (&[4, 0x82, 1, 44][..], 304));
    assert_eq!(der(4, &[&[7; 200]])[..3], [4, 0x81, 200]);
}
