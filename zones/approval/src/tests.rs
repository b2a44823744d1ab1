use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn key() -> ApprovalKey {
    ApprovalKey { x: [1; 32], y: [2; 32] }
}

#[test]
fn a_public_area_is_what_a_tpm_writes() {
    let expected =
        format!("0023000b000400400000001000 18000b00030010 0020{}0020{}", "01".repeat(32), "02".repeat(32));
    assert_eq!(hex(&key().public_area()), expected.replace(' ', ""));
    assert_eq!((key().name().len(), &key().name()[..2]), (34, &[0, 11][..]));
}

#[test]
fn every_part_of_a_state_has_its_say() {
    let policy = |kernel, command_line, initrd| {
        template_policy(&key(), &[kernel; 32], &[command_line; 32], &[initrd; 32])
    };
    let other = ApprovalKey { x: [3; 32], ..key() };
    let all = [
        policy(1, 2, 3),
        policy(9, 2, 3),
        policy(1, 9, 3),
        policy(1, 2, 9),
        template_policy(&other, &[1; 32], &[2; 32], &[3; 32]),
        firmware_policy(&[1; 32]),
        firmware_policy(&[2; 32]),
        host_policy(&[[0; 32]; 3]),
        host_policy(&[[1; 32], [0; 32], [0; 32]]),
        Policy::authorize(&key(), FIRMWARE, BEFORE_GUEST).digest(),
        Policy::authorize(&key(), FIRMWARE, RUNNING).digest(),
        Policy::authorize(&key(), HOST, RUNNING).digest(),
        Policy::authorize(&key(), HOST, RUNNING).auth_value().digest(),
        Policy::authorize(&key(), HOST, RUNNING).secret(&[1]).digest(),
    ];
    let different: std::collections::BTreeSet<_> = all.iter().collect();
    assert_eq!(different.len(), all.len());
}

#[test]
fn a_selection_has_a_bit_for_each_register() {
    assert_eq!(hex(&selection(&[0, 11])), "00000001000b03010800");
    assert_eq!(hex(&selection(&[4, 8, 9])), "00000001000b03100300");
}

#[test]
fn approvals_come_back_as_they_were_signed() {
    let approver = Approver::from_pkcs8(&Approver::generate().unwrap()).unwrap();
    let key = approver.key().unwrap();
    let approval = approver.approve(HOST, RUNNING, 3, host_policy(&[[0; 32]; 3])).unwrap();
    assert_eq!(Approval::decode(&approval.encode()), Ok(approval.clone()));
    let all = Approvals { key, approved: vec![approval.clone()] };
    assert_eq!(Approvals::decode(&all.encode()), Ok(all.clone()));
    let bytes = all.encode();
    assert_eq!(Approvals::decode(&bytes[1..]), Err(DecodeError));
    assert_eq!(Approvals::decode(&[&bytes[..], &[0]].concat()), Err(DecodeError));
    assert_eq!(Approvals::decode(&vec![0; MAX_SIZE + 1]), Err(DecodeError));
    // The signature is over policy, purpose and phase.
    let point = [&[4][..], &key.x, &key.y].concat();
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
    let signature = [approval.signature.0, approval.signature.1].concat();
    let signed = |purpose: &str, phase: &str| [approval.policy, reference(purpose, phase)].concat();
    assert!(public.verify(&signed(HOST, RUNNING), &signature).is_ok());
    assert!(public.verify(&signed(FIRMWARE, RUNNING), &signature).is_err());
    assert!(public.verify(&signed(HOST, BEFORE_GUEST), &signature).is_err());
    assert_eq!(approval.hash(), sha256(&[&signed(HOST, RUNNING)]));
    assert_eq!(Approver::from_pkcs8(b"no key").err(), Some(KeyError));
}

#[test]
fn every_part_of_an_approval_is_signed_with_its_epoch() {
    let approver = Approver::from_pkcs8(&Approver::generate().unwrap()).unwrap();
    let approval = approver.approve(HOST, RUNNING, 3, [6; 32]).unwrap();
    let key = approver.key().unwrap();
    assert!(key.vouches(&approval));
    let all = [
        Approval { epoch: 4, ..approval.clone() },
        Approval { policy: [7; 32], ..approval.clone() },
        Approval { purpose: FIRMWARE.to_owned(), ..approval.clone() },
        Approval { phase: BEFORE_GUEST.to_owned(), ..approval.clone() },
        // The other signature.
        Approval { epoch_signature: approval.signature, ..approval.clone() },
        approver.approve(HOST, RUNNING, 3, [6; 32]).map(|other| Approval { epoch: 2, ..other }).unwrap(),
    ];
    for altered in &all {
        assert!(!key.vouches(altered), "{altered:?}");
    }
    let stranger = Approver::from_pkcs8(&Approver::generate().unwrap()).unwrap();
    assert!(!stranger.key().unwrap().vouches(&approval));
    // And a TPM takes the second one for nothing.
    assert_eq!(approval.with_epoch().len(), 32 + 4 + 32 + 32);
    // Another epoch is for the same seals.
    let next = approver.approve(HOST, RUNNING, 4, [6; 32]).unwrap();
    assert_eq!((next.hash(), next.reference()), (approval.hash(), approval.reference()));
    // Where one ends and the other begins is part of it.
    assert_ne!(reference("ab", "c"), reference("a", "bc"));
}
