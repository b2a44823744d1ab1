//! One virtual machine: memory slots, interrupt controllers, ioeventfds.

use std::io;
use std::sync::Arc;

use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, kvm_userspace_memory_region};
use kvm_ioctls::{Cap, IoEventAddress, NoDatamatch, VmFd};
use vm_memory::{Address, GuestMemoryBackend, GuestMemoryRegion, MemoryRegionAddress};
use vmm_sys_util::errno;
use vmm_sys_util::eventfd::EventFd;

use crate::boot_state::{self, Entry};
use crate::cpuid::{self, Place};
use crate::{GuestRam, Kvm, MsiRouter, ReadPages, Vcpu};

/// The most processors of one machine.
pub const MAX_VCPUS: u8 = 8;

/// Three pages that Intel's KVM wants for itself, and one more; above every device, below 4 GiB.
const TSS_ADDRESS: usize = 0xFFFB_D000;
const IDENTITY_MAP_ADDRESS: u64 = 0xFFFB_C000;

/// Why a machine was not built.
#[derive(Debug, thiserror::Error)]
pub enum BuildVmError {
    /// A KVM call.
    #[error("KVM: {call}")]
    Kvm {
        /// What was asked for.
        call: &'static str,
        /// What it answered.
        #[source]
        source: errno::Error,
    },
    /// The number of processors.
    #[error("{0} processors, expected 1 to {MAX_VCPUS}")]
    Vcpus(u8),
    /// KVM reports more CPUID leaves than it takes.
    #[error("too many CPUID leaves")]
    Cpuid,
}

/// Names the call that failed.
fn call(call: &'static str) -> impl FnOnce(errno::Error) -> BuildVmError {
    move |source| BuildVmError::Kvm { call, source }
}

/// Makes the kernel's part of a machine with `ram` and interrupt controllers.
fn create(kvm: &Kvm, ram: &GuestRam) -> Result<VmFd, BuildVmError> {
    let descriptor = kvm.system.create_vm().map_err(call("create machine"))?;
    if kvm.system.check_extension(Cap::SetTssAddr) {
        descriptor.set_tss_address(TSS_ADDRESS).map_err(call("place task state"))?;
    }
    if kvm.system.check_extension(Cap::SetIdentityMapAddr) {
        descriptor.set_identity_map_address(IDENTITY_MAP_ADDRESS).map_err(call("place identity map"))?;
    }
    descriptor.create_irq_chip().map_err(call("create interrupt controllers"))?;
    for (slot, region) in (0..).zip(ram.memory.iter()) {
        let host = region
            .get_host_address(MemoryRegionAddress(0))
            .expect("a region of ours is mapped from its first byte");
        let region = kvm_userspace_memory_region {
            slot,
            flags: 0,
            guest_phys_addr: region.start_addr().raw_value(),
            memory_size: region.len(),
            userspace_addr: u64::try_from(host.addr()).expect("addresses have 64 bits"),
        };
        // SAFETY: the range is one mapping of `ram`, which `Vm` and every `Vcpu` keep mapped; it is
        // only reached by volatile copies, so the guest's writes break no reference.
        unsafe { descriptor.set_user_memory_region(region) }.map_err(call("map guest memory"))?;
    }
    Ok(descriptor)
}

/// Binds a guest's writes at `address` to `event`.
fn bind(vm: &VmFd, event: &EventFd, address: u64) -> Result<(), errno::Error> {
    vm.register_ioevent(event, &IoEventAddress::Mmio(address), NoDatamatch)
}

/// A virtual machine.
#[derive(Debug)]
pub struct Vm {
    descriptor: Arc<VmFd>,
    supported: CpuId,
    tsc_deadline: bool,
    /// The slots point into its mapping, so it lives as long as the machine and its processors.
    ram: GuestRam,
    router: Arc<MsiRouter>,
    pages: Arc<ReadPages>,
    /// What [`Vm::notify_on_write`] bound.
    notifications: Vec<(EventFd, u64)>,
}

impl Vm {
    /// Makes a machine with `ram` and in-kernel interrupt controllers, no processor yet.
    ///
    /// # Errors
    /// [`BuildVmError`].
    pub fn new(kvm: &Kvm, ram: GuestRam) -> Result<Self, BuildVmError> {
        let descriptor = Arc::new(create(kvm, &ram)?);
        let supported =
            kvm.system.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(call("read supported CPUID"))?;
        let tsc_deadline = kvm.system.check_extension(Cap::TscDeadlineTimer);
        let router = Arc::new(MsiRouter::new(Arc::clone(&descriptor)));
        let pages = Arc::new(ReadPages::new(Arc::clone(&descriptor)));
        Ok(Self { descriptor, supported, tsc_deadline, ram, router, pages, notifications: Vec::new() })
    }

    /// Back to the state at power-on: the kernel's part of the machine is made anew, so that nothing of its
    /// processors, interrupt controllers and clocks is left; memory, notifications and vectors stay, pages to read are
    /// to be shown again. All processors of the old one have ended and been dropped, and every vector is muted.
    ///
    /// # Errors
    /// [`BuildVmError`]; the machine is of no use then.
    pub fn reset(&mut self, kvm: &Kvm) -> Result<(), BuildVmError> {
        let descriptor = Arc::new(create(kvm, &self.ram)?);
        for (event, address) in &self.notifications {
            bind(&descriptor, event, *address).map_err(call("bind a notification"))?;
        }
        self.router.move_to(Arc::clone(&descriptor));
        self.pages.move_to(Arc::clone(&descriptor));
        self.descriptor = descriptor;
        Ok(())
    }

    /// The guest's memory.
    #[must_use]
    pub fn ram(&self) -> &GuestRam {
        &self.ram
    }

    /// Makes vectors.
    #[must_use]
    pub fn msi_router(&self) -> Arc<MsiRouter> {
        Arc::clone(&self.router)
    }

    /// Shows pages that the guest reads by itself.
    #[must_use]
    pub fn read_pages(&self) -> Arc<ReadPages> {
        Arc::clone(&self.pages)
    }

    /// Lets a guest's write of any width and value at `address` bump `event`, without leaving the kernel.
    ///
    /// # Errors
    /// What KVM reports.
    pub fn notify_on_write(&mut self, event: &EventFd, address: u64) -> io::Result<()> {
        let kept = event.try_clone()?;
        bind(&self.descriptor, event, address)
            .map_err(|error| io::Error::from_raw_os_error(error.errno()))?;
        self.notifications.push((kept, address));
        Ok(())
    }

    /// Makes all processors: the first one will start at `entry`, the others wait for it to wake them.
    ///
    /// # Errors
    /// [`BuildVmError`].
    pub fn vcpus(&self, count: u8, entry: Entry) -> Result<Vec<Vcpu>, BuildVmError> {
        if count == 0 || count > MAX_VCPUS {
            return Err(BuildVmError::Vcpus(count));
        }
        (0..count).map(|index| self.vcpu(index, count, entry)).collect()
    }

    /// Makes one processor.
    fn vcpu(&self, index: u8, count: u8, entry: Entry) -> Result<Vcpu, BuildVmError> {
        let vcpu = self.descriptor.create_vcpu(u64::from(index)).map_err(call("create processor"))?;
        // Without an answer the guest finds out by itself, as on any other machine.
        let tsc_khz = vcpu.get_tsc_khz().unwrap_or(0);
        let place = Place { index, count, tsc_deadline: self.tsc_deadline, tsc_khz };
        let leaves = cpuid::for_processor(self.supported.as_slice(), place);
        let cpuid = CpuId::from_entries(&leaves).map_err(|_too_many| BuildVmError::Cpuid)?;
        vcpu.set_cpuid2(&cpuid).map_err(call("set CPUID"))?;
        boot_state::set_msrs(&vcpu).map_err(call("set model registers"))?;
        if index == 0 {
            boot_state::set(&vcpu, entry).map_err(call("set registers"))?;
        }
        Ok(Vcpu::new(index, vcpu, self.ram.clone()))
    }
}
