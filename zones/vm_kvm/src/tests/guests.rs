//! Hand-made guests, as bytes with their listing (Intel syntax). They use integers only and no paging, so that
//! a KVM that interprets runs them too. "Stop" is a write of 1 to port 0x600.

/// Stores what EBX held, goes through a port, an address without memory and CPUID, and stops.
#[rustfmt::skip]
pub(super) const BOOT: &[u8] = &[
    0x89, 0x1d, 0x00, 0x30, 0x00, 0x00,                                //  0: mov dword 0x3000,ebx
    0xb0, 0x5a,                                                        //  6: mov al,0x5a
    0x66, 0xba, 0x34, 0x12,                                            //  8: mov dx,0x1234
    0xee,                                                              //  c: out dx,al
    0xed,                                                              //  d: in eax,dx
    0xa3, 0x04, 0x30, 0x00, 0x00,                                      //  e: mov ds:0x3004,eax
    0xc7, 0x05, 0x10, 0x00, 0x00, 0xd0, 0xfe, 0xca, 0x00, 0x00,        // 13: mov dword 0xd0000010,0xcafe
    0x0f, 0xb7, 0x05, 0x12, 0x00, 0x00, 0xd0,                          // 1d: movzx eax,word 0xd0000012
    0xa3, 0x08, 0x30, 0x00, 0x00,                                      // 24: mov ds:0x3008,eax
    0xb8, 0x01, 0x00, 0x00, 0x00,                                      // 29: mov eax,0x1
    0x0f, 0xa2,                                                        // 2e: cpuid
    0x89, 0x1d, 0x0c, 0x30, 0x00, 0x00,                                // 30: mov dword 0x300c,ebx
    0x89, 0x0d, 0x10, 0x30, 0x00, 0x00,                                // 36: mov dword 0x3010,ecx
    0xb0, 0x01,                                                        // 3c: mov al,0x1
    0x66, 0xba, 0x00, 0x06,                                            // 3e: mov dx,0x600
    0xee,                                                              // 42: out dx,al
    0xeb, 0xfe,                                                        // 43: jmp 0x43
];

/// Says that it is ready, sleeps until three interrupts came (each acknowledged and reported), and stops.
/// The handler never returns (IRET): the interpreter lacks it in protected mode. It drops the frame instead.
#[rustfmt::skip]
pub(super) const MSI: &[u8] = &[
    0x0f, 0x01, 0x15, 0x00, 0x70, 0x00, 0x00,                          //  0: lgdtd ds:0x7000
    0x0f, 0x01, 0x1d, 0x08, 0x70, 0x00, 0x00,                          //  7: lidtd ds:0x7008
    0xbc, 0x00, 0x40, 0x00, 0x00,                                      //  e: mov esp,0x4000
    0xc7, 0x05, 0xf0, 0x00, 0xe0, 0xfe, 0xff, 0x01, 0x00, 0x00,        // 13: mov dword 0xfee000f0,0x1ff
    0xe6, 0x81,                                                        // 1d: out 0x81,al
    0xfb,                                                              // 1f: sti
    0xf4,                                                              // 20: hlt
    0xeb, 0xfc,                                                        // 21: jmp 1f
    0x83, 0x3d, 0x00, 0x30, 0x00, 0x00, 0x03,                          // 23: cmp dword 0x3000,0x3
    0x72, 0xf3,                                                        // 2a: jb 1f
    0x66, 0xba, 0x00, 0x06,                                            // 2c: mov dx,0x600
    0xb0, 0x01,                                                        // 30: mov al,0x1
    0xee,                                                              // 32: out dx,al
    0xeb, 0xfe,                                                        // 33: jmp 33
    // handler:
    0xbc, 0x00, 0x40, 0x00, 0x00,                                      // 35: mov esp,0x4000
    0xff, 0x05, 0x00, 0x30, 0x00, 0x00,                                // 3a: inc dword 0x3000
    0xc7, 0x05, 0xb0, 0x00, 0xe0, 0xfe, 0x00, 0x00, 0x00, 0x00,        // 40: mov dword 0xfee000b0,0x0
    0xa1, 0x00, 0x30, 0x00, 0x00,                                      // 4a: mov eax,ds:0x3000
    0xe6, 0x82,                                                        // 4f: out 0x82,al
    0xeb, 0xd0,                                                        // 51: jmp 23
];

/// Stores five times to an address that a descriptor is bound to, once to another one, and stops.
#[rustfmt::skip]
pub(super) const IOEVENT: &[u8] = &[
    0xb9, 0x05, 0x00, 0x00, 0x00,                                      //  0: mov ecx,0x5
    0x66, 0x89, 0x0d, 0x04, 0x30, 0x00, 0xd0,                          //  5: mov word 0xd0003004,cx
    0xe2, 0xf7,                                                        //  c: loop 0x5
    0xc7, 0x05, 0x08, 0x30, 0x00, 0xd0, 0x07, 0x00, 0x00, 0x00,        //  e: mov dword 0xd0003008,0x7
    0x66, 0xba, 0x00, 0x06,                                            // 18: mov dx,0x600
    0xb0, 0x01,                                                        // 1c: mov al,0x1
    0xee,                                                              // 1e: out dx,al
    0xeb, 0xfe,                                                        // 1f: jmp 0x1f
];

/// Loads from an address, stores to it, loads again (results at 0x3000 and 0x3004), and stops.
#[rustfmt::skip]
pub(super) const READ_PAGE: &[u8] = &[
    0xa1, 0x04, 0x00, 0x00, 0xd0,                                      //  0: mov eax,ds:0xd0000004
    0xa3, 0x00, 0x30, 0x00, 0x00,                                      //  5: mov ds:0x3000,eax
    0xc7, 0x05, 0x04, 0x00, 0x00, 0xd0, 0xfe, 0xca, 0x00, 0x00,        //  a: mov dword 0xd0000004,0xcafe
    0xa1, 0x04, 0x00, 0x00, 0xd0,                                      // 14: mov eax,ds:0xd0000004
    0xa3, 0x04, 0x30, 0x00, 0x00,                                      // 19: mov ds:0x3004,eax
    0x66, 0xba, 0x00, 0x06,                                            // 1e: mov dx,0x600
    0xb0, 0x01,                                                        // 22: mov al,0x1
    0xee,                                                              // 24: out dx,al
    0xeb, 0xfe,                                                        // 25: jmp 25
];

/// Counts at 0x3000, for ever.
#[rustfmt::skip]
pub(super) const COUNT: &[u8] = &[
    0xff, 0x05, 0x00, 0x30, 0x00, 0x00,                                //  0: inc dword 0x3000
    0xeb, 0xf8,                                                        //  6: jmp 0
];

/// An invalid instruction without a descriptor table: a triple fault.
#[rustfmt::skip]
pub(super) const FAULT: &[u8] = &[
    0x0f, 0x01, 0x1d, 0x00, 0x30, 0x00, 0x00,                          //  0: lidtd ds:0x3000
    0x0f, 0x0b,                                                        //  7: ud2
];

/// Wakes the second processor (INIT, SIPI to 0x8000), waits for its mark, and stops.
#[rustfmt::skip]
pub(super) const SMP: &[u8] = &[
    0xc7, 0x05, 0xf0, 0x00, 0xe0, 0xfe, 0xff, 0x01, 0x00, 0x00,        //  0: mov dword 0xfee000f0,0x1ff
    0xc7, 0x05, 0x10, 0x03, 0xe0, 0xfe, 0x00, 0x00, 0x00, 0x01,        //  a: mov dword 0xfee00310,0x1000000
    0xc7, 0x05, 0x00, 0x03, 0xe0, 0xfe, 0x00, 0x45, 0x00, 0x00,        // 14: mov dword 0xfee00300,0x4500
    0xb9, 0xe8, 0x03, 0x00, 0x00,                                      // 1e: mov ecx,0x3e8
    0xf3, 0x90,                                                        // 23: pause
    0xe2, 0xfc,                                                        // 25: loop 0x23
    0xc7, 0x05, 0x00, 0x03, 0xe0, 0xfe, 0x08, 0x46, 0x00, 0x00,        // 27: mov dword 0xfee00300,0x4608
    0xf3, 0x90,                                                        // 31: pause
    0x83, 0x3d, 0x00, 0x30, 0x00, 0x00, 0x77,                          // 33: cmp dword 0x3000,0x77
    0x75, 0xf5,                                                        // 3a: jne 0x31
    0x66, 0xba, 0x00, 0x06,                                            // 3c: mov dx,0x600
    0xb0, 0x01,                                                        // 40: mov al,0x1
    0xee,                                                              // 42: out dx,al
    0xeb, 0xfe,                                                        // 43: jmp 0x43
];

/// What the second processor does, in real mode: leaves its mark and sleeps.
#[rustfmt::skip]
pub(super) const AP: &[u8] = &[
    0x31, 0xc0,                                                        //  0: xor ax,ax
    0x8e, 0xd8,                                                        //  2: mov ds,ax
    0x66, 0xc7, 0x06, 0x00, 0x30, 0x77, 0x00, 0x00, 0x00,              //  4: mov dword 0x3000,0x77
    0xf4,                                                              //  d: hlt
    0xeb, 0xfd,                                                        //  e: jmp 0xd
];
