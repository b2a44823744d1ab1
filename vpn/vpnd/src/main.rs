//! `vpnd`: the network of one zone. One process per zone.
//!
//! It is the vhost-user backend of the zone's network device and holds the zone's tunnel: frames of the guest become
//! WireGuard datagrams for `uplink`, and back. Everything comes as inherited descriptors (`vpn_protocol`): it opens no
//! file, makes no socket, and ends when the VMM, `uplink` or `zoned` closes its end.
//!
//! ```text
//!   guest memory  <-- rings -->  worker  <-- tunnel -->  uplink pair
//!        ^                         |
//!   vhost-user messages (VMM)      +--> status (zoned)
//! ```
//! One thread, one `poll`. Nothing that the guest or a peer sends ends the process; a broken vhost-user
//! conversation does, because the zone's own VMM holds it.

mod backend;
mod backlog;
mod config;
mod ports;
mod vring;
mod worker;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use anyhow::Context;
use ipc::Channel;
use jail::inherited::Inherited;
use vpn_protocol::VpndConfig;
use zeroize::Zeroizing;

use crate::worker::{Ended, Worker};

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::INFO)
        .with_ansi(false)
        .without_time()
        .with_writer(io::stderr)
        .init();
    let mut inherited = Inherited::from_environment();
    let config = match configuration(&mut inherited) {
        Ok(config) => config,
        Err(error) => {
            tracing::error!("{error:#}");
            return ExitCode::FAILURE;
        }
    };
    let _zone = tracing::info_span!("vpnd", zone = %config.zone).entered();
    match run(&mut inherited, config) {
        Ok(ended) => {
            tracing::info!("{ended}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn configuration(inherited: &mut Inherited) -> anyhow::Result<VpndConfig> {
    let descriptor = inherited.take("config").context("reading the configuration")?;
    config::read(descriptor).context("reading the configuration")
}

/// Reads the private key from its descriptor, which others may read, too.
fn key(descriptor: OwnedFd) -> io::Result<Zeroizing<[u8; 32]>> {
    let mut key = Zeroizing::new([0; 32]);
    let mut file = File::from(descriptor);
    file.seek(SeekFrom::Start(0))?;
    file.read_exact(&mut key[..])?;
    Ok(key)
}

fn run(inherited: &mut Inherited, config: VpndConfig) -> anyhow::Result<Ended> {
    let vhost = inherited.take("vhost")?.into();
    let uplink = inherited.take("uplink")?;
    let status = Channel::from_descriptor(inherited.take("status")?);
    let mut seed = [0_u8; 32];
    rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty())
        .context("drawing random bytes")?;
    let key = match config.private_key {
        Some(key) => Zeroizing::new(key),
        None => key(inherited.take("key")?).context("reading the private key")?,
    };
    let config = config::tunnel(config, &key, seed);
    Worker::new(&config, vhost, uplink, status).context("starting the tunnel")?.run()
}

#[cfg(test)]
mod tests;
