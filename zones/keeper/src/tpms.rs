//! The shell: every virtual TPM's sockets, and the two channels to `init` and `zoned`, in one `poll(2)`.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::Context;
use init_protocol::{MAX_ZONES, ToKeeper as FromInit};
use ipc::{Channel, ReceiveError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sendmsg,
    socketpair,
};
use zone_protocol::keeper::{FromKeeper, Measured, ToKeeper};

use crate::begin::{Begin, Progress, To};
use crate::keys::StateKeys;

/// How long a virtual TPM may take to begin: it makes its seeds at its first start.
const PATIENCE: Duration = Duration::from_secs(20);

/// All of them.
pub(crate) struct Tpms {
    init: Channel,
    zoned: Channel,
    keys: Box<dyn StateKeys>,
    /// What every zone's first instruction is from: hashed into PCR 0.
    firmware: Vec<u8>,
    by_slot: BTreeMap<u8, Tpm>,
}

/// One.
struct Tpm {
    zone: String,
    control: OwnedFd,
    work: Option<Work>,
}

/// A beginning that is under way.
struct Work {
    number: u32,
    measured: Measured,
    begin: Begin,
    deadline: Instant,
    /// Our end of the data channel, and the TPM's until that has it.
    data: OwnedFd,
    far_end: Option<OwnedFd>,
}

/// What a descriptor belongs to.
#[derive(Clone, Copy, Debug)]
enum Source {
    Init,
    Zoned,
    Control(u8),
    Data(u8),
}

impl Tpms {
    /// Without any TPM.
    ///
    /// # Errors
    /// A channel is none.
    pub(crate) fn new(
        init: Channel,
        zoned: Channel,
        keys: Box<dyn StateKeys>,
        firmware: Vec<u8>,
    ) -> anyhow::Result<Self> {
        init.set_nonblocking().context("the channel from init")?;
        zoned.set_nonblocking().context("the channel to zoned")?;
        Ok(Self { init, zoned, keys, firmware, by_slot: BTreeMap::new() })
    }

    /// One round: waits, at most `patience`, and does what is to be done.
    ///
    /// # Errors
    /// `init` is not there any more.
    pub(crate) fn turn(&mut self, patience: Option<Duration>) -> anyhow::Result<()> {
        for source in self.wait(patience)? {
            match source {
                Source::Init => self.init_ready()?,
                Source::Zoned => self.zoned_ready(),
                Source::Control(slot) => self.read(slot, To::Control),
                Source::Data(slot) => self.read(slot, To::Data),
            }
        }
        let now = Instant::now();
        let late = self.by_slot.iter().filter(|(_, tpm)| tpm.deadline().is_some_and(|at| at <= now));
        for slot in late.map(|(slot, _)| *slot).collect::<Vec<_>>() {
            self.fail(slot, "did not answer in time");
        }
        Ok(())
    }

    /// What is ready; `init` first, so that a TPM is known when `zoned` asks for it.
    fn wait(&self, patience: Option<Duration>) -> anyhow::Result<Vec<Source>> {
        let mut sources = vec![Source::Init, Source::Zoned];
        let watch = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        let mut polled = vec![watch(self.init.as_fd()), watch(self.zoned.as_fd())];
        for (slot, tpm) in &self.by_slot {
            sources.push(Source::Control(*slot));
            polled.push(watch(tpm.control.as_fd()));
            if let Some(work) = &tpm.work {
                sources.push(Source::Data(*slot));
                polled.push(watch(work.data.as_fd()));
            }
        }
        let now = Instant::now();
        let deadlines = self.by_slot.values().filter_map(Tpm::deadline);
        let left = deadlines.map(|at| at.saturating_duration_since(now) + Duration::from_millis(1));
        let timeout = left.chain(patience).min().and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut polled, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("poll"),
        }
        let ready = sources.into_iter().zip(&polled).filter(|(_, polled)| !polled.revents().is_empty());
        Ok(ready.map(|(source, _)| source).collect())
    }

    fn init_ready(&mut self) -> anyhow::Result<()> {
        match self.init.receive::<FromInit>() {
            Ok((FromInit::TpmStarted { slot, zone }, descriptors)) => self.started(slot, zone, descriptors),
            Ok((FromInit::TpmLives { slot, zone }, descriptors)) => match descriptors.into_iter().next() {
                Some(control) => self.take(slot, zone, control),
                None => tracing::error!(slot, zone, "a TPM came without its control channel"),
            },
            Err(ReceiveError::WouldBlock) => {}
            Err(error) => return Err(error).context("receive from init"),
        }
        Ok(())
    }

    /// A TPM was started: it gets its key.
    fn started(&mut self, slot: u8, zone: String, descriptors: Vec<OwnedFd>) {
        let Ok([control, pipe]) = <[OwnedFd; 2]>::try_from(descriptors) else {
            tracing::error!(slot, zone, "a TPM came without its descriptors");
            return;
        };
        // Whatever was in the slot is another process, and gone.
        self.fail(slot, "was started again");
        self.by_slot.remove(&slot);
        let given = self.keys.key(&zone).and_then(|mut key| {
            // A pipe takes it at once, whole.
            let written = rustix::io::write(&pipe, &key);
            key.fill(0);
            std::hint::black_box(&key);
            written?;
            Ok(())
        });
        match given {
            Ok(()) => self.take(slot, zone, control),
            // Its pipe closes without a key: it ends by itself.
            Err(error) => tracing::error!(zone, "no key for its TPM: {error}"),
        }
    }

    /// Takes a TPM's control channel over.
    fn take(&mut self, slot: u8, zone: String, control: OwnedFd) {
        match rustix::io::ioctl_fionbio(&control, true) {
            Ok(()) if slot < MAX_ZONES => {
                tracing::info!(zone, "has a TPM");
                self.by_slot.insert(slot, Tpm { zone, control, work: None });
            }
            Ok(()) => tracing::error!(slot, "no such slot"),
            Err(error) => tracing::error!(zone, "the control channel of its TPM: {error}"),
        }
    }

    fn zoned_ready(&mut self) {
        match self.zoned.receive::<ToKeeper>() {
            Ok((ToKeeper::Begin { slot, number, measured }, _)) => self.begin(slot, number, &measured),
            Err(ReceiveError::WouldBlock) => {}
            Err(error) => tracing::warn!(%error, "request of zoned dropped"),
        }
    }

    fn begin(&mut self, slot: u8, number: u32, measured: &Measured) {
        let under_way = self.by_slot.get_mut(&slot).and_then(|tpm| tpm.work.as_mut());
        if let Some(work) = under_way.filter(|work| work.measured == *measured) {
            // Another `zoned` asks for the same: answers to what was asked already are still to come.
            work.number = number;
            return;
        }
        self.fail(slot, "is begun anew");
        let Some(tpm) = self.by_slot.get_mut(&slot) else {
            self.answer(&FromKeeper::Failed { slot, number, reason: "is not there".to_owned() }, &[]);
            return;
        };
        let pair = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .and_then(|(near, far)| rustix::io::ioctl_fionbio(&near, true).map(|()| (near, far)));
        match pair {
            Ok((data, far_end)) => {
                let begin = Begin::new(&self.firmware, measured);
                let deadline = Instant::now() + PATIENCE;
                tpm.work =
                    Some(Work { number, measured: *measured, begin, deadline, data, far_end: Some(far_end) });
                self.ask(slot);
            }
            Err(error) => {
                let reason = format!("gets no data channel: {error}");
                self.answer(&FromKeeper::Failed { slot, number, reason }, &[]);
            }
        }
    }

    /// Asks the next question.
    fn ask(&mut self, slot: u8) {
        let Some(tpm) = self.by_slot.get_mut(&slot) else { return };
        let Some(work) = &mut tpm.work else { return };
        let Some(question) = work.begin.question() else { return };
        let far_end = if question.to == To::ControlWithData { work.far_end.take() } else { None };
        let socket = if question.to == To::Data { &work.data } else { &tpm.control };
        if let Err(error) = send(socket, &question.bytes, far_end.as_ref().map(AsFd::as_fd)) {
            self.fail(slot, &format!("takes no command: {error}"));
        }
    }

    /// Something came from a TPM.
    fn read(&mut self, slot: u8, from: To) {
        let Some(tpm) = self.by_slot.get_mut(&slot) else { return };
        let socket = match (&tpm.work, from) {
            (Some(work), To::Data) => &work.data,
            (_, To::Control | To::ControlWithData) => &tpm.control,
            (None, To::Data) => return,
        };
        let mut piece = [0; 256];
        let count = match rustix::io::read(socket, &mut piece) {
            Ok(0) | Err(Errno::CONNRESET) => {
                self.fail(slot, "is gone");
                if from != To::Data {
                    self.by_slot.remove(&slot);
                }
                return;
            }
            Ok(count) => count,
            Err(Errno::AGAIN | Errno::INTR) => return,
            Err(error) => return self.fail(slot, &format!("cannot be read: {error}")),
        };
        let Some(work) = &mut tpm.work else {
            tracing::warn!(zone = tpm.zone, "its TPM speaks without being asked");
            return;
        };
        match work.begin.answered(from, piece.get(..count).unwrap_or_default()) {
            Ok(Progress::Waits) => {}
            Ok(Progress::Next) => self.ask(slot),
            Ok(Progress::Done) => {
                let Some(work) = tpm.work.take() else { return };
                tracing::debug!(zone = tpm.zone, "TPM began");
                let ready = FromKeeper::Ready { slot, number: work.number };
                self.answer(&ready, &[work.data.as_fd()]);
            }
            Err(error) => self.fail(slot, &error.to_string()),
        }
    }

    /// Ends a beginning, if one is under way.
    fn fail(&mut self, slot: u8, reason: &str) {
        let Some(tpm) = self.by_slot.get_mut(&slot) else { return };
        let Some(work) = tpm.work.take() else { return };
        tracing::warn!(zone = tpm.zone, "its TPM {reason}");
        let reason = reason.to_owned();
        self.answer(&FromKeeper::Failed { slot, number: work.number, reason }, &[]);
    }

    fn answer(&self, answer: &FromKeeper, descriptors: &[BorrowedFd<'_>]) {
        if let Err(error) = self.zoned.send(answer, descriptors) {
            // Whoever asked gives up by its own clock.
            tracing::error!(?answer, %error, "answer not sent");
        }
    }
}

impl Tpm {
    fn deadline(&self) -> Option<Instant> {
        self.work.as_ref().map(|work| work.deadline)
    }
}

/// Sends a whole question, perhaps with a descriptor.
fn send(socket: &OwnedFd, bytes: &[u8], descriptor: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let carried = [descriptor];
    if let [Some(descriptor)] = &carried {
        ancillary.push(SendAncillaryMessage::ScmRights(std::slice::from_ref(descriptor)));
    }
    let sent = sendmsg(socket, &[std::io::IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?;
    if sent == bytes.len() { Ok(()) } else { Err(Errno::AGAIN) }
}

#[cfg(test)]
mod tests;
