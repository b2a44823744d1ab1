//! What a hostile VMM and a hostile guest reach, for `tests/fuzz`. The program itself is `main.rs`.

mod backend;
mod backlog;
mod config;
mod ports;
mod vring;
mod worker;

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use ipc::Channel;

/// Serves a zone until one of its peers goes away; how it ended, in words.
///
/// # Errors
/// The program would end with this error.
pub fn serve(
    config: &tunnel::Config,
    vhost: UnixStream,
    uplink: OwnedFd,
    status: Channel,
) -> anyhow::Result<String> {
    worker::Worker::new(config, vhost, uplink, status)?.run().map(|ended| ended.to_string())
}

/// Reads a configuration; whether it is one.
#[must_use]
pub fn is_config(descriptor: OwnedFd) -> bool {
    config::read(descriptor).is_ok_and(|read| {
        tunnel::Tunnel::new(&config::tunnel(read, &[2; 32], [1; 32]), std::time::Duration::ZERO).is_ok()
    })
}
