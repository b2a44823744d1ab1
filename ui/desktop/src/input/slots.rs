//! Where the fingers of a touch screen were when its last reader stopped.
//!
//! The kernel reports a position only when it differs from the slot's last one, whoever read that. A desktop that
//! starts again must ask, or the next touch at the same height arrives without its height.
#![expect(unsafe_code, reason = "EVIOCGMTSLOTS has no safe interface")]

use std::io;
use std::os::fd::AsFd;

use rustix::ioctl::{Opcode, Updater, ioctl, opcode};

use super::decoder::SLOTS;

/// The axis, then one value a slot (`struct input_mt_request_layout`).
const WORDS: usize = 1 + SLOTS as usize;

/// `EVIOCGMTSLOTS` for that many words.
const GET: Opcode = opcode::read::<[i32; WORDS]>(b'E', 0x0a);

/// The value of an `ABS_MT_*` axis in each slot.
///
/// # Errors
/// What the kernel reports: the device has no such axis, or is gone.
pub(super) fn values(device: impl AsFd, axis: u16) -> io::Result<[i32; SLOTS as usize]> {
    let mut request = [0_i32; WORDS];
    request[0] = i32::from(axis);
    // SAFETY: the request code says the array's size; the kernel reads its first word and writes no further.
    let call = unsafe { Updater::<GET, [i32; WORDS]>::new(&mut request) };
    // SAFETY: the code and the argument belong together, as above; a device that does not know the code fails.
    unsafe { ioctl(device, call) }?;
    let mut values = [0; SLOTS as usize];
    values.copy_from_slice(&request[1..]);
    Ok(values)
}
