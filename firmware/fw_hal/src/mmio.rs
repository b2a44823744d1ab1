//! Pages of registers.

use core::hint::spin_loop;
use core::ptr;

use crate::crb::Registers;

/// One page of registers.
#[derive(Debug)]
pub struct Page {
    start: u64,
}

impl Page {
    /// Size of a page.
    const SIZE: u64 = 4096;

    /// The page at `start`.
    ///
    /// # Safety
    /// 1. It is mapped at its own address for as long as this lives, uncached, and holds registers, not memory.
    /// 2. Reading and writing them harms nothing of the program.
    #[must_use]
    pub unsafe fn new(start: u64) -> Self {
        Self { start }
    }

    /// Where `offset` is, which leaves room for a value of `size` bytes.
    fn place<T>(&self, offset: u64) -> *mut T {
        let size = u64::try_from(size_of::<T>()).unwrap_or(Self::SIZE);
        assert!(offset.is_multiple_of(size) && offset < Self::SIZE, "registers are inside of their page");
        ptr::with_exposed_provenance_mut(usize::try_from(self.start | offset).unwrap_or_default())
    }

    /// Eight bytes at once.
    #[must_use]
    pub fn read_eight(&mut self, offset: u64) -> [u8; 8] {
        let place = self.place::<u64>(offset);
        // SAFETY: `place` is aligned and inside of the page, which duty 1 of `new` keeps mapped.
        let value = unsafe { place.read_volatile() };
        value.to_le_bytes()
    }
}

impl Registers for Page {
    fn read(&mut self, offset: u64) -> u32 {
        let place = self.place::<u32>(offset);
        // SAFETY: `place` is aligned and inside of the page, which duty 1 of `new` keeps mapped.
        unsafe { place.read_volatile() }
    }

    fn write(&mut self, offset: u64, value: u32) {
        let place = self.place::<u32>(offset);
        // SAFETY: as for `read`; duty 2 of `new` allows what the write does.
        unsafe { place.write_volatile(value) }
    }

    fn pause(&mut self, turns: u32) {
        (0..turns).for_each(|_| spin_loop());
    }
}
