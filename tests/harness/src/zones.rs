//! `zoned` and the host's inside, as a test sees them: typed calls over the bridge.

use std::time::{Duration, Instant};

use control_api::{AuditPage, CheckResult, Phase, Status, Zone};
use serde_json::{Value, json};
use test_bridge::files::Entry;
use test_bridge::frames::Frame;
use test_bridge::mounts::View;
use test_bridge::network::Namespace;
use test_bridge::processes::Process;
use test_bridge::threads::Activity;

use crate::bridge::{Bridge, CallError, Replies};
use crate::left;

/// Why a state was not reached.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The deadline passed; the last state seen.
    #[error("{wanted} was not reached in time; last seen: {last}")]
    Deadline {
        /// What was waited for.
        wanted: String,
        /// The last status, as text.
        last: String,
    },
    /// A zone failed while it was waited for.
    #[error("zone {zone} failed: {reason}")]
    Failed {
        /// The zone.
        zone: String,
        /// Its reason.
        reason: String,
    },
    /// The policy has no such zone.
    #[error("there is no zone {0}")]
    NoZone(String),
}

/// Calls to `org.bulkhead.Zones` and `org.bulkhead.Test`.
#[derive(Clone, Copy, Debug)]
pub struct Zones<'a>(pub &'a Bridge);

fn zones_method(name: &str) -> String {
    format!("{}.{name}", control_api::INTERFACE)
}

fn test_method(name: &str) -> String {
    format!("{}.{name}", test_bridge::INTERFACE)
}

impl Zones<'_> {
    /// The state now.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn status(self, deadline: Instant) -> Result<Status, CallError> {
        self.0.get(&zones_method("Status"), json!({}), "status", deadline)
    }

    /// Records of the audit log from a position on.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn audit(self, position: u64, limit: u64, deadline: Instant) -> Result<AuditPage, CallError> {
        let parameters = json!({ "position": position, "limit": limit });
        self.0.get(&zones_method("Audit"), parameters, "page", deadline)
    }

    /// Begins to start a zone.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn start(self, zone: &str, deadline: Instant) -> Result<(), CallError> {
        self.0.call(&zones_method("Start"), json!({ "zone": zone }), deadline).map(drop)
    }

    /// Opens a zone with its PIN, and begins to start it.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn open(self, zone: &str, pin: &str, deadline: Instant) -> Result<(), CallError> {
        self.0.call(&zones_method("Open"), json!({ "zone": zone, "pin": pin }), deadline).map(drop)
    }

    /// Opens a zone with the recovery key (its new PIN is empty where it asks for none), and begins to start it.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn recover(self, zone: &str, key: &str, pin: &str, deadline: Instant) -> Result<(), CallError> {
        let parameters = json!({ "zone": zone, "key": key, "pin": pin });
        self.0.call(&zones_method("Recover"), parameters, deadline).map(drop)
    }

    /// Gives a zone another PIN.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn change_pin(self, zone: &str, pin: &str, new: &str, deadline: Instant) -> Result<(), CallError> {
        let parameters = json!({ "zone": zone, "pin": pin, "new": new });
        self.0.call(&zones_method("ChangePin"), parameters, deadline).map(drop)
    }

    /// Begins to lock a zone.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn lock(self, zone: &str, deadline: Instant) -> Result<(), CallError> {
        self.0.call(&zones_method("Lock"), json!({ "zone": zone }), deadline).map(drop)
    }

    /// Locks the display.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn lock_screen(self, deadline: Instant) -> Result<(), CallError> {
        self.0.call(&zones_method("LockScreen"), json!({}), deadline).map(drop)
    }

    /// Lifts the display's lock; its PIN is empty where it asks for none.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn unlock_screen(self, pin: &str, deadline: Instant) -> Result<(), CallError> {
        self.0.call(&zones_method("UnlockScreen"), json!({ "pin": pin }), deadline).map(drop)
    }

    /// Gives the display another PIN.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn change_screen_pin(self, pin: &str, new: &str, deadline: Instant) -> Result<(), CallError> {
        let parameters = json!({ "pin": pin, "new": new });
        self.0.call(&zones_method("ChangeScreenPin"), parameters, deadline).map(drop)
    }

    /// Lifts the display's lock with the recovery key, and gives it a new PIN.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn recover_screen(self, key: &str, pin: &str, deadline: Instant) -> Result<(), CallError> {
        let parameters = json!({ "key": key, "pin": pin });
        self.0.call(&zones_method("RecoverScreen"), parameters, deadline).map(drop)
    }

    /// Makes a recovery key.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn new_recovery_key(self, deadline: Instant) -> Result<String, CallError> {
        self.0.get(&zones_method("NewRecoveryKey"), json!({}), "key", deadline)
    }

    /// Says that the recovery key was noted.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn note_recovery_key(self, key: &str, deadline: Instant) -> Result<(), CallError> {
        self.0.call(&zones_method("NoteRecoveryKey"), json!({ "key": key }), deadline).map(drop)
    }

    /// Begins to stop a zone.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn stop(self, zone: &str, deadline: Instant) -> Result<(), CallError> {
        self.0.call(&zones_method("Stop"), json!({ "zone": zone }), deadline).map(drop)
    }

    /// Ends a zone at once.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn end_now(self, zone: &str, deadline: Instant) -> Result<(), CallError> {
        self.0.call(&zones_method("Kill"), json!({ "zone": zone }), deadline).map(drop)
    }

    /// Begins to stop a zone, which starts when it has ended.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn restart(self, zone: &str, deadline: Instant) -> Result<(), CallError> {
        self.0.call(&zones_method("Restart"), json!({ "zone": zone }), deadline).map(drop)
    }

    /// Begins to hold a zone.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn pause(self, zone: &str, deadline: Instant) -> Result<(), CallError> {
        self.0.call(&zones_method("Pause"), json!({ "zone": zone }), deadline).map(drop)
    }

    /// Begins to let a paused zone go on.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn resume(self, zone: &str, deadline: Instant) -> Result<(), CallError> {
        self.0.call(&zones_method("Resume"), json!({ "zone": zone }), deadline).map(drop)
    }

    /// Runs a check in a zone and waits for its result.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn run_check(
        self,
        zone: &str,
        check: &str,
        arguments: &[&str],
        deadline: Instant,
    ) -> Result<CheckResult, CallError> {
        self.begin_check(zone, check, arguments)?.result(deadline)
    }

    /// Begins a check in a zone, whose result is awaited later.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn begin_check(self, zone: &str, check: &str, arguments: &[&str]) -> Result<RunningCheck, CallError> {
        let parameters = json!({ "zone": zone, "check": check, "arguments": arguments });
        self.0.begin_call(&zones_method("RunCheck"), parameters).map(RunningCheck)
    }

    /// Powers the host off, in order.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn power_off(self, deadline: Instant) -> Result<(), CallError> {
        self.0.call(&zones_method("PowerOff"), json!({}), deadline).map(drop)
    }

    /// Waits until the whole status satisfies `reached`; `wanted` says in words what that is.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn wait_until(
        self,
        wanted: &str,
        deadline: Instant,
        mut reached: impl FnMut(&Status) -> bool,
    ) -> Result<Status, StateError> {
        self.watch(wanted, deadline, |status| Ok(reached(status)))
    }

    /// Waits until a zone is in `phase`; a zone that failed meanwhile is an error at once.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn wait_for_phase(self, zone: &str, phase: Phase, deadline: Instant) -> Result<Zone, StateError> {
        let status = self.watch(&format!("zone {zone} {phase:?}"), deadline, |status| {
            let state = &find(status, zone)?.state;
            if state.phase == Phase::Failed && phase != Phase::Failed {
                let reason = state.reason.clone().unwrap_or_default();
                return Err(StateError::Failed { zone: zone.to_owned(), reason });
            }
            Ok(state.phase == phase)
        })?;
        find(&status, zone).cloned()
    }

    /// Waits until a zone's tunnel is up.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn wait_for_tunnel(self, zone: &str, deadline: Instant) -> Result<Zone, StateError> {
        let status = self.watch(&format!("tunnel of {zone} up"), deadline, |status| {
            Ok(find(status, zone)?.tunnel.as_ref().is_some_and(|tunnel| tunnel.up))
        })?;
        find(&status, zone).cloned()
    }

    fn watch(
        self,
        wanted: &str,
        deadline: Instant,
        mut reached: impl FnMut(&Status) -> Result<bool, StateError>,
    ) -> Result<Status, StateError> {
        let method = zones_method("Monitor");
        let mut last = "no status".to_owned();
        let mut replies: Option<Replies> = None;
        loop {
            let monitor = match replies.take() {
                Some(monitor) => monitor,
                None => self.0.monitor(&method, json!({}))?,
            };
            let mut value = match monitor.next(deadline) {
                Ok(value) => value,
                Err(CallError::Deadline(_)) => {
                    return Err(StateError::Deadline { wanted: wanted.to_owned(), last });
                }
                // zoned is not there yet, or starts again: ask until the deadline.
                Err(CallError::Method { error, .. }) if error == test_method("Disconnected") => {
                    // Its absence has no event on the bridge.
                    std::thread::park_timeout(left(deadline).min(Duration::from_millis(200)));
                    if left(deadline).is_zero() {
                        return Err(StateError::Deadline { wanted: wanted.to_owned(), last });
                    }
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let status = value.get_mut("status").map(Value::take).unwrap_or_default();
            last = status.to_string();
            let status: Status = serde_json::from_value(status)
                .map_err(|source| CallError::Form { method: method.clone(), source })?;
            if reached(&status)? {
                return Ok(status);
            }
            replies = Some(monitor);
        }
    }

    /// Every process of the host.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn processes(self, deadline: Instant) -> Result<Vec<Process>, CallError> {
        self.0.get(&test_method("Processes"), json!({}), "processes", deadline)
    }

    /// What every thread of the host does now.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn threads(self, deadline: Instant) -> Result<Vec<Activity>, CallError> {
        self.0.get(&test_method("Threads"), json!({}), "processes", deadline)
    }

    /// Who has frames of the host's memory.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn frames(self, frames: &[u64], deadline: Instant) -> Result<Vec<Frame>, CallError> {
        self.0.get(&test_method("Frames"), json!({ "frames": frames }), "frames", deadline)
    }

    /// Sends a signal to a process of the host.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn kill(self, pid: i32, signal: i32, deadline: Instant) -> Result<(), CallError> {
        self.0.call(&test_method("Kill"), json!({ "pid": pid, "signal": signal }), deadline).map(drop)
    }

    /// What the host kernel's network stacks hold.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn namespaces(self, deadline: Instant) -> Result<Vec<Namespace>, CallError> {
        self.0.get(&test_method("Network"), json!({}), "namespaces", deadline)
    }

    /// What is mounted on the host, in every mount namespace.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn mounts(self, deadline: Instant) -> Result<Vec<View>, CallError> {
        self.0.get(&test_method("Mounts"), json!({}), "mounts", deadline)
    }

    /// Everything below a folder of the host.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn files(self, path: &str, deadline: Instant) -> Result<Vec<Entry>, CallError> {
        self.0.get(&test_method("Files"), json!({ "path": path }), "files", deadline)
    }

    /// Bytes that are free on the file system of a path of the host.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn space(self, path: &str, deadline: Instant) -> Result<u64, CallError> {
        self.0.get(&test_method("Space"), json!({ "path": path }), "bytes", deadline)
    }

    /// The end of the host's kernel log.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn kernel_log(self, deadline: Instant) -> Result<String, CallError> {
        self.0.get(&test_method("Kmsg"), json!({}), "text", deadline)
    }
}

/// A check that runs in a zone.
#[derive(Debug)]
pub struct RunningCheck(Replies);

impl RunningCheck {
    /// Waits for its result.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn result(self, deadline: Instant) -> Result<CheckResult, CallError> {
        let mut value = self.0.next(deadline)?;
        let result = value.get_mut("result").map(Value::take).unwrap_or_default();
        let method = zones_method("RunCheck");
        serde_json::from_value(result).map_err(|source| CallError::Form { method, source })
    }
}

fn find<'a>(status: &'a Status, zone: &str) -> Result<&'a Zone, StateError> {
    status
        .zones
        .iter()
        .find(|candidate| candidate.name == zone)
        .ok_or_else(|| StateError::NoZone(zone.to_owned()))
}
