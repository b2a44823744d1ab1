//! Puts firmware, kernel, initrd, tables and the PVH start-of-day structures into guest memory.
//!
//! Files are read straight into the guest's pages; nothing is held in between. Of the firmware the segments are loaded, as
//! its ELF headers say. The kernel's file is opaque here: the firmware reads it, and finds most of it in place
//! (`handover::place::KERNEL_FILE`).

use std::fs::File;
use std::io::{self, Seek};

use devices::power;
use handover::place;
use linux_loader::loader::KernelLoader;
use linux_loader::loader::elf::{Elf, PvhBootCapability};
use rustix::rand::{GetRandomFlags, getrandom};
use vm_kvm::{Entry, GuestRam, LOW_LIMIT};
use vm_memory::{Address, Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

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

/// What a module's place is aligned to.
const PAGE: u64 = 4096;

/// Why a guest cannot be started from these files.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// The firmware is no ELF file that fits. (The loader's text holds its causes already.)
    #[error("firmware image: {0}")]
    Firmware(linux_loader::loader::Error),
    /// The firmware has no PVH entry.
    #[error("firmware image has no PVH entry point")]
    NoPvhEntry,
    /// The firmware reaches into where the kernel's file goes.
    #[error("firmware up to {0:#x}, expected less than {start:#x}", start = place::KERNEL_FILE)]
    FirmwareSize(u64),
    /// A file's length cannot be found out, or it cannot be read.
    #[error("{0}")]
    Module(&'static str, #[source] io::Error),
    /// A file does not fit.
    #[error("{what} of {size} bytes does not fit between {start:#x} and {end:#x}")]
    DoesNotFit {
        /// Which one.
        what: &'static str,
        /// Its size.
        size: u64,
        /// What precedes its place.
        start: u64,
        /// What follows it.
        end: u64,
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
    pub(crate) firmware: &'a mut File,
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
    let firmware = Elf::load(memory, None, images.firmware, lowest).map_err(LoadError::Firmware)?;
    let PvhBootCapability::PvhEntryPresent(entry) = firmware.pvh_boot_cap else {
        return Err(LoadError::NoPvhEntry);
    };
    if firmware.kernel_end > place::KERNEL_FILE {
        return Err(LoadError::FirmwareSize(firmware.kernel_end));
    }
    let low_end = size.min(LOW_LIMIT);
    let mut kernel = Module::open("kernel", images.kernel, place::KERNEL_FILE, low_end)?;
    kernel.read(memory, place::KERNEL_FILE)?;
    let kernel_end = place::KERNEL_FILE + kernel.size;
    let mut initrd = Module::open("initrd", images.initrd, kernel_end, low_end)?;
    let initrd_start = (low_end - initrd.size) / PAGE * PAGE;
    initrd.read(memory, initrd_start)?;
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
    let modules = [(place::KERNEL_FILE, kernel.size), (initrd_start, initrd.size)];
    let modules: Vec<u8> = modules
        .iter()
        .flat_map(|(start, size)| [*start, *size, 0, 0].map(u64::to_le_bytes).concat())
        .collect();
    let parts = [
        (layout::ACPI_TABLES, acpi::tables(vcpus, images.tpm)),
        (layout::GENERATION_ID, generation.to_vec()),
        (layout::RESET_VECTOR, RESET_CODE.to_vec()),
        (layout::COMMAND_LINE, line),
        (layout::MEMORY_MAP, map),
        (layout::MODULE_LIST, modules),
        (layout::START_INFO, start_info(ranges)),
    ];
    for (address, bytes) in parts {
        memory.write_slice(&bytes, GuestAddress(address)).map_err(LoadError::Memory)?;
    }
    Ok(Entry { instruction: entry.raw_value(), start_info: layout::START_INFO })
}

/// A file that the firmware is told of.
struct Module<'a> {
    what: &'static str,
    file: &'a mut File,
    size: u64,
}

impl<'a> Module<'a> {
    /// A file that fits between two addresses, from a page's start on.
    fn open(what: &'static str, file: &'a mut File, start: u64, end: u64) -> Result<Self, LoadError> {
        let size = file.metadata().map_err(|error| LoadError::Module(what, error))?.len();
        let last = end.checked_sub(size).map(|last| last / PAGE * PAGE);
        if last.is_none_or(|last| last < start) {
            return Err(LoadError::DoesNotFit { what, size, start, end });
        }
        Ok(Self { what, file, size })
    }

    /// Reads it to its place.
    fn read(&mut self, memory: &GuestMemoryMmap<()>, start: u64) -> Result<(), LoadError> {
        let failed = |error| LoadError::Module(self.what, error);
        self.file.rewind().map_err(failed)?;
        let count = usize::try_from(self.size).expect("it fits the guest's memory");
        memory
            .read_exact_volatile_from(GuestAddress(start), self.file, count)
            .map_err(|error| failed(io::Error::other(error)))
    }
}

/// The PVH start info: two modules, the memory map and the root of the ACPI tables.
fn start_info(ranges: u32) -> Vec<u8> {
    let words = [START_MAGIC, START_VERSION, 0, 2].map(u32::to_le_bytes).concat();
    let addresses = [layout::MODULE_LIST, layout::COMMAND_LINE, layout::ACPI_TABLES, layout::MEMORY_MAP];
    let tail = [ranges, 0].map(u32::to_le_bytes).concat();
    [words, addresses.map(u64::to_le_bytes).concat(), tail].concat()
}
