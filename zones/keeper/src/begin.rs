//! How a virtual TPM begins: what is said to it, in order, and which answers let it go on.
//!
//! ```text
//!   control: capabilities, STOP, SET_BUFFERSIZE, INIT
//!            locality 4: HASH_START, HASH_DATA..., HASH_END   the firmware, PCR 0, by a path that no guest has
//!            locality 0, SET_DATAFD
//!   data:    Startup, extend 4 (kernel), 8 (command line), 9 (initrd), the record's index
//! ```
//! Pure: bytes go in and come out, whoever holds the sockets carries them. One question at a time. Anything but the
//! expected answer ends it: a TPM that holds something else must not be shown to a guest.

use zone_protocol::keeper::Measured;

use crate::commands::{self, control};

/// Bytes of the guest's buffer, and so of a TPM command.
const BUFFER_SIZE: u32 = 3968;
/// The longest answer that one of these questions has.
const LONGEST: usize = 64;
/// Bytes of a TPM response's header.
const HEADER: usize = 10;

/// Why it did not begin: follows "the virtual TPM".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BeginError {
    /// It lacks something.
    #[error("cannot do what is needed of it (capabilities {0:#x})")]
    Capabilities(u64),
    /// It has another buffer.
    #[error("has a buffer of {0} bytes, expected {BUFFER_SIZE}")]
    Buffer(u32),
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
}

/// One question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) to: To,
    pub(crate) bytes: Vec<u8>,
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
    /// It began, and holds what was measured.
    Done,
}

/// One beginning.
#[derive(Debug)]
pub(crate) struct Begin {
    questions: Vec<Question>,
    place: usize,
    answer: Vec<u8>,
}

impl Begin {
    /// Everything that is to be said; `firmware` are the bytes that the machine's first instruction is from.
    pub(crate) fn new(firmware: &[u8], measured: &Measured) -> Self {
        let ask = |name, to, bytes, expect| Question { to, bytes, name, expect };
        let control = |name, number, arguments: &[u8], expect| {
            ask(name, To::Control, commands::request(number, arguments), expect)
        };
        let tpm = |name, bytes| ask(name, To::Data, bytes, Expect::Response { or: 0 });
        let length = |part: &[u8]| u32::try_from(part.len()).expect("parts are bounded").to_be_bytes();
        let mut questions = vec![
            control("GET_CAPABILITY", control::GET_CAPABILITY, &[], Expect::Capabilities),
            control("STOP", control::STOP, &[], Expect::Zero),
            control("SET_BUFFERSIZE", control::SET_BUFFERSIZE, &BUFFER_SIZE.to_be_bytes(), Expect::Buffer),
            control("INIT", control::INIT, &[0; 4], Expect::Zero),
            control("SET_LOCALITY", control::SET_LOCALITY, &[4], Expect::Zero),
            control("HASH_START", control::HASH_START, &[], Expect::Zero),
        ];
        questions.extend(firmware.chunks(control::MOST_HASHED).map(|part| {
            control("HASH_DATA", control::HASH_DATA, &[&length(part), part].concat(), Expect::Zero)
        }));
        questions.extend([
            control("HASH_END", control::HASH_END, &[], Expect::Zero),
            control("SET_LOCALITY", control::SET_LOCALITY, &[0], Expect::Zero),
            ask("SET_DATAFD", To::ControlWithData, commands::request(control::SET_DATAFD, &[]), Expect::Zero),
            tpm("Startup", commands::startup()),
            tpm("PCR_Extend", commands::extend(4, &measured.kernel)),
            tpm("PCR_Extend", commands::extend(8, &measured.command_line)),
            tpm("PCR_Extend", commands::extend(9, &measured.initrd)),
            // That of an earlier start vouches for nothing.
            ask(
                "NV_UndefineSpace",
                To::Data,
                commands::forget_record(),
                Expect::Response { or: commands::NO_INDEX },
            ),
        ]);
        if let Some(record) = &measured.record {
            questions.push(tpm("NV_DefineSpace", commands::define_record()));
            questions.push(tpm("NV_Write", commands::write_record(record)));
        }
        Self { questions, place: 0, answer: Vec::new() }
    }

    /// What is to be asked now; `None`: it began.
    pub(crate) fn question(&self) -> Option<&Question> {
        self.questions.get(self.place)
    }

    /// Takes a piece of an answer.
    ///
    /// # Errors
    /// [`BeginError`]; this beginning is of no use any more.
    pub(crate) fn answered(&mut self, from: To, piece: &[u8]) -> Result<Progress, BeginError> {
        let question = self.question().ok_or(BeginError::Unasked)?;
        if (question.to == To::Data) != (from == To::Data) {
            return Err(BeginError::Unasked);
        }
        let (name, expect) = (question.name, question.expect);
        if self.answer.len() + piece.len() > LONGEST {
            return Err(BeginError::Malformed(name));
        }
        self.answer.extend_from_slice(piece);
        let wanted = match expect {
            Expect::Capabilities => 8,
            Expect::Zero => 4,
            Expect::Buffer => 16,
            Expect::Response { .. } => match word(&self.answer, 2) {
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
        self.answer.clear();
        self.place += 1;
        Ok(if self.question().is_some() { Progress::Next } else { Progress::Done })
    }

    /// Checks a whole answer.
    fn check(&self, step: &'static str, expect: Expect) -> Result<(), BeginError> {
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
                    return Err(BeginError::Refused { step, code });
                }
            }
        }
        Ok(())
    }
}

/// The big-endian word at a place, when it is there.
fn word(bytes: &[u8], place: usize) -> Option<u32> {
    bytes.get(place..place + 4)?.try_into().ok().map(u32::from_be_bytes)
}

#[cfg(test)]
mod tests;
