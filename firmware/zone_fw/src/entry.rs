//! From the PVH entry to 64-bit Rust.
//!
//! The VMM enters in 32-bit protected mode with flat segments, without paging, with the start information's address in
//! EBX (Xen's `public/arch-x86/hvm/start_info.h`). Until `start` has made the real page tables, one large page maps the
//! first 2 MiB.

use core::arch::global_asm;

global_asm!(
    // The note by which a loader finds the entry: name "Xen", type 18 (XEN_ELFNOTE_PHYS32_ENTRY).
    ".pushsection .note.pvh, \"a\", @note",
    ".balign 4",
    ".long 4, 4, 18",
    ".asciz \"Xen\"",
    ".long pvh_entry",
    ".popsection",
    ".pushsection .text.entry, \"ax\"",
    ".code32",
    ".global pvh_entry",
    "pvh_entry:",
    "cli",
    "cld",
    // Nobody promised that what the file does not hold is zero.
    "movl $bss_start, %edi",
    "movl $bss_end, %ecx",
    "subl %edi, %ecx",
    "shrl $2, %ecx",
    "xorl %eax, %eax",
    "rep stosl",
    // Present and writable; the last one is a large page.
    "movl $first_pointers + 3, first_root",
    "movl $first_directory + 3, first_pointers",
    "movl $0x83, first_directory",
    "movl $first_root, %eax",
    "movl %eax, %cr3",
    // CR4.PAE; EFER.LME and NXE; CR0.PG, WP and PE.
    "movl %cr4, %eax",
    "orl $0x20, %eax",
    "movl %eax, %cr4",
    "movl $0xC0000080, %ecx",
    "rdmsr",
    "orl $0x900, %eax",
    "wrmsr",
    "movl %cr0, %eax",
    "orl $0x80010001, %eax",
    "movl %eax, %cr0",
    "lgdt first_segments_pointer",
    "ljmp $0x10, $in_64_bits",
    ".code64",
    "in_64_bits:",
    "movl $0x18, %eax",
    "movl %eax, %ds",
    "movl %eax, %es",
    "movl %eax, %ss",
    "xorl %eax, %eax",
    "movl %eax, %fs",
    "movl %eax, %gs",
    "movl $stack_end, %esp",
    "movl %ebx, %edi",
    "xorl %ebp, %ebp",
    "call zone_fw_start",
    "ud2",
    ".popsection",
    ".pushsection .rodata.segments, \"a\"",
    ".balign 8",
    // Code at 0x10 and data at 0x18, as Linux demands.
    "first_segments:",
    ".quad 0, 0, 0x00AF9B000000FFFF, 0x00CF93000000FFFF",
    "first_segments_pointer:",
    ".word 31",
    ".long first_segments",
    ".popsection",
    ".pushsection .bss.first_tables, \"aw\", @nobits",
    ".balign 4096",
    "first_root: .skip 4096",
    "first_pointers: .skip 4096",
    "first_directory: .skip 4096",
    ".popsection",
    options(att_syntax)
);
