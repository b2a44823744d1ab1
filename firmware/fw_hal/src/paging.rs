//! Page tables: addresses are physical ones; what is written is not executed (Intel SDM, volume 3, 4.5).
//!
//! Code is readable and executable, constants are readable, everything else is readable and writable. The first 2 MiB,
//! where the firmware lies, have small pages, other memory large ones. Of what is no memory only the device pages are
//! there, uncached.

use core::arch::asm;

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const UNCACHED: u64 = 1 << 3 | 1 << 4;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;

/// Sizes of pages, and what one directory maps.
const SMALL_PAGE: u64 = 4096;
const LARGE_PAGE: u64 = 2 << 20;
const GIB: u64 = 1 << 30;

/// One table.
#[derive(Debug)]
#[repr(C, align(4096))]
struct Table([u64; 512]);

impl Table {
    const EMPTY: Self = Self([0; 512]);

    /// Where it lies.
    fn address(&self) -> u64 {
        u64::try_from(self.0.as_ptr().addr()).unwrap_or_default()
    }

    /// Sets the entry of an address in a table whose entries map `step` bytes each.
    fn set(&mut self, address: u64, step: u64, entry: u64) {
        if let Some(place) = self.entry(address, step) {
            *place = entry;
        }
    }

    fn entry(&mut self, address: u64, step: u64) -> Option<&mut u64> {
        self.0.get_mut(usize::try_from(address / step % 512).unwrap_or_default())
    }
}

/// What the firmware consists of, in this order, each from a page's start to a page's end.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Code.
    pub text: (u64, u64),
    /// Constants.
    pub constants: (u64, u64),
    /// Memory is mapped up to here.
    pub reach: u64,
    /// Pages of registers, all in one large page above `reach`.
    pub devices: [u64; 2],
}

/// All tables.
#[derive(Debug)]
#[repr(C)]
pub struct Tables {
    root: Table,
    pointers: Table,
    directories: [Table; 4],
    first: Table,
    devices: Table,
}

impl Tables {
    /// Tables that map nothing.
    pub const EMPTY: Self = Self {
        root: Table::EMPTY,
        pointers: Table::EMPTY,
        directories: [Table::EMPTY; 4],
        first: Table::EMPTY,
        devices: Table::EMPTY,
    };

    /// Maps everything.
    pub fn fill(&mut self, layout: &Layout) {
        let step_down = PRESENT | WRITABLE;
        self.root.set(0, 512 * GIB, self.pointers.address() | step_down);
        for (start, directory) in (0..).step_by(1 << 30).zip(&self.directories) {
            self.pointers.set(start, GIB, directory.address() | step_down);
        }
        let large_pages = (LARGE_PAGE..layout.reach).step_by(2 << 20);
        for address in large_pages {
            self.set_large(address, address | LARGE | PRESENT | WRITABLE | NO_EXECUTE);
        }
        for address in (0..LARGE_PAGE).step_by(4096) {
            let within = |(start, end): (u64, u64)| (start..end).contains(&address);
            let rights = if within(layout.text) {
                PRESENT
            } else if within(layout.constants) {
                PRESENT | NO_EXECUTE
            } else {
                PRESENT | WRITABLE | NO_EXECUTE
            };
            self.first.set(address, SMALL_PAGE, address | rights);
        }
        self.set_large(0, self.first.address() | step_down);
        for address in layout.devices {
            let entry = address | PRESENT | WRITABLE | UNCACHED | NO_EXECUTE;
            self.devices.set(address, SMALL_PAGE, entry);
            self.set_large(address, self.devices.address() | step_down);
        }
    }

    /// Lets whoever comes next execute a range; the firmware's own constants stay what they are.
    pub fn let_execute(&mut self, start: u64, end: u64) {
        for address in (start / SMALL_PAGE * SMALL_PAGE..end.min(LARGE_PAGE)).step_by(4096) {
            if let Some(entry) = self.first.entry(address, SMALL_PAGE)
                && *entry & WRITABLE != 0
            {
                *entry &= !NO_EXECUTE;
            }
        }
        let first_large = (start / LARGE_PAGE * LARGE_PAGE).max(LARGE_PAGE);
        for address in (first_large..end).step_by(2 << 20) {
            if let Some(entry) = self.large(address)
                && *entry & LARGE != 0
            {
                *entry &= !NO_EXECUTE;
            }
        }
    }

    fn large(&mut self, address: u64) -> Option<&mut u64> {
        let directory = self.directories.get_mut(usize::try_from(address / GIB).ok()?)?;
        directory.entry(address, LARGE_PAGE)
    }

    fn set_large(&mut self, address: u64, entry: u64) {
        if let Some(place) = self.large(address) {
            *place = entry;
        }
    }

    /// Has the processor use them, or use them again after a change.
    ///
    /// # Safety
    /// 1. They are filled, lie at their physical address, and stay where they are while the processor uses them.
    /// 2. The code that runs, its stack and its objects are mapped as they were.
    pub unsafe fn load(&self) {
        let root = self.root.address();
        // SAFETY: the caller keeps both duties, so nothing that the program uses moves or goes.
        unsafe { asm!("mov cr3, {}", in(reg) root, options(nostack, preserves_flags)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: Layout = Layout {
        text: (0x10_0000, 0x10_4000),
        constants: (0x10_4000, 0x10_6000),
        reach: 0xC000_0000,
        devices: [0xFED4_0000, 0xFED5_0000],
    };

    fn tables() -> Box<Tables> {
        let mut tables = Box::new(Tables::EMPTY);
        tables.fill(&LAYOUT);
        tables
    }

    /// Walks the tables as the processor does: where an address leads, and with which rights.
    fn walk(tables: &Tables, address: u64) -> Option<(u64, u64)> {
        let all: Vec<&Table> = [&tables.root, &tables.pointers, &tables.first, &tables.devices]
            .into_iter()
            .chain(&tables.directories)
            .collect();
        let mut table = &tables.root;
        let mut rights = WRITABLE;
        let mut step = 512 * GIB;
        loop {
            let entry = table.0[usize::try_from(address / step % 512).unwrap()];
            if entry & PRESENT == 0 {
                return None;
            }
            let target = entry & 0xF_FFFF_FFFF_F000;
            rights = rights & entry & WRITABLE | (rights | entry) & NO_EXECUTE | entry & UNCACHED;
            if step == SMALL_PAGE || entry & LARGE != 0 {
                return Some((target + address % step, rights));
            }
            table = all.iter().find(|table| table.address() == target).unwrap();
            step /= 512;
        }
    }

    #[test]
    fn addresses_lead_to_themselves_and_nothing_is_both_written_and_executed() {
        let tables = tables();
        let data = WRITABLE | NO_EXECUTE;
        for (address, rights) in [
            (0, data),
            (0x6123, data),
            (0xF_0010, data),
            (0xF_FFFF, data),
            (0x10_0000, 0),
            (0x10_3FFF, 0),
            (0x10_4000, NO_EXECUTE),
            (0x10_5FFF, NO_EXECUTE),
            (0x10_6000, data),
            (0x1F_FFFF, data),
            (0x20_0000, data),
            (0x100_0000, data),
            (0x4000_0000, data),
            (0xBFFF_FFFF, data),
            (0xFED4_0FFF, data | UNCACHED),
            (0xFED5_0000, data | UNCACHED),
        ] {
            assert_eq!(walk(&tables, address), Some((address, rights)), "{address:#x}");
        }
        for address in [0xC000_0000, 0xFED3_F000, 0xFED4_1000, 0xFEC0_0000, 0xFEE0_0000, 0x1_0000_0000] {
            assert_eq!(walk(&tables, address), None, "{address:#x}");
        }
    }

    #[test]
    fn what_comes_next_may_be_executed_and_the_firmwares_constants_may_not() {
        let mut tables = tables();
        tables.let_execute(0x100_0000, 0x140_0001);
        tables.let_execute(0x9_E000, 0xA_0000);
        tables.let_execute(0x10_3000, 0x10_7000);
        for (address, rights) in [
            (0xFF_FFFF, WRITABLE | NO_EXECUTE),
            (0x100_0000, WRITABLE),
            (0x15F_FFFF, WRITABLE),
            (0x160_0000, WRITABLE | NO_EXECUTE),
            (0x9_DFFF, WRITABLE | NO_EXECUTE),
            (0x9_F000, WRITABLE),
            (0xA_0000, WRITABLE | NO_EXECUTE),
            (0x10_3000, 0),
            (0x10_4000, NO_EXECUTE),
            (0x10_6000, WRITABLE),
        ] {
            assert_eq!(walk(&tables, address), Some((address, rights)), "{address:#x}");
        }
        tables.let_execute(0, u64::MAX >> 20);
        assert_eq!(walk(&tables, 0xFED4_0000).map(|(_, rights)| rights & NO_EXECUTE), Some(NO_EXECUTE));
    }
}
