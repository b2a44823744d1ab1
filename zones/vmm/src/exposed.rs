//! What hostile images reach, for `tests/fuzz`. The program itself is `main.rs`.

mod acpi;
mod layout;
mod load;

use std::fs::File;

use vm_kvm::GuestRam;

/// Loads firmware, kernel and initrd as for the start of a machine; the address of its first instruction.
///
/// # Errors
/// The sentence that the user would read.
pub fn load(
    ram: &GuestRam,
    firmware: &mut File,
    kernel: &mut File,
    initrd: &mut File,
    command_line: &str,
    vcpus: u8,
) -> Result<u64, String> {
    let images = load::Images { firmware, kernel, initrd, command_line, tpm: true };
    load::load(ram, images, vcpus).map(|entry| entry.instruction).map_err(|error| error.to_string())
}
