//! Device models of a zone's machine: what a guest can see and touch.
//!
//! No unsafe code, no KVM: a model gets guest memory, event descriptors and an interrupt as values. Every
//! byte that comes from the guest is a claim; a guest that breaks the rules gets a device that needs reset,
//! never a panic, never unbounded memory, never an unbounded log.

#![forbid(unsafe_code)]

pub mod virtio;
