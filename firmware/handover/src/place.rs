//! Where things are in a zone's machine, and names in its vTPM.

/// Registers and buffer of the vTPM, locality 0: Command Response Buffer interface (TCG PC Client Platform TPM Profile
/// 1.05, section 6.5.3).
pub const TPM: u64 = 0xFED4_0000;
/// One page: 0x80 bytes of registers, the rest is the buffer.
pub const TPM_SIZE: u64 = 0x1000;

/// The mailbox: a read of a byte gives it and makes it zero, writes are ignored.
pub const MAILBOX: u64 = 0xFED5_0000;
/// One page.
pub const MAILBOX_SIZE: u64 = 0x1000;

/// Port of the firmware's report: one 32-bit write, [`GOING_ON`] or a failure's code.
pub const REPORT: u16 = 0x604;
/// The firmware is about to jump to the kernel. The port, and what is left in the mailbox, are gone then until the machine
/// is reset: what comes after the firmware has no say.
pub const GOING_ON: u32 = 0;

/// Where the VMM puts module 0, so that the kernel's segments are in place already: one page, which holds the file's
/// headers, below Linux's 16 MiB. A file whose segments all have their physical address as distance from here needs no
/// move.
pub const KERNEL_FILE: u64 = 0xFF_F000;

/// Below 4 GiB there is no memory from here on: the firmware reaches none above, and looks for none.
pub const REACH: u64 = 0xC000_0000;

/// Where the firmware puts the SMBIOS entry point: in the range that a system without EFI is searched in (SMBIOS 3.7,
/// section 5.2.2).
pub const SMBIOS: u64 = 0xF_0010;
/// End of the room for it and for the tables that follow it.
pub const SMBIOS_END: u64 = 0xF_FF00;

/// Index in the vTPM that holds the record's SHA-256. `keeper` makes it under the platform hierarchy, to be read and
/// written with that hierarchy's authorization, and writes it before each start (TCG Registry of Reserved TPM 2.0
/// Handles: indices of the platform).
pub const RECORD_INDEX: u32 = 0x0140_0001;
/// What the firmware extends, as each bank's hash of this, before it uses a record: nobody after it unseals what was sealed
/// to the register's start value.
pub const CAP: &[u8] = b"bulkhead: the zone's firmware took the login record";
/// The register.
pub const CAP_PCR: u32 = 11;
