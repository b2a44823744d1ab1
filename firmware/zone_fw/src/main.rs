//! The zone firmware: the first code that runs inside each zone, entered by PVH before the zone's kernel.
//!
//! ```text
//!   entry.rs: 32 bits -> 64 bits -> here: page tables, exceptions -> preauth::run -> report "going on", jump
//!                                                                        | any failure, panic or exception
//!                                                                        v
//!                                                                  report its code, stop
//! ```
//! It wires `preauth`, which decides, to `fw_hal`, which touches hardware. It never allocates, prints in debug builds
//! alone, and uses integer instructions only. For any other target there is nothing in it.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![cfg_attr(
    target_os = "none",
    expect(
        unsafe_code,
        reason = "island: the program's entry, its statics and the duties of fw_hal's unsafe functions"
    )
)]

#[cfg(target_os = "none")]
mod entry;
#[cfg(target_os = "none")]
mod start;

#[cfg(not(target_os = "none"))]
fn main() {}
