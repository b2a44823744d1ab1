//! What a zone's virtual TPM is started with: its control channel, the pipe of its key, and the folder of its state.
//!
//! The other ends go to `keeper`, never through `zoned`. The folder is empty at each start: the key that `keeper` has
//! for it is not one of an earlier start, so what an earlier one left could not be opened.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use anyhow::Context;
use init_protocol::ToKeeper;
use ipc::Channel;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::mounts;

/// Where the states are, a folder a zone. Nobody but `init` and the zone's TPM reaches it.
const STATES: &str = "/data/vtpm";

/// What the process gets.
#[derive(Debug)]
pub(crate) struct Given {
    /// By name, in the order that the program's arguments count on.
    pub(crate) descriptors: [(&'static str, OwnedFd); 2],
    /// Its state.
    pub(crate) folder: String,
}

/// `keeper` as `init` sees it, and what the next one needs of the TPMs that live.
#[derive(Debug, Default)]
pub(crate) struct Keeper {
    channel: Option<Channel>,
    /// The zone and `keeper`'s end of the control channel, by slot.
    living: BTreeMap<u8, (String, OwnedFd)>,
}

impl Keeper {
    /// A fresh channel for a `keeper` that is about to start, with all that lives in it; returns its end.
    ///
    /// # Errors
    /// No channel can be made, or it does not take everything.
    pub(crate) fn renew(&mut self) -> anyhow::Result<OwnedFd> {
        let (ours, theirs) = Channel::pair().context("make init's channel to keeper")?;
        ours.set_nonblocking().context("make init's channel to keeper")?;
        for (slot, (zone, control)) in &self.living {
            let lives = ToKeeper::TpmLives { slot: *slot, zone: zone.clone() };
            ours.send(&lives, &[control.as_fd()]).context("tell keeper of a TPM")?;
        }
        self.channel = Some(ours);
        Ok(theirs.into_descriptor())
    }

    /// The slot's TPM is gone, and its state opens for nobody any more.
    pub(crate) fn forget(&mut self, slot: u8) {
        if let Some((zone, _)) = self.living.remove(&slot) {
            // What cannot be removed now is removed before the next start.
            let _left = std::fs::remove_dir_all(PathBuf::from(STATES).join(zone));
        }
    }

    /// Makes what a TPM is started with, and hands the other ends to `keeper`.
    ///
    /// # Errors
    /// There is no room, or no keeper; nothing runs then.
    pub(crate) fn prepare(&mut self, slot: u8, zone: &str, user: u32) -> anyhow::Result<Given> {
        let keeper = self.channel.as_ref().context("keeper does not run")?;
        let folder = empty_folder(zone, user)?;
        let (control, of_keeper) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                .context("make its control channel")?;
        let (key, into_key) = pipe_with(PipeFlags::CLOEXEC).context("make the pipe of its key")?;
        let started = ToKeeper::TpmStarted { slot, zone: zone.to_owned() };
        keeper.send(&started, &[of_keeper.as_fd(), into_key.as_fd()]).context("tell keeper of it")?;
        self.living.insert(slot, (zone.to_owned(), of_keeper));
        Ok(Given { descriptors: [("control", control), ("key", key)], folder })
    }
}

/// The folder of a zone's state, empty.
fn empty_folder(zone: &str, user: u32) -> anyhow::Result<String> {
    let folder = PathBuf::from(STATES).join(zone);
    mounts::make_folder(STATES, 0o700)?;
    match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("empty {}", folder.display()));
        }
        Ok(()) | Err(_) => {}
    }
    let folder = folder.into_os_string().into_string().ok().context("the zone's name is text")?;
    mounts::make_folder(&folder, 0o700)?;
    mounts::give(folder.as_ref(), user, 0o700)?;
    Ok(folder)
}
