//! Hardware of the zone firmware: port I/O, MMIO and the CRB TPM interface, the unsafe island of `firmware/`.
//!
//! Its contents come with trusted login; see `preauth` for the split.
#![cfg_attr(not(test), no_std)]
