//! Ports: the report, the interrupt controllers, and text of debug builds.

use core::arch::asm;

use handover::place::REPORT;

/// Interrupt masks of the two controllers of a PC.
const CONTROLLERS: [u16; 2] = [0xA1, 0x21];
/// Their "all lines".
const ALL: u8 = 0xFF;

/// First serial port of a PC, which zones do not have: text goes there in debug builds alone.
#[cfg(debug_assertions)]
const SERIAL: u16 = 0x3F8;

fn write_byte(port: u16, value: u8) {
    // SAFETY: the ports of this module neither change memory nor the processor's state.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags)) }
}

/// Says how the firmware ends: `handover::place::GOING_ON` or a failure's code.
pub fn report(code: u32) {
    // SAFETY: the report's port takes any number; at most the machine ends.
    unsafe { asm!("out dx, eax", in("dx") REPORT, in("eax") code, options(nostack, preserves_flags)) }
}

/// Turns off every line of both interrupt controllers, where a machine has them: a line that was left on would interrupt
/// the kernel at a vector that it takes for an exception.
pub fn mask_interrupts() {
    CONTROLLERS.into_iter().for_each(|port| write_byte(port, ALL));
}

/// Stops for good.
pub fn halt() -> ! {
    loop {
        // SAFETY: without interrupts the processor stops here; it holds nothing that others wait for.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) }
    }
}

/// Writes a line in debug builds; in others there is nothing that could.
pub fn say(text: &str) {
    #[cfg(debug_assertions)]
    text.bytes().chain([b'\r', b'\n']).for_each(|byte| write_byte(SERIAL, byte));
    let _only_in_debug_builds = text;
}
