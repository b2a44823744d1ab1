//! The vTPM's registers: Command Response Buffer interface, locality 0 (TCG PC Client Platform TPM Profile 1.05, 6.5.3).
//!
//! ```text
//!   request locality -> ready -> command into the buffer -> start -> poll until it is done -> response out of it
//!                                                                              release: wipe, idle, relinquish
//! ```
//! Every wait has an end.

/// Offsets of registers.
const LOCALITY_CONTROL: u64 = 0x08;
const LOCALITY_STATUS: u64 = 0x0C;
const REQUEST: u64 = 0x40;
const STATUS: u64 = 0x44;
const START: u64 = 0x4C;
const BUFFER: u64 = 0x80;

/// Bits of them.
const REQUEST_ACCESS: u32 = 1;
const RELINQUISH: u32 = 1 << 1;
const GRANTED: u32 = 1;
const COMMAND_READY: u32 = 1;
const GO_IDLE: u32 = 1 << 1;
const FATAL: u32 = 1;
const STARTED: u32 = 1;

/// Looks at a register before a wait is given up. Each is an exit of the machine, and the time between two grows to
/// [`LONGEST_PAUSE`]: some ten seconds in all.
const POLLS: u32 = 200_000;
const LONGEST_PAUSE: u32 = 1 << 14;

/// Room of the buffer.
const ROOM: usize = 3968;
/// A response's header.
const HEADER: usize = 10;

/// What a driver needs of a page of registers; offsets are multiples of four.
pub trait Registers {
    /// Reads a register.
    fn read(&mut self, offset: u64) -> u32;
    /// Writes one.
    fn write(&mut self, offset: u64, value: u32);
    /// Lets some time pass.
    fn pause(&mut self, turns: u32);
}

/// Why there is no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrbError {
    /// A register did not become what it should.
    Silent,
    /// It reports a fatal error, or its response has no length that can be.
    Answer,
}

/// The driver.
#[derive(Debug)]
pub struct Crb<R> {
    registers: R,
    /// Bytes of the buffer that were used.
    used: usize,
}

impl<R: Registers> Crb<R> {
    /// A driver of these registers, which nobody else uses.
    pub fn new(registers: R) -> Self {
        Self { registers, used: 0 }
    }

    /// Sends a command and gives the length of the response.
    ///
    /// # Errors
    /// [`CrbError`].
    pub fn transact(&mut self, command: &[u8], response: &mut [u8]) -> Result<usize, CrbError> {
        if command.len() > ROOM {
            return Err(CrbError::Answer);
        }
        self.request_locality()?;
        self.ready()?;
        self.used = self.used.max(command.len());
        for (offset, four) in (BUFFER..).step_by(4).zip(command.chunks(4)) {
            let mut word = [0; 4];
            word.iter_mut().zip(four).for_each(|(place, byte)| *place = *byte);
            self.registers.write(offset, u32::from_le_bytes(word));
        }
        self.registers.write(START, STARTED);
        self.wait(START, STARTED, 0)?;
        if self.registers.read(STATUS) & FATAL != 0 {
            return Err(CrbError::Answer);
        }
        self.take_response(response)
    }

    /// Leaves the TPM with nothing in its buffer. One that does not go idle is left as it is: whoever comes next finds
    /// that out.
    pub fn release(&mut self) {
        let _not_ready = self.ready();
        for (offset, _) in (BUFFER..).step_by(4).zip(0..self.used.div_ceil(4)) {
            self.registers.write(offset, 0);
        }
        self.used = 0;
        self.registers.write(REQUEST, GO_IDLE);
        let _not_idle = self.wait(REQUEST, GO_IDLE, 0);
        self.registers.write(LOCALITY_CONTROL, RELINQUISH);
    }

    fn request_locality(&mut self) -> Result<(), CrbError> {
        if self.registers.read(LOCALITY_STATUS) & GRANTED == 0 {
            self.registers.write(LOCALITY_CONTROL, REQUEST_ACCESS);
        }
        self.wait(LOCALITY_STATUS, GRANTED, GRANTED)
    }

    fn ready(&mut self) -> Result<(), CrbError> {
        self.registers.write(REQUEST, COMMAND_READY);
        self.wait(REQUEST, COMMAND_READY, 0)
    }

    /// Waits until these bits of a register have this value. All bits set is what an absent device gives.
    fn wait(&mut self, offset: u64, bits: u32, value: u32) -> Result<(), CrbError> {
        let mut turns = 1;
        for _ in 0..POLLS {
            let found = self.registers.read(offset);
            if found == u32::MAX {
                return Err(CrbError::Silent);
            }
            if found & bits == value {
                return Ok(());
            }
            self.registers.pause(turns);
            turns = LONGEST_PAUSE.min(turns << 1);
        }
        Err(CrbError::Silent)
    }

    fn take_response(&mut self, response: &mut [u8]) -> Result<usize, CrbError> {
        let mut header = [0; HEADER];
        self.copy_out(&mut header);
        let [_, _, a, b, c, d, ..] = header;
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if !(HEADER..=ROOM).contains(&length) {
            return Err(CrbError::Answer);
        }
        self.used = self.used.max(length);
        let place = response.get_mut(..length).ok_or(CrbError::Answer)?;
        self.copy_out(place);
        Ok(length)
    }

    fn copy_out(&mut self, bytes: &mut [u8]) {
        for (offset, four) in (BUFFER..).step_by(4).zip(bytes.chunks_mut(4)) {
            let word = self.registers.read(offset).to_le_bytes();
            four.iter_mut().zip(word).for_each(|(place, byte)| *place = byte);
        }
    }
}

#[cfg(test)]
mod tests;
