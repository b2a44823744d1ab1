//! Puts kernel, initrd, tables and the PVH start-of-day structures into guest memory.
//!
//! Files are read straight into the guest's pages; nothing is held in between.

use std::fs::File;
use std::io::{self, Seek};

use devices::power;
use linux_loader::loader::KernelLoader;
use linux_loader::loader::elf::{Elf, PvhBootCapability};
use rustix::rand::{GetRandomFlags, getrandom};
use vm_kvm::{Entry, GuestRam, LOW_LIMIT};
use vm_memory::{Address, Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

use crate::{acpi, layout};

/// Magic of the start info, and its version (Xen's `public/arch-x86/hvm/start_info.h`).
const START_MAGIC: u32 = 0x336E_C578;
const START_VERSION: u32 = 1;

/// What a processor meets at the reset vector, in real mode: MOV DX, reset register; MOV AL, its value; OUT DX,
/// AL; then HLT for ever. Linux without EFI leaves a hardware-reduced machine this way, not through the reset
/// register: it believes that such a machine has EFI.
const RESET_CODE: [u8; 9] = {
    let [low, high] = power::RESET.to_le_bytes();
    [0xBA, low, high, 0xB0, power::RESET_VALUE, 0xEE, 0xF4, 0xEB, 0xFD]
};

/// What the initrd's place is aligned to.
const PAGE: u64 = 4096;

/// Why a guest cannot be started from these files.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// The kernel is no ELF file that fits. (The loader's text holds its causes already.)
    #[error("kernel image: {0}")]
    Kernel(linux_loader::loader::Error),
    /// The kernel has no PVH entry.
    #[error("kernel image has no PVH entry point")]
    NoPvhEntry,
    /// The initrd's length cannot be found out, or it cannot be read.
    #[error("initrd")]
    Initrd(#[source] io::Error),
    /// Kernel and initrd do not fit.
    #[error(
        "initrd of {initrd} bytes does not fit between the kernel's end at {kernel_end:#x} and {memory_end:#x}"
    )]
    DoesNotFit {
        /// Size of the initrd.
        initrd: u64,
        /// End of the kernel.
        kernel_end: u64,
        /// End of low memory.
        memory_end: u64,
    },
    /// The command line is too long or holds a zero byte.
    #[error("command line of {0} bytes, expected less than {max} and no zero byte", max = layout::COMMAND_LINE_SIZE)]
    CommandLine(usize),
    /// The kernel gives no random numbers.
    #[error("random numbers for the generation id")]
    Random(#[source] rustix::io::Errno),
    /// Guest memory does not reach to where something must lie.
    #[error("guest memory")]
    Memory(#[source] vm_memory::GuestMemoryError),
}

/// What to start.
pub(crate) struct Images<'a> {
    pub(crate) kernel: &'a mut File,
    pub(crate) initrd: &'a mut File,
    pub(crate) command_line: &'a str,
    /// The machine has a TPM.
    pub(crate) tpm: bool,
}

/// Loads everything and says where the first processor starts.
pub(crate) fn load(ram: &GuestRam, images: Images<'_>, vcpus: u8) -> Result<Entry, LoadError> {
    let memory = &ram.memory;
    let size: u64 = memory.iter().map(GuestMemoryRegion::len).sum();
    let lowest = Some(GuestAddress(layout::EXTENDED_START));
    let kernel = Elf::load(memory, None, images.kernel, lowest).map_err(LoadError::Kernel)?;
    let PvhBootCapability::PvhEntryPresent(entry) = kernel.pvh_boot_cap else {
        return Err(LoadError::NoPvhEntry);
    };
    let (initrd, initrd_size) = load_initrd(ram, images.initrd, kernel.kernel_end, size.min(LOW_LIMIT))?;
    let mut line = images.command_line.as_bytes().to_vec();
    if line.len() >= layout::COMMAND_LINE_SIZE || line.contains(&0) {
        return Err(LoadError::CommandLine(line.len()));
    }
    line.push(0);
    let mut map = Vec::new();
    for range in layout::memory_map(size) {
        map.extend_from_slice(&range.start.to_le_bytes());
        map.extend_from_slice(&range.size.to_le_bytes());
        map.extend_from_slice(&range.kind.to_le_bytes());
        map.extend_from_slice(&[0; 4]);
    }
    let ranges = u32::try_from(map.len() / 24).expect("a handful of ranges");
    // Each start is another one: no state of an earlier one comes back.
    let mut generation = [0; 16];
    getrandom(&mut generation, GetRandomFlags::empty()).map_err(LoadError::Random)?;
    let module = [initrd, initrd_size, 0, 0].map(u64::to_le_bytes).concat();
    let parts = [
        (layout::ACPI_TABLES, acpi::tables(vcpus, images.tpm)),
        (layout::GENERATION_ID, generation.to_vec()),
        (layout::RESET_VECTOR, RESET_CODE.to_vec()),
        (layout::COMMAND_LINE, line),
        (layout::MEMORY_MAP, map),
        (layout::MODULE_LIST, module),
        (layout::START_INFO, start_info(ranges)),
    ];
    for (address, bytes) in parts {
        memory.write_slice(&bytes, GuestAddress(address)).map_err(LoadError::Memory)?;
    }
    Ok(Entry { instruction: entry.raw_value(), start_info: layout::START_INFO })
}

/// Reads the initrd to the end of low memory. Returns its place and size.
fn load_initrd(ram: &GuestRam, file: &mut File, kernel_end: u64, end: u64) -> Result<(u64, u64), LoadError> {
    let size = file.metadata().map_err(LoadError::Initrd)?.len();
    let does_not_fit = || LoadError::DoesNotFit { initrd: size, kernel_end, memory_end: end };
    let start = end.checked_sub(size).ok_or_else(does_not_fit)? / PAGE * PAGE;
    if start < kernel_end {
        return Err(does_not_fit());
    }
    file.rewind().map_err(LoadError::Initrd)?;
    let count = usize::try_from(size).expect("it fits the guest's memory");
    ram.memory
        .read_exact_volatile_from(GuestAddress(start), file, count)
        .map_err(|error| LoadError::Initrd(io::Error::other(error)))?;
    Ok((start, size))
}

/// The PVH start info: one module, the memory map and the root of the ACPI tables.
fn start_info(ranges: u32) -> Vec<u8> {
    let words = [START_MAGIC, START_VERSION, 0, 1].map(u32::to_le_bytes).concat();
    let addresses = [layout::MODULE_LIST, layout::COMMAND_LINE, layout::ACPI_TABLES, layout::MEMORY_MAP];
    let tail = [ranges, 0].map(u32::to_le_bytes).concat();
    [words, addresses.map(u64::to_le_bytes).concat(), tail].concat()
}
