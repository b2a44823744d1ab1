//! The audit log: typed events in a chain of hashes, bounded in size, one line of JSON each.
//!
//! [`event`] says what can happen, [`record`] how one event is a line, [`log`] which bytes go into which file
//! when an event comes (files are *segments*; the oldest is dropped when there are too many), [`verify`] finds
//! any record that was altered, removed or reordered, [`area`] lays the segments into one file of fixed size.
//!
//! A record holds the hash of the record before it, and its own hash covers that. A chain without a key does not
//! stop somebody who may write the whole log from writing another one, nor from cutting its end off: whoever wants
//! to know that compares with a [`record::Head`] that was kept elsewhere ([`Log::head`] is the value to keep). Dropped segments do not break the chain: the drop is a record that
//! names the last dropped one, and the first record that is left must be its successor.
//!
//! Pure: time, bytes of files and the boot's name are arguments; what to do with files comes out as
//! [`log::Action`]s. It never opens a file, never reads a clock and never fails because of what a file contains.

#![forbid(unsafe_code)]

pub mod area;
mod budgets;
pub mod event;
pub mod log;
mod ration;
pub mod record;
pub mod verify;

pub use event::Event;
pub use log::{Limits, Log};
pub use record::{Head, Record, Stamp};
pub use verify::{Fault, verify};

#[cfg(test)]
mod tests;
