//! Buffers as devices consume them.

use vm_memory::{GuestAddress, GuestMemoryMmap};

use super::{Arc, Buffers};

fn buffers(pieces: &[(u64, u32)]) -> Buffers {
    let memory = Arc::new(GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x1000)]).unwrap());
    let mut buffers = Buffers::new(&memory);
    buffers.pieces = pieces.iter().map(|(address, size)| (GuestAddress(*address), *size)).collect();
    buffers
}

#[test]
fn bytes_pass_through_scattered_buffers() {
    let pieces = [(0x100, 3), (0x50, 1), (0x200, 4)];
    let mut target = buffers(&pieces);
    assert_eq!(target.write(b"abcde"), 5);
    assert_eq!(target.left(), 3);
    assert_eq!(target.write(b"fghijkl"), 3);
    assert_eq!(target.left(), 0);
    assert_eq!(target.write(b"x"), 0);
    let mut source = buffers(&pieces);
    source.memory = target.memory;
    assert_eq!(source.read_array(), Some(*b"ab"));
    assert_eq!(source.read_array(), Some(*b"cdefgh"));
    assert_eq!(source.read_array::<1>(), None);
}

#[test]
fn the_last_byte_can_be_cut_off() {
    let mut target = buffers(&[(0x100, 3), (0x50, 1)]);
    let status = target.split_last_byte().unwrap();
    assert_eq!((status.left(), target.left()), (1, 3));
    assert_eq!(status.pieces[0].0, GuestAddress(0x50));
    let status = target.split_last_byte().unwrap();
    assert_eq!((status.pieces[0].0, target.left()), (GuestAddress(0x102), 2));
    assert!(buffers(&[]).split_last_byte().is_none());
}
