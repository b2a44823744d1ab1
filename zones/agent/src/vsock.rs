//! A connected vsock stream to the host: the one thing for which `rustix` has no safe call.
#![expect(unsafe_code, reason = "rustix has no vsock address; its trait for other addresses is unsafe")]

use std::os::fd::OwnedFd;

use rustix::io;
use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};

/// `struct sockaddr_vm` of `linux/vm_sockets.h`.
#[repr(C)]
struct SocketAddrVsock {
    family: u16,
    reserved: u16,
    port: u32,
    cid: u32,
    flags: u8,
    zero: [u8; 3],
}

const _: () = assert!(size_of::<SocketAddrVsock>() == 16);

// SAFETY: `with_sockaddr` hands out a pointer to `self` and the size of `self`, which is laid out as the
// kernel's `sockaddr_vm` and lives as long as the call.
unsafe impl SocketAddrArg for SocketAddrVsock {
    unsafe fn with_sockaddr<R>(&self, f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R) -> R {
        let length = SocketAddrLen::try_from(size_of::<Self>()).expect("16 fits any length");
        f(std::ptr::from_ref(self).cast(), length)
    }
}

/// Connects to a port of a context; waits for as long as the kernel does (about 2 s).
///
/// # Errors
/// What `socket(2)` and `connect(2)` report.
pub(crate) fn connect_to(cid: u32, port: u32) -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::VSOCK, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let family = AddressFamily::VSOCK.as_raw();
    let address = SocketAddrVsock { family, reserved: 0, port, cid, flags: 0, zero: [0; 3] };
    connect(&socket, &address)?;
    Ok(socket)
}
