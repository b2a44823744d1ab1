//! Manifests, keys and trees; signatures are checked by an implementation that is not ours.

use proptest::prelude::*;

use super::*;
use crate::verity::{BLOCK, tree};

fn key(number: u8) -> SigningKey {
    SigningKey::from_seed([number; 8], [number; 32])
}

fn manifest() -> Manifest {
    let sum = FileSum { size: 5, sha256: [0xab; 32] };
    let root = Root { size: 4096, sha256: [1; 32], data_blocks: 1, verity: [2; 32] };
    let command_line = "console=hvc0 quiet";
    let recipe = Recipe { name: "micro", epoch: 3, version: 7, memory_min_mib: 96, command_line };
    Manifest::new(&recipe, sum, sum, root).unwrap()
}

fn rules() -> Rules {
    Rules::parse(&Rules::text(3, &key(1).public_key())).unwrap()
}

#[test]
fn what_was_signed_is_verified() {
    let text = manifest().encode();
    let verified =
        verify("micro", text.as_bytes(), key(1).sign(text.as_bytes()).as_bytes(), &rules()).unwrap();
    assert_eq!(*verified, manifest());
    let hash = "02".repeat(32);
    assert_eq!(verified.command_line(), format!("console=hvc0 quiet bulkhead.root=1,{hash}"));
}

#[test]
fn each_refusal_says_what_was_found_and_what_is_allowed() {
    let check = |name: &str, text: &str, signature: &str, expected: &str| {
        let error = verify(name, text.as_bytes(), signature.as_bytes(), &rules()).unwrap_err();
        assert_eq!(error.to_string(), expected);
    };
    let text = manifest().encode();
    let signed = key(1).sign(text.as_bytes());
    let (one, two) = ("0101010101010101", "0202020202020202");
    let none = format!("signature: found no minisign signature, allowed is one by {one}");
    check("micro", &text, "", &none);
    check("micro", &text, &signed[..100], &none);
    let long = signed.replace("verify with minisign", &"x".repeat(MAX_SIGNATURE));
    check("micro", &text, &long, &none);
    check(
        "micro",
        &text,
        &key(2).sign(text.as_bytes()),
        &format!("signature: found one by key {two}, allowed is one by {one}"),
    );
    let altered = format!(
        "signature: found one by key {one} that does not fit the manifest, allowed are the signed bytes only"
    );
    check("micro", &text.replace("version = 7", "version = 8"), &signed, &altered);
    // Another key that calls itself by the same number.
    check("micro", &text, &SigningKey::from_seed([1; 8], [9; 32]).sign(text.as_bytes()), &altered);
    check("debian", &text, &signed, "name: found \"micro\", allowed is \"debian\"");
    let old = text.replace("epoch = 3", "epoch = 2");
    check("micro", &old, &key(1).sign(old.as_bytes()), "epoch: found 2, allowed is 3 or above");
    let spaced = text.replace("epoch = 3", "epoch  = 3");
    check(
        "micro",
        &spaced,
        &key(1).sign(spaced.as_bytes()),
        "found a manifest that is not in its canonical form",
    );
}

#[test]
fn a_file_in_pieces_has_the_sum_of_the_whole() {
    let mut summer = Summer::default();
    summer.add(b"a");
    summer.add(b"bc");
    let expected = "3 bytes with SHA-256 ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(summer.finish().to_string(), expected);
}

#[test]
fn a_manifest_with_a_mistake_is_refused() {
    let check = |from: &str, to: &str, expected: &str| {
        let error = Manifest::decode(manifest().encode().replacen(from, to, 1).as_bytes()).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    };
    check("schema = 1", "schema = 2", "schema: found 2, allowed is 1");
    check("memory_min_mib", "memory_min_mb", "unknown field `memory_min_mb`");
    check("abab", "abag", "allowed are 64 hexadecimal digits");
    check("abab", "ab", "allowed are 64 hexadecimal digits");
    check("\"micro\"", "\"../micro\"", "name: found \"../micro\", allowed is a-z, 0-9 and -, at most 64");
    check("quiet", "bulkhead.root=9", "without quotes, backslashes and bulkhead.");
    check("quiet", "bulkhead.keep=/etc", "without quotes, backslashes and bulkhead.");
    check("data_blocks = 1", "data_blocks = 2", "root.data_blocks: found 2");
    check("data_blocks = 1", "data_blocks = 0", "root.data_blocks: found 0");
    let long = vec![b'#'; MAX_SIZE + 1];
    assert_eq!(Manifest::decode(&long).unwrap_err(), ManifestError::Long(MAX_SIZE + 1));
    assert_eq!(Manifest::decode(&[0xff]).unwrap_err(), ManifestError::Text);
}

#[test]
fn rules_with_a_mistake_are_refused() {
    let check =
        |text: &str, expected: &str| assert_eq!(Rules::parse(text).unwrap_err().to_string(), expected);
    check("minimum_epoch = 1\nkeys = []\n", "keys: found none, at least one is needed");
    check(
        "minimum_epoch = 1\nkeys = [\"RWx\"]\n",
        "keys: found \"RWx\", allowed are minisign public keys (RW...)",
    );
    assert!(Rules::parse("keys = []").unwrap_err().to_string().contains("minimum_epoch"));
}

#[test]
fn a_secret_key_is_read_back_and_a_damaged_one_is_not() {
    let file = key(4).secret_key_file();
    assert_eq!(SigningKey::parse(&file).unwrap().public_key(), key(4).public_key());
    let (comment, line) = file.trim_end().split_once('\n').unwrap();
    // Bytes 0..6 say that there is no password, the seed begins at 62.
    let damage = |at: usize, with: &str| {
        let mut line = line.to_owned();
        line.replace_range(at..at + with.len(), with);
        SigningKey::parse(&format!("{comment}\n{line}\n")).unwrap_err()
    };
    assert_eq!(damage(100, "zzzz"), KeyError::Damaged);
    assert_eq!(damage(0, "AAAA"), KeyError::Form);
    assert_eq!(damage(0, "RWRTY0Iy"), KeyError::Password);
    assert_eq!(SigningKey::parse("one line").unwrap_err(), KeyError::Form);
}

/// Figures of `veritysetup format --no-superblock --salt=-` over the same data.
#[test]
fn a_tree_is_what_veritysetup_makes() {
    let data: Vec<u8> = (0..300 * BLOCK).map(|at| u8::try_from(at / BLOCK % 251).unwrap()).collect();
    let tree = tree(&data).unwrap();
    assert_eq!(tree.data_blocks, 300);
    assert_eq!(tree.bytes.len(), 4 * BLOCK);
    assert_eq!(manifest::hex(&tree.root), "edc24cd4615abcd726845d41c1e48a99aeb5837da57ffd6c74dce3919d1d6447");
    let one = verity::tree(&data[..BLOCK]).unwrap();
    assert_eq!(manifest::hex(&one.root), "ad7facb2586fc6e966c004d7d1d16b024f5805ff7cb47c7a85dabd8b48892ca7");
    assert_eq!(one.bytes.len(), 0);
}

#[test]
fn a_tree_needs_whole_blocks() {
    assert_eq!(tree(&[]), None);
    assert_eq!(tree(&[0; BLOCK + 1]), None);
    assert_eq!(verity::size(0), Some(0));
    assert_eq!(verity::size(u64::MAX), None);
}

proptest! {
    #[test]
    fn property_a_tree_has_the_size_that_is_foretold(blocks in 1_usize..700) {
        let tree = tree(&vec![7; blocks * BLOCK]).unwrap();
        let whole = blocks * BLOCK + tree.bytes.len();
        prop_assert_eq!(verity::size(tree.data_blocks), u64::try_from(whole).ok());
    }

    #[test]
    fn property_hostile_bytes_are_refused_without_panic(manifest: Vec<u8>, signature: Vec<u8>, text in ".{0,400}") {
        prop_assert!(verify("micro", &manifest, &signature, &rules()).is_err());
        prop_assert!(verify("micro", text.as_bytes(), text.as_bytes(), &rules()).is_err());
        prop_assert!(Manifest::decode(text.as_bytes()).is_err());
        prop_assert!(Rules::parse(&text).is_err() && SigningKey::parse(&text).is_err());
    }

    #[test]
    fn property_one_changed_byte_is_refused(at in 0_usize..2000, bit in 0_u32..8) {
        let text = manifest().encode();
        let signature = key(1).sign(text.as_bytes());
        let mut bytes = text.clone().into_bytes();
        let at = at % bytes.len();
        bytes[at] ^= 1_u8 << bit;
        prop_assert!(verify("micro", &bytes, signature.as_bytes(), &rules()).is_err());
    }
}
