//! Every processor exception ends the firmware with its own code (Intel SDM, volume 3, 6.14 and 8.7).
//!
//! A handler uses nothing of the interrupted program, its stack included: the processor switches to another one before it
//! stores where it was. It has seven such stacks; the exceptions that can come while another one is reported have one
//! each. Interrupts stay off.

use core::arch::{asm, global_asm};
use core::ptr;

use handover::failure::EXCEPTIONS;
use handover::place::REPORT;

/// Selectors: those that Linux expects of a loader, and the task's.
const TASK: u16 = 0x20;
const CODE: u16 = 0x10;

const VECTORS: usize = 32;
/// Bytes between two handlers.
const STRIDE: u64 = 16;

/// Vectors that have a stack of their own, and its number; all others share the first.
const OWN_STACKS: [(usize, u64); 3] = [(2, 2), (8, 3), (18, 4)];
/// Stacks, and the size of each: nothing but the processor's own few words goes there.
const STACKS: usize = 4;
const STACK: usize = 256;

global_asm!(
    ".pushsection .text.exceptions, \"ax\"",
    ".balign 16",
    ".global fw_hal_exceptions",
    "fw_hal_exceptions:",
    ".set fw_hal_vector, 0",
    ".rept 32",
    ".balign 16",
    "mov eax, {base} + fw_hal_vector",
    "jmp 2f",
    ".set fw_hal_vector, fw_hal_vector + 1",
    ".endr",
    "2:",
    "mov dx, {port}",
    "out dx, eax",
    "3: cli",
    "hlt",
    "jmp 3b",
    ".popsection",
    base = const EXCEPTIONS,
    port = const REPORT,
);

unsafe extern "C" {
    /// The first handler; never called, only its address counts.
    fn fw_hal_exceptions();
}

/// What the processor loads: limit and address, without a gap.
#[repr(C, packed)]
struct Pointer {
    limit: u16,
    address: u64,
}

/// Descriptor tables, task state and stacks.
#[derive(Debug)]
#[repr(C, align(16))]
pub struct Exceptions {
    segments: [u64; 6],
    gates: [[u64; 2]; VECTORS],
    // Aligned to 16 bytes by what precedes them.
    stacks: [[u64; STACK / 8]; STACKS],
    task: [u32; 26],
}

impl Exceptions {
    /// Without addresses.
    pub const EMPTY: Self = Self {
        // Linux demands code at 0x10 and data at 0x18, both flat.
        segments: [0, 0, 0x00AF_9B00_0000_FFFF, 0x00CF_9300_0000_FFFF, 0, 0],
        gates: [[0; 2]; VECTORS],
        stacks: [[0; STACK / 8]; STACKS],
        task: [0; 26],
    };

    /// Enters addresses of stacks, task and handlers.
    pub fn fill(&mut self, first_handler: u64) {
        let address = |place: *const u64| u64::try_from(place.addr()).unwrap_or_default();
        let [low, high] = task_descriptor(address(self.task.as_ptr().cast()));
        let [.., task_low, task_high] = &mut self.segments;
        (*task_low, *task_high) = (low, high);
        // Interrupt stacks 1 to 7 begin at byte 36 of the task state.
        for (stack, words) in self.stacks.iter().zip(self.task[9..].as_chunks_mut::<2>().0) {
            let end = address(stack.as_ptr_range().end);
            let halves = [end & 0xFFFF_FFFF, end >> 32].map(|half| u32::try_from(half).unwrap_or_default());
            *words = halves;
        }
        // No port map.
        self.task[25] = 104 << 16;
        for (vector, (handler, place)) in (first_handler..).step_by(16).zip(&mut self.gates).enumerate() {
            let own = OWN_STACKS.iter().find(|(of, _)| *of == vector);
            *place = gate(handler, own.map_or(1, |(_, stack)| *stack));
        }
        debug_assert_eq!(STRIDE, 16, "as in the assembly");
    }

    /// Has the processor use all of it.
    ///
    /// # Safety
    /// 1. It lies at its physical address and stays there; nobody else uses it.
    /// 2. The code and data segments in use are those at 0x10 and 0x18.
    pub unsafe fn load(&mut self) {
        self.fill(u64::try_from((fw_hal_exceptions as *const ()).addr()).unwrap_or_default());
        let segments = pointer(&self.segments);
        let gates = pointer(&self.gates);
        // SAFETY: the segments in use are the same in the new table (duty 2).
        unsafe {
            asm!("lgdt [{}]", in(reg) ptr::from_ref(&segments), options(readonly, nostack, preserves_flags));
        };
        // SAFETY: all gates lead to handlers that never return; the table stays (duty 1).
        unsafe {
            asm!("lidt [{}]", in(reg) ptr::from_ref(&gates), options(readonly, nostack, preserves_flags));
        };
        // SAFETY: the descriptor is that of `task`, not in use yet. (It writes the table: "busy".)
        unsafe {
            asm!("ltr {0:x}", in(reg) TASK, options(nostack, preserves_flags));
        }
    }
}

fn pointer<T>(table: &T) -> Pointer {
    let limit = u16::try_from(size_of::<T>() - 1).unwrap_or_default();
    Pointer { limit, address: u64::try_from(ptr::from_ref(table).addr()).unwrap_or_default() }
}

/// An available 64-bit task state of 104 bytes.
fn task_descriptor(address: u64) -> [u64; 2] {
    let low = 103 | (address & 0xFF_FFFF) << 16 | 0x89 << 40 | (address >> 24 & 0xFF) << 56;
    [low, address >> 32]
}

/// An interrupt gate to a handler on one of the task's stacks.
fn gate(handler: u64, stack: u64) -> [u64; 2] {
    let low =
        handler & 0xFFFF | u64::from(CODE) << 16 | stack << 32 | 0x8E << 40 | (handler >> 16 & 0xFFFF) << 48;
    [low, handler >> 32]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_hold_addresses_where_the_processor_looks_for_them() {
        let handler = 0x1122_3344_5566_7788;
        assert_eq!(gate(handler, 3), [0x5566_8E03_0010_7788, 0x1122_3344]);
        assert_eq!(task_descriptor(handler), [0x5500_8966_7788_0067, 0x1122_3344]);
        let mut exceptions = Exceptions::EMPTY;
        exceptions.fill(0x10_0100);
        let stacks: Vec<u64> = exceptions.gates.iter().map(|[low, _]| low >> 32 & 7).collect();
        for (vector, stack) in stacks.iter().enumerate() {
            let expected = match vector {
                2 => 2,
                8 => 3,
                18 => 4,
                _ => 1,
            };
            assert_eq!(*stack, expected, "vector {vector}");
        }
        assert_eq!(exceptions.gates[31][0] & 0xFFFF, 0x0100 + 31 * STRIDE);
        for (number, stack) in exceptions.stacks.iter().enumerate() {
            let end = u64::try_from(stack.as_ptr_range().end.addr()).unwrap();
            let words = &exceptions.task[9 + 2 * number..];
            assert_eq!(u64::from(words[0]) | u64::from(words[1]) << 32, end);
            assert!(end.is_multiple_of(16), "the processor aligns it otherwise");
        }
    }
}
