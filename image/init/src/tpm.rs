//! What a zone's virtual TPM is started with: its control channel, the pipe of its key, and the folder of its state.
//!
//! The other ends go to `keeper`, never through `zoned`. The folder is empty at each start: the key that `keeper` has
//! for it is not one of an earlier start, so what an earlier one left could not be opened.

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

/// Makes it, and hands the other ends to `keeper`.
///
/// # Errors
/// There is no room, or no keeper; nothing runs then.
pub(crate) fn prepare(keeper: Option<&Channel>, slot: u8, zone: &str, user: u32) -> anyhow::Result<Given> {
    let keeper = keeper.context("keeper does not run")?;
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
    let (control, of_keeper) =
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .context("make its control channel")?;
    let (key, into_key) = pipe_with(PipeFlags::CLOEXEC).context("make the pipe of its key")?;
    let started = ToKeeper::TpmStarted { slot, zone: zone.to_owned() };
    keeper.send(&started, &[of_keeper.as_fd(), into_key.as_fd()]).context("tell keeper of it")?;
    Ok(Given { descriptors: [("control", control), ("key", key)], folder })
}
