//! Pre-boot authentication: the state machine that takes a zone's credential, caps the PCRs and hands over.
//!
//! Its contents come with trusted login; the crate stands so that the split of `firmware/` is fixed: this
//! one decides and never touches hardware, `fw_hal` touches hardware and never decides, `zone_fw` wires.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
