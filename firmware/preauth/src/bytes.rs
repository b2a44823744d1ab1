//! Numbers in tables, by offset. Offsets are constants of ours; what is not there reads as nothing.

/// The number at `offset`.
macro_rules! number {
    ($name:ident, $kind:ty) => {
        pub(crate) fn $name(bytes: &[u8], offset: usize) -> Option<$kind> {
            Some(<$kind>::from_le_bytes(*bytes.get(offset..)?.first_chunk()?))
        }
    };
}

number!(u16_at, u16);
number!(u32_at, u32);
number!(u64_at, u64);

/// Puts bytes at `offset` if there is room for them.
pub(crate) fn put(table: &mut [u8], offset: usize, bytes: &[u8]) {
    let rest = table.get_mut(offset..).unwrap_or_default();
    if let Some((place, _)) = rest.split_at_mut_checked(bytes.len()) {
        place.copy_from_slice(bytes);
    }
}
