//! The disk of a disposable zone, which `init` makes: empty, under a key that nobody has.
//!
//! The only place where `zoned` waits for an answer: `init` gives it at once, and what else it says meanwhile
//! is kept in order. It never opens the disk for anything but handing it to the VMM.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use init_protocol::{Event, Request};
use ipc::{Channel, ReceiveError};
use policy::Zone;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::launch::LaunchError;

/// How long `init` may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks for the disk and waits for it. Other events go to `earlier`.
///
/// # Errors
/// [`LaunchError::Disposable`].
pub(crate) fn open(
    init: &Channel,
    slot: u8,
    zone: &Zone,
    earlier: &mut VecDeque<(Event, Vec<OwnedFd>)>,
) -> Result<OwnedFd, LaunchError> {
    let failed = |reason: &str| LaunchError::Disposable(reason.to_owned());
    let request = Request::OpenDisposable { slot, zone: zone.name.clone(), size_mib: zone.disk_mib };
    init.send(&request, &[]).map_err(|error| failed(&error.to_string()))?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match init.receive::<Event>() {
            Ok((Event::DiskOpened { slot: opened }, mut disks)) if opened == slot => {
                return disks.pop().ok_or_else(|| failed("init sent no descriptor"));
            }
            Ok((Event::DiskRefused { slot: refused, reason }, _)) if refused == slot => {
                return Err(failed(&reason));
            }
            Ok(other) => earlier.push_back(other),
            Err(ReceiveError::WouldBlock) => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(failed("init does not answer"));
                }
                wait(init, left).map_err(|error| failed(&error.to_string()))?;
            }
            Err(error) => return Err(failed(&error.to_string())),
        }
    }
}

fn wait(init: &Channel, left: Duration) -> Result<(), Errno> {
    let left = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 10, tv_nsec: 0 });
    match poll(&mut [PollFd::from_borrowed_fd(init.as_fd(), PollFlags::IN)], Some(&left)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
