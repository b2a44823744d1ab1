//! `keeper`: the owner of TPMs.
//!
//! It alone holds the control channels of the zones' virtual TPMs. `init` tells it of each that was started; `zoned`
//! asks it to begin one anew, with what is to be measured before the zone's first instruction. It drives the TPM
//! ([`begin`], pure) and answers with the data channel, which goes to the zone's VMM.
//!
//! It never opens a file, never starts a process, never reads what a guest and its TPM say to each other, and never waits
//! for one TPM while another one has something to say.

#![forbid(unsafe_code)]

mod begin;
mod commands;
mod keys;
mod tpms;

use std::fs::File;
use std::io::Read;

use anyhow::Context;
use ipc::Channel;
use jail::inherited::Inherited;

/// The zones' firmware is smaller than this.
const MOST_FIRMWARE: u64 = 1024 * 1024;

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).without_time().init();
    let mut inherited = Inherited::from_environment();
    let init = Channel::from_descriptor(inherited.take("init").context("start")?);
    let zoned = Channel::from_descriptor(inherited.take("zoned").context("start")?);
    let mut firmware = Vec::new();
    File::from(inherited.take("firmware").context("start")?)
        .take(MOST_FIRMWARE)
        .read_to_end(&mut firmware)
        .context("read the zones' firmware")?;
    let mut tpms = tpms::Tpms::new(init, zoned, Box::new(keys::UnkeptKeys), firmware)?;
    loop {
        tpms.turn(None)?;
    }
}
