//! The last step: into the kernel.

use core::arch::asm;

/// Wipes the stack and all registers, and jumps: RSI is the boot parameters' address (Linux,
/// Documentation/arch/x86/boot.rst, 64-bit boot protocol). Interrupts are off.
///
/// # Safety
/// 1. `entry` is a kernel's 64-bit entry, mapped to be executed, and `boot_params` are what it expects.
/// 2. `stack` (from, up to) is the whole stack in use and nothing else.
/// 3. Descriptor tables and page tables stay as they are until the kernel has its own.
pub unsafe fn jump(entry: u64, boot_params: u64, stack: (u64, u64)) -> ! {
    // SAFETY: the caller keeps the duties; nothing is read from the stack after it was wiped.
    unsafe {
        asm!(
            "cli",
            "cld",
            // No table of interrupts: an exception before the kernel has its own ends the machine, and is not taken for
            // one of the firmware.
            "push 0",
            "push 0",
            "lidt [rsp]",
            "add rsp, 16",
            "rep stosb",
            "xor ecx, ecx",
            "xor edx, edx",
            "xor ebx, ebx",
            "xor ebp, ebp",
            "xor edi, edi",
            "xor r9d, r9d",
            "xor r10d, r10d",
            "xor r11d, r11d",
            "xor r12d, r12d",
            "xor r13d, r13d",
            "xor r14d, r14d",
            "xor r15d, r15d",
            "jmp r8",
            in("rdi") stack.0,
            in("rcx") stack.1.wrapping_sub(stack.0),
            in("rax") 0_u64,
            in("rsi") boot_params,
            in("r8") entry,
            options(noreturn),
        )
    }
}
