//! The program: makes the machine safe, runs `preauth`, and goes on to the kernel or says why not.

use core::cell::UnsafeCell;
use core::panic::PanicInfo;
use core::ptr;

use fw_hal::crb::{Crb, CrbError};
use fw_hal::exceptions::Exceptions;
use fw_hal::memory::Physical;
use fw_hal::mmio::Page;
use fw_hal::paging::{Layout, Tables};
use fw_hal::{jump, port};
use handover::failure::Failure;
use handover::place::{GOING_ON, MAILBOX, REACH, SMBIOS, SMBIOS_END, TPM};
use preauth::memory::{Memory, Range};
use preauth::{Desk, Jump, Machine};

static TABLES: Single<Tables> = Single(UnsafeCell::new(Tables::EMPTY));
static EXCEPTIONS: Single<Exceptions> = Single(UnsafeCell::new(Exceptions::EMPTY));
static DESK: Single<Desk> = Single(UnsafeCell::new(Desk::new()));

/// What the program has one of.
struct Single<T>(UnsafeCell<T>);

// SAFETY: there is one processor, interrupts are off, and handlers of exceptions never return.
unsafe impl<T> Sync for Single<T> {}

impl<T> Single<T> {
    /// The object.
    ///
    /// # Safety
    /// 1. It is asked for once.
    #[expect(clippy::mut_from_ref, reason = "duty 1")]
    unsafe fn take(&self) -> &mut T {
        // SAFETY: there is no other reference (duty 1).
        unsafe { &mut *self.0.get() }
    }
}

/// Where kernels run code of their own below 1 MiB before they have page tables of their own (Linux does to change the
/// number of page table levels).
const CONVENTIONAL: (u64, u64) = (0x1000, 0xA_0000);

unsafe extern "C" {
    // The linker script's; only their addresses count.
    static text_start: u8;
    static text_end: u8;
    static constants_end: u8;
    static stack_start: u8;
    static stack_end: u8;
    static firmware_end: u8;
}

/// An address that the linker script gave.
fn address(symbol: *const u8) -> u64 {
    u64::try_from(symbol.addr()).unwrap_or_default()
}

/// The first Rust code, called once by the entry with the address of the VMM's start information.
// No other symbol has this name.
#[unsafe(no_mangle)]
extern "C" fn zone_fw_start(start_info: u32) -> ! {
    // SAFETY: this function runs once, and nobody else names these statics.
    let tables = unsafe { TABLES.take() };
    // SAFETY: as above.
    let exceptions = unsafe { EXCEPTIONS.take() };
    // SAFETY: as above.
    let desk = unsafe { DESK.take() };
    let text = (address(ptr::addr_of!(text_start)), address(ptr::addr_of!(text_end)));
    let constants = (text.1, address(ptr::addr_of!(constants_end)));
    let own = (text.0, address(ptr::addr_of!(firmware_end)));
    tables.fill(&Layout { text, constants, reach: REACH, devices: [TPM, MAILBOX] });
    // SAFETY: the tables are static and filled; the whole firmware lies below 2 MiB at its physical address, mapped
    // with at least the rights that its parts need.
    unsafe { tables.load() };
    // SAFETY: static, used by nobody else; the entry loaded segments of the same numbers and kinds.
    unsafe { exceptions.load() };
    port::say("zone_fw: begins");
    // SAFETY: the tables map everything below REACH at its own address; all objects of this program are in `own`.
    let memory = unsafe { Physical::new(REACH, own) };
    // SAFETY: mapped uncached by the tables; registers of the vTPM, which this program alone uses.
    let tpm = unsafe { Page::new(TPM) };
    // SAFETY: as above, the mailbox.
    let mailbox = unsafe { Page::new(MAILBOX) };
    let mut zone = Zone { memory, tpm: Crb::new(tpm), mailbox };
    let own = Range { start: own.0, end: own.1 };
    match preauth::run(&mut zone, desk, start_info.into(), own) {
        Ok(jump) => go_on(tables, desk, jump),
        Err(failure) => fail(failure),
    }
}

/// Into the kernel.
fn go_on(tables: &mut Tables, desk: &Desk, jump: Jump) -> ! {
    port::say("zone_fw: goes on to the kernel");
    tables.let_execute(jump.kernel.start, jump.kernel.end);
    tables.let_execute(CONVENTIONAL.0, CONVENTIONAL.1);
    // SAFETY: only rights of memory outside of the firmware have changed.
    unsafe { tables.load() };
    port::mask_interrupts();
    port::report(GOING_ON);
    let boot_params = address(desk.boot_params.bytes().as_ptr());
    let stack = (address(ptr::addr_of!(stack_start)), address(ptr::addr_of!(stack_end)));
    // SAFETY: `preauth` checked and prepared the kernel, which is mapped to be executed; the stack is the linker
    // script's; all tables are static, and the kernel takes the firmware's memory only when it has its own.
    unsafe { jump::jump(jump.entry, boot_params, stack) }
}

fn fail(failure: Failure) -> ! {
    port::say(failure.sentence());
    port::report(failure.code());
    port::halt()
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    fail(Failure::Panicked)
}

/// The machine as `preauth` sees it.
struct Zone {
    memory: Physical,
    tpm: Crb<Page>,
    mailbox: Page,
}

impl Memory for Zone {
    fn read(&self, address: u64, out: &mut [u8]) -> bool {
        self.memory.read(address, out)
    }
}

impl Machine for Zone {
    fn mailbox(&mut self, offset: usize) -> [u8; 8] {
        self.mailbox.read_eight(u64::try_from(offset).unwrap_or(u64::MAX))
    }

    fn transact(&mut self, command: &[u8], response: &mut [u8]) -> Result<usize, Failure> {
        self.tpm.transact(command, response).map_err(|error| match error {
            CrbError::Silent => Failure::TpmSilent,
            CrbError::Answer => Failure::TpmAnswer,
        })
    }

    fn release_tpm(&mut self) {
        self.tpm.release();
    }

    fn write_smbios(&mut self, address: u64, bytes: &[u8]) {
        let end = u64::try_from(bytes.len()).ok().and_then(|length| address.checked_add(length));
        let fits = address >= SMBIOS && end.is_some_and(|end| end <= SMBIOS_END);
        assert!(fits && self.memory.write(address, bytes), "the SMBIOS tables have their place");
    }

    fn relocate(&mut self, from: u64, to: u64, length: u64) {
        assert!(self.memory.relocate(from, to, length), "the plan was checked");
    }

    fn clear(&mut self, range: Range) {
        assert!(self.memory.clear(range.start, range.size()), "the plan was checked");
    }
}
