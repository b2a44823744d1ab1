//! What the host and a zone's firmware agree on: addresses, the login record in the mailbox, and what the firmware
//! reports.
//!
//! ```text
//!   keeper: record ------ SHA-256 ------> vTPM, index RECORD_INDEX
//!      |                                     |
//!   zoned, VMM: mailbox (read once)          | NV_Read
//!      |                                     v
//!      +---------------------------> firmware: equal? -> kernel, or a failure's code -> sentence for the user
//! ```
//! The firmware is entered by PVH: module 0 is the kernel's file (ELF or bzImage, nobody on the host parses it), module 1
//! the initrd, and the command line is the kernel's.
//!
//! No allocation, no I/O. It never trusts a length or a name that it reads: all of them are claims.

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::panic_in_result_fn)
)]

#[cfg(test)]
extern crate std;

pub mod failure;
pub mod place;
pub mod record;
