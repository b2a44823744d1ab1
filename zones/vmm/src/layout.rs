//! Where things lie in a guest's physical address space.
//!
//! ```text
//!   0x0000_6000  start-of-day structures, command line     0xC000_0000  end of low memory
//!   0x000E_0000  ACPI tables                               0xD000_0000  BARs (fixed)
//!   0x000F_0000  generation id; then SMBIOS tables, by      0xE000_0000  PCI configuration (ECAM), bus 0
//!                the firmware; at FFF0 where a processor   0xFED4_0000  TPM, if there is one
//!                in real mode resets the machine           0xFED5_0000  mailbox
//!   0x0010_0000  memory: firmware, from 0xFF_F000 the      0xFEE0_0000  local APICs
//!                kernel's file, at the end the initrd      1_0000_0000  the rest of memory
//! ```
//! What the firmware must know, too, is in `handover::place`.

use devices::pci;
/// The TPM's page: where a PC has locality 0 of it, and the firmware looks for it.
pub(crate) use handover::place::TPM;
use vm_kvm::{HIGH_START, LOW_LIMIT};

/// PVH start info; module list, memory map and command line follow, all below [`CONVENTIONAL_END`].
pub(crate) const START_INFO: u64 = 0x6000;
/// PVH module list.
pub(crate) const MODULE_LIST: u64 = 0x6100;
/// PVH memory map.
pub(crate) const MEMORY_MAP: u64 = 0x6200;
/// Command line with its final zero.
pub(crate) const COMMAND_LINE: u64 = 0x8000;
/// Room for it: what Linux takes on x86.
pub(crate) const COMMAND_LINE_SIZE: usize = 2048;
/// End of conventional memory.
pub(crate) const CONVENTIONAL_END: u64 = 0x9_F000;
/// ACPI tables.
pub(crate) const ACPI_TABLES: u64 = 0xE_0000;
/// End of them.
pub(crate) const ACPI_END: u64 = 0xF_0000;
/// The generation id, 16 bytes: in a reserved range, which no guest takes for memory.
pub(crate) const GENERATION_ID: u64 = ACPI_END;
/// Where a processor in real mode goes to reset the machine: the address that firmware would answer at.
pub(crate) const RESET_VECTOR: u64 = 0xF_FFF0;
/// Start of the memory above 1 MiB.
pub(crate) const EXTENDED_START: u64 = 0x10_0000;
/// All BARs.
pub(crate) const BARS: u32 = 0xD000_0000;
/// What the host bridge claims for BARs.
pub(crate) const BARS_CLAIMED: u32 = 0x1000_0000;
/// PCI configuration space.
pub(crate) const ECAM: u64 = 0xE000_0000;
/// The in-kernel local APICs.
pub(crate) const LOCAL_APIC: u32 = 0xFEE0_0000;

/// One range of the memory map, by its ACPI address range type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) start: u64,
    pub(crate) size: u64,
    pub(crate) kind: u32,
}

/// Memory that the guest may use.
const RAM: u32 = 1;
/// Addresses that are taken.
const RESERVED: u32 = 2;
/// ACPI tables, usable once read.
const ACPI: u32 = 3;

/// The memory map of a guest with `size` bytes.
pub(crate) fn memory_map(size: u64) -> Vec<Range> {
    let low_end = size.min(LOW_LIMIT);
    let range = |start: u64, end: u64, kind| Range { start, size: end.saturating_sub(start), kind };
    let mut map = vec![
        range(0, CONVENTIONAL_END, RAM),
        range(ACPI_TABLES, ACPI_END, ACPI),
        range(ACPI_END, EXTENDED_START, RESERVED),
        range(EXTENDED_START, low_end, RAM),
        range(ECAM, ECAM + pci::ECAM_SIZE, RESERVED),
    ];
    if size > low_end {
        map.push(range(HIGH_START, HIGH_START + (size - low_end), RAM));
    }
    map
}

#[cfg(test)]
mod tests {
    use handover::place;

    use super::*;

    #[test]
    fn the_firmware_s_places_are_where_nothing_else_is() {
        const { assert!(place::REACH == LOW_LIMIT && place::KERNEL_FILE > EXTENDED_START) };
        const { assert!(place::SMBIOS >= GENERATION_ID + 16 && place::SMBIOS_END <= RESET_VECTOR) };
        let devices = TPM..place::MAILBOX + place::MAILBOX_SIZE;
        let map = memory_map(8 << 30);
        assert!(
            map.iter().all(|range| range.start >= devices.end || range.start + range.size <= devices.start)
        );
        assert!(devices.start >= ECAM + pci::ECAM_SIZE && devices.end <= LOCAL_APIC.into());
    }

    #[test]
    fn the_map_is_sorted_and_without_overlap_and_holds_all_memory() {
        for size in [64_u64 << 20, LOW_LIMIT, LOW_LIMIT + (2 << 20), 8 << 30] {
            let map = memory_map(size);
            for pair in map.windows(2) {
                assert!(pair[0].start + pair[0].size <= pair[1].start, "{pair:x?}");
            }
            let ram: u64 = map.iter().filter(|range| range.kind == RAM).map(|range| range.size).sum();
            assert_eq!(ram + EXTENDED_START - CONVENTIONAL_END, size);
        }
    }
}
