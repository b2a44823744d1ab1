//! A TPM 2.0 as the guest sees it: the command response buffer interface, register by register.
//!
//! TCG PC Client Platform TPM Profile for TPM 2.0 (1.04 revision 37), "CRB interface": one page with the registers
//! of locality 0 (`TPM_LOC_*`, `TPM_CRB_*`) and the buffer that command and response share. `CapLocality` of
//! `TPM_CRB_INTF_ID` is 0: localities 1 to 4 are not there. Interrupts are not there either.
//!
//! ```text
//!            cmdReady            write            start              the TPM's answer
//!   Idle ----------------> Ready -----> Reception ------> Execution -----------------> Completion
//!    ^                       |  ^           |   goIdle        | relinquish                 |   |
//!    +------ goIdle ---------+  +--cmdReady-+   relinquish    | (its answer is dropped)    |   |
//!    +--------------------------------------+<----------------+----------------------------+   |
//!                               ^                                        goIdle, relinquish    |
//!                               +----------------------- cmdReady -----------------------------+
//! ```
//! It is pure: a command that the guest starts comes out as a value, and whoever speaks to the TPM brings the answer
//! in as many pieces as it likes. What was sent is a copy: the guest changes nothing of it any more. Both lengths,
//! the guest's and the TPM's, are claims: a command's that cannot be is answered here as a TPM would, an answer's
//! that cannot be makes the TPM [`BrokenTpm`]. A cancelled command runs to its end, which the profile allows.

use std::mem;

/// Size of the page that the guest sees.
pub const PAGE_SIZE: u64 = 0x1000;

/// Where the control area lies in the page: what the ACPI table names.
pub const CONTROL_AREA: u64 = 0x40;

/// Bytes of the buffer, and the most that a command or a response has.
pub const BUFFER_SIZE: usize = 3968;

/// Where the buffer lies in the page.
const BUFFER: u64 = 0x80;

/// Bytes of the header that every command and every response begins with: tag, length, code.
const HEADER: usize = 10;

/// `TPM_LOC_STATE_0`, `TPM_LOC_CTRL_0`, `TPM_LOC_STS_0`.
const LOC_STATE: u64 = 0x00;
const LOC_CTRL: u64 = 0x08;
const LOC_STS: u64 = 0x0C;
/// `TPM_CRB_INTF_ID_0`, 64 bits.
const INTF_ID: u64 = 0x30;
/// `TPM_CRB_CTRL_*_0`.
const CTRL_REQ: u64 = 0x40;
const CTRL_STS: u64 = 0x44;
const CTRL_CANCEL: u64 = 0x48;
const CTRL_START: u64 = 0x4C;
const CTRL_CMD_SIZE: u64 = 0x58;
const CTRL_CMD_LADDR: u64 = 0x5C;
const CTRL_CMD_HADDR: u64 = 0x60;
const CTRL_RSP_SIZE: u64 = 0x64;
/// 64 bits, up to the buffer with a reserved word between.
const CTRL_RSP_ADDR: u64 = 0x68;

/// `tpmEstablishment` (1: no dynamic launch was measured), `locAssigned`, `tpmRegValidSts`.
const ESTABLISHMENT: u32 = 1;
const ASSIGNED: u32 = 1 << 1;
const VALID: u32 = 1 << 7;
/// `TPM_LOC_CTRL`: requestAccess and relinquish. The others are not for locality 0.
const REQUEST_ACCESS: u8 = 1;
const RELINQUISH: u8 = 1 << 1;
/// `TPM_CRB_CTRL_REQ`.
const CMD_READY: u8 = 1;
const GO_IDLE: u8 = 1 << 1;
/// `TPM_CRB_CTRL_STS`: tpmSts (a fatal error) and tpmIdle.
const FATAL: u32 = 1;
const IDLE: u32 = 1 << 1;

/// `TPM_CRB_INTF_ID`, low word: CRB active, version 1, transfers of 64 bytes, CRB supported and selected, the
/// selection locked. CapLocality, CapCRBIdleBypass, CapFIFO and the revision are 0.
const INTERFACE: u32 = 1 | 1 << 4 | 0b11 << 11 | 1 << 14 | 1 << 17 | 1 << 19;
/// Its high word: device 1 of vendor 0x1014, which software TPMs use.
const VENDOR: u32 = 1 << 16 | 0x1014;

/// `TPM_RC_FAILURE`, `TPM_RC_COMMAND_SIZE`.
const RC_FAILURE: u32 = 0x101;
const RC_COMMAND_SIZE: u32 = 0x142;

/// The TPM does not keep to the rules of its interface: nothing that it says is of use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokenTpm {
    /// Bytes came that nobody asked for, or more than the response has.
    #[error("{0} bytes more than its answer has")]
    Surplus(usize),
    /// A response's own length cannot be.
    #[error("an answer of {0} bytes, from {HEADER} to {BUFFER_SIZE} can be")]
    Length(u32),
}

/// The states of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Ready,
    Reception,
    Execution,
    Completion,
}

/// What the TPM owes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Owed {
    /// Nothing: it takes a command.
    Nothing,
    /// The answer that the guest waits for.
    Answer,
    /// An answer that nobody wants any more.
    Dropped,
    /// The same; then it takes this command.
    DroppedBefore(Vec<u8>),
}

/// The interface.
#[derive(Debug)]
pub struct TpmCrb {
    base: u64,
    assigned: bool,
    state: State,
    cancel: bool,
    broken: bool,
    /// All of [`BUFFER_SIZE`].
    buffer: Vec<u8>,
    owed: Owed,
    /// What came of the TPM's answer, never more than [`BUFFER_SIZE`].
    answer: Vec<u8>,
}

impl TpmCrb {
    /// The interface as at power-on; its page lies at `base`.
    #[must_use]
    pub fn new(base: u64) -> Self {
        Self {
            base,
            assigned: false,
            state: State::Idle,
            cancel: false,
            broken: false,
            buffer: vec![0; BUFFER_SIZE],
            owed: Owed::Nothing,
            answer: Vec::new(),
        }
    }

    /// Back to power-on, with a TPM that owes nothing: another one, or the same after its own reset.
    pub fn reset(&mut self) {
        *self = Self::new(self.base);
    }

    /// The guest reads.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        for (place, byte) in data.iter_mut().enumerate() {
            *byte = self.read_byte(at(offset, place));
        }
    }

    /// The guest writes. What comes back is a command that it started: for the TPM, now.
    #[must_use]
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Option<Vec<u8>> {
        let mut started = None;
        // All bits of all registers that can be written are in their first bytes: an access of any width is as many
        // accesses to bytes, in order.
        for (place, byte) in data.iter().enumerate() {
            started = started.or(self.write_byte(at(offset, place), *byte));
        }
        started
    }

    /// Takes a piece of the TPM's answer. What comes back is a command that waited for it: for the TPM, now.
    ///
    /// # Errors
    /// [`BrokenTpm`]; the guest's driver sees a fatal error from then on.
    pub fn answer(&mut self, piece: &[u8]) -> Result<Option<Vec<u8>>, BrokenTpm> {
        let taken = self.take(piece);
        if taken.is_err() {
            self.fail();
        }
        taken
    }

    /// The TPM is gone: whatever runs fails, and nothing runs any more.
    pub fn fail(&mut self) {
        self.broken = true;
        self.owed = Owed::Nothing;
        self.answer = Vec::new();
        if self.state == State::Execution {
            self.complete(&refusal(RC_FAILURE));
        }
    }

    /// Whether the TPM owes an answer.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.owed != Owed::Nothing
    }

    fn take(&mut self, piece: &[u8]) -> Result<Option<Vec<u8>>, BrokenTpm> {
        if self.owed == Owed::Nothing {
            return if piece.is_empty() { Ok(None) } else { Err(BrokenTpm::Surplus(piece.len())) };
        }
        // Within a header's length there is no more than a piece to copy; behind it no more than the answer has.
        let wanted = match length(&self.answer) {
            Some(length) => checked(length)?,
            None => HEADER,
        };
        let missing = wanted.saturating_sub(self.answer.len());
        let (now, later) = piece.split_at_checked(missing).unwrap_or((piece, &[]));
        self.answer.extend_from_slice(now);
        let Some(length) = length(&self.answer) else { return Ok(None) };
        let length = checked(length)?;
        if self.answer.len() < length {
            // The header is whole, the rest may be here already.
            return if later.is_empty() { Ok(None) } else { self.take(later) };
        }
        if !later.is_empty() {
            return Err(BrokenTpm::Surplus(later.len()));
        }
        let answer = mem::take(&mut self.answer);
        Ok(match mem::replace(&mut self.owed, Owed::Nothing) {
            Owed::Answer => {
                self.complete(&answer);
                None
            }
            Owed::DroppedBefore(command) => {
                self.owed = Owed::Answer;
                Some(command)
            }
            Owed::Dropped | Owed::Nothing => None,
        })
    }

    /// The buffer holds a response, and zeros behind it: nothing of the command is left.
    fn complete(&mut self, response: &[u8]) {
        self.buffer.fill(0);
        for (place, byte) in self.buffer.iter_mut().zip(response) {
            *place = *byte;
        }
        self.state = State::Completion;
    }

    fn read_byte(&self, offset: u64) -> u8 {
        if let Some(place) = buffer_place(offset) {
            return match self.state {
                State::Ready | State::Reception | State::Completion => self.buffer.get(place).copied(),
                State::Idle | State::Execution => None,
            }
            .unwrap_or(0xFF);
        }
        let shift = u32::try_from(offset & 3).unwrap_or(0).wrapping_mul(8);
        let [low, ..] = self.register(offset & !3).wrapping_shr(shift).to_le_bytes();
        low
    }

    fn register(&self, offset: u64) -> u32 {
        let size = u32::try_from(BUFFER_SIZE).unwrap_or(u32::MAX);
        let [a, b, c, d, e, f, g, h] = self.base.wrapping_add(BUFFER).to_le_bytes();
        let (low, high) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
        let bit = |on: bool, bit: u32| if on { bit } else { 0 };
        match offset {
            LOC_STATE => VALID | ESTABLISHMENT | bit(self.assigned, ASSIGNED),
            LOC_STS => u32::from(self.assigned),
            INTF_ID => INTERFACE,
            0x34 => VENDOR,
            CTRL_STS => bit(self.state == State::Idle, IDLE) | bit(self.broken, FATAL),
            CTRL_CANCEL => u32::from(self.cancel),
            CTRL_START => u32::from(self.state == State::Execution),
            CTRL_CMD_SIZE | CTRL_RSP_SIZE => size,
            CTRL_CMD_LADDR | CTRL_RSP_ADDR => low,
            CTRL_CMD_HADDR | 0x6C => high,
            // Requests are done at once; interrupts and what is reserved are not there.
            _ => 0,
        }
    }

    fn write_byte(&mut self, offset: u64, value: u8) -> Option<Vec<u8>> {
        if let Some(place) = buffer_place(offset) {
            // Without the locality the state is Idle.
            if matches!(self.state, State::Ready | State::Reception)
                && let Some(byte) = self.buffer.get_mut(place)
            {
                *byte = value;
                self.state = State::Reception;
            }
            return None;
        }
        match offset {
            LOC_CTRL if value & RELINQUISH != 0 => self.relinquish(),
            LOC_CTRL if value & REQUEST_ACCESS != 0 => self.assigned = true,
            CTRL_REQ if self.assigned => self.request(value),
            CTRL_CANCEL if self.assigned => self.cancel = value & 1 != 0,
            CTRL_START if value & 1 != 0 => return self.start(),
            _ => {}
        }
        None
    }

    fn request(&mut self, value: u8) {
        match self.state {
            State::Execution => {}
            State::Idle | State::Ready | State::Reception | State::Completion => {
                if value & GO_IDLE != 0 {
                    self.wipe(State::Idle);
                } else if value & CMD_READY != 0 {
                    self.wipe(State::Ready);
                }
            }
        }
    }

    fn wipe(&mut self, state: State) {
        self.buffer.fill(0);
        self.state = state;
    }

    fn relinquish(&mut self) {
        self.assigned = false;
        self.cancel = false;
        if self.state == State::Execution {
            self.owed = match self.owed {
                // A command that the TPM never saw.
                Owed::DroppedBefore(_) | Owed::Dropped | Owed::Answer => Owed::Dropped,
                Owed::Nothing => Owed::Nothing,
            };
        }
        self.wipe(State::Idle);
    }

    fn start(&mut self) -> Option<Vec<u8>> {
        if self.state != State::Reception {
            return None;
        }
        self.state = State::Execution;
        let command = length(&self.buffer).and_then(|length| checked(length).ok());
        let command = command.and_then(|length| self.buffer.get(..length)).map(<[u8]>::to_vec);
        let Some(command) = command else {
            self.complete(&refusal(RC_COMMAND_SIZE));
            return None;
        };
        if self.broken {
            self.complete(&refusal(RC_FAILURE));
            return None;
        }
        match self.owed {
            Owed::Nothing => {
                self.owed = Owed::Answer;
                Some(command)
            }
            // One command at a time: it goes out behind the answer that nobody wants.
            Owed::Dropped | Owed::DroppedBefore(_) | Owed::Answer => {
                self.owed = Owed::DroppedBefore(command);
                None
            }
        }
    }
}

/// Where a byte of an access lies.
fn at(offset: u64, place: usize) -> u64 {
    offset.wrapping_add(u64::try_from(place).unwrap_or(u64::MAX))
}

/// Where in the buffer an offset into the page is.
fn buffer_place(offset: u64) -> Option<usize> {
    let place = usize::try_from(offset.checked_sub(BUFFER)?).ok()?;
    (place < BUFFER_SIZE).then_some(place)
}

/// The length that a header says, when it is whole.
fn length(bytes: &[u8]) -> Option<u32> {
    bytes.get(..HEADER)?;
    bytes.get(2..6)?.try_into().ok().map(u32::from_be_bytes)
}

/// A length that a command or a response can have.
fn checked(length: u32) -> Result<usize, BrokenTpm> {
    let value = usize::try_from(length).ok();
    value.filter(|length| (HEADER..=BUFFER_SIZE).contains(length)).ok_or(BrokenTpm::Length(length))
}

/// A response without sessions that is nothing but its code.
fn refusal(code: u32) -> [u8; HEADER] {
    let ([a, b, c, d], tag, length) = (code.to_be_bytes(), [0x80, 0x01], [0, 0, 0, 10]);
    let ([t, u], [k, l, m, n]) = (tag, length);
    [t, u, k, l, m, n, a, b, c, d]
}

#[cfg(test)]
mod tests;
