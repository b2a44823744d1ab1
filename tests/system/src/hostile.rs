//! A zone whose kernel is an attacker: template, scripts and machine code.
//!
//! ```text
//!   kernel ([`guest`], boot script) -- reads and counts up the seed's number on its private disk
//!                                   -- reads that seed's scripts and material from the root disk
//!                                   -- four processors carry them out -- reset: the next seed
//! ```
//! So one zone goes through all seeds by itself, across the resets, deaths and starts that its own behaviour costs it,
//! and begins each time as an honest driver of two disks. When no seed is left it powers off. The template is signed
//! with the build's key and lies on the data disk of one test only.

mod entry;
pub mod guest;
pub mod probe;
pub mod script;

use std::path::Path;

use crate::disk::Keys;
use anyhow::Context;
use template::{
    APPROVAL, FileSum, INITRD, KERNEL, MANIFEST, Manifest, ROOT, Recipe, SIGNATURE, Summer, verity,
};

use self::guest::{BOOT, CODE, KERNEL as MACHINE_CODE};

/// The zone's and the template's name.
pub const NAME: &str = "hostile";

/// Its processors.
pub const PROCESSORS: u8 = 4;

const RECIPE: Recipe =
    Recipe { name: NAME, epoch: 1, version: 1, memory_min_mib: 64, command_line: "hostile" };

/// Makes the template in a folder, with so many seeds from `first` on.
///
/// # Errors
/// A file cannot be written.
pub fn make(folder: &Path, keys: &Keys, first: u64, seeds: u32) -> anyhow::Result<()> {
    let root = (first..).take(usize::try_from(seeds)?).flat_map(script::of_seed).collect();
    make_of(folder, keys, root, &script::boot(seeds))
}

/// Makes the template in a folder, with this content of the root disk and this boot script.
fn make_of(folder: &Path, keys: &Keys, mut root: Vec<u8>, boot: &[u8]) -> anyhow::Result<()> {
    let tree = verity::tree(&root).context("the scripts are whole blocks")?;
    root.extend_from_slice(&tree.bytes);
    let FileSum { size, sha256 } = sum(&root);
    let described = template::Root { size, sha256, data_blocks: tree.data_blocks, verity: tree.root };
    let kernel = kernel(boot);
    let initrd = b"none";
    let described = Manifest::new(&RECIPE, sum(&kernel), sum(initrd), described)?;
    let approval = template::approve(&described, &keys.approve)?;
    let manifest = described.encode();
    let signature = keys.sign.sign(manifest.as_bytes());
    let files: [(&str, &[u8]); 6] = [
        (APPROVAL, &approval),
        (KERNEL, &kernel),
        (INITRD, initrd),
        (ROOT, &root),
        (MANIFEST, manifest.as_bytes()),
        (SIGNATURE, signature.as_bytes()),
    ];
    for (name, content) in files {
        let path = folder.join(name);
        std::fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

fn sum(bytes: &[u8]) -> FileSum {
    let mut summer = Summer::default();
    summer.add(bytes);
    summer.finish()
}

/// An ELF file as the firmware starts it: at [`entry::START`] what copies the rest, machine code and script, to their
/// places ([`CODE`], [`BOOT`]).
fn kernel(boot: &[u8]) -> Vec<u8> {
    let mut copied = MACHINE_CODE.to_vec();
    copied.resize(usize::try_from(BOOT - CODE).expect("a page"), 0);
    copied.extend_from_slice(boot);
    let mut load = entry::CODE.to_vec();
    load.resize(entry::TABLES_START, 0);
    load.extend_from_slice(entry::TABLES);
    load.resize(entry::LENGTH, 0);
    load.extend(u32::try_from(copied.len()).expect("less than memory").to_le_bytes());
    load.resize(entry::COPIED, 0);
    load.extend(copied);
    let size = u64::try_from(load.len()).expect("lengths have 64 bits");
    let start = u64::from(entry::START);
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend([2_u8, 0, 62, 0, 1, 0, 0, 0]);
    file.extend([start, 64, 0].map(u64::to_le_bytes).concat());
    file.extend([0_u16, 0, 64, 56, 1, 64, 0, 0].map(u16::to_le_bytes).concat());
    file.extend([1_u32, 7].map(u32::to_le_bytes).concat());
    file.extend([4096, start, start, size, size, 4096].map(u64::to_le_bytes).concat());
    file.resize(4096, 0);
    file.extend(load);
    file
}
