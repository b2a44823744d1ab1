use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As `tpm2-tools` sends them, but for the digests.
#[test]
fn commands_are_those_of_the_specification() {
    let digest = [0xAB; 32];
    let text = "ab".repeat(32);
    let extend_text = format!(
        "8002000000cb000001820000000800000009400000090000000000 00000004 000b{text} 0004{} 000c{text}{} 000d{text}{}",
        &text[..40],
        "0".repeat(32),
        "0".repeat(64)
    )
    .replace(' ', "");
    let check = |command: Vec<u8>, expected: String| assert_eq!(hex(&command), expected);
    check(startup(), "80010000000c000001440000".to_owned());
    check(extend(8, &digest), extend_text.to_owned());
    check(undefine(RECORD), "80020000001f000001224000000c0140000100000009400000090000000000".to_owned());
    check(
        define(RECORD, &[], &[]),
        "80020000002d0000012a4000000c00000009400000090000000000 0000 000e 01400001 000b 42050001 0000 0020"
            .replace(' ', ""),
    );
    check(
        define(KEPT, &[0xAA; 2], &[0xBB; 32]),
        format!(
            "80020000004f0000012a4000000c00000009400000090000000000 0002aaaa 002e 01400002 000b 42080001 0020{} 0060",
            "bb".repeat(32)
        )
        .replace(' ', ""),
    );
    let write_text = format!("800200000043000001374000000c01400001000000094000000900000000000020{text}0000");
    check(write(RECORD, &digest), write_text);
    check(
        read(KEPT, 0x0300_0000, &[0xAA; 2]),
        "8002000000250000014e 01400002 01400002 0000000b 03000000 0000 00 0002aaaa 0060 0000"
            .replace(' ', ""),
    );
    check(
        policy_session(),
        format!("80010000002b00000176 40000007 40000007 0010{} 0000 01 0010 000b", "0".repeat(32))
            .replace(' ', ""),
    );
    check(
        policy_pcrs(0x0300_0000, &[0, 11]),
        "80010000001a0000017f 03000000 0000 00000001 000b 03 010800".replace(' ', ""),
    );
    let key = ApprovalKey { x: [1; 32], y: [2; 32] };
    let area = hex(&key.public_area());
    check(load_key(&key), format!("80010000006a000001670000 0058{area} 4000000c").replace(' ', ""));
    let approval = Approval {
        purpose: "for".to_owned(),
        phase: "then".to_owned(),
        epoch: 1,
        policy: digest,
        signature: ([3; 32], [4; 32]),
        epoch_signature: ([5; 32], [6; 32]),
    };
    let reference = hex(&approval.reference());
    let (hash, name) = (hex(&approval.hash()), hex(&key.name()));
    check(
        verify(0x8000_0000, &approval),
        format!(
            "80010000007800000177 80000000 0020{hash} 0018 000b 0020{} 0020{}",
            "03".repeat(32),
            "04".repeat(32)
        )
        .replace(' ', ""),
    );
    check(
        authorize(0x0300_0000, &key, &approval, &[0x80, 0x22]),
        format!("8001000000780000016a 03000000 0020{text} 0020{reference} 0022{name} 8022").replace(' ', ""),
    );
    check(
        define(certificate_index(600), &[], &[]),
        "80020000002d0000012a4000000c00000009400000090000000000 0000 000e 01c0000a 000b 42070001 0000 0258"
            .replace(' ', ""),
    );
    let zeros = "0".repeat(64);
    check(
        create_endorsement_key(),
        format!(
            "8002000000a300000131 4000000b 00000009 40000009 0000 00 0000 0004 0000 0000 007a 0023 000b 000300b2 0020 \
             837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa 0006 0080 0043 0010 0003 0010 \
             0020{zeros} 0020{zeros} 0000 00000000"
        )
        .replace(' ', ""),
    );
    check(policy_password(0x0300_0000), "80010000000e0000018c03000000".to_owned());
    check(flush(0x8000_0000), "80010000000e0000016580000000".to_owned());
    check(request(control::SET_LOCALITY, &[4]), "0000000504".to_owned());
}
