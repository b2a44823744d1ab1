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
        Policy::authorize(&key(), FIRMWARE).digest(),
        Policy::authorize(&key(), HOST).digest(),
        Policy::authorize(&key(), HOST).auth_value().digest(),
        Policy::authorize(&key(), HOST).secret(&[1]).digest(),
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
    let approval = approver.approve(HOST, host_policy(&[[0; 32]; 3])).unwrap();
    assert_eq!(Approval::decode(&approval.encode()), Ok(approval.clone()));
    let all = Approvals { key, approved: vec![approval.clone()] };
    assert_eq!(Approvals::decode(&all.encode()), Ok(all.clone()));
    let bytes = all.encode();
    assert_eq!(Approvals::decode(&bytes[1..]), Err(DecodeError));
    assert_eq!(Approvals::decode(&[&bytes[..], &[0]].concat()), Err(DecodeError));
    assert_eq!(Approvals::decode(&vec![0; MAX_SIZE + 1]), Err(DecodeError));
    // The signature is over policy and purpose.
    let point = [&[4][..], &key.x, &key.y].concat();
    let public = ring::signature::UnparsedPublicKey::new(&ring::signature::ECDSA_P256_SHA256_FIXED, point);
    let signature = [approval.signature.0, approval.signature.1].concat();
    let signed = |policy: &Digest, purpose: &str| [&policy[..], purpose.as_bytes()].concat();
    assert!(public.verify(&signed(&approval.policy, HOST), &signature).is_ok());
    assert!(public.verify(&signed(&approval.policy, FIRMWARE), &signature).is_err());
    assert_eq!(approval.hash(), sha256(&[&signed(&approval.policy, HOST)]));
    assert_eq!(Approver::from_pkcs8(b"no key").err(), Some(KeyError));
}
