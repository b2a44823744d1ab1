//! Registers of the first processor at its first instruction.

use kvm_bindings::{Msrs, kvm_msr_entry, kvm_regs, kvm_segment};
use kvm_ioctls::VcpuFd;
use vmm_sys_util::errno;

/// CR0: protected mode, and the bit that always reads as one.
const CR0_PE_ET: u64 = 0x11;

/// Default memory type register: on, write-back. Without it the guest would run uncached on real hardware.
const MTRR_DEF_TYPE: (u32, u64) = (0x2FF, 1 << 11 | 6);

/// `IA32_MISC_ENABLE`: fast string operations.
const MISC_ENABLE: (u32, u64) = (0x1A0, 1);

/// Where and how the first processor starts: 32-bit protected mode, flat segments, no paging, as the PVH
/// boot protocol asks. The others wait for the guest to wake them.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// First instruction.
    pub instruction: u64,
    /// Physical address of the start-of-day structure, in EBX.
    pub start_info: u64,
}

/// Sets the first processor up.
pub(crate) fn set(vcpu: &VcpuFd, entry: Entry) -> Result<(), errno::Error> {
    let mut sregs = vcpu.get_sregs()?;
    sregs.cs = segment(0x08, 0xB, 1);
    let data = segment(0x10, 0x3, 1);
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.tr = kvm_segment { limit: 0x67, s: 0, g: 0, ..segment(0x18, 0xB, 0) };
    sregs.cr0 = CR0_PE_ET;
    sregs.cr4 = 0;
    sregs.efer = 0;
    vcpu.set_sregs(&sregs)?;
    vcpu.set_regs(&kvm_regs {
        rflags: 2,
        rip: entry.instruction,
        rbx: entry.start_info,
        ..Default::default()
    })
}

/// Sets what firmware would have set on every processor.
pub(crate) fn set_msrs(vcpu: &VcpuFd) -> Result<(), errno::Error> {
    let entries =
        [MTRR_DEF_TYPE, MISC_ENABLE].map(|(index, data)| kvm_msr_entry { index, data, ..Default::default() });
    let msrs = Msrs::from_entries(&entries).expect("two registers fit");
    // KVM stops at the first register that this machine does not have: none of them is worth giving up for.
    vcpu.set_msrs(&msrs).map(|_written| ())
}

/// A flat segment.
fn segment(selector: u16, type_: u8, db: u8) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: u32::MAX,
        selector,
        type_,
        present: 1,
        db,
        s: 1,
        g: 1,
        ..Default::default()
    }
}
