//! ACPI tables of the machine: hardware-reduced, no legacy device, PCI by ECAM with MSI-X only, a generation id, a TPM
//! where the zone has one.
//!
//! What the FADT says is missing (CMOS clock, VGA, keyboard controller) is what Linux then does not wait for.

use acpi_tables::Aml;
use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, Device, EISAName, Memory32Fixed, Name, Package, ResourceTemplate,
    Scope, ZERO,
};
use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace as Space, GAS};
use acpi_tables::madt::{EnabledStatus, LocalInterruptController, MADT, ProcessorLocalApic};
use acpi_tables::mcfg::MCFG;
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use devices::{pci, power, tpm_crb};

use crate::layout;

const OEM: [u8; 6] = *b"BLKHD ";
const TABLE: [u8; 8] = *b"BULKHEAD";
const REVISION: u32 = 1;

/// Length of a table's header.
const HEADER: u32 = 36;

/// FADT `IAPC_BOOT_ARCH`: VGA, PCIe ASPM and CMOS clock are not there. The bits for legacy devices and for
/// the keyboard controller are clear: those are not there either.
const BOOT_ARCHITECTURE: u16 = 1 << 2 | 1 << 4 | 1 << 5;

/// All tables, laid out from [`layout::ACPI_TABLES`] on; the root pointer is the first thing there.
pub(crate) fn tables(vcpus: u8, tpm: bool) -> Vec<u8> {
    let mut image = vec![0; Rsdp::len()];
    let dsdt = append(&mut image, &dsdt(tpm));
    let fadt = append(&mut image, &bytes(&fadt(dsdt)));
    let madt = append(&mut image, &bytes(&madt(vcpus)));
    let mcfg = append(&mut image, &bytes(&mcfg()));
    let tpm = tpm.then(|| append(&mut image, &tpm2()));
    let mut xsdt = XSDT::new(OEM, TABLE, REVISION);
    for table in [fadt, madt, mcfg].into_iter().chain(tpm) {
        xsdt.add_entry(table);
    }
    let xsdt = append(&mut image, &bytes(&xsdt));
    let root = bytes(&Rsdp::new(OEM, xsdt));
    for (place, byte) in image.iter_mut().zip(root) {
        *place = byte;
    }
    image
}

/// Appends a table and says where the guest finds it.
fn append(image: &mut Vec<u8>, table: &[u8]) -> u64 {
    image.resize(image.len().next_multiple_of(16), 0);
    let offset = u64::try_from(image.len()).expect("tables are small");
    image.extend_from_slice(table);
    layout::ACPI_TABLES + offset
}

fn bytes(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

fn fadt(dsdt: u64) -> acpi_tables::fadt::FADT {
    let port = |number: u16| GAS::new(Space::SystemIo, 8, 0, AccessSize::ByteAccess, number.into());
    let mut fadt = FADTBuilder::new(OEM, TABLE, REVISION)
        .dsdt_64(dsdt)
        .flag(Flags::HwReducedAcpi)
        .flag(Flags::ResetRegSup)
        .flag(Flags::Wbinvd)
        .flag(Flags::ProcC1)
        // No fixed buttons.
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton)
        .flag(Flags::Headless);
    fadt.iapc_boot_arch = BOOT_ARCHITECTURE.into();
    fadt.reset_reg = port(power::RESET);
    fadt.reset_value = power::RESET_VALUE;
    fadt.sleep_control_reg = port(power::SLEEP_CONTROL);
    fadt.sleep_status_reg = port(power::SLEEP_STATUS);
    fadt.finalize()
}

/// Processors only: no device has an interrupt pin, so the I/O APIC is not worth the two hundred exits that a kernel
/// spends on setting its pins up.
fn madt(vcpus: u8) -> MADT {
    let mut madt = MADT::new(OEM, TABLE, REVISION, LocalInterruptController::Address(layout::LOCAL_APIC));
    for index in 0..vcpus {
        madt.add_structure(ProcessorLocalApic::new(index, index, EnabledStatus::Enabled));
    }
    madt
}

fn mcfg() -> MCFG {
    let mut mcfg = MCFG::new(OEM, TABLE, REVISION);
    mcfg.add_ecam(layout::ECAM, 0, 0, 0);
    mcfg
}

/// The TPM's control area and how a command is started: TCG ACPI Specification 1.3, table "TPM2" of revision 4,
/// without parameters and without an event log.
fn tpm2() -> Vec<u8> {
    /// Class of a client platform, and a reserved word.
    const CLIENT: u32 = 0;
    /// "Command Response Buffer Interface".
    const START_METHOD: u32 = 7;
    let mut table = Sdt::new(*b"TPM2", HEADER, 4, OEM, TABLE, REVISION);
    table.append(CLIENT);
    table.append(layout::TPM + tpm_crb::CONTROL_AREA);
    table.append(START_METHOD);
    table.append_slice(&[0; 12]);
    table.as_slice().to_vec()
}

/// The host bridge, what its configuration space occupies, and the sleep type of "soft off".
fn dsdt(tpm: bool) -> Vec<u8> {
    let first_bar = layout::BARS;
    let last_bar = layout::BARS + (layout::BARS_CLAIMED - 1);
    let bus = AddressSpace::new_bus_number(0_u16, 0_u16);
    let bars = AddressSpace::new_memory(AddressSpaceCacheable::NotCacheable, true, first_bar, last_bar, None);
    let window = ResourceTemplate::new(vec![&bus, &bars]);
    let ecam_base = u32::try_from(layout::ECAM).expect("ECAM lies below 4 GiB");
    let ecam_size = u32::try_from(pci::ECAM_SIZE).expect("one bus");
    let ecam = Memory32Fixed::new(true, ecam_base, ecam_size);
    let taken = ResourceTemplate::new(vec![&ecam]);
    let generation = u32::try_from(layout::GENERATION_ID).expect("it lies below 1 MiB");
    let scope = bytes(&Scope::new(
        "_SB_".into(),
        vec![
            &Device::new(
                "PCI0".into(),
                vec![
                    &Name::new("_HID".into(), &EISAName::new("PNP0A08")),
                    &Name::new("_CID".into(), &EISAName::new("PNP0A03")),
                    &Name::new("_SEG".into(), &ZERO),
                    &Name::new("_BBN".into(), &ZERO),
                    &Name::new("_UID".into(), &ZERO),
                    &Name::new("_CRS".into(), &window),
                ],
            ),
            &Device::new(
                "MBRD".into(),
                vec![
                    &Name::new("_HID".into(), &EISAName::new("PNP0C02")),
                    &Name::new("_UID".into(), &ZERO),
                    &Name::new("_CRS".into(), &taken),
                ],
            ),
            // Microsoft's "Virtual Machine Generation ID": a guest that sees another value than before is not
            // the only one with its state, and stirs its random numbers. The address's halves are in ADDR.
            &Device::new(
                "VGEN".into(),
                vec![
                    &Name::new("_HID".into(), &"BLKH0001"),
                    &Name::new("_CID".into(), &"VM_Gen_Counter"),
                    &Name::new("_DDN".into(), &"VM_Gen_Counter"),
                    &Name::new("ADDR".into(), &Package::new(vec![&generation, &ZERO])),
                ],
            ),
        ],
    ));
    let registers = Memory32Fixed::new(
        true,
        u32::try_from(layout::TPM).expect("it lies below 4 GiB"),
        u32::try_from(tpm_crb::PAGE_SIZE).expect("one page"),
    );
    let tpm = tpm.then(|| {
        let registers = ResourceTemplate::new(vec![&registers]);
        let (id, uid) = (Name::new("_HID".into(), &"MSFT0101"), Name::new("_UID".into(), &ZERO));
        let resources = Name::new("_CRS".into(), &registers);
        bytes(&Scope::new("_SB_".into(), vec![&Device::new("TPM0".into(), vec![&id, &uid, &resources])]))
    });
    let sleep = bytes(&Name::new("_S5_".into(), &Package::new(vec![&power::SOFT_OFF])));
    let mut dsdt = Sdt::new(*b"DSDT", HEADER, 6, OEM, TABLE, REVISION);
    dsdt.append_slice(&scope);
    dsdt.append_slice(&tpm.unwrap_or_default());
    dsdt.append_slice(&sleep);
    dsdt.as_slice().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_reached_and_sums_to_zero() {
        for tpm in [false, true] {
            check_tables(&tables(4, tpm), tpm);
        }
    }

    fn check_tables(image: &[u8], tpm: bool) {
        assert!(u64::try_from(image.len()).unwrap() <= layout::ACPI_END - layout::ACPI_TABLES);
        let sum = |bytes: &[u8]| bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        assert_eq!((&image[..8], sum(&image[..36])), (&b"RSD PTR "[..], 0));
        let at = |address: &[u8]| {
            usize::try_from(u64::from_le_bytes(address.try_into().unwrap()) - layout::ACPI_TABLES).unwrap()
        };
        let table = |start: usize| {
            let length = u32::from_le_bytes(image[start + 4..start + 8].try_into().unwrap());
            &image[start..start + usize::try_from(length).unwrap()]
        };
        let xsdt = table(at(&image[24..32]));
        assert_eq!(sum(xsdt), 0);
        let mut names = Vec::new();
        for entry in xsdt[36..].chunks(8) {
            let found = table(at(entry));
            assert_eq!(sum(found), 0);
            names.push(String::from_utf8(found[..4].to_vec()).unwrap());
            if found.starts_with(b"FACP") {
                assert_eq!(sum(table(at(&found[140..148]))), 0);
            }
        }
        let expected = ["FACP", "APIC", "MCFG", "TPM2"];
        assert_eq!(names, expected[..if tpm { 4 } else { 3 }]);
        if tpm {
            let entry = xsdt[36..].chunks(8).last().unwrap();
            let table = table(at(entry));
            let area = [&[0; 4][..], &0xFED4_0040_u64.to_le_bytes(), &7_u32.to_le_bytes(), &[0; 12]].concat();
            assert_eq!(table[36..], area);
        }
        let device = image.windows(8).any(|text| text == b"MSFT0101");
        assert_eq!(device, tpm);
    }
}
