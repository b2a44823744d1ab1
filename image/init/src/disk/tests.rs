use super::*;

fn superblock(magic: [u8; 2], name: &[u8]) -> [u8; SUPERBLOCK_SIZE] {
    let mut block = [0; SUPERBLOCK_SIZE];
    block[0x38..0x3a].copy_from_slice(&magic);
    block[0x78..0x78 + name.len()].copy_from_slice(name);
    block
}

#[test]
fn the_label_is_read() {
    assert_eq!(label(&superblock([0x53, 0xef], b"bulkhead-data")), Some(b"bulkhead-data".as_slice()));
    assert_eq!(label(&superblock([0x53, 0xef], b"0123456789abcdef")), Some(b"0123456789abcdef".as_slice()));
    assert_eq!(label(&superblock([0x53, 0xef], b"")), Some(b"".as_slice()));
    assert_eq!(label(&superblock([0x53, 0xee], b"bulkhead-data")), None);
}
