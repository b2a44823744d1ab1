//! Device models of a zone's machine: what a guest can see and touch.
//!
//! No unsafe code, no KVM: a model gets guest memory, event descriptors and an interrupt as values. Every
//! byte that comes from the guest is a claim; a guest that breaks the rules gets a device that needs reset,
//! never a panic, never unbounded memory, never an unbounded log.

#![forbid(unsafe_code)]
// Every number may be the guest's.
#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::panic_in_result_fn)
)]

pub mod mailbox;
pub mod pci;
pub mod power;
pub mod pvpanic;
pub mod tpm_crb;
pub mod virtio;
