//! The hash tree of the kernel's dm-verity (its Documentation/admin-guide/device-mapper/verity.rst), version 1 of the
//! format, SHA-256, without salt and without superblock: levels from the top block down to the hashes of the
//! data, each in whole blocks. The parameters that a superblock would hold stand in the signed manifest.

use ring::digest::{SHA256, digest};

/// Size of data blocks and of hash blocks.
pub const BLOCK: usize = 4096;

/// Hashes in a block.
const FAN_OUT: usize = BLOCK / 32;

/// A finished tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// Blocks that it covers.
    pub data_blocks: u64,
    /// The hash of its top block.
    pub root: [u8; 32],
    /// What is written behind the data.
    pub bytes: Vec<u8>,
}

/// The tree over some data; `None` when that is empty or no whole number of blocks.
#[must_use]
pub fn tree(data: &[u8]) -> Option<Tree> {
    if data.is_empty() || !data.len().is_multiple_of(BLOCK) {
        return None;
    }
    let mut levels: Vec<Vec<u8>> = Vec::new();
    while let below = levels.last().map_or(data, Vec::as_slice)
        && below.len() > BLOCK
    {
        levels.push(level(below));
    }
    let root = hash(levels.last().map_or(data, Vec::as_slice));
    levels.reverse();
    let data_blocks = u64::try_from(data.len() / BLOCK).ok()?;
    Some(Tree { data_blocks, root, bytes: levels.concat() })
}

/// Length of so many blocks of data with their tree; `None` when no file is that long.
#[must_use]
pub fn size(data_blocks: u64) -> Option<u64> {
    let (block, fan_out) = (u64::try_from(BLOCK).ok()?, u64::try_from(FAN_OUT).ok()?);
    let (mut total, mut level) = (data_blocks, data_blocks);
    while level > 1 {
        level = level.div_ceil(fan_out);
        total = total.checked_add(level)?;
    }
    total.checked_mul(block)
}

/// The hashes of blocks, in whole blocks.
fn level(below: &[u8]) -> Vec<u8> {
    let mut bytes: Vec<u8> = below.chunks_exact(BLOCK).flat_map(hash).collect();
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    digest(&SHA256, bytes).as_ref().try_into().expect("a SHA-256 has 32 bytes")
}
