//! The part of Bulkhead that runs inside a zone: one static program with three lives.
//!
//! As process 1 of a zone ([`init`]) it turns an initrd into a running system: modules, the template's
//! disk ([`verity`]) under a fresh overlay, the private disk on /home and the folders that are kept on it ([`kept`]), the network; then it starts itself again as the
//! agent and reaps. As the agent ([`serve`]) it connects to the host over vsock and answers: version, uptime,
//! named checks, shutdown. In a zone with its own init the agent is just a service,
//! and a second process of it ([`user`]) is the user's, in the user's login session; the root part knows of that session ([`session`]).
//!
//! It holds no secret and decides nothing: whoever is root in the zone can replace it, and the host treats it
//! so. It never listens on a network.

mod checks;
mod disks;
mod init;
mod kept;
mod kmsg;
mod netlink;
mod program;
mod serve;
mod session;
mod smbios;
mod user;
mod verity;
mod vsock;

use std::process::ExitCode;

/// Exit code with which the agent tells process 1 that the host wants the zone to power off.
const POWER_OFF: u8 = 77;

/// Set by [`init`] for the agent that it starts.
const UNDER_INIT: &str = "BULKHEAD_INIT";

fn main() -> ExitCode {
    if rustix::process::getpid().is_init() {
        init::run();
    }
    if std::env::args_os().nth(1).is_some_and(|word| word == user::WORD) {
        return user::run();
    }
    serve::run();
    if std::env::var_os(UNDER_INIT).is_some() {
        return ExitCode::from(POWER_OFF);
    }
    match program::power_off_by_system() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            kmsg::log(&format!("power off: {error}"));
            ExitCode::FAILURE
        }
    }
}
