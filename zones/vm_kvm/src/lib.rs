//! KVM and guest memory: the unsafe island of the virtual machine monitor.
//!
//! ```text
//!   Kvm --create--> Vm (in-kernel irqchip, memory slots) --vcpu--> Vcpu --start--> VcpuThread --join--> VcpuExitReason
//!                    |                                                                  ^
//!                    +-- MsiRouter: one event descriptor a vector                       +-- kick: out of the guest, for good
//!                    +-- reset: another machine in the kernel, same memory, vectors and notifications
//! ```
//! Everything outside sees values, event descriptors and the [`ExitHandler`]; what the guest does with a port
//! or an address is none of this crate's business. It never opens a file: `/dev/kvm` comes as a descriptor. It
//! never makes a Rust reference into guest memory.
#![expect(
    unsafe_code,
    reason = "KVM calls on memory that we map, and a flag in the page shared with the kernel"
)]

mod boot_state;
mod cpuid;
mod kvm;
mod memory;
mod msi;
mod read_pages;
mod vcpu;
mod vm;

pub use boot_state::Entry;
pub use kvm::{Kvm, OpenKvmError};
pub use memory::{GuestRam, HIGH_START, LOW_LIMIT, MapMemoryError};
pub use msi::{MsiMessage, MsiRouter, MsiVector};
pub use read_pages::ReadPages;
pub use vcpu::{ExitCounters, ExitHandler, Next, Vcpu, VcpuExitReason, VcpuThread, Work};
pub use vm::{BuildVmError, MAX_VCPUS, Vm};

#[cfg(test)]
mod tests;
