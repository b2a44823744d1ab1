//! One block request: from a checked chain to the file and back (virtio 1.3, section 5.2.6).
//!
//! Data passes through one small buffer that belongs to the worker: a request needs one system call for each
//! 128 KiB of it, however scattered it lies in guest memory, and a stop is heard between those. Straight into
//! guest memory a cached read would cost 0.8 of the processor time, and unsafe code: that is not worth it. The buffer begins
//! at a page, as a file wants it that was opened past the page cache.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_FLUSH,
    VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_WRITE_ZEROES,
    VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
};

use super::flush::Flusher;
use super::trouble::Trouble;
use super::{Access, DISCARD_SECTORS, RANGES, SECTOR, SERIAL_SIZE, ZERO_SECTORS};
use crate::virtio::counters::Counters;
use crate::virtio::ring::{Buffers, Chain};
use crate::virtio::worker::Stop;

const BUFFER: usize = 128 * 1024;
const PAGE: usize = 4096;

/// When a write is on stable storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durability {
    /// When a later flush completes.
    AtFlush,
    /// When it completes: the driver did not take the flush feature.
    EachWrite,
}

/// Why a request was not carried out.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    /// The guest asked for what it may not have.
    Guest,
    /// The device does not know the request.
    Unsupported,
    /// The host's file failed.
    Host,
    /// The worker has to stop.
    Stopped,
}

/// The file behind the device and how it may be used: what all queues share.
pub(super) struct Storage {
    pub(super) file: File,
    pub(super) sectors: u64,
    pub(super) access: Access,
    pub(super) serial: [u8; SERIAL_SIZE],
    pub(super) flusher: Flusher,
    pub(super) counters: Arc<Counters>,
    pub(super) trouble: Trouble,
}

/// The disk as one queue's worker has it.
pub(super) struct Disk {
    storage: Arc<Storage>,
    durability: Durability,
    stop: Stop,
    buffer: Aligned,
}

/// Bytes that begin at a page.
struct Aligned {
    space: Box<[u8]>,
    start: usize,
}

/// A checked range of the disk, in bytes.
#[derive(Clone, Copy)]
struct Span {
    start: u64,
    size: u64,
}

/// One entry of a discard or write-zeroes request.
struct Range {
    sector: u64,
    sectors: u32,
    flags: u32,
}

impl Aligned {
    fn new() -> Self {
        let space = vec![0; BUFFER + PAGE].into_boxed_slice();
        let start = space.as_ptr().align_offset(PAGE).min(PAGE);
        Self { space, start }
    }

    /// As much of it as the span still needs.
    fn part(&mut self, span: Span) -> &mut [u8] {
        let size = usize::try_from(span.size).unwrap_or(usize::MAX).min(BUFFER);
        self.space.get_mut(self.start..).and_then(|space| space.get_mut(..size)).unwrap_or_default()
    }
}

impl Disk {
    pub(super) fn new(storage: Arc<Storage>, durability: Durability, stop: Stop) -> Self {
        Self { storage, durability, stop, buffer: Aligned::new() }
    }

    /// Carries a request out and says how many bytes of the chain were written.
    pub(super) fn serve(&mut self, chain: &mut Chain) -> u32 {
        let Some(mut status) = chain.writable.split_last_byte() else {
            if self.storage.counters.malformed.add(1) {
                tracing::warn!("guest made a block request without room for its status");
            }
            return 0;
        };
        let before = chain.writable.left();
        let outcome = self.carry_out(chain);
        let code = match outcome {
            Ok(()) => VIRTIO_BLK_S_OK,
            Err(Refusal::Unsupported) => VIRTIO_BLK_S_UNSUPP,
            Err(Refusal::Guest | Refusal::Host | Refusal::Stopped) => VIRTIO_BLK_S_IOERR,
        };
        if matches!(outcome, Err(Refusal::Guest | Refusal::Unsupported)) {
            self.storage.counters.refused.add(1);
        }
        let code = u8::try_from(code).expect("a block status is a byte");
        status.write(&[code]);
        let written = before.saturating_sub(chain.writable.left()).saturating_add(1);
        u32::try_from(written).unwrap_or(u32::MAX)
    }

    fn carry_out(&mut self, chain: &mut Chain) -> Result<(), Refusal> {
        let kind = chain.readable.read_array().map(u32::from_le_bytes).ok_or(Refusal::Guest)?;
        let _reserved: [u8; 4] = chain.readable.read_array().ok_or(Refusal::Guest)?;
        let sector = chain.readable.read_array().map(u64::from_le_bytes).ok_or(Refusal::Guest)?;
        match kind {
            VIRTIO_BLK_T_IN => {
                let span = self.span(sector, chain.writable.left())?;
                self.read(span, &mut chain.writable)
            }
            VIRTIO_BLK_T_OUT => {
                self.check_writable()?;
                let span = self.span(sector, chain.readable.left())?;
                self.write(span, Some(&mut chain.readable))?;
                self.after_change()
            }
            VIRTIO_BLK_T_FLUSH => self.flush(),
            VIRTIO_BLK_T_GET_ID => {
                let sent = chain.writable.write(&self.storage.serial);
                if sent == SERIAL_SIZE { Ok(()) } else { Err(Refusal::Guest) }
            }
            VIRTIO_BLK_T_DISCARD | VIRTIO_BLK_T_WRITE_ZEROES => {
                self.check_writable()?;
                self.change_ranges(kind, &mut chain.readable)?;
                self.after_change()
            }
            _ => Err(Refusal::Unsupported),
        }
    }

    fn check_writable(&self) -> Result<(), Refusal> {
        match self.storage.access {
            Access::ReadOnly => Err(Refusal::Guest),
            Access::ReadWrite => Ok(()),
        }
    }

    /// Checks that `size` bytes from `sector` on are whole sectors inside the disk.
    fn span(&self, sector: u64, size: u64) -> Result<Span, Refusal> {
        let end = sector.checked_add(size / SECTOR).ok_or(Refusal::Guest)?;
        if !size.is_multiple_of(SECTOR) || end > self.storage.sectors {
            return Err(Refusal::Guest);
        }
        let start = sector.checked_mul(SECTOR).ok_or(Refusal::Guest)?;
        Ok(Span { start, size })
    }

    fn read(&mut self, mut span: Span, target: &mut Buffers) -> Result<(), Refusal> {
        while span.size > 0 {
            self.check_stop()?;
            let part = self.buffer.part(span);
            if let Err(error) = self.storage.file.read_exact_at(part, span.start) {
                return Err(self.host_failure(&error));
            }
            let size = part.len();
            if target.write(part) != size {
                return Err(Refusal::Guest);
            }
            span = span.after(size);
        }
        Ok(())
    }

    /// Writes the span with bytes of the guest, or with zeroes.
    fn write(&mut self, mut span: Span, mut source: Option<&mut Buffers>) -> Result<(), Refusal> {
        while span.size > 0 {
            self.check_stop()?;
            let part = self.buffer.part(span);
            let size = part.len();
            let filled = match &mut source {
                Some(source) => source.read(part),
                None => {
                    part.fill(0);
                    size
                }
            };
            if filled != size {
                return Err(Refusal::Guest);
            }
            if let Err(error) = self.storage.file.write_all_at(part, span.start) {
                return Err(self.host_failure(&error));
            }
            span = span.after(size);
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), Refusal> {
        let Storage { file, flusher, counters, .. } = &*self.storage;
        let sync = || {
            file.sync_data()?;
            counters.flushes.add(1);
            Ok(())
        };
        flusher.flush(sync).map_err(|error| self.host_failure(&error))
    }

    fn after_change(&self) -> Result<(), Refusal> {
        match self.durability {
            Durability::AtFlush => Ok(()),
            Durability::EachWrite => self.flush(),
        }
    }

    /// Discards or zeroes. Every range is checked before the first is changed.
    fn change_ranges(&mut self, kind: u32, source: &mut Buffers) -> Result<(), Refusal> {
        let mut ranges = Vec::new();
        while let Some(range) = Range::read(source) {
            if ranges.len() >= usize::try_from(RANGES).unwrap_or(0) {
                return Err(Refusal::Guest);
            }
            ranges.push(self.check_range(kind, &range)?);
        }
        if ranges.is_empty() || source.left() > 0 {
            return Err(Refusal::Guest);
        }
        for (span, hole) in ranges {
            self.check_stop()?;
            match (kind, hole) {
                // A discard is advice: a file system that has no holes may ignore it.
                (VIRTIO_BLK_T_DISCARD, _) => {
                    self.allocate(span, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE)?;
                }
                (_, true) => {
                    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                    if !self.allocate(span, flags)? {
                        self.write(span, None)?;
                    }
                }
                (_, false) => {
                    let flags = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
                    if !self.allocate(span, flags)? {
                        self.write(span, None)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Checks one range; says where it is and whether it may become a hole.
    fn check_range(&self, kind: u32, range: &Range) -> Result<(Span, bool), Refusal> {
        let (limit, known_flags) = if kind == VIRTIO_BLK_T_DISCARD {
            (DISCARD_SECTORS, 0)
        } else {
            (ZERO_SECTORS, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP)
        };
        if range.flags & !known_flags != 0 {
            return Err(Refusal::Unsupported);
        }
        if range.sectors > limit {
            return Err(Refusal::Guest);
        }
        let span = self.span(range.sector, u64::from(range.sectors).saturating_mul(SECTOR))?;
        Ok((span, range.flags != 0))
    }

    /// False when the file cannot do that.
    fn allocate(&self, span: Span, flags: FallocateFlags) -> Result<bool, Refusal> {
        if span.size == 0 {
            return Ok(true);
        }
        match fallocate(&self.storage.file, flags, span.start, span.size) {
            Ok(()) => Ok(true),
            // A block device takes only whole blocks of its own, which may be larger than a sector.
            Err(Errno::OPNOTSUPP | Errno::INVAL) => Ok(false),
            Err(errno) => Err(self.host_failure(&errno)),
        }
    }

    fn check_stop(&self) -> Result<(), Refusal> {
        if self.stop.asked() { Err(Refusal::Stopped) } else { Ok(()) }
    }

    fn host_failure(&self, error: &(dyn std::error::Error + 'static)) -> Refusal {
        if self.storage.counters.host_failures.add(1) {
            tracing::warn!(error, "a disk's file failed");
            self.storage.trouble.tell(error);
        }
        Refusal::Host
    }
}

impl Span {
    fn after(self, size: usize) -> Self {
        let size = u64::try_from(size).unwrap_or(u64::MAX);
        Self { start: self.start.saturating_add(size), size: self.size.saturating_sub(size) }
    }
}

impl Range {
    const SIZE: u64 = 16;

    fn read(source: &mut Buffers) -> Option<Self> {
        if source.left() < Self::SIZE {
            return None;
        }
        Some(Self {
            sector: u64::from_le_bytes(source.read_array()?),
            sectors: u32::from_le_bytes(source.read_array()?),
            flags: u32::from_le_bytes(source.read_array()?),
        })
    }
}
