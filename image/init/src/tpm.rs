//! What a zone's virtual TPM is started with: its control channel, the pipe of its key, and the folder of its state; and the
//! keys of private disks, which come back from `keeper`.
//!
//! The other ends go to `keeper`, never through `zoned`. The state stays from one start to the next, encrypted with a key
//! that `keeper` has from the machine's TPM; that of a disposable zone goes with it. A disk's key is a pipe that nobody
//! reads before the disk is opened: `init` itself holds no key any longer than that takes.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use anyhow::Context;
use init_protocol::{FromKeeper, MAX_ZONES, ToKeeper};
use ipc::{Channel, ReceiveError};
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
    /// Pipes with the keys of disks, by slot.
    keys: BTreeMap<u8, OwnedFd>,
}

impl Keeper {
    /// The channel, while there is one.
    pub(crate) fn channel(&self) -> Option<&Channel> {
        self.channel.as_ref()
    }

    /// Takes what `keeper` sent.
    pub(crate) fn receive(&mut self) {
        while let Some(channel) = &self.channel {
            match channel.receive::<FromKeeper>() {
                Ok((FromKeeper::DiskKey { slot }, pipes)) if slot < MAX_ZONES => {
                    self.keys.extend(pipes.into_iter().next().map(|pipe| (slot, pipe)));
                }
                Ok(_) | Err(ReceiveError::Malformed) => {}
                Err(ReceiveError::WouldBlock) => return,
                // Its death comes as a signal; the next one gets a channel of its own.
                Err(ReceiveError::Closed | ReceiveError::Io(_)) => self.channel = None,
            }
        }
    }

    /// The pipe with the key of the slot's disk. It is given once.
    pub(crate) fn disk_key(&mut self, slot: u8) -> Option<OwnedFd> {
        // What `keeper` sent before it told `zoned` is here, even if nobody looked.
        self.receive();
        self.keys.remove(&slot)
    }

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

    /// The slot's TPM is gone.
    pub(crate) fn forget(&mut self, slot: u8) {
        self.living.remove(&slot);
        self.keys.remove(&slot);
    }

    /// Makes what a TPM is started with, and hands the other ends to `keeper`.
    ///
    /// # Errors
    /// There is no room, or no keeper; nothing runs then.
    pub(crate) fn prepare(
        &mut self,
        slot: u8,
        zone: &str,
        user: u32,
        disposable: bool,
    ) -> anyhow::Result<Given> {
        let keeper = self.channel.as_ref().context("keeper does not run")?;
        let folder = folder(zone, user, disposable)?;
        let (control, of_keeper) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                .context("make its control channel")?;
        let (key, into_key) = pipe_with(PipeFlags::CLOEXEC).context("make the pipe of its key")?;
        let started = ToKeeper::TpmStarted { slot, zone: zone.to_owned(), disposable };
        keeper.send(&started, &[of_keeper.as_fd(), into_key.as_fd()]).context("tell keeper of it")?;
        self.living.insert(slot, (zone.to_owned(), of_keeper));
        Ok(Given { descriptors: [("control", control), ("key", key)], folder })
    }
}

/// The folder of a zone's state; a disposable zone's is empty.
fn folder(zone: &str, user: u32, disposable: bool) -> anyhow::Result<String> {
    let folder = PathBuf::from(STATES).join(zone);
    mounts::make_folder(STATES, 0o700)?;
    match disposable.then(|| std::fs::remove_dir_all(&folder)) {
        Some(Err(error)) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("empty {}", folder.display()));
        }
        Some(Ok(()) | Err(_)) | None => {}
    }
    let folder = folder.into_os_string().into_string().ok().context("the zone's name is text")?;
    mounts::make_folder(&folder, 0o700)?;
    // The zone may have had another place in an earlier policy, and so another user.
    for entry in std::fs::read_dir(&folder).with_context(|| format!("list {folder}"))? {
        mounts::give(&entry?.path(), user, 0o600)?;
    }
    mounts::give(folder.as_ref(), user, 0o700)?;
    Ok(folder)
}
