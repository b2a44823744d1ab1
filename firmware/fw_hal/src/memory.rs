//! The machine's memory outside of the firmware.

use core::ptr;

/// All memory below `reach` but the firmware's own. Whether an address is memory at all is the caller's to know: there is
/// nothing behind one that is not, and reading it gives all ones.
#[derive(Debug)]
pub struct Physical {
    reach: u64,
    own: (u64, u64),
}

impl Physical {
    /// Memory up to `reach`, without `own` (from, up to).
    ///
    /// # Safety
    /// 1. All of it is mapped at its own address, readable and writable, for as long as this lives.
    /// 2. No object of the program, its stack and code included, lies outside of `own`.
    #[must_use]
    pub unsafe fn new(reach: u64, own: (u64, u64)) -> Self {
        Self { reach, own }
    }

    /// Where a piece is, if it lies inside and apart from the firmware.
    fn place(&self, start: u64, size: u64) -> Option<*mut u8> {
        let end = start.checked_add(size)?;
        let apart = end <= self.own.0 || start >= self.own.1;
        let address = usize::try_from(start).ok()?;
        (apart && end <= self.reach).then(|| ptr::with_exposed_provenance_mut(address))
    }

    /// Fills `out` from `start` on; no, if that is not all here.
    #[must_use]
    pub fn read(&self, start: u64, out: &mut [u8]) -> bool {
        let size = u64::try_from(out.len()).unwrap_or(u64::MAX);
        let Some(place) = self.place(start, size) else { return false };
        // SAFETY: `place` is mapped for the whole length (duty 1 of `new`); `out` is an object of the program, so it lies
        // elsewhere (duty 2).
        unsafe { ptr::copy_nonoverlapping(place.cast_const(), out.as_mut_ptr(), out.len()) };
        true
    }

    /// Writes bytes; no, if their place is not all here.
    #[must_use]
    pub fn write(&mut self, start: u64, bytes: &[u8]) -> bool {
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let Some(place) = self.place(start, size) else { return false };
        // SAFETY: as for `read`, the other way round.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), place, bytes.len()) };
        true
    }

    /// Moves bytes, also to a place that overlaps theirs; no, if one of both is not all here.
    #[must_use]
    pub fn relocate(&mut self, from: u64, to: u64, size: u64) -> bool {
        let Ok(count) = usize::try_from(size) else { return false };
        let (Some(source), Some(target)) = (self.place(from, size), self.place(to, size)) else {
            return false;
        };
        // SAFETY: both are mapped for the whole length (duty 1 of `new`) and hold no object (duty 2).
        unsafe { ptr::copy(source.cast_const(), target, count) };
        true
    }

    /// Fills with zeros; no, if the place is not all here.
    #[must_use]
    pub fn clear(&mut self, start: u64, size: u64) -> bool {
        let Ok(count) = usize::try_from(size) else { return false };
        let Some(place) = self.place(start, size) else { return false };
        // SAFETY: it is mapped for the whole length (duty 1 of `new`) and holds no object (duty 2).
        unsafe { ptr::write_bytes(place, 0, count) };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_inside_and_not_the_firmwares_is_touched() {
        let mut memory = vec![1_u8; 0x3000];
        let start = u64::try_from(memory.as_mut_ptr().expose_provenance()).unwrap();
        let own = (start + 0x1000, start + 0x2000);
        // SAFETY: all addresses below are in `memory`, which lives longer, or are refused.
        let mut physical = unsafe { Physical::new(start + 0x3000, own) };
        let mut four = [0; 4];
        for (at, expected) in [
            (0, true),
            (0xFFC, true),
            (0xFFD, false),
            (0x1FFF, false),
            (0x2000, true),
            (0x2FFC, true),
            (0x2FFD, false),
            (u64::MAX - start - 1, false),
        ] {
            assert_eq!(physical.read(start + at, &mut four), expected, "{at:#x}");
            assert_eq!(physical.write(start + at, &[7; 4]), expected, "{at:#x}");
            assert_eq!(physical.clear(start + at, 4), expected, "{at:#x}");
            assert_eq!(physical.relocate(start + at, start, 4), expected, "{at:#x}");
            assert_eq!(physical.relocate(start, start + at, 4), expected, "{at:#x}");
        }
        assert!(physical.write(start, &[1, 2, 3, 4]) && physical.relocate(start, start + 1, 4));
        assert!(physical.clear(start, 1) && physical.read(start, &mut four));
        assert_eq!(four, [0, 1, 2, 3]);
    }
}
