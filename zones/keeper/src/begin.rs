//! How a virtual TPM begins: what is said to it, in order, and which answers let it go on.
//!
//! ```text
//!   control: capabilities, STOP, SET_BUFFERSIZE, INIT
//!            locality 4: HASH_START, HASH_DATA..., HASH_END   the firmware, PCR 0, by a path that no guest has
//!            locality 0, SET_DATAFD
//!   data:    Startup, extend 4 (kernel), 8 (command line), 9 (initrd)
//!            once, for a new zone: define and write what the TPM keeps, make the endorsement key
//!            policy: PCR 0 and 11, approved -> PCR 4, 8 and 9, approved for the template -> the zone's authorization
//!            NV_Read: what the TPM keeps    ==> [`Progress::Opened`]: the start's record is made from it
//!            once: the endorsement key's certificate
//!            the record's index
//! ```
//! So the TPM itself judges firmware, kernel, command line, initrd and template, by what the image's maker signed, and
//! gives nothing out for others. PCR 11 is at its start value here, and never again: the firmware measures into it.
//!
//! Pure: bytes go in and come out, whoever holds the sockets carries them. One question at a time. Anything but the
//! expected answer ends it: a TPM that holds something else must not be shown to a guest.

use approval::{Approval, ApprovalKey, BEFORE_GUEST, Digest, FIRMWARE, Policy, template_purpose};
use hw_tpm::Point;
use template::VerifiedTemplate;
use zeroize::Zeroizing;

use crate::commands::{self, KEPT, KEPT_BYTES, RECORD, control};

/// Bytes of the guest's buffer, and so of a TPM command.
const BUFFER_SIZE: u32 = 3968;
/// The longest answer that one of these questions has.
const LONGEST: usize = 1024;
/// Bytes of a TPM response's header.
const HEADER: usize = 10;

/// What a zone's TPM keeps, as it is stored there.
pub(crate) type Kept = Box<Zeroizing<[u8; KEPT_BYTES as usize]>>;

/// Why it did not begin: follows "the virtual TPM".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BeginError {
    /// It lacks something.
    #[error("cannot do what is needed of it (capabilities {0:#x})")]
    Capabilities(u64),
    /// It has another buffer.
    #[error("has a buffer of {0} bytes, expected {BUFFER_SIZE}")]
    Buffer(u32),
    /// What begins the zone was not approved.
    #[error(
        "gives nothing out: this host's firmware for zones is not approved. Install an image whose maker you trust"
    )]
    Firmware,
    /// The template was not approved.
    #[error(
        "gives nothing out: the zone's kernel, command line or initrd are not approved for its template. Install the \
         template again"
    )]
    Template,
    /// An approval that its key did not sign.
    #[error(
        "gives nothing out: an approval is not signed by the key that it was made for. Install the template again"
    )]
    Signature,
    /// What it kept is gone.
    #[error("does not hold what the zone needs: its state is damaged. Put the data disk's own files back")]
    Gone,
    /// It refused.
    #[error("answered {step} with {code:#x}")]
    Refused { step: &'static str, code: u32 },
    /// Its answer is none.
    #[error("gave no answer to {0} that can be one")]
    Malformed(&'static str),
    /// It spoke without being asked.
    #[error("spoke without being asked")]
    Unasked,
}

/// Where a question goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    /// The control channel.
    Control,
    /// The same, with the far end of the data channel.
    ControlWithData,
    /// The data channel.
    Data,
}

/// What an answer must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    /// Eight bytes of capabilities.
    Capabilities,
    /// A result of zero.
    Zero,
    /// A result of zero, and the buffer's size with its bounds.
    Buffer,
    /// A response of the TPM with code 0, or with this one.
    Response { or: u32 },
    /// The same with code 0, and something that is needed later.
    Carries(Carried),
}

/// What a response carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carried {
    Session,
    Key,
    Ticket,
    Kept,
    Endorsement,
}

/// What was heard and is needed again.
#[derive(Debug, Default)]
struct Heard {
    session: u32,
    key: u32,
    ticket: Vec<u8>,
    kept: Option<Kept>,
    /// The endorsement key's handle and its point.
    endorsement: Option<(u32, Point)>,
}

/// A question's bytes, which may depend on what was heard.
type Bytes = Box<dyn Fn(&Heard) -> Vec<u8>>;

struct Step {
    name: &'static str,
    to: To,
    bytes: Bytes,
    expect: Expect,
}

/// One question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) to: To,
    pub(crate) bytes: Zeroizing<Vec<u8>>,
    name: &'static str,
    expect: Expect,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The answer is not whole.
    Waits,
    /// The next question is to be asked.
    Next,
    /// It gave out what it keeps ([`Begin::kept`]), and waits for the record's hash ([`Begin::vouch`]).
    Opened,
    /// It began, and holds what was measured.
    Done,
}

/// What goes into the TPM before the first instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Measured {
    /// Of the kernel's file: PCR 4.
    pub(crate) kernel: Digest,
    /// Of the kernel's command line: PCR 8.
    pub(crate) command_line: Digest,
    /// Of the initrd's file: PCR 9.
    pub(crate) initrd: Digest,
}

impl Measured {
    /// As the signed manifest says.
    pub(crate) fn of(template: &VerifiedTemplate) -> Self {
        Self {
            kernel: template.kernel.sha256,
            command_line: approval::sha256(&[template.command_line().as_bytes()]),
            initrd: template.initrd.sha256,
        }
    }
}

/// What a beginning is made of.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    /// The bytes that the machine's first instruction is from.
    pub(crate) firmware: &'a [u8],
    /// What else is measured.
    pub(crate) measured: Measured,
    /// Who approves.
    pub(crate) key: ApprovalKey,
    /// What is said to be approved: of the firmware, and of the template ([`named`]).
    pub(crate) approvals: [Approval; 2],
    /// The zone's template.
    pub(crate) template: &'a str,
    /// What reads what the TPM keeps.
    pub(crate) auth: &'a Digest,
    /// The TPM is a new one, and keeps this from now on.
    pub(crate) new: Option<&'a Kept>,
    /// And its endorsement key is to have a certificate.
    pub(crate) certified: bool,
}

/// What is said to be approved, as what it has to be: an approval for something else, or for another phase, is none.
pub(crate) fn named([of_firmware, of_template]: [Approval; 2], template: &str) -> [Approval; 2] {
    let as_for = |purpose, approval| Approval { purpose, phase: BEFORE_GUEST.to_owned(), ..approval };
    [as_for(FIRMWARE.to_owned(), of_firmware), as_for(template_purpose(template), of_template)]
}

/// One beginning.
pub(crate) struct Begin {
    steps: Vec<Step>,
    place: usize,
    answer: Zeroizing<Vec<u8>>,
    heard: Heard,
    new: bool,
    vouched: bool,
}

impl std::fmt::Debug for Begin {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Begin").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Begin {
    /// Everything that is to be said, up to the record.
    pub(crate) fn new(plan: &Plan<'_>) -> Self {
        let mut steps = hash_firmware(plan.firmware);
        steps.extend(measure(&plan.measured));
        if let Some(kept) = plan.new {
            steps.extend(make(plan, kept));
            if plan.certified {
                steps.extend(endorse());
            }
        }
        steps.extend(open(plan));
        Self {
            steps,
            place: 0,
            answer: Zeroizing::new(Vec::with_capacity(LONGEST)),
            heard: Heard::default(),
            new: plan.new.is_some(),
            vouched: false,
        }
    }

    /// What is to be asked now; `None`: nothing.
    pub(crate) fn question(&self) -> Option<Question> {
        let step = self.steps.get(self.place)?;
        let bytes = Zeroizing::new((step.bytes)(&self.heard));
        Some(Question { to: step.to, bytes, name: step.name, expect: step.expect })
    }

    /// What the TPM gave out, once.
    pub(crate) fn kept(&mut self) -> Option<Kept> {
        self.heard.kept.take()
    }

    /// The endorsement key that is to be certified ([`Begin::certify`]).
    pub(crate) fn endorsement(&self) -> Option<Point> {
        self.heard.endorsement.map(|(_, point)| point)
    }

    /// Has the TPM hold its endorsement key's certificate, for good.
    pub(crate) fn certify(&mut self, certificate: &[u8]) {
        let size = u16::try_from(certificate.len()).expect("certificates are short");
        let index = commands::certificate_index(size);
        self.steps.extend([
            // What an earlier try left.
            fixed("NV_UndefineSpace", commands::undefine(index), commands::NO_INDEX),
            fixed("NV_DefineSpace", commands::define(index, &[], &[]), 0),
            fixed("NV_Write", commands::write(index, certificate), 0),
        ]);
    }

    /// Has the TPM hold the hash of this start's record.
    pub(crate) fn vouch(&mut self, record: &Digest) {
        if self.new {
            self.steps.push(fixed("NV_UndefineSpace", commands::undefine(RECORD), commands::NO_INDEX));
            self.steps.push(fixed("NV_DefineSpace", commands::define(RECORD, &[], &[]), 0));
        }
        self.steps.push(fixed("NV_Write", commands::write(RECORD, record), 0));
        self.vouched = true;
    }

    /// Takes a piece of an answer.
    ///
    /// # Errors
    /// [`BeginError`]; this beginning is of no use any more.
    pub(crate) fn answered(&mut self, from: To, piece: &[u8]) -> Result<Progress, BeginError> {
        let Some(Step { name, to, expect, .. }) = self.steps.get(self.place) else {
            return Err(BeginError::Unasked);
        };
        let (name, expect) = (*name, *expect);
        if (*to == To::Data) != (from == To::Data) {
            return Err(BeginError::Unasked);
        }
        if self.answer.len() + piece.len() > LONGEST {
            return Err(BeginError::Malformed(name));
        }
        self.answer.extend_from_slice(piece);
        let wanted = match expect {
            Expect::Capabilities => 8,
            Expect::Zero => 4,
            Expect::Buffer => 16,
            Expect::Response { .. } | Expect::Carries(_) => match word(&self.answer, 2) {
                Some(length) => usize::try_from(length).unwrap_or(usize::MAX).max(HEADER),
                None => HEADER,
            },
        };
        // An answer that refuses may be nothing but that.
        let refused = word(&self.answer, 0).filter(|code| *code != 0 && expect == Expect::Buffer);
        if let Some(code) = refused {
            return Err(BeginError::Refused { step: name, code });
        }
        if wanted > LONGEST || self.answer.len() > wanted {
            return Err(BeginError::Malformed(name));
        }
        if self.answer.len() < wanted {
            return Ok(Progress::Waits);
        }
        self.check(name, expect)?;
        self.answer.fill(0);
        self.answer.clear();
        self.place += 1;
        Ok(match (self.steps.get(self.place), self.vouched) {
            (Some(_), _) => Progress::Next,
            (None, false) => Progress::Opened,
            (None, true) => Progress::Done,
        })
    }

    /// Checks a whole answer, and takes what it carries.
    fn check(&mut self, step: &'static str, expect: Expect) -> Result<(), BeginError> {
        let at = |place| word(&self.answer, place).ok_or(BeginError::Malformed(step));
        match expect {
            Expect::Capabilities => {
                let capabilities = u64::from(at(0)?) << 32 | u64::from(at(4)?);
                if capabilities & control::NEEDED != control::NEEDED {
                    return Err(BeginError::Capabilities(capabilities));
                }
            }
            Expect::Zero | Expect::Buffer => {
                if at(0)? != 0 {
                    return Err(BeginError::Refused { step, code: at(0)? });
                }
                if expect == Expect::Buffer && at(4)? != BUFFER_SIZE {
                    return Err(BeginError::Buffer(at(4)?));
                }
            }
            Expect::Response { or } => {
                let code = at(6)?;
                if code != 0 && code != or {
                    return Err(refused(step, code));
                }
            }
            Expect::Carries(what) => {
                let code = at(6)?;
                if code != 0 {
                    return Err(refused(step, code));
                }
                self.take(step, what)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, step: &'static str, what: Carried) -> Result<(), BeginError> {
        let malformed = BeginError::Malformed(step);
        match what {
            Carried::Session => self.heard.session = word(&self.answer, HEADER).ok_or(malformed)?,
            Carried::Key => self.heard.key = word(&self.answer, HEADER).ok_or(malformed)?,
            Carried::Ticket => self.heard.ticket = self.answer.get(HEADER..).ok_or(malformed)?.to_vec(),
            Carried::Endorsement => {
                self.heard.endorsement = Some(endorsement(&self.answer).ok_or(malformed)?);
            }
            Carried::Kept => {
                // Behind the header: the parameters' size, the buffer's size, the buffer.
                let bytes = self.answer.get(HEADER + 6..HEADER + 6 + usize::from(KEPT_BYTES));
                let bytes = bytes
                    .filter(|_| self.answer.get(HEADER + 4..HEADER + 6) == Some(&KEPT_BYTES.to_be_bytes()));
                let mut kept = Kept::new(Zeroizing::new([0; KEPT_BYTES as usize]));
                kept.copy_from_slice(bytes.ok_or(malformed)?);
                self.heard.kept = Some(kept);
            }
        }
        Ok(())
    }
}

/// What a refusal means.
fn refused(step: &'static str, code: u32) -> BeginError {
    match (step, code) {
        // TPM_RC_VALUE: the policy so far is not the one that was approved.
        (AUTHORIZE_FIRMWARE, _) => BeginError::Firmware,
        (AUTHORIZE_TEMPLATE, _) => BeginError::Template,
        (VERIFY_FIRMWARE | VERIFY_TEMPLATE, _) => BeginError::Signature,
        // TPM_RC_HANDLE: no such index. TPM_RC_POLICY_FAIL: it was made for another key or template.
        (READ, commands::NO_INDEX | commands::NO_FIRST_INDEX) => BeginError::Gone,
        (READ, commands::POLICY_FAILED) => BeginError::Template,
        _ => BeginError::Refused { step, code },
    }
}

const VERIFY_FIRMWARE: &str = "VerifySignature (firmware)";
const AUTHORIZE_FIRMWARE: &str = "PolicyAuthorize (firmware)";
const VERIFY_TEMPLATE: &str = "VerifySignature (template)";
const AUTHORIZE_TEMPLATE: &str = "PolicyAuthorize (template)";
const READ: &str = "NV_Read";

/// Begins the TPM, with the firmware in PCR 0.
fn hash_firmware(firmware: &[u8]) -> Vec<Step> {
    let control = |name, number, arguments: &[u8], expect| {
        let request = commands::request(number, arguments);
        Step { name, to: To::Control, bytes: Box::new(move |_| request.clone()), expect }
    };
    let length = |part: &[u8]| u32::try_from(part.len()).expect("parts are bounded").to_be_bytes();
    let mut steps = vec![
        control("GET_CAPABILITY", control::GET_CAPABILITY, &[], Expect::Capabilities),
        control("STOP", control::STOP, &[], Expect::Zero),
        control("SET_BUFFERSIZE", control::SET_BUFFERSIZE, &BUFFER_SIZE.to_be_bytes(), Expect::Buffer),
        control("INIT", control::INIT, &[0; 4], Expect::Zero),
        control("SET_LOCALITY", control::SET_LOCALITY, &[4], Expect::Zero),
        control("HASH_START", control::HASH_START, &[], Expect::Zero),
    ];
    steps.extend(
        firmware.chunks(control::MOST_HASHED).map(|part| {
            control("HASH_DATA", control::HASH_DATA, &[&length(part), part].concat(), Expect::Zero)
        }),
    );
    steps.push(control("HASH_END", control::HASH_END, &[], Expect::Zero));
    steps.push(control("SET_LOCALITY", control::SET_LOCALITY, &[0], Expect::Zero));
    let mut data = control("SET_DATAFD", control::SET_DATAFD, &[], Expect::Zero);
    data.to = To::ControlWithData;
    steps.push(data);
    steps
}

/// A command of the TPM that depends on nothing heard.
fn fixed(name: &'static str, bytes: Vec<u8>, or: u32) -> Step {
    let bytes = Zeroizing::new(bytes);
    Step { name, to: To::Data, bytes: Box::new(move |_| bytes.to_vec()), expect: Expect::Response { or } }
}

fn measure(measured: &Measured) -> [Step; 4] {
    let extend = |register, digest| fixed("PCR_Extend", commands::extend(register, digest), 0);
    [
        fixed("Startup", commands::startup(), 0),
        extend(4, &measured.kernel),
        extend(8, &measured.command_line),
        extend(9, &measured.initrd),
    ]
}

/// Has a new TPM keep something.
fn make(plan: &Plan<'_>, kept: &Kept) -> [Step; 3] {
    let policy =
        Policy::authorize(&plan.key, &template_purpose(plan.template), BEFORE_GUEST).auth_value().digest();
    [
        // What an earlier try left.
        fixed("NV_UndefineSpace", commands::undefine(KEPT), commands::NO_INDEX),
        fixed("NV_DefineSpace", commands::define(KEPT, plan.auth, &policy), 0),
        fixed("NV_Write", commands::write(KEPT, &kept[..]), 0),
    ]
}

/// Has a new TPM make its endorsement key. It comes from a seed that the TPM keeps: whoever makes it again gets the same.
fn endorse() -> [Step; 2] {
    let step = |name, expect, bytes: Bytes| Step { name, to: To::Data, bytes, expect };
    let handle = |heard: &Heard| heard.endorsement.map_or(0, |(handle, _)| handle);
    [
        step(
            "CreatePrimary",
            Expect::Carries(Carried::Endorsement),
            Box::new(|_| commands::create_endorsement_key()),
        ),
        step(
            "FlushContext",
            Expect::Response { or: 0 },
            Box::new(move |heard| commands::flush(handle(heard))),
        ),
    ]
}

/// Handle and point of an endorsement key, if it is the one that was asked for.
fn endorsement(answer: &[u8]) -> Option<(u32, Point)> {
    // Behind the header: the handle, the parameters' size, the public area's size, the area.
    let handle = word(answer, HEADER)?;
    let area = answer.get(HEADER + 10..)?;
    let mut rest = area.strip_prefix(&commands::endorsement_template()[..])?;
    let mut coordinate = || -> Option<[u8; 32]> {
        let (number, behind) = rest.strip_prefix(&[0, 32])?.split_first_chunk()?;
        rest = behind;
        Some(*number)
    };
    Some((handle, Point { x: coordinate()?, y: coordinate()? }))
}

/// Has the TPM judge what was measured, and give out what it keeps.
fn open(plan: &Plan<'_>) -> Vec<Step> {
    let step = |name, expect, bytes: Bytes| Step { name, to: To::Data, bytes, expect };
    let plain = Expect::Response { or: 0 };
    let (key, auth) = (plan.key, Zeroizing::new(*plan.auth));
    let mut steps = vec![
        step("StartAuthSession", Expect::Carries(Carried::Session), Box::new(|_| commands::policy_session())),
        step("LoadExternal", Expect::Carries(Carried::Key), Box::new(move |_| commands::load_key(&key))),
    ];
    let [of_firmware, of_template] = plan.approvals.clone();
    let parts: [(&'static [u8], _, _, _); 2] = [
        (&[0, 11], VERIFY_FIRMWARE, AUTHORIZE_FIRMWARE, of_firmware),
        (&[4, 8, 9], VERIFY_TEMPLATE, AUTHORIZE_TEMPLATE, of_template),
    ];
    for (registers, verify, authorize, approval) in parts {
        let signed = approval.clone();
        steps.extend([
            step("PolicyPCR", plain, Box::new(|heard| commands::policy_pcrs(heard.session, registers))),
            step(
                verify,
                Expect::Carries(Carried::Ticket),
                Box::new(move |heard| commands::verify(heard.key, &signed)),
            ),
            step(
                authorize,
                plain,
                Box::new(move |heard| commands::authorize(heard.session, &key, &approval, &heard.ticket)),
            ),
        ]);
    }
    steps.extend([
        step("FlushContext", plain, Box::new(|heard| commands::flush(heard.key))),
        step("PolicyPassword", plain, Box::new(|heard| commands::policy_password(heard.session))),
        step(
            READ,
            Expect::Carries(Carried::Kept),
            Box::new(move |heard| commands::read(KEPT, heard.session, &auth[..])),
        ),
    ]);
    steps
}

/// The big-endian word at a place, when it is there.
fn word(bytes: &[u8], place: usize) -> Option<u32> {
    bytes.get(place..place + 4)?.try_into().ok().map(u32::from_be_bytes)
}

#[cfg(test)]
mod tests;
