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

pub mod guest;
pub mod script;

use std::path::Path;

use anyhow::Context;
use template::{
    FileSum, INITRD, KERNEL, MANIFEST, Manifest, ROOT, Recipe, SIGNATURE, SigningKey, Summer, verity,
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
pub fn make(folder: &Path, key: &SigningKey, first: u64, seeds: u32) -> anyhow::Result<()> {
    let mut root: Vec<u8> = (first..).take(usize::try_from(seeds)?).flat_map(script::of_seed).collect();
    let tree = verity::tree(&root).context("the scripts are whole blocks")?;
    root.extend_from_slice(&tree.bytes);
    let FileSum { size, sha256 } = sum(&root);
    let described = template::Root { size, sha256, data_blocks: tree.data_blocks, verity: tree.root };
    let kernel = kernel(&script::boot(seeds));
    let initrd = b"none";
    let manifest = Manifest::new(&RECIPE, sum(&kernel), sum(initrd), described)?.encode();
    let signature = key.sign(manifest.as_bytes());
    let files: [(&str, &[u8]); 5] = [
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

/// An ELF file with a PVH entry: the machine code at [`CODE`], the script at [`BOOT`].
fn kernel(boot: &[u8]) -> Vec<u8> {
    let size = |bytes: &[u8]| u64::try_from(bytes.len()).expect("lengths have 64 bits");
    let header = |kind: u32, offset: u64, address: u32, size: u64| {
        let address = u64::from(address);
        let words = [offset, address, address, size, size, 4].map(u64::to_le_bytes).concat();
        [&kind.to_le_bytes()[..], &7_u32.to_le_bytes(), &words].concat()
    };
    let entry =
        [[4_u32, 4, 18].map(u32::to_le_bytes).concat(), b"Xen\0".to_vec(), CODE.to_le_bytes().to_vec()];
    let note = entry.concat();
    let mut load = MACHINE_CODE.to_vec();
    load.resize(usize::try_from(BOOT - CODE).expect("a page"), 0);
    load.extend_from_slice(boot);
    let mut file = b"\x7FELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend([2_u8, 0, 62, 0, 1, 0, 0, 0]);
    file.extend([u64::from(CODE), 64, 0].map(u64::to_le_bytes).concat());
    file.extend([0_u16, 0, 64, 56, 2, 64, 0, 0].map(u16::to_le_bytes).concat());
    file.extend(header(4, 64 + 112, 0, size(&note)));
    file.extend(header(1, 64 + 112 + size(&note), CODE, size(&load)));
    file.extend(note);
    file.extend(load);
    file
}
