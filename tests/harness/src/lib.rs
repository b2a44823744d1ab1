//! Drives one Bulkhead host in QEMU, for system tests, demo and benchmarks.
//!
//! [`Machine::boot`] starts QEMU with kernel, initramfs segments, data disk, NIC, screen and touch screen
//! ([`command_line`]) and a TPM ([`tpm`]); the demo network runs in this process. From then on a test reads the console
//! ([`serial`]), looks at the screen ([`picture`]), touches it ([`qmp`]), and asks the host through the test
//! bridge ([`bridge`], [`zones`]). What lies in the host's memory is seen from outside ([`memory`]).
//!
//! Nothing waits without a deadline and nothing sleeps. Dropping a machine ends QEMU; so does the end of this
//! process, however it comes. When a test panics, the machine prints where its console log is, and the log's
//! end; what a machine looks like when it does not answer is written down by [`evidence`].

pub mod accelerator;
pub mod bridge;
pub mod command_line;
pub mod evidence;
pub mod machine;
pub mod memory;
pub mod picture;
mod process;
pub mod qmp;
pub mod serial;
mod socket;
mod stub;
pub mod tpm;
pub mod zones;

pub use command_line::{Pointer, QemuProgram, Screen};
pub use machine::{BootError, Machine, MachineConfig};
pub use picture::{Colour, Picture};
pub use tpm::{TpmConfig, commands as tpm_commands};

use std::time::{Duration, Instant};

/// The moment `seconds` from now.
#[must_use]
pub fn within(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

/// The time that is left until `deadline`; zero when it passed.
#[must_use]
pub fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

#[cfg(test)]
mod tests;
