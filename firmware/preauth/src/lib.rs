//! Pre-boot authentication: takes a zone's login record, closes the vTPM behind it, and prepares the kernel's start.
//!
//! ```text
//!   start information -> record out of the mailbox, which is empty then
//!        -> vTPM: hash of the record? register extended, platform hierarchy off   (login)
//!        -> credentials into the SMBIOS tables -> record wiped
//!        -> kernel where it belongs, boot parameters -> jump
//! ```
//! [`run`] is all of it. It decides and never touches hardware: what it wants done goes through [`Machine`], which the
//! firmware's program implements with `fw_hal` and tests with a fake. Everything that it reads is a claim. It never
//! allocates, and nothing secret outlives it.

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::panic_in_result_fn)
)]

#[cfg(test)]
extern crate std;

mod boot_params;
mod bytes;
pub mod kernel;
mod login;
pub mod memory;
pub mod pvh;
mod smbios;
mod tpm;

use handover::failure::Failure;
use handover::record::{self, DecodeError, LONGEST, Record};
use zeroize::Zeroize;

use crate::boot_params::BootParams;
use crate::kernel::Plan;
use crate::login::{Login, Next};
use crate::memory::{Memory, Range};

/// What the firmware can do with its machine.
pub trait Machine: Memory {
    /// Eight bytes of the mailbox, `offset` a multiple of eight.
    fn mailbox(&mut self, offset: usize) -> [u8; 8];
    /// Sends a command to the vTPM and gives the length of the response.
    ///
    /// # Errors
    /// [`Failure::TpmSilent`], or [`Failure::TpmAnswer`] when the response is longer than its place.
    fn transact(&mut self, command: &[u8], response: &mut [u8]) -> Result<usize, Failure>;
    /// Leaves the vTPM to whoever comes next, with nothing in its buffer.
    fn release_tpm(&mut self);
    /// Writes into the SMBIOS range; `address` and the end of `bytes` are inside of it.
    fn write_smbios(&mut self, address: u64, bytes: &[u8]);
    /// Moves bytes; source and target may overlap.
    fn relocate(&mut self, from: u64, to: u64, length: u64);
    /// Fills memory with zeros.
    fn clear(&mut self, range: Range);
}

/// Memory that [`run`] works with, too large for the stack.
#[derive(Debug)]
pub struct Desk {
    record: [u8; LONGEST],
    command: [u8; tpm::LONGEST_COMMAND],
    response: [u8; tpm::LONGEST_RESPONSE],
    /// What RSI points to at the kernel's entry.
    pub boot_params: BootParams,
}

impl Desk {
    /// Nothing on it.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            record: [0; LONGEST],
            command: [0; tpm::LONGEST_COMMAND],
            response: [0; tpm::LONGEST_RESPONSE],
            boot_params: BootParams::new(),
        }
    }

    /// Whether nothing of a record, a command or a response is left.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let mut secrets = self.record.iter().chain(&self.command).chain(&self.response);
        secrets.all(|byte| *byte == 0)
    }

    fn wipe(&mut self) {
        self.record.zeroize();
        self.command.zeroize();
        self.response.zeroize();
    }
}

impl Default for Desk {
    fn default() -> Self {
        Self::new()
    }
}

/// Where the kernel starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jump {
    /// Its first instruction, in 64-bit mode.
    pub entry: u64,
    /// What it occupies, and must be able to execute.
    pub kernel: Range,
}

/// Everything from the VMM's start information at `start_info` to the last step before the jump. `own` is what the
/// firmware itself occupies, the desk included.
///
/// # Errors
/// The reason why there is no jump. The desk is clean either way.
pub fn run(
    machine: &mut impl Machine,
    desk: &mut Desk,
    start_info: u64,
    own: Range,
) -> Result<Jump, Failure> {
    let prepared = authenticate(machine, desk);
    desk.wipe();
    prepared?;
    let start = pvh::read(machine, start_info)?;
    let taken = [Some(own), start.initrd, Some(start.command_line)];
    let plan = kernel::plan(machine, &start, &taken)?;
    desk.boot_params.fill(&start, plan.set_up());
    Ok(carry_out(machine, &plan))
}

/// Takes the record, and leaves it to the guest as credentials if it is the right one.
fn authenticate(machine: &mut impl Machine, desk: &mut Desk) -> Result<(), Failure> {
    let Desk { record, command, response, boot_params: _ } = desk;
    let record = take_record(machine, record)?;
    if !record.no_vtpm_yet() {
        let mut login = Login::new(&record);
        let mut next = login.begin(command);
        while let Next::Send(length) = next {
            let command_bytes = command.get(..length).ok_or(Failure::Panicked)?;
            let length = machine.transact(command_bytes, response)?;
            let answer = response.get(..length).ok_or(Failure::TpmAnswer)?;
            next = login.answer(answer, command)?;
        }
        machine.release_tpm();
    }
    smbios::write(machine, &record)
}

/// Reads the mailbox once, and makes sure that nobody reads it again.
fn take_record<'a>(machine: &mut impl Machine, buffer: &'a mut [u8; LONGEST]) -> Result<Record<'a>, Failure> {
    let claim = |error| match error {
        DecodeError::Empty => Failure::NoRecord,
        DecodeError::Unknown | DecodeError::Malformed => Failure::Record,
    };
    fetch(machine, buffer, 0..2);
    let start = buffer.first_chunk().ok_or(Failure::Record)?;
    let length = record::length(start).map_err(claim)?;
    let words = length.div_ceil(8);
    fetch(machine, buffer, 2..words);
    if (0..words).any(|number| machine.mailbox(number.saturating_mul(8)) != [0; 8]) {
        return Err(Failure::MailboxKept);
    }
    Record::decode(buffer.get(..length).ok_or(Failure::Record)?).map_err(claim)
}

/// Reads words of the mailbox to the same place in the buffer.
fn fetch(machine: &mut impl Machine, buffer: &mut [u8; LONGEST], words: core::ops::Range<usize>) {
    let (places, _) = buffer.as_chunks_mut::<8>();
    for (number, place) in places.iter_mut().enumerate().take(words.end).skip(words.start) {
        *place = machine.mailbox(number.saturating_mul(8));
    }
}

/// Moves and clears, in the plan's order.
fn carry_out(machine: &mut impl Machine, plan: &Plan) -> Jump {
    for step in plan.moves() {
        machine.relocate(step.from, step.to, step.length);
    }
    for range in plan.clears() {
        machine.clear(*range);
    }
    Jump { entry: plan.entry, kernel: plan.whole }
}

#[cfg(test)]
mod tests;
