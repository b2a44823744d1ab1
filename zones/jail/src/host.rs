//! System calls of `init` that have no safe interface elsewhere: signals as a descriptor, a network
//! namespace of its own, the raw packet socket; and the proc file system that a start needs.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

/// Signals that arrive as readable bytes instead of interrupting.
#[derive(Debug)]
pub struct Signals {
    descriptor: OwnedFd,
}

impl Signals {
    /// Blocks `signals` for this thread (call it while there is one) and collects them.
    ///
    /// # Errors
    /// What the calls report.
    pub fn collect(signals: &[i32]) -> io::Result<Self> {
        let mut set = std::mem::MaybeUninit::uninit();
        // SAFETY: writes the whole set.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        for signal in signals {
            // SAFETY: the set was initialised above.
            checked(unsafe { libc::sigaddset(set.as_mut_ptr(), *signal) })?;
        }
        // SAFETY: the set is initialised; the old mask is not wanted.
        checked(unsafe { libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut()) })?;
        // SAFETY: the set is initialised; -1 asks for a new descriptor.
        let number =
            checked(unsafe { libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) })?;
        // SAFETY: the kernel made it and nobody else knows it.
        Ok(Self { descriptor: unsafe { OwnedFd::from_raw_fd(number) } })
    }

    /// The next signal that arrived, if one did.
    ///
    /// # Errors
    /// What `read(2)` reports.
    pub fn next(&self) -> io::Result<Option<i32>> {
        // struct signalfd_siginfo: 128 bytes, the first four are the signal's number.
        let mut information = [0_u8; 128];
        match rustix::io::read(&self.descriptor, &mut information) {
            Ok(_) => {
                let [a, b, c, d, ..] = information;
                Ok(Some(i32::from_ne_bytes([a, b, c, d])))
            }
            Err(rustix::io::Errno::AGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// A proc file system that only this process reaches: it stays writable when `/proc` is not.
#[derive(Debug)]
pub struct Proc {
    mount: OwnedFd,
}

impl Proc {
    /// Mounts one nowhere. It shows the process namespace of the caller.
    ///
    /// # Errors
    /// What the kernel reports.
    pub fn private() -> io::Result<Self> {
        let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(context.as_fd())?;
        let no_specials = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        Ok(Self { mount: fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, no_specials)? })
    }

    /// Writes `text` to a file of it at once.
    ///
    /// # Errors
    /// What the kernel reports; also when it took only a part.
    pub(crate) fn write(&self, path: &str, text: &str) -> io::Result<()> {
        let file = rustix::fs::openat(&self.mount, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        let written = rustix::io::write(&file, text.as_bytes())?;
        if written == text.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }
}

/// A network namespace, kept alive by its descriptor.
#[derive(Debug)]
pub struct NetworkNamespace {
    descriptor: OwnedFd,
}

impl NetworkNamespace {
    /// The namespace of this thread.
    ///
    /// # Errors
    /// When /proc does not show it.
    pub fn current() -> io::Result<Self> {
        Ok(Self { descriptor: std::fs::File::open("/proc/thread-self/ns/net")?.into() })
    }

    /// A fresh one; this thread stays where it is.
    ///
    /// # Errors
    /// What the kernel reports. When the way back fails, the thread is left in the fresh one.
    pub fn fresh() -> io::Result<Self> {
        let home = Self::current()?;
        // SAFETY: the flag concerns the network only, not the table of descriptors.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?;
        let fresh = Self::current();
        home.enter()?;
        fresh
    }

    /// Runs `work` with this thread inside the namespace.
    ///
    /// # Errors
    /// When it cannot be entered, or not be left again.
    pub fn within<T>(&self, work: impl FnOnce() -> T) -> io::Result<T> {
        let home = Self::current()?;
        self.enter()?;
        let result = work();
        home.enter()?;
        Ok(result)
    }

    fn enter(&self) -> io::Result<()> {
        Ok(move_into_link_name_space(self.descriptor.as_fd(), Some(LinkNameSpaceType::Network))?)
    }
}

impl AsFd for NetworkNamespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// A raw packet socket for all frames that arrive at interface `index`, not for those that leave.
///
/// It hears nothing before it is bound, so no frame of another interface slips in.
///
/// # Errors
/// What the kernel reports.
pub fn packet_socket(index: u32) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)?;
    let on: libc::c_int = 1;
    // SAFETY: value and length describe `on`.
    checked(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_IGNORE_OUTGOING,
            std::ptr::from_ref(&on).cast(),
            length_of::<libc::c_int>(),
        )
    })?;
    let all = u16::try_from(libc::ETH_P_ALL).expect("the constant is 3").to_be();
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).expect("the constant is 17"),
        sll_protocol: all,
        sll_ifindex: i32::try_from(index).map_err(|_huge| io::ErrorKind::InvalidInput)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: address and length describe `address`.
    checked(unsafe {
        libc::bind(socket.as_raw_fd(), std::ptr::from_ref(&address).cast(), length_of::<libc::sockaddr_ll>())
    })?;
    Ok(socket)
}

fn length_of<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).expect("a small structure")
}

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
