//! Hardware of the zone firmware: memory, ports, page tables, exceptions, the vTPM's registers, and the jump.
//!
//! It touches and never decides: what is done and in which order, `preauth` says. Logic that needs no hardware (page
//! tables' entries, the conversation with the registers) is plain code that tests run on the host. It never allocates.
#![cfg_attr(not(test), no_std)]
#![expect(
    unsafe_code,
    reason = "island: ports, registers, physical memory and control registers have no safe interface"
)]

pub mod crb;
pub mod exceptions;
pub mod jump;
pub mod memory;
pub mod mmio;
pub mod paging;
pub mod port;
