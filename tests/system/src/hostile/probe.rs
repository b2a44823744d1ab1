//! A kernel that reaches for what is the firmware's and the host's: mailbox, report, the localities of its TPM.
//!
//! It waits for what it must read: a guest that reads anything else stands still for ever, or powers off at once where one read is
//! all that there is. When it saw everything it starts a command of its TPM and resets the machine in the middle of it; after so
//! many starts it powers off.

use std::path::Path;

use super::script::{LONELY_DISK, Script};
use crate::disk::Keys;

/// Resets of a machine whose guest saw everything as it has to be, each time.
pub const STARTS: u32 = 4;

/// Where things are (ARCHITECTURE.md's handover; TCG PC Client Platform TPM Profile): spelled out, because a test that asks the
/// code what is right finds everything right.
const MAILBOX: u32 = 0xFED5_0000;
const MAILBOX_BYTES: u32 = 0x1000;
const REPORT: u32 = 0x604;
const RESET: u32 = 0x602;
const TPM: u32 = 0xFED4_0000;
const LOCALITY: u32 = 0x1000;
const LOCALITIES: u32 = 5;

/// Registers of a locality.
const LOC_CTRL: u32 = 0x08;
const LOC_STS: u32 = 0x0C;
const CTRL_REQ: u32 = 0x40;
const CTRL_START: u32 = 0x4C;
const BUFFER: u32 = 0x80;
/// Of locality 4: end, data and start of a measurement before the first instruction.
const HASH: [u32; 3] = [0x28, 0x24, 0x20];

/// Nothing is there.
const ABSENT: u32 = 0xFFFF;

/// `TPM2_PCR_Read` of PCR 0, SHA-256; where the value is in the answer.
const READ: [u8; 20] = [0x80, 1, 0, 0, 0, 20, 0, 0, 1, 0x7E, 0, 0, 0, 1, 0, 11, 3, 1, 0, 0];
const VALUE: u32 = 30;
/// `TPM2_PCR_Reset` of PCR 17, which locality 4 may, with the empty password; bytes 8 and 9 of `TPM_RC_LOCALITY`.
const PCR_RESET: [u8; 28] =
    [0x80, 2, 0, 0, 0, 27, 0, 0, 1, 0x3D, 0, 0, 0, 17, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0, 0];
const NOT_FROM_HERE: u32 = u32::from_le_bytes([9, 7, 0, 0]);
/// `TPM2_CreatePrimary` of a P-384 key, which takes a while.
const SLOW: [u8; 68] = [
    0x80, 2, 0, 0, 0, 67, 0, 0, 1, 0x31, 0x40, 0, 0, 1, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0,
    0, // password
    0, 4, 0, 0, 0, 0, // no secret of ours
    0, 26, 0, 0x23, 0, 11, 0, 3, 0, 0x72, 0, 0, 0, 6, 0, 0x80, 0, 0x43, 0, 0x10, 0, 4, 0, 0x10, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0,
];

/// Makes the template in a folder. `measured` is what its PCR 0 must hold.
///
/// # Errors
/// A file cannot be written.
pub fn make(folder: &Path, keys: &Keys, measured: [u8; 32]) -> anyhow::Result<()> {
    super::make_of(folder, keys, vec![0; template::verity::BLOCK], &script(measured).bytes())
}

fn script(measured: [u8; 32]) -> Script {
    let mut script = Script::default();
    script.begin(LONELY_DISK, STARTS);
    script.count(LONELY_DISK);
    mailbox(&mut script);
    localities(&mut script);
    // Its own locality.
    script.push(1, TPM + LOC_CTRL, 1);
    script.push(7, TPM + LOC_STS, 1);
    command(&mut script, &PCR_RESET);
    script.push(7, TPM + CTRL_START, 0);
    script.push(7, TPM + BUFFER + 8, NOT_FROM_HERE);
    command(&mut script, &READ);
    script.push(7, TPM + CTRL_START, 0);
    for (place, pair) in (VALUE..).step_by(2).zip(measured.chunks_exact(2)) {
        let value = pair.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte));
        script.push(7, TPM + BUFFER + place, value);
    }
    command(&mut script, &SLOW);
    script.push(7, TPM + CTRL_START, 1);
    script.push(6, RESET, 1);
    script.push(0, 0, 0);
    script
}

/// It reads as zero, also what was written into it, and whatever is reported.
fn mailbox(script: &mut Script) {
    let all_zero = |script: &mut Script| {
        for place in (0..MAILBOX_BYTES).step_by(4) {
            // One read each, below 1: who waited would read it twice.
            script.push(10, MAILBOX + place, 1);
        }
    };
    all_zero(script);
    for place in (0..MAILBOX_BYTES).step_by(256) {
        script.push(4, MAILBOX + place, 0x4C52_4842);
    }
    // The firmware "failed", and "goes on".
    for code in [5, 0] {
        script.push(6, REPORT, code);
    }
    all_zero(script);
}

/// There is none but the first.
fn localities(script: &mut Script) {
    for locality in 1..LOCALITIES {
        let page = TPM + locality * LOCALITY;
        script.push(1, page + LOC_CTRL, 1);
        for register in HASH {
            script.push(4, page + register, 0x5555_5555);
        }
        for register in [0, LOC_CTRL, LOC_STS, 0x30, CTRL_REQ, CTRL_START, BUFFER] {
            script.push(7, page + register, ABSENT);
        }
    }
}

/// Gives a command to the TPM.
fn command(script: &mut Script, bytes: &[u8]) {
    script.push(4, TPM + CTRL_REQ, 1);
    script.push(7, TPM + CTRL_REQ, 0);
    for (place, bytes) in (0..).step_by(4).zip(bytes.chunks(4)) {
        let word = bytes.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
        script.push(4, TPM + BUFFER + place, word);
    }
    script.push(4, TPM + CTRL_START, 1);
}
