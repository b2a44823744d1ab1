//! The audit log on the data disk: where crate `audit`'s bytes go, and what of this daemon's life is an event.
//!
//! `init` gives one descriptor, of a file of fixed size ([`audit::area`]); this process cannot open another. A log
//! that cannot be written never stops a zone: the events are counted, the user is told once, and the count is the
//! next record that can be written. Each write is made durable before the daemon goes on.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use audit::event::text;
use audit::log::{Action, Step};
use audit::{Event, Limits, Log, Record, Stamp, area};
use control_api::wire::{Method, Reply};
use control_api::{AuditHead, AuditPage, MAX_AUDIT_RECORDS, Phase};
use init_protocol::{Event as InitEvent, ExitCause};
use rustix::time::{ClockId, clock_gettime};

use crate::daemon::Daemon;
use crate::launch::LaunchError;
use crate::lifecycle::Role;

/// Bytes of records in one page, far below what a client reads.
const PAGE_BYTES: usize = 256 * 1024;

/// Where `init` leaves the kernel's name of this boot, beside the policy.
const BOOT_ID: &str = "boot-id";

/// The most notices of an earlier `zoned` that a new one shows.
const NOTICES: usize = 8;

/// The log and its file.
#[derive(Debug)]
pub(crate) struct Audit {
    file: Option<File>,
    limits: Limits,
    log: Log,
    /// Whether the last write failed; then the user knows it already.
    failed: bool,
    complaint: Option<String>,
    /// What went wrong in this boot before this `zoned`: process and sentence.
    earlier: Vec<(String, String)>,
}

impl Audit {
    /// Takes up the log in `file`, or begins one; `settings` is the folder of the policy.
    pub(crate) fn open(file: Option<OwnedFd>, settings: Option<&Path>) -> Self {
        let limits = Limits::default();
        let boot = settings.and_then(|settings| fs::read_to_string(settings.join(BOOT_ID)).ok());
        let boot = text(boot.as_deref().map_or("unknown", str::trim));
        let file = file.map(File::from);
        let (found, unreadable) = match file.as_ref().map(|file| read(file, 0, limits.file_bytes())) {
            Some(Ok(bytes)) => (area::segments(limits, &bytes), None),
            Some(Err(error)) => (Vec::new(), Some(error)),
            None => (Vec::new(), Some(io::Error::other("there is no data disk"))),
        };
        let (log, actions, events) = Log::open(limits, &boot, &found, now());
        let earlier = notices(&found, &boot);
        let mut audit = Self { file, limits, log, failed: false, complaint: None, earlier };
        let repaired = actions.iter().try_for_each(|action| audit.act(action));
        if let Some(error) = unreadable.or(repaired.err()) {
            audit.complain(&error);
        }
        for event in &events {
            audit.record(None, event);
            audit.earlier.extend(event.notice(None));
        }
        audit
    }

    /// Writes an event.
    pub(crate) fn record(&mut self, zone: Option<&str>, event: &Event) {
        let Some(step) = self.log.append(now(), zone, event) else { return };
        match self.write(&step) {
            Ok(()) => {
                self.log.commit(step);
                self.failed = false;
            }
            Err(error) => {
                self.log.lose();
                self.complain(&error);
            }
        }
    }

    /// What the user should know, once.
    pub(crate) fn complaint(&mut self) -> Option<String> {
        self.complaint.take()
    }

    /// What went wrong in this boot before this `zoned`: process and sentence, newest last.
    pub(crate) fn take_earlier(&mut self) -> Vec<(String, String)> {
        std::mem::take(&mut self.earlier)
    }

    /// Records from `position` on: at most `limit`, and never more than [`PAGE_BYTES`].
    pub(crate) fn page(&self, position: u64, limit: u64) -> io::Result<AuditPage> {
        let limit = usize::try_from(limit.min(MAX_AUDIT_RECORDS)).unwrap_or(0);
        let mut records: Vec<String> = Vec::new();
        let (mut bytes, mut next) = (0, position);
        'full: for segment in self.log.segments_from(position) {
            let Some(file) = &self.file else { break };
            let content = read(file, self.limits.offset(segment.number), segment.length)?;
            let from = if records.is_empty() { position } else { 0 };
            for (place, record) in audit::log::records_from(&content, from) {
                if records.len() == limit || bytes + record.len() > PAGE_BYTES {
                    break 'full;
                }
                bytes += record.len();
                // Onwards even where records were reordered.
                next = next.saturating_add(1).max(place.saturating_add(1));
                records.push(record);
            }
        }
        let head = self.log.head();
        Ok(AuditPage {
            next,
            records,
            head: AuditHead { position: head.position, hash: head.hash.as_str().to_owned() },
        })
    }

    fn write(&self, step: &Step) -> io::Result<()> {
        let mut actions = step.actions.iter();
        if let Some(action) = actions.next() {
            self.clear_remains(action)?;
            self.act(action)?;
        }
        for action in actions {
            // What cannot be removed now is removed when the log is opened again.
            if let Err(error) = self.act(action) {
                tracing::warn!("audit log: {error}");
            }
        }
        Ok(())
    }

    /// What an earlier write that failed may have left behind the last record.
    fn clear_remains(&self, next: &Action) -> io::Result<()> {
        match next {
            Action::Write { segment, length, .. } if self.failed => {
                self.act(&Action::Truncate { segment: *segment, length: *length })
            }
            Action::Write { .. } | Action::Truncate { .. } | Action::Remove { .. } => Ok(()),
        }
    }

    fn act(&self, action: &Action) -> io::Result<()> {
        let file = self.file.as_ref().ok_or_else(|| io::Error::other("there is no data disk"))?;
        let (offset, bytes) = area::write(self.limits, action);
        file.write_all_at(&bytes, offset)?;
        Ok(rustix::fs::fdatasync(file)?)
    }

    fn complain(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.failed, true) {
            self.complaint = Some(format!(
                "The audit log cannot be written: {error}. Events are counted until it can. Check the data disk."
            ));
        }
    }
}

/// At most `length` bytes of a file from `offset` on.
fn read(file: &File, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    let mut filled = 0_usize;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let place = offset.saturating_add(u64::try_from(filled).map_err(io::Error::other)?);
        match file.read_at(rest, place) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// What the user should still know of this boot.
fn notices(found: &[(u64, Vec<u8>)], boot: &str) -> Vec<(String, String)> {
    let lines = found
        .iter()
        .rev()
        .flat_map(|(_, bytes)| audit::log::lines(bytes).collect::<Vec<_>>().into_iter().rev());
    let records = lines.map_while(Record::parse).take_while(|record| record.boot == boot);
    let notices = records.filter_map(|record| record.event?.notice(record.zone.as_deref()));
    let mut newest: Vec<_> = notices.take(NOTICES).collect();
    newest.reverse();
    newest
}

fn now() -> Stamp {
    let seconds = |clock| u64::try_from(clock_gettime(clock).tv_sec).unwrap_or(0);
    Stamp { time: seconds(ClockId::Realtime), steady: seconds(ClockId::Boottime) }
}

impl Daemon {
    /// What `init` says, before anything is done about it.
    pub(crate) fn audit_init(&mut self, said: &InitEvent) {
        match said {
            InitEvent::Refused { process, reason, containment } => {
                let Some((zone, role)) = self.find_process(*process) else { return };
                let (process, reason) = (name(role).to_owned(), text(reason));
                let event = if *containment {
                    Event::ContainmentFailed { process, reason }
                } else {
                    Event::ProcessRefused { process, reason }
                };
                let zone = self.zone_name(zone);
                self.audit.record(Some(&zone), &event);
            }
            InitEvent::ServiceExited { service, cause, .. } => {
                self.audit.record(None, &ended(service, *cause));
            }
            InitEvent::Spawned { .. }
            | InitEvent::Exited { .. }
            | InitEvent::DiskOpened { .. }
            | InitEvent::DiskRefused { .. }
            | InitEvent::DiskLocked { .. }
            | InitEvent::DiskUnlocked { .. }
            | InitEvent::Stored { .. }
            | InitEvent::Lives { .. }
            | InitEvent::HandedOver
            | InitEvent::ShuttingDown { .. } => {}
        }
    }

    /// A zone's process ended that nobody had told to end.
    pub(crate) fn audit_death(&mut self, zone: usize, role: Role, cause: ExitCause) {
        let zone = self.zone_name(zone);
        self.audit.record(Some(&zone), &ended(name(role), cause));
    }

    /// A zone's change of phase.
    pub(crate) fn audit_phase(&mut self, zone: usize, before: Phase) {
        let Some(view) = self.life(zone).filter(|view| view.phase != before) else { return };
        let cause = view.reason.as_deref().map(text);
        let event = match view.phase {
            Phase::Locked => Event::ZoneLocked,
            // Out of the lock a zone goes on by way of a pause.
            Phase::Paused if before == Phase::Locked => Event::ZoneUnlocked,
            Phase::Running if matches!(before, Phase::Paused | Phase::Locking) => return,
            Phase::Running => Event::ZoneStarted,
            Phase::Stopped => Event::ZoneStopped { cause },
            Phase::Failed => Event::ZoneFailed { cause: cause.unwrap_or_default() },
            Phase::Starting | Phase::Stopping | Phase::Paused | Phase::Locking => return,
        };
        let name = self.zone_name(zone);
        self.audit.record(Some(&name), &event);
    }

    /// A start that came to nothing.
    pub(crate) fn audit_launch(&mut self, zone: usize, error: &LaunchError) {
        let reason = text(&error.to_string());
        let event = match error {
            LaunchError::Template(_) => Event::TemplateRefused { reason },
            LaunchError::TemplateMemory { .. }
            | LaunchError::Memory { .. }
            | LaunchError::FreeMemory { .. }
            | LaunchError::DiskFull { .. }
            | LaunchError::NoKey(_)
            | LaunchError::Disposable(_)
            | LaunchError::File { .. }
            | LaunchError::Firmware { .. }
            | LaunchError::Host { .. } => Event::StartRefused { reason },
        };
        let name = self.zone_name(zone);
        self.audit.record(Some(&name), &event);
    }

    /// A call that was refused.
    pub(crate) fn audit_reply(&mut self, request: &str, reply: &Reply) {
        if let Reply::Error(error) = reply {
            let event =
                Event::RequestRefused { request: request.to_owned(), reason: text(&error.to_string()) };
            self.audit.record(None, &event);
        }
    }
}

fn name(role: Role) -> &'static str {
    match role {
        Role::Vmm => "vmm",
        Role::Vpnd => "vpnd",
        Role::Tpm => "swtpm",
    }
}

fn ended(process: &str, cause: ExitCause) -> Event {
    let process = text(process);
    match cause {
        ExitCause::ForbiddenSystemCall => Event::ForbiddenSystemCall { process },
        ExitCause::Code(_) | ExitCause::Signal(_) => Event::ProcessDied { process, cause: cause.to_string() },
    }
}

/// A method's name, without what a client says with it.
pub(crate) fn request(method: &Method) -> &'static str {
    match method {
        Method::Status => "Status",
        Method::Monitor => "Monitor",
        Method::Start(_) => "Start",
        Method::Open { .. } => "Open",
        Method::Recover { .. } => "Recover",
        Method::ChangePin { .. } => "ChangePin",
        Method::Lock(_) => "Lock",
        Method::LockScreen => "LockScreen",
        Method::UnlockScreen(_) => "UnlockScreen",
        Method::ChangeScreenPin { .. } => "ChangeScreenPin",
        Method::RecoverScreen { .. } => "RecoverScreen",
        Method::NewRecoveryKey => "NewRecoveryKey",
        Method::NoteRecoveryKey(_) => "NoteRecoveryKey",
        Method::Stop(_) => "Stop",
        Method::Kill(_) => "Kill",
        Method::Restart(_) => "Restart",
        Method::Pause(_) => "Pause",
        Method::Resume(_) => "Resume",
        Method::RunCheck { .. } => "RunCheck",
        Method::Audit { .. } => "Audit",
        Method::PowerOff => "PowerOff",
        Method::GetInfo => "GetInfo",
        Method::GetInterfaceDescription(_) => "GetInterfaceDescription",
    }
}

#[cfg(test)]
pub(crate) mod tests;
