//! virtio-block (virtio 1.3, section 5.2) on a regular file or a block device.
//!
//! The capacity is the file's length when the device is made. A read-only device refuses every change by
//! itself, whatever was negotiated. Each queue is served by a thread of its own; they share the file and its
//! flushes. A completed flush is `fdatasync`; a driver that cannot flush gets write-through. Nothing is read
//! or written at the file's cursor, so several processes may share one open file.

mod flush;
mod request;
mod trouble;

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileTypeExt;
use std::sync::Arc;

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_MQ, VIRTIO_BLK_F_RO,
    VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_WRITE_ZEROES,
};
use virtio_bindings::virtio_ids::VIRTIO_ID_BLOCK;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

use self::flush::Flusher;
use self::request::{Disk, Durability, Storage};
pub use self::trouble::Trouble;
use super::counters::Counters;
use super::ring::serve_rings;
use super::threads::Role;
use super::worker::{Stop, Worker};
use super::{Activation, VirtioDevice};

/// Size of a sector, the unit of all positions.
pub const SECTOR: u64 = 512;

/// Length of the serial that the guest can read.
pub const SERIAL_SIZE: usize = 20;

/// The most queues of one disk: one for each processor that a zone can have.
pub const MAX_QUEUES: u16 = 8;

const QUEUE_SIZES: [u16; MAX_QUEUES as usize] = [256; MAX_QUEUES as usize];

/// Data segments of one request: the queue's size less header and status.
const SEGMENTS: u32 = 254;

/// Ranges in one discard or write-zeroes request.
const RANGES: u32 = 16;

/// Sectors in one discarded range: 1 GiB.
const DISCARD_SECTORS: u32 = 2 << 20;

/// Sectors in one zeroed range: 16 MiB, because a file system may have us write them.
const ZERO_SECTORS: u32 = 32 << 10;

/// What a guest may do with a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Every change is refused.
    ReadOnly,
    /// Everything.
    ReadWrite,
}

/// The file cannot be a disk.
#[derive(Debug, thiserror::Error)]
pub enum OpenDiskError {
    /// Its length cannot be found out.
    #[error("length of the disk's file")]
    Length(#[from] io::Error),
    /// It is neither a regular file nor a block device.
    #[error("the disk is neither a regular file nor a block device")]
    NotAFile,
    /// It does not hold one sector.
    #[error("the disk's file has {0} bytes, less than a sector")]
    Short(u64),
    /// Nobody could be told of its failures.
    #[error("event descriptor of the disk")]
    Watch(#[source] io::Error),
    /// The serial cannot be shown to the guest.
    #[error("serial {0:?} is not at most {SERIAL_SIZE} ASCII bytes")]
    Serial(String),
}

/// The device.
pub struct Block {
    storage: Arc<Storage>,
    queues: u16,
    workers: Vec<Worker>,
}

impl Block {
    /// A disk of the length that `file` has now, rounded down to whole sectors, with one queue.
    ///
    /// # Errors
    /// See [`OpenDiskError`].
    pub fn new(file: File, access: Access, serial: &str) -> Result<Self, OpenDiskError> {
        let length = length(&file)?;
        let sectors = length / SECTOR;
        if sectors == 0 {
            return Err(OpenDiskError::Short(length));
        }
        let mut padded = [0; SERIAL_SIZE];
        match padded.get_mut(..serial.len()) {
            Some(start) if serial.is_ascii() => start.copy_from_slice(serial.as_bytes()),
            _ => return Err(OpenDiskError::Serial(serial.to_owned())),
        }
        let (flusher, counters) = (Flusher::default(), Arc::default());
        let trouble = Trouble::new().map_err(OpenDiskError::Watch)?;
        let storage = Storage { file, sectors, access, serial: padded, flusher, counters, trouble };
        Ok(Self { storage: Arc::new(storage), queues: 1, workers: Vec::new() })
    }

    /// The same disk with `count` queues, at least one and at most [`MAX_QUEUES`].
    #[must_use]
    pub fn with_queues(self, count: u16) -> Self {
        Self { queues: count.clamp(1, MAX_QUEUES), ..self }
    }

    /// What the guest did wrong and the host failed so far.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.storage.counters)
    }

    /// Tells when the host's file failed a request.
    ///
    /// # Errors
    /// There are no descriptors left.
    pub fn trouble(&self) -> io::Result<Trouble> {
        self.storage.trouble.try_clone()
    }
}

impl VirtioDevice for Block {
    fn device_type(&self) -> u16 {
        super::device_id(VIRTIO_ID_BLOCK)
    }

    fn queue_sizes(&self) -> &[u16] {
        QUEUE_SIZES.get(..usize::from(self.queues)).unwrap_or(&QUEUE_SIZES)
    }

    fn features(&self) -> u64 {
        let always = 1 << VIRTIO_BLK_F_SEG_MAX
            | 1 << VIRTIO_BLK_F_BLK_SIZE
            | 1 << VIRTIO_BLK_F_FLUSH
            | 1 << VIRTIO_RING_F_EVENT_IDX
            | 1 << VIRTIO_RING_F_INDIRECT_DESC;
        let several = if self.queues > 1 { 1 << VIRTIO_BLK_F_MQ } else { 0 };
        always
            | several
            | match self.storage.access {
                Access::ReadOnly => 1 << VIRTIO_BLK_F_RO,
                Access::ReadWrite => 1 << VIRTIO_BLK_F_DISCARD | 1 << VIRTIO_BLK_F_WRITE_ZEROES,
            }
    }

    fn read_config(&self, offset: u32, data: &mut [u8]) {
        super::read_config_bytes(&config(self.storage.sectors, self.queues), offset, data);
    }

    fn activate(&mut self, mut activation: Activation) -> io::Result<()> {
        self.reset();
        let durability = if activation.features & (1 << VIRTIO_BLK_F_FLUSH) == 0 {
            Durability::EachWrite
        } else {
            Durability::AtFlush
        };
        let stop = Stop::new()?;
        let queues: Vec<_> = activation.queues.iter().map(|active| active.index).collect();
        for index in queues {
            let ring = activation.take_ring(index, &self.storage.counters)?;
            let mut disk = Disk::new(Arc::clone(&self.storage), durability, stop.clone());
            let (asked, interrupt) = (stop.clone(), Arc::clone(&activation.interrupt));
            let body =
                move || serve_rings(vec![ring], &asked, &*interrupt, |_queue, chain| disk.serve(chain));
            let interrupt = Arc::clone(&activation.interrupt);
            self.workers.push(Worker::start(
                &*activation.threads,
                Role::Disk,
                stop.clone(),
                interrupt,
                body,
            )?);
        }
        Ok(())
    }

    fn reset(&mut self) {
        self.workers.clear();
    }
}

/// How many bytes the disk has.
fn length(file: &File) -> Result<u64, OpenDiskError> {
    let metadata = file.metadata()?;
    if metadata.file_type().is_block_device() {
        // Its metadata says nothing; where the cursor stands matters to nobody.
        let mut file = file;
        Ok(file.seek(SeekFrom::End(0))?)
    } else if metadata.is_file() {
        Ok(metadata.len())
    } else {
        Err(OpenDiskError::NotAFile)
    }
}

const CONFIG_SIZE: usize = 60;

/// The configuration space (virtio 1.3, section 5.2.4).
fn config(sectors: u64, queues: u16) -> [u8; CONFIG_SIZE] {
    let sector_size = u32::try_from(SECTOR).expect("a sector is small");
    let fields: [(usize, u64, usize); 10] = [
        (0, sectors, 8),                 // capacity
        (12, u64::from(SEGMENTS), 4),    // seg_max
        (20, u64::from(sector_size), 4), // blk_size
        (34, u64::from(queues), 2),      // num_queues
        (36, u64::from(DISCARD_SECTORS), 4),
        (40, u64::from(RANGES), 4), // max_discard_seg
        (44, 8, 4),                 // discard_sector_alignment: a page
        (48, u64::from(ZERO_SECTORS), 4),
        (52, u64::from(RANGES), 4), // max_write_zeroes_seg
        (56, 1, 1),                 // write_zeroes_may_unmap
    ];
    let mut config = [0; CONFIG_SIZE];
    for (offset, value, size) in fields {
        for (target, byte) in config.iter_mut().skip(offset).take(size).zip(value.to_le_bytes()) {
            *target = byte;
        }
    }
    config
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "tests choose numbers that fit")]
mod tests;
