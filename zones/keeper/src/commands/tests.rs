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
    check(forget_record(), "80020000001f000001224000000c0140000100000009400000090000000000".to_owned());
    check(
        define_record(),
        "80020000002d0000012a4000000c00000009400000090000000000 0000 000e 01400001 000b 42050001 0000 0020"
            .replace(' ', ""),
    );
    let write = format!("800200000043000001374000000c01400001000000094000000900000000000020{text}0000");
    check(write_record(&digest), write);
    check(request(control::SET_LOCALITY, &[4]), "0000000504".to_owned());
}
