//! The loader of firmware, kernel and initrd.

use handover::place;
use vm_kvm::GuestRam;

use crate::cursor::Cursor;
use crate::devices::file_of;

/// Memory of the guest: little behind the kernel's place, so that what does not fit is found.
const MEMORY: u64 = place::KERNEL_FILE + (4 << 20);

/// Builds an ELF file of the input's choices, or takes the bytes as they are.
fn image(cursor: &mut Cursor<'_>) -> Vec<u8> {
    if cursor.u8() & 3 == 0 {
        return cursor.bytes(2048).to_vec();
    }
    let mut file = vec![0_u8; 64];
    file[..8].copy_from_slice(&[0x7F, b'E', b'L', b'F', 2, 1, 1, 0]);
    let put = |file: &mut Vec<u8>, at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    let count = u16::from(cursor.u8() % 6);
    put(&mut file, 16, &[2, 0, 0x3E, 0]);
    put(&mut file, 24, &cursor.number(&[0x10_0000, 0x20_0000, 0]).to_le_bytes());
    put(&mut file, 32, &cursor.number(&[64, 64, 64, 0, 1]).to_le_bytes());
    put(&mut file, 54, &[56, 0]);
    put(&mut file, 56, &count.to_le_bytes());
    if cursor.u8() > 240 {
        // Damage to the header itself.
        let at = cursor.below(60);
        put(&mut file, at, &cursor.array::<4>());
    }
    for _ in 0..count {
        let kind = cursor.number(&[1, 1, 4, 4, 2, 0]);
        let body = 64 + 56 * u64::from(count);
        let mut header = kind.to_le_bytes()[..4].to_vec();
        header.extend([7, 0, 0, 0]);
        header.extend(cursor.number(&[body, body + 64, 0, 64]).to_le_bytes());
        let address = cursor.number(&[0x10_0000, 0x20_0000, 0x3F_F000, 0x40_0000, 0, 0x1000]);
        header.extend(cursor.number(&[address]).to_le_bytes());
        header.extend(address.to_le_bytes());
        header.extend(cursor.number(&[16, 64, 256, 0, 0x1000]).to_le_bytes());
        header.extend(cursor.number(&[64, 256, 0x1000, 0]).to_le_bytes());
        header.extend(cursor.number(&[4, 8, 1, 0, 0x1000]).to_le_bytes());
        file.extend(header);
    }
    if cursor.flag() {
        // Xen's note with the PVH entry (type 18), and damage to it.
        let name = cursor.number(&[4, 4, 4, 0]);
        let length = cursor.number(&[8, 4, 8, 0]);
        file.extend(&name.to_le_bytes()[..4]);
        file.extend(&length.to_le_bytes()[..4]);
        file.extend(&cursor.number(&[18, 18, 18, 1]).to_le_bytes()[..4]);
        file.extend(b"Xen\0");
        file.extend(cursor.number(&[0x10_0000, 0x20_0000]).to_le_bytes());
    }
    file.extend(cursor.some_bytes(1024));
    file
}

/// Firmware, kernel, initrd and command line of the input's choice. Either they are refused with a sentence or they lie in
/// the guest's memory.
pub(crate) fn kernel(bytes: &[u8]) {
    let mut cursor = Cursor::new(bytes);
    let initrd_size = cursor.number(&[0, 1, 4096, 0x1F_F000, 0x2F_0000, 0x30_0000, 0x40_0000, 0x40_0001]);
    let line = match cursor.u8() {
        0..=200 => "console=hvc0".to_owned(),
        choice => "x".repeat(1800 + 10 * usize::from(choice)),
    };
    let vcpus = 1 + cursor.u8() % 8;
    let mut firmware = file_of(&image(&mut cursor));
    let kernel_size = cursor.number(&[0, 1, 4096, 0x1F_F000, 0x40_0000, 0x40_1000]) & 0xFFF_FFFF;
    let mut kernel = file_of(b"kernel");
    kernel.set_len(kernel_size).expect("a sparse file");
    let mut initrd = file_of(b"initrd");
    // A sparse file costs nothing, whatever its length.
    initrd.set_len(initrd_size & 0xFFF_FFFF).expect("a sparse file");
    let ram = GuestRam::new(MEMORY).expect("memory for the guest");
    match vmm::load(&ram, &mut firmware, &mut kernel, &mut initrd, &line, vcpus) {
        Ok(_entry) => {
            let both = kernel_size + (initrd_size & 0xFFF_FFFF);
            assert!(both <= MEMORY - place::KERNEL_FILE, "more than fits into memory was loaded");
        }
        Err(sentence) => assert!(!sentence.is_empty() && sentence.len() < 1000, "{sentence}"),
    }
}
