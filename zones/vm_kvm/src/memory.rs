//! Guest memory: one memfd, mapped shared, below and above the hole under 4 GiB.
//!
//! One memfd, because a device in another process (vhost-user) maps the same pages. It is sealed against
//! shrinking: no holder of the descriptor can take pages away under another one's feet.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::Arc;

use vm_memory::mmap::FromRangesError;
use vm_memory::{
    FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap,
};

/// End of the memory below 4 GiB: configuration space, device windows and interrupt controllers follow.
pub const LOW_LIMIT: u64 = 0xC000_0000;

/// Start of the memory that does not fit below [`LOW_LIMIT`].
pub const HIGH_START: u64 = 0x1_0000_0000;

/// Why guest memory was not made.
#[derive(Debug, thiserror::Error)]
pub enum MapMemoryError {
    /// The size is no multiple of a page, or zero.
    #[error("guest memory of {0} bytes, expected a multiple of 4096")]
    Size(u64),
    /// `memfd_create`, its size or its seals.
    #[error("memfd for guest memory")]
    Memfd(#[source] io::Error),
    /// The mapping.
    #[error("map guest memory")]
    Map(#[source] FromRangesError),
}

/// A guest's memory and the memfd behind it.
#[derive(Clone, Debug)]
pub struct GuestRam {
    /// The mapped regions; each one's file offset says where it lies in the memfd.
    pub memory: GuestMemoryMmap<()>,
    /// The memfd.
    pub file: Arc<File>,
}

impl GuestRam {
    /// Makes `size` bytes of zeroed memory. Pages are taken when they are first touched.
    ///
    /// # Errors
    /// [`MapMemoryError`].
    pub fn new(size: u64) -> Result<Self, MapMemoryError> {
        if size == 0 || !size.is_multiple_of(4096) {
            return Err(MapMemoryError::Size(size));
        }
        let file = Arc::new(sealed_memfd(size).map_err(MapMemoryError::Memfd)?);
        let low = size.min(LOW_LIMIT);
        let mut ranges =
            vec![(GuestAddress(0), bytes(low), Some(FileOffset::from_arc(Arc::clone(&file), 0)))];
        if size > low {
            let offset = FileOffset::from_arc(Arc::clone(&file), low);
            ranges.push((GuestAddress(HIGH_START), bytes(size - low), Some(offset)));
        }
        let memory = GuestMemoryMmap::from_ranges_with_files(&ranges).map_err(MapMemoryError::Map)?;
        memory.iter().for_each(prefer_huge_pages);
        Ok(Self { memory, file })
    }

    /// Gives all of it back to the host, wherever it is mapped: it reads as zero, as in a machine that was just
    /// switched on, and is taken again when it is touched.
    ///
    /// # Errors
    /// What `fallocate(2)` reports.
    pub fn clear(&self) -> io::Result<()> {
        let size = self.memory.iter().map(GuestMemoryRegion::len).sum::<u64>();
        let size = i64::try_from(size).expect("a file's size");
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        loop {
            // SAFETY: the call takes integers; nobody holds a reference into these pages, which are only
            // reached by volatile copies.
            if unsafe { libc::fallocate(self.file.as_raw_fd(), mode, 0, size) } == 0 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }
}

/// Asks for 2 MiB pages: a guest's first touch of its memory is an exit each page. It is a wish: where the
/// machine's `shmem_enabled` does not say "advise" nothing changes.
fn prefer_huge_pages(region: &GuestRegionMmap<()>) {
    // SAFETY: the range is exactly one mapping of ours, and the advice changes no content.
    let _refused = unsafe { libc::madvise(region.as_ptr().cast(), region.size(), libc::MADV_HUGEPAGE) };
}

/// A length in memory as the host counts it.
fn bytes(length: u64) -> usize {
    usize::try_from(length).expect("the host is a 64-bit machine")
}

/// A memfd of `size` bytes that can neither shrink nor grow.
fn sealed_memfd(size: u64) -> io::Result<File> {
    // SAFETY: the name is a constant C string; the result is checked.
    let raw =
        unsafe { libc::memfd_create(c"guest-memory".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `raw` was just returned to us and nobody else knows it.
    let file = unsafe { File::from_raw_fd(raw) };
    file.set_len(size)?;
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: F_ADD_SEALS takes an integer and touches no memory of ours.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(file)
}
