//! Calls and replies as bytes: JSON objects that end with a zero byte (Varlink, "Protocol").
//!
//! Calls with a PIN or a recovery key, and the reply with one, are written and read without a copy that is not wiped.
//!
//! [`Frames`] cuts a stream into messages and never holds more than its limit; [`Call`] and [`Reply`] are
//! the messages. Both ends use them; nothing here touches a socket.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::{AuditPage, Cause, CheckResult, INTERFACE, Pin, Status};

mod secrets;

use secrets::{Secrets, parse_call, secrets};

/// The largest call that a server reads.
pub const MAX_CALL: usize = 64 * 1024;

/// The largest reply that a client reads.
pub const MAX_REPLY: usize = 1024 * 1024;

/// What can be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// The state, once.
    Status,
    /// The state, now and whenever it changed.
    Monitor,
    /// Begin to start this zone.
    Start(String),
    /// Open this zone with its PIN, and begin to start it.
    Open {
        /// The zone.
        zone: String,
        /// Its PIN; the first one that is given is its PIN from then on.
        pin: Pin,
    },
    /// Open this zone with the recovery key, and begin to start it.
    Recover {
        /// The zone.
        zone: String,
        /// The recovery key's digits.
        key: Pin,
        /// Its new PIN; empty where it asks for none.
        pin: Pin,
    },
    /// Give this zone another PIN.
    ChangePin {
        /// The zone.
        zone: String,
        /// Its PIN until now.
        pin: Pin,
        /// Its PIN from now on.
        new: Pin,
    },
    /// Begin to lock this zone.
    Lock(String),
    /// Lock the display.
    LockScreen,
    /// Lift the display's lock with this PIN; empty where none is asked for.
    UnlockScreen(Pin),
    /// Give the display another PIN.
    ChangeScreenPin {
        /// Its PIN until now.
        pin: Pin,
        /// Its PIN from now on.
        new: Pin,
    },
    /// Lift the display's lock with the recovery key.
    RecoverScreen {
        /// The recovery key's digits.
        key: Pin,
        /// Its new PIN.
        pin: Pin,
    },
    /// Make a recovery key.
    NewRecoveryKey,
    /// The user has noted it.
    NoteRecoveryKey(Pin),
    /// Begin to stop this zone: its guest is asked, then the machine ends.
    Stop(String),
    /// End this zone at once, without asking its guest.
    Kill(String),
    /// Begin to stop this zone, and start it when it has ended.
    Restart(String),
    /// Begin to hold this zone: its guest does not run until it is resumed.
    Pause(String),
    /// Begin to let a paused zone go on.
    Resume(String),
    /// Run a check in a zone.
    RunCheck {
        /// The zone.
        zone: String,
        /// The check's name.
        check: String,
        /// Its arguments.
        arguments: Vec<String>,
    },
    /// Records of the audit log.
    Audit {
        /// The first record's position.
        position: u64,
        /// The most records.
        limit: u64,
    },
    /// Power the host off.
    PowerOff,
    /// `org.varlink.service.GetInfo`.
    GetInfo,
    /// `org.varlink.service.GetInterfaceDescription` of this interface.
    GetInterfaceDescription(String),
}

/// A call as it crosses the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// What is called.
    pub method: Method,
    /// The caller wants every reply, not only the first.
    pub more: bool,
    /// The caller wants no reply.
    pub oneway: bool,
}

/// An error reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The policy has no such zone.
    #[error("there is no zone {0:?}")]
    UnknownZone(String),
    /// The zone does not run.
    #[error("zone {0:?} does not run")]
    NotRunning(String),
    /// The reason, a sentence.
    #[error("{0}")]
    Refused(String),
    /// What a zone needs was not given out.
    #[error("{reason}")]
    NotOpened {
        /// The zone; empty for the display's lock.
        zone: String,
        /// What stands in the way.
        cause: Cause,
        /// A sentence for the user.
        reason: String,
        /// Wrong PINs until the zone is locked, where it has a PIN and the TPM said so.
        tries_left: Option<u32>,
    },
    /// No interface of this name.
    #[error("there is no interface {0:?}")]
    InterfaceNotFound(String),
    /// No method of this name.
    #[error("there is no method {0:?}")]
    MethodNotFound(String),
    /// A parameter is missing or has the wrong type.
    #[error("parameter {0:?} is missing or wrong")]
    InvalidParameter(String),
    /// An error that this version does not know, by name.
    #[error("error {0:?}")]
    Other(String),
}

/// A reply.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// To `Status` and `Monitor`.
    Status(Status),
    /// To `RunCheck`.
    Check(CheckResult),
    /// To `Audit`.
    Audit(AuditPage),
    /// To `NewRecoveryKey`.
    Key(Pin),
    /// To the calls that return nothing.
    Done,
    /// To `org.varlink.service`: parameters as they are.
    Service(Value),
    /// The call had no effect.
    Error(CallError),
}

/// The bytes are no Varlink message.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// A message without end.
    #[error("message is longer than {0} bytes")]
    TooLong(usize),
    /// Not the JSON that Varlink asks for.
    #[error("message is no Varlink message")]
    Malformed(#[source] serde_json::Error),
}

#[derive(Deserialize)]
struct HeardCall<'a> {
    method: String,
    #[serde(borrow, default)]
    parameters: Option<&'a RawValue>,
    #[serde(default)]
    more: bool,
    #[serde(default)]
    oneway: bool,
}

#[derive(Serialize)]
struct RawCall<'a, P> {
    method: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<P>,
    #[serde(skip_serializing_if = "is_false")]
    more: bool,
    #[serde(skip_serializing_if = "is_false")]
    oneway: bool,
}

/// The parameters of the reply with a secret.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyAlone {
    key: Pin,
}

#[derive(Serialize, Deserialize)]
struct RawReply<P> {
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    parameters: Option<P>,
    #[serde(default, skip_serializing_if = "is_false")]
    continues: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

impl Call {
    /// A call that wants one reply, or all of them for `Monitor`.
    #[must_use]
    pub fn new(method: Method) -> Self {
        Self { more: method == Method::Monitor, method, oneway: false }
    }

    /// The bytes of this call, with their end.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        if let Some((method, secrets)) = secrets(&self.method) {
            return terminated(&RawCall {
                method,
                parameters: Some(secrets),
                more: self.more,
                oneway: self.oneway,
            });
        }
        let (name, parameters) = match &self.method {
            Method::Status => ("org.bulkhead.Zones.Status", None),
            Method::Monitor => ("org.bulkhead.Zones.Monitor", None),
            Method::Start(zone) => ("org.bulkhead.Zones.Start", Some(json!({ "zone": zone }))),
            Method::NewRecoveryKey => ("org.bulkhead.Zones.NewRecoveryKey", None),
            Method::Lock(zone) => ("org.bulkhead.Zones.Lock", Some(json!({ "zone": zone }))),
            Method::LockScreen => ("org.bulkhead.Zones.LockScreen", None),
            Method::Open { .. }
            | Method::Recover { .. }
            | Method::ChangePin { .. }
            | Method::UnlockScreen(_)
            | Method::ChangeScreenPin { .. }
            | Method::RecoverScreen { .. }
            | Method::NoteRecoveryKey(_) => unreachable!("calls with secrets were written above"),
            Method::Stop(zone) => ("org.bulkhead.Zones.Stop", Some(json!({ "zone": zone }))),
            Method::Kill(zone) => ("org.bulkhead.Zones.Kill", Some(json!({ "zone": zone }))),
            Method::Restart(zone) => ("org.bulkhead.Zones.Restart", Some(json!({ "zone": zone }))),
            Method::Pause(zone) => ("org.bulkhead.Zones.Pause", Some(json!({ "zone": zone }))),
            Method::Resume(zone) => ("org.bulkhead.Zones.Resume", Some(json!({ "zone": zone }))),
            Method::RunCheck { zone, check, arguments } => (
                "org.bulkhead.Zones.RunCheck",
                Some(json!({ "zone": zone, "check": check, "arguments": arguments })),
            ),
            Method::Audit { position, limit } => {
                ("org.bulkhead.Zones.Audit", Some(json!({ "position": position, "limit": limit })))
            }
            Method::PowerOff => ("org.bulkhead.Zones.PowerOff", None),
            Method::GetInfo => ("org.varlink.service.GetInfo", None),
            Method::GetInterfaceDescription(interface) => {
                ("org.varlink.service.GetInterfaceDescription", Some(json!({ "interface": interface })))
            }
        };
        terminated(&RawCall { method: name, parameters, more: self.more, oneway: self.oneway })
    }

    /// Reads one message (without its end): a call, or the error that answers it.
    ///
    /// # Errors
    /// [`WireError::Malformed`]: no call at all, drop the connection.
    pub fn decode(message: &[u8]) -> Result<Result<Self, CallError>, WireError> {
        let raw: HeardCall<'_> = serde_json::from_slice(message).map_err(WireError::Malformed)?;
        let method = match parse_call(&raw.method, raw.parameters) {
            Ok(method) => method,
            Err(error) => return Ok(Err(error)),
        };
        Ok(Ok(Self { method, more: raw.more, oneway: raw.oneway }))
    }
}

fn parse_method(name: &str, parameters: Option<&Value>) -> Result<Method, CallError> {
    let (interface, method) =
        name.rsplit_once('.').ok_or_else(|| CallError::MethodNotFound(name.to_owned()))?;
    let text = |key: &str| -> Result<String, CallError> {
        let value = parameters.and_then(|parameters| parameters.get(key)).and_then(Value::as_str);
        value.map(str::to_owned).ok_or_else(|| CallError::InvalidParameter(key.to_owned()))
    };
    let texts = |key: &str| -> Result<Vec<String>, CallError> {
        let wrong = || CallError::InvalidParameter(key.to_owned());
        let list = parameters.and_then(|parameters| parameters.get(key)).and_then(Value::as_array);
        let list = list.ok_or_else(wrong)?.iter();
        list.map(|item| item.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
    };
    let number = |key: &str| -> Result<u64, CallError> {
        let value = parameters.and_then(|parameters| parameters.get(key)).and_then(Value::as_u64);
        value.ok_or_else(|| CallError::InvalidParameter(key.to_owned()))
    };
    match (interface, method) {
        (INTERFACE, "Status") => Ok(Method::Status),
        (INTERFACE, "Monitor") => Ok(Method::Monitor),
        (INTERFACE, "Start") => Ok(Method::Start(text("zone")?)),
        (INTERFACE, "Lock") => Ok(Method::Lock(text("zone")?)),
        (INTERFACE, "LockScreen") => Ok(Method::LockScreen),
        (INTERFACE, "NewRecoveryKey") => Ok(Method::NewRecoveryKey),
        (INTERFACE, "Stop") => Ok(Method::Stop(text("zone")?)),
        (INTERFACE, "Kill") => Ok(Method::Kill(text("zone")?)),
        (INTERFACE, "Restart") => Ok(Method::Restart(text("zone")?)),
        (INTERFACE, "Pause") => Ok(Method::Pause(text("zone")?)),
        (INTERFACE, "Resume") => Ok(Method::Resume(text("zone")?)),
        (INTERFACE, "RunCheck") => Ok(Method::RunCheck {
            zone: text("zone")?,
            check: text("check")?,
            arguments: texts("arguments")?,
        }),
        (INTERFACE, "Audit") => Ok(Method::Audit { position: number("position")?, limit: number("limit")? }),
        (INTERFACE, "PowerOff") => Ok(Method::PowerOff),
        ("org.varlink.service", "GetInfo") => Ok(Method::GetInfo),
        ("org.varlink.service", "GetInterfaceDescription") => {
            Ok(Method::GetInterfaceDescription(text("interface")?))
        }
        (INTERFACE | "org.varlink.service", _) => Err(CallError::MethodNotFound(name.to_owned())),
        _ => Err(CallError::InterfaceNotFound(interface.to_owned())),
    }
}

impl Reply {
    /// The bytes of this reply, with their end; `continues`: another reply to the same call follows.
    #[must_use]
    pub fn encode(&self, continues: Continues) -> Zeroizing<Vec<u8>> {
        if let Self::Key(key) = self {
            let parameters = Secrets { key: Some(key.clone()), ..Secrets::default() };
            let continues = continues == Continues::Yes;
            return terminated(&RawReply { parameters: Some(parameters), continues, error: None });
        }
        let (parameters, error) = match self {
            Self::Status(status) => (Some(json!({ "status": status })), None),
            Self::Check(result) => (Some(json!({ "result": result })), None),
            Self::Audit(page) => (Some(json!({ "page": page })), None),
            Self::Key(_) => unreachable!("a reply with a secret was written above"),
            // Left out, not empty: zlink's clients take nothing else for "returns nothing".
            Self::Done => (None, None),
            Self::Service(parameters) => (Some(parameters.clone()), None),
            Self::Error(error) => {
                let (name, parameters) = error_to_wire(error);
                (Some(parameters), Some(name))
            }
        };
        terminated(&RawReply { parameters, continues: continues == Continues::Yes, error })
    }

    /// Reads one message (without its end). A reply's meaning follows from its parameters, so the caller
    /// need not remember what it asked.
    ///
    /// # Errors
    /// [`WireError::Malformed`].
    pub fn decode(message: &[u8]) -> Result<(Self, Continues), WireError> {
        // A key comes alone, as a text: nothing else that a reply holds is one.
        let secret = serde_json::from_slice::<RawReply<KeyAlone>>(message);
        if let Ok(RawReply { parameters: Some(KeyAlone { key }), continues, error: None }) = secret {
            return Ok((Self::Key(key), if continues { Continues::Yes } else { Continues::No }));
        }
        let raw: RawReply<Value> = serde_json::from_slice(message).map_err(WireError::Malformed)?;
        let continues = if raw.continues { Continues::Yes } else { Continues::No };
        if let Some(name) = raw.error {
            return Ok((Self::Error(error_from_wire(&name, raw.parameters.as_ref())), continues));
        }
        let mut parameters = match raw.parameters {
            Some(Value::Object(parameters)) => parameters,
            Some(_) | None => Map::new(),
        };
        let reply = if let Some(status) = parameters.remove("status") {
            Self::Status(serde_json::from_value(status).map_err(WireError::Malformed)?)
        } else if let Some(result) = parameters.remove("result") {
            Self::Check(serde_json::from_value(result).map_err(WireError::Malformed)?)
        } else if let Some(page) = parameters.remove("page") {
            Self::Audit(serde_json::from_value(page).map_err(WireError::Malformed)?)
        } else if parameters.is_empty() {
            Self::Done
        } else {
            Self::Service(Value::Object(parameters))
        };
        Ok((reply, continues))
    }
}

/// Whether another reply to the same call follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Continues {
    Yes,
    No,
}

fn error_to_wire(error: &CallError) -> (String, Value) {
    match error {
        CallError::UnknownZone(zone) => ("org.bulkhead.Zones.UnknownZone".into(), json!({ "zone": zone })),
        CallError::NotRunning(zone) => ("org.bulkhead.Zones.NotRunning".into(), json!({ "zone": zone })),
        CallError::Refused(reason) => ("org.bulkhead.Zones.Refused".into(), json!({ "reason": reason })),
        CallError::NotOpened { zone, cause, reason, tries_left } => (
            "org.bulkhead.Zones.NotOpened".into(),
            json!({ "zone": zone, "cause": cause, "reason": reason, "tries_left": tries_left }),
        ),
        CallError::InterfaceNotFound(name) => {
            ("org.varlink.service.InterfaceNotFound".into(), json!({ "interface": name }))
        }
        CallError::MethodNotFound(name) => {
            ("org.varlink.service.MethodNotFound".into(), json!({ "method": name }))
        }
        CallError::InvalidParameter(name) => {
            ("org.varlink.service.InvalidParameter".into(), json!({ "parameter": name }))
        }
        CallError::Other(name) => (name.clone(), json!({})),
    }
}

fn error_from_wire(name: &str, parameters: Option<&Value>) -> CallError {
    let text = |key: &str| {
        let value = parameters.and_then(|parameters| parameters.get(key)).and_then(Value::as_str);
        value.unwrap_or_default().to_owned()
    };
    match name {
        "org.bulkhead.Zones.UnknownZone" => CallError::UnknownZone(text("zone")),
        "org.bulkhead.Zones.NotRunning" => CallError::NotRunning(text("zone")),
        "org.bulkhead.Zones.Refused" => CallError::Refused(text("reason")),
        "org.bulkhead.Zones.NotOpened" => CallError::NotOpened {
            zone: text("zone"),
            cause: parameters
                .and_then(|it| Cause::deserialize(it.get("cause")?).ok())
                .unwrap_or(Cause::Other),
            reason: text("reason"),
            tries_left: parameters.and_then(|it| u32::deserialize(it.get("tries_left")?).ok()),
        },
        "org.varlink.service.InterfaceNotFound" => CallError::InterfaceNotFound(text("interface")),
        "org.varlink.service.MethodNotFound" => CallError::MethodNotFound(text("method")),
        "org.varlink.service.InvalidParameter" => CallError::InvalidParameter(text("parameter")),
        other => CallError::Other(other.to_owned()),
    }
}

fn terminated<T: Serialize>(message: &T) -> Zeroizing<Vec<u8>> {
    // Large enough for every message with a secret: growing would leave a copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(1024));
    serde_json::to_writer(&mut *bytes, message).expect("these types have text keys only");
    bytes.push(0);
    bytes
}

/// Cuts a byte stream into messages, and keeps no copy of what it gave out.
#[derive(Debug)]
pub struct Frames {
    buffer: Zeroizing<Vec<u8>>,
    limit: usize,
}

impl Frames {
    /// An empty stream whose messages have at most `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { buffer: Zeroizing::default(), limit }
    }

    /// Adds bytes from the peer. Call [`Frames::next_frame`] until it returns `None` before adding more.
    pub fn push(&mut self, bytes: &[u8]) {
        let length = self.buffer.len() + bytes.len();
        if length > self.buffer.capacity() {
            // By hand: growing in place would leave a copy behind.
            let mut larger = Zeroizing::new(Vec::with_capacity(length.next_power_of_two()));
            larger.extend_from_slice(&self.buffer);
            self.buffer = larger;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether [`Frames::next_frame`] has something to say.
    #[must_use]
    pub fn has_frame(&self) -> bool {
        self.buffer.contains(&0) || self.buffer.len() > self.limit
    }

    /// Takes the next complete message, without its end.
    ///
    /// # Errors
    /// [`WireError::TooLong`]: drop the connection.
    pub fn next_frame(&mut self) -> Result<Option<Zeroizing<Vec<u8>>>, WireError> {
        let end = self.buffer.iter().position(|byte| *byte == 0);
        match end {
            Some(end) if end <= self.limit => {
                let rest = Zeroizing::new(self.buffer.get(end + 1..).unwrap_or_default().to_vec());
                self.buffer.truncate(end);
                Ok(Some(std::mem::replace(&mut self.buffer, rest)))
            }
            None if self.buffer.len() <= self.limit => Ok(None),
            Some(_) | None => Err(WireError::TooLong(self.limit)),
        }
    }
}
