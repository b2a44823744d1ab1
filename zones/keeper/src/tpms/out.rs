//! What leaves `keeper`: bytes in descriptors that somebody gets, and questions to TPMs.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::keys::Key;

/// A key in memory that nobody can change: whoever gets it may read it more than once.
pub(super) fn in_memory(key: &Key) -> Result<OwnedFd, Errno> {
    let memory = memfd_create("key", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    if rustix::io::write(&memory, &key[..])? != key.len() {
        return Err(Errno::NOSPC);
    }
    fcntl_add_seals(&memory, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    Ok(memory)
}

/// A pipe with something in it, for whoever gets it to read once.
pub(super) fn piped(bytes: &[u8]) -> Result<OwnedFd, Errno> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    // Less than a page: a pipe takes it whole.
    match rustix::io::write(&write, bytes)? {
        count if count == bytes.len() => Ok(read),
        _ => Err(Errno::NOSPC),
    }
}

/// Sends a whole question, perhaps with a descriptor.
pub(super) fn send(socket: &OwnedFd, bytes: &[u8], descriptor: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let carried = [descriptor];
    if let [Some(descriptor)] = &carried {
        ancillary.push(SendAncillaryMessage::ScmRights(std::slice::from_ref(descriptor)));
    }
    let sent = sendmsg(socket, &[std::io::IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?;
    if sent == bytes.len() { Ok(()) } else { Err(Errno::AGAIN) }
}
