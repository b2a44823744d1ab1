//! The shell: every virtual TPM's sockets, and the two channels to `init` and `zoned`, in one `poll(2)`.

mod locks;
mod out;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::Context;
use approval::{Approval, ApprovalKey};
use handover::record::{Header, LONGEST, encode};
use init_protocol::{DISK_KEY_BYTES, FromKeeper as ToInit, MAX_ZONES, ToKeeper as FromInit};
use ipc::{Channel, ReceiveError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use template::Rules;
use zeroize::Zeroizing;
use zone_protocol::keeper::{
    Cause, Digits, FromKeeper, OPEN_FOR, Purpose, RecoveryAnswer, SCREEN, Start, ToKeeper,
};
use zone_protocol::login::credentials;

use crate::begin::{Begin, Kept, Measured, Plan, Progress, To, named};
use crate::keys::{DiskPart, Key, ZoneKeys, random};
use crate::secrets::{How, SecretError, Secrets};
use out::{in_memory, piped, send};

/// How long a virtual TPM may take to begin: it makes its seeds at its first start.
const PATIENCE: Duration = Duration::from_secs(20);

/// What of the host's image every zone begins with.
#[derive(Debug)]
pub(crate) struct Image {
    /// What every zone's first instruction is from: hashed into PCR 0.
    pub(crate) firmware: Vec<u8>,
    /// Who approves.
    pub(crate) key: ApprovalKey,
    /// What is said to be approved of the firmware.
    pub(crate) approval: Approval,
    /// Who signs templates, and the least epoch of one.
    pub(crate) rules: Rules,
}

/// All of them.
pub(crate) struct Tpms {
    init: Channel,
    zoned: Channel,
    secrets: Box<dyn Secrets>,
    image: Image,
    by_slot: BTreeMap<u8, Tpm>,
    /// What was opened for starts that are to come.
    opened: BTreeMap<u8, Opened>,
}

/// What a user opened.
struct Opened {
    zone: String,
    keys: ZoneKeys,
    made: bool,
    until: Instant,
}

/// One.
struct Tpm {
    zone: String,
    disposable: bool,
    control: OwnedFd,
    /// What opens it, or why nothing does.
    auth: Result<Key, String>,
    /// The machine's part of the key of its zone's disk, until that is open.
    disk: Option<DiskPart>,
    /// Its own part, from then on: the one without the other opens nothing.
    kept: Option<Kept>,
    /// What opens it was forgotten, until its user brings it again.
    locked: bool,
    /// The pipe of a TPM that waits for its key in vain: it ends with the zone, not by itself.
    _waits: Option<OwnedFd>,
    /// What it is to keep from now on, if it keeps nothing yet.
    new: Option<Kept>,
    work: Option<Work>,
}

/// A beginning that is under way.
struct Work {
    number: u32,
    start: Start,
    /// `init` is to have the key of the zone's disk.
    disk: bool,
    /// What is said to be approved: the TPM checks what, `keeper` the epochs.
    approvals: [Approval; 2],
    begin: Begin,
    deadline: Instant,
    /// The start's login record, once it is made.
    record: Option<OwnedFd>,
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
        secrets: Box<dyn Secrets>,
        image: Image,
    ) -> anyhow::Result<Self> {
        init.set_nonblocking().context("the channel from init")?;
        zoned.set_nonblocking().context("the channel to zoned")?;
        Ok(Self { init, zoned, secrets, image, by_slot: BTreeMap::new(), opened: BTreeMap::new() })
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
        self.opened.retain(|_, opened| opened.until > now);
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
        let deadlines = deadlines.chain(self.opened.values().map(|opened| opened.until));
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
            Ok((FromInit::TpmStarted { slot, zone, disposable }, descriptors)) => {
                self.started(slot, zone, disposable, descriptors);
            }
            Ok((FromInit::TpmLives { slot, zone }, descriptors)) => match descriptors.into_iter().next() {
                Some(control) => {
                    let tpm = self.adopted(zone, control);
                    self.take(slot, tpm);
                }
                None => tracing::error!(slot, zone, "a TPM came without its control channel"),
            },
            Err(ReceiveError::WouldBlock) => {}
            Err(error) => return Err(error).context("receive from init"),
        }
        Ok(())
    }

    /// A TPM was started: it gets its key.
    fn started(&mut self, slot: u8, zone: String, disposable: bool, descriptors: Vec<OwnedFd>) {
        let Ok([control, pipe]) = <[OwnedFd; 2]>::try_from(descriptors) else {
            tracing::error!(slot, zone, "a TPM came without its descriptors");
            return;
        };
        // Whatever was in the slot is another process, and gone.
        self.fail(slot, "was started again");
        self.by_slot.remove(&slot);
        let (mut waits, mut new, mut disk) = (Some(pipe), None, None);
        let auth = self.keys(slot, &zone, disposable).and_then(|(keys, made)| {
            if !made {
                new = Some(Box::new(random().map_err(|error| format!("cannot be made: {error}"))?));
            }
            // A pipe takes it at once, whole.
            if let Some(pipe) = waits.take() {
                rustix::io::write(&pipe, &keys.state[..])
                    .map_err(|error| format!("takes no key: {error}"))?;
            }
            disk = Some(keys.disk);
            Ok(keys.auth)
        });
        if let Err(reason) = &auth {
            tracing::error!(zone, "its TPM {reason}");
        }
        let tpm = Tpm { disposable, disk, _waits: waits, new, ..Tpm::with(zone, control, auth) };
        self.take(slot, tpm);
    }

    /// A zone's keys, and whether its TPM keeps something already; or what follows "the virtual TPM".
    fn keys(&mut self, slot: u8, zone: &str, disposable: bool) -> Result<(ZoneKeys, bool), String> {
        if disposable {
            let secret = random().map_err(|error| format!("cannot be made: {error}"))?;
            return Ok((ZoneKeys::of(&secret), false));
        }
        match self.opened.remove(&slot) {
            Some(Opened { zone: of, keys, made, .. }) if of == zone => Ok((keys, made)),
            // A zone that starts anew at its user's word.
            Some(_) | None => {
                let opened = self.secrets.open(zone, How::Alone);
                let (secret, made) = opened.map_err(|error| format!("does not open: {error}"))?;
                Ok((ZoneKeys::of(secret.as_bytes()), made))
            }
        }
    }

    /// A user wants a zone: to start it, to have it back, or to give it another PIN.
    fn open(&mut self, (slot, number): (u8, u32), zone: String, how: How<'_>, purpose: &Purpose) {
        self.opened.remove(&slot);
        let opened = self.secrets.open(&zone, how);
        let pin = self.secrets.pin(&zone);
        let mut key = None;
        let refused = |cause, reason| FromKeeper::NotOpened { slot, number, cause, reason, pin };
        let answer = match (opened, purpose) {
            (Err(error), _) => {
                tracing::warn!(zone, %error, "not opened");
                refused(error.cause(), sentence(&error))
            }
            (Ok(_), Purpose::Proof | Purpose::NewPin(_)) => FromKeeper::Opened { slot, number, pin },
            // It has nothing behind it.
            (Ok(_), Purpose::Start { .. } | Purpose::Unlock) if zone == SCREEN => {
                refused(Cause::Other, "The display's lock is no zone.".to_owned())
            }
            (Ok((secret, _)), Purpose::Unlock) => {
                match self.unlock(slot, &zone, ZoneKeys::of(secret.as_bytes())) {
                    Ok(()) => FromKeeper::Opened { slot, number, pin },
                    Err(reason) => refused(Cause::Other, reason),
                }
            }
            (Ok((secret, made)), Purpose::Start { tunnel }) => {
                let keys = ZoneKeys::of(secret.as_bytes());
                let until = Instant::now() + OPEN_FOR;
                match tunnel.then(|| in_memory(&keys.tunnel)).transpose() {
                    Ok(memory) => key = memory,
                    Err(error) => tracing::error!(zone, %error, "no memory for its tunnel's key"),
                }
                self.opened.insert(slot, Opened { zone, keys, made, until });
                FromKeeper::Opened { slot, number, pin }
            }
        };
        let descriptors: Vec<_> = key.iter().map(AsFd::as_fd).collect();
        self.answer(&answer, &descriptors);
    }

    fn about_recovery(&mut self, number: u32, answer: RecoveryAnswer) {
        let state = self.secrets.recovery();
        self.answer(&FromKeeper::Recovery { number, state, answer }, &[]);
    }

    /// A TPM that an earlier `keeper` knew: it keeps something, and its zone's disk is open.
    fn adopted(&mut self, zone: String, control: OwnedFd) -> Tpm {
        let opened = self.secrets.open(&zone, How::Alone);
        let auth = match opened {
            Ok((secret, true)) => Ok(ZoneKeys::of(secret.as_bytes()).auth),
            Ok((_, false)) => {
                Err("cannot be begun again: what opens it went with the last keeper".to_owned())
            }
            Err(error) => Err(format!("does not open: {error}")),
        };
        Tpm::with(zone, control, auth)
    }

    /// Takes a TPM over.
    fn take(&mut self, slot: u8, tpm: Tpm) {
        let zone = &tpm.zone;
        match rustix::io::ioctl_fionbio(&tpm.control, true) {
            Ok(()) if slot < MAX_ZONES => {
                tracing::info!(zone, "has a TPM");
                self.by_slot.insert(slot, tpm);
            }
            Ok(()) => tracing::error!(slot, "no such slot"),
            Err(error) => tracing::error!(zone, "the control channel of its TPM: {error}"),
        }
    }

    fn zoned_ready(&mut self) {
        match self.zoned.receive::<ToKeeper>() {
            Ok((ToKeeper::Begin { slot, number, start, disk }, _)) => self.begin(slot, number, start, disk),
            Ok((ToKeeper::Open { slot, number, zone, factor, pin, purpose, recovery }, _)) => {
                let typed = pin.as_ref().map(|Digits(typed)| typed.as_str());
                let how = match (&recovery, &purpose) {
                    (Some(Digits(key)), _) => How::Recovery { factor, typed, key },
                    (None, Purpose::NewPin(Digits(new))) => How::NewPin { factor, typed, new },
                    (None, Purpose::Start { .. } | Purpose::Unlock | Purpose::Proof) => {
                        How::User { factor, typed }
                    }
                };
                self.open((slot, number), zone, how, &purpose);
            }
            Ok((ToKeeper::Lock { slot, number }, _)) => {
                let refused = self.lock(slot).err();
                self.answer(&FromKeeper::Locked { slot, number, refused }, &[]);
            }
            Ok((ToKeeper::AskRecovery, _)) => self.about_recovery(0, RecoveryAnswer::State),
            Ok((ToKeeper::NewRecoveryKey { number }, _)) => {
                let made = self.secrets.new_recovery_key();
                let made = made.map(|digits| RecoveryAnswer::Key(Digits(digits)));
                self.about_recovery(
                    number,
                    made.unwrap_or_else(|error| RecoveryAnswer::Refused(sentence(&error))),
                );
            }
            Ok((ToKeeper::NoteRecoveryKey { number, key: Digits(key) }, _)) => {
                let noted = self.secrets.note(&key).map(|()| RecoveryAnswer::Noted);
                self.about_recovery(
                    number,
                    noted.unwrap_or_else(|error| RecoveryAnswer::Refused(sentence(&error))),
                );
            }
            Ok((ToKeeper::AskPin { slot, zone }, _)) => {
                let pin = self.secrets.pin(&zone);
                self.answer(&FromKeeper::Pin { slot, pin }, &[]);
            }
            Err(ReceiveError::WouldBlock) => {}
            Err(error) => tracing::warn!(%error, "request of zoned dropped"),
        }
    }

    fn begin(&mut self, slot: u8, number: u32, start: Start, disk: bool) {
        let under_way = self.by_slot.get_mut(&slot).and_then(|tpm| tpm.work.as_mut());
        if let Some(work) = under_way.filter(|work| work.start == start && work.disk == disk) {
            // Another `zoned` asks for the same: answers to what was asked already are still to come.
            work.number = number;
            return;
        }
        self.fail(slot, "is begun anew");
        match self.work(slot, number, start, disk) {
            Ok(()) => self.ask(slot),
            Err(reason) => self.answer(&FromKeeper::Failed { slot, number, reason }, &[]),
        }
    }

    /// Prepares a beginning; what is wrong follows "the virtual TPM".
    fn work(&mut self, slot: u8, number: u32, start: Start, disk: bool) -> Result<(), String> {
        let tpm = self.by_slot.get_mut(&slot).ok_or("is not there")?;
        if disk && !tpm.disposable && tpm.disk.is_none() && tpm.auth.is_ok() {
            // It went out before, to a `zoned` that is gone.
            let opened = self.secrets.open(&tpm.zone, How::Alone);
            let (secret, _) = opened.map_err(|error| format!("does not open: {error}"))?;
            tpm.disk = Some(ZoneKeys::of(secret.as_bytes()).disk);
        }
        let auth = tpm.auth.as_ref().map_err(String::clone)?;
        // Whatever `zoned` says: digests come from what the template's maker signed under this name.
        let template =
            template::verify(&start.template, &start.manifest, &start.signature, &self.image.rules)
                .map_err(|error| format!("gives nothing out: the manifest of the template: {error}"))?;
        let of_template = Approval::decode(&start.approval)
            .map_err(|error| format!("gives nothing out: the approval of the template: {error}"))?;
        let (data, far_end) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .and_then(|(near, far)| rustix::io::ioctl_fionbio(&near, true).map(|()| (near, far)))
            .map_err(|error| format!("gets no data channel: {error}"))?;
        let approvals = named([self.image.approval.clone(), of_template], &start.template);
        let begin = Begin::new(&Plan {
            firmware: &self.image.firmware,
            measured: Measured::of(&template),
            key: self.image.key,
            approvals: approvals.clone(),
            template: &start.template,
            auth,
            new: tpm.new.as_ref(),
            // A disposable zone's TPM is nobody the next time.
            certified: !tpm.disposable,
        });
        let deadline = Instant::now() + PATIENCE;
        let far_end = Some(far_end);
        tpm.work =
            Some(Work { number, start, disk, approvals, begin, deadline, record: None, data, far_end });
        Ok(())
    }

    /// The TPM gave out what it keeps: the disk's key goes to `init`, the start's login record is made.
    fn opened(&mut self, slot: u8) -> Result<(), String> {
        let Some(tpm) = self.by_slot.get_mut(&slot) else { return Ok(()) };
        let Some(work) = &mut tpm.work else { return Ok(()) };
        let kept = work.begin.kept().ok_or("gave nothing out")?;
        if tpm.new.as_ref().is_some_and(|new| *new != kept) {
            return Err("does not keep what it was given".to_owned());
        }
        self.secrets.check_epochs(&work.approvals).map_err(|error| format!("gives nothing out: {error}"))?;
        if let Some(endorsement) = work.begin.endorsement() {
            let certificate = self.secrets.certify(&endorsement);
            let certificate = certificate.map_err(|error| format!("has no certificate: {error}"))?;
            work.begin.certify(&certificate);
        }
        if work.disk && !tpm.disposable {
            let part = tpm.disk.take().ok_or("gave out the key of a disk that is open")?;
            let pipe = piped(&part.with(share(&kept))[..])
                .map_err(|error| format!("has no way to give out a key: {error}"))?;
            self.init
                .send(&ToInit::DiskKey { slot }, &[pipe.as_fd()])
                .map_err(|error| format!("cannot give out a key: {error}"))?;
        }
        tpm.kept = Some(kept);
        let record =
            record(&tpm.zone, &work.start).map_err(|error| format!("has no record of its start: {error}"))?;
        work.begin.vouch(&approval::sha256(&[&record]));
        work.record = Some(piped(&record).map_err(|error| format!("has no record of its start: {error}"))?);
        Ok(())
    }

    /// It began.
    fn began(&mut self, slot: u8) -> Result<(), String> {
        let Some(tpm) = self.by_slot.get_mut(&slot) else { return Ok(()) };
        if tpm.new.take().is_some() && !tpm.disposable {
            self.secrets.made(&tpm.zone).map_err(|error| format!("cannot be kept: {error}"))?;
        }
        let Some(Work { number, data, record: Some(record), approvals, .. }) = tpm.work.take() else {
            return Ok(());
        };
        self.secrets.used(&approvals);
        tracing::debug!(zone = tpm.zone, "TPM began");
        self.answer(&FromKeeper::Ready { slot, number }, &[data.as_fd(), record.as_fd()]);
        Ok(())
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
            Ok(Progress::Opened) => match self.opened(slot) {
                Ok(()) => self.ask(slot),
                Err(reason) => self.fail(slot, &reason),
            },
            Ok(Progress::Done) => {
                if let Err(reason) = self.began(slot) {
                    self.fail(slot, &reason);
                }
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

/// An error as a sentence of its own.
fn sentence(error: &SecretError) -> String {
    let text = error.to_string();
    let mut letters = text.chars();
    let capital: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    format!("{capital}{}.", letters.as_str())
}

impl Tpm {
    /// One that does nothing yet.
    fn with(zone: String, control: OwnedFd, auth: Result<Key, String>) -> Self {
        let (disk, kept, new, work) = (None, None, None, None);
        Self { zone, disposable: false, control, auth, disk, kept, locked: false, _waits: None, new, work }
    }

    fn deadline(&self) -> Option<Instant> {
        self.work.as_ref().map(|work| work.deadline)
    }
}

/// The part of a disk's key in what a zone's TPM keeps; behind it lies what logins come from.
fn share(kept: &Kept) -> &[u8] {
    kept.get(..DISK_KEY_BYTES).unwrap_or_default()
}

/// The login record of one start: another one each time, and for this zone alone.
fn record(zone: &str, start: &Start) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut identity = [0; 32];
    identity.iter_mut().zip(zone.bytes()).for_each(|(place, byte)| *place = byte);
    let nonce = random().map_err(|error| error.to_string())?;
    let credentials = credentials(Some(&start.user), &start.keep).map_err(|error| error.to_string())?;
    let pairs: Vec<(&str, &[u8])> =
        credentials.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
    let mut record = Zeroizing::new([0; LONGEST]);
    let header = Header { no_vtpm_yet: false, nonce: *nonce, identity };
    let length = encode(&header, &pairs, &mut record).map_err(|error| error.to_string())?;
    Ok(Zeroizing::new(record.iter().copied().take(length).collect()))
}

#[cfg(test)]
mod tests;
