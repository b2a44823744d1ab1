//! `gateway`: the demo network as a program, for interactive runs of the demo.
//!
//! `gateway --socket PATH --keys FOLDER [--pcap FILE]` serves QEMU's NIC until it is killed or its standard
//! input ends: whoever started it holds the other end, so it cannot outlive a crashed parent. It keeps no
//! frames in memory.

use std::io::Read;
use std::path::PathBuf;

use anyhow::{Context, bail};
use gateway::{Config, Keys};

const USAGE: &str = "usage: gateway --socket PATH --keys FOLDER [--pcap FILE]";

fn main() -> anyhow::Result<()> {
    let config = parse(std::env::args().skip(1))?;
    let gateway = gateway::start(config).context("start the demo network")?;
    let mut ignored = [0; 64];
    // Blocks until the parent is gone.
    while std::io::stdin().read(&mut ignored).context("wait on standard input")? > 0 {}
    gateway.stop();
    Ok(())
}

fn parse(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Config> {
    let (mut socket, mut keys, mut pcap) = (None, None, None);
    while let Some(name) = arguments.next() {
        let place = match name.as_str() {
            "--socket" => &mut socket,
            "--keys" => &mut keys,
            "--pcap" => &mut pcap,
            other => bail!("unknown argument {other:?}; {USAGE}"),
        };
        *place =
            Some(PathBuf::from(arguments.next().with_context(|| format!("{name} needs a value; {USAGE}"))?));
    }
    let keys: PathBuf = keys.context(USAGE)?;
    Ok(Config {
        socket: socket.context(USAGE)?,
        keys: Keys::from_folder(&keys).context("load the demo's keys")?,
        pcap,
        record_bytes: 0,
    })
}
