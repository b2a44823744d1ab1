//! `keeper`: the owner of TPMs.
//!
//! ```text
//!   machine's TPM -- unseals --> a zone's secret -- HKDF --> key of the state of the zone's own TPM, and what opens it
//!   zone's TPM    -- judges what was measured, gives out --> the disk's key (to init), what the login is made from (to the VMM)
//! ```
//! It alone speaks to the machine's TPM ([`secrets`]), and holds the control channels of the zones' virtual TPMs. `init`
//! tells it of each that was started; `zoned` asks it to begin one anew, with what is to be measured before the zone's
//! first instruction: the template's manifest, whose signature it checks itself. It drives the TPM ([`begin`], pure) and answers with the data channel and the start's login
//! record, which go to the zone's VMM.
//!
//! It never starts a process, never reads what a guest and its TPM say to each other, and never waits for one virtual TPM
//! while another one has something to say.

#![forbid(unsafe_code)]

mod begin;
mod certificate;
mod commands;
mod epochs;
mod keys;
mod pin;
mod recovery;
mod secrets;
mod store;
mod tpms;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::Context;
use approval::{Approvals, FIRMWARE};
use ipc::Channel;
use jail::inherited::Inherited;

/// The zones' firmware is smaller than this.
const MOST_FIRMWARE: u64 = 1024 * 1024;
/// What it keeps.
const STATE: &str = "/state";

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).without_time().init();
    let mut inherited = Inherited::from_environment();
    let init = Channel::from_descriptor(inherited.take("init").context("start")?);
    let zoned = Channel::from_descriptor(inherited.take("zoned").context("start")?);
    let mut read = |name: &str| -> anyhow::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::from(inherited.take(name)?).take(MOST_FIRMWARE).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let firmware = read("firmware").context("read the zones' firmware")?;
    let approvals = read("approvals").context("read the approvals")?;
    let templates = String::from_utf8(read("templates").context("read who signs templates")?);
    let rules = template::Rules::parse(&templates.context("read who signs templates")?);
    let rules = rules.context("read who signs templates")?;
    let Approvals { key, approved } = Approvals::decode(&approvals).context("read the approvals")?;
    let of_firmware = approved.iter().find(|approval| approval.purpose == FIRMWARE).cloned();
    let approval = of_firmware.context("the firmware is not approved")?;
    let zones = tpms::Image { firmware, key, approval, rules };
    let store = store::Store::open(Path::new(STATE)).context("open what is kept")?;
    let secrets = secrets::Hardware::new(secrets::DEVICE, store, key, approved);
    let mut tpms = tpms::Tpms::new(init, zoned, Box::new(secrets), zones)?;
    loop {
        tpms.turn(None)?;
    }
}
