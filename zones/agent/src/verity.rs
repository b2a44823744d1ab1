//! The template's disk behind dm-verity: blocks that do not have the hash that the kernel's command line demands
//! are never seen by anyone, and end the zone.
//!
//! The kernel panics at the first such block (`panic_on_corruption`): a zone that reads half of its programs and gets
//! errors for the rest would be neither up nor down. The host hears of the panic and shows it.
#![expect(unsafe_code, reason = "device mapper speaks by ioctls, for which rustix has no safe call")]

use std::fs::OpenOptions;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};

/// What the word of the kernel's command line begins with (`template::ROOT_PARAMETER`).
const PARAMETER: &str = "bulkhead.root=";

/// Device mapper's door.
const CONTROL: &str = "/dev/mapper/control";

/// `struct dm_ioctl` of `linux/dm-ioctl.h`: its size, and where its fields are.
const HEAD: usize = 312;
const DATA_SIZE: usize = 12;
const DATA_START: usize = 16;
const TARGET_COUNT: usize = 20;
const FLAGS: usize = 28;
const DEVICE: usize = 40;
const NAME: usize = 48;

/// `struct dm_target_spec`, which follows: its size, and where its fields are.
const TARGET: usize = 40;
const TARGET_LENGTH: usize = 8;
const TARGET_TYPE: usize = 24;

/// Room for both and the target's parameters.
const ROOM: usize = 1024;

/// `DM_READONLY_FLAG`.
const READ_ONLY: u32 = 1;

/// The version of the interface that we speak; every 4.x answers it.
const VERSION: u32 = 4;

/// `DM_DEV_CREATE`, `DM_TABLE_LOAD`, `DM_DEV_SUSPEND` (which, without its flag, resumes).
const CREATE: Opcode = opcode::read_write::<[u8; HEAD]>(0xfd, 3);
const LOAD: Opcode = opcode::read_write::<[u8; HEAD]>(0xfd, 9);
const RESUME: Opcode = opcode::read_write::<[u8; HEAD]>(0xfd, 6);

/// One ioctl's head and data, as the kernel reads and writes them.
#[repr(C, align(8))]
struct Request {
    bytes: [u8; ROOM],
}

impl Request {
    fn new() -> Self {
        let mut request = Self { bytes: [0; ROOM] };
        request.put(0, &VERSION.to_ne_bytes());
        let sizes = [(DATA_SIZE, ROOM), (DATA_START, HEAD)];
        for (at, size) in sizes {
            request.put(at, &u32::try_from(size).expect("a small constant").to_ne_bytes());
        }
        request.put(FLAGS, &READ_ONLY.to_ne_bytes());
        request.put(NAME, b"template");
        request
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes.get_mut(at..at + bytes.len()).expect("places lie in the room").copy_from_slice(bytes);
    }

    /// The device number that the kernel wrote, as the minor part of it.
    fn minor(&self) -> u32 {
        let bytes = self.bytes.get(DEVICE..).and_then(|rest| rest.first_chunk());
        let device = u64::from_ne_bytes(*bytes.expect("the head has a device"));
        rustix::fs::minor(device)
    }
}

/// A verity tree as the command line names it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Tree {
    data_blocks: u64,
    root: String,
}

impl Tree {
    /// # Errors
    /// The command line names none.
    fn of(command_line: &str) -> anyhow::Result<Self> {
        let value = command_line.split_whitespace().find_map(|word| word.strip_prefix(PARAMETER));
        let value = value.with_context(|| format!("the kernel's command line has no {PARAMETER}"))?;
        let wrong = || format!("{PARAMETER} is followed by {value:?}, not by BLOCKS,HASH");
        let (blocks, root) = value.split_once(',').with_context(wrong)?;
        let data_blocks = blocks.parse().ok().filter(|blocks| (1..=1_u64 << 40).contains(blocks));
        ensure!(root.len() == 64 && root.bytes().all(|byte| byte.is_ascii_hexdigit()), wrong());
        Ok(Self { data_blocks: data_blocks.with_context(wrong)?, root: root.to_owned() })
    }

    /// The target's parameters: version 1, data and hashes on one disk in blocks of 4096, no salt.
    fn parameters(&self, disk: &Path) -> String {
        let Self { data_blocks, root } = self;
        let disk = disk.display();
        format!("1 {disk} {disk} 4096 4096 {data_blocks} {data_blocks} sha256 {root} - 1 panic_on_corruption")
    }
}

/// Puts a disk behind dm-verity, with the tree that this kernel's command line names; returns the device to mount.
///
/// # Errors
/// No tree is named, or device mapper does not take it.
pub(crate) fn open(disk: &Path) -> anyhow::Result<PathBuf> {
    let command_line = std::fs::read_to_string("/proc/cmdline").context("read the kernel's command line")?;
    let tree = Tree::of(&command_line)?;
    let control = OpenOptions::new().read(true).write(true).open(CONTROL).context(CONTROL)?;
    let mut create = Request::new();
    call::<CREATE>(&control, &mut create).context("make a device")?;
    let parameters = tree.parameters(disk);
    let mut load = Request::new();
    let end = HEAD + TARGET + parameters.len();
    if end >= ROOM {
        bail!("{} is too long a name of a disk", disk.display());
    }
    load.put(TARGET_COUNT, &1_u32.to_ne_bytes());
    let sectors = tree.data_blocks * 8;
    load.put(HEAD + TARGET_LENGTH, &sectors.to_ne_bytes());
    load.put(HEAD + TARGET_TYPE, b"verity");
    load.put(HEAD + TARGET, parameters.as_bytes());
    call::<LOAD>(&control, &mut load).with_context(|| format!("load the verity table {parameters:?}"))?;
    call::<RESUME>(&control, &mut Request::new()).context("start the device")?;
    Ok(PathBuf::from(format!("/dev/dm-{}", create.minor())))
}

fn call<const OPCODE: Opcode>(control: impl AsFd, request: &mut Request) -> rustix::io::Result<()> {
    // SAFETY: the opcodes of this file read and write a `dm_ioctl` and the data behind it, at most as many bytes as its
    // `data_size` says: that is ROOM, the size of a `Request`.
    let update = unsafe { Updater::<OPCODE, Request>::new(request) };
    // SAFETY: the request is exclusively borrowed by `update` for the whole call, and the kernel keeps no pointer to it.
    unsafe { ioctl(control, update) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_names_the_tree() {
        let root = "0123456789abcdef".repeat(4);
        let tree = Tree::of(&format!("quiet bulkhead.root=300,{root} panic=-1\n")).unwrap();
        assert_eq!(tree, Tree { data_blocks: 300, root: root.clone() });
        let expected = format!("1 /dev/vda /dev/vda 4096 4096 300 300 sha256 {root} - 1 panic_on_corruption");
        assert_eq!(tree.parameters(Path::new("/dev/vda")), expected);
    }

    #[test]
    fn a_command_line_without_a_whole_tree_is_refused() {
        let root = "0123456789abcdef".repeat(4);
        let lines = [
            "quiet".to_owned(),
            "bulkhead.root=300".to_owned(),
            format!("bulkhead.root=0,{root}"),
            format!("bulkhead.root=many,{root}"),
            format!("bulkhead.root=18446744073709551615,{root}"),
            "bulkhead.root=300,short".to_owned(),
            format!("bulkhead.root=300,{}z", &root[1..]),
        ];
        for line in lines {
            let error = Tree::of(&line).unwrap_err().to_string();
            assert!(error.contains("bulkhead.root="), "{error}");
        }
    }

    #[test]
    fn a_request_has_the_kernels_layout() {
        let mut request = Request::new();
        request.put(DEVICE, &0x0000_0000_0010_fd03_u64.to_ne_bytes());
        assert_eq!(request.minor(), 0x103);
        assert_eq!(request.bytes[NAME..NAME + 9], *b"template\0");
        assert_eq!(size_of::<Request>(), ROOM);
        // _IOWR(0xfd, 3, struct dm_ioctl) of the kernel's headers.
        assert_eq!(CREATE, 0xc138_fd03);
    }
}
