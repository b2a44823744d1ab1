//! The VMM's network device in front of a hostile back end.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use devices::virtio::net::{Net, SharedRegion};
use devices::virtio::threads::Unconfined;

use crate::cursor::Cursor;
use crate::devices::file_of;
use crate::guest::Guest;
use crate::packets::send_with;

/// What an honest back end answers to, in the order in which it is asked, with the length of its answer.
const SCRIPT: &[(u32, u32)] = &[
    (1, 8),
    (15, 8),
    (16, 8),
    (2, 8),
    (5, 8),
    (8, 8),
    (9, 8),
    (10, 8),
    (14, 8),
    (13, 8),
    (12, 8),
    (8, 8),
    (9, 8),
    (10, 8),
    (14, 8),
    (13, 8),
    (12, 8),
    (18, 8),
    (18, 8),
    (18, 8),
    (11, 8),
    (18, 8),
    (11, 8),
];

/// Features of an honest back end: version 1, protocol features and all offloads.
const HONEST: u64 =
    1 << 32 | 1 << 30 | 1 << 29 | 1 << 28 | 1 << 15 | 0x3 | 1 << 7 | 1 << 8 | 1 << 11 | 1 << 12;

/// A back end whose answers were written before it is asked: honest ones up to a point, then anything, then the
/// end. The device's side comes first; the other one takes what the device says.
fn backend(cursor: &mut Cursor<'_>) -> (UnixStream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().expect("a socket pair");
    theirs.set_nonblocking(true).expect("a socket");
    let file = file_of(&[0; 4096]);
    let honest = usize::from(cursor.u8());
    for (step, (request, length)) in SCRIPT.iter().cycle().take(64).enumerate() {
        let mut payload = match request {
            1 => HONEST.to_le_bytes(),
            15 => 8_u64.to_le_bytes(),
            _ => [0; 8],
        };
        let (mut request, mut flags, mut length) = (*request, 5_u32, *length);
        let mut count = 0;
        if step >= honest {
            if cursor.is_empty() {
                break;
            }
            match cursor.below(8) {
                0 => payload = cursor.array(),
                1 => request = cursor.u32() & 0x3F,
                2 => flags = u32::from(cursor.u8()),
                3 => {
                    let any = cursor.number(&[0, 4, 8, 12, 4096]) & 0xFFFF_FFFF;
                    length = u32::try_from(any).expect("32 bits");
                }
                4 => count = cursor.below(10),
                5 => {
                    let raw = cursor.some_bytes(64);
                    let _full = send_with(theirs.as_fd(), raw, &[]);
                    continue;
                }
                _ => {}
            }
        }
        let mut message = [request, flags, length].map(u32::to_le_bytes).concat();
        message.extend(payload);
        let descriptors = vec![file.as_fd(); count];
        if send_with(theirs.as_fd(), &message, &descriptors).is_err() {
            break;
        }
    }
    theirs.shutdown(std::net::Shutdown::Write).expect("a socket");
    (ours, theirs)
}

/// Whatever the first back end and the one after it answer, the device is made or refused, and the guest sees at
/// most a link that is down.
pub(crate) fn net_front(bytes: &[u8]) {
    let mut cursor = Cursor::new(bytes);
    let file = file_of(&[0; 4096]);
    let region = SharedRegion { guest_address: 0, size: 4096, offset: 0, file };
    let (stream, _first) = backend(&mut cursor);
    let Ok(net) = Net::new(stream, [2, 0, 0, 0, 0, 9], vec![region], Arc::new(Unconfined)) else { return };
    let control = net.control();
    let mut guest = Guest::new(Box::new(net), &[]);
    guest.start(u64::MAX);
    if !cursor.is_empty() {
        let (stream, _second) = backend(&mut cursor);
        let _refused = control.reconnect(stream);
    }
    guest.start(0);
    guest.stop();
}
