//! A beginning, played against a table of answers.

use super::*;

const MEASURED: Measured =
    Measured { kernel: [4; 32], command_line: [8; 32], initrd: [9; 32], record: Some([11; 32]) };

/// What a well-behaved TPM answers.
fn answer(question: &Question) -> Vec<u8> {
    match question.expect {
        Expect::Capabilities => u64::MAX.to_be_bytes().to_vec(),
        Expect::Zero => vec![0; 4],
        Expect::Buffer => [0, BUFFER_SIZE, 2808, 4096].map(u32::to_be_bytes).concat(),
        Expect::Response { .. } => response(0),
    }
}

fn response(code: u32) -> Vec<u8> {
    [&[0x80, 1, 0, 0, 0, 10][..], &code.to_be_bytes()].concat()
}

/// Plays it to the question called `name`, which gets `last`.
fn play(begin: &mut Begin, name: &str, last: &[u8]) -> Result<Progress, BeginError> {
    loop {
        let question = begin.question().unwrap().clone();
        if question.name == name {
            return begin.answered(question.to, last);
        }
        assert_eq!(begin.answered(question.to, &answer(&question)), Ok(Progress::Next));
    }
}

#[test]
fn everything_is_said_in_order() {
    let firmware = vec![7; 5000];
    let mut begin = Begin::new(&firmware, &MEASURED);
    let (mut said, mut hashed) = (Vec::new(), Vec::new());
    let mut progress = Progress::Next;
    while let Some(question) = begin.question().cloned() {
        assert_eq!(progress, Progress::Next);
        said.push((question.name, question.to));
        if question.name == "HASH_DATA" {
            assert_eq!(question.bytes.len() - 8, usize::try_from(word(&question.bytes, 4).unwrap()).unwrap());
            hashed.extend_from_slice(&question.bytes[8..]);
        }
        // Byte by byte: an answer may come in any pieces.
        for byte in answer(&question) {
            progress = begin.answered(question.to, &[byte]).unwrap();
        }
    }
    assert_eq!((progress, hashed), (Progress::Done, firmware));
    let (control, data) = (To::Control, To::Data);
    let expected = [
        ("GET_CAPABILITY", control),
        ("STOP", control),
        ("SET_BUFFERSIZE", control),
        ("INIT", control),
        ("SET_LOCALITY", control),
        ("HASH_START", control),
        ("HASH_DATA", control),
        ("HASH_DATA", control),
        ("HASH_END", control),
        ("SET_LOCALITY", control),
        ("SET_DATAFD", To::ControlWithData),
        ("Startup", data),
        ("PCR_Extend", data),
        ("PCR_Extend", data),
        ("PCR_Extend", data),
        ("NV_UndefineSpace", data),
        ("NV_DefineSpace", data),
        ("NV_Write", data),
    ];
    assert_eq!(said, expected);
    assert_eq!(begin.answered(To::Data, &[0]), Err(BeginError::Unasked));
}

#[test]
fn without_a_record_there_is_no_index() {
    let begin = Begin::new(b"x", &Measured { record: None, ..MEASURED });
    assert_eq!(begin.questions.last().unwrap().name, "NV_UndefineSpace");
    let mut begin = Begin::new(b"x", &Measured { record: None, ..MEASURED });
    // That there was none is as good.
    assert_eq!(play(&mut begin, "NV_UndefineSpace", &response(0x28B)), Ok(Progress::Done));
}

#[test]
fn anything_else_than_the_expected_answer_ends_it() {
    let check = |name, last: &[u8], expected| {
        let mut begin = Begin::new(b"x", &MEASURED);
        assert_eq!(play(&mut begin, name, last), Err(expected), "{name}");
    };
    let refused = |step, code| BeginError::Refused { step, code };
    check("GET_CAPABILITY", &(control::NEEDED & !1).to_be_bytes(), BeginError::Capabilities(0x3418));
    check("STOP", &[0, 0, 0, 9], refused("STOP", 9));
    check("STOP", &[0; 5], BeginError::Malformed("STOP"));
    check("SET_BUFFERSIZE", &[0, 0, 0, 9], refused("SET_BUFFERSIZE", 9));
    let other = [0, 4096, 2808, 4096].map(u32::to_be_bytes).concat();
    check("SET_BUFFERSIZE", &other, BeginError::Buffer(4096));
    check("INIT", &[0, 0, 0, 9], refused("INIT", 9));
    check("HASH_END", &[0, 0, 0, 0x1F], refused("HASH_END", 0x1F));
    check("Startup", &response(0x100), refused("Startup", 0x100));
    check("PCR_Extend", &response(0x922), refused("PCR_Extend", 0x922));
    check("NV_Write", &response(0x28B), refused("NV_Write", 0x28B));
    check("Startup", &[&response(0)[..], &[0]].concat(), BeginError::Malformed("Startup"));
    check("Startup", &[0x80, 1, 0xFF, 0xFF, 0xFF, 0xFF], BeginError::Malformed("Startup"));
    check("Startup", &[0; 65], BeginError::Malformed("Startup"));
    // On the wrong channel.
    let mut begin = Begin::new(b"x", &MEASURED);
    assert_eq!(begin.answered(To::Data, &[0]), Err(BeginError::Unasked));
    assert_eq!(begin.answered(To::Control, &u64::MAX.to_be_bytes()), Ok(Progress::Next));
}
