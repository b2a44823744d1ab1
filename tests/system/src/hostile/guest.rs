//! The hostile zone's kernel: machine code that carries out scripts.
//!
//! It copies the other processors' first steps to [`TRAMPOLINE`] and carries out the script at [`BOOT`]. A script is a
//! list of three words: what, address, value.
//!
//! | what | |
//! |---|---|
//! | 1, 2, 4 | stores as many bytes of the value |
//! | 5 | loads |
//! | 6 | writes a byte to the port at the address |
//! | 7 | waits until the two bytes at the address are the value |
//! | 8 | stores the word at [`COUNTER`] times the value |
//! | 9 | adds one to the word |
//! | 10 | powers off unless the word is below the value |
//! | 11 | wakes the other processors: each goes to the script whose address is at [`POINTERS`] + 4 * its number |
//! | 12 | goes to the script at the value |
//!
//! Anything else ends a script. Then a processor but the first counts itself at [`ENDED`] and sleeps; the first waits
//! for three others, not for ever, and resets the machine. There is no table of interrupts: an exception ends the
//! machine by a triple fault.

/// Where the kernel lies, and its first instruction.
pub const CODE: u32 = 0x10_0000;
/// The first script.
pub const BOOT: u32 = 0x10_1000;
/// The other processors' first steps.
pub const TRAMPOLINE: u32 = 0x9000;
/// A word that operation 8 multiplies.
pub const COUNTER: u32 = 0x40_5000;
/// How many processors but the first are done.
pub const ENDED: u32 = 0x48_0000;
/// Scripts of the processors.
pub const POINTERS: u32 = 0x48_0040;

/// The code, from [`CODE`] on.
#[rustfmt::skip]
pub const KERNEL: &[u8] = &[
    // entry:
    0xbc, 0x00, 0x00, 0x48, 0x00,                                      //   0: mov esp,0x480000
    0x0f, 0x01, 0x15, 0x28, 0x01, 0x10, 0x00,                          //   5: lgdtd ds:0x100128
    0xc7, 0x05, 0xf0, 0x00, 0xe0, 0xfe, 0xff, 0x01, 0x00, 0x00,        //   c: mov DWORD PTR ds:0xfee000f0,0x1ff
    0xbe, 0x30, 0x01, 0x10, 0x00,                                      //  16: mov esi,0x100130
    0xbf, 0x00, 0x90, 0x00, 0x00,                                      //  1b: mov edi,0x9000
    0xb9, 0x4e, 0x00, 0x00, 0x00,                                      //  20: mov ecx,0x4e
    0xf3, 0xa4,                                                        //  25: rep movs BYTE PTR es:[edi],BYTE PTR ds:[esi]
    0xbe, 0x00, 0x10, 0x10, 0x00,                                      //  27: mov esi,0x101000
    // run:
    0x8b, 0x06,                                                        //  2c: mov eax,DWORD PTR [esi]
    0x8b, 0x7e, 0x04,                                                  //  2e: mov edi,DWORD PTR [esi+0x4]
    0x8b, 0x56, 0x08,                                                  //  31: mov edx,DWORD PTR [esi+0x8]
    0x83, 0xc6, 0x0c,                                                  //  34: add esi,0xc
    0x83, 0xf8, 0x0c,                                                  //  37: cmp eax,0xc
    0x77, 0x6a,                                                        //  3a: ja 0xa6
    0xff, 0x24, 0x85, 0xd8, 0x00, 0x10, 0x00,                          //  3c: jmp DWORD PTR [eax*4+0x1000d8]
    // store1:
    0x88, 0x17,                                                        //  43: mov BYTE PTR [edi],dl
    0xeb, 0xe5,                                                        //  45: jmp 0x2c
    // store2:
    0x66, 0x89, 0x17,                                                  //  47: mov WORD PTR [edi],dx
    0xeb, 0xe0,                                                        //  4a: jmp 0x2c
    // store4:
    0x89, 0x17,                                                        //  4c: mov DWORD PTR [edi],edx
    0xeb, 0xdc,                                                        //  4e: jmp 0x2c
    // load:
    0x8b, 0x07,                                                        //  50: mov eax,DWORD PTR [edi]
    0xeb, 0xd8,                                                        //  52: jmp 0x2c
    // port:
    0x89, 0xd0,                                                        //  54: mov eax,edx
    0x89, 0xfa,                                                        //  56: mov edx,edi
    0xee,                                                              //  58: out dx,al
    0xeb, 0xd1,                                                        //  59: jmp 0x2c
    // await:
    0xf3, 0x90,                                                        //  5b: pause
    0x66, 0x39, 0x17,                                                  //  5d: cmp WORD PTR [edi],dx
    0x75, 0xf9,                                                        //  60: jne 0x5b
    0xeb, 0xc8,                                                        //  62: jmp 0x2c
    // times:
    0xa1, 0x00, 0x50, 0x40, 0x00,                                      //  64: mov eax,ds:0x405000
    0x0f, 0xaf, 0xc2,                                                  //  69: imul eax,edx
    0x89, 0x07,                                                        //  6c: mov DWORD PTR [edi],eax
    0xeb, 0xbc,                                                        //  6e: jmp 0x2c
    // incr:
    0xff, 0x07,                                                        //  70: inc DWORD PTR [edi]
    0xeb, 0xb8,                                                        //  72: jmp 0x2c
    // limit:
    0x39, 0x17,                                                        //  74: cmp DWORD PTR [edi],edx
    0x72, 0xb4,                                                        //  76: jb 0x2c
    0x66, 0xba, 0x00, 0x06,                                            //  78: mov dx,0x600
    0xb0, 0x34,                                                        //  7c: mov al,0x34
    0xee,                                                              //  7e: out dx,al
    // rest:
    0xfa,                                                              //  7f: cli
    0xf4,                                                              //  80: hlt
    0xeb, 0xfc,                                                        //  81: jmp 0x7f
    // others:
    0xc7, 0x05, 0x00, 0x03, 0xe0, 0xfe, 0x00, 0x45, 0x0c, 0x00,        //  83: mov DWORD PTR ds:0xfee00300,0xc4500
    0xb9, 0xe8, 0x03, 0x00, 0x00,                                      //  8d: mov ecx,0x3e8
    0xf3, 0x90,                                                        //  92: pause
    0xe2, 0xfc,                                                        //  94: loop 0x92
    0xc7, 0x05, 0x00, 0x03, 0xe0, 0xfe, 0x09, 0x46, 0x0c, 0x00,        //  96: mov DWORD PTR ds:0xfee00300,0xc4609
    0xeb, 0x8a,                                                        //  a0: jmp 0x2c
    // goto:
    0x89, 0xd6,                                                        //  a2: mov esi,edx
    0xeb, 0x86,                                                        //  a4: jmp 0x2c
    // done:
    0x83, 0x3d, 0x20, 0x00, 0xe0, 0xfe, 0x00,                          //  a6: cmp DWORD PTR ds:0xfee00020,0x0
    0x75, 0x1b,                                                        //  ad: jne 0xca
    0xb9, 0x40, 0x4b, 0x4c, 0x00,                                      //  af: mov ecx,0x4c4b40
    0x83, 0x3d, 0x00, 0x00, 0x48, 0x00, 0x03,                          //  b4: cmp DWORD PTR ds:0x480000,0x3
    0x73, 0x04,                                                        //  bb: jae 0xc1
    0xf3, 0x90,                                                        //  bd: pause
    0xe2, 0xf3,                                                        //  bf: loop 0xb4
    // reset:
    0x66, 0xba, 0x02, 0x06,                                            //  c1: mov dx,0x602
    0xb0, 0x01,                                                        //  c5: mov al,0x1
    0xee,                                                              //  c7: out dx,al
    0xeb, 0xb5,                                                        //  c8: jmp 0x7f
    // other:
    0xf0, 0xff, 0x05, 0x00, 0x00, 0x48, 0x00,                          //  ca: lock inc DWORD PTR ds:0x480000
    0xeb, 0xac,                                                        //  d1: jmp 0x7f
    0x8d, 0x74, 0x26, 0x00,                                            //  d3: lea esi,[esi+eiz*1+0x0]
    0x90,                                                              //  d7: nop
    // table: what each operation does; alignment:
    0xa6, 0x00, 0x10, 0x00, 0x43, 0x00, 0x10, 0x00,                    //  d8
    0x47, 0x00, 0x10, 0x00, 0xa6, 0x00, 0x10, 0x00,                    //  e0
    0x4c, 0x00, 0x10, 0x00, 0x50, 0x00, 0x10, 0x00,                    //  e8
    0x54, 0x00, 0x10, 0x00, 0x5b, 0x00, 0x10, 0x00,                    //  f0
    0x64, 0x00, 0x10, 0x00, 0x70, 0x00, 0x10, 0x00,                    //  f8
    0x74, 0x00, 0x10, 0x00, 0x83, 0x00, 0x10, 0x00,                    // 100
    0xa2, 0x00, 0x10, 0x00, 0x8d, 0x74, 0x26, 0x00,                    // 108
    // gdt, gdtr:
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,                    // 110
    0xff, 0xff, 0x00, 0x00, 0x00, 0x9b, 0xcf, 0x00,                    // 118
    0xff, 0xff, 0x00, 0x00, 0x00, 0x93, 0xcf, 0x00,                    // 120
    0x17, 0x00, 0x10, 0x01, 0x10, 0x00, 0x66, 0x90,                    // 128
    // tramp:
    0x31, 0xc0,                                                        // 130: xor ax,ax
    0x8e, 0xd8,                                                        // 132: mov ds,ax
    0x66, 0x0f, 0x01, 0x16, 0x1c, 0x90,                                // 134: lgdtd ds:0x901c
    0x0f, 0x20, 0xc0,                                                  // 13a: mov eax,cr0
    0x0c, 0x01,                                                        // 13d: or al,0x1
    0x0f, 0x22, 0xc0,                                                  // 13f: mov cr0,eax
    0x66, 0xea, 0x24, 0x90, 0x00, 0x00, 0x08, 0x00,                    // 142: jmp 0x8:0x9024
    0x66, 0x90,                                                        // 14a: xchg eax,eax
    // gdtr16:
    0x17, 0x00, 0x10, 0x01, 0x10, 0x00, 0x66, 0x90,                    // 14c
    // wide:
    0x66, 0xb8, 0x10, 0x00,                                            // 154: mov ax,0x10
    0x8e, 0xd8,                                                        // 158: mov ds,eax
    0x8e, 0xc0,                                                        // 15a: mov es,eax
    0x8e, 0xd0,                                                        // 15c: mov ss,eax
    0xc7, 0x05, 0xf0, 0x00, 0xe0, 0xfe, 0xff, 0x01, 0x00, 0x00,        // 15e: mov DWORD PTR ds:0xfee000f0,0x1ff
    0xa1, 0x20, 0x00, 0xe0, 0xfe,                                      // 168: mov eax,ds:0xfee00020
    0xc1, 0xe8, 0x18,                                                  // 16d: shr eax,0x18
    0x8b, 0x34, 0x85, 0x40, 0x00, 0x48, 0x00,                          // 170: mov esi,DWORD PTR [eax*4+0x480040]
    0xb9, 0x2c, 0x00, 0x10, 0x00,                                      // 177: mov ecx,0x10002c
    0xff, 0xe1,                                                        // 17c: jmp ecx
];
