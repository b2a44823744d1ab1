//! Encrypted disks for `init`: a file, a loop device over it, and a device-mapper target `crypt` over that.
//!
//! The key exists in one locked page of `init` and on a keyring of its own, as a `logon` key that nobody can read, while the
//! target takes it; and in the kernel as long as the disk is there. Nothing here stores it, prints it or hands it out, and
//! the device mapper's table shows its name alone. The ioctls of the loop driver
//! (linux/loop.h) and of the device mapper (linux/dm-ioctl.h) have no safe interface.
//!
//! AES-256-XTS with 64-bit sector numbers hides content, not which blocks were written; it does not notice a
//! block that was put back as it was before.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{FileExt as _, FileTypeExt};

use rustix::fs::{Mode, OFlags};

use crate::start::number as number_of;

/// Bytes of a key: two keys of AES-256, one for XTS's tweak.
pub const KEY_SIZE: usize = 64;
/// Unit of the device mapper.
const SECTOR: u64 = 512;
const SECTOR_BYTES: usize = 512;

/// `LOOP_CONFIGURE`, `LOOP_CTL_GET_FREE`.
const LOOP_CONFIGURE: usize = 0x4c0a;
const LOOP_CTL_GET_FREE: usize = 0x4c82;
/// The loop device goes when its last user closes it, and writes past the page cache, where the file allows it: the disk above it has
/// pages of its own, and a second layer of them is written back without regard to whose they are.
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_FLAGS_DIRECT_IO: u32 = 16;
/// `struct loop_config`: descriptor and block size, then `struct loop_info64` with the flags at 52.
const LOOP_CONFIG_SIZE: usize = 304;
const LOOP_FLAGS_AT: usize = 8 + 52;

/// Requests of the device mapper: `_IOWR(0xfd, number, struct dm_ioctl)`.
const fn dm(number: usize) -> usize {
    0xc138_fd00 | number
}
const DM_DEV_CREATE: usize = dm(3);
const DM_DEV_REMOVE: usize = dm(4);
const DM_DEV_SUSPEND: usize = dm(6);
const DM_TABLE_LOAD: usize = dm(9);
const DM_TARGET_MSG: usize = dm(14);
/// `DM_DEV_SUSPEND` holds the device; without it that lets it work.
const DM_SUSPEND: u32 = 1 << 1;
/// It does not write the page cache out before: whoever asks for it has done so, and must not be made to wait.
const DM_SKIP_LOCKFS: u32 = 1 << 10;
/// Removal waits for the last user instead of failing.
const DM_DEFERRED_REMOVE: u32 = 1 << 17;
/// Bytes of `struct dm_ioctl`, and where its fields lie.
const HEADER: usize = 312;
const AT_DATA_SIZE: usize = 12;
const AT_DATA_START: usize = 16;
const AT_TARGETS: usize = 20;
const AT_FLAGS: usize = 28;
const AT_DEVICE: usize = 40;
const AT_NAME: usize = 48;
const NAME_SIZE: usize = 128;
/// Bytes of `struct dm_target_spec`.
const TARGET: usize = 40;

/// A disk was not made. Nothing is left of it.
#[derive(Debug, thiserror::Error)]
pub enum OpenCryptError {
    /// The backing file's size is no whole number of sectors, or none at all.
    #[error("backing file of {0} bytes")]
    Size(u64),
    /// The name does not fit.
    #[error("name {0:?} of a disk")]
    Name(String),
    /// A step failed.
    #[error("{step}")]
    Step {
        /// Which.
        step: &'static str,
        /// Why.
        #[source]
        cause: io::Error,
    },
}

fn step(step: &'static str) -> impl FnOnce(io::Error) -> OpenCryptError {
    move |cause| OpenCryptError::Step { step, cause }
}

/// One page that is never swapped and is wiped when it goes. Its `Debug` prints nothing of it.
struct Page {
    memory: Box<Aligned>,
}

#[repr(align(4096))]
struct Aligned([u8; 4096]);

impl Page {
    fn new() -> io::Result<Self> {
        let memory = Box::new(Aligned([0; 4096]));
        let address = std::ptr::from_ref(&memory.0).cast_mut().cast();
        // SAFETY: the page is ours as long as `memory` lives; locking changes none of its bytes.
        unsafe { rustix::mm::mlock(address, memory.0.len()) }?;
        Ok(Self { memory })
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        for byte in &mut self.memory.0 {
            // SAFETY: a plain byte behind a unique reference; volatile, so that it really happens.
            unsafe { std::ptr::write_volatile(byte, 0) };
        }
        let address = std::ptr::from_mut(&mut self.memory.0).cast();
        // SAFETY: the same page that was locked, still ours. A failure leaves it locked, which harms nobody.
        let _still_locked = unsafe { rustix::mm::munlock(address, self.memory.0.len()) };
    }
}

/// A disk's key.
pub struct Key {
    page: Page,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    /// A fresh one of the kernel's random numbers.
    ///
    /// # Errors
    /// The page cannot be locked, or there are no random numbers.
    pub fn random() -> io::Result<Self> {
        let mut page = Page::new()?;
        let (key, _) = page.memory.0.split_at_mut(KEY_SIZE);
        let length = rustix::rand::getrandom(&mut *key, rustix::rand::GetRandomFlags::empty())?;
        // A request of up to 256 bytes is never answered by less.
        if length == KEY_SIZE { Ok(Self { page }) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// The key that somebody wrote into a pipe, in one piece.
    ///
    /// # Errors
    /// The page cannot be locked, or the pipe does not hold exactly one key.
    pub fn from_pipe(pipe: &OwnedFd) -> io::Result<Self> {
        let mut page = Page::new()?;
        // One byte more shows a pipe that holds more.
        let (key, _) = page.memory.0.split_at_mut(KEY_SIZE + 1);
        let length = rustix::io::read(pipe, &mut *key)?;
        if length == KEY_SIZE { Ok(Self { page }) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    fn bytes(&self) -> &[u8] {
        self.page.memory.0.get(..KEY_SIZE).unwrap_or_default()
    }
}

/// A key on the process's keyring (user-space API: keyrings(7)). It goes with this.
struct Lent {
    number: libc::c_long,
    description: String,
}

impl Lent {
    fn new(name: &str, key: &Key) -> io::Result<Self> {
        const PROCESS_KEYRING: libc::c_long = -2;
        let description = format!("bulkhead:{name}");
        let with_end = CString::new(description.as_str())?;
        let bytes = key.bytes();
        // SAFETY: type and description end with a zero, the key is as long as is said, and the kernel only reads all three.
        let number = unsafe {
            libc::syscall(
                libc::SYS_add_key,
                c"logon".as_ptr(),
                with_end.as_ptr(),
                bytes.as_ptr(),
                bytes.len(),
                PROCESS_KEYRING,
            )
        };
        if number < 0 { Err(io::Error::last_os_error()) } else { Ok(Self { number, description }) }
    }

    /// How the target names it: its size, kind and description.
    fn name(&self) -> String {
        format!(":{KEY_SIZE}:logon:{}", self.description)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        const REVOKE: libc::c_long = 3;
        // SAFETY: two numbers; the kernel wipes the key.
        let _gone = unsafe { libc::syscall(libc::SYS_keyctl, REVOKE, self.number) };
    }
}

/// An open encrypted disk. Dropping this removes it, at the latest when the last user of the device closes it.
#[derive(Debug)]
pub struct CryptDisk {
    control: OwnedFd,
    name: String,
    sectors: u64,
    locked: bool,
}

impl CryptDisk {
    /// Makes a disk called `name` over `backing`, as large as that is now, and opens its block device. Without
    /// another descriptor of it or a name, `backing` and its space are gone together with the disk.
    ///
    /// # Errors
    /// [`OpenCryptError`].
    pub fn open(name: &str, backing: &File, key: &Key) -> Result<(Self, OwnedFd), OpenCryptError> {
        let size = backing.metadata().map_err(step("look at the backing file"))?.len();
        if size == 0 || !size.is_multiple_of(SECTOR) {
            return Err(OpenCryptError::Size(size));
        }
        if name.is_empty() || name.len() >= NAME_SIZE || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(OpenCryptError::Name(name.to_owned()));
        }
        let (_loop_device, number) = attach(backing).map_err(step("attach a loop device"))?;
        let control = open("/dev/mapper/control", OFlags::RDWR)
            .map_err(step("open the device mapper (module dm_mod)"))?;
        let created = Request::new(name).and_then(|mut request| {
            request.run(&control, DM_DEV_CREATE)?;
            Ok(request.device())
        });
        let (_major, minor) = created.map_err(step("make a mapped device"))?;
        let activated = Lent::new(name, key)
            .map_err(step("lend the key to the kernel"))
            .and_then(|lent| {
                let loaded = Request::new(name).and_then(|mut request| {
                    request.target(size / SECTOR, number, &lent.name());
                    request.run(&control, DM_TABLE_LOAD)
                });
                loaded.map_err(step("load its table (modules dm_crypt and xts)"))
            })
            .and_then(|()| {
                let resumed =
                    Request::new(name).and_then(|mut request| request.run(&control, DM_DEV_SUSPEND));
                resumed.map_err(step("let it work"))
            })
            .and_then(|()| open_direct(&format!("/dev/dm-{minor}")).map_err(step("open it")));
        // From here on a failure removes what was made.
        let disk = Self { control, name: name.to_owned(), sectors: size / SECTOR, locked: false };
        activated.map(|device| (disk, device))
    }
}

/// A disk was not locked or unlocked.
#[derive(Debug, thiserror::Error)]
#[error("{step}")]
pub struct LockError {
    /// What failed.
    step: &'static str,
    /// Why.
    #[source]
    cause: io::Error,
}

impl CryptDisk {
    /// Holds the disk and wipes its key out of the kernel: what is asked of it from now on waits. What it was working on
    /// is finished before.
    ///
    /// # Errors
    /// [`LockError`]; it works as before.
    pub fn lock(&mut self) -> Result<(), LockError> {
        if self.locked {
            return Ok(());
        }
        self.hold().map_err(|cause| LockError { step: "hold it", cause })?;
        if let Err(cause) = self.tell("key wipe") {
            let _runs_on = self.resume();
            return Err(LockError { step: "wipe its key", cause });
        }
        self.locked = true;
        Ok(())
    }

    /// Gives the disk its key back and lets it work.
    ///
    /// # Errors
    /// [`LockError`]; it stays locked.
    pub fn unlock(&mut self, key: &Key) -> Result<(), LockError> {
        if !self.locked {
            return Ok(());
        }
        let given =
            Lent::new(&self.name, key).and_then(|lent| self.tell(&format!("key set {}", lent.name())));
        given.map_err(|cause| LockError { step: "give it its key", cause })?;
        self.resume().map_err(|cause| LockError { step: "let it work", cause })?;
        self.locked = false;
        Ok(())
    }

    /// Whether it is locked.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.locked
    }

    /// Fails whatever waits for a locked disk, and all that comes: its zone ends, and must not wait for ever.
    pub fn give_up(&mut self) {
        if !std::mem::take(&mut self.locked) {
            return;
        }
        let failed = Request::new(&self.name).and_then(|mut request| {
            request.nothing(self.sectors);
            request.run(&self.control, DM_TABLE_LOAD)
        });
        let _removed_later = failed.and_then(|()| self.resume());
    }

    fn hold(&self) -> io::Result<()> {
        let mut request = Request::new(&self.name)?;
        request.put(AT_FLAGS, &(DM_SUSPEND | DM_SKIP_LOCKFS).to_ne_bytes());
        request.run(&self.control, DM_DEV_SUSPEND)
    }

    fn resume(&self) -> io::Result<()> {
        Request::new(&self.name)?.run(&self.control, DM_DEV_SUSPEND)
    }

    /// A message to the target.
    fn tell(&self, words: &str) -> io::Result<()> {
        let mut request = Request::new(&self.name)?;
        // struct dm_target_msg: a sector of the target, then text that ends with a zero.
        request.put(HEADER + 8, words.as_bytes());
        request.run(&self.control, DM_TARGET_MSG)
    }
}

impl Drop for CryptDisk {
    fn drop(&mut self) {
        self.give_up();
        remove(&self.control, &self.name);
    }
}

/// Removes a mapped device now or, while somebody has it open, when that ends. A device that is not there
/// is as good as removed.
fn remove(control: &OwnedFd, name: &str) {
    if let Ok(mut request) = Request::new(name) {
        request.put(AT_FLAGS, &DM_DEFERRED_REMOVE.to_ne_bytes());
        let _absent = request.run(control, DM_DEV_REMOVE);
    }
}

/// Opens a disk past the page cache: what was decrypted is then nowhere but in the guest that asked for it, and what is
/// written is charged to whoever writes it, not to the kernel's flusher. A disk that has no sectors of 512 bytes is opened
/// behind the page cache, because guests address those.
fn open_direct(path: &str) -> io::Result<OwnedFd> {
    let disk = File::from(open(path, OFlags::RDWR | OFlags::DIRECT)?);
    let mut page = Page::new()?;
    let sector = page.memory.0.get_mut(..SECTOR_BYTES).unwrap_or_default();
    match disk.read_exact_at(sector, SECTOR) {
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => {
            open(path, OFlags::RDWR)
        }
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
        Ok(()) | Err(_) => Ok(disk.into()),
    }
}

fn open(path: &str, flags: OFlags) -> io::Result<OwnedFd> {
    let file = rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())?;
    let kind = File::from(file.try_clone()?).metadata()?.file_type();
    if kind.is_block_device() || kind.is_char_device() {
        Ok(file)
    } else {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// A loop device over `backing`, and its device number. It lives as long as anybody has it open.
fn attach(backing: &File) -> io::Result<(OwnedFd, (u32, u32))> {
    let control = open("/dev/loop-control", OFlags::RDWR)?;
    // SAFETY: the request takes no argument and returns a number.
    let number = unsafe { libc::syscall(libc::SYS_ioctl, number_of(&control), LOOP_CTL_GET_FREE, 0_usize) };
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    let device = open(&format!("/dev/loop{number}"), OFlags::RDWR)?;
    let mut config = [0_u8; LOOP_CONFIG_SIZE];
    if let Some(field) = config.first_chunk_mut::<4>() {
        *field = backing.as_raw_fd().to_ne_bytes();
    }
    if let Some(field) = config.get_mut(LOOP_FLAGS_AT..LOOP_FLAGS_AT + 4) {
        field.copy_from_slice(&(LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO).to_ne_bytes());
    }
    // SAFETY: the buffer has the size of `struct loop_config`, which the kernel only reads.
    let done = unsafe { libc::syscall(libc::SYS_ioctl, number_of(&device), LOOP_CONFIGURE, config.as_ptr()) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    let number = rustix::fs::fstat(&device)?.st_rdev;
    Ok((device, (rustix::fs::major(number), rustix::fs::minor(number))))
}

/// A request to the device mapper: one page with `struct dm_ioctl`, and for a table its target.
struct Request {
    page: Page,
}

impl Request {
    fn new(name: &str) -> io::Result<Self> {
        let mut request = Self { page: Page::new()? };
        for (place, version) in (0..).step_by(4).zip([4_u32, 0, 0]) {
            request.put(place, &version.to_ne_bytes());
        }
        request.put(AT_DATA_SIZE, &4096_u32.to_ne_bytes());
        request.put(AT_DATA_START, &312_u32.to_ne_bytes());
        request.put(AT_NAME, name.as_bytes());
        Ok(request)
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(place) = self.page.memory.0.get_mut(at..).and_then(|rest| rest.get_mut(..bytes.len())) {
            place.copy_from_slice(bytes);
        }
    }

    /// The one target of the table: all of the loop device, encrypted with the key of this name.
    fn target(&mut self, sectors: u64, (major, minor): (u32, u32), key: &str) {
        self.put(AT_TARGETS, &1_u32.to_ne_bytes());
        // struct dm_target_spec: first sector 0, length, status, next, type.
        self.put(HEADER + 8, &sectors.to_ne_bytes());
        self.put(HEADER + 24, b"crypt");
        // The first sector's number, the device, its first sector; discarded blocks give their space back. Who writes or reads
        // encrypts by itself: queues of the kernel's would do it without regard to whose work it is.
        let options = "3 allow_discards no_read_workqueue no_write_workqueue";
        let table = format!("aes-xts-plain64 {key} 0 {major}:{minor} 0 {options}");
        self.put(HEADER + TARGET, table.as_bytes());
    }

    /// A table whose one target fails everything.
    fn nothing(&mut self, sectors: u64) {
        self.put(AT_TARGETS, &1_u32.to_ne_bytes());
        self.put(HEADER + 8, &sectors.to_ne_bytes());
        self.put(HEADER + 24, b"error");
    }

    fn run(&mut self, control: &OwnedFd, request: usize) -> io::Result<()> {
        let page = self.page.memory.0.as_mut_ptr();
        // SAFETY: the page is as large as its `data_size` field says, and the kernel writes within that.
        let done = unsafe { libc::syscall(libc::SYS_ioctl, number_of(control), request, page) };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// The device's number out of an answer.
    fn device(&self) -> (u32, u32) {
        let field = self.page.memory.0.get(AT_DEVICE..).and_then(|rest| rest.first_chunk::<8>());
        // The kernel's huge_encode_dev has the layout of a dev_t.
        let number = field.map_or(0, |field| u64::from_ne_bytes(*field));
        (rustix::fs::major(number), rustix::fs::minor(number))
    }
}

#[cfg(test)]
mod tests;
