//! The system tests: what a user, an administrator and an attacker would see of the whole host, in QEMU.
//!
//! [`registry`] says what a test is, [`plan`] which are wanted, [`cases`] are the tests, [`world`] is what they share: one booted machine,
//! because a boot costs more than most tests. [`runner`] runs a selection. The program `system` is what
//! `./bulkhead test` and `./bulkhead run` start; `raw_frames` is an attack that runs inside a zone, with
//! [`attack`] as its brain, and `records` writes there what no crash may lose.
//!
//! A test fails by returning an error. None of them can pass without a machine, but those of the build's files.

pub mod artifacts;
pub mod attack;
pub mod cases;
pub mod cpio;
pub mod demo;
pub mod disk;
pub mod hostile;
pub mod opening;
pub mod plan;
pub mod records;
pub mod registry;
pub mod report;
pub mod runner;
pub mod secrets;
pub mod things;
pub mod world;
pub mod write_log;
