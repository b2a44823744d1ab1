//! A beginning, played against a table of answers.

use approval::Approver;

use super::*;

const MEASURED: Measured = Measured { kernel: [4; 32], command_line: [8; 32], initrd: [9; 32] };
const AUTH: Digest = [0xA0; 32];

fn approval(purpose: &str) -> Approval {
    let none = ([0; 32], [0; 32]);
    let (purpose, phase) = (purpose.to_owned(), BEFORE_GUEST.to_owned());
    Approval {
        purpose,
        phase,
        epoch: 1,
        policy: [6; 32],
        signature: ([1; 32], [2; 32]),
        epoch_signature: none,
    }
}

fn kept() -> Kept {
    Kept::new(Zeroizing::new([0x4B; KEPT_BYTES as usize]))
}

fn begin(firmware: &[u8], new: Option<&Kept>) -> Begin {
    Begin::new(&Plan {
        firmware,
        measured: MEASURED,
        key: ApprovalKey { x: [1; 32], y: [2; 32] },
        approvals: [approval(FIRMWARE), approval("bulkhead template micro")],
        template: "micro",
        auth: &AUTH,
        new,
        certified: true,
    })
}

/// What a well-behaved TPM answers.
fn answer(question: &Question) -> Vec<u8> {
    match question.expect {
        Expect::Capabilities => u64::MAX.to_be_bytes().to_vec(),
        Expect::Zero => vec![0; 4],
        Expect::Buffer => [0, BUFFER_SIZE, 2808, 4096].map(u32::to_be_bytes).concat(),
        Expect::Response { .. } => response(0),
        Expect::Carries(Carried::Session) => with(&0x0300_0007_u32.to_be_bytes()),
        Expect::Carries(Carried::Key) => with(&[&0x8000_0009_u32.to_be_bytes()[..], &[0, 2, 5, 5]].concat()),
        Expect::Carries(Carried::Ticket) => with(b"ticket"),
        Expect::Carries(Carried::Endorsement) => with(&endorsement_key(&[[0, 32]; 2])),
        Expect::Carries(Carried::Kept) => {
            with(&[&98_u32.to_be_bytes()[..], &[0, 96], &kept()[..], &[0; 5]].concat())
        }
    }
}

/// What a TPM says of its endorsement key, whose coordinates have these lengths.
fn endorsement_key(lengths: &[[u8; 2]; 2]) -> Vec<u8> {
    let [x, y] = lengths;
    let area = [&commands::endorsement_template()[..], x, &[0xE1; 32], y, &[0xE2; 32]].concat();
    [&0x8000_0003_u32.to_be_bytes()[..], &[0; 4], &[0, 0], &area, &[7; 90]].concat()
}

fn response(code: u32) -> Vec<u8> {
    [&[0x80, 1, 0, 0, 0, 10][..], &code.to_be_bytes()].concat()
}

/// A response that carries something.
fn with(parameters: &[u8]) -> Vec<u8> {
    let length = u32::try_from(10 + parameters.len()).unwrap();
    [&[0x80, 2][..], &length.to_be_bytes(), &[0; 4], parameters].concat()
}

/// Plays it to the question called `name`, which gets `last`.
fn play(begin: &mut Begin, name: &str, last: &[u8]) -> Result<Progress, BeginError> {
    loop {
        let question = begin.question().unwrap();
        if question.name == name {
            return begin.answered(question.to, last);
        }
        assert_eq!(begin.answered(question.to, &answer(&question)), Ok(Progress::Next), "{}", question.name);
    }
}

/// Plays it until it opened or is done; what was said.
fn said(begin: &mut Begin) -> (Vec<(&'static str, To)>, Progress) {
    let (mut said, mut progress) = (Vec::new(), Progress::Next);
    while progress == Progress::Next {
        let question = begin.question().unwrap();
        said.push((question.name, question.to));
        // Byte by byte: an answer may come in any pieces.
        for byte in answer(&question) {
            progress = begin.answered(question.to, &[byte]).unwrap();
        }
    }
    (said, progress)
}

const CONTROL: [(&str, To); 9] = [
    ("GET_CAPABILITY", To::Control),
    ("STOP", To::Control),
    ("SET_BUFFERSIZE", To::Control),
    ("INIT", To::Control),
    ("SET_LOCALITY", To::Control),
    ("HASH_START", To::Control),
    ("HASH_DATA", To::Control),
    ("HASH_END", To::Control),
    ("SET_LOCALITY", To::Control),
];

const MEASURE: [&str; 4] = ["Startup", "PCR_Extend", "PCR_Extend", "PCR_Extend"];
const MAKE: [&str; 3] = ["NV_UndefineSpace", "NV_DefineSpace", "NV_Write"];
const ENDORSE: [&str; 2] = ["CreatePrimary", "FlushContext"];
const OPEN: [&str; 11] = [
    "StartAuthSession",
    "LoadExternal",
    "PolicyPCR",
    VERIFY_FIRMWARE,
    AUTHORIZE_FIRMWARE,
    "PolicyPCR",
    VERIFY_TEMPLATE,
    AUTHORIZE_TEMPLATE,
    "FlushContext",
    "PolicyPassword",
    READ,
];

fn expected(data: &[&[&'static str]]) -> Vec<(&'static str, To)> {
    let mut all = CONTROL.to_vec();
    all.push(("SET_DATAFD", To::ControlWithData));
    all.extend(data.iter().copied().flatten().map(|name| (*name, To::Data)));
    all
}

#[test]
fn everything_is_said_in_order() {
    let mut begin = begin(b"x", None);
    assert_eq!(said(&mut begin), (expected(&[&MEASURE, &OPEN]), Progress::Opened));
    // What the TPM named is what is named to it.
    assert_eq!(
        (begin.heard.session, begin.heard.key, &begin.heard.ticket[..]),
        (0x0300_0007, 0x8000_0009, &b"ticket"[..])
    );
    assert_eq!(begin.question(), None);
    assert_eq!(begin.answered(To::Data, &[0]), Err(BeginError::Unasked));
    assert_eq!((begin.kept(), begin.kept()), (Some(kept()), None));
    begin.vouch(&[11; 32]);
    assert_eq!(begin.question().unwrap().bytes[..], commands::write(RECORD, &[11; 32]));
    assert_eq!(said(&mut begin), (vec![("NV_Write", To::Data)], Progress::Done));
}

#[test]
fn a_new_tpm_is_given_what_it_keeps() {
    let kept = kept();
    let mut begin = begin(b"x", Some(&kept));
    assert_eq!(said(&mut begin), (expected(&[&MEASURE, &MAKE, &ENDORSE, &OPEN]), Progress::Opened));
    assert_eq!(begin.endorsement(), Some(Point { x: [0xE1; 32], y: [0xE2; 32] }));
    begin.certify(b"certificate");
    begin.vouch(&[11; 32]);
    // The certificate's index, then the record's.
    let data: Vec<_> = MAKE.iter().chain(&MAKE).map(|name| (*name, To::Data)).collect();
    assert_eq!(said(&mut begin), (data, Progress::Done));
}

#[test]
fn the_firmware_is_hashed_in_pieces() {
    let firmware: Vec<u8> = (0..9000_u32).map(|number| number.to_le_bytes()[0]).collect();
    let mut begin = begin(&firmware, None);
    let mut hashed = Vec::new();
    while let Some(question) = begin.question() {
        if question.name == "HASH_DATA" {
            assert_eq!(question.bytes.len() - 8, usize::try_from(word(&question.bytes, 4).unwrap()).unwrap());
            hashed.extend_from_slice(&question.bytes[8..]);
        }
        begin.answered(question.to, &answer(&question)).unwrap();
    }
    assert_eq!(hashed, firmware);
}

#[test]
fn an_approval_for_something_else_is_shown_as_what_it_has_to_be() {
    let approver = Approver::from_pkcs8(&Approver::generate().unwrap()).unwrap();
    let other = approver.approve("bulkhead template debian", "later", 1, [6; 32]).unwrap();
    let mut begin = Begin::new(&Plan {
        firmware: b"x",
        measured: MEASURED,
        key: approver.key().unwrap(),
        approvals: named([approval(FIRMWARE), other.clone()], "micro"),
        template: "micro",
        auth: &AUTH,
        new: None,
        certified: true,
    });
    while let Some(question) = begin.question() {
        if question.name == VERIFY_TEMPLATE {
            let (purpose, phase) = ("bulkhead template micro".to_owned(), BEFORE_GUEST.to_owned());
            let shown = Approval { purpose, phase, ..other.clone() };
            assert_eq!(question.bytes[..], commands::verify(0x8000_0009, &shown));
            return;
        }
        begin.answered(question.to, &answer(&question)).unwrap();
    }
    panic!("nothing was verified");
}

#[test]
fn anything_else_than_the_expected_answer_ends_it() {
    let kept = kept();
    let check = |name, last: &[u8], expected| {
        let mut begin = begin(b"x", Some(&kept));
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
    check("NV_UndefineSpace", &response(0x18B), refused("NV_UndefineSpace", 0x18B));
    check("NV_Write", &response(0x28B), refused("NV_Write", 0x28B));
    check("Startup", &[&response(0)[..], &[0]].concat(), BeginError::Malformed("Startup"));
    check("Startup", &[0x80, 1, 0xFF, 0xFF, 0xFF, 0xFF], BeginError::Malformed("Startup"));
    check("Startup", &[0; 1025], BeginError::Malformed("Startup"));
    check("StartAuthSession", &response(0), BeginError::Malformed("StartAuthSession"));
    check(VERIFY_FIRMWARE, &response(0x2DB), BeginError::Signature);
    check(AUTHORIZE_FIRMWARE, &response(0x1C4), BeginError::Firmware);
    check(VERIFY_TEMPLATE, &response(0x2DB), BeginError::Signature);
    check(AUTHORIZE_TEMPLATE, &response(0x1C4), BeginError::Template);
    check(READ, &response(0x28B), BeginError::Gone);
    check(READ, &response(0x18B), BeginError::Gone);
    check(READ, &response(0x99D), BeginError::Template);
    check(READ, &response(0x98E), refused(READ, 0x98E));
    check(READ, &with(&[0, 0, 0, 98, 0, 95]), BeginError::Malformed(READ));
    check(READ, &with(&[0, 0, 0, 98, 0, 96, 1]), BeginError::Malformed(READ));
    // Another key than the one that was asked for.
    for lengths in [[[0, 31], [0, 32]], [[0, 32], [0, 33]]] {
        check("CreatePrimary", &with(&endorsement_key(&lengths)), BeginError::Malformed("CreatePrimary"));
    }
    let mut other = endorsement_key(&[[0, 32]; 2]);
    other[14] ^= 1;
    check("CreatePrimary", &with(&other), BeginError::Malformed("CreatePrimary"));
    // On the wrong channel.
    let mut begin = begin(b"x", None);
    assert_eq!(begin.answered(To::Data, &[0]), Err(BeginError::Unasked));
    assert_eq!(begin.answered(To::Control, &u64::MAX.to_be_bytes()), Ok(Progress::Next));
}
