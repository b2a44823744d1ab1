//! Pages that a guest reads without leaving itself, while its writes to them still come to the exit handler.
//!
//! For registers that have no effect when they are read. What is in a page is the owner's to keep true.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kvm_bindings::{KVM_MEM_READONLY, kvm_userspace_memory_region};
use kvm_ioctls::{Cap, VmFd};
use vm_memory::{Bytes, GuestAddress, GuestMemoryRegion, GuestRegionMmap, MemoryRegionAddress};
use vmm_sys_util::errno;

/// Size of a page.
const PAGE: u64 = 4096;

/// The first of the slots; those below are the guest's memory.
const FIRST_SLOT: u32 = 16;

/// The pages of one machine.
#[derive(Debug)]
pub struct ReadPages(Mutex<Pages>);

#[derive(Debug)]
struct Pages {
    vm: Arc<VmFd>,
    /// KVM has such pages at all.
    available: bool,
    /// Slot number `FIRST_SLOT + index` each. The mapping of a shown page lives as long as this process: a slot of
    /// the kernel's may point to it.
    pages: Vec<Page>,
}

#[derive(Debug)]
struct Page {
    address: u64,
    content: GuestRegionMmap<()>,
    shown: bool,
}

impl ReadPages {
    pub(crate) fn new(vm: Arc<VmFd>) -> Self {
        let available = vm.check_extension(Cap::ReadonlyMem);
        Self(Mutex::new(Pages { vm, available, pages: Vec::new() }))
    }

    fn lock(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the page at the guest-physical `address`, a multiple of its size, hold `content` and zeroes. Reads that
    /// run meanwhile see each aligned 32-bit word as it was or as it is. Where KVM has no such pages nothing happens,
    /// and reads go on coming to the handler.
    ///
    /// # Errors
    /// What mapping and KVM report; the page is not shown then.
    pub fn show(&self, address: u64, content: &[u8]) -> io::Result<()> {
        let mut pages = self.lock();
        let Pages { vm, available, pages } = &mut *pages;
        if !*available {
            return Ok(());
        }
        let index = match pages.iter().position(|page| page.address == address) {
            Some(index) => index,
            None => {
                let size = usize::try_from(PAGE).expect("a page");
                let content = GuestRegionMmap::from_range(GuestAddress(address), size, None)
                    .map_err(io::Error::other)?;
                pages.push(Page { address, content, shown: false });
                pages.len() - 1
            }
        };
        let page = pages.get_mut(index).expect("it was found, or just made");
        for (offset, word) in (0..PAGE).step_by(4).zip(content.chunks(4)) {
            let mut bytes = [0; 4];
            bytes.iter_mut().zip(word).for_each(|(byte, new)| *byte = *new);
            page.content
                .store(u32::from_ne_bytes(bytes), MemoryRegionAddress(offset), Ordering::Relaxed)
                .map_err(io::Error::other)?;
        }
        if !page.shown {
            set_slot(vm, index, page, PAGE)?;
            page.shown = true;
        }
        Ok(())
    }

    /// Reads of the page at `address` come to the handler from now on.
    ///
    /// # Errors
    /// What KVM reports; the page is still shown.
    pub fn hide(&self, address: u64) -> io::Result<()> {
        let mut pages = self.lock();
        let Pages { vm, pages, .. } = &mut *pages;
        if let Some((index, page)) =
            pages.iter_mut().enumerate().find(|(_, page)| page.address == address && page.shown)
        {
            set_slot(vm, index, page, 0)?;
            page.shown = false;
        }
        Ok(())
    }

    /// From now on this is about another machine, which shows nothing yet.
    pub(crate) fn move_to(&self, vm: Arc<VmFd>) {
        let mut pages = self.lock();
        pages.vm = vm;
        pages.pages.iter_mut().for_each(|page| page.shown = false);
    }
}

/// Puts a page into its slot, or with `size` zero out of it.
fn set_slot(vm: &VmFd, index: usize, page: &Page, size: u64) -> io::Result<()> {
    let host = page.content.get_host_address(MemoryRegionAddress(0)).map_err(io::Error::other)?;
    let region = kvm_userspace_memory_region {
        slot: FIRST_SLOT + u32::try_from(index).map_err(io::Error::other)?,
        flags: KVM_MEM_READONLY,
        guest_phys_addr: page.address,
        memory_size: size,
        userspace_addr: u64::try_from(host.addr()).expect("addresses have 64 bits"),
    };
    // SAFETY: the range is the page's own mapping, which stays while `ReadPages` lives, and that is longer than any
    // processor runs; nobody holds a reference into it.
    unsafe { vm.set_user_memory_region(region) }.map_err(into_io)
}

/// The crate's error as the standard one.
fn into_io(error: errno::Error) -> io::Error {
    io::Error::from_raw_os_error(error.errno())
}
