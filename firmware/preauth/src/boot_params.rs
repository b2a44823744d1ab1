//! The kernel's boot parameters ("zero page"; Linux, Documentation/arch/x86/{boot,zero-page}.rst).

use crate::bytes::put;
use crate::kernel::SetUp;
use crate::memory::Map;
use crate::pvh::Start;

/// Offsets of fields.
const RSDP: usize = 0x070;
const MAP_ENTRIES: usize = 0x1E8;
/// Start of the set-up header, which a bzImage brings.
pub(crate) const HEADER: usize = 0x1F1;
/// End of the room for it.
pub(crate) const HEADER_END: usize = 0x290;
const BOOT_FLAG: usize = 0x1FE;
const MAGIC: usize = 0x202;
const VERSION: usize = 0x206;
const LOADER: usize = 0x210;
const LOAD_FLAGS: usize = 0x211;
const INITRD: usize = 0x218;
const INITRD_SIZE: usize = 0x21C;
const COMMAND_LINE: usize = 0x228;
const ALIGNMENT: usize = 0x230;
const COMMAND_LINE_SIZE: usize = 0x238;
const MAP: usize = 0x2D0;
/// Bytes of an entry of the map.
const ENTRY: usize = 20;

/// A loader without a number of its own.
const UNDEFINED_LOADER: u8 = 0xFF;
/// The kernel is not below 1 MiB.
const LOADED_HIGH: u8 = 1;

/// The page.
#[derive(Debug)]
#[repr(C, align(4096))]
pub struct BootParams([u8; 4096]);

impl BootParams {
    pub(crate) const fn new() -> Self {
        Self([0; 4096])
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 4096] {
        &self.0
    }

    /// Fills it for a start.
    pub(crate) fn fill(&mut self, start: &Start, set_up: &SetUp) {
        let page = &mut self.0;
        page.fill(0);
        match set_up.header() {
            Some(header) => put(page, HEADER, header),
            // An ELF file has none: what every kernel of these days would say.
            None => {
                put(page, BOOT_FLAG, &[0x55, 0xAA]);
                put(page, MAGIC, b"HdrS");
                put(page, VERSION, &0x020F_u16.to_le_bytes());
                put(page, ALIGNMENT, &0x0100_0000_u32.to_le_bytes());
                put(page, COMMAND_LINE_SIZE, &2047_u32.to_le_bytes());
            }
        }
        let flags = page.get(LOAD_FLAGS).copied().unwrap_or_default();
        put(page, LOADER, &[UNDEFINED_LOADER, flags | LOADED_HIGH]);
        let initrd = start.initrd.map_or((0, 0), |initrd| (initrd.start, initrd.size()));
        put(page, INITRD, &low(initrd.0));
        put(page, INITRD_SIZE, &low(initrd.1));
        put(page, COMMAND_LINE, &low(start.command_line.start));
        put(page, RSDP, &start.rsdp.to_le_bytes());
        put_map(page, &start.map);
    }
}

/// A number below 4 GiB: [`crate::pvh::read`] has seen to that.
fn low(number: u64) -> [u8; 4] {
    u32::try_from(number).unwrap_or_default().to_le_bytes()
}

fn put_map(page: &mut [u8; 4096], map: &Map) {
    let entries = map.entries();
    put(page, MAP_ENTRIES, &[u8::try_from(entries.len()).unwrap_or_default()]);
    for (number, entry) in entries.iter().enumerate() {
        let offset = MAP.saturating_add(number.saturating_mul(ENTRY));
        put(page, offset, &entry.range.start.to_le_bytes());
        put(page, offset.saturating_add(8), &entry.range.size().to_le_bytes());
        put(page, offset.saturating_add(16), &entry.kind.to_le_bytes());
    }
}
